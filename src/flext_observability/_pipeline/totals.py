"""Totals of series: sums that no bound on single records can make smaller."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from ..constants import FlextObservabilityConstants as C

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")


class LatestSeries(Generic[K, S]):
    """Series by key; beyond the limit the least recently updated one goes.

    Not thread-safe: its owner's lock also guards the series themselves.
    """

    def __init__(self, limit: int = C.SERIES_LIMIT) -> None:
        self._limit = limit
        self._by_key: OrderedDict[K, S] = OrderedDict()
        self.dropped = 0

    def latest(self, key: K) -> S | None:
        """Give the series of a key, now the most recently updated one."""
        found = self._by_key.get(key)
        if found is not None:
            self._by_key.move_to_end(key)
        return found

    def add(self, key: K, series: S) -> S:
        """Keep a new series."""
        if len(self._by_key) >= self._limit:
            self._by_key.popitem(last=False)
            self.dropped += 1
        self._by_key[key] = series
        return series

    def items(self) -> list[tuple[K, S]]:
        """Give all, the least recently updated first."""
        return list(self._by_key.items())


class Distribution:
    """Count, sum, extremes and buckets of values."""

    __slots__ = ("bounds", "buckets", "count", "high", "low", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Make an empty one.

        Args:
            bounds: Rising upper bounds; a value equal to one is inside.
        """
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.sum: float = 0  # stays an exact integer while only integers are added
        self.low: float = 0
        self.high: float = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        if not self.count or value < self.low:
            self.low = value
        if not self.count or value > self.high:
            self.high = value
        self.count += 1
        self.sum += value

    def cumulative(self) -> dict[float, int]:
        """Give counts up to and including each bound, ``inf`` the last one."""
        counts: dict[float, int] = {}
        reached = 0
        for bound, inside in zip(
            (*self.bounds, float("inf")), self.buckets, strict=True
        ):
            reached += inside
            counts[bound] = reached
        return counts
