"""Spans around functions and blocks."""

import functools
import inspect
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from logging import getLogger
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from opentelemetry import trace
from opentelemetry.context import attach, get_current
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

from . import runtime
from ._pipeline.executors import MONITORED_MARK
from ._pipeline.operations import OperationKey
from ._pipeline.values import (
    clean_attributes,
    clean_text,
    clean_value,
    exception_attributes,
)
from .constants import ErrorCategory
from .constants import FlextObservabilityConstants as C
from .correlation import restore
from .result import FlextResult

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")

_logger = getLogger("flext_observability")
_KINDS = {kind: SpanKind[kind.upper()] for kind in C.SPAN_KINDS}


# -- what a failure is


def categorize(error: BaseException) -> ErrorCategory:
    """Give the coarse class of an exception, by type and, for libraries, by name."""
    for kinds, category in (
        (TimeoutError, ErrorCategory.TIMEOUT),
        (PermissionError, ErrorCategory.PERMISSION),
        (ConnectionError, ErrorCategory.CONNECTION),
    ):
        if isinstance(error, kinds):
            return category
    name = type(error).__name__
    for part, category in (
        ("Cancelled", ErrorCategory.CANCELLED),
        ("Timeout", ErrorCategory.TIMEOUT),
        ("Connect", ErrorCategory.CONNECTION),
        ("Permission", ErrorCategory.PERMISSION),
        ("Forbidden", ErrorCategory.PERMISSION),
        ("Unauthorized", ErrorCategory.PERMISSION),
    ):
        if part in name:
            return category
    is_validation = isinstance(error, ValueError | TypeError) or "Validation" in name
    return ErrorCategory.VALIDATION if is_validation else ErrorCategory.OTHER


class _Failure:
    """How a call failed: by an exception, or by returning a failed result."""

    __slots__ = ("_exception", "category", "error", "error_type", "message")

    def __init__(self, error: BaseException | None, result_error: str | None) -> None:
        self.error = error
        self._exception: dict[str, AnyValue] | None = None
        self.error_type = _error_type(error)
        self.category = ErrorCategory.OTHER if error is None else categorize(error)
        self.message = result_error or clean_text(error)

    def exception(self) -> dict[str, AnyValue]:
        """Give the ``exception.*`` attributes; a stack is formatted only once."""
        if self._exception is None:
            found = {} if self.error is None else exception_attributes(self.error)
            self._exception = found
        return self._exception


def _failure_of_result(value: object) -> _Failure | None:
    if isinstance(value, FlextResult):
        result = cast("FlextResult[object]", value)
        if result.is_failure:
            return _Failure(result.exception, result.error)
    return None


def _result_error_type(value: object) -> str:
    is_failed = isinstance(value, FlextResult) and value.is_failure
    error = cast("FlextResult[object]", value).exception if is_failed else None
    return _error_type(error) if is_failed else ""


def _error_type(error: BaseException | None) -> str:
    return "FlextResult" if error is None else type(error).__name__


def _mark_failed(span: Span, failure: _Failure, *, record_exception: bool) -> None:
    """Put a failure on a span; message and stack only where they are wanted."""
    span.set_attribute(C.ATTR_ERROR_TYPE, failure.error_type)
    span.set_attribute(C.ATTR_ERROR_CATEGORY, failure.category.value)
    description = failure.error_type
    if record_exception:
        description = f"{failure.error_type}: {failure.message}"
        if failure.error is not None:
            span.add_event("exception", failure.exception())
    span.set_status(Status(StatusCode.ERROR, description))


# -- one operation and its calls


class _Operation:
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
        self.kind = _kind(kind, self.name)
        self.attributes = {**_code_attributes(function), **clean_attributes(attributes)}
        self._capture = _names(capture_args)
        self._signature = _signature(function) if self._capture else None
        self.labels = {C.ATTR_OPERATION_NAME: self.name}
        self._succeeded = OperationKey(self.metric_name, self.name, "")

    def begin(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "_Call | _CountedCall":
        """Start a call; one that no pipeline can take is only counted."""
        if not runtime.is_running():
            return _CountedCall(self)
        try:
            attributes = self.attributes
            if self._signature is not None:
                attributes = {**attributes, **self._captured(args, kwargs)}
            return _Call(self, attributes)
        except Exception:  # noqa: BLE001 - telemetry never stops the host's call
            return _CountedCall(self)

    def count(self, duration_ns: int, error_type: str) -> None:
        """Add a call to the totals of this process."""
        key = self._succeeded
        if error_type:
            key = OperationKey(self.metric_name, self.name, error_type)
        runtime.operations.add(key, duration_ns, self._bounds_s)

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


def _kind(kind: str, operation: str) -> SpanKind:
    found = _KINDS.get(str(kind).lower())
    if found is None:
        _logger.warning(
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


def legal_metric_name(name: object) -> str:
    """Make a name OTel accepts: refused characters become ``_``, a letter comes first.

    https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
    """
    text = clean_text(name).strip()
    legal = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-./") else "_" for c in text
    )
    if not legal or not legal[0].isalpha():
        legal = f"m_{legal}"
    return legal[: C.METRIC_NAME_LENGTH_LIMIT]


class _CountedCall:
    """One call under way without a pipeline: a running clock."""

    __slots__ = ("_operation", "_started_ns")

    def __init__(self, operation: _Operation) -> None:
        self._operation = operation
        self._started_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """Do nothing: no span is made current."""

    def suspend(self) -> None:
        """Do nothing: no span is current."""

    def succeed(self, value: object = None) -> None:
        """Count a call that returned."""
        duration_ns = time.perf_counter_ns() - self._started_ns
        self._operation.count(duration_ns, _result_error_type(value))

    def fail(self, error: BaseException) -> None:
        """Count a call that raised."""
        duration_ns = time.perf_counter_ns() - self._started_ns
        self._operation.count(duration_ns, _error_type(error))


class _Call:
    """One call under way: a current span and a running clock."""

    __slots__ = ("_operation", "_span", "_started_ns", "_suspended", "_token")

    def __init__(
        self, operation: _Operation, attributes: Mapping[str, AnyValue]
    ) -> None:
        self._operation = operation
        self._span = runtime.tracer().start_span(
            operation.name, kind=operation.kind, attributes=dict(attributes)
        )
        self._suspended = trace.set_span_in_context(self._span)
        self._token: object = None
        self._started_ns = time.perf_counter_ns()

    def resume(self) -> None:
        """Make the span current, with what was current when the call was suspended."""
        self._token = attach(self._suspended)

    def suspend(self) -> None:
        """Give the caller back his context; keep ours for the next :meth:`resume`."""
        self._suspended = get_current()
        restore(self._token)

    def succeed(self, value: object = None) -> None:
        """End a call that returned."""
        self._end(_failure_of_result(value))

    def fail(self, error: BaseException) -> None:
        """End a call that raised."""
        self._end(_Failure(error, None))

    def _end(self, failure: _Failure | None) -> None:
        # The clocks first: what recording costs is not the operation's time.
        duration_ns = time.perf_counter_ns() - self._started_ns
        ended_ns = time.time_ns()
        try:
            self._operation.count(duration_ns, failure.error_type if failure else "")
            self._record(failure, duration_ns / 1e9)
        except Exception:  # noqa: BLE001, S110 - telemetry never stops the host's call
            pass
        finally:
            self._span.end(ended_ns)
            restore(self._token)

    def _record(self, failure: _Failure | None, duration_s: float) -> None:
        operation = self._operation
        labels = operation.labels
        if failure is not None:
            labels = {**labels, C.ATTR_ERROR_TYPE: failure.error_type}
            _mark_failed(
                self._span, failure, record_exception=operation.record_exception
            )
        # Inside the span, so that the histogram may keep it as an exemplar.
        _histogram(operation.metric_name).record(duration_s, labels)
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
    operation: _Operation, duration_s: float, failure: _Failure | None
) -> None:
    """Emit one log record, joined to the span: an error, or at DEBUG a success."""
    from opentelemetry._logs import SeverityNumber

    attributes: dict[str, AnyValue] = {
        C.ATTR_OPERATION_NAME: operation.name,
        C.ATTR_OPERATION_DURATION: duration_s,
    }
    if failure is None:
        config = runtime.current_config()
        if config is None or config.log_level != "DEBUG":
            return
        runtime.otel_logger().emit(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.DEBUG,
            severity_text="DEBUG",
            body=f"{operation.name} completed",
            attributes=attributes,
            event_name=C.EVENT_OPERATION_COMPLETED,
        )
        return
    attributes[C.ATTR_ERROR_TYPE] = failure.error_type
    attributes[C.ATTR_ERROR_CATEGORY] = failure.category.value
    what = failure.error_type
    if operation.record_exception:
        what = f"{what}: {failure.message}"
        attributes |= failure.exception()
    runtime.otel_logger().emit(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.ERROR,
        severity_text="ERROR",
        body=f"{operation.name} failed: {what}",
        attributes=attributes,
        event_name=C.EVENT_OPERATION_FAILED,
    )


# -- the decorator


@overload
def flext_monitor_function(operation_name: F, /) -> F: ...


@overload
def flext_monitor_function(
    operation_name: str | None = None,
    *,
    metric_name: str | None = None,
    capture_args: Sequence[str] = (),
    record_exception: bool = True,
    attributes: Mapping[str, Any] | None = None,
    kind: str = "internal",
) -> Callable[[F], F]: ...


def flext_monitor_function(
    operation_name: Any = None,
    *,
    metric_name: str | None = None,
    capture_args: Sequence[str] = (),
    record_exception: bool = True,
    attributes: Mapping[str, Any] | None = None,
    kind: str = "internal",
) -> Any:
    """Record every call of a function: a span, its duration, its outcome.

    Works on functions, coroutine functions, generators, async generators, methods,
    static and class methods, and keeps kind, signature and metadata. The value comes
    back unchanged, an exception is re-raised as the same object. The span of a
    generator lasts until the generator ends and is current only while it runs.

    Use it bare or with arguments: ``@flext_monitor_function``,
    ``@flext_monitor_function("place_order", kind="server")``.

    Args:
        operation_name: Name of span and metric label; the function's qualified name
            when not given.
        metric_name: Another name for the histogram ``flext.operation.duration``
            (seconds).
        capture_args: Names of parameters that go on the span as ``arg.<name>``.
        record_exception: Whether message and stack of an exception are recorded.
        attributes: Further span attributes; never on metrics.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            inner = cast("Callable[..., Any]", function.__func__)
            return type(cast("Any", function))(decorate(inner))
        operation = _Operation(
            function,
            None if is_bare or operation_name is None else clean_text(operation_name),
            metric_name=metric_name,
            capture_args=capture_args,
            record_exception=record_exception,
            attributes=attributes,
            kind=kind,
        )
        wrapper = _wrap(function, operation)
        setattr(wrapper, MONITORED_MARK, True)
        return wrapper

    is_bare = callable(operation_name) or isinstance(operation_name, classmethod)
    return decorate(operation_name) if is_bare else decorate


def _wrap(function: Callable[..., Any], operation: _Operation) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, operation)
    if inspect.iscoroutinefunction(function):
        return _wrap_coroutine(function, operation)
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, operation)
    return _wrap_function(function, operation)


def _wrap_function(
    function: Callable[..., Any], operation: _Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = operation.begin(args, kwargs)
        call.resume()
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed(value)
        return value

    return wrapper


def _wrap_coroutine(
    function: Callable[..., Any], operation: _Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = operation.begin(args, kwargs)
        call.resume()
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed(value)
        return value

    return wrapper


def _wrap_generator(
    function: Callable[..., Any], operation: _Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = operation.begin(args, kwargs)
        generator = function(*args, **kwargs)
        # What the caller did last: sent a value, threw an exception, or closed.
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            call.resume()
            try:
                item = step()
            except StopIteration as stop:
                call.succeed(stop.value)
                return stop.value
            except BaseException as error:
                call.fail(error)
                raise
            call.suspend()
            try:
                sent = yield item
            except GeneratorExit:
                _close(generator, call)
                raise
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the generator
                step = functools.partial(generator.throw, thrown)
            else:
                step = functools.partial(generator.send, sent)

    return wrapper


def _close(generator: Generator[Any, Any, Any], call: _Call | _CountedCall) -> None:
    """Close a generator early; a caller who has seen enough is no failure."""
    call.resume()
    try:
        generator.close()
    except BaseException as error:
        call.fail(error)
        raise
    call.succeed()


def _wrap_async_generator(
    function: Callable[..., Any], operation: _Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = operation.begin(args, kwargs)
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = generator.__anext__
        while True:
            call.resume()
            try:
                item = await step()
            except StopAsyncIteration:
                call.succeed()
                return
            except BaseException as error:
                call.fail(error)
                raise
            call.suspend()
            try:
                sent = yield item
            except GeneratorExit:
                await _aclose(generator, call)
                raise
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the generator
                step = functools.partial(generator.athrow, thrown)
            else:
                step = functools.partial(generator.asend, sent)

    return wrapper


async def _aclose(
    generator: AsyncGenerator[Any, Any], call: _Call | _CountedCall
) -> None:
    """Close an async generator early; a caller who has seen enough is no failure."""
    call.resume()
    try:
        await generator.aclose()
    except BaseException as error:
        call.fail(error)
        raise
    call.succeed()


# -- blocks


class FlextSpan:
    """A span around a block; its methods take any value and never raise.

    Made by :func:`flext_span`; a context manager, plain and async. Before setup, and
    where the sampler leaves the span out, all of it does nothing.
    """

    def __init__(
        self, name: str, attributes: Mapping[str, Any] | None, kind: str
    ) -> None:
        self._name = clean_text(name) or "span"
        self._attributes = clean_attributes(attributes)
        self._kind = _kind(kind, self._name)
        self._span: Span = trace.INVALID_SPAN
        self._token: object = None

    def __enter__(self) -> Self:
        """Start the span and make it current."""
        if runtime.is_running():
            try:
                self._span = runtime.tracer().start_span(
                    self._name, kind=self._kind, attributes=self._attributes
                )
                self._token = attach(trace.set_span_in_context(self._span))
            except Exception:  # noqa: BLE001 - telemetry never stops the host's block
                self._span = trace.INVALID_SPAN
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if self._token is None:
            return
        try:
            if error is not None and not isinstance(error, GeneratorExit):
                failure = _Failure(error, None)
                _mark_failed(self._span, failure, record_exception=True)
            self._span.end()
        except Exception:  # noqa: BLE001, S110 - telemetry never stops the host's block
            pass
        finally:
            restore(self._token)
            self._token = None

    async def __aenter__(self) -> Self:
        """Start the span and make it current."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        self.__exit__(kind, error, stack)

    @property
    def trace_id(self) -> str:
        """32 hex digits; all zero before setup."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits; all zero before setup."""
        return f"{self._span.get_span_context().span_id:016x}"

    def get_span_context(self) -> SpanContext:
        """Give the OTel span context."""
        return self._span.get_span_context()

    def is_recording(self) -> bool:
        """Whether anybody will see what is set here."""
        return self._span.is_recording()

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; any value is made legal."""
        if self._span.is_recording():
            self._span.set_attribute(clean_text(key), clean_value(value))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; any value is made legal."""
        _set_attributes(self._span, attributes)

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a moment to the span."""
        if self._span.is_recording():
            self._span.add_event(clean_text(name), clean_attributes(attributes))

    def record_exception(self, error: BaseException) -> None:
        """Add an exception that was handled inside; the status stays as it is."""
        if self._span.is_recording():
            self._span.add_event("exception", exception_attributes(error))

    def set_status(
        self, status: str | Status | StatusCode, description: str | None = None
    ) -> None:
        """Say how the block went; an exception that leaves it does so by itself.

        Args:
            status: ``"ok"`` or ``"error"``; OTel's own types work too.
            description: What went wrong; only kept with an error.
        """
        if isinstance(status, str):
            words = {"ok": StatusCode.OK, "error": StatusCode.ERROR}
            status = words.get(status.lower(), StatusCode.UNSET)
        if isinstance(status, StatusCode):
            is_error = status is StatusCode.ERROR and description is not None
            status = Status(status, clean_text(description) if is_error else None)
        if isinstance(status, Status):
            self._span.set_status(status)

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if self._span.is_recording():
            self._span.update_name(clean_text(name))


def _set_attributes(span: Span, attributes: object) -> None:
    if not span.is_recording():
        return
    for name, value in clean_attributes(attributes).items():
        span.set_attribute(name, value)


def flext_span(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: str = "internal",
) -> FlextSpan:
    """Make a span around a block: ``with`` or ``async with``.

    Args:
        name: Of the span.
        attributes: Any values.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.

    Example:
        >>> with flext_span("load", attributes={"rows": 3}) as span:
        ...     span.set_attribute("source", "cache")
    """
    return FlextSpan(name, attributes, kind)


def flext_add_attributes(**attributes: Any) -> None:
    """Put attributes on the current span; does nothing outside of one.

    Args:
        **attributes: Any values. For names that are no identifiers, use
            ``flext_add_attributes(**{"http.route": "/orders"})``.
    """
    _set_attributes(trace.get_current_span(), attributes)
