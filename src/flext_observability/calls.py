"""Calls of monitored functions: how they begin, and what is recorded at their end."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from logging import ERROR
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import attach, get_current
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


def begin(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> "Call | CountedCall":
    """Start a call; one that no pipeline can take is only counted."""
    if not runtime.is_running():
        return CountedCall(operation)
    try:
        return Call(operation, operation.captured(args, kwargs))
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

    __slots__ = (
        "_attached",
        "_operation",
        "_span",
        "_started_ns",
        "_suspended",
        "_token",
    )

    def __init__(
        self, operation: Operation, attributes: Mapping[str, AnyValue]
    ) -> None:
        self._operation = operation
        self._span = runtime.tracer().start_span(
            operation.name, kind=operation.kind, attributes=dict(attributes)
        )
        self._suspended = trace.set_span_in_context(self._span)
        self._attached = self._suspended
        self._token: object = None
        self._started_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """Make the span current, with what was current when the call was suspended."""
        self._attached = self._suspended
        self._token = attach(self._attached)

    def suspend(self) -> None:
        """Give the caller back his context; keep ours for the next :meth:`resume`."""
        self._suspended = get_current()
        restore(self._token, self._suspended)

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
            # Inside the span, which the histogram may keep as an exemplar.
            self._operation.count(duration_ns, failure.error_type if failure else "")
            self._record(failure, duration_ns / 1e9)
        with suppress(Exception):
            self._span.end(ended_ns)
        restore(self._token, self._attached)

    def _record(self, failure: Failure | None, duration_s: float) -> None:
        operation = self._operation
        if failure is not None:
            mark_failed(
                self._span, failure, record_exception=operation.record_exception
            )
        _log_outcome(operation, self._span, duration_s, failure)


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
        _emit("DEBUG", body, attributes, event)
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
        _emit("ERROR", body, attributes, event)


def _is_debug() -> bool:
    config = runtime.current_config()
    return config is not None and config.log_level == "DEBUG"


def _emit(level: str, body: str, attributes: dict[str, AnyValue], event: str) -> None:
    from opentelemetry._logs import SeverityNumber

    runtime.otel_logger().emit(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber[level],
        severity_text=level,
        body=body,
        attributes=attributes,
        event_name=event,
    )
