"""What our own spans of a pipeline share, and what happens when they end.

The SDK's path stays for what this one does not do: samplers of others, id generators of
others, tracer configurators, another runtime context. Both give the same spans.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakSet

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)

from .processors import GuardedSpanProcessor

Put = Callable[[Any], None]

_ALL = 1 << 64
# For roots, and for parents that are remote or local, sampled or not.
_INNER_SAMPLERS = 5
# What samplers of the SDK say about themselves when they follow the parent, and decide
# about roots by the trace id alone.
_PARENT_BASED = re.compile(
    r"ParentBased\{root:(?:(?P<all>AlwaysOnSampler)|(?P<none>AlwaysOffSampler)"
    r"|TraceIdRatioBased\{(?P<ratio>[^}]*)\})"
    r",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler"
    r",localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler\}"
)


def root_bound(sampler: Sampler) -> int | None:
    """Say which roots a sampler takes: those whose low 64 bits are below the bound.

    Returns:
        ``None`` for a sampler that decides otherwise.
    """
    if type(sampler) not in {ParentBased, ParentBasedTraceIdRatio}:
        return None
    # One of another class, or one that records without sampling, may describe itself
    # by the same words.
    inner = [part for part in vars(sampler).values() if isinstance(part, Sampler)]
    if len(inner) != _INNER_SAMPLERS or not all(map(_is_plain, inner)):
        return None
    found = _PARENT_BASED.fullmatch(sampler.get_description())
    if found is None:
        return None
    if found["ratio"] is None:
        return _ALL if found["all"] else 0
    return TraceIdRatioBased.get_bound_for_rate(float(found["ratio"]))


def _is_plain(sampler: Sampler) -> bool:
    """Whether a sampler is of the SDK's own kinds, and samples what it records."""
    if type(sampler) not in {StaticSampler, TraceIdRatioBased}:
        return False
    return sampler.should_sample(None, 0, "").decision is not Decision.RECORD_ONLY


class PipelineTracerProvider(TracerProvider):
    """The SDK's provider, and our own spans beside it where the settings let them."""

    tracing: "Tracing | None" = None
    admit: Callable[[SpanProcessor], SpanProcessor | None] | None = None
    """Guards a processor that comes later; ``None`` where it is there already."""

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Show all spans to a processor, whichever way they are made."""
        shown = span_processor if self.admit is None else self.admit(span_processor)
        if shown is None:
            return
        super().add_span_processor(shown)
        if self.tracing is not None:
            self.tracing.add(shown)


class Tracing:
    """What all spans of a pipeline share, and what happens at their two ends."""

    def __init__(
        self,
        resource: Resource,
        limits: SpanLimits,
        bound: int,
        queues: Sequence[Put],
    ) -> None:
        """Prepare.

        Args:
            resource: Who makes the spans.
            limits: Of the spans.
            bound: Which roots are sampled, as :func:`root_bound` says.
            queues: Take every finished span.
        """
        self.resource = resource
        self.limits = limits
        self.bound = bound
        self.takes_all = bound >= _ALL
        """Whether every root is sampled."""
        self._queues = tuple(queues)
        self._processors: tuple[SpanProcessor, ...] = ()
        self.shapes: WeakSet[Any] = WeakSet()
        """Of the spans; they must know when others come to see them."""
        self.has_processors = False
        """Whether others see the spans."""
        self.take: Put = self._take
        """Takes a span that has ended."""
        self._choose_take()

    def add(self, processor: SpanProcessor) -> None:
        """Let a guarded processor of the caller see every span."""
        self._processors = (*self._processors, processor)
        self._choose_take()
        for shape in list(self.shapes):
            shape.is_special = True

    def redirect(
        self, queues: Sequence[Put], kept: Sequence[SpanProcessor] = ()
    ) -> None:
        """Hand spans that end from now on elsewhere.

        Args:
            queues: Take them.
            kept: Processors of the caller that live on, and see those ends, too.
        """
        self._queues = tuple(queues)
        self._processors = tuple(
            processor
            for processor in self._processors
            if isinstance(processor, GuardedSpanProcessor)
            and processor.stands_for(kept)
        )
        self._choose_take()

    def _choose_take(self) -> None:
        # One queue is the usual case, and then there is nothing in between.
        self.has_processors = bool(self._processors)
        is_plain = len(self._queues) == 1 and not self._processors
        self.take = self._queues[0] if is_plain else self._take

    def _take(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            cast("Any", processor)._on_ending(span)  # noqa: SLF001 - experimental in the SDK
        for processor in self._processors:
            processor.on_end(span)
        for queue in self._queues:
            queue(span)

    def started(self, span: ReadableSpan, context: Context | None) -> None:
        """Show a span to the caller's processors."""
        for processor in self._processors:
            processor.on_start(cast("SdkSpan", span), context)
