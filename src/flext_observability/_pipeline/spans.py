"""Our own span: cheap to make, and an SDK span for everyone who looks at it.

It stands on the public bases ``opentelemetry.trace.Span`` and
``opentelemetry.sdk.trace.ReadableSpan`` and reads no private field of the SDK. What
all spans of one operation share sits in one :class:`SpanShape`; ids are plain integers,
and a ``SpanContext``, attributes, events and links are made when somebody asks.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, TypeAlias

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import (
    InstrumentationInfo,
    InstrumentationScope,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import AnyValue, Attributes

from ..constants import FlextObservabilityConstants as C
from ..locks import ForkSafeLock
from .exception_events import ExceptionEvent
from .exceptions import CapturedException
from .guards import legal_attribute, legal_attributes
from .ids import random_bits
from .record_parts import counted, legal_time
from .sdk_names import add_sdk_names
from .span_shape import SpanShape, within_limits
from .values import clean_attributes, clean_text

SAMPLED = int(TraceFlags.SAMPLED)
SAMPLED_RANDOM = SAMPLED | int(TraceFlags.RANDOM_TRACE_ID)
# The very object that contexts without a state of their own hold.
NO_STATE = SpanContext(1, 1, is_remote=False).trace_state
# What a span takes over from its parent: flags and trace state.
Heritage: TypeAlias = tuple[int, TraceState]
USUAL: Heritage = (SAMPLED_RANDOM, NO_STATE)
UNSAMPLED: Heritage = (int(TraceFlags.RANDOM_TRACE_ID), NO_STATE)
UNSET = Status(StatusCode.UNSET)

_SCALARS = frozenset({str, bool, int, float, bytes})


class SpanDetail:
    """What most spans do not have: it is made when the first of it comes."""

    __slots__ = (
        "attributes",
        "dropped",
        "dropped_events",
        "events",
        "is_parent_remote",
        "links",
        "marks_errors",
        "name",
        "records_errors",
        "status",
    )

    def __init__(self) -> None:
        self.attributes: dict[str, Any] | None = None
        """Once they differ from the shape's."""
        self.dropped = 0
        """Attributes that limits left out; counted with the former."""
        self.events: list[Event] | None = None
        self.dropped_events = 0
        """The oldest ones, which the limit has cost."""
        self.links: BoundedList[Link] | None = None
        self.name: str | None = None
        """Where it is not the shape's."""
        self.is_parent_remote = False
        self.status = UNSET
        # What leaving the span as a context manager does with an exception.
        self.records_errors = True
        self.marks_errors = True


_NO_DETAIL = SpanDetail()
# What a span has of its own is made under it, once; shared, since that is rare.
_creation = ForkSafeLock()


class RecordingSpan(ReadableSpan, Span):
    """A sampled span that is under way, or over.

    Whoever makes one stores the fields that have no default here; defaults of a class
    are slow to read and to replace.
    """

    shape: SpanShape
    trace_id: int
    span_id: int
    parent_id: int
    """0 of a root."""
    heritage: Heritage
    started_ns: int
    ended_ns: int | None
    correlation_id: str
    """Where the attributes are the shape's; ``""`` for none."""
    detail: SpanDetail | None
    own_context: SpanContext | None = None
    parent_context: SpanContext | None = None
    """Where the parent is no span of ours."""

    def __init__(self) -> None:
        """Refuse: tracers make spans."""
        raise TypeError("spans are made by tracers")

    # -- identity

    def get_span_context(self) -> SpanContext:
        """Give ids, flags and trace state."""
        return _context_of(self)

    @property
    def context(self) -> SpanContext:
        """Ids, flags and trace state."""
        return _context_of(self)

    @property
    def parent(self) -> SpanContext | None:
        """The parent's context; ``None`` of a root."""
        if self.parent_context is not None or not self.parent_id:
            return self.parent_context
        return SpanContext(
            self.trace_id,
            self.parent_id,
            is_remote=False,
            trace_flags=TraceFlags(self.heritage[0]),
            trace_state=self.heritage[1],
        )

    # -- reading

    @property
    def name(self) -> str:
        """The name."""
        name = (self.detail or _NO_DETAIL).name
        return self.shape.name if name is None else name

    @property
    def kind(self) -> SpanKind:
        """The kind."""
        return self.shape.kind

    @property
    def start_time(self) -> int:
        """Nanoseconds since the epoch."""
        return self.started_ns

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the epoch; ``None`` while it is under way."""
        return self.ended_ns

    @property
    def status(self) -> Status:
        """How it went."""
        return (self.detail or _NO_DETAIL).status

    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        """The attributes, read-only."""
        own = (self.detail or _NO_DETAIL).attributes
        return MappingProxyType(self._initial() if own is None else own)

    @property
    def dropped_attributes(self) -> int:
        """How many attributes the limits left out."""
        detail = self.detail or _NO_DETAIL
        return self.shape.dropped if detail.attributes is None else detail.dropped

    @property
    def events(self) -> Sequence[Event]:
        """The events, oldest first."""
        return tuple((self.detail or _NO_DETAIL).events or ())

    @property
    def dropped_events(self) -> int:
        """How many events the limits left out."""
        return (self.detail or _NO_DETAIL).dropped_events

    @property
    def links(self) -> Sequence[Link]:
        """The links."""
        return tuple((self.detail or _NO_DETAIL).links or ())

    @property
    def dropped_links(self) -> int:
        """How many links the limits left out."""
        links = (self.detail or _NO_DETAIL).links
        return 0 if links is None else links.dropped

    @property
    def resource(self) -> Resource:
        """Who made it."""
        return self.shape.tracing.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """What made it."""
        return self.shape.scope

    @property
    def instrumentation_info(self) -> InstrumentationInfo | None:
        """Nothing: the scope has replaced it since 1.11."""
        return None

    @property
    def _attributes(self) -> dict[str, Any]:
        """Attributes that can be written: processors of others do so, by this name."""
        return self._writable()

    @_attributes.setter
    def _attributes(self, attributes: Mapping[str, Any] | None) -> None:
        self._writable()  # it counts what was dropped before
        self.detailed().attributes = dict(attributes or {})

    def _readable_span(self) -> ReadableSpan:
        return self.readable()

    def readable(self) -> ReadableSpan:
        """Give a copy that is a plain object of the SDK."""
        detail = self.detail or _NO_DETAIL
        attributes = BoundedAttributes(attributes=dict(self.attributes))
        attributes.dropped = self.dropped_attributes
        return ReadableSpan(
            name=self.name,
            context=self.context,
            parent=self.parent,
            resource=self.resource,
            attributes=attributes,
            events=counted(detail.events or (), detail.dropped_events),
            links=detail.links or (),
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def to_json(self, indent: int | None = 4) -> str:
        """Give the span as JSON, in the SDK's form."""
        text: str = self.readable().to_json(indent)
        return text

    def __repr__(self) -> str:
        """Show name and ids."""
        return f'{type(self).__name__}(name="{self.name}", context={self.context})'

    # -- writing, which nothing does any more once the span has ended

    def is_recording(self) -> bool:
        """Whether it is under way."""
        return self.ended_ns is None

    def detailed(self) -> SpanDetail:
        """Give what most spans do not have, to be written."""
        if self.detail is None:
            with _creation:  # two threads may begin at once
                if self.detail is None:
                    self.detail = SpanDetail()
        return self.detail

    def _initial(self) -> dict[str, Any]:
        """Give the attributes of a span that nobody has touched."""
        shape = self.shape
        if not self.correlation_id:
            return shape.attributes
        return {**shape.attributes, C.ATTR_CORRELATION_ID: self.correlation_id}

    def _writable(self) -> dict[str, Any]:
        detail = self.detailed()
        if detail.attributes is None:
            with _creation:
                if detail.attributes is None:
                    detail.dropped = self.shape.dropped
                    detail.attributes = dict(self._initial())
        return detail.attributes

    def set_attribute(self, key: Any, value: Any) -> None:
        """Set an attribute; any value is made legal."""
        if self.ended_ns is not None:
            return
        if type(key) is str and key and type(value) in _SCALARS:
            self.put_attribute(key, value)
            return
        with suppress(Exception):  # whatever the value raises
            self._set_any({clean_text(key): legal_attribute(value)})

    def put_attribute(self, key: str, value: Any) -> None:
        """Set a legal attribute, within the limits."""
        if self.shape.limits.max_span_attribute_length is None:
            self._keep(key, value, self.shape.limits.max_span_attributes)
        else:
            self._set_any({key: value})

    def set_attributes(self, attributes: Any) -> None:
        """Set attributes; any values are made legal."""
        if self.ended_ns is None:
            with suppress(Exception):  # whatever the values raise
                self._set_any(legal_attributes(attributes) or {})

    def begin_with(self, attributes: Attributes) -> None:
        """Take the attributes it was started with; legal ones."""
        shape = self.shape
        if shape.attributes:
            attributes = {**shape.attributes, **(attributes or {})}
        detail = self.detailed()
        detail.attributes, detail.dropped = within_limits(attributes, shape.limits)

    def add_missing(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes that it does not have; legal ones."""
        for key, value in attributes.items():
            if key not in self._writable():
                self.put_attribute(key, value)

    def _set_any(self, attributes: Mapping[str, Any]) -> None:
        limits = self.shape.limits
        most = limits.max_span_attributes
        made = BoundedAttributes(
            attributes=attributes, max_value_len=limits.max_span_attribute_length
        )
        for key, value in made.items():
            self._keep(key, value, most)
        if made.dropped:
            self._writable()  # what is dropped is counted beside what is kept
            self.detailed().dropped += made.dropped

    def _keep(self, key: str, value: Any, most: int | None) -> None:
        """Set a legal attribute as the SDK does: the oldest one makes room."""
        own = self._writable()
        own.pop(key, None)
        if most is not None and len(own) >= most:
            self.detailed().dropped += 1
            if not most:
                return
            with suppress(StopIteration, KeyError, RuntimeError):  # another thread's
                own.pop(next(iter(own)))
        own[key] = value

    def add_event(
        self, name: Any, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event; any values are made legal."""
        if self.ended_ns is not None:
            return
        try:
            legal = legal_attributes(attributes)
        except Exception:  # noqa: BLE001 - whatever the values raise
            legal = clean_attributes(attributes)
        text = name if type(name) is str else clean_text(name)
        self._add_event(Event(text, self._bounded_event(legal), timestamp))

    def _bounded_event(self, attributes: Attributes) -> BoundedAttributes:
        limits = self.shape.limits
        return BoundedAttributes(
            limits.max_event_attributes,
            attributes,
            max_value_len=limits.max_attribute_length,
        )

    def _add_event(self, event: Event) -> None:
        """Add an event; beyond the limit the oldest one goes, as in the SDK."""
        detail, limit = self.detailed(), self.shape.limits.max_events
        with _creation:
            events = detail.events = detail.events or []
            events.append(event)
            if limit is not None and len(events) > limit:
                del events[0]
                detail.dropped_events += 1

    def add_link(self, context: Any, attributes: Attributes = None) -> None:
        """Add a link; what leads nowhere is left out."""
        if self.ended_ns is not None or not isinstance(context, SpanContext):
            return
        if not (context.is_valid or attributes or context.trace_state):
            return
        try:
            legal = legal_attributes(attributes)
        except Exception:  # noqa: BLE001 - whatever the values raise
            legal = clean_attributes(attributes)
        self.keep_links([Link(context, legal)])

    def keep_links(self, links: Sequence[Link]) -> None:
        """Add links whose attributes are legal, within the limits."""
        limits = self.shape.limits
        detail = self.detailed()
        if detail.links is None:
            with _creation:
                if detail.links is None:
                    detail.links = BoundedList(limits.max_links)
        kept = detail.links
        for link in links:
            context = link.context
            if not (context.is_valid or link.attributes or context.trace_state):
                continue  # it leads nowhere
            bounded = BoundedAttributes(
                limits.max_link_attributes,
                link.attributes,
                max_value_len=limits.max_attribute_length,
            )
            kept.append(Link(link.context, bounded))

    def update_name(self, name: Any) -> None:
        """Give it another name."""
        if self.ended_ns is None:
            self.detailed().name = name if type(name) is str else clean_text(name)

    def set_status(self, status: Any, description: Any = None) -> None:
        """Say how it went; OK is final, and unset says nothing."""
        if self.ended_ns is not None:
            return
        if isinstance(status, StatusCode):
            text = description if description is None else clean_text(description)
            status = Status(status, text if status is StatusCode.ERROR else None)
        if not isinstance(status, Status) or status.status_code is StatusCode.UNSET:
            return
        if self.status.status_code is not StatusCode.OK:
            self.detailed().status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - signature of the API
    ) -> None:
        """Record an exception, also one that has no text."""
        if self.ended_ns is not None:
            return
        with suppress(Exception):  # an exception that is hostile altogether
            limits = self.shape.limits
            more = clean_attributes(attributes) if attributes else {}
            self._add_event(
                ExceptionEvent(
                    exception, limits, more, escaped=escaped, timestamp=timestamp
                )
            )

    def note_failure(
        self,
        error: CapturedException | None,
        attributes: Mapping[str, str],
        description: str,
        moment_ns: int | None = None,
    ) -> None:
        """Say how it failed.

        Args:
            error: What was raised, if that shall be told.
            attributes: Legal ones.
            description: Of the status.
            moment_ns: When, nanoseconds since the epoch; now when not given.
        """
        if self.ended_ns is not None:
            return
        if self.detail is None:
            self._begin_detail(attributes)
        else:
            for key, value in attributes.items():
                self.put_attribute(key, value)
        detail = self.detailed()
        if error is not None:
            limits = self.shape.limits
            event = ExceptionEvent(error, limits, {}, timestamp=moment_ns)
            if detail.events is None and limits.max_events != 0:
                detail.events = [event]
            else:
                self._add_event(event)
        if detail.status.status_code is not StatusCode.OK:
            detail.status = Status(StatusCode.ERROR, description)

    def _begin_detail(self, attributes: Mapping[str, str]) -> None:
        """Make in one step what a failure needs; nobody else has touched the span."""
        limits, own = self.shape.limits, {**self._initial(), **attributes}
        most = limits.max_span_attributes
        is_short = most is None or len(own) <= most
        if is_short and limits.max_span_attribute_length is None:
            detail = SpanDetail()
            detail.attributes, detail.dropped = own, self.shape.dropped
            self.detail = detail
            return
        for key, value in attributes.items():
            self.put_attribute(key, value)

    def end(self, end_time: int | None = None) -> None:
        """End it; only the first time counts."""
        moment = time.time_ns() if end_time is None else legal_time(end_time) or 0
        # Nothing is called between these two: one thread ends it.
        if self.ended_ns is not None:
            return
        self.ended_ns = moment
        self.shape.tracing.take(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End it; an exception is recorded and passes through."""
        if error is not None and self.ended_ns is None:
            detail = self.detail or _NO_DETAIL
            if detail.records_errors:
                self.record_exception(error, escaped=True)
            if detail.marks_errors:
                text = f"{type(error).__name__}: {clean_text(error)}"
                self.set_status(Status(StatusCode.ERROR, text))
        with suppress(Exception):
            self.end()


add_sdk_names(RecordingSpan)


class UnsampledSpan(NonRecordingSpan):
    """A span that the sampler leaves out; its context is made when asked for."""

    trace_id: int
    span_id = 0  # until somebody asks for it
    heritage: Heritage
    own_context: SpanContext | None = None
    started_ns = 0
    ended_ns: int | None = 0  # there is nothing to end
    shape: SpanShape
    """Never set, nor asked for."""

    def __init__(self) -> None:
        """Refuse: tracers make spans."""
        raise TypeError("spans are made by tracers")

    def get_span_context(self) -> SpanContext:
        """Give ids, flags and trace state."""
        if not self.span_id:
            self.span_id = random_bits(64) or 1
        return _context_of(self)

    def __repr__(self) -> str:
        """Show the context."""
        return f"NonRecordingSpan({self.get_span_context()!r})"


def _context_of(span: RecordingSpan | UnsampledSpan) -> SpanContext:
    """Give the context of a span; it is made at the first request."""
    known = span.own_context
    if known is None:
        known = span.own_context = SpanContext(
            span.trace_id,
            span.span_id,
            is_remote=False,
            trace_flags=TraceFlags(span.heritage[0]),
            trace_state=span.heritage[1],
        )
    return known


def unread_properties() -> set[str]:
    """Give what the SDK's base would read from fields that our spans do not have."""
    public = {name for name in vars(ReadableSpan) if not name.startswith("_")}
    return public - set(vars(RecordingSpan))
