"""One OTLP request over HTTP or gRPC, and what became of it.

A transport never retries and never decides: it reports a verdict, and the delivery
acts on it.
"""

import gzip
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, cast

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from ..constants import Signal
from .endpoint import Endpoint
from .registry import named_by

_SERVICES = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
}
_REPLY_LIMIT = 4 * 1024 * 1024
_RETRY_AFTER_LIMIT_S = 600.0
# Level 1 takes a seventh of the time of the default for nearly the same size.
_COMPRESSION_LEVEL = 1


class Outcome(Enum):
    """What to do with the records of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one request."""

    outcome: Outcome
    reason: str = ""
    """Short and stable: what counts as the same trouble."""
    message: str = ""
    """For the user: what is wrong and what to do; one line."""
    rejected: int = 0
    """Records the server refused inside a request it accepted."""
    retry_after_s: float | None = None
    """When the server told us to come back, seconds from now."""


DELIVERED = Verdict(Outcome.DELIVERED)


class Transport(Protocol):
    """Makes requests to one endpoint."""

    def send(self, body: bytes, timeout_s: float) -> Verdict:
        """Send one serialized export request within a time."""
        ...

    def close(self) -> None:
        """Drop connections; a request under way may end early."""
        ...


def make_transport(endpoint: Endpoint) -> Transport:
    """Make the transport of an endpoint's protocol; nothing is connected yet."""
    if endpoint.protocol == "grpc":
        return GrpcTransport(endpoint)
    return HttpTransport(endpoint)


def _user_agent() -> str:
    try:
        return f"flext-observability/{version('flext-observability')}"
    except PackageNotFoundError:
        return "flext-observability"  # run from a source tree


def _one_line(text: object, limit: int = 200) -> str:
    """Bound and escape what a server or a library said."""
    shown = str(text)
    if len(shown) > limit:
        shown = f"{shown[:limit]}…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


def _partial_success(signal: Signal, response: Any, reply: bytes) -> Verdict:
    """Read what an accepting server says it did not take."""
    message = response()
    try:
        message.ParseFromString(reply)
    except DecodeError:
        return Verdict(
            Outcome.DELIVERED,
            "unreadable_reply",
            "the server accepted a request with a reply that is no OTLP",
        )
    partial = message.partial_success
    counts = {
        Signal.TRACES: "rejected_spans",
        Signal.METRICS: "rejected_data_points",
        Signal.LOGS: "rejected_log_records",
    }
    rejected = max(0, int(getattr(partial, counts[signal])))
    if not rejected and not partial.error_message:
        return DELIVERED
    said = _one_line(partial.error_message) or "no reason given"
    return Verdict(
        Outcome.DELIVERED,
        "partial_success",
        f"the server rejected {rejected} {signal.value} records: {said}",
        rejected,
    )


def _response_type(signal: Signal) -> Callable[[], Any]:
    if signal is Signal.TRACES:
        from opentelemetry.proto.collector.trace.v1 import (
            trace_service_pb2,
        )

        return trace_service_pb2.ExportTraceServiceResponse
    if signal is Signal.METRICS:
        from opentelemetry.proto.collector.metrics.v1 import (
            metrics_service_pb2,
        )

        return metrics_service_pb2.ExportMetricsServiceResponse
    from opentelemetry.proto.collector.logs.v1 import (
        logs_service_pb2,
    )

    return logs_service_pb2.ExportLogsServiceResponse


# -- OTLP/HTTP

# https://opentelemetry.io/docs/specs/otlp/#otlphttp-response; 408 is our addition,
# the specification is silent about it.
_HTTP_RETRYABLE = frozenset({408, 429, 502, 503, 504})
_HTTP_HELD = {
    401: "the server asks for credentials: check `headers`",
    403: "the server refuses the credentials: check `headers`",
}


class HttpTransport:
    """OTLP/HTTP with protobuf bodies over one kept-alive connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        # Loaded by whoever calls setup(), never in our thread: see `encoder_for`.
        from requests import Session

        self._endpoint = endpoint
        self._response = _response_type(endpoint.signal)
        provider = _credential_provider("HTTP", endpoint.signal)
        self._session = provider() if provider else Session()
        if not provider:
            # Proxy variables hold, but ~/.netrc must not replace our headers.
            self._session.auth = _unchanged
        self._session.headers.update(
            {
                "Content-Type": "application/x-protobuf",
                "User-Agent": _user_agent(),
                **endpoint.headers,
            }
        )
        if endpoint.compression != "none":
            self._session.headers["Content-Encoding"] = endpoint.compression
        self._client: tuple[str, str] | None = None
        if endpoint.client_certificate and endpoint.client_key:
            self._client = (endpoint.client_certificate, endpoint.client_key)

    def send(self, body: bytes, timeout_s: float) -> Verdict:
        """Send one serialized export request within a time."""
        try:
            response = self._session.post(
                self._endpoint.url,
                data=self._compressed(body),
                timeout=timeout_s,
                allow_redirects=False,
                stream=True,
                # Per request: on the session, REQUESTS_CA_BUNDLE would win over it.
                verify=self._endpoint.certificate or True,
                cert=self._client,
            )
            reply = self._read(response)
            return self._judge(response.status_code, response.headers, reply)
        except Exception as error:  # noqa: BLE001 - of requests, urllib3 and sockets
            return self._unreachable(error)

    def _read(self, response: Any) -> bytes:
        """Read a bounded reply; a whole one leaves the connection fit for the next."""
        try:
            reply: bytes = response.raw.read(_REPLY_LIMIT + 1, decode_content=True)
        except BaseException:
            response.raw.close()
            raise
        if len(reply) > _REPLY_LIMIT:
            response.raw.close()
        else:
            response.raw.release_conn()
        return reply

    def _compressed(self, body: bytes) -> bytes:
        match self._endpoint.compression:
            case "gzip":
                return gzip.compress(body, _COMPRESSION_LEVEL)
            case "deflate":
                return zlib.compress(body, _COMPRESSION_LEVEL)
            case _:
                return body

    def _judge(self, status: int, headers: Any, reply: bytes) -> Verdict:
        if 200 <= status < 300:  # noqa: PLR2004 - the success class of HTTP
            return _partial_success(self._endpoint.signal, self._response, reply)
        where = f"{self._endpoint.shown} answered {status}"
        if status in _HTTP_RETRYABLE:
            told = _retry_after_s(headers.get("Retry-After"))
            return Verdict(
                Outcome.RETRY, f"http_{status}", f"{where}; retrying", 0, told
            )
        if status in _HTTP_HELD:
            return Verdict(
                Outcome.RETRY, f"http_{status}", f"{where}: {_HTTP_HELD[status]}"
            )
        if 300 <= status < 400:  # noqa: PLR2004 - the redirection class of HTTP
            return Verdict(
                Outcome.RETRY,
                f"http_{status}",
                f"{where}: a redirect, which is never followed; correct `endpoint`",
            )
        said = f": {_one_line(_status_text(reply))}" if reply else ""
        hint = "; check the path of `endpoint`" if status == 404 else ""  # noqa: PLR2004 - not found
        return Verdict(Outcome.REJECTED, f"http_{status}", f"{where}{said}{hint}")

    def _unreachable(self, error: Exception) -> Verdict:
        where = self._endpoint.shown
        if type(error).__name__ == "InvalidHeader":  # its text quotes the header
            message = f"cannot deliver to {where}: a header is not legal, see `headers`"
            return Verdict(Outcome.REJECTED, "headers", message)
        text = f"{error!r}"
        if "SSL" in text or "CERTIFICATE" in text.upper():
            reason, why = "tls", f"TLS failed: {_one_line(_root_cause(error))}"
        elif "timed out" in text.lower() or "Timeout" in text:
            reason, why = "timeout", "no answer in time"
        elif "BadStatusLine" in text or "RemoteDisconnected" in text:
            reason = "protocol"
            why = (
                "it does not answer HTTP/1.1; if this is a gRPC port (usually 4317), "
                "use protocol='grpc' or port 4318"
            )
        elif "refused" in text:
            reason, why = "unreachable", "connection refused; is a collector running?"
        else:
            reason, why = "unreachable", _one_line(_root_cause(error))
        message = f"cannot deliver to {where} (http/protobuf): {why}"
        return Verdict(Outcome.RETRY, reason, message)

    def close(self) -> None:
        """Drop the connection."""
        self._session.close()


def _credential_provider(transport: str, signal: Signal) -> Any:
    """Load who makes sessions or channel credentials, if a variable names one."""
    prefix = f"OTEL_PYTHON_EXPORTER_OTLP_{transport}"
    variables = (
        f"{prefix}_CREDENTIAL_PROVIDER",
        f"{prefix}_{signal.name}_CREDENTIAL_PROVIDER",
    )
    return named_by(variables, "opentelemetry_otlp_credential_provider")


def _unchanged(request: Any) -> Any:
    return request


def _root_cause(error: BaseException) -> BaseException:
    """Find the innermost exception, which says what happened."""
    seen: BaseException = error
    for _ in range(8):
        inner = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return seen


def _status_text(reply: bytes) -> str:
    """Read the message of a google.rpc.Status, which OTLP errors carry, or text."""
    try:
        status = Status.FromString(reply)
    except DecodeError:
        return reply[:400].decode("utf-8", "replace")
    return status.message or reply[:400].decode("utf-8", "replace")


def _retry_after_s(header: str | None) -> float | None:
    """Read Retry-After, seconds or a date; at most ten minutes, ``None`` if garbage."""
    if not header:
        return None
    try:
        delay_s = float(header)
    except ValueError:
        try:
            delay_s = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    if not delay_s >= 0:  # negative or NaN
        return None
    return min(delay_s, _RETRY_AFTER_LIMIT_S)


# -- OTLP/gRPC

# https://opentelemetry.io/docs/specs/otlp/#failures
_GRPC_RETRYABLE = frozenset(
    {
        *("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE"),
        *("UNAVAILABLE", "DATA_LOSS"),
    }
)
_GRPC_HELD = {
    "UNAUTHENTICATED": "the server asks for credentials: check `headers`",
    "PERMISSION_DENIED": "the server refuses the credentials: check `headers`",
}


class GrpcTransport:
    """OTLP/gRPC; the channel is made at the first request, by who sends it."""

    def __init__(self, endpoint: Endpoint) -> None:
        # Loaded by whoever calls setup(), never in our thread: see `encoder_for`.
        import grpc

        self._grpc: Any = grpc
        self._endpoint = endpoint
        self._response = _response_type(endpoint.signal)
        self._credentials = _credential_provider("GRPC", endpoint.signal)
        self._retryable = _retryable_codes()
        self._channel: Any = None
        self._call: Any = None

    def _connect(self) -> Any:
        grpc = self._grpc
        options = [
            ("grpc.primary_user_agent", _user_agent()),
            ("grpc.max_receive_message_length", _REPLY_LIMIT),
            # The delivery decides when to try again; the channel must not add waits.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        compression = {
            "gzip": grpc.Compression.Gzip,
            "deflate": grpc.Compression.Deflate,
        }.get(self._endpoint.compression, grpc.Compression.NoCompression)
        if self._endpoint.insecure:
            self._channel = grpc.insecure_channel(
                self._endpoint.authority, options, compression
            )
        else:
            make = self._credentials or self._tls
            credentials = make()
            self._channel = grpc.secure_channel(
                self._endpoint.authority, credentials, options, compression
            )
        return self._channel.unary_unary(
            f"/{_SERVICES[self._endpoint.signal]}/Export",
            request_serializer=None,
            response_deserializer=None,
        )

    def _tls(self) -> Any:
        return self._grpc.ssl_channel_credentials(
            _read(self._endpoint.certificate),
            _read(self._endpoint.client_key),
            _read(self._endpoint.client_certificate),
        )

    def send(self, body: bytes, timeout_s: float) -> Verdict:
        """Send one serialized export request within a time."""
        try:
            if self._call is None:
                self._call = self._connect()
            reply = self._call(
                body,
                timeout=timeout_s,
                metadata=tuple(self._endpoint.headers.items()),
            )
        except self._grpc.RpcError as error:
            return self._judge(cast("Any", error))
        except Exception as error:  # noqa: BLE001 - closed channel, unreadable file
            return self._unreachable("unreachable", _one_line(error))
        return _partial_success(
            self._endpoint.signal, self._response, cast("bytes", reply)
        )

    def _judge(self, error: Any) -> Verdict:
        code = str(error.code().name)
        details = _one_line(error.details() or "no details")
        delay_s = _retry_info_s(error)
        if code in _GRPC_HELD:
            return self._unreachable(f"grpc_{code}", _GRPC_HELD[code])
        if code in self._retryable or (
            code == "RESOURCE_EXHAUSTED" and delay_s is not None
        ):
            reason, why = _explain_grpc(code, details)
            return self._unreachable(reason, why, delay_s)
        if _answers_http(details):
            return self._unreachable(*_explain_grpc(code, details))
        return Verdict(
            Outcome.REJECTED,
            f"grpc_{code}",
            f"{self._endpoint.shown} answered {code}: {details}",
        )

    def _unreachable(
        self, reason: str, why: str, retry_after_s: float | None = None
    ) -> Verdict:
        message = f"cannot deliver to {self._endpoint.shown} (grpc): {why}"
        return Verdict(Outcome.RETRY, reason, message, 0, retry_after_s)

    def close(self) -> None:
        """Close the channel; a call under way ends as cancelled."""
        if self._channel is not None:
            self._channel.close()


def _retryable_codes() -> frozenset[str]:
    variable = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"
    codes = os.environ.get(variable, "").upper().split(",")
    named = frozenset(code.strip() for code in codes if code.strip())
    return named or _GRPC_RETRYABLE


def _answers_http(details: str) -> bool:
    lowered = details.lower()
    return any(
        sign in lowered
        for sign in (
            *("http1", "http/1", "http2 header with status", "content-type"),
            *("failed parsing http/2", "settings frame"),
        )
    )


def _explain_grpc(code: str, details: str) -> tuple[str, str]:
    lowered = details.lower()
    if _answers_http(details):
        return "protocol", (
            "it does not answer gRPC; if this is an HTTP port (usually 4318), "
            "use protocol='http/protobuf' or port 4317"
        )
    if code == "DEADLINE_EXCEEDED":
        return "timeout", "no answer in time"
    if "ssl" in lowered or "tls" in lowered or "certificate" in lowered:
        return "tls", f"TLS failed: {details}"
    if "refused" in lowered:
        return "unreachable", "connection refused; is a collector running?"
    return "unreachable", f"{code}: {details}"


def _retry_info_s(error: Any) -> float | None:
    """Read google.rpc.RetryInfo from the trailers; at most ten minutes."""
    trailers = cast("Any", error.trailing_metadata()) or ()
    for key, value in trailers:
        if key == "google.rpc.retryinfo-bin":
            info = RetryInfo.FromString(value)
            delay_s: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
            return min(max(0.0, delay_s), _RETRY_AFTER_LIMIT_S)
    return None


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
