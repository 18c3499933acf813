"""What a server says about an export request that reached it."""

from typing import Any

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from ..constants import Signal
from .otlp_split import count_records
from .verdict import DELIVERED, Outcome, Verdict, one_line

REPLY_LIMIT_BYTES = 4 * 1024 * 1024

_RESPONSES: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceResponse,
    Signal.METRICS: ExportMetricsServiceResponse,
    Signal.LOGS: ExportLogsServiceResponse,
}
_REJECTED = {
    Signal.TRACES: "rejected_spans",
    Signal.METRICS: "rejected_data_points",
    Signal.LOGS: "rejected_log_records",
}
_TEXT_BYTES = 400


def accepted(signal: Signal, body: bytes, reply: bytes | None) -> Verdict:
    """Judge the reply of a server that took a request.

    Args:
        signal: What the records are.
        body: The request.
        reply: The response, ``None`` when it could not be read.
    """
    if reply is None:
        return _unreadable("is too large or breaks off")
    try:
        partial = _RESPONSES[signal].FromString(reply).partial_success
    except DecodeError:
        return _unreadable("is no OTLP")
    rejected = int(getattr(partial, _REJECTED[signal]))
    if rejected > 0:  # a server's figure must not unbalance the ledger
        rejected = min(rejected, count_records(signal, body))
    said = one_line(partial.error_message)
    if rejected > 0:
        text = f"the server rejected {rejected} {signal.value} records: "
        return Verdict(
            Outcome.DELIVERED,
            "partial_success",
            text + (said or "no reason given"),
            rejected,
        )
    if said:
        text = f"the server took the {signal.value} and warns: {said}"
        return Verdict(Outcome.DELIVERED, "server_warning", text)
    return DELIVERED


def _unreadable(why: str) -> Verdict:
    return Verdict(
        Outcome.DELIVERED,
        "unreadable_reply",
        f"the server accepted a request with a reply that {why}",
    )


def refusal_text(reply: bytes | None) -> str:
    """Give what a refusal says: a google.rpc.Status, as OTLP has it, or text."""
    shown = (reply or b"")[:_TEXT_BYTES].decode("utf-8", "replace")
    try:
        status = Status.FromString(reply or b"")
    except DecodeError:
        return one_line(shown)
    return one_line(status.message or shown)
