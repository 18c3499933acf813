"""What spans keep to whatever happens around them: exchanges, limits, failures."""

import gc
import tracemalloc

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start


def test_a_span_open_over_many_setups(http_collector: Collector) -> None:
    """Wherever a span began, it ends in the pipeline of the moment."""
    start(http_collector, resource_attributes={"round": "0"})
    tracer = trace.get_tracer("lib")
    with fo.flext_span("block"):
        plain = tracer.start_span("plain")
        for number in range(1, 4):
            start(http_collector, resource_attributes={"round": str(number)})
    plain.end()
    flush()
    assert [span.name for span in http_collector.spans()] == ["block", "plain"]
    ledger = fo.status().signals["traces"]
    assert ledger.accepted == ledger.delivered == 2


class Names(SpanProcessor):
    """Keeps the names of what began and ended, and what was current then."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.above: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.began.append(span.name)
        current = trace.get_current_span(parent_context)
        self.above.append(current.name if isinstance(current, ReadableSpan) else "")

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)


def test_a_processor_that_lives_on_sees_the_end(http_collector: Collector) -> None:
    """Who saw a span begin sees it end, though the pipeline was exchanged."""
    names = Names()
    start(http_collector, span_processors=[names], resource_attributes={"round": "0"})
    with fo.flext_span("open"):
        start(
            http_collector, span_processors=[names], resource_attributes={"round": "1"}
        )
    assert names.began == names.ended == ["open"]


def test_a_processor_is_shown_a_span_under_its_parent(
    http_collector: Collector,
) -> None:
    """When a span begins, its parent is current, as with OpenTelemetry."""
    names = Names()
    start(http_collector, span_processors=[names])

    @fo.flext_monitor_function("function")
    def function() -> None:
        with fo.flext_span("block"), fo.flext_span("other", {"a": 1}):
            pass

    function()
    assert names.began == ["function", "block", "other"]
    assert names.above == ["", "function", "block"]


def test_names_made_at_run_time_are_not_kept(http_collector: Collector) -> None:
    """Long names, each used once, leave nothing behind."""
    start(http_collector)
    tracer = trace.get_tracer("lib")

    def use(number: int) -> None:
        name = f"{number:03}" * 20_000
        tracer.start_span(name).end()
        with fo.flext_span(name):
            pass

    for number in range(50):
        use(number)
    flush(20)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(50, 100):
            use(number)
        flush(20)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 2_000_000  # of the twelve that the names had


def test_a_failure_happens_within_its_call(http_collector: Collector) -> None:
    """The event of an exception is not later than the end of its span."""
    start(http_collector)

    @fo.flext_monitor_function("failing")
    def failing() -> None:
        raise ValueError("no")

    for _ in range(20):
        with pytest.raises(ValueError, match="no"):
            failing()
    flush()
    for span in http_collector.spans("failing"):
        event = span.event("exception")
        assert span.start_ns <= event.time_ns <= span.end_ns


def test_lengths_are_kept_everywhere(http_collector: Collector) -> None:
    """A limit for the length of values holds for what we put on spans, too."""
    start(http_collector, max_attribute_length=5)

    @fo.flext_monitor_function("failing", attributes={"static": "abcdefgh"})
    def failing() -> None:
        raise ZeroDivisionError("a long message")

    monitor = fo.FlextObservabilityMonitor("component")
    with fo.flext_correlation_scope("request-1234567"):
        with pytest.raises(ZeroDivisionError):
            failing()
        with monitor.context(tenant="abcdefghijk"), pytest.raises(ZeroDivisionError):
            failing()
    flush()
    plain, tenant = (span.attributes for span in http_collector.spans("failing"))
    assert tenant["tenant"] == "abcde"
    for attributes in (plain, tenant):
        assert attributes["static"] == "abcde"
        assert attributes["correlation.id"] == "reque"
        assert attributes["error.type"] == "ZeroD"
        texts = [value for value in attributes.values() if isinstance(value, str)]
        assert max(map(len, texts)) == 5


def test_a_secret_is_not_saved_by_being_cut(http_collector: Collector) -> None:
    """A password in a URL is taken out, also where a limit has cut its end off."""
    start(http_collector, max_attribute_length=28)
    url = "postgresql://app:hunter2pass@db/x"

    @fo.flext_monitor_function("function", attributes={"static": url})
    def function() -> None:
        fo.flext_add_attributes(later=url)

    with fo.flext_span("block", {"given": url}):
        function()
    flush()
    shown = [
        str(value)
        for span in http_collector.spans()
        for value in span.attributes.values()
    ]
    assert sum("postgresql" in text for text in shown) == 3
    assert not [text for text in shown if "hunter2" in text]
