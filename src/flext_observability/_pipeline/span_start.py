"""How our own spans start: the ids, the parent, what the context says."""

import os
import random
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import cast

from opentelemetry.context import Context
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
from .tracing import Tracing

_OWN_SCOPE = InstrumentationScope(C.SCOPE_NAME, "")
_RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
_LOW_64_BITS = (1 << 64) - 1
_INTERNAL_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"

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


def is_possible() -> bool:
    """Whether this process, and this release of the SDK, allow for spans of our own."""
    counts_itself = os.environ.get(_INTERNAL_METRICS, "").strip().lower() == "true"
    return is_known() and not counts_itself and not unread_properties()


def own_shape(
    name: str, kind: SpanKind, attributes: Attributes, tracing: Tracing
) -> SpanShape:
    """Make what spans of one monitored function share.

    Args:
        name: Of the spans.
        kind: Of the spans.
        attributes: That every span has; legal ones.
        tracing: Of the pipeline.
    """
    return SpanShape(name, kind, attributes, _OWN_SCOPE, tracing)


def start_current(shape: SpanShape) -> tuple[RecordingSpan | UnsampledSpan, object]:
    """Start a span under the current one and make it current.

    Args:
        shape: What it shares with others.

    Returns:
        The span, and the token that restores what was current.
    """
    current = _get_current()
    span = _identified(shape, current.get(SPAN_KEY))
    if type(span) is RecordingSpan:
        _dress(span, shape, None)
        if shape.tracing.has_processors:
            shape.tracing.started(span, None)
    context = Context(current)
    _put_key(context, SPAN_KEY, span)
    return span, _make_current(context)


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
        _identified(shape, parent)
        if offer is None
        else _identified_by(offer, shape, parent)
    )
    if type(span) is not RecordingSpan:
        return span
    _dress(span, shape, attributes)
    if links:
        span.keep_links(links)
    if start_time is not None:
        span.started_ns = start_time
    if shape.tracing.has_processors:
        shape.tracing.started(span, context)
    return span


def _dress(span: RecordingSpan, shape: SpanShape, attributes: Attributes) -> None:
    """Put on a new span what its shape, its starter and the context say."""
    span.shape = shape
    if attributes:
        span.begin_with(attributes)
    correlation_id = _get_correlation_id()
    if correlation_id:
        if shape.has_room and not attributes:
            span.correlation_id = correlation_id
        else:
            span.set_attribute(C.ATTR_CORRELATION_ID, correlation_id)
    stated = _get_context_attributes()
    if stated:
        span.add_missing(stated)
    span.started_ns = _now_ns()


def _identified(shape: SpanShape, parent: object) -> RecordingSpan | UnsampledSpan:
    """Make a span with ids, under whatever the context holds as its span."""
    if parent is None:
        return _root(shape, _random_bits(128) or 1, SAMPLED_RANDOM)
    if type(parent) is not RecordingSpan:
        return _under_foreign(shape, parent)
    span = _new(RecordingSpan)
    span.trace_id = parent.trace_id
    span.parent_id = parent.span_id
    span.span_id = _random_bits(64) or 1
    if parent.flags != SAMPLED_RANDOM:
        span.flags = parent.flags
    if parent.state is not NO_STATE:
        span.state = parent.state
    return span


def _root(shape: SpanShape, trace_id: int, flags: int) -> RecordingSpan | UnsampledSpan:
    """Make a span without a parent, if it is sampled."""
    span_id = _random_bits(64) or 1
    if trace_id & _LOW_64_BITS >= shape.tracing.bound:
        return _unsampled(trace_id, span_id, flags & _RANDOM, NO_STATE)
    span = _new(RecordingSpan)
    span.trace_id = trace_id
    span.span_id = span_id
    if flags != SAMPLED_RANDOM:
        span.flags = flags
    _remember_root((trace_id, span_id, flags))
    return span


def _under_foreign(shape: SpanShape, parent: object) -> RecordingSpan | UnsampledSpan:
    """Make a span under one that is not ours, or under one that is not sampled."""
    span_id = _random_bits(64) or 1
    if type(parent) is UnsampledSpan:
        return _unsampled(parent.trace_id, span_id, parent.flags, parent.state)
    context = parent.get_span_context() if isinstance(parent, Span) else None
    if not isinstance(context, SpanContext) or not context.is_valid:
        return _root(shape, _random_bits(128) or 1, SAMPLED_RANDOM)
    is_random = context.trace_flags & _RANDOM
    if not context.trace_flags.sampled:
        state = context.trace_state
        return _unsampled(context.trace_id, span_id, is_random, state)
    span = _new(RecordingSpan)
    span.trace_id = context.trace_id
    span.span_id = span_id
    span.parent_id = context.span_id
    span.parent_context = context
    span.flags = SAMPLED | is_random
    span.state = context.trace_state
    if context.is_remote:
        known_traces.add_local_root(span.get_span_context())
    return span


def _identified_by(
    offer: tuple[int, int], shape: SpanShape, parent: object
) -> RecordingSpan | UnsampledSpan:
    """Make a span with offered ids; a root takes both."""
    span = _identified(shape, parent)
    is_root = type(span) is RecordingSpan and span.parent is None
    if is_root or (type(span) is UnsampledSpan and not _has_trace(parent)):
        # How random its trace id is, nobody knows.
        span = _root(shape, offer[0], SAMPLED)
    span.span_id, span.own_context = offer[1], None
    return span


def _has_trace(parent: object) -> bool:
    return isinstance(parent, Span) and parent.get_span_context().is_valid


def _unsampled(
    trace_id: int, span_id: int, flags: int, state: TraceState
) -> UnsampledSpan:
    span = _new(UnsampledSpan)
    span.trace_id = trace_id
    span.span_id = span_id
    span.flags = flags
    span.state = state
    return span
