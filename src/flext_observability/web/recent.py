"""The newest spans and log records on their way to an exporter, as the API shows them.

The services hold the traces and log entries that went through them; those of monitored
functions, of ``logging`` and of other packages are taken from the pipeline.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, StatusCode

from .. import runtime
from .._pipeline.redaction import Redactor
from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from ..entities import FlextLogEntry
from ..traces import FlextTrace
from .plain import plain

View = dict[str, Any]

_LIMIT = C.STORE_LIMIT
_EPOCH = datetime.fromtimestamp(0, UTC)
_NS = 1_000_000_000
_NS_PER_US = 1000
_LEVELS = ("debug", "debug", "info", "warning", "error", "critical")
_SEVERITIES_PER_LEVEL = 4


def spans_seen(known: Iterable[FlextTrace], redactor: Redactor) -> list[View]:
    """Give finished spans that are not those of known traces, the newest first."""
    ids = {trace.span_id for trace in known}
    shown = [_span(span, redactor) for span in _newest(Signal.TRACES)]
    return [view for view in shown if view["span_id"] not in ids]


def logs_seen(known: Iterable[FlextLogEntry], redactor: Redactor) -> list[View]:
    """Give log records that are not those of known entries, the newest first."""
    entries = {(_text_time(entry.timestamp), entry.message) for entry in known}
    shown = [_log(record, redactor) for record in _newest(Signal.LOGS)]
    return [v for v in shown if (v["timestamp"], v["message"]) not in entries]


def _newest(signal: Signal) -> tuple[Any, ...]:
    pipeline = runtime.state.live()
    if pipeline is None:
        return ()
    memory = pipeline.memory
    if memory is None:
        return pipeline.recent.of(signal)[::-1]
    held = memory.spans if signal is Signal.TRACES else memory.logs
    return held[: -_LIMIT - 1 : -1]


def _span(span: ReadableSpan, redactor: Redactor) -> View:
    ids, parent = _ids(span.context), _ids(span.parent)
    start_ns, end_ns = span.start_time or 0, span.end_time or 0
    has_failed = span.status.status_code is StatusCode.ERROR
    return {
        "id": _traceparent(span.context),
        "trace_id": ids[0],
        "span_id": ids[1],
        "operation_name": plain("operation_name", span.name, redactor),
        "service_name": str(span.resource.attributes.get("service.name", "")),
        "operation": plain("operation", span.name, redactor),
        "context": _attributes(span.attributes, redactor),
        "parent_trace_id": _traceparent(span.parent) if parent[1] else None,
        "start_time": _moment(start_ns),
        "end_time": _moment(end_ns),
        "duration": (end_ns - start_ns) / _NS,
        "status": "failed" if has_failed else "completed",
        "error": plain("error", span.status.description or "", redactor)
        if has_failed
        else None,
    }


def _log(record: ReadableLogRecord, redactor: Redactor) -> View:
    own = record.log_record
    attributes = dict(own.attributes or {})
    number = 0 if own.severity_number is None else own.severity_number.value
    place = (max(number, 1) + _SEVERITIES_PER_LEVEL - 1) // _SEVERITIES_PER_LEVEL
    trace_id = f"{own.trace_id:032x}" if own.trace_id else None
    body = own.body if isinstance(own.body, str) else str(own.body)
    return {
        "id": "",
        "level": _LEVELS[min(place, len(_LEVELS)) - 1],
        "message": plain("message", body, redactor),
        "context": _attributes(attributes, redactor),
        "timestamp": _moment(own.timestamp or own.observed_timestamp or 0),
        "correlation_id": str(attributes.get(C.ATTR_CORRELATION_ID, trace_id or "")),
        "trace_id": trace_id,
        "span_id": f"{own.span_id:016x}" if own.span_id else None,
    }


def _attributes(given: Mapping[str, Any] | None, redactor: Redactor) -> View:
    return {name: plain(name, value, redactor) for name, value in (given or {}).items()}


def _ids(context: SpanContext | None) -> tuple[str, str]:
    if context is None or not context.is_valid:
        return "", ""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def _traceparent(context: SpanContext | None) -> str:
    if context is None:
        return ""
    return "00-{}-{}-{:02x}".format(*_ids(context), context.trace_flags)


def _moment(time_ns: int) -> str:
    # Rounded: entities hold microseconds, and some make nanoseconds of them by floats.
    return _text_time(_EPOCH + timedelta(microseconds=round(time_ns / _NS_PER_US)))


def _text_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
