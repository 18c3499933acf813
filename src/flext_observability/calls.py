"""Calls of monitored functions: how they begin, and what is recorded at their end."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from logging import ERROR
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from . import runtime
from ._pipeline.current import leave, reset_current
from ._pipeline.interrupts import is_of_host
from ._pipeline.measurements import PENDING_LIMIT
from .constants import FlextObservabilityConstants as C
from .correlation import restore
from .failures import (
    Failure,
    error_type_of,
    failure_of_result,
    mark_failed,
    result_error_type,
)
from .operation import Operation
from .result import FlextResult

if TYPE_CHECKING:
    from .operation import OwnSpan


_clock_ns = time.perf_counter_ns
# Compared by identity; as a plain type it narrows nothing for type checkers.
_RESULT: type[object] = FlextResult
CallT = TypeVar("CallT", bound="Call")


def begin(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> "Call | CountedCall":
    """Start a call; one that no pipeline can take is only counted."""
    return _begin(Call, operation, args, kwargs)


def begin_steps(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> "SteppedCall | CountedCall":
    """Start the call of a generator, as :func:`begin` does others."""
    return _begin(SteppedCall, operation, args, kwargs)


def _begin(
    make: Callable[[Operation, Mapping[str, AnyValue]], CallT],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> "CallT | CountedCall":
    if not runtime.is_running():
        return CountedCall(operation)
    try:
        return make(operation, operation.captured(args, kwargs))
    except Exception:  # noqa: BLE001 - telemetry never stops the host's call
        return CountedCall(operation)


class CountedCall:
    """One call under way without a pipeline: a running clock."""

    __slots__ = ("_operation", "_started_ns")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._started_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """Do nothing: no span is made current."""

    def suspend(self) -> None:
        """Do nothing: no span is current."""

    def succeed(self, value: object = None) -> None:
        """Count a call that returned."""
        duration_ns = time.perf_counter_ns() - self._started_ns
        count_call(self._operation, duration_ns, result_error_type(value))

    def fail(self, error: BaseException) -> None:
        """Count a call that raised."""
        duration_ns = time.perf_counter_ns() - self._started_ns
        count_call(self._operation, duration_ns, error_type_of(error))


class Call:
    """One call under way: a current span and a running clock."""

    __slots__ = ("_attached", "_operation", "_span", "_started_ns", "_token")

    def __init__(
        self, operation: Operation, attributes: Mapping[str, AnyValue]
    ) -> None:
        self._operation = operation
        self._span = runtime.tracer().start_span(
            operation.name, kind=operation.kind, attributes=dict(attributes)
        )
        self._attached: Context | None = None
        self._token: object = None
        self._started_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """Make the span current."""
        self._attached = trace.set_span_in_context(self._span)
        self._token = attach(self._attached)

    def _leave(self) -> None:
        restore(self._token, self._attached)

    def succeed(self, value: object = None) -> None:
        """End a call that returned."""
        self._end(lambda: failure_of_result(value))

    def fail(self, error: BaseException) -> None:
        """End a call that raised."""
        self._end(lambda: Failure(error, None))

    def _end(self, judge: Callable[[], Failure | None]) -> None:
        # The clocks first: what recording costs is not the operation's time.
        duration_ns = time.perf_counter_ns() - self._started_ns
        ended_ns = time.time_ns()
        # Telemetry never stops the host's call, nor replaces its exception.
        with suppress(Exception):
            failure = judge()
            # The histogram may keep the span as an exemplar.
            self._operation.count(
                duration_ns,
                failure.error_type if failure else "",
                trace.set_span_in_context(self._span),
            )
            self._record(failure, duration_ns / 1e9)
        with suppress(Exception):
            self._span.end(ended_ns)
        self._leave()

    def _record(self, failure: Failure | None, duration_s: float) -> None:
        operation = self._operation
        if failure is not None:
            mark_failed(
                self._span, failure, record_exception=operation.record_exception
            )
        _log_outcome(operation, self._span, duration_s, failure)


class SteppedCall(Call):
    """The call of a generator, whose span is current only while the generator runs.

    Between its steps this one span is taken out of the current context. What else the
    generator attached belongs to the program and stays there: its caller may count on
    it, as the block of a context manager does. That takes no tokens, which would be of
    no use where another thread or task takes the next step.
    """

    __slots__ = (
        *("_before", "_inside", "_is_current", "_is_elsewhere", "_outside"),
        "_with_span",
    )

    def __init__(
        self, operation: Operation, attributes: Mapping[str, AnyValue]
    ) -> None:
        super().__init__(operation, attributes)
        # What is current in the generator and to its caller, as the last step left it.
        self._inside: Context = Context()
        self._outside: Context = self._inside
        # The context to which our span was added, and what that gave.
        self._before: Context = self._inside
        self._with_span: Context = self._inside
        # Whether our span is the current one inside; the program may have its own.
        self._is_current = True
        # Whether the caller's context knows nothing of what is current inside.
        self._is_elsewhere = False

    def resume(self) -> None:
        """Make current what was current when the last step ended."""
        current = get_current()
        if current is not self._outside:
            # Another thread or task takes the step. Where the program had a span of its
            # own current, that goes on, and the caller gets his whole context back.
            self._outside = current
            self._is_elsewhere = not self._is_current
            if self._is_current:
                self._before = current
                self._with_span = trace.set_span_in_context(self._span, current)
                self._inside = self._with_span
        attach(self._inside)

    def suspend(self) -> None:
        """Take the span out of the current context."""
        current = get_current()
        self._is_current = trace.get_current_span(current) is self._span
        if current is not self._inside and not self._is_elsewhere:
            self._outside = self._without_span(current)
        self._inside = current
        attach(self._outside)

    def _leave(self) -> None:
        self.suspend()

    def _without_span(self, context: Context) -> Context:
        if context is self._with_span:
            return self._before
        if not self._is_current:
            return context
        above = trace.get_current_span(self._before)
        context = trace.set_span_in_context(above, context)
        if above is not trace.INVALID_SPAN:
            return context
        return Context({k: v for k, v in context.items() if v is not above})


def finish(
    operation: Operation,
    span: "OwnSpan",
    token: Any,
    duration_ns: int,
    value: Any,
    error: BaseException | None = None,
) -> None:
    """End a call and its span; never raises.

    Args:
        operation: Of the call.
        span: Made by ``operation.start``.
        token: From there too.
        duration_ns: How long it took.
        value: What was returned.
        error: What was raised.
    """
    try:
        if error is None and type(value) is not _RESULT:
            series = operation.succeeded
            if duration_ns <= series.high:  # as in `series.add`, without the call
                pending = series.pending
                pending.append(duration_ns)
                if len(pending) > PENDING_LIMIT:
                    series.drain()
            else:  # inside the span, which the histogram may keep as an exemplar
                series.record(duration_ns)
        else:
            _note_outcome(operation, span, duration_ns, value, error)
    except Exception as trouble:  # telemetry never stops the host's call
        if error is None and is_of_host(trouble):
            raise
    finally:
        try:
            reset_current(token)
        except (TypeError, ValueError, RuntimeError):
            leave(token, span)
        if span.ended_ns is None:
            # By the clock that never steps; the wall clock told when it began.
            span.ended_ns = span.started_ns + duration_ns
            try:  # noqa: SIM105 - `suppress` would cost a sixth of the whole
                span.shape.tracing.take(span)
            except Exception:  # noqa: BLE001, S110 - nothing of ours raises here
                pass


def abandon(span: "OwnSpan", token: Any) -> None:
    """Let go of a call that a signal handler broke into by raising.

    The exception is the host's and goes on. Nothing is left to do where the call had
    come to its end.

    Args:
        span: Made by ``operation.start``.
        token: From there too.
    """
    if trace.get_current_span() is span:
        leave(token, span)
    span.end()


def _note_outcome(
    operation: Operation,
    span: Any,
    duration_ns: int,
    value: object,
    error: BaseException | None,
) -> None:
    # First of all: at the recursion limit hardly anything else is possible.
    error_type = result_error_type(value) if error is None else error_type_of(error)
    operation.count(duration_ns, error_type)
    failure = failure_of_result(value) if error is None else Failure(error, None)
    if failure is not None:
        mark_failed(
            span,
            failure,
            record_exception=operation.record_exception,
            moment_ns=span.started_ns + duration_ns,
        )
        _log_outcome(operation, span, duration_ns / 1e9, failure)


def call_otherwise(
    function: Callable[..., Any],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a function where a span, if any, is not our own."""
    call = begin(operation, args, kwargs)
    call.resume()
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    call.succeed(value)
    return value


def call_started(
    function: Callable[..., Any],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a function inside a span of our own, whatever that takes."""
    shape = operation.shape
    if shape is None:  # the pipeline has gone at this very moment
        return call_otherwise(function, operation, args, kwargs)
    try:
        span, token = operation.start(shape)
    except Exception as trouble:  # telemetry never stops the host's call
        if is_of_host(trouble):
            raise
        return call_otherwise(function, operation, args, kwargs)
    try:
        began_ns = _clock_ns()
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            finish(operation, span, token, _clock_ns() - began_ns, None, error)
            raise
        finish(operation, span, token, _clock_ns() - began_ns, value)
    except BaseException:
        if not span.ended_ns:  # a signal handler raised while we were at work
            abandon(span, token)
        raise
    return value


def count_call(operation: Operation, duration_ns: int, error_type: str) -> None:
    """Count a call, whether it failed or not; never raises."""
    with suppress(Exception):  # telemetry never stops the host's call
        operation.count(duration_ns, error_type)


def _log_outcome(
    operation: Operation, span: Span, duration_s: float, failure: Failure | None
) -> None:
    """Emit one log record, joined to the span: an error, or at DEBUG a success."""
    if failure is None and not _is_debug():
        return
    attributes: dict[str, AnyValue] = {
        C.ATTR_OPERATION_NAME: operation.name,
        C.ATTR_OPERATION_DURATION: duration_s,
    }
    if failure is None:
        body, event = f"{operation.name} completed", C.EVENT_OPERATION_COMPLETED
        _emit("DEBUG", body, attributes, event, span)
        return
    attributes[C.ATTR_ERROR_TYPE] = failure.error_type
    attributes[C.ATTR_ERROR_CATEGORY] = failure.category.value
    what, captured = failure.error_type, None
    if operation.record_exception:
        what, captured = f"{what}: {failure.message}", failure.captured
    body, event = f"{operation.name} failed: {what}", C.EVENT_OPERATION_FAILED
    lines = operation.lines
    if lines is not None and lines.has_room:
        lines.put_event(ERROR, body, attributes, event, captured, span)
    else:
        attributes |= {} if captured is None else captured.attributes()
        _emit("ERROR", body, attributes, event, span)


def _is_debug() -> bool:
    config = runtime.current_config()
    return config is not None and config.log_level == "DEBUG"


def _emit(
    level: str, body: str, attributes: dict[str, AnyValue], event: str, span: Span
) -> None:
    from opentelemetry._logs import SeverityNumber

    runtime.otel_logger().emit(
        timestamp=time.time_ns(),
        context=trace.set_span_in_context(span),
        severity_number=SeverityNumber[level],
        severity_text=level,
        body=body,
        attributes=attributes,
        event_name=event,
    )
