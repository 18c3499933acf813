"""The operations server before the real Prometheus: token, merged workers, requests."""

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import yaml

from tests.fixtures import operators
from tests.fixtures.programs import clean_environment
from tests.fixtures.web import ask, free_port

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - no secret of anybody

# A web application whose requests are measured; its metrics go to the directory alone.
WORKER = """
    import sys
    from wsgiref.simple_server import make_server
    import flext_observability as fo

    fo.setup("shop", exporters=["none"], server_metrics_dir=sys.argv[2]).unwrap()

    def shop(environ, start_response):
        start_response("200 OK", [])
        return [b"hello"]

    application = fo.FlextWSGIMiddleware(shop)
    make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
    """
SUM = "sum(http_server_request_duration_count)"


def answers(port: int) -> bool:
    """Whether an application is there; the request counts."""
    return ask(port, "/").status == 200


def test_prometheus_scrapes_two_workers_through_one_server(tmp_path: Path) -> None:
    """One target with a bearer token, up, whose counts are those of both workers."""
    directory, port = tmp_path / "metrics", free_port()
    ports = [free_port(), free_port()]
    commands = [
        ["-c", textwrap.dedent(WORKER), str(worker), str(directory)] for worker in ports
    ]
    commands.append(["-m", "flext_observability.server", "--port", str(port)])
    environment = clean_environment(
        FLEXT_OBSERVABILITY_SERVER_TOKEN=TOKEN,
        FLEXT_OBSERVABILITY_SERVER_METRICS_DIR=str(directory),
    )
    config = tmp_path / "prometheus.yml"
    job = {
        "job_name": "shop",
        "scrape_interval": "1s",
        "authorization": {"credentials": TOKEN},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}), "utf-8")
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        for worker in ports:
            operators.wait_for(partial(answers, worker), 40)
            for _ in range(9):
                ask(worker, "/")
        with operators.prometheus(tmp_path, config) as prometheus:
            operators.wait_for(
                lambda: [v["value"][1] for v in prometheus.query(SUM)] == ["20"], 40
            )
            (up,) = prometheus.query("up")
            assert up["value"][1] == "1"
            (info,) = prometheus.query("target_info")
            assert info["metric"]["job"] == "shop"
            joined = f"{SUM} * on() group_left(os_type) target_info"
            assert prometheus.query(joined)
    finally:
        for process in processes:
            process.kill()
            process.wait()
