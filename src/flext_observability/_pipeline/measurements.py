"""Measurements: appended on the hot path, brought to OpenTelemetry in bulk.

A measurement costs one append to the pending list of its series. What is pending is
taken together when the list gets long, and merged into the aggregations of the SDK at
every collection of every reader. The first measurement after a collection, and one
that is clearly slower than those before, take the public call at once: that begins the
aggregation at the right time, and offers measurement and span as an exemplar.

Where merging would not be right (an aggregation we do not know, a view that leaves
attributes out, a newer SDK), every measurement takes the public call.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..constants import FlextObservabilityConstants as C
from .digest import Bounds, Digest, digest
from .measured_instrument import (
    FIRST,
    TAKE_ALL,
    FindStreams,
    Followed,
    Instrument,
)
from .operations import NS, OperationKey, OperationTotals, Row

if TYPE_CHECKING:
    from .sdk_aggregations import Streams

PENDING_LIMIT = 1024
"""Values that wait in one series; the next one takes them together."""
_NO_ROW = OperationKey("", "", ""), (), 0
_INSTRUMENTS = 1000
_ORPHANS = 1000


class Series:
    """Measurements of one instrument with the same labels.

    The hot path may do what :meth:`add` does by itself: append a value up to
    ``high`` to ``pending``, and call :meth:`drain` when that holds more than
    ``PENDING_LIMIT``; hand any other value to :meth:`record`.
    """

    __slots__ = (
        "__weakref__",
        "_measurements",
        "began_ns",
        "done",
        "high",
        "instrument",
        "key",
        "labels",
        "leaving",
        "pending",
        "recorded",
        "unmerged",
    )

    def __init__(
        self,
        measurements: "Measurements",
        instrument: Instrument,
        labels: Mapping[str, Any],
        key: OperationKey | None = None,
    ) -> None:
        """Begin.

        Args:
            measurements: Where it is brought from here to the readers.
            instrument: Whose.
            labels: Legal ones.
            key: In the totals of monitored calls, where they count it.
        """
        self._measurements = measurements
        self.instrument = instrument
        self.labels = labels
        self.key = key
        self.began_ns = time.monotonic_ns()
        self.pending: list[float] = []
        """Values the SDK has not seen, in the order they came."""
        self.recorded: list[float] = []
        """Values the SDK has seen, but the totals have not."""
        self.unmerged: tuple[Digest, ...] = ()
        """What was pending, taken together."""
        self.leaving: tuple[Digest, ...] = ()
        """What is being merged; it outlives an interrupt."""
        self.done = 0
        """How many steps of that are done."""
        self.high = measurements.high_at_first(self)
        measurements.adopt(self)

    def add(self, value: float, context: Any = None) -> None:
        """Measure a value.

        Args:
            value: A legal one, not NaN.
            context: Of the measurement, should it become an exemplar; the current one
                when not given.
        """
        if value <= self.high:
            pending = self.pending
            pending.append(value)
            if len(pending) > PENDING_LIMIT:
                self.drain()
        else:
            self.record(value, context)

    def record(self, value: float, context: Any = None) -> None:
        """Measure a value by the public call; see :meth:`add`."""
        instrument = self.instrument
        if self.key is not None:
            self.recorded.append(value)
            if len(self.recorded) > PENDING_LIMIT:
                self.drain()
        find = self._measurements.find
        if find is not None:
            instrument.measure(value, self.labels, context)
            self.high = instrument.high_after(value, find)

    def drain(self) -> None:
        """Take together what is pending."""
        self._measurements.drain(self)

    def is_empty(self) -> bool:
        """Whether there is nothing to bring anywhere."""
        return not (self.pending or self.recorded or self.unmerged or self.leaving)

    def __del__(self) -> None:
        """Leave what nobody collected to somebody who will."""
        if not hasattr(self, "leaving"):
            return  # never begun: the recursion limit came first
        if self.pending or self.recorded or self.unmerged or self.leaving:
            heir = Series(self._measurements, self.instrument, self.labels, self.key)
            heir.pending, heir.recorded = self.pending, self.recorded
            heir.unmerged, heir.leaving = self.unmerged, self.leaving
            heir.done, heir.began_ns = self.done, self.began_ns
            self._measurements.orphans.append(heir)


class Measurements:
    """All series of the process.

    Two locks: what is pending is taken together under one that is never held while
    anything else is waited for, so that any thread may do it, a finalizer in the midst
    of a collection too. Merging, which takes the SDK's locks, has another.
    """

    def __init__(self, totals: OperationTotals) -> None:
        self._totals = totals
        self.find: FindStreams | None = None
        """Finds the streams of an instrument, while a pipeline takes measurements."""
        self._series: WeakValueDictionary[int, Series] = WeakValueDictionary()
        self._instruments: dict[object, Instrument] = {}
        self.orphans: list[Series] = []
        self.renew_locks()

    def renew_locks(self) -> None:
        """Free the locks in a forked child, whoever held them in the parent."""
        self.lock = threading.RLock()
        self._merge_lock = threading.RLock()
        self._draining_thread = 0
        self._is_merging = False
        self._is_paused = False

    def start_over(self) -> None:
        """Begin at zero in a forked child: what is pending is the parent's."""
        self.renew_locks()
        self.orphans = []
        for series in self._all():
            series.pending.clear()
            series.recorded.clear()
            series.unmerged = series.leaving = ()
            series.done = 0
            series.high = self.high_at_first(series)

    def series(
        self,
        instrument: Instrument,
        labels: Mapping[str, Any],
        key: OperationKey | None = None,
    ) -> Series:
        """Begin a series; see there."""
        if len(self.orphans) > _ORPHANS:
            self.collect()
        return Series(self, instrument, labels, key)

    def operation(
        self,
        key: OperationKey,
        make: Callable[[], Followed],
        bounds_s: Callable[[], Sequence[float]],
    ) -> Series:
        """Give the series of monitored calls, in nanoseconds.

        Args:
            key: Of the calls.
            make: Makes the histogram, in seconds, when it is first needed.
            bounds_s: Gives the bounds that new totals keep for good.
        """
        instrument = self.instrument(
            ("operations", key.metric),
            lambda: Instrument(
                "record", make, per_unit=NS, bounds_s=lambda: tuple(bounds_s())
            ),
        )
        known: Series | None = instrument.series.get(key)
        if known is not None:
            return known
        if len(instrument.series) >= C.SERIES_LIMIT:
            instrument.series.clear()  # names made at run time; start over
        made = self.series(instrument, key.labels(), key)
        kept: Series = instrument.series.setdefault(key, made)
        return kept

    def adopt(self, series: Series) -> None:
        """Collect a series as long as somebody holds it."""
        self._series[id(series)] = series

    def instrument(self, key: object, make: Callable[[], Instrument]) -> Instrument:
        """Give the instrument of a key; it is made once."""
        known = self._instruments.get(key)
        if known is not None:
            return known
        if len(self._instruments) >= _INSTRUMENTS:  # names made at run time; start over
            self._instruments.clear()
        return self._instruments.setdefault(key, make())

    def high_at_first(self, series: Series) -> float:
        """Give the ``high`` of a series that the pipeline has not seen."""
        if self.find is not None or series.key is None:
            return FIRST
        return TAKE_ALL  # only counted

    def _all(self) -> list[Series]:
        """Give every series; the list of references is made at once."""
        return [s for ref in self._series.valuerefs() if (s := ref()) is not None]

    # -- taking together

    def drain(self, series: Series) -> None:
        """Take together what is pending in a series."""
        if not self._is_paused:
            # The SDK's locks, if need be, before ours.
            find = self.find
            streams = series.instrument.streams(find) if find else None
            self._drain(series, streams)

    def _is_interrupted(self) -> bool:
        """Whether we are a signal handler or finalizer in the midst of a drain."""
        return self._draining_thread == threading.get_ident()

    def _drain(self, series: Series, streams: "Streams | None") -> None:
        if self._is_interrupted():
            return  # the outer call goes on with it
        with self.lock:
            self._draining_thread = threading.get_ident()
            try:
                self._take(series, streams)
            finally:
                self._draining_thread = 0

    def _take(self, series: Series, streams: "Streams | None") -> None:
        pending, recorded = series.pending, series.recorded
        if streams is not None and not streams.is_mergeable:
            pending = []  # one by one, at the next collection
        waiting, known = len(pending), len(recorded)
        if not waiting and not known:
            return
        instrument, totals = series.instrument, self._totals
        with totals.lock:
            splits: set[Bounds] = set(streams.bounds) if streams is not None else set()
            row = Row(*_NO_ROW)
            if series.key is not None and instrument.bounds_s is not None:
                row = totals.row(series.key, instrument.bounds_s, series.began_ns)
                splits.add(row.bounds_s)
            unmerged = series.unmerged
            counted = Digest()
            if waiting:
                counted = digest(pending[:waiting], splits, instrument.per_unit)
                if streams is not None:
                    unmerged = _joined(unmerged, counted)
            if known:
                seen = digest(recorded[:known], splits, instrument.per_unit)
                counted = counted.plus(seen)
            figures = totals.all
            if series.key is not None:
                figures = figures.plus(series.key, counted)
            counted = row.digest.plus(counted)
            # No call from here on: a signal handler raises after a call only.
            row.digest = counted
            totals.all = figures
            series.unmerged = unmerged
            del pending[:waiting]
            del recorded[:known]

    def read(self) -> None:
        """Take together what is pending anywhere, for whoever reads the totals."""
        for series in self._all():
            if series.pending or series.recorded:
                self.drain(series)

    # -- merging

    def collect(self) -> None:
        """Bring everything to the readers of the pipeline.

        The SDK calls it, by a callback, at the beginning of every collection.
        """
        if self._is_interrupted():
            return
        with self._merge_lock:
            if not self._is_merging:  # else we have interrupted ourselves
                self._is_merging = True
                try:
                    self._collect()
                finally:
                    self._is_merging = False

    def _collect(self) -> None:
        left = len(self.orphans)
        for series in self._all():
            self._collect_one(series)
        del self.orphans[:left]
        for instrument in list(self._instruments.values()):
            if len(instrument.series) >= C.SERIES_LIMIT:
                instrument.series.clear()  # labels made at run time; start over

    def _collect_one(self, series: Series) -> None:
        if not series.is_empty():
            find = self.find
            streams = series.instrument.streams(find) if find else None
            self._drain(series, streams)
            if streams is not None:
                self._merge(series, streams)
        if self.find is not None:
            series.high = FIRST

    def _merge(self, series: Series, streams: "Streams") -> None:
        with self.lock:
            if not series.leaving:
                leaving = series.unmerged
                series.unmerged = ()
                series.leaving = leaving
        per_unit = series.instrument.per_unit
        steps = [(d, stream) for d in series.leaving for stream in streams.known]
        for counted, stream in steps[series.done :]:
            stream.merge(series.labels, counted, per_unit, series)
        series.leaving = ()
        series.done = 0
        while series.pending and not streams.is_mergeable:
            series.record(series.pending.pop(0))

    # -- exchange of the pipeline

    def pause(self) -> None:
        """Bring everything to the pipeline that is about to go."""
        self._is_paused = True
        self.collect()

    def resume(self, find: FindStreams | None) -> None:
        """Go on with another pipeline, or with none.

        Args:
            find: Finds the streams of its instruments; ``None`` for no pipeline.
        """
        self.find = find
        for series in self._all():
            series.high = self.high_at_first(series)
        self._is_paused = False


def _joined(digests: tuple[Digest, ...], more: Digest) -> tuple[Digest, ...]:
    """Add values to those before, unless other buckets were asked for since."""
    if digests and digests[-1].buckets.keys() == more.buckets.keys():
        return (*digests[:-1], digests[-1].plus(more))
    return (*digests, more)
