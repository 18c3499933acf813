"""Through a real collector we did not write: what comes out equals what went in."""

import contextlib
import importlib.util
import logging
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flext_observability as fo
from tests.fixtures.collector import (
    PROTOCOLS,
    Collector,
    Point,
    Protocol,
    Store,
    closed_port,
)
from tests.fixtures.library import assert_balanced, flush
from tests.fixtures.programs import clean_environment


def agent() -> Path:
    """The agent's program, or a skip with the reason."""
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        pytest.skip("the package rotel is not installed")
    path = Path(spec.origin).parent / "rotel-agent"
    if not path.exists():
        pytest.skip("the package rotel has no rotel-agent for this system")
    return path


def agent_environment() -> dict[str, str]:
    """The agent links libpython, which often lies outside the loader's path."""
    folders = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    return clean_environment(LD_LIBRARY_PATH=":".join(filter(None, folders)))


@contextlib.contextmanager
def running_agent(collector: Collector, folder: Path) -> Iterator[dict[Protocol, str]]:
    """Run the agent, forwarding to the collector; give its endpoints."""
    program, environment = agent(), agent_environment()
    probe = subprocess.run(
        [program, "--version"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"rotel-agent cannot run here: {probe.stderr.strip()}")
    ports: dict[Protocol, int] = {name: closed_port() for name in PROTOCOLS}
    with (folder / "rotel.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                "start",
                f"--otlp-grpc-endpoint=127.0.0.1:{ports['grpc']}",
                f"--otlp-http-endpoint=127.0.0.1:{ports['http/protobuf']}",
                "--exporter=otlp",
                f"--otlp-exporter-endpoint={collector.endpoint}",
                f"--otlp-exporter-protocol={collector.protocol.partition('/')[0]}",
                "--batch-timeout=20ms",
                f"--pid-file={folder / 'rotel.pid'}",
                f"--log-file={folder / 'rotel-agent.log'}",
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for port in ports.values():
            wait_for_port(port, process)
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the agent listens."""
    deadline = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        time.sleep(0.05)
    pytest.fail(f"rotel-agent does not listen on {port}; exit code {process.poll()}")


@pytest.fixture
def through_agent(
    collector: Collector, tmp_path: Path
) -> Iterator[dict[Protocol, str]]:
    """The agent between the library and our collector."""
    with running_agent(collector, tmp_path) as endpoints:
        yield endpoints


def stable_points(store: Store) -> list[Point]:
    """All data points but those about the pipe, which move with every collection."""
    own = "flext.telemetry."
    points = (p for p in store.metrics() if not p.name.startswith(own))
    return sorted(points, key=repr)


@pytest.mark.parametrize("spoken", PROTOCOLS, ids=["from grpc", "from http"])
def test_what_comes_out_is_what_went_in(
    collector: Collector, through_agent: dict[Protocol, str], spoken: Protocol
) -> None:
    """All three signals pass a real collector unchanged, over either protocol."""
    spans = InMemorySpanExporter()
    logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    reader = InMemoryMetricReader()
    fo.setup(
        "orders",
        endpoint=through_agent[spoken],
        protocol=spoken,
        compression="gzip",
        environment="test",
        resource_attributes={"team": "checkout"},
        span_processors=[SimpleSpanProcessor(spans)],
        log_record_processors=[SimpleLogRecordProcessor(logs)],
        metric_readers=[reader],
    ).unwrap()

    @fo.flext_monitor_function("charge", attributes={"n": 1, "list": [1.5, 2.5]})
    def charge(amount: int) -> int:
        logging.getLogger("orders").warning(
            "charging %d", amount, extra={"amount": amount, "nested": {"a": [1, True]}}
        )
        if amount > 8:
            raise ValueError("too much — ✓")
        return amount

    with fo.flext_correlation_scope("req-1"), fo.flext_span("order") as span:
        span.add_event("packed", {"parcels": 2})
        for amount in range(10):
            with contextlib.suppress(ValueError):
                charge(amount)
    fo.flext_counter("orders", unit="1", description="Taken.").add(3, {"region": "eu"})
    fo.flext_gauge("queue").set(1.5)
    flush()

    sent = Store()
    sent.take(
        "traces", "", encode_spans(spans.get_finished_spans()).SerializeToString(), {}
    )
    sent.take("logs", "", encode_logs(logs.get_finished_logs()).SerializeToString(), {})
    data = reader.get_metrics_data()
    assert data is not None
    sent.take("metrics", "", encode_metrics(data).SerializeToString(), {})
    assert len(sent.spans()) == 11
    assert len(sent.logs()) == 11, "ten lines and one failure"

    collector.wait_for(
        lambda: (
            len(collector.spans()) >= 11
            and len(collector.logs()) >= 11
            and len(stable_points(collector)) >= len(stable_points(sent))
        )
    )
    assert sorted(collector.spans(), key=lambda s: s.span_id) == sorted(
        sent.spans(), key=lambda s: s.span_id
    )
    assert sorted(collector.logs(), key=lambda log: log.time_ns) == sorted(
        sent.logs(), key=lambda log: log.time_ns
    )
    assert stable_points(collector) == stable_points(sent)
    assert_balanced()
    assert fo.status().signals["traces"].delivered == 11
