"""The stack's files before the real Prometheus, Alertmanager and their tools.

Two services run: one whose collector is there, with traffic of every kind, and one
whose collector is away. Prometheus finds both through service discovery, with the
shipped configuration and rules. Every expression of every panel and rule must then give
data.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures import operators
from tests.fixtures.collector import Answer, Collector, closed_port
from tests.fixtures.operators import Prometheus, alerts_of, get, wait_for
from tests.fixtures.programs import clean_environment
from tests.fixtures.stack_files import (
    DASHBOARDS,
    ROOT,
    RULES,
    Asked,
    filled_in,
    panels,
    rules,
)

# How long after the start every expression must give data.
PATIENCE_S = 90.0

TRAFFIC = """
    import logging, threading, time
    import flext_observability as fo

    fo.setup("shop", exporters=["otlp", "prometheus"], metrics_export_interval_s=1)
    alerts = fo.FlextAlertService()
    health = fo.FlextHealthService()
    served = fo.flext_histogram("http.server.request.duration", unit="s")
    rows = fo.flext_counter("shop.rows")

    @fo.flext_monitor_function("charge")
    def charge(amount):
        return 100 / amount

    @fo.flext_monitor_function("report")
    def report():
        time.sleep(1.1)

    def reports():
        while True:
            report()

    threading.Thread(target=reports, daemon=True).start()
    while True:
        for amount in (1, 2, 0):
            try:
                charge(amount)
            except ZeroDivisionError:
                pass
        for status in (200, 500):
            served.record(
                0.02,
                {
                    "http.request.method": "GET",
                    "http.route": "/orders",
                    "http.response.status_code": status,
                },
            )
        health.execute_health_check(fo.FlextHealthCheck(name="db", status="degraded"))
        fo.flext_create_alert("queue_full", "warning", "it is")
        rows.add(-1)  # refused, and counted as dropped
        logging.getLogger("shop").warning("one more")
        time.sleep(0.1)
    """
STUCK = """
    import time
    import flext_observability as fo

    fo.setup("stuck", exporters=["otlp", "prometheus"], spool_limit_bytes=1 << 20)
    while True:
        for _ in range(100):
            with fo.flext_span("work", {"text": "x" * 1000}):
                pass
        time.sleep(0.05)
    """


@dataclass
class Stack:
    """What runs."""

    prometheus: Prometheus
    alertmanager: str
    targets: Path
    started_s: float
    answers: dict[str, list[dict[str, Any]]] = field(
        default_factory=dict[str, list[dict[str, Any]]]
    )

    def ask(self, asked: Asked) -> list[dict[str, Any]]:
        """Ask until there is data; keep the answer for the report."""
        expression = filled_in(asked.expression)
        left_s = max(10.0, self.started_s + PATIENCE_S - time.monotonic())
        found: list[dict[str, Any]] = wait_for(
            lambda: figures(self.prometheus.query(expression)),
            left_s,
            f"no data for {expression}",
        )
        self.answers[asked.id] = found
        return found


def figures(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The series that have a value; a ratio of nothing to nothing has none."""
    return [series for series in result if series["value"][1] != "NaN"]


@contextlib.contextmanager
def running(source: str, **variables: str) -> Iterator[None]:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=clean_environment(OTEL_EXPORTER_PROMETHEUS_PORT="0", **variables),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert child.poll() is None, "the example ended by itself"
    finally:
        child.kill()
        child.wait(10)


def configured(folder: Path, alertmanager: str) -> Path:
    """The shipped configuration, scraping every second, with this Alertmanager."""
    mine = shutil.ignore_patterns("*.json")  # of a stack that runs
    shutil.copytree(ROOT / "prometheus", folder / "prometheus", ignore=mine)
    path = folder / "prometheus/prometheus.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (address,) = config["alerting"]["alertmanagers"]
    address["static_configs"] = [{"targets": [alertmanager.removeprefix("http://")]}]
    for job in config["scrape_configs"]:
        for discovery in job.get("file_sd_configs", ()):
            discovery["refresh_interval"] = "1s"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def init(folder: Path, *options: str) -> Path:
    """What `flext-observability init` writes, as it is; the path of the config."""
    subprocess.run(
        [sys.executable, "-m", "flext_observability", "init", *options],
        cwd=folder,
        env=clean_environment(SCRAPE_INTERVAL="1"),
        timeout=60,
        check=True,
    )
    return folder / "prometheus/prometheus.yml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, once for all tests here."""
    folder = tmp_path_factory.mktemp("stack")
    with contextlib.ExitStack() as parts:
        alertmanager = parts.enter_context(
            operators.alertmanager(folder, ROOT / "alertmanager/alertmanager.yml")
        )
        config = configured(folder, alertmanager)
        collector = parts.enter_context(Collector("http/protobuf"))
        collector.answer_with(
            lambda signal, _: Answer(rejected=1) if signal == "logs" else None
        )
        targets = folder / "prometheus/targets"
        shared = {
            "FLEXT_OBSERVABILITY_SERVICE_DISCOVERY_DIR": str(targets),
            "FLEXT_OBSERVABILITY_SPOOL_DIR": str(folder / "spool"),
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        shop = {**shared, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        away = {
            **shared,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
        }
        parts.enter_context(running(TRAFFIC, **shop))
        parts.enter_context(running(STUCK, **away))
        prometheus = parts.enter_context(operators.prometheus(folder, config))
        made = Stack(prometheus, alertmanager, targets, time.monotonic())
        yield made
    if os.environ.get("FLEXT_WRITE_MONITORING"):
        write_report(made)


@pytest.mark.parametrize("asked", [*panels()], ids=lambda asked: asked.id)
def test_every_panel_shows_data(stack: Stack, asked: Asked) -> None:
    """The expression is taken, and gives figures after the example traffic."""
    stack.ask(asked)


@pytest.mark.parametrize("asked", [*rules()], ids=lambda asked: asked.id)
def test_every_rule_fires(stack: Stack, asked: Asked) -> None:
    """The condition of an alert holds in trouble; a recording has a value."""
    stack.ask(asked)


def test_prometheus_finds_both_services(stack: Stack) -> None:
    """Service discovery gives a target each, under the name of its service."""
    wait_for(
        lambda: (
            {("shop", "up"), ("stuck", "up")}
            <= {(t["labels"]["job"], t["health"]) for t in stack.prometheus.targets()}
        ),
        PATIENCE_S,
    )


def test_prometheus_has_loaded_all_rules(stack: Stack) -> None:
    """No rule file is left out, and no rule fails."""
    answer = json.loads(get(f"{stack.prometheus.address}/api/v1/rules"))
    found = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in found} == {asked.title for asked in rules()}
    assert all(rule["health"] != "err" for rule in found)


def test_a_rule_reaches_alertmanager(stack: Stack) -> None:
    """Telemetry that was lost is told by Prometheus to Alertmanager."""
    wait_for(
        lambda: alerts_of(stack.alertmanager, alertname="FlextTelemetryLost"),
        PATIENCE_S,
    )


def test_pages_pass_promtool(stack: Stack) -> None:
    """`promtool check metrics` parses both pages and finds nothing to correct.

    It asks for base units in names, which OpenTelemetry keeps in a field of its own.
    """
    wait_for(lambda: len(list(stack.targets.glob("*.json"))) == 2, PATIENCE_S)
    for path in stack.targets.glob("*.json"):
        (entry,) = json.loads(path.read_text())
        page = get(f"http://{entry['targets'][0]}/metrics").decode()
        done = subprocess.run(
            [operators.program("promtool"), "check", "metrics"],
            input=page,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode in {0, 3}, done.stderr
        remarks = [line for line in done.stderr.splitlines() if "no help" not in line]
        assert not remarks


def test_promtool_accepts_the_configuration() -> None:
    """`promtool check config` takes it as it was cloned, with the rules it names."""
    path = ROOT / "prometheus/prometheus.yml"
    said = operators.run("promtool", "check", "config", path)
    assert f"{len(RULES)} rule files found" in said


@pytest.mark.parametrize("options", [(), ("--stack",)], ids=["own", "stack"])
def test_promtool_accepts_what_init_writes(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """In an empty folder, with nothing added."""
    said = operators.run("promtool", "check", "config", init(tmp_path, *options))
    assert f"{len(RULES)} rule files found" in said


def test_init_in_a_project_raises_no_alert(tmp_path: Path) -> None:
    """A real Prometheus on it finds a process and a collector, and nothing is down."""
    path = init(tmp_path)
    targets = tmp_path / "prometheus/targets"
    with contextlib.ExitStack() as parts:
        prometheus = parts.enter_context(operators.prometheus(tmp_path, path))
        here = prometheus.address.removeprefix("http://")
        # It listens on a free port, not on the usual one.
        path.write_text(path.read_text().replace("localhost:9090", here))
        operators.post(f"{prometheus.address}/-/reload")
        parts.enter_context(
            running(
                "import time, flext_observability as fo\n"
                "fo.setup('shop', exporters=['prometheus']).unwrap()\n"
                "time.sleep(60)",
                FLEXT_OBSERVABILITY_SERVICE_DISCOVERY_DIR=str(targets),
            )
        )
        collectors = tmp_path / "prometheus/collectors"
        collectors.mkdir()  # any page will do
        (collectors / "mine.json").write_text(json.dumps([{"targets": [here]}]))
        wait_for(
            lambda: (
                sorted((t["labels"]["job"], t["health"]) for t in prometheus.targets())
                == [("otel-collector", "up"), ("prometheus", "up"), ("shop", "up")]
            ),
            PATIENCE_S,
            "not all are up",
        )
        wait_for(lambda: not prometheus.query("ALERTS"), 10.0, "an alert")


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` counts every rule."""
    said = operators.run("promtool", "check", "rules", *RULES)
    counts = [int(word) for word in said.split() if word.isdigit()]
    assert sum(counts) == len([*rules()])


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "prometheus/rules/tests").glob("*.yml")),
    ids=lambda p: p.stem,
)
def test_rules_pass_their_unit_tests(path: Path) -> None:
    """`promtool test rules`: when each alert fires, and when it does not."""
    assert "SUCCESS" in operators.run("promtool", "test", "rules", path)


def test_amtool_accepts_the_configuration() -> None:
    """`amtool check-config` takes it."""
    said = operators.run(
        "amtool", "check-config", ROOT / "alertmanager/alertmanager.yml"
    )
    assert "SUCCESS" in said


def test_what_comes_through_the_collector_has_the_same_names(tmp_path: Path) -> None:
    """Units that the collector appends to names are taken off by the configuration."""
    page = textwrap.dedent(
        """
        # TYPE flext_operation_duration_seconds histogram
        flext_operation_duration_seconds_bucket{job="via",instance="1",le="+Inf"} 3
        flext_operation_duration_seconds_count{job="via",instance="1"} 3
        flext_operation_duration_seconds_sum{job="via",instance="1"} 0.5
        flext_health_status_ratio{job="via",instance="1",component="db"} 1
        flext_telemetry_spool_usage_bytes{job="via",instance="1"} 5
        flext_telemetry_records_total{job="via",instance="1"} 7
        """
    )
    from tests.fixtures.web_service import Reply, WebService

    with WebService() as collector:
        plain = {"Content-Type": "text/plain; version=0.0.4"}
        collector.usual = Reply(headers=plain, body=page.encode())
        path = configured(tmp_path, "http://127.0.0.1:9093")
        config = yaml.safe_load(path.read_text())
        (job,) = [
            job
            for job in config["scrape_configs"]
            if job["job_name"] == "otel-collector"
        ]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{collector.port}"]}]
        config["scrape_configs"] = [job]
        path.write_text(yaml.safe_dump(config))
        with operators.prometheus(tmp_path, path) as prometheus:
            found = wait_for(lambda: prometheus.query('{job="via"}'), 15.0)
    assert {series["metric"]["__name__"] for series in found} == {
        "flext_operation_duration_bucket",
        "flext_operation_duration_count",
        "flext_operation_duration_sum",
        "flext_health_status",
        "flext_telemetry_spool_usage",
        "flext_telemetry_records_total",
    }


# -- the report


def write_report(stack: Stack) -> None:
    """Put what each expression gave into docs/monitoring.md."""
    path = ROOT / "docs/monitoring.md"
    head, _, _ = path.read_text(encoding="utf-8").partition("<!-- figures -->")
    lines = [head.rstrip(), "", "<!-- figures -->", ""]
    day = time.strftime("%Y-%m-%d")
    lines += [f"Measured on {day} by `make monitoring-report`.", ""]
    for title, paths, asked in (
        ("Panels", DASHBOARDS, [*panels()]),
        ("Rules", RULES, [*rules()]),
    ):
        for each in paths:
            lines += [f"### {title}: {each.stem}", "", *table(stack, each, asked), ""]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def table(stack: Stack, path: Path, asked: list[Asked]) -> Iterator[str]:
    yield "| Name | Query | Series | First value |"
    yield "| --- | --- | --- | --- |"
    for each in asked:
        if each.place == path.stem:
            found = stack.answers.get(each.id, [])
            first = f"{float(found[0]['value'][1]):.4g}" if found else "none"
            query = each.expression.replace("|", "\\|")
            yield f"| {each.title} | `{query}` | {len(found)} | {first} |"
