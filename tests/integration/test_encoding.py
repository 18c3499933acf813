"""What leaves the process is what the stock exporters would have sent."""

import logging
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start

REMOTE = SpanContext(
    5,
    6,
    is_remote=True,
    trace_flags=TraceFlags(1),
    trace_state=TraceState([("a", "b")]),
)
VALUES: dict[str, Any] = {
    "text": "é漢😀",
    "empty": "",
    "number": -(2**63),
    "ratio": -0.0,
    "flag": False,
    "raw": b"\xff\x00",
    "list": [1, "two", 3.0, None],
    "map": {"k": {"deep": [True]}},
}


def test_spans(collector: Collector) -> None:
    """Own spans, plain spans, links, events, failures: the stock encoder's request."""
    memory = InMemorySpanExporter()
    handle = start(collector, span_processors=[SimpleSpanProcessor(memory)])
    plain = handle.tracer.start_as_current_span

    def fail() -> None:
        links = [Link(REMOTE, VALUES)]
        with plain("plain", kind=SpanKind.CLIENT, links=links) as span:
            span.add_event("tick", VALUES)
            raise KeyError("boom")

    with fo.flext_span("ours", VALUES), pytest.raises(KeyError):
        fail()
    fo.flext_monitor_function("call")(lambda: None)()
    flush()
    (request,) = collector.requests("traces")
    assert request.message == encode_spans(memory.get_finished_spans())


def test_log_records(collector: Collector) -> None:
    """Lines of the standard library inside and outside of spans."""
    exporter: Any = InMemoryLogRecordExporter
    memory = exporter()
    start(collector, log_record_processors=[SimpleLogRecordProcessor(memory)])
    logger = logging.getLogger("shop")
    logger.warning("outside")
    with fo.flext_span("op"):
        logger.error("%s inside", "é", extra={"order": 7})
    logger.error("failed", exc_info=ValueError("boom"))
    flush()
    (request,) = collector.requests("logs")
    assert request.message == encode_logs(memory.get_finished_logs())
