"""Counters, histograms and gauges, to be made once and used everywhere."""

from collections.abc import Mapping
from typing import Any, Self, cast

from . import runtime
from ._pipeline.measured_instrument import TAKE_ALL, Instrument
from ._pipeline.measurements import PENDING_LIMIT, Series
from ._pipeline.values import clean_labels, clean_number, clean_text, legal_metric_name
from .constants import FlextObservabilityConstants as C
from .constants import buckets_for

# Labels of these types are themselves: what is equal is the same label.
_LABELS = frozenset({str, int, bool})
_LONG_LABELS = 1000


class _Instrument:
    """An OTel instrument with labels bound to it; never raises."""

    _kind: str
    _method: str
    _lowest: float = 0
    """The smallest value that is one."""

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = legal_metric_name(name)
        self.unit = clean_text(unit)[:63]  # the specification's limit
        self.description = clean_text(description)
        self._labels: dict[str, Any] = clean_labels(labels or {})
        self._instrument: Instrument | None = None
        self._series = _UNMADE

    def bind(self, **labels: Any) -> Self:
        """Give the same instrument with labels that every measurement carries.

        Args:
            **labels: Few distinct values each, such as a region or an outcome; every
                combination is a series of its own. What is unique per request belongs
                on a span.
        """
        bound = type(self)(self.name, self.unit, self.description)
        bound._labels = {**self._labels, **clean_labels(labels)}  # noqa: SLF001 - same class
        return bound

    def _measure(self, value: Any, labels: object) -> None:
        """Do what the fast path of an instrument leaves: labels, and everything odd."""
        given = cast("dict[str, Any] | None", labels)
        if type(given) is dict and (type(value) is int or type(value) is float):
            series = self._known(given)
            if series is not None and self._lowest <= value <= series.high:
                pending = series.pending
                pending.append(value)
                if len(pending) > PENDING_LIMIT:
                    series.drain()
                return
        self._measure_odd(value, labels)

    def _known(self, labels: dict[str, Any]) -> Series | None:
        """Give the series of labels that were measured before."""
        instrument = self._instrument
        if instrument is None:
            return None
        try:
            if self._labels:
                labels = {**self._labels, **labels}
            return instrument.series.get((*labels.items(), *map(type, labels.values())))
        except Exception:  # noqa: BLE001 - cannot be hashed, or changes meanwhile
            return None

    def _measure_odd(self, value: Any, labels: object) -> None:
        if not runtime.is_running():
            return
        number = clean_number(value)
        if number is None or number < self._lowest:
            runtime.state.refuse_measurement()
            return
        try:
            instrument = self._instrument or self._made()
            series = self._find(instrument, labels)
            if isinstance(series, Series):
                series.add(number)
            else:
                instrument.measure(number, series)
        except Exception:  # noqa: BLE001, S110 - telemetry never stops the host's call
            pass

    def _made(self) -> Instrument:
        key = (self._kind, self.name, self.unit, self.description)
        made = runtime.measurements.instrument(
            key, lambda: Instrument(self._method, self._make)
        )
        self._instrument = made
        return made

    def _make(self) -> Any:
        """Make the instrument at its first use; it follows every later pipeline."""
        meter = runtime.meter_provider().get_meter(C.SCOPE_NAME)
        options: dict[str, Any] = {}
        if self._kind == "histogram":
            bounds = list(buckets_for(self.unit))
            options["explicit_bucket_boundaries_advisory"] = bounds
        make = getattr(meter, f"create_{self._kind}")
        return make(self.name, unit=self.unit, description=self.description, **options)

    def _find(self, instrument: Instrument, labels: object) -> Series | dict[str, Any]:
        """Give the series of labels, or legal labels where there is none to be had."""
        if labels is None:
            found = _series_of(instrument, self._labels)
            if isinstance(found, Series):
                self._series = found
            return found
        return _series_of(instrument, {**self._labels, **clean_labels(labels)})

    def __repr__(self) -> str:
        """Show kind, name and unit."""
        return f"{type(self).__name__}({self.name!r}, unit={self.unit!r})"


def _key(labels: dict[str, Any]) -> tuple[object, ...]:
    """Tell labels apart as OTel does, to which True, 1 and 1.0 are three values."""
    return (*labels.items(), *map(type, labels.values()))


def _series_of(
    instrument: Instrument, labels: dict[str, Any]
) -> Series | dict[str, Any]:
    key = _key(labels)
    known: Series | None = instrument.series.get(key)
    if known is not None:
        return known
    # A full list starts over at the next collection; until then the SDK decides.
    if len(instrument.series) >= C.SERIES_LIMIT or not _is_short(labels):
        return labels
    made = runtime.measurements.series(instrument, labels)
    kept: Series = instrument.series.setdefault(key, made)
    return kept


def _is_short(labels: dict[str, Any]) -> bool:
    values = [*labels, *labels.values()]
    return (
        _LABELS.issuperset(map(type, values))
        and sum(len(value) for value in values if type(value) is str) < _LONG_LABELS
    )


class _Unmade:
    """Stands where the series will be; no value can be appended to it."""

    high = float("-inf")
    pending: list[float] = []  # noqa: RUF012 - it stays empty

    def drain(self) -> None:
        """Do nothing."""


_UNMADE: Any = _Unmade()
_LOWEST = -float(TAKE_ALL)


class FlextCounter(_Instrument):
    """A sum that only grows."""

    _kind = "counter"
    _method = "add"

    def add(
        self, amount: float = 1, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Add to the sum.

        Args:
            amount: Not negative; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        if attributes is None and (type(amount) is int or type(amount) is float):
            series = self._series
            if 0 <= amount <= series.high:
                pending = series.pending
                pending.append(amount)
                if len(pending) > PENDING_LIMIT:
                    series.drain()
                return
        self._measure(amount, attributes)


class FlextHistogram(_Instrument):
    """A distribution, in buckets that fit the unit."""

    _kind = "histogram"
    _method = "record"

    def record(self, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        """Record one value.

        Args:
            value: Not negative; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        if attributes is None and (type(value) is int or type(value) is float):
            series = self._series
            if 0 <= value <= series.high:
                pending = series.pending
                pending.append(value)
                if len(pending) > PENDING_LIMIT:
                    series.drain()
                return
        self._measure(value, attributes)


class FlextGauge(_Instrument):
    """A value that goes up and down; the last one counts."""

    _kind = "gauge"
    _method = "set"
    _lowest = float("-inf")

    def set(self, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        """Set the value.

        Args:
            value: A finite number; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        if attributes is None and (type(value) is int or type(value) is float):
            series = self._series
            if _LOWEST <= value <= series.high:
                pending = series.pending
                pending.append(value)
                if len(pending) > PENDING_LIMIT:
                    series.drain()
                return
        self._measure(value, attributes)


def flext_counter(name: str, *, unit: str = "", description: str = "") -> FlextCounter:
    """Make a counter.

    Args:
        name: Characters that OTel refuses become ``_``.
        unit: UCUM code such as ``By``, or ``{order}`` for things.
        description: What is counted.

    Example:
        >>> orders = flext_counter("shop.orders", unit="{order}")
        >>> orders.add(1, {"region": "eu"})
    """
    return FlextCounter(name, unit, description)


def flext_histogram(
    name: str, *, unit: str = "", description: str = ""
) -> FlextHistogram:
    """Make a histogram, with buckets for seconds, milliseconds or plain numbers.

    Args:
        name: Characters that OTel refuses become ``_``.
        unit: UCUM code; ``s`` and ``ms`` choose buckets of that scale.
        description: What is measured.
    """
    return FlextHistogram(name, unit, description)


def flext_gauge(name: str, *, unit: str = "", description: str = "") -> FlextGauge:
    """Make a gauge.

    Args:
        name: Characters that OTel refuses become ``_``.
        unit: UCUM code such as ``Cel``.
        description: What is measured.
    """
    return FlextGauge(name, unit, description)
