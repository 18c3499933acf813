"""Starts and ends our own spans, where the settings let it: the fast path of tracing.

The SDK's path stays for what this one does not do: samplers of others, id generators of
others, tracer configurators, another runtime context. Both give the same spans.
"""

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import cast

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes

from ..constants import FlextObservabilityConstants as C
from ..correlation import attributes_variable, correlation_id_variable
from ..traceparent import known_traces
from .current import CONTEXT_VARIABLE, SPAN_KEY, is_known
from .ids import take_offer
from .spans import (
    NO_STATE,
    SAMPLED,
    SAMPLED_RANDOM,
    RecordingSpan,
    SpanShape,
    UnsampledSpan,
    unread_properties,
)

Put = Callable[[RecordingSpan], None]

_RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
_LOW_64_BITS = (1 << 64) - 1
_ALL = 1 << 64
_INTERNAL_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
# What samplers of the SDK say about themselves when they follow the parent, and decide
# about roots by the trace id alone.
_PARENT_BASED = re.compile(
    r"ParentBased\{root:(?:(?P<all>AlwaysOnSampler)|(?P<none>AlwaysOffSampler)"
    r"|TraceIdRatioBased\{(?P<ratio>[^}]*)\})"
    r",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler"
    r",localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler\}"
)

_variable = cast("ContextVar[Context]", CONTEXT_VARIABLE)
_get_current = _variable.get if is_known() else Context
_make_current = _variable.set if is_known() else Context
_get_correlation_id = correlation_id_variable.get
_get_context_attributes = attributes_variable.get
_remember_root = known_traces.roots.append
_put_key = dict.__setitem__
_new = object.__new__
_random_bits = random.getrandbits
_now_ns = time.time_ns


def root_bound(sampler: Sampler) -> int | None:
    """Say which roots a sampler takes: those whose low 64 bits are below the bound.

    Returns:
        ``None`` for a sampler that decides otherwise.
    """
    if type(sampler) not in {ParentBased, ParentBasedTraceIdRatio}:
        return None
    found = _PARENT_BASED.fullmatch(sampler.get_description())
    if found is None:
        return None
    if found["ratio"] is None:
        return _ALL if found["all"] else 0
    return TraceIdRatioBased.get_bound_for_rate(float(found["ratio"]))


def is_possible() -> bool:
    """Whether this process, and this release of the SDK, allow for spans of our own."""
    counts_itself = os.environ.get(_INTERNAL_METRICS, "").strip().lower() == "true"
    return is_known() and not counts_itself and not unread_properties()


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
        self._queues = tuple(queues)
        self._processors: tuple[SpanProcessor, ...] = ()
        self.has_processors = False
        """Whether others see the spans."""
        self.take: Put = self._take
        """Takes a span that has ended."""
        self._choose_take()

    def add(self, processor: SpanProcessor) -> None:
        """Let a guarded processor of the caller see every span."""
        self._processors = (*self._processors, processor)
        self._choose_take()

    def redirect(self, put: Put) -> None:
        """Hand spans that end from now on to another pipeline."""
        self._queues, self._processors = (put,), ()
        self._choose_take()

    def _choose_take(self) -> None:
        # One queue is the usual case, and then there is nothing in between.
        self.has_processors = bool(self._processors)
        is_plain = len(self._queues) == 1 and not self._processors
        self.take = self._queues[0] if is_plain else self._take

    def _take(self, span: RecordingSpan) -> None:
        for processor in self._processors:
            processor._on_ending(cast("SdkSpan", span))  # noqa: SLF001 - experimental in the SDK
        for processor in self._processors:
            processor.on_end(span)
        for queue in self._queues:
            queue(span)

    def started(self, span: RecordingSpan, context: Context | None) -> None:
        """Show a span to the caller's processors."""
        for processor in self._processors:
            processor.on_start(cast("SdkSpan", span), context)

    def shape(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        scope: InstrumentationScope,
    ) -> SpanShape:
        """Make what spans of one operation share."""
        return SpanShape(name, kind, attributes, scope=scope, tracing=self)


def begin(shape: SpanShape) -> tuple[RecordingSpan | UnsampledSpan, object]:
    """Start a span under the current one and make it current.

    Args:
        shape: What it shares with others.

    Returns:
        The span, and the token that restores what was current.
    """
    current = _get_current()
    span = _under(current.get(SPAN_KEY), shape)
    context = Context(current)
    _put_key(context, SPAN_KEY, span)
    token = _make_current(context)
    if shape.tracing.has_processors and type(span) is RecordingSpan:
        shape.tracing.started(span, None)
    return span, token


def start(
    shape: SpanShape,
    context: Context | None,
    attributes: Attributes = None,
    links: Sequence[Link] = (),
    start_time: int | None = None,
) -> RecordingSpan | UnsampledSpan:
    """Start a span that is not made current.

    Args:
        shape: What it shares with others.
        context: Holds its parent; the current one when not given.
        attributes: Its own, beside those of the shape; legal ones.
        links: Legal ones.
        start_time: Nanoseconds since the epoch; now when not given.
    """
    parent = (_get_current() if context is None else context).get(SPAN_KEY)
    offer = take_offer()
    span = (
        _under(parent, shape, attributes)
        if offer is None
        else _offered(offer, parent, shape, attributes)
    )
    if type(span) is UnsampledSpan:
        return span
    recording = cast("RecordingSpan", span)
    if links:
        recording.keep_links(links)
    if start_time is not None:
        recording._started_ns = start_time
    if shape.tracing.has_processors:
        shape.tracing.started(recording, context)
    return recording


def _under(
    parent: object,
    shape: SpanShape,
    attributes: Attributes = None,
    trace_id: int = 0,
    flags: int = SAMPLED_RANDOM,
) -> RecordingSpan | UnsampledSpan:
    """Make a span of this shape under whatever the context holds.

    Args:
        parent: The current span, if any.
        shape: Of the span.
        attributes: Its own, beside those of the shape; legal ones.
        trace_id: Of a root; a random one when not given.
        flags: Of a root that is sampled.
    """
    kind = type(parent)
    if kind is RecordingSpan:
        above = cast("RecordingSpan", parent)
        span = _new(RecordingSpan)
        span._trace_id = above._trace_id
        span._parent_id = above._span_id
        if above._flags != SAMPLED_RANDOM:
            span._flags = above._flags
        if above._state is not NO_STATE:
            span._state = above._state
        span._span_id = _random_bits(64) or 1
    elif parent is None:
        trace_id = trace_id or _random_bits(128) or 1
        span_id = _random_bits(64) or 1
        if trace_id & _LOW_64_BITS >= shape.tracing.bound:
            return _unsampled(trace_id, span_id, flags & _RANDOM, NO_STATE)
        span = _new(RecordingSpan)
        span._trace_id = trace_id
        span._span_id = span_id
        if flags != SAMPLED_RANDOM:
            span._flags = flags
        _remember_root((trace_id, span_id, flags))
    else:
        above_it = _parent_context(parent)
        if above_it is None:
            return _under(None, shape, attributes, trace_id, flags)
        made = _under_foreign(above_it)
        if type(made) is UnsampledSpan:
            return made
        span = cast("RecordingSpan", made)
    span._shape = shape
    if attributes:
        span.begin_with(attributes)
    correlation_id = _get_correlation_id()
    if correlation_id:
        if shape.has_room and not attributes:
            span._correlation_id = correlation_id
        else:
            span.set_attribute(C.ATTR_CORRELATION_ID, correlation_id)
    stated = _get_context_attributes()
    if stated:
        span.add_missing(stated)
    span._started_ns = _now_ns()
    return span


def _parent_context(parent: object) -> "SpanContext | UnsampledSpan | None":
    """Give what is known of a parent that is not ours, ``None`` where it is none."""
    if type(parent) is UnsampledSpan:
        return parent
    context = parent.get_span_context() if isinstance(parent, Span) else None
    is_parent = isinstance(context, SpanContext) and context.is_valid
    return context if is_parent else None


def _under_foreign(
    parent: "SpanContext | UnsampledSpan",
) -> RecordingSpan | UnsampledSpan:
    """Make a span under one that is not ours, or under one that is not sampled."""
    span_id = _random_bits(64) or 1
    if isinstance(parent, UnsampledSpan):
        return _unsampled(parent._trace_id, span_id, parent._flags, parent._state)
    is_random = parent.trace_flags & _RANDOM
    if not parent.trace_flags.sampled:
        return _unsampled(parent.trace_id, span_id, is_random, parent.trace_state)
    span = _new(RecordingSpan)
    span._trace_id = parent.trace_id
    span._span_id = span_id
    span._parent_id = parent.span_id
    span._parent_context = parent
    span._flags = SAMPLED | is_random
    span._state = parent.trace_state
    if parent.is_remote:
        known_traces.add_local_root(span.get_span_context())
    return span


def _offered(
    offer: tuple[int, int], parent: object, shape: SpanShape, attributes: Attributes
) -> RecordingSpan | UnsampledSpan:
    """Make a span with the ids of an offer; of a root nobody knows how random it is."""
    span = _under(parent, shape, attributes, offer[0], SAMPLED)
    span._span_id = offer[1]
    span._own_context = None
    if type(span) is RecordingSpan and span.parent is None:
        known_traces.add_local_root(span.get_span_context())
    return span


def _unsampled(
    trace_id: int, span_id: int, flags: int, state: TraceState
) -> UnsampledSpan:
    span = _new(UnsampledSpan)
    span._trace_id = trace_id
    span._span_id = span_id
    span._flags = flags
    span._state = state
    return span
