"""One monitored operation, and its calls under way."""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AnyValue

from . import runtime
from ._pipeline.measurements import Series
from ._pipeline.operations import OperationKey
from ._pipeline.values import (
    clean_attributes,
    clean_text,
    clean_value,
    legal_metric_name,
)
from .constants import FlextObservabilityConstants as C
from .correlation import restore
from .failures import (
    Failure,
    error_type_of,
    failure_of_result,
    mark_failed,
    result_error_type,
)
from .own_log import WARNING, say

_ERROR_TYPES = 100
_KINDS = {kind: SpanKind[kind.upper()] for kind in C.SPAN_KINDS}


class Operation:
    """What all calls of one decorated function share."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        *,
        metric_name: str | None,
        capture_args: Sequence[str],
        record_exception: bool,
        attributes: Mapping[str, Any] | None,
        kind: str,
    ) -> None:
        self.name = name or _short_name(function)
        self.metric_name = legal_metric_name(metric_name or C.METRIC_OPERATION_DURATION)
        self.record_exception = record_exception
        self.kind = span_kind(kind, self.name)
        self.attributes = {**_code_attributes(function), **clean_attributes(attributes)}
        self._capture = _names(capture_args)
        self._signature = _signature(function) if self._capture else None
        self.succeeded = self._series("")
        """The durations of calls that succeeded, in nanoseconds."""
        self._failed: dict[str, Series] = {}

    def begin(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "Call | CountedCall":
        """Start a call; one that no pipeline can take is only counted."""
        if not runtime.is_running():
            return CountedCall(self)
        try:
            attributes = self.attributes
            if self._signature is not None:
                attributes = {**attributes, **self._captured(args, kwargs)}
            return Call(self, attributes)
        except Exception:  # noqa: BLE001 - telemetry never stops the host's call
            return CountedCall(self)

    def count(
        self, duration_ns: int, error_type: str, context: Context | None = None
    ) -> None:
        """Count a call, in the totals of this process and on the histogram.

        Args:
            duration_ns: How long it took.
            error_type: Why it failed; empty when it succeeded.
            context: Holds its span, which may become an exemplar; the current one when
                not given.
        """
        series = self.failed(error_type) if error_type else self.succeeded
        series.add(duration_ns, context)

    def failed(self, error_type: str) -> Series:
        """Give the durations of calls that failed so, in nanoseconds."""
        series = self._failed.get(error_type)
        if series is None:
            if len(self._failed) >= _ERROR_TYPES:  # made at run time; start over
                self._failed.clear()
            series = self._failed[error_type] = self._series(error_type)
        return series

    def _series(self, error_type: str) -> Series:
        metric = self.metric_name
        return runtime.measurements.operation(
            OperationKey(metric, self.name, error_type),
            lambda: _histogram(metric),
            self._bounds_s,
        )

    def _bounds_s(self) -> Sequence[float]:
        config = runtime.current_config()
        if config is None or self.metric_name != C.METRIC_OPERATION_DURATION:
            return C.BUCKETS_S
        return config.histogram_buckets_s

    def _captured(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, AnyValue]:
        signature = cast("inspect.Signature", self._signature)
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError:
            return {}  # a wrong call; the function itself will say so
        bound.apply_defaults()
        return {
            f"{C.ATTR_ARGUMENT_PREFIX}{name}": clean_value(bound.arguments[name])
            for name in self._capture
            if name in bound.arguments
        }


def _names(names: object) -> tuple[str, ...]:
    """Take parameter names; what is none names no parameter."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, Iterable):
        return ()
    return tuple(n for n in cast("Iterable[object]", names) if isinstance(n, str))


def _short_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return clean_text(name).replace("<locals>.", "")


def span_kind(kind: str, operation: str) -> SpanKind:
    """Read a span kind; an unknown one is said once and taken as internal."""
    found = _KINDS.get(str(kind).lower())
    if found is None:
        say(
            WARNING,
            "operation %r: unknown span kind %r, taking 'internal'. Use one of %s.",
            operation,
            kind,
            ", ".join(C.SPAN_KINDS),
        )
        return SpanKind.INTERNAL
    return found


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # some built-in callables have none


def _code_attributes(function: Callable[..., Any]) -> dict[str, AnyValue]:
    """Where the function is written, by the ``code.*`` semantic conventions."""
    plain = inspect.unwrap(function)
    qualified = f"{getattr(plain, '__module__', '')}.{_qualname(plain)}".lstrip(".")
    found: dict[str, AnyValue] = {C.ATTR_CODE_FUNCTION_NAME: clean_text(qualified)}
    code = getattr(plain, "__code__", None)
    if code is not None:
        found[C.ATTR_CODE_FILE_PATH] = clean_text(code.co_filename)
        found[C.ATTR_CODE_LINE_NUMBER] = int(code.co_firstlineno)
    return found


def _qualname(function: object) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


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
        self._operation.count(duration_ns, result_error_type(value))

    def fail(self, error: BaseException) -> None:
        """Count a call that raised."""
        duration_ns = time.perf_counter_ns() - self._started_ns
        self._operation.count(duration_ns, error_type_of(error))


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
        _log_outcome(operation, duration_s, failure)


def _histogram(name: str) -> Any:
    return runtime.kept(
        f"histogram {name}",
        lambda: (
            runtime.meter_provider()
            .get_meter(C.SCOPE_NAME)
            .create_histogram(
                name,
                unit="s",
                description="Duration of monitored operations.",
                explicit_bucket_boundaries_advisory=list(C.BUCKETS_S),
            )
        ),
    )


def _log_outcome(
    operation: Operation, duration_s: float, failure: Failure | None
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
    what = failure.error_type
    if operation.record_exception:
        what = f"{what}: {failure.message}"
        attributes |= failure.exception()
    body = f"{operation.name} failed: {what}"
    _emit("ERROR", body, attributes, C.EVENT_OPERATION_FAILED)


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
