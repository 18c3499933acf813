"""The meter provider that OpenTelemetry is given once, its meters and instruments."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any, TypeVar

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import (
    CallbackT,
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.util.types import Attributes

from ..locks import ForkSafeLock
from ..own_log import WARNING, say
from .exchange import Exchangeable, follow
from .guards import (
    guarded_callback,
    legal_instrument,
    legal_labels,
    legal_measurement,
    legal_scope,
)
from .values import clean_number

# The API exports no public name for the synchronous gauge.
from opentelemetry.metrics import _Gauge as Gauge  # isort: skip

_NO_METER = metrics.NoOpMeter("none")
_MANY = 1000
_PLAIN = (str, bytes, int, float, bool)


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
        self._instruments: dict[tuple[object, ...], _Instrument] = {}
        self._meter: metrics.Meter | None = None

    def follow(self, provider: metrics.MeterProvider | None) -> None:
        """Take the meter of another provider, or none."""
        with self._lock:
            self._meter = (
                None if provider is None else provider.get_meter(*self._arguments)
            )
            for instrument in self._instruments.values():
                follow(instrument, self._meter)

    def _make(self, kind: type[I], **arguments: Any) -> I:
        # Equal instruments are one: code that makes its counter on every call must
        # not grow the process.
        arguments = legal_instrument(arguments)
        asked = arguments.get("callbacks")
        callbacks = _listed(asked)
        key = (
            kind.__name__,
            *(arguments[each] for each in ("name", "unit", "description")),
            _bounds(arguments.get("explicit_bucket_boundaries_advisory")),
            *map(_identity, callbacks),
        )
        with self._lock:
            known = self._instruments.get(key)
            if isinstance(known, kind):
                return known
            if asked is not None:
                arguments["callbacks"] = [
                    guarded_callback(callback, self._refuse) for callback in callbacks
                ]
            instrument = kind(arguments, self._refuse)
            stray = follow(instrument, self._meter)
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


def _listed(given: Any) -> list[Any]:
    """Give callbacks or bounds as a list; what is none is told, and lists nothing."""
    try:
        return list(islice(() if given is None else given, _MANY))
    except Exception:  # noqa: BLE001 - hostile __iter__
        kind = type(given).__name__
        say(WARNING, "an instrument wants a list of callbacks or bounds, no %s", kind)
        return []


def _bounds(advisory: Any) -> tuple[object, ...] | None:
    if advisory is None:
        return None
    return tuple(clean_number(bound) for bound in _listed(advisory))


def _identity(callback: Any) -> object:
    """Give what tells a callback apart from those that an instrument keeps alive.

    A method is another object each time it is asked for, and so may a partial be. No
    code of the program runs here, such as ``__eq__`` or ``__repr__``.
    """
    if type(callback) is MethodType:
        return id(callback.__self__), id(callback.__func__)
    if type(callback) is BuiltinMethodType:
        return id(callback.__self__), callback.__name__
    if type(callback) is partial:
        given = (*callback.args, *callback.keywords.values())
        function = _identity(callback.func)
        return (function, *callback.keywords, *map(_value_or_id, given))
    return id(callback)


def _value_or_id(given: object) -> object:
    return (type(given), given) if type(given) in _PLAIN else id(given)


class MeterProviderProxy(Exchangeable[metrics.MeterProvider], metrics.MeterProvider):
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
