"""The smoke part: does the package, as installed, deliver?

Also run against the built wheel in an environment that holds nothing but its own
dependencies and pytest, so this file stands alone: no fixtures of the suite, and the
OTLP server is a few lines of the standard library.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

import flext_observability as fo


class OtlpServer(HTTPServer):
    """Keeps the body of every request by its path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keep)
        self.bodies: dict[str, list[bytes]] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Keep(BaseHTTPRequestHandler):
    """Answers every export with an empty success."""

    server: OtlpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.setdefault(self.path, []).append(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with OtlpServer() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@fo.flext_monitor_function("smoke.work")
def work(number: int) -> int:
    fo.get_logger("smoke").warning("at work", number=number)
    fo.flext_counter("smoke.calls").add(1)
    return number + 1


def test_all_three_signals_arrive(server: OtlpServer) -> None:
    """One setup, one call: its span, its metrics and its log reach the server."""
    fo.setup(
        "smoke",
        endpoint=server.endpoint,
        protocol="http/protobuf",
        compression="none",
    ).unwrap()
    assert work(1) == 2
    fo.flush(20.0).unwrap()
    fo.shutdown(20.0).unwrap()

    spans = [
        span
        for body in server.bodies["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    metrics = {
        metric.name
        for body in server.bodies["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    logs = [
        log
        for body in server.bodies["/v1/logs"]
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for log in scope.log_records
    ]
    (span,) = spans
    assert span.name == "smoke.work"
    assert {"flext.operation.duration", "smoke.calls"} <= metrics
    assert "at work" in {log.body.string_value for log in logs}
    assert {log.trace_id for log in logs if log.trace_id} == {span.trace_id}


def test_bad_configuration_is_a_failure() -> None:
    """A wrong value is a result to look at, never an exception."""
    result = fo.setup("smoke", sample_ratio=1.7)
    assert result.is_failure
    assert "sample_ratio" in str(result.error)


def test_version_is_known() -> None:
    """The metadata of the distribution is installed beside the code."""
    assert fo.__version__[0].isdigit()


def test_demo_runs_to_its_end() -> None:
    """`flext-observability demo` brings its example with it and delivers all of it."""
    done = subprocess.run(
        [sys.executable, "-m", "flext_observability", "demo"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "delivered" in done.stdout
