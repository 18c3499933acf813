"""Finished spans as one OTLP export request."""

from collections.abc import Iterable, Sequence
from struct import Struct

from opentelemetry.exporter.otlp.proto.common.trace_encoder import (
    encode_spans as stock_request,
)
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceState,
)

from ..constants import FlextObservabilityConstants as C
from .otlp_groups import Groups
from .otlp_wire import (
    TextFields,
    UnusualError,
    attribute_field,
    attributes_bytes,
    count_field,
    either,
    fixed64_field,
    sized,
    text_field,
    varint,
)
from .span_shape import SpanShape
from .spans import USUAL, RecordingSpan, SpanDetail

# Fields of Span.
ATTRIBUTES = b"\x4a"
DROPPED_ATTRIBUTES = b"\x50"
DROPPED_EVENTS = b"\x60"
DROPPED_LINKS = b"\x70"
# Span.flags: "whether the parent is remote is known", and "it is".
FLAGS_LOCAL = b"\x85\x01\x00\x01\x00\x00"
FLAGS_REMOTE = b"\x85\x01\x00\x03\x00\x00"

_LINK_FLAGS_LOCAL = b"\x35\x00\x01\x00\x00"
_LINK_FLAGS_REMOTE = b"\x35\x00\x03\x00\x00"
_KINDS = {kind: bytes((0x30, kind.value + 1)) for kind in SpanKind}
# Looking up a member of an enumeration takes longer than comparing it.
_INTERNAL = SpanKind.INTERNAL
_UNSET = StatusCode.UNSET
_STATUS_UNSET = b"\x7a\x00"
_PLAIN_END = _STATUS_UNSET + FLAGS_LOCAL
_STATUS_CODES = {
    StatusCode.UNSET: b"",
    StatusCode.OK: b"\x18\x01",
    StatusCode.ERROR: b"\x18\x02",
}
_names = TextFields(b"\x2a")
_latest_correlation: dict[str, bytes] = {}
_event_names = TextFields(b"\x12")
_IDS, _PARENT, _TIMES = Struct(">HQQHQ"), Struct(">HQ"), Struct("<BQBQ")
_pack_ids, _pack_parent, _pack_times = _IDS.pack, _PARENT.pack, _TIMES.pack
_LOW_64 = (1 << 64) - 1


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """Encode spans into the bytes of one export request, as the stock encoder does.

    Args:
        spans: They may be of several resources and scopes.

    Raises:
        Exception: A span holds what OTLP cannot express.
    """
    groups = Groups()
    frame = _NO_FRAME
    for span in spans:
        if type(span) is not RecordingSpan:
            groups.add(span, either(_usual, stock_body, span))
            continue
        if (
            span.detail is not None
            or span.heritage is not USUAL
            or not span.started_ns  # a field of its own is left out
        ):
            groups.add(span, _own_body(span))
            continue
        # The usual span: what it shares with the one before is laid out already, and
        # nothing is joined but the whole.
        trace_id, parent_id = span.trace_id, span.parent_id
        try:
            if (
                span.shape is not frame.shape
                or span.correlation_id is not frame.correlation_id
            ):
                parts = groups.of(span.resource, span.shape.scope)
                frame = _Frame(span.shape, span.correlation_id, parts)
            frame.parts += (
                frame.child_head if parent_id else frame.root_head,
                _pack_ids(
                    0x0A10, trace_id >> 64, trace_id & _LOW_64, 0x1208, span.span_id
                ),
                _pack_parent(0x2208, parent_id) if parent_id else b"",
                frame.name,
                _pack_times(0x39, span.started_ns, 0x41, span.ended_ns),
                frame.end,
            )
        except Exception:  # noqa: BLE001 - unusual, or a signal's: laid out once more
            groups.add(span, _own_body(span))
    return groups.request()


class _Frame:
    """What usual spans of one shape and one correlation id have in common."""

    __slots__ = (
        *("child_head", "correlation_id", "end", "name", "parts", "root_head", "shape"),
    )

    def __init__(
        self, shape: SpanShape | None, correlation_id: str, parts: list[bytes]
    ) -> None:
        """Lay out what they share.

        Args:
            shape: Of all; ``None`` where there is no span yet.
            correlation_id: Of all.
            parts: Where their bytes are gathered.
        """
        self.shape = shape
        self.correlation_id = correlation_id
        self.parts = parts
        if shape is None:
            return
        self.name, shared = shape.encoded or _encoded(shape)
        told = _correlation(correlation_id) if correlation_id else b""
        self.end = shared + told + _PLAIN_END
        size = _IDS.size + _TIMES.size + len(self.name) + len(self.end)
        self.root_head = b"\x12" + varint(size)
        self.child_head = b"\x12" + varint(size + _PARENT.size)


_NO_FRAME = _Frame(None, "", [])


def _own_body(span: RecordingSpan) -> bytes:
    try:
        return _own(span)
    except Exception:  # noqa: BLE001 - unusual, or a signal's; the next line says which
        return either(_usual, stock_body, span)


def stock_body(span: ReadableSpan) -> bytes:
    """Have the stock encoder lay out one span."""
    request = stock_request([span])
    body: bytes = request.resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    return body


def _usual(span: ReadableSpan) -> bytes:
    context = span.get_span_context()
    if context is None:
        raise UnusualError
    parent = span.parent
    parts = [ids(context.trace_id, context.span_id)]
    state = context.trace_state
    if state or type(state) is not TraceState:
        parts.append(trace_state_field(state))
    if parent:
        parts.append(parent_field(parent.span_id))
    parts.append(name_and_kind(span.name, span.kind))
    parts.append(times(span.start_time, span.end_time))
    parts.append(attributes_bytes(ATTRIBUTES, span.attributes))
    if dropped := span.dropped_attributes:
        parts.append(count_field(DROPPED_ATTRIBUTES, dropped))
    if events := span.events:
        parts.append(events_bytes(events))
    if dropped := span.dropped_events:
        parts.append(count_field(DROPPED_EVENTS, dropped))
    if links := span.links:
        parts.append(links_bytes(links))
    if dropped := span.dropped_links:
        parts.append(count_field(DROPPED_LINKS, dropped))
    parts.append(status_field(span.status))
    parts.append(FLAGS_REMOTE if parent and parent.is_remote else FLAGS_LOCAL)
    return b"".join(parts)


def _own(span: RecordingSpan) -> bytes:
    """Lay out a span of ours by its own fields: what its shape has, is laid out."""
    detail = span.detail or SpanDetail()
    name, shared = span.shape.encoded or _encoded(span.shape)
    if detail.name is not None:
        name = name_and_kind(detail.name, span.shape.kind)
    own = detail.attributes
    if own is not None:
        shared = attributes_bytes(ATTRIBUTES, own.copy())
        shared += count_field(DROPPED_ATTRIBUTES, detail.dropped)
    elif span.correlation_id:
        shared += _correlation(span.correlation_id)
    parts = (
        ids(span.trace_id, span.span_id),
        trace_state_field(span.heritage[1]),
        parent_field(span.parent_id) if span.parent_id else b"",
        name,
        times(span.started_ns, span.ended_ns),
        shared,
        events_bytes(span.events),
        count_field(DROPPED_EVENTS, span.dropped_events),
        links_bytes(span.links),
        count_field(DROPPED_LINKS, span.dropped_links),
        status_field(detail.status),
        FLAGS_REMOTE if detail.is_parent_remote else FLAGS_LOCAL,
    )
    return b"".join(parts)


def _correlation(correlation_id: str) -> bytes:
    # The spans of one request have one, and come one after the other.
    known = _latest_correlation.get(correlation_id)
    if known is None:
        known = attribute_field(ATTRIBUTES, C.ATTR_CORRELATION_ID, correlation_id)
        _latest_correlation.clear()
        _latest_correlation[correlation_id] = known
    return known


def _encoded(shape: SpanShape) -> tuple[bytes, bytes]:
    attributes = attributes_bytes(ATTRIBUTES, shape.attributes)
    attributes += count_field(DROPPED_ATTRIBUTES, shape.dropped)
    shape.encoded = name_and_kind(shape.name, shape.kind), attributes
    return shape.encoded


# -- the fields of a span, in their order


def ids(trace_id: int, span_id: int) -> bytes:
    """Lay out the ids of a span."""
    return _pack_ids(0x0A10, trace_id >> 64, trace_id & _LOW_64, 0x1208, span_id)


def trace_state_field(state: TraceState | None) -> bytes:
    """Lay out a trace state."""
    if state is None:
        return b""
    return text_field(b"\x1a", ",".join([f"{k}={v}" for k, v in state.items()]))


def parent_field(span_id: int) -> bytes:
    """Lay out the id of the parent."""
    return _pack_parent(0x2208, span_id)


def name_and_kind(name: str, kind: SpanKind) -> bytes:
    """Lay out the name and the kind."""
    if kind is _INTERNAL:
        return _names[name] + b"\x30\x01"
    return _names[name] + _KINDS[kind]


def times(start_time: int | None, end_time: int | None) -> bytes:
    """Lay out both times, nanoseconds since the epoch."""
    if start_time and end_time and type(start_time) is type(end_time) is int:
        return _pack_times(0x39, start_time, 0x41, end_time)
    return fixed64_field(b"\x39", start_time) + fixed64_field(b"\x41", end_time)


def events_bytes(events: Iterable[Event]) -> bytes:
    """Lay out all events."""
    return b"".join(
        b"\x5a"
        + sized(
            fixed64_field(b"\x09", event.timestamp)
            + _event_names[event.name]
            + attributes_bytes(b"\x1a", event.attributes)
            + count_field(b"\x20", event.dropped_attributes)
        )
        for event in events
    )


def links_bytes(links: Iterable[Link]) -> bytes:
    """Lay out all links; as in the stock encoder, without their trace states."""
    return b"".join([b"\x6a" + sized(_link(link, link.context)) for link in links])


def _link(link: Link, context: SpanContext) -> bytes:
    parts = (
        ids(context.trace_id, context.span_id),
        attributes_bytes(b"\x22", link.attributes),
        count_field(b"\x28", link.dropped_attributes),
        _LINK_FLAGS_REMOTE if context.is_remote else _LINK_FLAGS_LOCAL,
    )
    return b"".join(parts)


def status_field(status: Status | None) -> bytes:
    """Lay out the status; one that is unset is there, and empty."""
    if status is None:
        return b""
    code, description = status.status_code, status.description
    if code is _UNSET and description is None:
        return _STATUS_UNSET
    message = text_field(b"\x12", description)
    return b"\x7a" + sized(message + _STATUS_CODES[code])
