"""Serialized OTLP export requests cut into smaller ones.

Requests are stored as bytes; only what a server finds too large or malformed is decoded
again, here. Bytes that are no request give nothing back: these functions never raise.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from google.protobuf.message import DecodeError, EncodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from ..constants import Signal

TRUNCATED = "flext.truncated"

_REQUESTS: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
# Field names from the request down to the records' list, metrics apart.
_GROUPS = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
}
# What the mark, its length prefixes and rounding may take.
_MARK_BYTES = 64


class Piece:
    """A part of a request that is a request itself."""

    __slots__ = ("body", "count")

    def __init__(self, body: bytes, count: int) -> None:
        """Make one.

        Args:
            body: An export request.
            count: Records in it; data points for metrics.
        """
        self.body = body
        self.count = count


class Cut(NamedTuple):
    """A request cut to a limit."""

    pieces: tuple[Piece, ...]
    """In order; together with the rest they hold every record."""
    too_large: tuple[Piece, ...]
    """Single records that could not be shortened below the limit."""


def count_records(signal: Signal, body: bytes) -> int:
    """Count the records of a request; 0 when the bytes are none."""
    request = _decoded(signal, body)
    return 0 if request is None else sum(1 for _ in _records(signal, request))


def halves(
    signal: Signal, body: bytes, *, by: Literal["records", "bytes"]
) -> tuple[Piece, Piece] | None:
    """Cut a request in two; every record keeps its resource and scope.

    Args:
        signal: What the records are.
        body: The request.
        by: Whether the halves have as many records, or about as many bytes.

    Returns:
        Both halves; ``None`` when there are not two records to part, or the bytes are
        no request.
    """
    request = _decoded(signal, body)
    if request is None:
        return None
    sizes = [record.ByteSize() for record in _records(signal, request)]
    count = len(sizes)
    if count < 2:  # noqa: PLR2004 - a half each
        return None
    middle = count // 2
    if by == "bytes":
        half = sum(sizes) / 2
        ends = list(accumulate(sizes))
        # The cut nearest to the middle that leaves a record on each side.
        middle = min(range(1, count), key=lambda cut: abs(ends[cut - 1] - half))
    first = _part(signal, request, 0, middle)
    second = _part(signal, request, middle, count)
    if first is None or second is None:
        return None
    return Piece(first, middle), Piece(second, count - middle)


def shortened(signal: Signal, body: bytes, limit_bytes: int) -> bytes | None:
    """Cut the longest texts of a single record until its request fits.

    The record is marked with ``flext.truncated``.

    Returns:
        The request; ``None`` when it has not one record, cannot be made to fit, or the
        bytes are no request.
    """
    if len(body) <= limit_bytes:
        return body
    request = _decoded(signal, body)
    if request is None:
        return None
    records = list(_records(signal, request))
    if len(records) != 1:
        return None
    _mark(records[0])
    # The record's own texts first; those of its resource when that is not enough.
    excess_bytes = request.ByteSize() + _MARK_BYTES - limit_bytes
    for owners in (records, [*records, *_surroundings(signal, request)]):
        if _cut_texts(owners, excess_bytes) and request.ByteSize() <= limit_bytes:
            return _encoded(request)
    return None


def cut(signal: Signal, body: bytes, limit_bytes: int) -> Cut:
    """Cut a request into requests within a limit; shorten single records above it."""
    pieces: list[Piece] = []
    too_large: list[Piece] = []
    # A stack, not recursion: a first record of 4 MiB among thousands nests deep.
    waiting = [Piece(body, -1)]
    while waiting:
        piece = waiting.pop()
        if len(piece.body) <= limit_bytes:
            pieces.append(_counted(signal, piece))
            continue
        parts = halves(signal, piece.body, by="bytes")
        if parts is not None:
            waiting += reversed(parts)
            continue
        count = _counted(signal, piece).count
        short = shortened(signal, piece.body, limit_bytes) if count else None
        if short is not None:
            pieces.append(Piece(short, count))
        elif count:
            too_large.append(Piece(piece.body, count))
    return Cut(tuple(piece for piece in pieces if piece.count), tuple(too_large))


def _counted(signal: Signal, piece: Piece) -> Piece:
    if piece.count >= 0:
        return piece
    return Piece(piece.body, count_records(signal, piece.body))


def _decoded(signal: Signal, body: bytes) -> Any:
    try:
        return _REQUESTS[signal].FromString(body)
    except (DecodeError, TypeError, ValueError):
        return None


def _encoded(request: Any) -> bytes | None:
    try:
        body: bytes = request.SerializeToString()
    except (EncodeError, ValueError):  # beyond 2 GiB
        return None
    return body


def _points(metric: Any) -> Any:
    """Give the data points of a metric, of whatever kind it is."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _records(signal: Signal, request: Any) -> Iterator[Any]:
    groups, scopes, items = _GROUPS[signal]
    for group in getattr(request, groups):
        for scope in getattr(group, scopes):
            for item in getattr(scope, items):
                if signal is Signal.METRICS:
                    yield from _points(item)
                else:
                    yield item


def _part(signal: Signal, request: Any, start: int, stop: int) -> bytes | None:
    """Serialize a request that holds the records from start up to stop."""
    groups, scopes, items = _GROUPS[signal]
    window = _Window(start, stop)
    part = _REQUESTS[signal]()
    for group in getattr(request, groups):
        kept_group = type(group)(schema_url=group.schema_url)
        for scope in getattr(group, scopes):
            kept_scope = type(scope)(schema_url=scope.schema_url)
            if signal is Signal.METRICS:
                kept = _metrics_part(scope.metrics, window)
            else:
                kept = window.of(getattr(scope, items))
            if not kept:
                continue
            if scope.HasField("scope"):
                kept_scope.scope.CopyFrom(scope.scope)
            getattr(kept_scope, items).extend(kept)
            getattr(kept_group, scopes).append(kept_scope)
        if not getattr(kept_group, scopes):
            continue
        if group.HasField("resource"):
            kept_group.resource.CopyFrom(group.resource)
        getattr(part, groups).append(kept_group)
    return _encoded(part)


class _Window:
    """A range of records, counted through the lists that hold them."""

    def __init__(self, start: int, stop: int) -> None:
        self._start = start
        self._stop = stop

    def of(self, records: Any) -> Any:
        """Give those of the next list that lie inside."""
        start, stop = max(0, self._start), max(0, self._stop)
        self._start -= len(records)
        self._stop -= len(records)
        return records[start:stop]


def _metrics_part(metrics: Iterable[Any], window: _Window) -> list[Any]:
    found: list[Any] = []
    for metric in metrics:
        points = window.of(_points(metric))
        if not points:
            continue
        kept = type(metric)(
            name=metric.name, description=metric.description, unit=metric.unit
        )
        kept.metadata.extend(metric.metadata)
        kind = metric.WhichOneof("data")
        data, source = getattr(kept, kind), getattr(metric, kind)
        for name in ("aggregation_temporality", "is_monotonic"):
            if hasattr(source, name):
                setattr(data, name, getattr(source, name))
        data.data_points.extend(points)
        found.append(kept)
    return found


def _mark(record: Any) -> None:
    for pair in record.attributes:
        if pair.key == TRUNCATED:
            pair.value.bool_value = True
            return
    mark = record.attributes.add()
    mark.key = TRUNCATED
    mark.value.bool_value = True


def _surroundings(signal: Signal, request: Any) -> Iterator[Any]:
    groups, scopes, _ = _GROUPS[signal]
    for group in getattr(request, groups):
        yield group.resource
        for scope in getattr(group, scopes):
            yield scope.scope
            if signal is Signal.METRICS:
                yield from scope.metrics


# A text is a field of a message that holds a string or bytes.
_Text = tuple[Any, str]
_LISTS = ("events", "links", "exemplars")


def _cut_texts(owners: Iterable[Any], excess_bytes: int) -> bool:
    """Cut the longest texts to one common length that saves the excess.

    Returns:
        Whether there was enough text to cut; nothing is cut if not.
    """
    texts = [text for owner in owners for text in _texts(owner)]
    sizes = [_size(text) for text in texts]
    if sum(sizes) < excess_bytes:
        return False
    limit = _common_limit(sizes, excess_bytes)
    for message, field in texts:
        value: str | bytes = getattr(message, field)
        if isinstance(value, bytes):
            setattr(message, field, value[:limit])
        elif len(value.encode()) > limit:
            setattr(message, field, value.encode()[:limit].decode("utf-8", "ignore"))
    return True


def _common_limit(sizes: list[int], excess_bytes: int) -> int:
    """Find the greatest length that saves enough when nothing is longer."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        limit = (low + high + 1) // 2
        if sum(size - limit for size in sizes if size > limit) >= excess_bytes:
            low = limit
        else:
            high = limit - 1
    return low


def _size(text: _Text) -> int:
    value: str | bytes = getattr(*text)
    return len(value) if isinstance(value, bytes) else len(value.encode())


def _texts(owner: Any) -> Iterator[_Text]:
    """Find what may be cut in a record, an event, a link or what surrounds them."""
    for field in ("name", "description", "event_name"):
        # Not a metric's name: its points would become those of another metric.
        if hasattr(owner, field) and (field != "name" or not hasattr(owner, "unit")):
            yield owner, field
    if hasattr(owner, "status"):
        yield owner.status, "message"
    if hasattr(owner, "body"):
        yield from _value_texts(owner.body)
    for name in ("attributes", "filtered_attributes", "metadata"):
        for pair in getattr(owner, name, ()):
            yield from _value_texts(pair.value)
    for name in _LISTS:
        for inner in getattr(owner, name, ()):
            yield from _texts(inner)


def _value_texts(value: Any) -> Iterator[_Text]:
    kind = value.WhichOneof("value")
    if kind in {"string_value", "bytes_value"}:
        yield value, kind
    elif kind == "array_value":
        for item in value.array_value.values:
            yield from _value_texts(item)
    elif kind == "kvlist_value":
        for pair in value.kvlist_value.values:
            yield from _value_texts(pair.value)
