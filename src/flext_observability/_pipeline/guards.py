"""Plain OpenTelemetry objects that raise nothing into the program.

The SDK lets through what a value raises (``__str__``, ``__iter__``, a list that holds
itself), and refuses some wrong arguments by an exception. What it refuses is made legal
and handed over once more; what it refuses then is given up. The usual call is not
touched on its way.
"""

import copy
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, cast

from opentelemetry._logs import LogRecord
from opentelemetry.metrics import CallbackOptions, CallbackT, Observation
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

from .values import (
    clean_attributes,
    clean_labels,
    clean_number,
    clean_text,
    clean_value,
    exception_attributes,
    legal_metric_name,
)

# https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
_UNIT_LENGTH = 63
_MANY = 1000


class SpanGuard:
    """What stands in front of the methods of a recording span."""

    def set_attributes(self, attributes: Any) -> None:
        """Set attributes; any values."""
        try:
            super().set_attributes(few(attributes))  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                super().set_attributes(clean_attributes(attributes))  # type: ignore[misc]  # same

    def set_attribute(self, key: Any, value: Any) -> None:
        """Set an attribute; any value."""
        try:
            super().set_attribute(key, value)  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - whatever the value raises
            with suppress(Exception):
                super().set_attribute(clean_text(key), clean_value(value))  # type: ignore[misc]  # same

    def add_event(
        self, name: Any, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event; any values."""
        try:
            super().add_event(name, few(attributes), timestamp)  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                legal = clean_attributes(attributes)
                super().add_event(clean_text(name), legal, timestamp)  # type: ignore[misc]  # same

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link; what leads nowhere is left out."""
        try:
            super().add_link(context, attributes)  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                super().add_link(context, clean_attributes(attributes))  # type: ignore[misc]  # same

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Set the status; any description."""
        try:
            super().set_status(status, description)  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - whatever the description raises
            with suppress(Exception):
                super().set_status(status, clean_text(description))  # type: ignore[misc]  # same

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - signature of the API
    ) -> None:
        """Record an exception, also one that has no text."""
        try:
            super().record_exception(exception, attributes, timestamp, escaped)  # type: ignore[misc]  # of the span
        except Exception:  # noqa: BLE001 - an exception whose __str__ fails
            with suppress(Exception):
                told = exception_attributes(exception) | clean_attributes(attributes)
                super().add_event("exception", told, timestamp)  # type: ignore[misc]  # same

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        span = cast("Any", self)
        if isinstance(error, Exception):
            note_error(
                span,
                error,
                record=getattr(span, "_record_exception", True),
                set_status=getattr(span, "_set_status_on_exception", True),
            )
        with suppress(Exception):
            span.end()


_guarded: dict[type, type] = {}


def guarded_span(span: Span) -> Span:
    """Give the same span, now guarded; one that records nothing stays as it is."""
    kind = type(span)
    guard = _guarded.get(kind)
    if guard is None:
        if not span.is_recording() or isinstance(span, SpanGuard):
            return span
        guard = type(kind.__name__, (SpanGuard, kind), {})
        _guarded[kind] = guard
    with suppress(TypeError):  # a class of another layout
        span.__class__ = guard
    return span


def note_error(span: Span, error: Exception, *, record: bool, set_status: bool) -> None:
    """Put an exception that leaves the span on it, as the SDK does."""
    with suppress(Exception):
        if not span.is_recording():
            return
        if record:
            span.record_exception(error)
        if set_status:
            text = f"{type(error).__name__}: {clean_text(error)}"
            span.set_status(Status(StatusCode.ERROR, text))


def few(attributes: Any) -> Any:
    """Give attributes as they are unless there are far more than any record keeps.

    The SDK writes a line on the log for every one that it drops.
    """
    if attributes and len(attributes) > _MANY:
        return clean_attributes(attributes)
    return attributes


def legal_scope(
    name: object, version: object, schema_url: object, attributes: object
) -> tuple[str, str | None, str | None, Attributes]:
    """Give what a tracer, meter or logger is called, whatever it was called."""
    if type(name) is str and version is schema_url is attributes is None:
        return name, None, None, None
    legal = clean_attributes(attributes) if attributes else None
    return clean_text(name), _text(version), _text(schema_url), legal


def _text(value: object) -> str | None:
    return None if value is None else clean_text(value)


def legal_links(links: object) -> list[Link]:
    """Give the links that lead somewhere, with legal attributes."""
    try:
        found = list(cast("Iterable[object]", links or ()))
    except Exception:  # noqa: BLE001 - hostile __iter__ or __bool__
        return []
    return [
        Link(link.context, clean_attributes(link.attributes))
        for link in found
        if isinstance(link, Link) and isinstance(link.context, SpanContext)
    ]


def legal_instrument(arguments: dict[str, Any]) -> dict[str, Any]:
    """Give arguments of an instrument that the SDK takes.

    It refuses names and units that are none by an exception.
    """
    name, unit = arguments["name"], arguments["unit"]
    if type(name) is not str or not _NAME.fullmatch(name):
        arguments["name"] = legal_metric_name(name)
    if type(unit) is not str or not unit.isascii() or len(unit) > _UNIT_LENGTH:
        legal = clean_text(unit or "").encode("ascii", "replace").decode("ascii")
        arguments["unit"] = legal[:_UNIT_LENGTH]
    arguments["description"] = clean_text(arguments["description"] or "")
    return arguments


def legal_record(record: object, options: dict[str, Any]) -> tuple[object, ...]:
    """Make what a log record is made of legal, in place; give the positional part."""
    if "attributes" in options:
        options["attributes"] = clean_attributes(options["attributes"])
    error = options.pop("exception", None)
    if isinstance(error, BaseException):
        told = exception_attributes(error)
        options["attributes"] = {**told, **(options.get("attributes") or {})}
    if not isinstance(record, LogRecord):
        return ()
    legal = copy.copy(record)
    legal.body = clean_value(record.body)
    legal.attributes = clean_attributes(record.attributes)
    if record.exception is not None:
        told = exception_attributes(record.exception)
        legal.attributes = {**told, **legal.attributes}
        legal.exception = None
    return (legal,)


def legal_measurement(amount: object) -> float | int | None:
    """Give a finite number, ``None`` for what is no measurement."""
    kind = type(amount)
    if kind is float or kind is int:
        number = cast("float | int", amount)
        if -1e18 < number < 1e18:  # noqa: PLR2004 - far inside 64 bits; false for NaN
            return number
    return clean_number(amount)


def guarded_callback(callback: CallbackT, refuse: Callable[[], None]) -> CallbackT:
    """Give a callback whose observations are all legal.

    The SDK collects nothing at all when one observation cannot be a series.

    Args:
        callback: Of the program; what it raises is the SDK's to report.
        refuse: Called for every observation that is none.
    """
    ask = _asker(callback)

    def read(options: CallbackOptions) -> Iterable[Observation]:
        for found in ask(options) or ():
            number = clean_number(getattr(found, "value", None))
            if number is None:
                refuse()
                continue
            labels = clean_labels(found.attributes or {})
            yield Observation(number, labels, found.context)

    return read


def _asker(callback: CallbackT) -> Callable[[CallbackOptions], Any]:
    if not isinstance(callback, Generator):
        return callback
    generator = cast("Generator[Any, CallbackOptions, None]", callback)
    state = {"is_started": False}

    def ask(options: CallbackOptions) -> Any:
        try:
            if not state["is_started"]:
                state["is_started"] = True
                next(generator)  # up to its first yield
            return generator.send(options)
        except StopIteration:
            return ()

    return ask
