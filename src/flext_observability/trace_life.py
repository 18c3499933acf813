"""The span behind a trace entity: begun once, ended once, never lost."""

import atexit
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary, finalize

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.util.types import AnyValue

from . import runtime
from ._pipeline.exceptions import exception_attributes
from ._pipeline.ids import offer_ids, random_ids, withdraw_ids
from ._pipeline.values import clean_text
from .constants import FlextObservabilityConstants as C
from .correlation import restore
from .entities import Emission
from .failures import categorize
from .traceparent import known_traces

DROPPED: Final = "dropped"

# The traces whose `with` block this context is in: span, token and context of each.
# The span context stands for the life, which must not be held from here.
_entered: Final[ContextVar[tuple[tuple[SpanContext, object, Context], ...]]] = (
    ContextVar("flext_entered_traces", default=())
)


class Tally(Protocol):
    """Counts traces; told of each that begins and ends."""

    def begun(self, entity_id: str) -> None:
        """Count a trace that runs."""
        ...

    def ended(self, entity_id: str, status: str, duration_s: float) -> None:
        """Count its end; the status is ``dropped`` when nobody ended it."""
        ...


def make_ids() -> tuple[int, int]:
    """Make a trace id and a span id with the generator in force."""
    generator = getattr(runtime.tracer_provider(), "id_generator", None)
    if generator is None:
        generator = random_ids()
    return generator.generate_trace_id(), generator.generate_span_id()


def context_under(parent: SpanContext | None) -> Context:
    """Give the current context with this parent, or none, in place of its span."""
    if trace.get_current_span().get_span_context() == parent:
        return get_current()  # processors may want to see the span itself
    span = trace.INVALID_SPAN if parent is None else NonRecordingSpan(parent)
    return trace.set_span_in_context(span, get_current())


def foreseen_flags(
    trace_id: int,
    parent: SpanContext | None,
    name: str,
    attributes: Mapping[str, AnyValue],
) -> int:
    """Say which flags a span will have: what the sampler would decide now."""
    inherited = TraceFlags.SAMPLED if parent is None else int(parent.trace_flags)
    sampler = getattr(runtime.tracer_provider(), "sampler", None)
    if sampler is None:
        return inherited
    try:
        sampled = sampler.should_sample(
            context_under(parent), trace_id, name, SpanKind.INTERNAL, attributes, ()
        ).decision.is_sampled()
    except Exception:  # noqa: BLE001 - a foreign sampler
        return inherited
    kept = 0 if parent is None else inherited & TraceFlags.RANDOM_TRACE_ID
    return kept | TraceFlags.SAMPLED if sampled else kept


class TraceLife(Emission):
    """The mark of a trace entity and the span it stands for; shared by copies."""

    __slots__ = (
        "__weakref__",
        "_finalizer",
        "_locks",
        "_span",
        "_tallies",
        "context",
        "copies",
        "has_final_id",
        "is_stamped",
        "parent",
        "started_ns",
    )

    def __init__(self) -> None:
        super().__init__()
        self._locks: dict[int, threading.RLock] = {}
        self._span: Span = trace.INVALID_SPAN
        self._finalizer: Any = None
        self.started_ns = 0
        self._tallies: list[tuple[Tally, str]] = []
        self.has_final_id = True  # else its flags become those of the span
        self.is_stamped = False  # whether the entity's start is that of the span
        self.parent: SpanContext | None = None
        self.context: SpanContext = trace.INVALID_SPAN_CONTEXT
        # The entities that stand for the span, once there is more than one.
        self.copies: WeakValueDictionary[int, Any] | None = None

    @property
    def lock(self) -> threading.RLock:
        """The lock of this process; reentrant, for a finalizer may come in between.

        A fork copies a lock as it is, also held by a thread that the child lacks.
        """
        process = os.getpid()
        lock = self._locks.get(process)
        if lock is None:
            lock = self._locks.setdefault(process, threading.RLock())
        return lock

    @property
    def is_running(self) -> bool:
        """Whether the span began and did not end."""
        finalizer = self._finalizer
        return finalizer is not None and finalizer.alive

    @property
    def is_over(self) -> bool:
        """Whether the span ended."""
        finalizer = self._finalizer
        return finalizer is not None and not finalizer.alive

    def begin(
        self,
        name: str,
        ids: tuple[int, int],
        parent: SpanContext | None,
        attributes: Mapping[str, AnyValue],
    ) -> None:
        """Start the span; whoever calls holds the lock and has claimed it.

        Args:
            name: Of the span.
            ids: Trace id and span id that it gets.
            parent: Of the same trace; ``None`` makes a root.
            attributes: Clean ones.
        """
        self.parent = parent
        self._span = _start(name, ids, parent, attributes)
        self.context = self._span.get_span_context()
        self.started_ns = time.perf_counter_ns()
        # What is handed over must not hold the life; the tallies may still grow.
        self._finalizer = finalize(
            self,
            _end_dropped,
            os.getpid(),
            self._span,
            self.started_ns,
            self._tallies,
        )
        self._finalizer.atexit = False  # see _Running
        known_traces.add(self.context, parent, self)
        if self._span.is_recording():
            _running.add(self)

    def join(self, tally: Tally, entity_id: str) -> bool:
        """Be counted by a tally, once.

        Args:
            tally: Told of the begin now, and of the end.
            entity_id: What it knows the trace by.

        Returns:
            Whether it did not count this trace before.
        """
        with self.lock:
            if any(known is tally for known, _ in self._tallies):
                return False
            self._tallies.append((tally, entity_id))
            tally.begun(entity_id)
            if self.is_over:
                tally.ended(entity_id, DROPPED, 0.0)
            return True

    def end(
        self, status: str, text: str | None = None, error: BaseException | None = None
    ) -> float | None:
        """End the span, unless it never began or has ended.

        Args:
            status: ``completed``, ``failed`` or ``dropped``.
            text: What went wrong.
            error: The exception behind it.

        Returns:
            Seconds since it began; ``None`` when there was nothing to end.
        """
        with self.lock:
            if self._finalizer is None or self._finalizer.detach() is None:
                return None
            span, self._span = self._span, NonRecordingSpan(self.context)
        return _end(span, self.started_ns, self._tallies, status, text, error)

    # -- the span while it runs

    def enter(self) -> None:
        """Make the span current; one that never began changes nothing."""
        if not self.context.is_valid:
            return
        inside = trace.set_span_in_context(self._span)
        _entered.set((*_entered.get(), (self.context, attach(inside), inside)))

    def leave(self) -> None:
        """Make current what was before the last ``enter`` in this context."""
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            span_context, token, inside = entered[place]
            if span_context is self.context:
                _entered.set(entered[:place] + entered[place + 1 :])
                restore(token, set_here=inside)
                return

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Put clean attributes on the span."""
        for name, value in attributes.items():
            self._span.set_attribute(name, value)

    def add_event(self, name: str, attributes: Mapping[str, AnyValue]) -> None:
        """Add a moment to the span."""
        self._span.add_event(name, attributes)


class _Running:
    """The lives whose spans record, to be ended before the process leaves.

    The finalizers' own exit hook may stand before that of the pipeline, and then runs
    after it; ours is registered when a pipeline is there.
    """

    def __init__(self) -> None:
        self._lives: WeakValueDictionary[int, TraceLife] = WeakValueDictionary()
        self._is_hooked = False

    def add(self, life: TraceLife) -> None:
        self._lives[id(life)] = life
        if not self._is_hooked:
            self._is_hooked = True
            atexit.register(self.end, os.getpid())

    def end(self, process: int) -> None:
        for reference in self._lives.valuerefs():
            life = reference()
            if life is not None and os.getpid() == process:
                life.end(DROPPED)


_running: Final = _Running()


def _start(
    name: str,
    ids: tuple[int, int],
    parent: SpanContext | None,
    attributes: Mapping[str, AnyValue],
) -> Span:
    """Start a span with these ids; one that does not record where none is wanted."""
    if runtime.is_running():
        offer_ids(*ids)
        try:
            span = runtime.tracer().start_span(
                name,
                context=context_under(parent),
                attributes=dict(attributes),
            )
        except Exception:  # noqa: BLE001 - emission is separate from success
            span = trace.INVALID_SPAN
        finally:
            withdraw_ids()
        if span.get_span_context().span_id == ids[1]:
            return span
    flags = TraceFlags.SAMPLED if parent is None else int(parent.trace_flags)
    return NonRecordingSpan(
        SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(flags))
    )


def _end(
    span: Span,
    started_ns: int,
    tallies: list[tuple[Tally, str]],
    status: str,
    text: str | None = None,
    error: BaseException | None = None,
) -> float:
    duration_s = (time.perf_counter_ns() - started_ns) / 1e9
    ended_ns = time.time_ns()
    with suppress(Exception):  # a hostile exception; the span must end all the same
        _mark_end(span, status, text, error)
    with suppress(Exception):  # a foreign span processor
        span.end(ended_ns)
    for tally, entity_id in list(tallies):
        tally.ended(entity_id, status, duration_s)
    return duration_s


def _mark_end(
    span: Span, status: str, text: str | None, error: BaseException | None
) -> None:
    if not span.is_recording():
        return
    if status == DROPPED:
        span.set_attribute(C.ATTR_TRACE_END, DROPPED)
    elif status == "completed":
        span.set_status(Status(StatusCode.OK))
    else:
        if error is not None:
            span.set_attribute(C.ATTR_ERROR_TYPE, type(error).__name__)
            span.set_attribute(C.ATTR_ERROR_CATEGORY, categorize(error).value)
            span.add_event("exception", exception_attributes(error))
        span.set_status(Status(StatusCode.ERROR, clean_text(text or "")))


def _end_dropped(
    process: int, span: Span, started_ns: int, tallies: list[tuple[Tally, str]]
) -> None:
    """End the span of an entity that nobody holds any more."""
    if os.getpid() == process:  # in a forked child it is the parent's span
        _end(span, started_ns, tallies, DROPPED)
