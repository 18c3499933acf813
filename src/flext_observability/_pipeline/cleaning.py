"""The last look at records before they leave: what is illegal made legal, secrets out.

Off the hot path, on batches, behind the queue. Plain OpenTelemetry calls put anything
into a span, a log record or a measurement, and the stock encoder refuses the batch that
holds it. After this it takes every record.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any, TypeVar, cast

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from ..settings import Settings
from .log_lines import LineRecord
from .metric_cleaning import MetricCleaner
from .record_parts import (
    ScopeCleaner,
    counted,
    each,
    legal_context,
    legal_end,
    legal_flags,
    legal_id,
    legal_time,
)
from .redaction import Callback, Redactor, Report
from .span_shape import SpanShape
from .spans import UNSET, USUAL, RecordingSpan, SpanDetail
from .value_cleaning import ValueCleaner, bounded
from .values import UNPRINTABLE, set_limits

T = TypeVar("T")
# Where the SDK is told to keep any number of attributes, we keep that many.
_ATTRIBUTES_LIMIT = 1000
_UINT64_END = 1 << 64
_NO_CONTEXT = SpanContext(0, 0, is_remote=False)


def _silent(_reason: str, _message: str) -> None:
    """Say nothing."""


class Cleaner:
    """Makes records legal, bounded and free of secrets; never raises.

    What is clean already stays the same object.
    """

    def __init__(
        self,
        redactor: Redactor | None = None,
        attribute_limit: int | None = None,
        report: Report = _silent,
    ) -> None:
        """Prepare.

        Args:
            redactor: Takes secrets out; none leaves them in.
            attribute_limit: Longest text of an attribute, if the user stated one.
            report: Told of a record of which hardly anything could be kept.
        """
        self.redactor = redactor or Redactor(is_on=False)
        self._report = report
        self._values = ValueCleaner(self.redactor, attribute_limit)
        self._scopes = ScopeCleaner(self._values)
        self._clean_id = ""  # the latest correlation id, known to be clean
        self._metrics = MetricCleaner(self._values, self._scopes)

    @classmethod
    def of(
        cls,
        config: Settings,
        callback: Callback | None = None,
        report: Report = _silent,
    ) -> "Cleaner":
        """Build what the settings say.

        Args:
            config: The settings.
            callback: ``setup(redact=...)``.
            report: Told, by reason, what went wrong.

        Raises:
            FlextObservabilityConfigurationError: A pattern or the callback is none; the
                message is ``<field>: <reason>``.
        """
        redactor = Redactor.of(config, callback, report)
        length = _attribute_length(config)
        # Callers' values are cut where they are taken: not to less than is kept.
        text_limit = ValueCleaner(redactor, length).limit
        set_limits(_attribute_count(config), text_limit)
        return cls(redactor, length, report)

    def of_signal(self, signal: Signal) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Give what cleans a batch of a signal; one of metrics is of collections."""
        if signal is Signal.TRACES:
            return self.spans
        if signal is Signal.LOGS:
            return self.logs
        return lambda batch: [self.metrics(data) for data in batch]

    # -- spans

    def spans(self, records: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        """Clean a batch of finished spans."""
        return [
            span
            if type(span) is RecordingSpan
            and (
                # First the usual span, without a call: like the one before it.
                (
                    span.shape.is_clean
                    and span.correlation_id is self._clean_id
                    and span.detail is None
                    and span.heritage is USUAL
                    and 0 <= span.started_ns <= (span.ended_ns or 0) < _UINT64_END
                )
                or self._is_plainly_clean(span)
            )
            else self._safely(self._span, self._bare_span, span)
            for span in records
        ]

    def _safely(self, clean: Callable[[T], T], bare: Callable[[T], T], record: T) -> T:
        try:
            return clean(record)
        except Exception:  # noqa: BLE001 - hostile objects in it, or a signal handler's
            try:
                return clean(record)
            except Exception as error:  # noqa: BLE001 - again, so they are in it
                self._report(
                    "unclean",
                    f"a record could not be read ({type(error).__name__}); what is "
                    "left of it is sent",
                )
        try:
            return bare(record)
        except Exception:  # noqa: BLE001 - the encoder will refuse it, and it is counted
            return record

    def _span(self, span: ReadableSpan) -> ReadableSpan:
        found = (
            *(span.name, span.context, span.parent, span.kind, span.status),
            *(span.start_time, span.end_time, span.instrumentation_scope),
            *(span.attributes, span.events, span.links),
        )
        values = self._values
        made = (
            values.text(found[0]),
            legal_context(found[1], values) or _NO_CONTEXT,
            legal_context(found[2], values),
            _kind(found[3]),
            self._status(found[4]),
            legal_time(found[5]),
            legal_end(found[5], found[6]),
            self._scopes.clean(found[7]),
            values.attributes(found[8], span.dropped_attributes),
            each(self._event, found[9]),
            each(self._link, found[10]),
        )
        # By identity: what a program puts in may compare as it likes.
        if all(map(is_, found, made)):
            return span
        return ReadableSpan(
            name=made[0],
            context=made[1],
            parent=made[2],
            resource=span.resource,
            attributes=bounded(made[8], span.dropped_attributes),
            events=counted(made[9], span.dropped_events),
            links=counted(made[10], span.dropped_links),
            kind=made[3],
            status=made[4],
            start_time=made[5],
            end_time=made[6],
            instrumentation_scope=made[7],
        )

    def _is_plainly_clean(self, span: RecordingSpan) -> bool:
        """Whether a span of ours needs no closer look: the usual case; never raises."""
        shape, detail, told = span.shape, span.detail, span.correlation_id
        if shape.is_clean is None:
            shape.is_clean = self._is_clean_shape(shape)
        if (
            not shape.is_clean
            or (span.heritage is not USUAL and span.heritage[1])
            or not 0 <= span.started_ns <= (span.ended_ns or 0) < _UINT64_END
        ):
            return False
        if told and told is not self._clean_id:
            if not self._is_clean_id(told):
                return False
            self._clean_id = told
        return detail is None or self._is_clean_detail(detail)

    def _is_clean_id(self, text: str) -> bool:
        if self.redactor.spares(text):
            return True
        return self._values.value(C.ATTR_CORRELATION_ID, text) is text

    def _is_clean_detail(self, detail: SpanDetail) -> bool:
        """Whether there are but clean attributes, events and a clean status in it."""
        if detail.links is not None or detail.name is not None:
            return False
        own, status, events = detail.attributes, detail.status, detail.events
        try:
            return (
                (own is None or self._values.attributes(own, detail.dropped) is own)
                and (status is UNSET or self._status(status) is status)
                and (events is None or each(self._event, events) is events)
            )
        except Exception:  # noqa: BLE001 - hostile values; the closer look copes
            return False

    def _is_clean_shape(self, shape: SpanShape) -> bool:
        values, scope = self._values, shape.scope
        return (
            values.text(shape.name) is shape.name
            and values.attributes(shape.attributes) is shape.attributes
            and self._scopes.clean(scope) is scope
            and not self.redactor.has_callback
        )

    def _status(self, status: object) -> Status:
        if not isinstance(status, Status):
            return Status(StatusCode.UNSET)
        code, description = status.status_code, status.description
        if not isinstance(code, StatusCode):
            return Status(StatusCode.UNSET)
        text = self._values.optional_text(description)
        return status if text is description else Status(code, text)

    def _event(self, event: Event) -> Event:
        name = self._values.text(event.name)
        time = legal_time(event.timestamp)
        own, dropped = event.attributes, event.dropped_attributes
        attributes = self._values.attributes(own, dropped)
        if name is event.name and time is event.timestamp and attributes is own:
            return event
        return Event(name, bounded(attributes, dropped), time)

    def _link(self, link: Link) -> Link:
        context = legal_context(link.context, self._values) or _NO_CONTEXT
        own, dropped = link.attributes, link.dropped_attributes
        attributes = self._values.attributes(own, dropped)
        if context is link.context and attributes is own:
            return link
        return Link(context, bounded(attributes, dropped))

    def _bare_span(self, span: ReadableSpan) -> ReadableSpan:
        """Keep where a span stands and how long it took."""
        return ReadableSpan(
            name=UNPRINTABLE,
            context=legal_context(span.context, self._values) or _NO_CONTEXT,
            parent=legal_context(span.parent, self._values),
            resource=span.resource,
            start_time=legal_time(span.start_time),
            end_time=legal_end(span.start_time, span.end_time),
        )

    # -- log records

    def logs(self, records: Sequence[ReadableLogRecord]) -> list[ReadableLogRecord]:
        """Clean a batch of log records, and of what reads like them."""
        return [self._safely(self._log, self._bare_log, record) for record in records]

    def _log(self, record: ReadableLogRecord) -> ReadableLogRecord:
        line: object = record
        if isinstance(line, LineRecord):
            return cast("ReadableLogRecord", self._line(line))
        own, values = record.log_record, self._values
        made: dict[str, Any] = {
            "timestamp": legal_time(own.timestamp),
            "observed_timestamp": legal_time(own.observed_timestamp),
            "trace_id": legal_id(own.trace_id, 16),
            "span_id": legal_id(own.span_id, 8),
            "trace_flags": legal_flags(own.trace_flags),
            "severity_text": values.optional_text(own.severity_text),
            "severity_number": _severity(own.severity_number),
            "body": values.value("body", own.body),
            "event_name": values.optional_text(own.event_name),
            "attributes": values.attributes(own.attributes, record.dropped_attributes),
        }
        scope = self._scopes.clean(record.instrumentation_scope)
        same = all(getattr(own, name) is value for name, value in made.items())
        if same and scope is record.instrumentation_scope:
            return record
        return self._changed_log(record, made, scope)

    def _line(self, line: LineRecord) -> LineRecord:
        """Clean what the log bridge did not make itself."""
        values, attributes = self._values, line.attributes
        if line.has_own_attributes:
            line.attributes = values.attributes(attributes)
        elif attributes is not None:
            line.attributes = values.shared(attributes)
        line.timestamp = legal_time(line.timestamp)
        line.body = values.line(line.body) if type(line.body) is str else line.body
        line.instrumentation_scope = self._scopes.clean(line.instrumentation_scope)
        if line.trace_id or line.span_id:
            line.trace_id = legal_id(line.trace_id, 16)
            line.span_id = legal_id(line.span_id, 8)
            line.trace_flags = legal_flags(line.trace_flags)
        return line

    def _changed_log(
        self,
        record: ReadableLogRecord,
        made: Mapping[str, Any],
        scope: InstrumentationScope | None,
    ) -> ReadableLogRecord:
        line: object = record
        if isinstance(line, LineRecord):  # it reads like one of the SDK
            return cast("ReadableLogRecord", line.change(made, scope))
        own = copy.copy(record.log_record)
        for name, value in made.items():
            setattr(own, name, value)
        own.attributes = bounded(own.attributes, record.dropped_attributes)
        return replace(record, log_record=own, instrumentation_scope=scope)

    def _bare_log(self, record: ReadableLogRecord) -> ReadableLogRecord:
        """Keep when it was and where it belongs."""
        own = record.log_record
        made = {
            "timestamp": legal_time(own.timestamp),
            "observed_timestamp": legal_time(own.observed_timestamp),
            "trace_id": legal_id(own.trace_id, 16),
            "span_id": legal_id(own.span_id, 8),
            "trace_flags": legal_flags(own.trace_flags),
            "severity_text": None,
            "severity_number": _severity(own.severity_number),
            "body": UNPRINTABLE,
            "event_name": None,
            "attributes": None,
        }
        return self._changed_log(record, made, None)

    # -- texts of other requests

    def text(self, value: object) -> str:
        """Clean a text."""
        return self._values.text(value)

    def body_text(self, value: object) -> str:
        """Clean what would be the body of a log record."""
        return _text_of(self._values.value("body", value))

    def texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Clean values by their names, and show each as text."""
        made = self._values.attributes(values) or {}
        return {name: _text_of(value) for name, value in made.items()}

    # -- metrics

    def metrics(self, data: MetricsData) -> MetricsData:
        """Clean one collection."""
        return self._safely(self._metrics.clean, lambda found: found, data)


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _attribute_length(config: Settings) -> int | None:
    """Give the longest text, in characters, that a setting or variable asks for."""
    stated = config.max_attribute_length
    spans, logs = SpanLimits(), LogRecordLimits()
    lengths = (
        stated,
        *(spans.max_attribute_length, spans.max_span_attribute_length),
        *(logs.max_attribute_length, logs.max_log_record_attribute_length),
    )
    return max((length for length in lengths if length is not None), default=None)


def _attribute_count(config: Settings) -> int:
    """Give how many attributes the most capacious kind of record holds."""
    spans, logs = SpanLimits(), LogRecordLimits()
    counts = (
        *(config.max_span_attributes, config.max_log_attributes),
        *(config.max_event_attributes, config.max_link_attributes),
        *(spans.max_span_attributes, spans.max_event_attributes),
        *(spans.max_link_attributes, logs.max_log_record_attributes),
    )
    unlimited = _ATTRIBUTES_LIMIT
    return max(unlimited if count is None else count for count in counts)


def _kind(kind: object) -> SpanKind:
    return kind if isinstance(kind, SpanKind) else SpanKind.INTERNAL


def _severity(number: object) -> SeverityNumber | None:
    if number is None or isinstance(number, SeverityNumber):
        return number
    try:
        return SeverityNumber(number)
    except ValueError:
        return None
