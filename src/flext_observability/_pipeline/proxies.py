"""Providers that OpenTelemetry is given once, and whose inside can be exchanged.

The OTel API lets a process set its global providers a single time. These stay, and
pass everything on to the pipeline of the moment; tracers, instruments and loggers that
somebody obtained earlier follow. Without a pipeline they do nothing.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context, attach
from opentelemetry.metrics import (
    CallbackT,
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.util.types import Attributes

from ..constants import FlextObservabilityConstants as C
from ..correlation import restore
from ..locks import ForkSafeLock
from ..own_log import WARNING, say
from .guards import (
    guarded_callback,
    guarded_span,
    legal_attributes,
    legal_instrument,
    legal_labels,
    legal_links,
    legal_log_record,
    legal_measurement,
    legal_record,
    legal_scope,
    note_error,
)
from .span_start import start
from .spans import RecordingSpan, SpanShape
from .tracing import PipelineTracerProvider, Tracing
from .values import clean_attributes, clean_text, clean_value

# The API exports no public name for the synchronous gauge.
from opentelemetry.metrics import _Gauge as Gauge  # isort: skip

P = TypeVar("P")


_NO_TRACER = trace.NoOpTracer()
_NO_METER = metrics.NoOpMeter("none")
_NO_LOGGER = _logs.NoOpLogger("none")


class _Exchangeable(Generic[P]):
    """A provider around another one; what it gave out is told of every exchange."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._followers: WeakSet[Any] = WeakSet()
        self.inner: P | None = None

    def add(self, follower: Any) -> None:
        """Let a tracer, meter or logger follow."""
        with self._lock:
            self._followers.add(follower)
            _follow(follower, self.inner)

    def exchange(self, inner: P | None) -> None:
        """Put another provider, or none, in place of the inner one."""
        with self._lock:
            self.inner = inner
            for follower in list(self._followers):
                _follow(follower, inner)

    def __getattr__(self, name: str) -> Any:
        """Give what an SDK provider has beyond the API."""
        inner = self.__dict__.get("inner")
        if inner is None:
            message = f"{type(self).__name__} has no {name!r} before setup()"
            raise AttributeError(message)
        return getattr(inner, name)


def _follow(follower: Any, inner: Any) -> Exception | None:
    """Exchange one; what the SDK refuses, such as a bad name, does nothing.

    Returns:
        What was raised once only: by a signal handler of the host, so it is for him.
    """
    stray: Exception | None = None
    while True:
        try:
            follower.follow(inner)
        except Exception as error:  # noqa: BLE001 - the others must follow all the same
            if stray is not None:
                say(WARNING, "%s: %s", type(follower).__name__, error)
                follower.follow(None)
                return None
            stray = error
        else:
            return stray


class Awakening:
    """Stands in a forked child where a provider, tracer, instrument or logger was.

    The child's own pipeline is built when one of them is first used: most children
    (and every ``subprocess``) never do, and a fork handler is no place for that work.
    """

    def __init__(self, awake: Callable[[], Any]) -> None:
        """Prepare.

        Args:
            awake: Builds the child's pipeline and gives what stands here then.
        """
        self._awake = awake

    def get_tracer(self, *arguments: Any) -> Any:
        """Give a tracer that awakens when it is used."""
        return Awakening(lambda: self._awake().get_tracer(*arguments))

    def get_meter(self, *arguments: Any) -> Any:
        """Give a meter that awakens when it is used."""
        return Awakening(lambda: self._awake().get_meter(*arguments))

    def get_logger(self, *arguments: Any) -> Any:
        """Give a logger that awakens when it is used."""
        return Awakening(lambda: self._awake().get_logger(*arguments))

    def __getattr__(self, name: str) -> Any:
        """Awaken, except that making an instrument can wait until it is used."""
        if name.startswith("create_"):
            return partial(self._make_later, name)
        return getattr(self._awake(), name)

    def _make_later(self, make: str, **arguments: Any) -> "Awakening":
        return Awakening(lambda: getattr(self._awake(), make)(**arguments))


# -- traces


class TracerProxy(trace.Tracer):
    """A tracer that follows the pipeline of the moment."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._arguments = arguments
        self._tracer: trace.Tracer = _NO_TRACER
        self._tracing: Tracing | None = None
        self._scope = _scope(*arguments)
        self._shapes: dict[tuple[str, SpanKind], SpanShape] = {}

    def follow(self, provider: trace.TracerProvider | None) -> None:
        """Take the tracer of another provider, or none."""
        self._tracing = None
        self._tracer = (
            _NO_TRACER if provider is None else provider.get_tracer(*self._arguments)
        )
        if isinstance(provider, PipelineTracerProvider):
            self._tracing = provider.tracing
        # After that of what they are made for: see `start_span`.
        self._shapes = {}

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - signature of the API
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - same
    ) -> Span:
        """Start a span with the tracer of the moment; any values."""
        # The other way round, a shape of a former pipeline might stay for good.
        shapes, tracing = self._shapes, self._tracing
        if tracing is None:
            return self._start_sdk_span(
                *(name, context, kind, attributes, links, start_time),
                *(record_exception, set_status_on_exception),
            )
        try:
            shape = shapes.get((name, kind))
            if shape is None:
                shape = self._shape(tracing, name, kind, shapes)
            legal = legal_attributes(attributes) if attributes else None
            led = legal_links(links) if links else ()
            span = start(shape, context, legal, led, start_time)
        except Exception:  # noqa: BLE001 - whatever the values raise
            shape = self._shape(tracing, name, kind, shapes)
            legal, led = clean_attributes(attributes), legal_links(links)
            try:
                span = start(shape, context, legal, led, start_time)
            except Exception:  # noqa: BLE001 - the context is none
                span = start(shape, None, legal, led, start_time)
        if type(span) is RecordingSpan:
            if not record_exception:
                span.detailed().records_errors = False
            if not set_status_on_exception:
                span.detailed().marks_errors = False
        return span

    def _shape(
        self,
        tracing: Tracing,
        name: str,
        kind: SpanKind,
        shapes: dict[tuple[str, SpanKind], SpanShape],
    ) -> SpanShape:
        """Make what spans of one name share; names made at run time are not kept."""
        found: object = kind  # whatever the types say
        legal_kind = found if isinstance(found, SpanKind) else SpanKind.INTERNAL
        text = name if type(name) is str else clean_text(name)
        shape = SpanShape(text, legal_kind, None, self._scope, tracing)
        if text is not name or legal_kind is not kind:
            return shape  # what is none may not be hashable, or equal another name
        if len(text) <= C.SPAN_NAME_KEPT:
            if len(shapes) >= C.SPAN_NAMES_KEPT:
                shapes.clear()
            shapes[name, kind] = shape
        return shape

    def _start_sdk_span(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link] | None,
        start_time: int | None,
        record_exception: bool,  # noqa: FBT001 - as in the API
        set_status_on_exception: bool,  # noqa: FBT001 - as in the API
    ) -> Span:
        start_span = partial(
            self._tracer.start_span,
            name,
            context,
            kind,
            start_time=start_time,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )
        try:
            led = legal_links(links) if links else ()
            return guarded_span(
                start_span(attributes=legal_attributes(attributes), links=led)
            )
        except Exception:  # noqa: BLE001 - whatever the values raise
            legal = clean_attributes(attributes)
        try:
            return guarded_span(start_span(attributes=legal, links=legal_links(links)))
        except Exception as error:  # noqa: BLE001 - a sampler of the caller's
            say(WARNING, "no span can be started: %s", type(error).__name__)
            return trace.INVALID_SPAN

    def start_as_current_span(  # type: ignore[override]  # ours is no generator
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - signature of the API
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - same
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - same
    ) -> "CurrentSpan":
        """Start a span and make it current with the tracer of the moment.

        As a decorator it asks for that tracer at every call, as OTel's own proxy does.
        """
        return CurrentSpan(
            self,
            (
                *(name, context, kind, attributes, links, start_time),
                *(record_exception, set_status_on_exception),
            ),
            is_ending=end_on_exit,
        )

    def __getattr__(self, name: str) -> Any:
        """Give what an SDK tracer has beyond the API."""
        return getattr(self.__dict__["_tracer"], name)


class CurrentSpan:
    """What ``start_as_current_span`` gives: a context manager, and a decorator."""

    __slots__ = ("_arguments", "_ends", "_span", "_token", "_tracer")

    def __init__(
        self,
        tracer: TracerProxy,
        arguments: tuple[Any, ...],
        *,
        is_ending: bool,
    ) -> None:
        """Prepare.

        Args:
            tracer: Starts the span.
            arguments: All those of ``start_span``.
            is_ending: Whether leaving the block ends it.
        """
        self._tracer = tracer
        self._arguments = arguments
        self._ends = is_ending
        self._span: Span = trace.INVALID_SPAN
        self._token: object = None

    def __enter__(self) -> Span:
        """Start the span and make it current."""
        self._span = self._tracer.start_span(*self._arguments)
        self._token = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if isinstance(error, Exception):
            # The SDK's own would raise for an exception that has no text.
            is_recording, is_marking = self._arguments[-2:]
            note_error(self._span, error, record=is_recording, set_status=is_marking)
        restore(self._token)
        if self._ends:
            self._span.end()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: every call has a span of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    return await function(*args, **kwargs)

            return call_async

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                return function(*args, **kwargs)

        return call

    def _anew(self) -> "CurrentSpan":
        return CurrentSpan(self._tracer, self._arguments, is_ending=self._ends)


def _scope(
    name: str,
    version: str | None,
    schema_url: str | None,
    attributes: Attributes,
) -> InstrumentationScope:
    """Give the scope that the SDK makes of a tracer's arguments."""
    return InstrumentationScope(name or "", version or "", schema_url, attributes)


class TracerProviderProxy(_Exchangeable[trace.TracerProvider], trace.TracerProvider):
    """The process's tracer provider."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Give a tracer that follows the pipeline of the moment."""
        tracer = TracerProxy(
            legal_scope(
                instrumenting_module_name,
                instrumenting_library_version,
                schema_url,
                attributes,
            )
        )
        self.add(tracer)
        return tracer


# -- metrics


class _Instrument:
    """An instrument that follows; ``_target`` does the work."""

    _kind: str  # of the meter's `create_<kind>`
    _may_fall = True  # whether a negative amount is one

    def __init__(self, arguments: dict[str, Any], refuse: Callable[[], None]) -> None:
        self._arguments = arguments
        self._refuse = refuse
        self._target: Any = None

    @property
    def target(self) -> Any:
        """The instrument of the moment."""
        return self._target

    def follow(self, meter: metrics.Meter | None) -> None:
        """Take the instrument of another meter, or none."""
        self._target = getattr(meter or _NO_METER, f"create_{self._kind}")(
            **self._arguments
        )

    def _measure(
        self, method: str, amount: object, attributes: Any, context: Context | None
    ) -> None:
        """Hand a measurement on; one that is none is counted as refused."""
        number = legal_measurement(amount)
        if number is None or (number < 0 and not self._may_fall):
            self._refuse()
            return
        measure = getattr(self._target, method)
        try:
            measure(number, legal_labels(attributes), context)
        except Exception:  # noqa: BLE001 - a defect of a reader or a view
            self._refuse()


class CounterProxy(_Instrument, Counter):
    """A counter that follows."""

    _kind = "counter"
    _may_fall = False

    def add(
        self,
        amount: float,
        attributes: Attributes = None,
        context: Context | None = None,
    ) -> None:
        """Add with the instrument of the moment."""
        self._measure("add", amount, attributes, context)


class UpDownCounterProxy(_Instrument, UpDownCounter):
    """An up-down counter that follows."""

    _kind = "up_down_counter"

    def add(
        self,
        amount: float,
        attributes: Attributes = None,
        context: Context | None = None,
    ) -> None:
        """Add with the instrument of the moment."""
        self._measure("add", amount, attributes, context)


class HistogramProxy(_Instrument, Histogram):
    """A histogram that follows."""

    _kind = "histogram"
    _may_fall = False

    def record(
        self,
        amount: float,
        attributes: Attributes = None,
        context: Context | None = None,
    ) -> None:
        """Record with the instrument of the moment."""
        self._measure("record", amount, attributes, context)


class GaugeProxy(_Instrument, Gauge):
    """A gauge that follows."""

    _kind = "gauge"

    def set(
        self,
        amount: float,
        attributes: Attributes = None,
        context: Context | None = None,
    ) -> None:
        """Set with the instrument of the moment."""
        self._measure("set", amount, attributes, context)


class ObservableCounterProxy(_Instrument, ObservableCounter):
    """An observable counter that follows."""

    _kind = "observable_counter"


class ObservableUpDownCounterProxy(_Instrument, ObservableUpDownCounter):
    """An observable up-down counter that follows."""

    _kind = "observable_up_down_counter"


class ObservableGaugeProxy(_Instrument, ObservableGauge):
    """An observable gauge that follows."""

    _kind = "observable_gauge"


I = TypeVar("I", bound=_Instrument)  # noqa: E741 - an instrument


class MeterProxy(metrics.Meter):
    """A meter that follows the pipeline of the moment.

    It keeps its instruments: observable ones must be registered anew with every
    pipeline, and the SDK keeps instruments for good anyway.
    """

    def __init__(self, arguments: tuple[Any, ...], refuse: Callable[[], None]) -> None:
        super().__init__(*arguments[:3])
        self._arguments = arguments
        self._refuse = refuse
        self._lock = ForkSafeLock()
        self._instruments: dict[str, _Instrument] = {}
        self._meter: metrics.Meter | None = None

    def follow(self, provider: metrics.MeterProvider | None) -> None:
        """Take the meter of another provider, or none."""
        with self._lock:
            self._meter = (
                None if provider is None else provider.get_meter(*self._arguments)
            )
            for instrument in self._instruments.values():
                _follow(instrument, self._meter)

    def _make(self, kind: type[I], **arguments: Any) -> I:
        # Equal instruments are one: code that makes its counter on every call must
        # not grow the process.
        arguments = legal_instrument(arguments)
        key = f"{kind.__name__}{arguments}"
        with self._lock:
            known = self._instruments.get(key)
            if isinstance(known, kind):
                return known
            callbacks = arguments.get("callbacks")
            if callbacks is not None:
                arguments["callbacks"] = [
                    guarded_callback(callback, self._refuse) for callback in callbacks
                ]
            instrument = kind(arguments, self._refuse)
            stray = _follow(instrument, self._meter)
            self._instruments[key] = instrument
        if stray is not None:
            raise stray
        return instrument

    def create_counter(
        self, name: str, unit: str = "", description: str = ""
    ) -> Counter:
        """Make a counter."""
        return self._make(CounterProxy, name=name, unit=unit, description=description)

    def create_up_down_counter(
        self, name: str, unit: str = "", description: str = ""
    ) -> UpDownCounter:
        """Make an up-down counter."""
        return self._make(
            UpDownCounterProxy, name=name, unit=unit, description=description
        )

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        """Make a histogram."""
        return self._make(
            HistogramProxy,
            name=name,
            unit=unit,
            description=description,
            explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory,
        )

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        """Make a gauge."""
        return self._make(GaugeProxy, name=name, unit=unit, description=description)

    def create_observable_counter(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableCounter:
        """Make an observable counter."""
        return self._make(
            ObservableCounterProxy,
            name=name,
            callbacks=callbacks,
            unit=unit,
            description=description,
        )

    def create_observable_up_down_counter(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableUpDownCounter:
        """Make an observable up-down counter."""
        return self._make(
            ObservableUpDownCounterProxy,
            name=name,
            callbacks=callbacks,
            unit=unit,
            description=description,
        )

    def create_observable_gauge(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableGauge:
        """Make an observable gauge."""
        return self._make(
            ObservableGaugeProxy,
            name=name,
            callbacks=callbacks,
            unit=unit,
            description=description,
        )


class MeterProviderProxy(_Exchangeable[metrics.MeterProvider], metrics.MeterProvider):
    """The process's meter provider; equal meters are one, as in the SDK."""

    def __init__(self, refuse: Callable[[], None]) -> None:
        """Prepare.

        Args:
            refuse: Told of every measurement that is none.
        """
        super().__init__()
        self._refuse = refuse
        self._meters: dict[str, MeterProxy] = {}

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> metrics.Meter:
        """Give a meter that follows the pipeline of the moment."""
        arguments = legal_scope(name, version, schema_url, attributes)
        key = repr(arguments)
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters.setdefault(key, MeterProxy(arguments, self._refuse))
            self.add(meter)
        return meter


# -- logs


class LoggerProxy(_logs.Logger):
    """A logger that follows the pipeline of the moment."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        super().__init__(*arguments)
        self._arguments = arguments
        self._logger: _logs.Logger = _NO_LOGGER

    def follow(self, provider: _logs.LoggerProvider | None) -> None:
        """Take the logger of another provider, or none."""
        self._logger = (
            _NO_LOGGER if provider is None else provider.get_logger(*self._arguments)
        )

    def emit(self, record: Any = None, **kwargs: Any) -> None:
        """Emit with the logger of the moment; any values."""
        body = kwargs.get("body")
        if body is not None and type(body) is not str:
            kwargs["body"] = clean_value(body)  # a copy: the program may go on with it
        try:
            if "attributes" in kwargs:
                kwargs["attributes"] = legal_attributes(kwargs["attributes"])
            if isinstance(record, _logs.LogRecord):
                record = legal_log_record(record)
            self._logger.emit(record, **kwargs)
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                self._logger.emit(*legal_record(record, kwargs), **kwargs)

    def enabled(self, **kwargs: Any) -> bool:
        """Whether the logger of the moment takes such records."""
        return self._logger.enabled(**kwargs)


class LoggerProviderProxy(_Exchangeable[_logs.LoggerProvider], _logs.LoggerProvider):
    """The process's logger provider."""

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> _logs.Logger:
        """Give a logger that follows the pipeline of the moment."""
        logger = LoggerProxy(legal_scope(name, version, schema_url, attributes))
        self.add(logger)
        return logger
