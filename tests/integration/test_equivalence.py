"""Our own spans and the SDK's, in our pipeline and without it: the same bytes.

Ids, times and stack texts are blanked. Programs are drawn by hypothesis and run through
the public API of OpenTelemetry, once on each way of making spans.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, Tracer

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.encoders import SPANS
from tests.fixtures.library import flush, start
from tests.fixtures.records import EXAMPLES, KEYS, TEXTS, VALUES
from tests.fixtures.span_programs import (
    Block,
    comparable,
    difference,
    of_spans,
    programs,
    run,
)

Program = Callable[[Tracer], object]
# What is found is not made smaller: that takes minutes, and the difference is shown.
_FAST = settings(EXAMPLES, phases=[Phase.explicit, Phase.generate])


class Followed(ParentBased):
    """Decides as our own default does; being foreign, it takes the SDK's path."""


LIMITS: dict[str, dict[str, int]] = {
    "none": {},
    "0": {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": 0,
        "OTEL_SPAN_EVENT_COUNT_LIMIT": 0,
        "OTEL_SPAN_LINK_COUNT_LIMIT": 0,
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": 0,
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": 0,
    },
    "1": {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": 1,
        "OTEL_SPAN_EVENT_COUNT_LIMIT": 1,
        "OTEL_SPAN_LINK_COUNT_LIMIT": 1,
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": 1,
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": 1,
    },
    "3": {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": 3,
        "OTEL_SPAN_EVENT_COUNT_LIMIT": 3,
        "OTEL_SPAN_LINK_COUNT_LIMIT": 2,
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": 3,
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": 2,
    },
    "length": {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": 7},
    "length of spans": {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": 5},
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What is said about odd values is not the matter."""
    with caplog.at_level(logging.CRITICAL):
        yield


def plain_spans(program: Program) -> Sequence[ReadableSpan]:
    """Run a program on the SDK alone."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    program(provider.get_tracer("lib"))
    return memory.get_finished_spans()


def our_spans(program: Program, **options: Any) -> Sequence[ReadableSpan]:
    """Run a program on our pipeline."""
    handle = fo.setup(
        "shop",
        exporters=["memory"],
        metrics_enabled=False,
        logs_enabled=False,
        redaction=False,
        **options,
    ).unwrap()
    assert handle.memory is not None
    handle.memory.clear()
    program(trace.get_tracer("lib"))
    return handle.memory.spans


def sdk_spans(program: Program) -> Sequence[ReadableSpan]:
    """Run a program on our pipeline, which has the SDK make the spans."""
    return our_spans(program, sampler=Followed(ALWAYS_ON))


def assert_same(
    expected: Sequence[ReadableSpan], found: Sequence[ReadableSpan]
) -> None:
    problem = difference(of_spans(expected), of_spans(found))
    assert not problem, problem


def assert_same_encoding(spans: Sequence[ReadableSpan]) -> None:
    """Our encoder and the stock one lay out the same bytes; one by one, to be read."""
    for span in spans:
        ours, stock = SPANS.ours([span]), SPANS.stock([span])
        if ours != stock.SerializeToString():
            found = ExportTraceServiceRequest.FromString(ours)
            problem = difference(comparable(stock), comparable(found))
            pytest.fail(problem or span.to_json())


def running(drawn: Sequence[Block], kinds: set[str]) -> Program:
    """Make a program of drawn ones; it notes the classes of the spans it got."""
    return lambda tracer: run(tracer, drawn, lambda s: kinds.add(type(s).__name__))


@pytest.mark.parametrize("limits", LIMITS)
@settings(_FAST, max_examples=60)
@given(drawn=programs())
def test_legal_programs(
    limits: str, drawn: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OpenTelemetry allows gives what plain OpenTelemetry gives, on both paths.

    And our encoder lays our spans out as the stock one lays out the SDK's.
    """
    for name, value in LIMITS[limits].items():
        monkeypatch.setenv(name, str(value))
    own: set[str] = set()
    sdk: set[str] = set()
    expected = plain_spans(running(drawn, set()))
    found = our_spans(running(drawn, own))
    assert_same(expected, found)
    assert_same_encoding(found)
    assert_same(expected, sdk_spans(running(drawn, sdk)))
    # Each way was really taken.
    assert own <= {"RecordingSpan", "UnsampledSpan"}
    assert sdk <= {"GuardedSpan", "NonRecordingSpan"}


@settings(_FAST, max_examples=100)
@given(drawn=programs(TEXTS, KEYS, VALUES, VALUES))
def test_hostile_programs(drawn: list[Block]) -> None:
    """Whatever the arguments: both of our ways give the same, and raise nothing."""
    found = our_spans(running(drawn, set()))
    assert_same(sdk_spans(running(drawn, set())), found)
    assert_same_encoding(found)


@settings(_FAST, max_examples=25)
@given(drawn=programs())
def test_what_arrives(http_collector: Collector, drawn: list[Block]) -> None:
    """The request that leaves the process holds what plain OpenTelemetry would send."""
    start(http_collector, redaction=False, logs_enabled=False, metrics_enabled=False)
    http_collector.clear()
    program = running(drawn, set())
    program(trace.get_tracer("lib"))
    flush()
    requests = http_collector.requests("traces")
    arrived = [body for r in requests for body in comparable(r.message)]
    problem = difference(of_spans(plain_spans(program)), arrived)
    assert not problem, problem


# -- start_as_current_span as a decorator


def _decorated(tracer: Tracer) -> None:
    @tracer.start_as_current_span("function", kind=SpanKind.CLIENT)
    def function(fails: bool = False) -> str:  # noqa: FBT001, FBT002 - a toy
        trace.get_current_span().set_attribute("inside", value=True)
        if fails:
            raise ValueError("no")
        return "done"

    @tracer.start_as_current_span("generator")
    def generator() -> Iterator[int]:
        trace.get_current_span().set_attribute("never", value=True)
        yield 1

    assert function() == function() == "done"
    with pytest.raises(ValueError, match="no"):
        function(fails=True)
    assert list(generator()) == [1]
    assert function.__name__ == "function"


def _decorated_async(tracer: Tracer) -> None:
    @tracer.start_as_current_span("coroutine", attributes={"n": 1})
    async def coroutine(fails: bool = False) -> str:  # noqa: FBT001, FBT002 - a toy
        await asyncio.sleep(0)
        trace.get_current_span().add_event("inside")
        if fails:
            raise ValueError("no")
        return "done"

    async def main() -> None:
        with tracer.start_as_current_span("outer"):
            for result in await asyncio.gather(coroutine(), coroutine()):
                assert result == "done"
        with pytest.raises(ValueError, match="no"):
            await coroutine(fails=True)

    asyncio.run(main())


def _never_ended(tracer: Tracer) -> None:
    with tracer.start_as_current_span("later", end_on_exit=False) as span:
        span.set_attribute("a", 1)
    tracer.start_span("never")
    assert span.is_recording()
    span.set_attribute("b", 2)
    span.end()
    assert not span.is_recording()


def _generator_of_spans(tracer: Tracer) -> None:
    def steps() -> Generator[int, None, None]:
        with tracer.start_as_current_span("steps"):
            for number in range(3):
                with tracer.start_as_current_span(f"step {number}"):
                    yield number

    assert list(steps()) == [0, 1, 2]
    left = steps()
    next(left)
    left.close()


def _failing_child(tracer: Tracer) -> None:
    with (
        pytest.raises(LookupError),
        tracer.start_as_current_span("parent"),
        tracer.start_as_current_span("child", set_status_on_exception=False),
    ):
        raise LookupError("x")


def _used_span(tracer: Tracer) -> None:
    span = tracer.start_span("used")
    with pytest.raises(OSError, match="disk"), trace.use_span(span, end_on_exit=True):
        raise OSError("disk")
    span = tracer.start_span("status")
    span.set_status(StatusCode.OK, "kept for nobody")
    span.set_status(StatusCode.ERROR, "too late")
    span.end()
    span.end()


@pytest.mark.parametrize(
    "program",
    [
        *(_decorated, _decorated_async, _never_ended),
        *(_generator_of_spans, _failing_child, _used_span),
    ],
)
def test_ways_of_use(program: Program) -> None:
    """Decorators, generators, spans that outlive their block: the same on all paths."""
    expected = plain_spans(program)
    assert expected
    assert_same(expected, our_spans(program))
    assert_same(expected, sdk_spans(program))


def test_json() -> None:
    """``to_json`` gives what the SDK's gives, but for ids, times and the resource."""

    def program(tracer: Tracer) -> None:
        with tracer.start_as_current_span("op", attributes={"a": 1}) as span:
            span.add_event("e", {"b": [1, 2]})
            span.add_link(span.get_span_context(), {"c": "d"})
            span.set_status(StatusCode.ERROR, "no")

    made = []
    for spans in (plain_spans(program), our_spans(program)):
        told = json.loads(spans[0].to_json())
        told["context"] = sorted(told["context"])
        told["links"][0].pop("context")
        told["events"][0].pop("timestamp")
        for name in ("start_time", "end_time", "resource"):
            told.pop(name)
        made.append(told)
    assert made[0] == made[1]
