"""Metric points as series: several exports folded into one state, and its text."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import add
from typing import Final, NamedTuple

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    SummaryDataPoint,
)

from .readable import attributes_text, duration_text, number_text, service_name

_SECOND: Final = 1_000_000_000


class SeriesKey(NamedTuple):
    """What makes two points belong to one series; also the order of printing."""

    name: str
    attributes: str
    """As shown, so possibly shortened."""
    identity: bytes
    """Resource, scope and attributes in full."""


@dataclass(slots=True)
class Series:
    """The state of one series, of whatever kind."""

    kind: str
    time_unix_nano: int
    value: float
    """Last value, or the sum of everything recorded in a histogram."""
    count: int = 0
    unit: str = ""
    is_delta: bool = False
    low: float | None = None
    high: float | None = None
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()

    def followed_by(self, other: "Series") -> "Series":
        """Return the state after another export of the same series."""
        former, later = sorted((self, other), key=lambda each: each.time_unix_nano)
        if not later.is_delta:
            return later
        return replace(
            later,
            value=former.value + later.value,
            count=former.count + later.count,
            low=_extreme(min, former.low, later.low),
            high=_extreme(max, former.high, later.high),
            buckets=_added(former, later),
        )


def _extreme(
    choose: Callable[[list[float]], float], *amounts: float | None
) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return choose(known) if known else None


def _added(former: Series, later: Series) -> tuple[int, ...]:
    """Add bucket counts; none when the bounds changed in between."""
    if former.bounds != later.bounds or len(former.buckets) != len(later.buckets):
        return ()
    return tuple(map(add, former.buckets, later.buckets))


def fold_series(
    resource_metrics: Iterable[ResourceMetrics],
) -> dict[str, dict[SeriesKey, Series]]:
    """Fold all points into one state per series, grouped by the name of the service.

    A cumulative counter or histogram and a gauge keep their latest point; deltas are
    added up.
    """
    services: defaultdict[str, dict[SeriesKey, Series]] = defaultdict(dict)
    for group in resource_metrics:
        known = services[service_name(group.resource)]
        for scope_metrics in group.scope_metrics:
            for metric in scope_metrics.metrics:
                for attributes, series in _series_of(metric):
                    shown = attributes_text(attributes, hide=False)
                    origin = (group.resource, scope_metrics.scope, *attributes)
                    key = SeriesKey(metric.name, shown, _identity(origin))
                    former = known.get(key)
                    known[key] = former.followed_by(series) if former else series
    return services


def _identity(parts: Iterable[Message]) -> bytes:
    texts = (part.SerializeToString(deterministic=True) for part in parts)
    return b"\0".join(sorted(texts))


def _series_of(metric: Metric) -> Iterator[tuple[Iterable[KeyValue], Series]]:
    """Turn the points of a metric, of any kind, into attributes and state."""
    field = metric.WhichOneof("data")
    if field is None:
        return
    data = getattr(metric, field)
    is_delta = (
        getattr(data, "aggregation_temporality", None)
        == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    )
    kind: str = field
    if field == "sum":
        kind = "counter" if metric.sum.is_monotonic else "up/down"
    for point in data.data_points:
        number = isinstance(point, NumberDataPoint)
        series = _number_series(kind, point) if number else _spread_series(point)
        series.unit = metric.unit
        series.is_delta = is_delta
        yield point.attributes, series


def _number_series(kind: str, point: NumberDataPoint) -> Series:
    is_int = point.WhichOneof("value") == "as_int"
    value = point.as_int if is_int else point.as_double
    return Series(kind, point.time_unix_nano, value)


def _spread_series(
    point: HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint,
) -> Series:
    series = Series("histogram", point.time_unix_nano, point.sum, point.count)
    if not isinstance(point, SummaryDataPoint):
        series.low = point.min if point.HasField("min") else None
        series.high = point.max if point.HasField("max") else None
    if isinstance(point, HistogramDataPoint):
        series.bounds = tuple(point.explicit_bounds)
        series.buckets = tuple(point.bucket_counts)
    return series


def state_text(series: Series) -> str:
    """Write the state of a series: a number, or what a histogram holds."""
    if series.kind != "histogram":
        return number_text(series.value)
    words = [f"count={series.count}", f"sum={_amount_text(series.value, series.unit)}"]
    if series.count:
        mean = series.value / series.count
        words.append(f"mean={_amount_text(mean, series.unit)}")
    words.append(_median_text(series))
    words += [
        f"{label}={_amount_text(amount, series.unit)}"
        for label, amount in (("min", series.low), ("max", series.high))
        if amount is not None
    ]
    return " ".join(filter(None, words))


def _median_text(series: Series) -> str:
    """Return the bucket bound that the median does not exceed, as far as known."""
    if not series.bounds or not series.buckets or not series.count:
        return ""
    seen = 0
    for bound, count in zip(series.bounds, series.buckets, strict=False):
        seen += count
        if seen * 2 >= series.count:
            return f"p50≤{_amount_text(bound, series.unit)}"
    return f"p50>{_amount_text(series.bounds[-1], series.unit)}"


def _amount_text(amount: float, unit: str) -> str:
    """Write an amount; seconds as a person would say them."""
    if unit == "s" and amount >= 0:
        return duration_text(amount * _SECOND)
    return number_text(amount)
