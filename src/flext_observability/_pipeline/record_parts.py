"""The parts of records that are not attributes: ids, times, scopes, contexts."""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, TypeVar, cast

from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from .value_cleaning import ValueCleaner

T = TypeVar("T")
_UINT64_END = 1 << 64
_UINT32_END = 1 << 32
_SCOPES_KEPT = 512


def each(clean: Callable[[T], T], items: Sequence[T]) -> Sequence[T]:
    """Clean every item; the same sequence when all were clean."""
    if not items:
        return items
    made = [clean(item) for item in items]
    return items if all(map(is_, items, made)) else made


def counted(items: Sequence[T], dropped: int) -> Sequence[T]:
    """Make a list that carries the number of items that limits left out."""
    made = cast("Any", BoundedList)(None)
    made.extend(items)
    made.dropped = dropped
    return cast("Sequence[T]", made)


def legal_end(start: object, end: object) -> int | None:
    """Give the end of a span: not before its start, though a clock was set back."""
    first, last = legal_time(start), legal_time(end)
    return first if first is not None and last is not None and last < first else last


def legal_time(value: object) -> int | None:
    """Give nanoseconds that OTLP can express; 0, "unknown", for what is no time."""
    if value is None or (type(value) is int and 0 <= value < _UINT64_END):
        return value
    try:
        return max(0, min(int(cast("int", value)), _UINT64_END - 1))
    except Exception:  # noqa: BLE001 - anything may be given as a time
        return 0


def legal_id(value: object, size: int) -> int:
    """Give an id of so many bytes; 0, "none", for what is no such id."""
    if type(value) is int and 0 <= value < 1 << (8 * size):
        return value
    is_legal = isinstance(value, int) and 0 <= value < 1 << (8 * size)
    return int(cast("int", value)) if is_legal else 0


def legal_flags(value: object) -> TraceFlags:
    """Give trace flags that fit into their field."""
    if isinstance(value, int) and 0 <= value < _UINT32_END:
        return value if isinstance(value, TraceFlags) else TraceFlags(value)
    return TraceFlags(TraceFlags.DEFAULT)


def legal_context(context: object, values: ValueCleaner) -> SpanContext | None:
    """Give a span context whose ids OTLP can express; the same when it does."""
    if context is None or not isinstance(context, SpanContext):
        return None
    if type(context.trace_id) is int and type(context.span_id) is int:
        state = context.trace_state
        if context.is_valid and type(state) is TraceState and not state:
            return context  # the usual case: the API checked the range of the ids
    trace_id = legal_id(context.trace_id, 16)
    span_id = legal_id(context.span_id, 8)
    state = _legal_state(context.trace_state, values)
    if (
        trace_id is context.trace_id
        and span_id is context.span_id
        and state is context.trace_state
    ):
        return context
    return SpanContext(
        trace_id,
        span_id,
        is_remote=bool(context.is_remote),
        trace_flags=legal_flags(context.trace_flags),
        trace_state=state,
    )


def _legal_state(state: object, values: ValueCleaner) -> TraceState:
    """The API lets only legal entries in, but they may hold a secret."""
    if not isinstance(state, TraceState):
        return TraceState()
    if not state:
        return state
    for value in state.values():
        if values.text(value) != value:
            return TraceState()
    return state


class ScopeCleaner:
    """Cleans instrumentation scopes; there are few, and they live as long as we do."""

    def __init__(self, values: ValueCleaner) -> None:
        self._values = values
        # By identity: a scope of whatever its tracer was named may not be hashable.
        self._known: dict[int, tuple[InstrumentationScope, InstrumentationScope]] = {}

    def clean(self, scope: InstrumentationScope | None) -> InstrumentationScope | None:
        """Clean a scope."""
        if scope is None:
            return None
        known = self._known.get(id(scope))
        if known is not None and known[0] is scope:
            return known[1]
        if len(self._known) >= _SCOPES_KEPT:
            self._known.clear()
        made = self._made(scope)
        self._known[id(scope)] = (scope, made)
        return made

    def _made(self, scope: InstrumentationScope) -> InstrumentationScope:
        values = self._values
        name = values.text(scope.name)
        version = values.optional_text(scope.version)
        schema_url = values.optional_text(scope.schema_url)
        attributes = values.attributes(scope.attributes)
        same = (name, version, schema_url) == (
            scope.name,
            scope.version,
            scope.schema_url,
        )
        if same and attributes is scope.attributes:
            return scope
        return InstrumentationScope(name, version, schema_url, attributes)
