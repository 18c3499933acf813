"""Totals of monitored calls, counted whether or not anything is exported."""

import threading
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from ..constants import FlextObservabilityConstants as C
from .digest import Bounds, Digest
from .totals import LatestSeries

NS = 1_000_000_000


class OperationKey(NamedTuple):
    """What makes two calls belong to one series."""

    metric: str
    """Name of the duration histogram."""
    operation: str
    error_type: str
    """``""`` for calls that succeeded."""

    def labels(self) -> dict[str, str]:
        """Give the labels of the histogram."""
        labels = {C.ATTR_OPERATION_NAME: self.operation}
        if self.error_type:
            labels[C.ATTR_ERROR_TYPE] = self.error_type
        return labels


class Row:
    """One series; durations are nanoseconds, so that their sum is exact."""

    __slots__ = ("began_ns", "bounds_s", "digest", "key")

    def __init__(self, key: OperationKey, bounds_s: Bounds, began_ns: int) -> None:
        self.key = key
        self.bounds_s = bounds_s
        self.digest = Digest()
        self.began_ns = began_ns


class OperationDurations(NamedTuple):
    """One series at one moment, in seconds."""

    key: OperationKey
    began_ns: int
    """On the monotonic clock: orders series by age."""
    cumulative: dict[float, int]
    """Calls up to and including each bound, ``inf`` the last one."""
    calls: int
    sum_s: float


class OperationFigures(NamedTuple):
    """All monitored calls together."""

    calls: int = 0
    errors: int = 0
    duration_ns: int = 0

    @property
    def duration_s(self) -> float:
        """Give the time they took."""
        return self.duration_ns / NS

    def plus(self, key: OperationKey, counted: Digest) -> "OperationFigures":
        """Add calls of one series."""
        return OperationFigures(
            self.calls + counted.size,
            self.errors + (counted.size if key.error_type else 0),
            self.duration_ns + int(counted.total),
        )


class OperationTotals:
    """Counts monitored calls; it knows what was taken together so far."""

    def __init__(self) -> None:
        self.start_over()

    def renew_lock(self) -> None:
        """Free the lock in a forked child, whoever held it in the parent."""
        self.lock = threading.RLock()

    def start_over(self) -> None:
        """Begin at zero, in a forked child too."""
        self.renew_lock()
        self._rows: LatestSeries[OperationKey, Row] = LatestSeries()
        self.all = OperationFigures()

    def row(
        self, key: OperationKey, bounds_s: Callable[[], Bounds], began_ns: int
    ) -> Row:
        """Give the totals of a series, new ones if need be; the lock is held.

        Args:
            key: Of the series.
            bounds_s: Gives the bounds that new totals keep for good.
            began_ns: When the series began, on the monotonic clock.
        """
        row = self._rows.latest(key)
        if row is None:
            row = self._rows.add(key, Row(key, bounds_s(), began_ns))
        return row

    def durations(self) -> list[OperationDurations]:
        """Give every series as it is now."""
        with self.lock:
            return [
                OperationDurations(
                    key,
                    row.began_ns,
                    _cumulative(row),
                    row.digest.size,
                    row.digest.total / NS,
                )
                for key, row in self._rows.items()
                if row.digest.size
            ]

    def figures(self) -> OperationFigures:
        """Give the sums over all series, also those that were dropped."""
        return self.all


def _cumulative(row: Row) -> dict[float, int]:
    counts = row.digest.buckets[row.bounds_s]
    return dict(zip((*row.bounds_s, float("inf")), accumulate(counts), strict=True))
