"""Lines of standard logging: caught as few plain fields, read in the writer's thread.

An OTel log record costs three times the line it is made of. Where a line goes to a
collector only, nobody needs the record itself: what the encoder reads is made of the
line later, outside the program's time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Span,
    SpanContext,
    TraceFlags,
)
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from ..correlation import context_attributes, explicit_correlation_id
from .exceptions import CapturedException
from .processors import stated_attributes
from .severities import severity_of
from .values import clean_attributes, clean_text

_SITES_KEPT = 4096
# Attributes of an event of ours, and what the context may say about it.
_MOST = 64
_SCOPES_KEPT = 1000
_PLAIN = frozenset({str, bool, int, float})
Attributes = Mapping[str, AnyValue]


Line = tuple[
    float,
    int,
    int,
    str,
    str,
    object,
    object,
    object,
    SpanContext | None,
    Attributes | None,
    Attributes | None,
    str,
]
"""A line as it was when it was written, in a plain tuple, which costs least.

When it was created, in seconds, and seen, in nanoseconds; level, text, name of the
logger; file, function, line; its span; legal and plain attributes of its own, and what
the context says, which is weaker, with the correlation id. Nothing in it changes.
"""


class LineRecord:
    """A line as the encoder reads log records of the SDK: both of their halves."""

    __slots__ = (
        "attributes",
        "body",
        "dropped_attributes",
        "event_name",
        "has_own_attributes",
        "instrumentation_scope",
        "observed_timestamp",
        "resource",
        "severity_number",
        "severity_text",
        "span_id",
        "timestamp",
        "trace_flags",
        "trace_id",
    )

    def __init__(
        self,
        line: Line,
        attributes: Attributes,
        resource: Resource,
        scope: InstrumentationScope | None,
        *,
        has_own_attributes: bool,
    ) -> None:
        """Take a line apart.

        Args:
            line: Whose.
            attributes: All of it.
            has_own_attributes: Whether they are those of this record only. Otherwise
                all lines from one place share one object, which never changes.
            resource: Who logs.
            scope: The logger.
        """
        created_s, observed_ns, level, text, *_, span, _, _, _ = line
        span = span or INVALID_SPAN_CONTEXT
        self.timestamp: int | None = _nanoseconds(created_s)
        self.observed_timestamp: int | None = observed_ns
        self.trace_id: int | None = span.trace_id
        self.span_id: int | None = span.span_id
        self.trace_flags: TraceFlags | None = span.trace_flags
        self.severity_number, self.severity_text = _severity(level)
        self.body: AnyValue = text
        self.attributes: Attributes | None = attributes
        self.event_name: str | None = None
        self.has_own_attributes = has_own_attributes
        self.dropped_attributes = 0
        self.resource = resource
        self.instrumentation_scope = scope

    @property
    def log_record(self) -> "LineRecord":
        """The half that is the record itself."""
        return self

    def change(
        self, made: Mapping[str, Any], scope: InstrumentationScope | None
    ) -> "LineRecord":
        """Take cleaned parts; nobody else has this object."""
        for name, value in made.items():
            setattr(self, name, value)
        self.instrumentation_scope = scope
        return self


def _severity(level: int) -> tuple[Any, str | None]:
    try:
        return severity_of(level)
    except Exception:  # noqa: BLE001 - a filter put something else there
        return None, None


def _nanoseconds(seconds: float) -> int:
    try:
        return int(seconds * 1e9)
    except Exception:  # noqa: BLE001 - a filter put something else there
        return 0


class EventLine:
    """An event of ours, as it was when it happened; see :data:`Line`."""

    __slots__ = (
        "attributes",
        "body",
        "captured",
        "correlation_id",
        "level",
        "moment_ns",
        "name",
        "span",
        "stated",
    )

    def __init__(
        self,
        level: int,
        body: str,
        attributes: dict[str, AnyValue],
        name: str,
        captured: CapturedException | None,
        span: Span,
    ) -> None:
        """Take it down.

        Args:
            level: Of standard logging.
            body: What is said.
            attributes: Legal and plain ones; nobody changes them any more.
            name: Of the event.
            captured: Its exception, whose stack is put into words later.
            span: In which it happened.
        """
        self.moment_ns = time.time_ns()
        self.level = level
        self.body = body
        self.attributes = attributes
        self.name = name
        self.captured = captured
        self.span = span
        self.correlation_id = explicit_correlation_id()
        self.stated = context_attributes()

    def record(
        self, resource: Resource, scope: InstrumentationScope | None
    ) -> LineRecord:
        """Give what the encoder reads."""
        attributes = self.attributes
        if self.captured is not None:
            attributes |= self.captured.attributes()
        stated = stated_attributes(self.correlation_id, self.stated)
        for name, value in stated.items():
            attributes.setdefault(name, value)
        line = (
            *(0.0, self.moment_ns, self.level, self.body, "", None, None, None),
            *(self.span.get_span_context(), None, None, ""),
        )
        made = LineRecord(line, attributes, resource, scope, has_own_attributes=True)
        made.timestamp, made.event_name = self.moment_ns, self.name
        return made


class LineSink:
    """Takes the lines of the log bridge for one pipeline, and reads them later."""

    def __init__(self, provider: LoggerProvider, attribute_limit: int | None) -> None:
        """Prepare.

        Args:
            provider: Of the records that are no lines; loggers are its scopes.
            attribute_limit: Most attributes of a record.
        """
        self.is_open = False
        """Whether a line may be given here instead of to the provider."""
        self.put: Callable[[Line | EventLine], None] = _discard
        """Takes lines into the queue of records."""
        self._provider = provider
        self._limit = attribute_limit
        self._sites: dict[tuple[object, ...], dict[str, AnyValue]] = {}
        self._scopes: dict[str, InstrumentationScope | None] = {}

    @property
    def has_room(self) -> bool:
        """Whether an event of ours, with all its attributes, may be given here."""
        return self.is_open and (self._limit is None or self._limit >= _MOST)

    def put_event(
        self,
        level: int,
        body: str,
        attributes: dict[str, AnyValue],
        name: str,
        captured: CapturedException | None,
        span: Span,
    ) -> None:
        """Take an event of ours; see :class:`EventLine`."""
        self.put(EventLine(level, body, attributes, name, captured, span))

    def fits(self, attributes: Attributes) -> bool:
        """Whether the SDK would take these attributes as they are."""
        # Besides these, the place in the code and the correlation id.
        is_few = self._limit is None or len(attributes) + 4 <= self._limit
        return is_few and _PLAIN.issuperset(map(type, attributes.values()))

    def read(self, records: Sequence[Any]) -> list[Any]:
        """Give records for lines; what is one already stays."""
        return [self._read(record) for record in records]

    def _read(self, record: Any) -> Any:
        if type(record) is tuple:
            return self._read_line(cast("Line", record))
        if type(record) is EventLine:
            return record.record(self._provider.resource, self._scope(C.SCOPE_NAME))
        return record

    def _read_line(self, line: Line) -> LineRecord:
        *_, logger, path, function, number, _, extra, stated, correlation_id = line
        attributes: Attributes = self._site(path, function, number)
        has_own = bool(extra or stated or correlation_id)
        if has_own:
            attributes = {**(extra or {}), **attributes}
            weaker = stated_attributes(correlation_id, stated or {})
            for name, value in weaker.items():
                attributes.setdefault(name, value)
        return LineRecord(
            line,
            attributes,
            self._provider.resource,
            self._scope(logger),
            has_own_attributes=has_own,
        )

    def _site(self, *key: object) -> dict[str, AnyValue]:
        """Give the place in the code: one object for all lines from there."""
        try:
            known = self._sites.get(key)
        except Exception:  # noqa: BLE001 - a filter put something else there
            return site_attributes(*key)
        if known is None:
            if len(self._sites) >= _SITES_KEPT:
                self._sites.clear()
            known = self._sites[key] = site_attributes(*key)
        return known

    def _scope(self, name: str) -> InstrumentationScope | None:
        if name not in self._scopes:
            if len(self._scopes) >= _SCOPES_KEPT:
                self._scopes.clear()
            logger: Any = self._provider.get_logger(clean_text(name or "root"))
            scope = getattr(logger, "instrumentation_scope", None)
            self._scopes[name] = scope
        return self._scopes[name]


def site_attributes(path: object, function: object, number: object) -> dict[str, Any]:
    """Say where in the code something was logged."""
    return clean_attributes(
        {
            C.ATTR_CODE_FILE_PATH: clean_text(path),
            C.ATTR_CODE_FUNCTION_NAME: clean_text(function),
            C.ATTR_CODE_LINE_NUMBER: number,
        }
    )


def _discard(_: object) -> None:
    """Take a line where there is no exporter."""


class WatchedLoggerProvider(LoggerProvider):
    """The SDK's, which tells when somebody adds a processor: it wants real records."""

    lines: LineSink | None = None
    admit: Callable[[LogRecordProcessor], LogRecordProcessor | None] | None = None
    """Guards a processor that comes later; ``None`` where it is there already."""

    def add_log_record_processor(
        self, log_record_processor: LogRecordProcessor
    ) -> None:
        """Add a processor; from now on every line becomes a record."""
        shown: LogRecordProcessor | None = log_record_processor
        if self.admit is not None:
            shown = self.admit(log_record_processor)
        if shown is None:
            return
        if self.lines is not None:
            self.lines.is_open = False
        super().add_log_record_processor(shown)
