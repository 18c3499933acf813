"""Lines of standard logging: caught as few plain fields, read in the writer's thread.

An OTel log record costs three times the line it is made of. Where a line goes to a
collector only, nobody needs the record itself: what the encoder reads is made of the
line later, outside the program's time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .severities import severity_of
from .values import clean_attributes, clean_text

_SITES_KEPT = 4096
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
]
"""A line as it was when it was written, in a plain tuple, which costs least.

When it was created, in seconds, and seen, in nanoseconds; level, text, name of the
logger; file, function, line; its span; legal and plain attributes of its own, and what
the context says, which is weaker. Nothing in it changes any more.
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
        created_s, observed_ns, level, text, *_, span, _, _ = line
        span = span or INVALID_SPAN_CONTEXT
        self.timestamp: int | None = int(created_s * 1e9)
        self.observed_timestamp: int | None = observed_ns
        self.trace_id: int | None = span.trace_id
        self.span_id: int | None = span.span_id
        self.trace_flags: TraceFlags | None = span.trace_flags
        self.severity_number, self.severity_text = severity_of(level)
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
        self.put: Callable[[Line], None] = _discard
        """Takes lines into the queue of records."""
        self._provider = provider
        self._limit = attribute_limit
        self._sites: dict[tuple[object, ...], dict[str, AnyValue]] = {}
        self._scopes: dict[str, InstrumentationScope | None] = {}

    def fits(self, attributes: Attributes) -> bool:
        """Whether the SDK would take these attributes as they are."""
        # Besides these, the place in the code and the correlation id.
        is_few = self._limit is None or len(attributes) + 4 <= self._limit
        return is_few and _PLAIN.issuperset(map(type, attributes.values()))

    def read(self, records: Sequence[Any]) -> list[Any]:
        """Give records for lines; what is one already stays."""
        return [self._read(cast("Line", r)) if type(r) is tuple else r for r in records]

    def _read(self, line: Line) -> LineRecord:
        *_, logger, path, function, number, _, extra, stated = line
        attributes: Attributes = self._site(path, function, number)
        has_own = bool(extra or stated)
        if has_own:
            attributes = {**(extra or {}), **attributes}
            for name, value in (stated or {}).items():
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

    def add_log_record_processor(
        self, log_record_processor: LogRecordProcessor
    ) -> None:
        """Add a processor; from now on every line becomes a record."""
        if self.lines is not None:
            self.lines.is_open = False
        super().add_log_record_processor(log_record_processor)
