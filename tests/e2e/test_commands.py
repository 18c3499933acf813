"""The commands that ask the present system, against a real OTLP server and without."""

import json
import subprocess
import sys

import pytest

from tests.fixtures.collector import Collector, Protocol, closed_port
from tests.fixtures.programs import clean_environment


def command(
    *args: str, endpoint: str = "", protocol: Protocol = "grpc"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flext_observability", *args],
        env=clean_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_probe(collector: Collector) -> None:
    """One record of each signal arrives, and the command says so."""
    done = command("probe", endpoint=collector.endpoint, protocol=collector.protocol)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "traces",
        "metrics",
        "logs",
    ]
    assert done.stdout.count(": delivered to ") == 3
    assert collector.span("flext.probe")
    assert collector.log("flext.probe")
    assert collector.metric("flext.probe").value == 1


def test_trace(collector: Collector) -> None:
    """The id that is printed is that of the trace that arrived."""
    done = command("trace", endpoint=collector.endpoint, protocol=collector.protocol)
    assert (done.returncode, done.stderr) == (0, "")
    spans = collector.spans()
    assert len(spans) == 3
    assert {span.trace_id for span in spans} == {done.stdout.strip()}


@pytest.mark.parametrize("name", ["probe", "trace"])
def test_no_collector(name: str) -> None:
    """Nobody listening: one line that names it, and a failure."""
    endpoint = f"http://127.0.0.1:{closed_port()}"
    done = command(name, "--seconds", "0.5", endpoint=endpoint)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "connection refused" in line
    if name == "probe":
        assert done.stdout.count("NOT delivered") == 3


def test_a_wrong_setting_is_told() -> None:
    """The message of setup(), in one line."""
    done = command("probe", endpoint="ftp://nowhere")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Invalid configuration: endpoint" in line


def test_figures() -> None:
    """System and application figures as JSON."""
    found = json.loads(command("figures").stdout)
    assert found["system"]["memory_percent"] > 0
    assert found["application"]["monitored_calls"] == 0


def test_health() -> None:
    """Every component, and the whole; success unless it is unhealthy."""
    done = command("health")
    lines = dict(line.split(": ") for line in done.stdout.splitlines())
    assert {"disk", "threads", "overall"} <= set(lines)
    assert done.returncode == int(lines["overall"] == "unhealthy")
