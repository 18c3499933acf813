"""Exporters beside OTLP, and parts of the SDK that the user plugs in."""

import json
import re
import socket
import urllib.request
from collections.abc import Sequence

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    Sampler,
    SamplingResult,
)
from prometheus_client.parser import text_string_to_metric_families

import flext_observability as fo
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import emit_all, flush, start
from tests.fixtures.programs import run_program
from tests.fixtures.web import ask


def test_memory(server: Collector) -> None:
    """The memory exporter keeps what would have been sent, and sends nothing."""
    server.clear()
    handle = fo.setup("shop", exporters=["memory"]).unwrap()
    with fo.flext_span("outer"), fo.flext_span("inner"):
        fo.get_logger("shop").warning("hello")
    fo.flext_counter("hits").add(2)
    flush()
    assert handle.memory is not None
    assert [span.name for span in handle.memory.spans] == ["inner", "outer"]
    assert len(handle.memory.logs) == 1
    assert "hits" in str(handle.memory.metrics)
    assert not server.requests("traces")


def test_console_is_a_tree() -> None:
    """The console shows an indented tree with durations, levels and errors."""
    ended = run_program(
        """
        import time
        import flext_observability as fo

        fo.setup("shop", exporters=["console"]).unwrap()

        @fo.flext_monitor_function("charge")
        def charge():
            time.sleep(0.01)
            raise ValueError("card declined")

        with fo.flext_span("checkout"):
            fo.get_logger("shop").warning("low stock")
            try:
                charge()
            except ValueError:
                pass
        """
    ).ok()
    text = re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout + ended.stderr)
    # Only the tree: the three signals may be printed in any order.
    tree = [line for line in text.splitlines() if "└─" in line]
    (outer,) = [line for line in tree if "checkout" in line]
    (inner,) = [line for line in tree if "charge" in line]
    assert tree.index(outer) < tree.index(inner)
    assert inner.index("charge") > outer.index("checkout")
    for line in (outer, inner):
        assert re.search(r"\d+(\.\d+)? ?(ms|s)\b", line)
    assert "card declined" in inner
    assert "card declined" in text
    assert "ValueError" in text
    assert "low stock" in text
    assert "WARN" in text


def test_prometheus(http_collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics can be scraped over HTTP, beside OTLP; the parser accepts the text."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    start(http_collector, exporters=["otlp", "prometheus"])

    @fo.flext_monitor_function("place order")
    def place() -> None: ...

    place()
    fo.flext_counter("orders").add(3, {"region": 'e"u\\\n'})
    fo.flext_gauge("queue.length").set(2.5)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        text = reply.read().decode()
        assert reply.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, sample.labels.get("region", "")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["orders_total", 'e"u\\\n'].value == 3
    assert samples["queue_length", ""].value == 2.5
    count = samples["flext_operation_duration_count", ""]
    assert count.value == 1
    assert count.labels["flext_operation_name"] == "place order"
    flush()
    assert http_collector.metric("orders").value == 3
    fo.shutdown()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_prometheus_answers_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """As GET does, without the body: load balancers probe like that."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    fo.setup("shop", exporters=["prometheus"]).unwrap()
    whole = ask(port, "/metrics")
    head = ask(port, "/metrics", method="HEAD")
    assert (whole.status, head.status, head.body) == (200, 200, b"")
    assert b"target_info" in whole.body
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert ask(port, "/metrics", method="POST").status == 405


def test_prometheus_port_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken is a failure that names it, not an exception."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
        result = fo.setup("shop", exporters=["prometheus"])
        assert result.is_failure
        assert str(port) in str(result.error)


def test_none_sends_nothing(server: Collector) -> None:
    """With exporter none, everything works and nothing leaves."""
    fo.shutdown()
    server.clear()
    fo.setup("shop", exporters=["none"]).unwrap()
    emit_all("x")
    flush()
    assert not server.requests()


class Collect(SpanProcessor):
    """A span processor of the user."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.closed = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started.append(span.name)
        span.set_attribute("by.processor", True)  # noqa: FBT003

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)

    def shutdown(self) -> None:
        self.closed += 1


class Stamp(LogRecordProcessor):
    """A log record processor of the user."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        attributes = dict(log_record.log_record.attributes or {})
        log_record.log_record.attributes = attributes | {"stamped": True}

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return timeout_millis > 0


class Selective(Sampler):
    """Leaves out spans with "skip" in their name and marks the others."""

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, *more: object
    ) -> SamplingResult:
        if "skip" in name:
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "test"})

    def get_description(self) -> str:
        return "Selective"


def test_span_processor(server: Collector) -> None:
    """A span processor sees every kind of span, may add to it, and is closed."""
    processor = Collect()
    start(server, span_processors=[processor])

    @fo.flext_monitor_function("call")
    def call() -> None: ...

    with fo.flext_span("block"):
        call()
    flush()
    assert processor.started == ["block", "call"]
    assert processor.ended == ["call", "block"]
    assert server.span("block").attributes["by.processor"] is True
    assert server.span("call").attributes["by.processor"] is True
    fo.shutdown()
    assert processor.closed == 1


def test_raising_span_processor(server: Collector) -> None:
    """A processor that raises hurts neither the program nor the export."""

    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            raise RuntimeError

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError

        def shutdown(self) -> None:
            raise RuntimeError

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            raise RuntimeError

    start(server, span_processors=[Broken()])

    @fo.flext_monitor_function("call")
    def call() -> int:
        return 3

    assert call() == 3
    with fo.flext_span("block"):
        pass
    fo.flush()
    server.wait_for(lambda: server.spans("call") and server.spans("block"))
    fo.shutdown()


def test_log_record_processor(server: Collector) -> None:
    """A log record processor may change records before they leave."""
    start(server, log_record_processors=[Stamp()])
    fo.get_logger("x").warning("hello")
    flush()
    assert server.log("hello").attributes["stamped"] is True


def test_metric_reader(server: Collector) -> None:
    """A reader beside ours sees every metric, monitored calls included."""
    reader = InMemoryMetricReader()
    start(server, metric_readers=[reader])

    @fo.flext_monitor_function("call")
    def call() -> None: ...

    call()
    fo.flext_counter("hits").add(2)
    data = reader.get_metrics_data()
    assert data is not None
    found = json.loads(data.to_json())
    names = {
        metric["name"]
        for resource in found["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert {"hits", "flext.operation.duration"} <= names
    flush()
    assert server.metric("hits").value == 2


@pytest.mark.parametrize("name", ["hits", "flext.operation.duration"])
def test_views(server: Collector, name: str) -> None:
    """Views rename and drop instruments, ours included."""
    views: Sequence[View] = [
        View(instrument_name=name, name="renamed"),
        View(instrument_name="noise", aggregation=DropAggregation()),
    ]
    start(server, views=views)

    @fo.flext_monitor_function("call")
    def call() -> None: ...

    call()
    fo.flext_counter("hits").add(2)
    fo.flext_counter("noise").add(2)
    flush()
    assert server.metrics("renamed")
    assert not server.metrics(name)
    assert not server.metrics("noise")


def test_sampler(server: Collector) -> None:
    """A sampler of the user decides, and its attributes are on the span."""
    start(server, sampler=Selective())

    @fo.flext_monitor_function("skip me")
    def skipped() -> None: ...

    @fo.flext_monitor_function("keep me")
    def kept() -> None: ...

    skipped()
    kept()
    flush()
    (span,) = server.spans()
    assert span.name == "keep me"
    assert span.attributes["sampled.by"] == "test"


def test_sampler_off_counts_all_the_same(server: Collector) -> None:
    """What the sampler leaves out is still counted in the durations."""
    start(server, sampler=ALWAYS_OFF)

    @fo.flext_monitor_function("call")
    def call() -> None: ...

    for _ in range(5):
        call()
    flush()
    assert not server.spans()
    assert server.metric("flext.operation.duration").count == 5
    assert fo.status().signals["traces"].accepted == 0
