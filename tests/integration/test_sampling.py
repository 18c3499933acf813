"""Sampling: our way of starting spans decides as the SDK's samplers do."""

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import Attributes

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start
from tests.fixtures.span_programs import STATED_PARENTS, parent_context

SAMPLERS: dict[str, tuple[dict[str, str], Sampler]] = {
    "default": ({}, ParentBased(ALWAYS_ON)),
    "always_on": ({"OTEL_TRACES_SAMPLER": "always_on"}, ALWAYS_ON),
    "always_off": ({"OTEL_TRACES_SAMPLER": "always_off"}, ALWAYS_OFF),
    "parent on": (
        {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
        ParentBased(ALWAYS_ON),
    ),
    "parent off": (
        {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
        ParentBased(ALWAYS_OFF),
    ),
    "ratio": (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.3"},
        TraceIdRatioBased(0.3),
    ),
    "parent ratio": (
        {
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.3",
        },
        ParentBasedTraceIdRatio(0.3),
    ),
}


class Recorder(IdGenerator):
    """Gives the ids that somebody else made."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return True


class Reference:
    """The SDK itself, which is to decide about spans of ours."""

    def __init__(self, sampler: Sampler) -> None:
        self._ids = Recorder()
        provider = TracerProvider(
            sampler=sampler, id_generator=self._ids, shutdown_on_exit=False
        )
        self._tracer = provider.get_tracer("lib")

    def assert_same(self, span: trace.Span, parent: Context) -> None:
        """The SDK would have started the same one: ids, flags, state, recording."""
        found = span.get_span_context()
        self._ids.trace_id, self._ids.span_id = found.trace_id, found.span_id
        other = self._tracer.start_span("op", parent)
        expected = other.get_span_context()
        assert found == expected
        assert found.trace_flags == expected.trace_flags
        assert found.trace_state == expected.trace_state
        assert found.is_remote is expected.is_remote is False
        assert span.is_recording() is other.is_recording()
        assert headers(span) == headers(other)


def headers(span: trace.Span) -> dict[str, str]:
    """What a request made under the span carries."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier


def in_memory(**options: Any) -> fo.FlextObservability:
    return fo.setup(
        "shop",
        exporters=["memory"],
        metrics_enabled=False,
        logs_enabled=False,
        **options,
    ).unwrap()


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_TRACES_SAMPLER: every parent and 300 roots are decided as in the SDK."""
    variables, sampler = SAMPLERS[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    in_memory()
    reference, tracer = Reference(sampler), trace.get_tracer("lib")
    for context in (Context(), *map(parent_context, STATED_PARENTS)):
        for _ in range(300 if not context else 3):
            reference.assert_same(tracer.start_span("op", context), context)


@pytest.mark.parametrize("ratio", [0, 1e-9, 0.3, 0.5, 1 - 1e-9, 1])
def test_sample_ratio(ratio: float) -> None:
    """``sample_ratio``: every parent and 300 roots are decided as in the SDK."""
    in_memory(sample_ratio=ratio)
    reference = Reference(ParentBasedTraceIdRatio(ratio))
    tracer = trace.get_tracer("lib")
    for context in (Context(), *map(parent_context, STATED_PARENTS)):
        for _ in range(300 if not context else 3):
            span = tracer.start_span("op", context)
            reference.assert_same(span, context)
            # The children of whatever came of it, too.
            below = trace.set_span_in_context(span, Context())
            reference.assert_same(tracer.start_span("op", below), below)


class Odd(TraceIdRatioBased):
    """Takes odd traces only, and says nothing about it in its description."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        decision = Decision.RECORD_AND_SAMPLE if trace_id % 2 else Decision.DROP
        return SamplingResult(decision, attributes)


class Liar(Sampler):
    """Takes nothing, and describes itself as one that takes all."""

    def should_sample(self, *_arguments: Any, **_options: Any) -> SamplingResult:
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "AlwaysOnSampler"


@pytest.mark.parametrize(
    "sampler",
    [
        ParentBased(Odd(0.3)),
        ParentBased(Liar()),
        ParentBased(ALWAYS_ON, remote_parent_sampled=Liar()),
        ParentBased(ALWAYS_ON, local_parent_sampled=Odd(0.3)),
        ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON),
        ParentBased(StaticSampler(Decision.RECORD_ONLY)),
        ParentBased(
            ALWAYS_ON, local_parent_sampled=StaticSampler(Decision.RECORD_ONLY)
        ),
        ParentBased(ParentBased(ALWAYS_OFF)),
        Odd(0.5),
        StaticSampler(Decision.RECORD_ONLY),
    ],
    ids=str,
)
def test_samplers_of_others(sampler: Sampler) -> None:
    """Whatever a sampler calls itself: what counts is what it decides."""
    in_memory(sampler=sampler)
    reference, tracer = Reference(sampler), trace.get_tracer("lib")
    for context in (Context(), *map(parent_context, STATED_PARENTS)):
        for _ in range(20):
            reference.assert_same(tracer.start_span("op", context), context)


def test_recorded_only_is_not_sent(http_collector: Collector) -> None:
    """A span that is recorded but not sampled is seen by processors, and not sent."""
    start(http_collector, sampler=ParentBased(StaticSampler(Decision.RECORD_ONLY)))
    with trace.get_tracer("lib").start_as_current_span("op") as span:
        assert span.is_recording()
    with fo.flext_span("op"):
        pass
    flush()
    assert not http_collector.spans()


def test_totals_are_exact_when_sampled_out(http_collector: Collector) -> None:
    """The histogram counts every call, and spans are those of sampled roots."""
    start(http_collector, sample_ratio=0.3)

    @fo.flext_monitor_function("call")
    def call() -> bool:
        return trace.get_current_span().is_recording()

    sampled = sum(call() for _ in range(1000))
    assert 0 < sampled < 1000
    flush()
    assert len(http_collector.spans("call")) == sampled
    point = http_collector.metric(
        "flext.operation.duration", **{"flext.operation.name": "call"}
    )
    assert point.count == 1000
