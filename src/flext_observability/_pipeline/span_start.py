"""How our own spans start: the ids, the parent, what the context says."""

import os
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

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
from opentelemetry.util.types import AnyValue, Attributes

from ..constants import FlextObservabilityConstants as C
from ..correlation import attributes_variable, correlation_id_variable
from ..own_log import WARNING, say
from ..traceparent import known_traces
from .current import CONTEXT_VARIABLE, SPAN_KEY, is_known
from .ids import random_bits, take_offer
from .record_parts import legal_time
from .span_shape import SpanShape
from .spans import (
    NO_STATE,
    SAMPLED,
    SAMPLED_RANDOM,
    UNSAMPLED,
    USUAL,
    Heritage,
    RecordingSpan,
    UnsampledSpan,
    unread_properties,
)
from .tracing import Tracing

Parts = tuple[int, int, bool, TraceFlags, TraceState, bool]
"""What a context is made of."""
_OWN_SCOPE = InstrumentationScope(C.SCOPE_NAME, "")
_RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
LOW_64_BITS = (1 << 64) - 1
_INTERNAL_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_RUNTIME_CONTEXT = "OTEL_PYTHON_CONTEXT"
_USUAL_CONTEXTS = {"", "contextvars_context"}

# What a start is made of, by the shortest names that do it.
_variable = cast("ContextVar[Context]", CONTEXT_VARIABLE)
get_current = _variable.get if is_known() else Context
make_current = _variable.set if is_known() else Context
get_correlation_id = correlation_id_variable.get
get_context_attributes = attributes_variable.get
remember_root = known_traces.roots.append
new_span = object.__new__
now_ns = time.time_ns


def is_possible() -> bool:
    """Whether this process, and this release of the SDK, allow for spans of our own.

    Where the SDK has changed, so that it was not the user's choice, that is said once.
    """
    counts_itself = os.environ.get(_INTERNAL_METRICS, "").strip().lower() == "true"
    has_foreign_context = (
        os.environ.get(_RUNTIME_CONTEXT, "").strip() not in _USUAL_CONTEXTS
    )
    if counts_itself or (has_foreign_context and not is_known()):
        return False
    change = _change()
    if change:
        _explain(change)
    return not change


def _change() -> str:
    """Say in which way OpenTelemetry is not what our spans are built on."""
    if not is_known():
        return "the current context is kept in another way"
    unread = unread_properties()
    if unread:
        return f"spans have more to say ({', '.join(sorted(unread))})"
    # A context is a tuple, and is read as one.
    parts = (1, 2, True, TraceFlags(3), NO_STATE)
    if tuple(SpanContext(*parts)) != (*parts, True):
        return "span contexts are made of other parts"
    return ""


@cache
def _explain(change: str) -> None:
    say(
        WARNING,
        "OpenTelemetry has changed: %s. Spans are made by its SDK, which is correct "
        "and slower; a newer flext-observability may know this release.",
        change,
    )


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

    What :func:`start` does by several functions is written out here for the usual
    case, since the calls would take as long as all the rest.

    Args:
        shape: What it shares with others.

    Returns:
        The span, and the token that restores what was current.
    """
    current = get_current()
    parent = current.get(SPAN_KEY)
    if type(parent) is RecordingSpan:
        span = new_span(RecordingSpan)
        span.trace_id = parent.trace_id
        span.span_id = random_bits(64) or 1
        span.parent_id = parent.span_id
        span.heritage = parent.heritage
        span.detail = None
    elif parent is None:
        trace_id = random_bits(128) or 1
        if not shape.takes_all and trace_id & LOW_64_BITS >= shape.tracing.bound:
            return left_out(current, trace_id, UNSAMPLED)
        span = new_span(RecordingSpan)
        span.trace_id = trace_id
        span.span_id = span_id = random_bits(64) or 1
        span.parent_id = 0
        span.heritage = USUAL
        span.detail = None
        remember_root((trace_id, span_id, SAMPLED_RANDOM))
    else:
        found = under_foreign(shape, parent)
        if type(found) is not RecordingSpan:
            return left_out(current, found.trace_id, found.heritage)
        span = found
    span.shape = shape
    span.correlation_id = get_correlation_id()
    stated = get_context_attributes()
    if stated is not None or not shape.has_room:
        _stamp(span, stated)
    context = Context({**current, SPAN_KEY: span} if current else {SPAN_KEY: span})
    span.ended_ns = None
    span.started_ns = now_ns()
    if shape.tracing.has_processors:  # to them, its parent is current
        shape.tracing.started(span, None)
    try:
        token = make_current(context)
    except BaseException:  # of a signal handler: nobody else knows of the switch
        make_current(current)
        raise
    return span, token


def left_out(
    current: Context, trace_id: int, heritage: Heritage
) -> tuple[UnsampledSpan, object]:
    """Make a span current that is not sampled."""
    span = new_span(UnsampledSpan)
    span.trace_id = trace_id
    span.heritage = heritage
    context = Context({**current, SPAN_KEY: span} if current else {SPAN_KEY: span})
    return span, make_current(context)


def start_current_with(
    shape: SpanShape, attributes: Attributes
) -> tuple[RecordingSpan | UnsampledSpan, object]:
    """Start a span with attributes of its own and make it current."""
    span = start(shape, None, attributes)
    return span, make_current(Context({**get_current(), SPAN_KEY: span}))


def _stamp(span: RecordingSpan, stated: Mapping[str, AnyValue] | None) -> None:
    """Put on a span, as attributes of its own, what the context says."""
    correlation_id, span.correlation_id = span.correlation_id, ""
    if correlation_id:
        span.put_attribute(C.ATTR_CORRELATION_ID, correlation_id)
    if stated:
        span.add_missing(stated)


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
    parent = (get_current() if context is None else context).get(SPAN_KEY)
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
        span.started_ns = legal_time(start_time) or 0
    if shape.tracing.has_processors:
        shape.tracing.started(span, context)
    return span


def _dress(span: RecordingSpan, shape: SpanShape, attributes: Attributes) -> None:
    """Put on a new span what its shape, its starter and the context say."""
    span.shape = shape
    span.ended_ns = None
    span.correlation_id = ""
    if attributes:
        span.begin_with(attributes)
    span.correlation_id = get_correlation_id()
    stated = get_context_attributes()
    if attributes or stated is not None or not shape.has_room:
        _stamp(span, stated)
    span.started_ns = now_ns()


def _identified(shape: SpanShape, parent: object) -> RecordingSpan | UnsampledSpan:
    """Make a span with ids, under whatever the context holds as its span."""
    if type(parent) is not RecordingSpan:
        return under_foreign(shape, parent)
    span = new_span(RecordingSpan)
    span.trace_id = parent.trace_id
    span.span_id = random_bits(64) or 1
    span.parent_id = parent.span_id
    span.heritage = parent.heritage
    span.detail = None
    return span


def _root(shape: SpanShape, trace_id: int, flags: int) -> RecordingSpan | UnsampledSpan:
    """Make a span without a parent, if it is sampled."""
    if trace_id & LOW_64_BITS >= shape.tracing.bound:
        return _unsampled(trace_id, (flags & _RANDOM, NO_STATE))
    span = new_span(RecordingSpan)
    span.trace_id = trace_id
    span.span_id = span_id = random_bits(64) or 1
    span.parent_id = 0
    span.heritage = USUAL if flags == SAMPLED_RANDOM else (flags, NO_STATE)
    span.detail = None
    remember_root((trace_id, span_id, flags))
    return span


def under_foreign(shape: SpanShape, parent: object) -> RecordingSpan | UnsampledSpan:
    """Make a span under one that is not ours, or not sampled, or under none."""
    if type(parent) is UnsampledSpan:
        return _unsampled(parent.trace_id, parent.heritage)
    kind = type(parent)
    above: Any = parent
    # As `get_current_span` has it; asking for an abstract class takes long.
    is_span = _is_span.get(kind) or _learn(kind)
    context: object = above.get_span_context() if is_span else None
    if type(context) is not SpanContext:
        return _root(shape, random_bits(128) or 1, SAMPLED_RANDOM)
    parts: Parts = context  # a tuple, whose properties would cost a call each
    trace_id, parent_id, is_remote, flags, state, is_valid = parts
    if not is_valid:
        return _root(shape, random_bits(128) or 1, SAMPLED_RANDOM)
    is_usual = flags == SAMPLED_RANDOM and state is NO_STATE
    if not is_usual and not flags & SAMPLED:
        return _unsampled(trace_id, (flags & _RANDOM, state))
    span = new_span(RecordingSpan)
    span.trace_id = trace_id
    span.span_id = random_bits(64) or 1
    span.parent_id = parent_id
    span.parent_context = context
    span.detail = None
    span.heritage = USUAL if is_usual else (SAMPLED | flags & _RANDOM, state)
    if is_remote:
        span.detailed().is_parent_remote = True
        known_traces.add_local_root(span.get_span_context())
    return span


# Classes of what contexts held as their span; there are few.
_is_span: dict[type, bool] = {}
_CLASSES_KEPT = 1000


def _learn(kind: type) -> bool:
    if len(_is_span) >= _CLASSES_KEPT:
        _is_span.clear()
    return _is_span.setdefault(kind, issubclass(kind, Span))


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
    context: object = parent.get_span_context() if isinstance(parent, Span) else None
    return type(context) is SpanContext and context.is_valid


def _unsampled(trace_id: int, heritage: Heritage) -> UnsampledSpan:
    span = new_span(UnsampledSpan)
    span.trace_id = trace_id
    span.heritage = heritage
    return span
