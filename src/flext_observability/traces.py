"""The trace entity: a handle on one span, by an id that works everywhere."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import Any, ClassVar, Final, Self, cast
from weakref import WeakValueDictionary

from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.util.types import AnyValue
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from . import runtime
from ._pipeline.values import clean_attributes, clean_text, clean_value
from .constants import FlextObservabilityConstants as C
from .entities import Emission, FlextEntity, Moment, Values, Word, is_blank, utc_now
from .result import FlextResult
from .settings_reader import settings_in_force
from .trace_life import DROPPED, TraceLife, foreseen_flags, make_ids
from .traceparent import Origin, known_traces, shown_flags, write_traceparent

# Validation context of a creation function, which starts the span at once: the flags
# of the id are then those of the span itself and need not be foreseen.
CREATING: Final = {"flext_creating": True}

_ID = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
_PARENT_KEY = "parent_trace_id"

# Traces that creation functions started, as long as anybody holds them.
created_traces: Final["WeakValueDictionary[str, FlextTrace]"] = WeakValueDictionary()


def _configured_service_name() -> str:
    config = runtime.current_config()
    if config is None:
        try:
            config = settings_in_force()
        except Exception:  # noqa: BLE001 - settings from outside may be malformed
            return C.DEFAULT_SERVICE_NAME
    return config.service_name


def _attribute(value: object) -> AnyValue:
    """Make a plain value legal, and text of any other."""
    is_plain = isinstance(value, str | bool | int | float)
    return clean_value(value) if is_plain else clean_text(value)


class FlextTrace(FlextEntity):
    """A piece of work that takes time: one span, which this entity starts and ends.

    A context manager: inside the block the span is current, the end of the block ends
    it. ``id`` is a W3C traceparent, ready to be handed to another process.
    """

    RULED: ClassVar[Mapping[str, Any]] = {
        "operation_name": "",
        "service_name": "",
        "status": "",
        "id": "",
    }

    id: str = ""
    operation_name: str
    service_name: str = Field(default_factory=_configured_service_name)
    operation: str = ""
    context: Values = Field(default_factory=dict[str, object])
    parent_trace_id: str | None = None
    start_time: Moment = Field(default_factory=utc_now)
    end_time: Moment | None = None
    status: Word = "pending"
    error: str | None = None
    trace_id: str = ""
    span_id: str = ""
    _life: TraceLife = PrivateAttr(default_factory=TraceLife)

    # -- making one

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, given: object) -> object:
        """Fill in what follows from other fields."""
        if not isinstance(given, Mapping):
            return given
        fields = dict(cast("Mapping[str, object]", given))
        if "operation" not in fields and "operation_name" in fields:
            fields["operation"] = fields["operation_name"]
        context = fields.get("context")
        if not fields.get(_PARENT_KEY) and isinstance(context, Mapping):
            named = cast("Mapping[str, object]", context).get(_PARENT_KEY)
            fields[_PARENT_KEY] = None if named is None else str(named)
        if fields.get(_PARENT_KEY) == "":
            fields[_PARENT_KEY] = None
        return fields

    @model_validator(mode="after")
    def _identify(self, info: ValidationInfo) -> Self:
        """Give ids to whoever comes without: they are fixed from here on."""
        given = set(self.model_fields_set)
        if "id" in given:
            self._identify_by_id()
            return self
        origin = self.origin()
        trace_id, span_id = make_ids()
        if origin.parent is not None:
            trace_id = origin.parent.trace_id
        elif origin.trace_id is not None:
            trace_id = origin.trace_id
        if "trace_id" not in given:
            self.trace_id = f"{trace_id:032x}"
        if "span_id" not in given:
            self.span_id = f"{span_id:016x}"
        self._life.parent = origin.parent
        flags = 1
        self._life.has_final_id = info.context is not CREATING
        if self._life.has_final_id and not given & {"trace_id", "span_id"}:
            flags = foreseen_flags(
                trace_id, origin.parent, self.operation_name, self.span_attributes()
            )
        self.id = f"00-{self.trace_id}-{self.span_id}-{shown_flags(flags):02x}"
        return self

    def _identify_by_id(self) -> None:
        parts = _ID.fullmatch(self.id)
        if parts is not None:
            self.trace_id = self.trace_id or parts[1]
            self.span_id = self.span_id or parts[2]

    def validate_business_rules(self) -> FlextResult[None]:
        """Check operation name, service name, status and ids, in this order."""
        if is_blank(self.operation_name):
            return FlextResult[None].fail("Invalid operation name")
        if is_blank(self.service_name):
            return FlextResult[None].fail("Invalid service name")
        if self.status not in C.TRACE_STATUSES:
            return FlextResult[None].fail("Invalid trace status")
        parts = _ID.fullmatch(clean_text(self.id))  # it may have been assigned anything
        if parts is None or parts.groups() != (self.trace_id, self.span_id):
            return FlextResult[None].fail("Invalid trace ID")
        return FlextResult[None].ok(None)

    # -- its life

    def begin(self) -> bool:
        """Start the span, unless it was started; the rules must hold.

        Returns:
            Whether this call started it.
        """
        life = self._life
        with life.lock:
            if not life.claim():
                return False
            ids = (int(self.trace_id, 16), int(self.span_id, 16))
            life.begin(
                self.operation_name, ids, self._parent_in(ids), self.span_attributes()
            )
            if not life.has_final_id:
                life.has_final_id = True
                self.id = write_traceparent(*ids, int(life.context.trace_flags))
            self.status = "running"
            if "start_time" not in self.model_fields_set:
                self.start_time = utc_now()
                life.is_stamped = True
        stamped = ("start_time",) if life.is_stamped else ()
        self._tell_copies("id", "status", *stamped)
        return True

    def _parent_in(self, ids: tuple[int, int]) -> SpanContext | None:
        """Give the parent, which must be of the trace that the id names."""
        for parent in (self.origin().parent, self._life.parent):
            if parent is not None and parent.trace_id == ids[0]:
                return None if parent.span_id == ids[1] else parent
        return None

    def complete(self) -> "FlextResult[FlextTrace]":
        """End it well."""
        return self._finish("completed")

    def fail(self, error: object) -> "FlextResult[FlextTrace]":
        """End it badly.

        Args:
            error: What went wrong: a text, or an exception, which is recorded too.
        """
        exception = error if isinstance(error, BaseException) else None
        text = clean_text(error)
        if exception is not None and is_blank(text):
            text = type(exception).__name__
        return self._finish("failed", text, exception)

    def drop(self) -> "FlextResult[FlextTrace]":
        """End it without an outcome: nobody will do so any more."""
        return self._finish(DROPPED)

    def _finish(
        self, status: str, text: str | None = None, error: BaseException | None = None
    ) -> "FlextResult[FlextTrace]":
        duration_s = self._life.end(status, text, error)
        if duration_s is None:
            why = "Trace already ended" if self.is_over() else "Trace not started"
            return FlextResult[FlextTrace].fail(why)
        ended = self.start_time + timedelta(seconds=duration_s)
        if not self._life.is_stamped:
            ended = max(self.start_time, utc_now())
        self.end_time = ended
        self.status = "failed" if status == DROPPED else status
        self.error = DROPPED if status == DROPPED else text
        self._tell_copies("status", "end_time", "error")
        return FlextResult[FlextTrace].ok(self)

    # -- its copies: all stand for the one span

    def __copy__(self) -> Self:
        """Copy it; both take part in what becomes of the span."""
        return self._joined(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy it with its values; both take part in what becomes of the span."""
        return self._joined(super().__deepcopy__(memo))

    def _joined(self, copied: Self) -> Self:
        life = self._life
        with life.lock:
            if life.copies is None:
                life.copies = WeakValueDictionary({id(self): self})
            life.copies[id(copied)] = copied
        return copied

    def begin_anew(self) -> None:
        """Stand for a span of its own, which has not started."""
        super().begin_anew()
        with self._life.lock:
            if self._life.copies is not None:
                self._life.copies.pop(id(self), None)
        self._life = TraceLife()

    def _tell_copies(self, *fields: str) -> None:
        """Let the copies take over what became of the span."""
        copies = self._life.copies
        for reference in () if copies is None else copies.valuerefs():
            other = reference()
            if other is not None and other is not self:
                for field in fields:
                    setattr(other, field, getattr(self, field))

    def set_attribute(self, key: str, value: Any) -> FlextResult[None]:
        """Put an attribute on the span; before the start it joins the context."""
        return self.set_attributes({clean_text(key): value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> FlextResult[None]:
        """Put attributes on the span; before the start they join the context."""
        if self.is_over():
            return FlextResult[None].fail("Trace already ended")
        if self._life.done:
            self._life.set_attributes(clean_attributes(attributes))
        else:
            self.context.update(clean_attributes(attributes))
        return FlextResult[None].ok(None)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None
    ) -> FlextResult[None]:
        """Add a moment to the span, which must be running."""
        if not self._life.is_running:
            why = "Trace already ended" if self.is_over() else "Trace not started"
            return FlextResult[None].fail(why)
        self._life.add_event(clean_text(name), clean_attributes(attributes))
        return FlextResult[None].ok(None)

    def __enter__(self) -> Self:
        """Start the span unless it runs, and make it current."""
        if not self.is_over() and self.validate_business_rules().success:
            self.begin()
        self._life.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        self._life.leave()
        # Whoever closes a generator early has seen enough; that is no failure.
        if error is None or isinstance(error, GeneratorExit):
            self.complete()
        else:
            self.fail(error)

    async def __aenter__(self) -> Self:
        """Start the span unless it runs, and make it current."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        self.__exit__(kind, error, stack)

    # -- reading it

    @property
    def timestamp(self) -> datetime:
        """The same as ``start_time``."""
        return self.start_time

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; ``None`` before the end."""
        if self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds()

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds from start to end; ``None`` before the end."""
        seconds = self.duration
        return None if seconds is None else seconds * 1000

    def life(self) -> TraceLife:
        """Give the span behind this entity."""
        return self._life

    def emission(self) -> Emission:
        """Give the mark that keeps the span from being started twice."""
        return self._life

    def is_over(self) -> bool:
        """Whether it ended, here or where it was rebuilt from."""
        if self._life.done:
            return self._life.is_over
        return self.status in {"completed", "failed"}

    def origin(self) -> Origin:
        """Say where the span hangs: its parent, else the current span, else a root."""
        if self.parent_trace_id:
            named = known_traces.origin_of(self.parent_trace_id)
            if named is not None:
                return named
        current = get_current_span().get_span_context()
        return Origin(parent=current if current.is_valid else None)

    def span_attributes(self) -> dict[str, AnyValue]:
        """Give the attributes that the span starts with."""
        pairs = list(islice(self.context.items(), C.VALUE_ITEMS_LIMIT))
        attributes = {
            clean_text(key): _attribute(value)
            for key, value in pairs
            if key and key != _PARENT_KEY
        }
        attributes[C.ATTR_SERVICE_NAME] = clean_text(self.service_name)
        if self.operation != self.operation_name:
            attributes[C.ATTR_OPERATION] = clean_text(self.operation)
        if self.parent_trace_id and not known_traces.origin_of(self.parent_trace_id):
            attributes[C.ATTR_PARENT_TRACE_ID] = clean_text(self.parent_trace_id)
        return attributes
