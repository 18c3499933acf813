"""Counters, histograms and gauges, to be made once and used everywhere."""

from collections.abc import Mapping
from typing import Any, Self

from . import runtime
from ._pipeline.values import clean_labels, clean_number, clean_text, legal_metric_name
from .constants import FlextObservabilityConstants as C
from .constants import buckets_for


class _Instrument:
    """An OTel instrument with labels bound to it; never raises."""

    _kind: str
    _may_fall = False  # whether a negative value is one

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
        self._labels = clean_labels(labels or {})
        self._target: Any = None

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

    def _measure(
        self, method: str, value: object, labels: Mapping[str, Any] | None
    ) -> None:
        if not runtime.is_running():
            return
        number = clean_number(value)
        if number is None or (number < 0 and not self._may_fall):
            runtime.state.refuse_measurement()
            return
        try:
            all_labels = self._labels
            if labels:
                all_labels = {**all_labels, **clean_labels(labels)}
            if self._target is None:
                self._target = self._make()
            getattr(self._target, method)(number, all_labels)
        except Exception:  # noqa: BLE001, S110 - telemetry never stops the host's call
            pass

    def _make(self) -> Any:
        """Make the instrument at its first use; it follows every later pipeline."""
        meter = runtime.meter_provider().get_meter(C.SCOPE_NAME)
        options: dict[str, Any] = {}
        if self._kind == "histogram":
            bounds = list(buckets_for(self.unit))
            options["explicit_bucket_boundaries_advisory"] = bounds
        make = getattr(meter, f"create_{self._kind}")
        return make(self.name, unit=self.unit, description=self.description, **options)

    def __repr__(self) -> str:
        """Show kind, name and unit."""
        return f"{type(self).__name__}({self.name!r}, unit={self.unit!r})"


class FlextCounter(_Instrument):
    """A sum that only grows."""

    _kind = "counter"

    def add(
        self, amount: float = 1, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Add to the sum.

        Args:
            amount: Not negative; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        self._measure("add", amount, attributes)


class FlextHistogram(_Instrument):
    """A distribution, in buckets that fit the unit."""

    _kind = "histogram"

    def record(self, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        """Record one value.

        Args:
            value: Not negative; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        self._measure("record", value, attributes)


class FlextGauge(_Instrument):
    """A value that goes up and down; the last one counts."""

    _kind = "gauge"
    _may_fall = True

    def set(self, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        """Set the value.

        Args:
            value: A finite number; anything else is counted as dropped.
            attributes: Labels of this measurement.
        """
        self._measure("set", value, attributes)


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
