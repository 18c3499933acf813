"""Spans become the bytes that the stock encoder makes of them."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
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
    ODDITIES,
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
REMOTE = SpanContext(5, 6, True, TraceFlags(1), STATES[-1])  # noqa: FBT003 - remote
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


def with_attributes(**attributes: Any) -> ReadableSpan:
    context = SpanContext(1, 2, is_remote=False)
    return ReadableSpan("op", context, attributes=attributes)


# A mapping takes three levels of protobuf, a list two.
@pytest.mark.parametrize("inmost", ["bottom", {"k": 1}, {"k": {"k": 1}}])
@pytest.mark.parametrize("around", [lambda value: [value], lambda value: {"k": value}])
def test_nesting(inmost: Any, around: Callable[[Any], Any]) -> None:
    """However deep a value nests, both encoders take it, or neither."""
    value = inmost
    taken = 0
    for _ in range(70):
        taken += SPANS.assert_same([with_attributes(value=value)]) is not None
        value = around(value)
    assert 20 < taken < 70


@pytest.mark.parametrize("middle", [128, 2048, 16_384])
def test_lengths(middle: int) -> None:
    """Lengths are right on both sides of where they take another byte."""
    for size in range(middle - 20, middle + 4):
        text = "x" * size
        mixed = {text: text, f"{text} raw": text.encode(), f"{text} list": [text]}
        assert SPANS.assert_same([with_attributes(text=text, **mixed)])
        assert SPANS.assert_same([with_attributes(raw=text.encode(), more=[text])])


@pytest.mark.parametrize("scope", [None, "", 0, (), {}])
def test_no_scope(scope: Any) -> None:
    """What counts as no scope for the stock encoder is none for ours."""
    context = SpanContext(1, 2, is_remote=False)
    assert SPANS.assert_same([ReadableSpan("op", context, instrumentation_scope=scope)])


USUAL: dict[str, Any] = {
    "name": "op",
    "context": SpanContext(1, 2, is_remote=False),
    "parent": REMOTE,
    "attributes": {"a": 1},
    "events": (),
    "links": (),
    "kind": SpanKind.CLIENT,
    "status": Status(StatusCode.OK),
    "start_time": 1,
    "end_time": 2,
    "resource": Resource({"service.name": "shop"}),
    "instrumentation_scope": InstrumentationScope("lib"),
}
# What else may be odd, as a function of the oddity.
INSIDE: dict[str, Callable[[Any], dict[str, Any]]] = {
    "event name": lambda odd: {"events": [Event(odd, {}, 1)]},
    "event attributes": lambda odd: {"events": [Event("e", odd, 1)]},
    "event time": lambda odd: {"events": [Event("e", {}, odd)]},
    "event": lambda odd: {"events": [odd]},
    "link context": lambda odd: {"links": [Link(odd, {})]},
    "link attributes": lambda odd: {"links": [Link(REMOTE, odd)]},
    "status code": lambda odd: {"status": Status(odd)},
    "status text": lambda odd: {"status": Status(StatusCode.ERROR, odd)},
    "trace id": lambda odd: {"context": SpanContext(odd, 2, is_remote=False)},
    "span id": lambda odd: {"context": SpanContext(1, odd, is_remote=False)},
    "parent id": lambda odd: {"parent": SpanContext(1, odd, is_remote=False)},
    "parent remote": lambda odd: {"parent": SpanContext(1, 2, odd)},
    "trace state": lambda odd: {"context": SpanContext(1, 2, False, None, odd)},  # noqa: FBT003 - local
    "scope name": lambda odd: {"instrumentation_scope": InstrumentationScope(odd)},
    "scope version": lambda odd: {
        "instrumentation_scope": InstrumentationScope("lib", odd)
    },
    "scope schema": lambda odd: {
        "instrumentation_scope": InstrumentationScope("lib", None, odd)
    },
    "resource schema": lambda odd: {"resource": Resource({}, odd)},
}


@pytest.mark.parametrize("field", [*USUAL, *INSIDE])
def test_odd_fields(field: str) -> None:
    """Each field in turn with odd contents: the same bytes, or none from either."""
    taken = 0
    for odd in ODDITIES:
        try:
            fields = INSIDE[field](odd) if field in INSIDE else {field: odd}
        except TypeError:  # the SDK itself does not take it
            continue
        taken += SPANS.assert_same([span(USUAL | fields)]) is not None
    assert taken or field in {"context", "kind", "event", "links", "link context"}


def sdk_spans() -> tuple[ReadableSpan, ...]:
    """Make spans by the SDK itself, over its limits."""
    memory = InMemorySpanExporter()
    limits = SpanLimits(max_span_attributes=2, max_events=1, max_links=1)
    provider = TracerProvider(span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("lib", "1", SCHEMA, {"kind": "scope"})
    parent = set_span_in_context(NonRecordingSpan(REMOTE))
    links = [Link(REMOTE, {"n": n}) for n in range(3)]
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
