"""Totals of recorded metrics, per series: name, type and tags."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal
from math import inf
from typing import NamedTuple

from .._pipeline.totals import Distribution, LatestSeries
from ..constants import buckets_for
from ..entities import FlextMetric
from ..locks import ForkSafeLock
from .exposition import Buckets, Row

# Wide enough for any sum of amounts; the default context keeps 28 digits only.
_EXACT = Context(prec=1000)


class SeriesKey(NamedTuple):
    """What makes two metrics belong to one series."""

    name: str
    metric_type: str
    tags: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Series:
    """The state of one series."""

    key: SeriesKey
    unit: str
    began_ns: int
    """On the monotonic clock: orders series by age."""
    value: float | Decimal = 0.0
    """Gauge: the last value; counter: the sum, exact while all are Decimal."""
    distribution: Distribution | None = None
    """Of a histogram."""

    def add(self, metric: FlextMetric) -> None:
        """Count a metric."""
        if self.distribution is not None:
            self.distribution.add(float(metric.value))
        elif metric.metric_type == "counter":
            self.value = added(self.value, metric.value)
        else:
            self.value = metric.value


def added(left: float | Decimal, right: float | Decimal) -> float | Decimal:
    """Add two amounts, exactly when both are Decimal."""
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return _EXACT.add(left, right)
    return float(left) + float(right)


def _begin(key: SeriesKey, metric: FlextMetric) -> Series:
    series = Series(key, metric.unit, time.monotonic_ns())
    if metric.metric_type == "histogram":
        series.distribution = Distribution(buckets_for(metric.unit))
    elif isinstance(metric.value, Decimal):
        series.value = Decimal(0)
    return series


class _Counted:
    """The mark of what was counted between two resets."""


class MetricTotals:
    """What the metrics services on one container counted; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self.version = 0
        """Another one after every change."""
        self.page: tuple[object, str] = (None, "")
        """The last page of text, and what it shows."""
        self.bounds: tuple[int, int] | None = None
        """Limit and kept count of the store, where a service named its own."""
        self.clear()
        self._started = time.monotonic()

    def clear(self) -> None:
        """Forget everything that was counted."""
        with self._lock:
            self.version += 1
            self._mark = _Counted()
            self._series: LatestSeries[SeriesKey, Series] = LatestSeries()
            self.recorded = 0

    def add(self, metric: FlextMetric) -> Series | None:
        """Count a valid metric; not again when it or a copy was counted here before.

        Returns:
            Its series, ``None`` when it was not counted.
        """
        key = SeriesKey(
            metric.name, metric.metric_type, tuple(sorted(metric.tags.items()))
        )
        with self._lock:
            if not metric.emission().take(self._mark):
                return None
            series = self._series.latest(key)
            if series is None:
                series = self._series.add(key, _begin(key, metric))
            series.add(metric)
            self.recorded += 1
            self.version += 1
            return series

    def rows(self) -> list[Row]:
        """Give every series as it is now, the least recently updated first."""
        with self._lock:
            return [_row(key, series) for key, series in self._series.items()]

    @property
    def dropped(self) -> int:
        """Series that had to go because there were too many."""
        return self._series.dropped

    @property
    def uptime_s(self) -> float:
        """Seconds since the first service was built on the container."""
        return time.monotonic() - self._started

    def value_of(self, name: str) -> float | None:
        """Give gauge: last, counter: sum, histogram: mean; ``None`` when unknown.

        Args:
            name: Of the metric. Where it was recorded with several types, the one
                recorded last counts.
        """
        with self._lock:
            found = [(k, s) for k, s in self._series.items() if k.name == name]
            if not found:
                return None
            last_key, last = found[-1]
            same = [s for k, s in found if k.metric_type == last_key.metric_type]
            if last_key.metric_type == "histogram":
                return figures_of(same)["mean"]
            if last_key.metric_type == "counter":
                return float(sum_of(same))
            return float(last.value)

    def summary(self) -> dict[str, object]:
        """Give totals by type and name, all tags together."""
        with self._lock:
            series = self._series.items()
            by_type: dict[str, dict[str, list[Series]]] = {
                "gauge": {},
                "counter": {},
                "histogram": {},
            }
            for key, each in series:
                by_type[key.metric_type].setdefault(key.name, []).append(each)
            return {
                "service_info": {
                    "uptime_seconds": self.uptime_s,
                    "metrics_recorded": self.recorded,
                    "unique_metrics": len({key.name for key, _ in series}),
                    "series_dropped": self.dropped,
                },
                "counters": {n: sum_of(s) for n, s in by_type["counter"].items()},
                "gauges": {n: s[-1].value for n, s in by_type["gauge"].items()},
                "histograms": {
                    n: figures_of(s) for n, s in by_type["histogram"].items()
                },
            }


def _row(key: SeriesKey, series: Series) -> Row:
    value: float | Buckets = float(series.value)
    if series.distribution is not None:
        total = float(series.distribution.sum)
        value = Buckets(series.distribution.cumulative(), total)
    tags = dict(key.tags)
    return Row(key.name, key.metric_type, tags, value, series.began_ns, series.unit)


def sum_of(series: Iterable[Series]) -> float | Decimal:
    """Add the sums of counters, exactly when all are Decimal."""
    first, *others = [each.value for each in series]
    for value in others:
        first = added(first, value)
    return first


def figures_of(series: Iterable[Series]) -> dict[str, float]:
    """Give count, sum, extremes and mean of histograms together."""
    parts = [each.distribution for each in series if each.distribution is not None]
    count = sum(part.count for part in parts)
    total = sum(part.sum for part in parts)
    return {
        "count": count,
        "sum": total,
        "min": min((part.low for part in parts), default=inf),
        "max": max((part.high for part in parts), default=-inf),
        "mean": total / count if count else 0.0,
    }
