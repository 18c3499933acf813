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
from itertools import islice
from types import TracebackType
from typing import Any, cast

from opentelemetry._logs import LogRecord
from opentelemetry.metrics import CallbackOptions, CallbackT, Observation
from opentelemetry.sdk.trace import (
    _Span,  # pyright: ignore[reportPrivateUsage]  # what its tracers make
)
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

from .exceptions import exception_attributes
from .values import (
    clean_attributes,
    clean_labels,
    clean_number,
    clean_text,
    clean_value,
    legal_metric_name,
)

# https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
_UNIT_LENGTH = 63
_MANY = 1000
_NONSENSE = 100
_SCALARS = frozenset({str, bool, int, float, bytes})


class GuardedSpan(_Span):
    """A recording span of the SDK whose methods take any value."""

    def set_attributes(self, attributes: Any) -> None:
        """Set attributes; any values."""
        try:
            super().set_attributes(legal_attributes(attributes))
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                super().set_attributes(clean_attributes(attributes))

    def set_attribute(self, key: Any, value: Any) -> None:
        """Set an attribute; any value."""
        try:
            name = key if type(key) is str else clean_text(key)
            super().set_attribute(name, legal_attribute(value))
        except Exception:  # noqa: BLE001 - whatever the value raises
            with suppress(Exception):
                super().set_attribute(clean_text(key), clean_value(value))

    def add_event(
        self, name: Any, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event; any values."""
        try:
            super().add_event(name, legal_attributes(attributes), timestamp)
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                legal = clean_attributes(attributes)
                super().add_event(clean_text(name), legal, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link; what leads nowhere is left out."""
        try:
            super().add_link(context, legal_attributes(attributes))
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                super().add_link(context, clean_attributes(attributes))

    def set_status(self, status: Any, description: Any = None) -> None:
        """Set the status; any description."""
        with suppress(Exception):
            super().set_status(status, _text(description))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - signature of the API
    ) -> None:
        """Record an exception, also one that has no text."""
        try:
            told = legal_attributes(attributes)
            super().record_exception(exception, told, timestamp, escaped)
        except Exception:  # noqa: BLE001 - an exception whose __str__ fails
            with suppress(Exception):
                told = exception_attributes(exception) | clean_attributes(attributes)
                super().add_event("exception", told, timestamp)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if error is not None:
            note_error(
                self,
                error,
                record=self._record_exception,
                set_status=self._set_status_on_exception,
                escaped=True,
            )
        with suppress(Exception):
            self.end()


def guarded_span(span: Span) -> Span:
    """Give the same span, now guarded; one that records nothing stays as it is."""
    if type(span) is _Span:
        span.__class__ = GuardedSpan
    return span


def note_error(
    span: Span,
    error: BaseException,
    *,
    record: bool,
    set_status: bool,
    escaped: bool = False,
) -> None:
    """Put an exception that leaves the span on it, as the SDK does.

    Args:
        span: That it leaves.
        error: What leaves it.
        record: Whether it becomes an event.
        set_status: Whether the span has failed.
        escaped: What the event says; the SDK says so of a span that is a context
            manager itself, and not of one that is made current.
    """
    with suppress(Exception):
        if not span.is_recording():
            return
        if record:
            span.record_exception(error, escaped=escaped)
        if set_status:
            text = f"{type(error).__name__}: {clean_text(error)}"
            span.set_status(Status(StatusCode.ERROR, text))


def legal_attributes(attributes: Any) -> Any:
    """Give attributes that the SDK takes without a word; plain ones as they are.

    It follows a mapping for ever that has no end, and writes a line on the log for
    every value that is none, and for every attribute beyond what a record holds.
    """
    if attributes is None or is_plain(attributes):
        return attributes
    return clean_attributes(attributes)


def legal_labels(attributes: Any) -> Any:
    """Give attributes that can be a series; plain ones as they are."""
    if attributes is None or is_plain(attributes):
        return attributes
    return clean_labels(attributes)


def is_plain(attributes: object) -> bool:
    """Whether it is a dict of not too many names and single values."""
    if type(attributes) is not dict:
        return False
    plain = cast("dict[object, object]", attributes)
    if len(plain) > _MANY:
        return False
    for name, value in plain.copy().items():
        if type(value) not in _SCALARS or type(name) is not str or not name:
            return False
    return True


def legal_attribute(value: object) -> Any:
    """Give a value that the SDK takes without a word; a plain one as it is."""
    return value if type(value) in _SCALARS else clean_value(value)


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
        found = list(islice(cast("Iterable[object]", links or ()), _MANY))
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
        legal = (_text(unit) or "").encode("ascii", "replace").decode("ascii")
        arguments["unit"] = legal[:_UNIT_LENGTH]
    arguments["description"] = _text(arguments["description"]) or ""
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
    return (legal_log_record(record),)


def legal_log_record(record: LogRecord) -> LogRecord:
    """Give a record whose values the SDK takes; a copy, since the caller's stays."""
    legal = copy.copy(record)
    legal.body = clean_value(record.body)
    legal.attributes = clean_attributes(record.attributes)
    if record.exception is not None:
        told = exception_attributes(record.exception)
        legal.attributes = {**told, **legal.attributes}
        legal.exception = None
    return legal


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
        try:
            yield from observations(options)
        except (Exception, KeyboardInterrupt, GeneratorExit):
            raise  # reported by the SDK; the user's; we are closed
        except BaseException as error:
            # It would end the whole collection, and with it every other instrument's.
            message = f"the callback raised {type(error).__name__}"
            raise RuntimeError(message) from error

    def observations(options: CallbackOptions) -> Iterable[Observation]:
        nonsense = 0
        for found in ask(options) or ():
            number = clean_number(getattr(found, "value", None))
            if number is None:
                refuse()
                nonsense += 1
                if nonsense == _NONSENSE:
                    return  # a text or a generator of something else altogether
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
