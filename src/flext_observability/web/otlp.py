"""The three OTLP services: their messages, paths and both encodings.

Paths and media types: https://opentelemetry.io/docs/specs/otlp/. The JSON form differs
from protobuf's own JSON mapping in two ways: trace and span ids are hex, not base64,
and enums are numbers.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ..constants import Signal

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

BODY_LIMIT_BYTES: Final = 20 * 1024 * 1024
"""Size of one request after decompression; the same over HTTP and gRPC."""

_JSON_DEPTH_LIMIT: Final = 64
_ID_FIELDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})

ExportRequest = (
    ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest
)


class MalformedRequestError(ValueError):
    """A body that is not the message it should be; the text may be sent back."""


@dataclass(frozen=True, slots=True)
class Service:
    """One of the three services that a collector offers."""

    signal: Signal
    http_path: str
    grpc_name: str
    request: type[ExportRequest]
    response: type[Message]


SERVICES: Final = (
    Service(
        Signal.TRACES,
        "/v1/traces",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    ),
    Service(
        Signal.METRICS,
        "/v1/metrics",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
    ),
    Service(
        Signal.LOGS,
        "/v1/logs",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
    ),
)


def parse_request(service: Service, body: bytes, media_type: str) -> ExportRequest:
    """Decode the body of an export request.

    Raises:
        MalformedRequestError: the body is not such a request.
    """
    try:
        if media_type == JSON:
            return _request_from_json(service, body)
        request: ExportRequest = service.request.FromString(body)
    except (DecodeError, json_format.Error, ValueError, RecursionError) as error:
        reason = f"not an OTLP {service.signal} request in {media_type}: {error}"
        raise MalformedRequestError(reason[:500]) from error
    return request


def message_bytes(message: Message, media_type: str) -> bytes:
    """Encode a response in the encoding of the request."""
    if media_type == JSON:
        return json.dumps(json_format.MessageToDict(message)).encode()
    return message.SerializeToString()


def request_to_json(request: Message) -> dict[str, Any]:
    """Return a request as OTLP JSON, ready for ``json.dumps``."""
    text = json_format.MessageToJson(request, use_integers_for_enums=True)
    fields: dict[str, Any] = json.loads(text, object_hook=_ids_by(_hex_of_base64))
    return fields


def _request_from_json(service: Service, body: bytes) -> ExportRequest:
    fields: object = json.loads(body, object_hook=_ids_by(_base64_of_hex))
    if not isinstance(fields, dict):
        raise ValueError("the outermost value is no object")  # noqa: TRY004
    return json_format.ParseDict(
        cast("dict[str, Any]", fields),
        service.request(),
        ignore_unknown_fields=True,  # the specification demands it
        max_recursion_depth=_JSON_DEPTH_LIMIT,
    )


def _ids_by(convert: Callable[[str], str]) -> Callable[[dict[str, Any]], object]:
    """Make a hook that rewrites the ids of every object.

    An attribute's name is never taken for an id: it is the value of ``key``.
    """

    def rewrite(fields: dict[str, Any]) -> dict[str, Any]:
        for name in _ID_FIELDS & fields.keys():
            fields[name] = convert(fields[name])
        return fields

    return rewrite


def _hex_of_base64(text: str) -> str:
    return base64.b64decode(text).hex()


def _base64_of_hex(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("ids must be hexadecimal text")  # noqa: TRY004 - not our bug
    return base64.b64encode(bytes.fromhex(text)).decode()
