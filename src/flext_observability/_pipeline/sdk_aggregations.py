"""The private pieces of the SDK that many measurements are merged into at once.

All of them are named here and nowhere else. :func:`is_mergeable` compares, once per
process, what merging does with what the public calls do; when a newer SDK does anything
differently, every measurement takes the public call again: slower, and right.
"""
# ruff: noqa: SLF001 - private pieces are what this module is for

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
)
from opentelemetry.sdk.resources import Resource

from ..own_log import WARNING, say
from .digest import Bounds, Digest, digest

# The SDK exports no public name for the synchronous gauge.
from opentelemetry.sdk.metrics import _Gauge as Gauge  # isort: skip

_INTERNAL = "opentelemetry.sdk.metrics._internal"


class Progress(Protocol):
    """Whose values are merged."""

    done: int
    """How many streams have them; it changes together with the stream."""


class Stream:
    """What one reader collects from one instrument by one view."""

    def __init__(self, match: Any, parts: "_Parts") -> None:
        self._match = match
        self._hash = parts.hash
        self._merge = parts.merges[type(match._aggregation)]
        self.bounds: Bounds | None = getattr(match._aggregation, "_boundaries", None)

    def merge(
        self,
        labels: Mapping[str, Any],
        counted: Digest,
        per_unit: int,
        progress: Progress,
    ) -> None:
        """Add values.

        Args:
            labels: Of their series.
            counted: What they come to.
            per_unit: How many of their units make one of the instrument's.
            progress: Gets one step further.
        """
        match = self._match
        key = self._hash(labels)
        # The lock of the match too: a delta reader exchanges the aggregations under it.
        with match._lock:
            found = match._get_or_create_aggregation(key, dict(labels))
            with found._lock:
                self._merge(found, counted, per_unit, progress)


def _merge_sum(found: Any, counted: Digest, per_unit: int, progress: Progress) -> None:
    total = (found._value or 0) + _scaled(counted.total, per_unit)
    # A signal handler raises after a call only: both lines or none.
    found._value = total
    progress.done += 1


def _merge_last(found: Any, counted: Digest, per_unit: int, progress: Progress) -> None:
    last = _scaled(counted.last, per_unit)
    found._value = last
    progress.done += 1


def _merge_buckets(
    found: Any, counted: Digest, per_unit: int, progress: Progress
) -> None:
    counts = counted.buckets.get(found._boundaries)
    if counts is None:
        progress.done += 1  # its reader came after these values
        return
    former = found._value or found._get_empty_bucket_counts()
    buckets = [a + b for a, b in zip(former, counts, strict=True)]
    total = found._sum + _scaled(counted.total, per_unit)
    low, high = found._min, found._max
    if found._record_min_max:
        low = min(low, _scaled(counted.low, per_unit))
        high = max(high, _scaled(counted.high, per_unit))
    # No call from here on.
    found._value = buckets
    found._sum = total
    found._min = low
    found._max = high
    progress.done += 1


def _scaled(value: float, per_unit: int) -> float:
    return value if per_unit == 1 else value / per_unit


class _Parts:
    """The internals, by the names they have today; any may be missing tomorrow."""

    def __init__(self) -> None:
        aggregation: Any = import_module(f"{_INTERNAL}.aggregation")
        matches: Any = import_module(f"{_INTERNAL}._view_instrument_match")
        self.hash: Any = matches._hash_attributes
        self.drop: type = aggregation._DropAggregation
        self.merges: dict[type, Any] = {
            aggregation._SumAggregation: _merge_sum,
            aggregation._LastValueAggregation: _merge_last,
            aggregation._ExplicitBucketHistogramAggregation: _merge_buckets,
        }

    def streams(self, target: Any) -> "Streams":
        """Find the streams of an instrument of the SDK."""
        storages = target._measurement_consumer._reader_storages
        found: list[Stream] = []
        is_all = target._is_enabled()
        for storage in storages.values():
            for match in storage._get_or_init_view_instrument_match(target):
                template = match._aggregation
                is_known = type(template) in self.merges
                if is_known and match._view._attribute_keys is None:
                    found.append(Stream(match, self))
                elif type(template) is not self.drop:
                    is_all = False
        return Streams(target, storages, found, is_mergeable=is_all)


class Streams:
    """All streams of one instrument, as long as its readers stay the same."""

    def __init__(
        self,
        target: Any,
        storages: object = None,
        known: Sequence[Stream] = (),
        *,
        is_mergeable: bool = False,
    ) -> None:
        self._target = target
        self._storages = storages
        self.known = known
        """Those that values can be merged into."""
        self.is_mergeable = is_mergeable
        """Whether that is all there are."""
        self.bounds = {s.bounds for s in known if s.bounds is not None}
        """All that values have to be counted by."""

    @classmethod
    def of(cls, target: Any) -> "Streams":
        """Find the streams of an SDK instrument, or of what stands in its place."""
        if isinstance(target, Counter | Histogram | Gauge) and is_mergeable():
            # Not any exception: one of a signal handler is the host's.
            with suppress(AttributeError, LookupError, TypeError):
                return _Parts().streams(target)
        return cls(target)

    def is_current(self, target: Any) -> bool:
        """Whether instrument and readers are still these."""
        if target is not self._target:
            return False
        if self._storages is None:
            return True
        storages = target._measurement_consumer._reader_storages
        return storages is self._storages and (
            target._is_enabled() or not self.is_mergeable
        )


@cache
def is_mergeable() -> bool:
    """Say whether merging gives what the public calls of this SDK give.

    Tried on instruments of its own: two collections by a cumulative and a delta reader.
    """
    why = ""
    for _ in range(2):  # an exception of a signal handler does not come again
        try:
            if _agrees():
                return True
            why = "it gives other figures"
            break
        except Exception as error:  # noqa: BLE001 - whatever a newer SDK raises
            why = f"{type(error).__name__}: {error}"
    say(
        WARNING,
        "this OpenTelemetry SDK cannot be given many measurements at once (%s); "
        "each takes its own call, which is slower",
        why,
    )
    return False


def _agrees() -> bool:
    delta = AggregationTemporality.DELTA
    readers = [
        InMemoryMetricReader(),
        InMemoryMetricReader({Counter: delta, Histogram: delta}),
    ]
    provider = MeterProvider(readers, Resource.get_empty(), shutdown_on_exit=False)
    meter = provider.get_meter("canary")
    bounds, labels, parts = [1.0, 2.0], {"a": "b"}, _Parts()
    pairs: list[tuple[Any, Any, str]] = [
        (meter.create_counter("a"), meter.create_counter("b"), "add"),
        (meter.create_gauge("c"), meter.create_gauge("d"), "set"),
        (
            meter.create_histogram("e", explicit_bucket_boundaries_advisory=bounds),
            meter.create_histogram("f", explicit_bucket_boundaries_advisory=bounds),
            "record",
        ),
    ]
    trial = _Trial()
    for values in ([2, 0.5, 3], [1, 0]):
        for public, merged, method in pairs:
            for value in values:
                getattr(public, method)(value, labels)
            streams = parts.streams(merged)
            counted = digest(list(values), streams.bounds, 1)
            for stream in streams.known:
                stream.merge(labels, counted, 1, trial)
        if not all(_points_agree(reader) for reader in readers):
            return False
    return trial.done == 2 * len(pairs) * len(readers)


class _Trial:
    done = 0


def _points_agree(reader: InMemoryMetricReader) -> bool:
    """Whether every other metric is that before it, besides its times."""
    data: Any = reader.get_metrics_data()
    found: list[Any] = [
        (type(metric.data), _without_times(point))
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    ]
    return len(found) == len(_PAIRS) and found[::2] == found[1::2]


_PAIRS = "abcdef"


def _without_times(point: Any) -> dict[str, Any]:
    left_out = {"start_time_unix_nano", "time_unix_nano", "exemplars"}
    return {
        name: getattr(point, name)
        for name in point.__dataclass_fields__
        if name not in left_out
    }
