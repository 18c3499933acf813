"""The meter provider that OpenTelemetry is given once, its meters and instruments."""

from collections.abc import Callable, Sequence
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
from .exchange import Exchangeable, follow
from .guards import (
    guarded_callback,
    legal_instrument,
    legal_labels,
    legal_measurement,
    legal_scope,
)

# The API exports no public name for the synchronous gauge.
from opentelemetry.metrics import _Gauge as Gauge  # isort: skip

_NO_METER = metrics.NoOpMeter("none")


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
                follow(instrument, self._meter)

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
