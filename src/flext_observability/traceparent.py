"""Trace context as text, and the traces that this process has seen.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

import re
from collections import deque
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from opentelemetry.trace import SpanContext, TraceFlags

K = TypeVar("K")
V = TypeVar("V")

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_REMEMBERED = 1000


def shown_flags(flags: int) -> int:
    """Give the flags as an id shows them: 00 when the sampler left the span out."""
    return flags if flags & TraceFlags.SAMPLED else 0


def write_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """Give the header text of a span."""
    return f"00-{trace_id:032x}-{span_id:016x}-{shown_flags(flags):02x}"


def read_traceparent(text: str) -> SpanContext | None:
    """Read a header text, also of a later version; ``None`` when it is malformed.

    Args:
        text: As another process sent it; the span counts as remote.
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found["version"] == "ff":
        return None
    if found["version"] == "00" and found["more"]:
        return None
    flags = int(found["flags"], 16) & (TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
    context = SpanContext(
        int(found["trace"], 16),
        int(found["span"], 16),
        is_remote=True,
        trace_flags=TraceFlags(flags),
    )
    return context if context.is_valid else None


def read_trace_id(text: str) -> int | None:
    """Read 32 hex digits, not all zero; ``None`` for anything else."""
    return int(text, 16) or None if _TRACE_ID.fullmatch(text) else None


class _Recent(Generic[K, V]):
    """The last things put in, by key.

    Without a lock: it is written where spans start, also in finalizers and in forked
    children, and every single step is atomic.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[K, V] = {}
        self._order: deque[K] = deque()

    def put(self, key: K, value: V) -> V:
        """Keep a value unless the key is known; give the value that is kept."""
        known = self._found.get(key)
        if known is not None:
            return known
        kept = self._found.setdefault(key, value)
        if kept is value:
            self._order.append(key)
            # Each adds one and takes one out, so it stays at the limit.
            if len(self._order) > self._limit:
                self._found.pop(self._order.popleft(), None)
        return kept

    def get(self, key: K) -> V | None:
        return self._found.get(key)


class Origin(NamedTuple):
    """Where a span hangs: under a parent, or alone in a trace that is known by id."""

    parent: SpanContext | None = None
    trace_id: int | None = None


class KnownTraces:
    """What this process remembers of spans that started here."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        """Start with nothing.

        Args:
            limit: Traces, and spans of entities, that are remembered.
        """
        self._first = _Recent[int, SpanContext](limit)
        self.roots: deque[tuple[int, int, int]] = deque(maxlen=limit)
        """Trace id, span id and flags of the last spans that began a trace here."""
        self._spans = _Recent[tuple[int, int], SpanContext](limit)
        # Whoever is alive is known however long ago it started.
        self._alive: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def add_local_root(self, context: SpanContext) -> bool:
        """Remember a span when it is the first local one of its trace.

        Returns:
            Whether it is.
        """
        return self._first.put(context.trace_id, context) is context

    def add(
        self, context: SpanContext, parent: SpanContext | None, owner: object
    ) -> None:
        """Remember the span of an entity.

        Args:
            context: Of the span.
            parent: Of the span, if it has one.
            owner: Has ``context`` too, and lives as long as the entity does.
        """
        self._spans.put((context.trace_id, context.span_id), context)
        is_local_root = parent is None or parent.is_remote
        if is_local_root and self.add_local_root(context):
            self._alive.setdefault(context.trace_id, owner)

    def origin_of(self, text: str) -> Origin | None:
        """Say where a span hangs whose parent is given as text.

        Args:
            text: A traceparent, of here or of another process, or a trace id.

        Returns:
            ``None`` when the text is neither.
        """
        sent = read_traceparent(text)
        if sent is not None:
            local = self._spans.get((sent.trace_id, sent.span_id))
            return Origin(parent=local or sent)
        trace_id = read_trace_id(text)
        if trace_id is None:
            return None
        owner = self._alive.get(trace_id)
        first = self._root(trace_id) if owner is None else owner.context
        return Origin(trace_id=trace_id) if first is None else Origin(parent=first)

    def _root(self, trace_id: int) -> SpanContext | None:
        for known_id, span_id, flags in tuple(self.roots):
            if known_id == trace_id:
                return SpanContext(
                    *(known_id, span_id), is_remote=False, trace_flags=TraceFlags(flags)
                )
        return self._first.get(trace_id)


known_traces: Final = KnownTraces()
