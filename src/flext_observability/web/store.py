"""What a receiver holds: the newest records of each signal, bounded and counted."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from .._pipeline.readable import service_name
from ..constants import Signal
from .otlp import ExportRequest

_RECORD_LIMIT: Final = 20_000
_SIZE_LIMIT_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SignalCounts:
    """Figures of one signal; records are spans, data points or log records."""

    requests: int = 0
    """Export requests that arrived."""
    received: int = 0
    """Records that arrived, held or not."""
    held: int = 0
    """Records that are still in the store."""
    dropped: int = 0
    """Records given up, oldest first, to stay within the limits."""


class TelemetryStore:
    """A bounded in-memory store of decoded OTLP, safe from any thread.

    Args:
        record_limit: records to hold per signal.
        size_limit_bytes: encoded size of the records to hold per signal.
    """

    def __init__(
        self,
        record_limit: int = _RECORD_LIMIT,
        size_limit_bytes: int = _SIZE_LIMIT_BYTES,
    ) -> None:
        self._changed = threading.Condition()
        self._shelves = {
            signal: _Shelf(signal, record_limit, size_limit_bytes) for signal in Signal
        }

    def add(self, signal: Signal, request: ExportRequest) -> None:
        """Take in the records of one export request."""
        with self._changed:
            self._shelves[signal].add(request)
            self._changed.notify_all()

    def counts(self, signal: Signal) -> SignalCounts:
        """Return the figures of one signal."""
        with self._changed:
            return self._shelves[signal].counts()

    def resource_spans(self) -> list[ResourceSpans]:
        """Return the spans that are held, oldest first."""
        with self._changed:
            return self._shelves[Signal.TRACES].groups()

    def resource_metrics(self) -> list[ResourceMetrics]:
        """Return the metrics that are held, oldest first."""
        with self._changed:
            return self._shelves[Signal.METRICS].groups()

    def resource_logs(self) -> list[ResourceLogs]:
        """Return the log records that are held, oldest first."""
        with self._changed:
            return self._shelves[Signal.LOGS].groups()

    def held_by_service(self, signal: Signal) -> dict[str, int]:
        """Return how many records of a signal are held, by ``service.name``."""
        with self._changed:
            return self._shelves[signal].held_by_service()

    def wait_for(
        self, predicate: Callable[["TelemetryStore"], bool], timeout_s: float
    ) -> bool:
        """Wait until the predicate holds, asking again after every arrival.

        Args:
            predicate: called with this store, which it may read.
            timeout_s: seconds to wait at most.

        Returns:
            Whether the predicate held in time.
        """
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout_s)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One span, metric or log record with the messages that enclosed it."""

    group: Any
    scope_group: Any
    record: Any
    weight: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """The fields that lead from a request down to its records."""

    groups: str
    scope_groups: str
    records: str


_SHAPES: Final = {
    Signal.TRACES: _Shape("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: _Shape("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: _Shape("resource_logs", "scope_logs", "log_records"),
}


class _Shelf:
    """The records of one signal; not safe from threads by itself."""

    def __init__(self, signal: Signal, record_limit: int, size_limit: int) -> None:
        self._shape = _SHAPES[signal]
        self._record_limit = record_limit
        self._size_limit = size_limit
        self._entries: deque[_Entry] = deque()
        self._held = self._size = 0
        self._requests = self._received = self._dropped = 0

    def add(self, request: ExportRequest) -> None:
        self._requests += 1
        for entry in _entries_of(request, self._shape):
            self._entries.append(entry)
            self._received += entry.weight
            self._held += entry.weight
            self._size += entry.size_bytes
        while self._held > self._record_limit or self._size > self._size_limit:
            oldest = self._entries.popleft()
            self._dropped += oldest.weight
            self._held -= oldest.weight
            self._size -= oldest.size_bytes

    def counts(self) -> SignalCounts:
        return SignalCounts(self._requests, self._received, self._held, self._dropped)

    def held_by_service(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for entry in self._entries:
            totals[service_name(entry.group.resource)] += entry.weight
        return dict(totals)

    def groups(self) -> list[Any]:
        """Put the records back into the messages that enclosed them."""
        groups: list[Any] = []
        last: _Entry | None = None
        for entry in self._entries:
            if last is None or entry.group is not last.group:
                groups.append(_emptied(entry.group, self._shape.scope_groups))
                last = None
            scope_groups = getattr(groups[-1], self._shape.scope_groups)
            if last is None or entry.scope_group is not last.scope_group:
                scope_groups.append(_emptied(entry.scope_group, self._shape.records))
            getattr(scope_groups[-1], self._shape.records).append(entry.record)
            last = entry
        return groups


def _entries_of(request: ExportRequest, shape: _Shape) -> Iterator[_Entry]:
    for group in getattr(request, shape.groups):
        for scope_group in getattr(group, shape.scope_groups):
            for record in getattr(scope_group, shape.records):
                weight = _data_points(record) if isinstance(record, Metric) else 1
                yield _Entry(group, scope_group, record, weight, record.ByteSize())


def _data_points(metric: Metric) -> int:
    field = metric.WhichOneof("data")
    return len(getattr(metric, field).data_points) if field else 0


def _emptied(message: Any, field: str) -> Any:
    """Copy everything of an enclosing message except what it encloses."""
    copy = type(message)()
    for descriptor, value in message.ListFields():
        if descriptor.name == field:
            continue
        if descriptor.message_type is None:
            setattr(copy, descriptor.name, value)
        else:
            getattr(copy, descriptor.name).CopyFrom(value)
    return copy
