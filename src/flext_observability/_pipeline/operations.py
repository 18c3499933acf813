"""Totals of monitored calls, counted whether or not anything is exported."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .totals import Distribution, LatestSeries

_NS = 1_000_000_000


class OperationKey(NamedTuple):
    """What makes two calls belong to one series."""

    metric: str
    """Name of the duration histogram."""
    operation: str
    error_type: str
    """``""`` for calls that succeeded."""


class _Series(Distribution):
    """Durations in nanoseconds, so that their sum is exact."""

    __slots__ = ("began_ns", "bounds_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        super().__init__([bound * _NS for bound in bounds_s])
        self.bounds_s = (*bounds_s, float("inf"))
        self.began_ns = time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class OperationDurations:
    """One series at one moment, in seconds."""

    key: OperationKey
    began_ns: int
    """On the monotonic clock: orders series by age."""
    cumulative: dict[float, int]
    """Calls up to and including each bound, ``inf`` the last one."""
    count: int
    sum_s: float


@dataclass(frozen=True, slots=True)
class OperationFigures:
    """All monitored calls together."""

    calls: int = 0
    errors: int = 0
    duration_s: float = 0.0


class OperationTotals:
    """Counts monitored calls; exact under threads.

    A reentrant lock: a signal handler may run a monitored function inside an update.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Begin at zero, with a new lock: in a forked child another thread held it."""
        self._lock = threading.RLock()
        self._series: LatestSeries[OperationKey, _Series] = LatestSeries()
        self._calls = 0
        self._errors = 0
        self._duration_ns = 0

    def add(
        self,
        key: OperationKey,
        duration_ns: int,
        bounds_s: Callable[[], Sequence[float]],
    ) -> None:
        """Count one call.

        Args:
            key: Of its series.
            duration_ns: How long it took.
            bounds_s: Gives the bounds of a new series; it keeps them for good.
        """
        with self._lock:
            self._calls += 1
            self._errors += bool(key.error_type)
            self._duration_ns += duration_ns
            series = self._series.latest(key)
            if series is None:
                series = self._series.add(key, _Series(bounds_s()))
            series.add(duration_ns)

    def durations(self) -> list[OperationDurations]:
        """Give every series as it is now."""
        with self._lock:
            return [
                OperationDurations(
                    key,
                    series.began_ns,
                    dict(
                        zip(series.bounds_s, series.cumulative().values(), strict=True)
                    ),
                    series.count,
                    series.sum / _NS,
                )
                for key, series in self._series.items()
            ]

    def figures(self) -> OperationFigures:
        """Give the sums over all series, also those that were dropped."""
        with self._lock:
            return OperationFigures(self._calls, self._errors, self._duration_ns / _NS)
