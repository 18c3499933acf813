"""Log records as one OTLP export request."""

from collections.abc import Sequence
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import (
    encode_logs as stock_request,
)
from opentelemetry.sdk._logs import ReadableLogRecord

from .otlp_groups import request_bytes
from .otlp_wire import (
    TextFields,
    any_value,
    attributes_bytes,
    count_field,
    either,
    fixed32_field,
    fixed64_field,
)

_SEVERITIES: dict[SeverityNumber | None, bytes] = {
    number: count_field(b"\x10", number.value) for number in SeverityNumber
}
_SEVERITIES[None] = b""
_severity_texts = TextFields(b"\x1a")
_event_names = TextFields(b"\x62")


def encode_logs(records: Sequence[ReadableLogRecord]) -> bytes:
    """Encode log records into the bytes of one export request, as the stock encoder.

    Args:
        records: They may be of several resources and scopes.

    Raises:
        Exception: A record holds what OTLP cannot express.
    """
    return request_bytes(records, log_body)


def log_body(record: ReadableLogRecord) -> bytes:
    """Lay out one log record, whatever it contains."""
    return either(_usual, _stock_body, record)


def _stock_body(record: ReadableLogRecord) -> bytes:
    request = stock_request([record])
    (made,) = request.resource_logs[0].scope_logs[0].log_records
    body: bytes = made.SerializeToString()
    return body


def _usual(record: ReadableLogRecord) -> bytes:
    own = record.log_record
    trace_id: Any = own.trace_id
    span_id: Any = own.span_id
    flags: Any = own.trace_flags
    parts = (
        fixed64_field(b"\x09", own.timestamp),
        _SEVERITIES[own.severity_number],
        _severity_texts[own.severity_text],
        b"\x2a",
        any_value(own.body),
        attributes_bytes(b"\x32", own.attributes),
        count_field(b"\x38", record.dropped_attributes),
        fixed32_field(b"\x45", int(flags)),
        b"" if trace_id == 0 else b"\x4a\x10" + trace_id.to_bytes(16, "big"),
        b"" if span_id == 0 else b"\x52\x08" + span_id.to_bytes(8, "big"),
        fixed64_field(b"\x59", own.observed_timestamp),
        _event_names[own.event_name],
    )
    return b"".join(parts)
