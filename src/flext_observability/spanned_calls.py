"""Calls of monitored functions that have a span of our own: the hot path, written out.

Loaded with the first pipeline. What ``start_current`` and ``finish`` do for any call
stands here once more for the usual one, in a single function: calling them would take
a tenth of the whole.
"""

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context

from ._pipeline.current import SPAN_KEY, leave, reset_current
from ._pipeline.ids import random_bits
from ._pipeline.interrupts import is_of_host
from ._pipeline.measurements import PENDING_LIMIT
from ._pipeline.span_start import (
    LOW_64_BITS,
    get_context_attributes,
    get_correlation_id,
    get_current,
    left_out,
    make_current,
    new_span,
    now_ns,
    remember_root,
    under_foreign,
)
from ._pipeline.spans import (
    SAMPLED_RANDOM,
    UNSAMPLED,
    USUAL,
    RecordingSpan,
    UnsampledSpan,
)
from .calls import abandon, call_started, finish
from .operation import Operation
from .result import FlextResult

_clock_ns = time.perf_counter_ns
# Compared by identity; as a plain type it narrows nothing for type checkers.
_RESULT: type[object] = FlextResult


def call_spanned(  # noqa: C901, PLR0912, PLR0915 - written out; see the module's text
    function: Callable[..., Any],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a function inside a span of its own, and count the call.

    Args:
        function: Of the program; what it raises passes through.
        operation: Of the function.
        args: Its arguments.
        kwargs: Its arguments.
    """
    shape = operation.shape
    current = get_current()
    parent = current.get(SPAN_KEY)
    if shape is None or get_context_attributes() is not None or shape.is_special:
        return call_started(function, operation, args, kwargs)
    # -- as in `start_current`
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
            left = new_span(UnsampledSpan)
            left.trace_id, left.heritage = trace_id, UNSAMPLED
            context = Context(
                {**current, SPAN_KEY: left} if current else {SPAN_KEY: left}
            )
            before = make_current(context)
            return call_counted(function, operation, args, kwargs, left, before)
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
            there = left_out(current, found.trace_id, found.heritage)
            return call_counted(function, operation, args, kwargs, *there)
        span = found
    span.shape = shape
    span.correlation_id = get_correlation_id()
    span.ended_ns = None
    context = Context({**current, SPAN_KEY: span} if current else {SPAN_KEY: span})
    token: object = None
    span.started_ns = now_ns()
    try:
        token = make_current(context)
        began_ns = _clock_ns()
        try:
            # Passing keywords on costs a dict, also where there are none.
            value: Any = function(*args, **kwargs) if kwargs else function(*args)
        except BaseException as error:
            finish(operation, span, token, _clock_ns() - began_ns, None, error)
            raise
        duration_ns = _clock_ns() - began_ns
        series = operation.succeeded
        pending = series.pending
        if (
            type(value) is _RESULT
            or duration_ns > series.high
            or len(pending) >= PENDING_LIMIT
        ):
            finish(operation, span, token, duration_ns, value)
            return value
        # -- as in `finish`
        pending.append(duration_ns)
        try:
            reset_current(token)
        except (ValueError, RuntimeError):
            leave(token, span)
        if span.ended_ns is None:
            span.ended_ns = span.started_ns + duration_ns
            try:
                shape.tracing.take(span)
            except Exception as trouble:  # telemetry never stops the host's call
                if is_of_host(trouble):
                    raise
    except BaseException:
        if span.ended_ns is None:  # a signal handler raised while we were at work
            if token is None:
                make_current(current)
            else:
                abandon(span, token)
        raise
    return value


def call_counted(
    function: Callable[..., Any],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    span: UnsampledSpan,
    token: object,
) -> Any:
    """Call a function whose span is left out by the sampler: the call still counts."""
    is_over = False
    try:
        began_ns = _clock_ns()
        try:
            value: Any = function(*args, **kwargs) if kwargs else function(*args)
        except BaseException as error:
            is_over = True
            finish(operation, span, token, _clock_ns() - began_ns, None, error)
            raise
        duration_ns = _clock_ns() - began_ns
        series = operation.succeeded
        pending = series.pending
        is_over = True
        if (
            type(value) is _RESULT
            or duration_ns > series.high
            or len(pending) >= PENDING_LIMIT
        ):
            finish(operation, span, token, duration_ns, value)
            return value
        pending.append(duration_ns)
        try:
            reset_current(token)
        except (ValueError, RuntimeError):
            leave(token, span)
    except BaseException:
        if not is_over:  # a signal handler raised while we were at work
            leave(token, span)
        raise
    return value
