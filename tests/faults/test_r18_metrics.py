"""R18: several workers behind one port are one target for Prometheus.

Needs the dependency group `servers`; `make test-servers` installs it.
"""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.test_r18_servers import ROOT, Server, needs, serving
from tests.fixtures.library import wait_until
from tests.fixtures.web import ask

pytestmark = [needs("gunicorn"), pytest.mark.timeout(180)]
READY = r"Listening at: http://127\.0\.0\.1:(\d+)"


@contextlib.contextmanager
def gunicorn(tmp_path: Path, *options: str) -> Iterator[Server]:
    """Four workers that join their metrics."""
    settings = {
        "exporters": ["none"],
        "server_metrics_dir": str(tmp_path / "metrics"),
    }
    command = [
        *("gunicorn", "--bind", "127.0.0.1:0", "--workers", "4"),
        *("--graceful-timeout", "5", *options),
        "tests.faults.servers.metrics:application",
    ]
    with serving(command, tmp_path, READY, SERVER_SETUP=json.dumps(settings)) as server:
        server.wait_said("Booting worker", 4)
        yield server


def hit(server: Server, count: int) -> Counter[int]:
    """Send requests until all are answered; give how many each worker served."""
    return Counter(int(ask(server.port, "/hit").body) for _ in range(count))


def page(server: Server) -> dict[str, float]:
    """The metrics page, by the series as it is written."""
    reply = ask(server.port, "/metrics")
    assert reply.status == 200, reply.text
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


COUNTED = {
    'hits_total{"kind": "plain"}': 1,
    "sizes_count{}": 1,
    "sizes_sum{}": 40,
    'orders_total{"region": "eu"}': 2,
    'flext_operation_duration_count{"flext_operation_name": "work"}': 1,
}


def assert_counted(server: Server, requests: int, within_s: float = 30.0) -> None:
    """Whoever answers, the page soon shows every request once, and never falls."""
    deadline = time.monotonic() + within_s
    last: dict[str, float] = {}
    while True:
        found = page(server)
        assert all(found.get(name, 0) >= last.get(name, 0) for name in COUNTED)
        last = found
        shown = {name: found.get(name, 0) / per for name, per in COUNTED.items()}
        if set(shown.values()) == {requests}:
            return
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


@pytest.mark.parametrize(
    "options",
    [(), ("--preload",), ("--worker-class", "gthread", "--threads", "4")],
    ids=["sync", "preload", "gthread"],
)
def test_counters_add_up_over_workers(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Counters, histograms, operations and recorded metrics are sums of all workers."""
    with gunicorn(tmp_path, *options) as server:
        served = hit(server, 200)
        deadline = time.monotonic() + 20
        while len(served) < 2:  # the others are still loading
            assert time.monotonic() < deadline
            served += hit(server, 20)
        assert_counted(server, served.total())
        name = 'http_server_request_duration_count{"http_request_method": "GET"'
        found = page(server)
        durations = [v for k, v in found.items() if k.startswith(name)]
        assert sum(durations) == served.total()


@needs("uvicorn")
def test_counters_add_up_over_workers_of_uvicorn(tmp_path: Path) -> None:
    """The same, for processes that are spawned instead of forked."""
    settings = {"exporters": ["none"], "server_metrics_dir": str(tmp_path / "metrics")}
    command = [
        *("uvicorn", "--port", "0", "--workers", "2", "--app-dir", str(ROOT)),
        "tests.faults.servers.metrics:asgi_application",
    ]
    with serving(
        command,
        tmp_path,
        r"Uvicorn running on http://127\.0\.0\.1:(\d+)",
        SERVER_SETUP=json.dumps(settings),
    ) as server:
        server.wait_said("Application startup complete", 2)
        hit(server, 100)
        assert_counted(server, 100)


def test_restarts_keep_counters_and_forget_gauges(tmp_path: Path) -> None:
    """Counters of workers that ended stay in the sums, their gauges go with them."""
    with gunicorn(tmp_path) as server:
        hit(server, 100)
        for value in range(40):
            ask(server.port, f"/level?value={value}")
        assert_counted(server, 100)
        deadline = time.monotonic() + 30
        while not (pids := gauge_pids(server)):
            assert time.monotonic() < deadline
        server.signal(signal.SIGHUP)  # new workers; the old ones end gracefully
        server.wait_said("Booting worker", 8)
        server.wait_said("Worker exiting", 4)
        hit(server, 50)
        assert_counted(server, 150)
        # They say so before they have ended.
        wait_until(lambda: not gauge_pids(server) & pids)
        wait_until(lambda: len(list((tmp_path / "metrics").glob("*.lock"))) == 4)


def gauge_pids(server: Server) -> set[str]:
    """The processes whose gauge is shown."""
    return {
        json.loads(series.removeprefix("level"))["pid"]
        for series in page(server)
        if series.startswith("level{")
    }


def test_recycled_workers_lose_no_count(tmp_path: Path) -> None:
    """Workers that end after a few requests each leave their counts behind."""
    with gunicorn(tmp_path, "--max-requests", "15") as server:
        for done in range(1, 91):
            ask(server.port, "/hit")
            if done % 45 == 0:
                assert_counted(server, done)


def test_killed_worker_keeps_what_was_written(tmp_path: Path) -> None:
    """After SIGKILL the counts of a worker are those of its last second at least."""
    with gunicorn(tmp_path) as server:
        served = hit(server, 100)
        assert_counted(server, 100)  # by then every worker has written its page
        os.kill(next(iter(served)), signal.SIGKILL)
        server.wait_said("Booting worker", 5)
        hit(server, 20)
        assert_counted(server, 120)
