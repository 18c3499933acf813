"""Spans become the bytes that the stock encoder makes of them."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from tests.fixtures.encoders import SPANS, calls_of_stock
from tests.fixtures.hostile import VALUES
from tests.fixtures.records import (
    ATTRIBUTES,
    EXAMPLES,
    NAMES,
    RESOURCES,
    SCOPES,
    SPAN_IDS,
    TIMES,
    TRACE_IDS,
    UINT64,
    Fields,
    spoilt,
)

SCHEMA = "https://example.org/schema"
STATES = [
    None,
    TraceState(),
    TraceState([("a", "1")]),
    TraceState([("vendor@a", "x y"), ("b", "2")]),
]
CONTEXTS = st.builds(
    SpanContext,
    TRACE_IDS,
    SPAN_IDS,
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    st.sampled_from(STATES),
)
EVENTS = st.lists(st.builds(Event, NAMES, ATTRIBUTES, UINT64), max_size=3)
LINKS = st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=3)
STATUSES = st.builds(Status, st.sampled_from(StatusCode)) | st.builds(
    Status, st.just(StatusCode.ERROR), st.none() | NAMES
)


def few(items: list[Any]) -> Any:
    """Keep events or links as the SDK does: some are too many, and counted."""
    return BoundedList.from_seq(2, items)


FIELDS: Fields = st.fixed_dictionaries(
    {
        "name": NAMES,
        "context": CONTEXTS,
        "parent": st.none() | CONTEXTS,
        "resource": RESOURCES,
        "attributes": ATTRIBUTES,
        "events": EVENTS | EVENTS.map(few),
        "links": LINKS | LINKS.map(few),
        "kind": st.sampled_from(SpanKind),
        "status": st.none() | STATUSES,
        "start_time": TIMES,
        "end_time": TIMES,
        "instrumentation_scope": st.none() | SCOPES,
    }
)


def span(fields: dict[str, Any]) -> ReadableSpan:
    return ReadableSpan(**fields)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What the stock encoder says about odd values is not the matter."""
    with caplog.at_level(logging.CRITICAL, logger="opentelemetry"):
        yield


@EXAMPLES
@given(st.lists(FIELDS.map(span), max_size=5))
def test_any_spans(spans: list[ReadableSpan]) -> None:
    """Spans of every shape, of several resources and scopes, give the same bytes."""
    assert SPANS.assert_same(spans) is not None


@EXAMPLES
@given(st.lists(FIELDS.map(span), max_size=2), spoilt(FIELDS).map(span))
def test_anything_in_a_field(spans: list[ReadableSpan], odd: ReadableSpan) -> None:
    """With anything in a field: the same bytes, or none from either encoder."""
    SPANS.assert_same([*spans, odd])


@pytest.mark.parametrize("name", VALUES)
def test_hostile_values(name: str) -> None:
    """Values that break what touches them give what the stock encoder gives."""
    context = SpanContext(1, 2, is_remote=False)
    attributes = {"before": 1, "value": VALUES[name], "after": 2}
    SPANS.assert_same([ReadableSpan("op", context, attributes=attributes)])


@pytest.mark.parametrize("depth", [1, 7, 14, 15, 16, 17, 40, 45, 50, 60, 100])
def test_nesting(depth: int) -> None:
    """However deep a value nests, both encoders take it, or neither."""
    lists: Any = "bottom"
    mappings: Any = "bottom"
    for _ in range(depth):
        lists = [lists]
        mappings = {"k": mappings}
    context = SpanContext(1, 2, is_remote=False)
    for value in (lists, mappings):
        SPANS.assert_same([ReadableSpan("op", context, attributes={"value": value})])


def sdk_spans() -> tuple[ReadableSpan, ...]:
    """Make spans by the SDK itself, over its limits."""
    memory = InMemorySpanExporter()
    limits = SpanLimits(max_span_attributes=2, max_events=1, max_links=1)
    provider = TracerProvider(span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("lib", "1", SCHEMA, {"kind": "scope"})
    remote = SpanContext(5, 6, True, TraceFlags(1), STATES[-1])  # noqa: FBT003 - remote
    parent = set_span_in_context(NonRecordingSpan(remote))
    links = [Link(remote, {"n": n}) for n in range(3)]
    with tracer.start_as_current_span("root", parent, SpanKind.SERVER, links=links):
        root = get_current_span()
        for number in range(4):
            root.set_attribute(f"k{number}", [number, None, {"half": number / 2}])
            root.add_event("tick", {"number": -number, "raw": b"\xff"})
        with pytest.raises(KeyError), tracer.start_as_current_span("failing"):
            raise KeyError("boom")
    with provider.get_tracer("other").start_as_current_span("other"):
        pass
    return memory.get_finished_spans()


def test_spans_of_the_sdk() -> None:
    """What the SDK's own tracers finish is encoded without the stock encoder's help."""
    spans = sdk_spans()
    assert len(spans) == 3
    assert SPANS.assert_same(spans)
    assert calls_of_stock(lambda: SPANS.ours(spans)) == 0


def test_no_spans() -> None:
    """Nothing makes an empty request."""
    assert SPANS.assert_same([]) == b""
