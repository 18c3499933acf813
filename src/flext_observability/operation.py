"""What all calls of one decorated function share."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from opentelemetry.context import Context
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
from .own_log import WARNING, say

if TYPE_CHECKING:
    from ._pipeline.log_lines import LineSink
    from ._pipeline.pipeline import Pipeline
    from ._pipeline.span_shape import SpanShape
    from ._pipeline.spans import RecordingSpan, UnsampledSpan
    from ._pipeline.tracing import Tracing

    OwnSpan = RecordingSpan | UnsampledSpan

Caller: TypeAlias = Callable[
    [Callable[..., Any], "Operation", tuple[Any, ...], dict[str, Any]], Any
]
"""Calls a function of an operation with arguments and keywords."""

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
        choose: "Callable[[Operation], Caller | None]",
    ) -> None:
        """Read what a decorator was given.

        Args:
            function: What is decorated.
            name: Of the operation; the function's own when not given.
            metric_name: Of the histogram, where it is another one.
            capture_args: Names of parameters that go on spans.
            record_exception: Whether messages and stacks are told.
            attributes: Of every span.
            kind: Of the spans.
            choose: Says how the function is called, at every exchange of the pipeline;
                ``None`` without one.
        """
        self._function = function
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
        self.shape: SpanShape | None = None
        """Of its spans, where the pipeline makes them our own way."""
        self.start: Callable[[SpanShape], tuple[OwnSpan, object]] = _not_started
        """Starts such a span and makes it current."""
        self._choose = choose
        self.call = choose(self)
        """Calls the function, as the pipeline of the moment has it done; ``None`` where
        there is none."""
        self.lines: LineSink | None = None
        """Takes what is logged about calls, where the pipeline has such a thing."""
        runtime.follow(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Who sends a decorated function by value (joblib does, out of a main module)
        # sends its operation too. The copy counts in the process that loads it.
        make = functools.partial(
            type(self),
            metric_name=self.metric_name,
            capture_args=self._capture,
            record_exception=self.record_exception,
            attributes=self.attributes,
            kind=self.kind.name,
            choose=self._choose,
        )
        return make, (self._function, self.name)

    def follow(self, pipeline: "Pipeline | None") -> None:
        """Take the pipeline of the moment, or none.

        Arguments and messages of successes are for :class:`Call`.
        """
        self.shape = None
        self.lines = None if pipeline is None else pipeline.lines
        tracing = None if pipeline is None else pipeline.tracing
        if pipeline is not None and tracing is not None and not self._capture:
            is_logging_all = pipeline.config.log_level == "DEBUG"
            if not is_logging_all:
                self._take_shape(tracing)
        self.call = self._choose(self)

    def _take_shape(self, tracing: "Tracing") -> None:
        from ._pipeline.span_start import own_shape, start_current

        self.start = start_current
        self.shape = own_shape(self.name, self.kind, self.attributes, tracing)

    def captured(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, AnyValue]:
        """Give the span attributes of a call: those of all, and its arguments."""
        if self._signature is None:
            return self.attributes
        return {**self.attributes, **self._arguments(args, kwargs)}

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

    def _arguments(
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


def _not_started(_: object) -> "tuple[OwnSpan, object]":
    raise RuntimeError("no pipeline has told how to start a span")


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
