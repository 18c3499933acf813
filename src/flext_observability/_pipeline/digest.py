"""What many measured values come to: count, sum, extremes, buckets."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import lru_cache
from operator import add
from typing import NamedTuple

Bounds = tuple[float, ...]
"""Rising upper bounds of buckets, in the unit of the instrument."""


class Digest(NamedTuple):
    """Values of one series, in the unit they were measured in.

    Immutable: whoever keeps one replaces it in a line that calls nothing, so that an
    exception from a signal handler finds the old one or the new one.
    """

    size: int = 0
    """How many they are."""
    total: float = 0
    """Exact while the values are integers."""
    low: float = 0
    """Of all values, where buckets were asked for."""
    high: float = 0
    last: float = 0
    buckets: dict[Bounds, tuple[int, ...]] = {}  # noqa: RUF012 - never changed
    """Values per bucket, one more than bounds; by the bounds that were asked for."""

    def plus(self, other: "Digest") -> "Digest":
        """Add later values; buckets that only one of them has are left out."""
        if not self.size:
            return other
        return Digest(
            self.size + other.size,
            self.total + other.total,
            min(self.low, other.low),
            max(self.high, other.high),
            other.last,
            {
                bounds: tuple(map(add, counts, other.buckets[bounds]))
                for bounds, counts in self.buckets.items()
                if bounds in other.buckets
            },
        )


def digest(values: list[float], splits: Iterable[Bounds], per_unit: int) -> Digest:
    """Take values together.

    Args:
        values: At least one; they may be sorted in place, which costs a third of
            looking for the bucket of each.
        splits: Bounds to count by.
        per_unit: How many of the values' units make one of the bounds' units.
    """
    count, total, last = len(values), sum(values), values[-1]
    low, high = min(values), max(values)
    buckets = {
        bounds: _counts(values, low, high, _edges(bounds, per_unit))
        for bounds in splits
    }
    return Digest(count, total, low, high, last, buckets)


def _counts(
    values: list[float], low: float, high: float, edges: Bounds
) -> tuple[int, ...]:
    """Count values by bucket; an upper edge is inside."""
    first = bisect_left(edges, low)
    if bisect_left(edges, high) == first:  # so they mostly are, and no sorting
        counts = [0] * (len(edges) + 1)
        counts[first] = len(values)
        return tuple(counts)
    values.sort()
    reached = [bisect_right(values, edge) for edge in edges]
    return tuple(
        upper - lower
        for lower, upper in zip([0, *reached], [*reached, len(values)], strict=True)
    )


@lru_cache(maxsize=256)
def _edges(bounds: Bounds, per_unit: int) -> Bounds:
    """Give bounds in the values' unit, so that every value is in the same bucket.

    Dividing a value may round it onto a bound; the edge is the last integer that it
    happens to, or that does not reach the bound.
    """
    if per_unit == 1:
        return bounds
    edges: list[int] = []
    for bound in bounds:
        edge = int(bound * per_unit)
        while edge / per_unit > bound:
            edge -= 1
        while (edge + 1) / per_unit <= bound:
            edge += 1
        edges.append(edge)
    return tuple(edges)
