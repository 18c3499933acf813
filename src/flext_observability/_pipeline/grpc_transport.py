"""OTLP over gRPC."""

import errno
import os
import re
import socket
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import grpc as untyped_grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from ..constants import Signal
from .client_identity import credential_provider, user_agent
from .endpoint import Endpoint
from .otlp_reply import REPLY_LIMIT_BYTES, accepted
from .verdict import Outcome, Verdict, bounded_delay_s, one_line

grpc: Any = untyped_grpc  # it ships no types
with suppress(ImportError):  # gRPC loads it with the first channel, in our thread
    import_module("grpc._channel")

_SERVICES = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
}
# One less than a server would choose: the client library reports a reply beyond it as
# if the server had refused the request, and only this figure tells the two apart.
_RECEIVE_LIMIT_BYTES = REPLY_LIMIT_BYTES - 1
_METADATA_LIMIT_BYTES = 64 * 1024
# The first channel of a process takes four, and signals may connect at once.
_DESCRIPTORS = 16
_INFLATED_TOO_LARGE = "Decompressed message larger than max"
_REPLY_TOO_LARGE = re.compile(
    rf"larger than max \([0-9]+ vs\.? {_RECEIVE_LIMIT_BYTES}\)"
)

# https://opentelemetry.io/docs/specs/otlp/#failures
_RETRYABLE = frozenset(
    {
        *("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE"),
        *("UNAVAILABLE", "DATA_LOSS"),
    }
)
_OUTCOMES = {
    "INVALID_ARGUMENT": Outcome.BISECT,
    "RESOURCE_EXHAUSTED": Outcome.SPLIT,
    "UNAUTHENTICATED": Outcome.HOLD,
    "PERMISSION_DENIED": Outcome.HOLD,
}
_HINTS = {
    "UNAUTHENTICATED": "; the server asks for credentials, see `headers`",
    "PERMISSION_DENIED": "; the server refuses the credentials, see `headers`",
    "RESOURCE_EXHAUSTED": "; the request is too large for it and is sent in parts",
    "UNIMPLEMENTED": "; is it an OTLP server?",
}
# The codes that the client library uses for trouble of its own; servers do too.
_OF_THE_CLIENT = frozenset(
    {"UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED"}
)
# What the client library says when no connection came about.
_NOT_CONNECTED = ("failed to connect", "errors resolving", "dns resolution")
_NOT_GRPC = (
    *("http1", "http/1", "failed parsing http/2"),
    *("http2 header with status", "content-type", "missing selected alpn"),
)
_NOT_TLS = ("wrong_version_number", "http_request")
_TLS = (
    *("certificate", "hostname verification", "peer name"),
    *("handshake failed", "security handshaker"),
)
_TLS_BROKE_OFF = ("socket closed", "connection reset", "eof", "timed out", "shutdown")
# What it says when a connection that stood ends, or an answer does not fit.
_CUT = ("stream removed", "socket closed", "metadata size exceeds")


class GrpcTransport:
    """OTLP/gRPC; the channel is made at the first request, by who sends it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._credentials = credential_provider("GRPC", endpoint.signal)
        self._user_agent = user_agent()  # imports, so not in the thread that sends
        self._retryable = _retryable_codes()
        self._channel: Any = None
        self._call: Any = None
        self._held: Verdict | None = None  # why no connection came about lately

    def _connect(self) -> Any:
        _check_descriptors()
        options = [
            ("grpc.primary_user_agent", self._user_agent),
            ("grpc.max_receive_message_length", _RECEIVE_LIMIT_BYTES),
            # The delivery decides when to try again; the channel must not add waits.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.enable_retries", 0),
            # Else the signals share a connection, and one that is dead stays as long
            # as any of them holds on to it.
            ("grpc.use_local_subchannel_pool", 1),
            # Errors come with details; 8 KiB, the default, are soon used up.
            ("grpc.max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_LIMIT_BYTES),
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
            self._channel = grpc.secure_channel(
                self._endpoint.authority, make(), options, compression
            )
        return self._channel.unary_unary(
            f"/{_SERVICES[self._endpoint.signal]}/Export",
            request_serializer=None,
            response_deserializer=None,
        )

    def _tls(self) -> Any:
        return grpc.ssl_channel_credentials(
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
        except grpc.RpcError as error:
            return self._judge(cast("Any", error), body)
        except OSError as error:
            return self._failed(*_not_opened(error))
        except Exception as error:  # noqa: BLE001 - closed channel, a provider's own
            return self._failed(Outcome.RETRY, "unreachable", type(error).__name__)
        self._held = None
        return accepted(self._endpoint.signal, body, cast("bytes", reply))

    def _judge(self, error: Any, body: bytes) -> Verdict:
        code = str(error.code().name)
        details = str(error.details() or "no details")
        if self._is_about_reply(details):
            return accepted(self._endpoint.signal, body, None)
        if code == "DEADLINE_EXCEEDED" and "Deadline Exceeded" in details:
            return self._late()
        trouble = _trouble(details) if code in _OF_THE_CLIENT else None
        if trouble is not None:
            return self._troubled(trouble, details)
        delay_s = _retry_info_s(error)
        if code in self._retryable or (
            code == "RESOURCE_EXHAUSTED" and delay_s is not None
        ):
            said = f"{self._endpoint.shown} answered {code}: {one_line(details)}"
            return Verdict(
                Outcome.RETRY,
                f"grpc_{code}",
                f"{said}; retrying",
                retry_after_s=delay_s,
            )
        if _has_any(details, _NOT_GRPC) and code not in _OUTCOMES:
            return self._failed(Outcome.HOLD, "protocol", _NO_GRPC)
        return Verdict(
            _OUTCOMES.get(code, Outcome.REJECTED),
            f"grpc_{code}",
            f"{self._endpoint.shown} answered {code}: {one_line(details)}"
            f"{_HINTS.get(code, '')}",
        )

    def _is_about_reply(self, details: str) -> bool:
        """Tell whether it is the server's reply that was too large for us."""
        if self._endpoint.compression == "none" and _INFLATED_TOO_LARGE in details:
            return True  # a server says the same, but only about compressed requests
        return _REPLY_TOO_LARGE.search(details) is not None

    def _troubled(self, trouble: tuple[Outcome, str, str], details: str) -> Verdict:
        is_cut = trouble[1] == "cut"
        if is_cut or not self._endpoint.insecure:
            self._drop()  # the next try reads the certificate files again
        verdict = self._failed(*trouble, may_have_arrived=is_cut)
        if verdict.outcome is Outcome.HOLD:
            self._held = verdict
        elif self._held is not None and "ipv6:" in details:
            # Of a host with two addresses only the last one tried is told about, and
            # nobody listening on ::1 says nothing about the other one.
            return self._held
        else:
            self._held = None
        return verdict

    def _late(self) -> Verdict:
        # A connection whose other end is gone says nothing for a quarter of an hour:
        # the next request goes over a new one.
        self._drop()
        return self._failed(
            Outcome.RETRY, "timeout", "no answer in time", may_have_arrived=True
        )

    def _drop(self) -> None:
        self.close()
        self._call = self._channel = None

    def _failed(
        self,
        outcome: Outcome,
        reason: str,
        why: str,
        *,
        may_have_arrived: bool = False,
    ) -> Verdict:
        message = f"cannot deliver to {self._endpoint.shown} (grpc): {why}"
        return Verdict(outcome, reason, message, may_have_arrived=may_have_arrived)

    def close(self) -> None:
        """Close the channel; a call under way ends as cancelled."""
        if self._channel is not None:
            self._channel.close()


_NO_GRPC = (
    "it does not answer gRPC; if this is an HTTP port (usually 4318), "
    "use protocol='http/protobuf' or port 4317"
)


def _check_descriptors() -> None:
    """Find out whether gRPC will get the descriptors that a channel needs.

    Without them it ends the process (SIGABRT): when it starts, which it does with the
    first channel, and again after the last one was closed. A connected channel does
    not; what the program opens between this look and that start remains a risk.

    Raises:
        OSError: There are none.
    """
    with ExitStack() as taken:
        for _ in range(_DESCRIPTORS):
            taken.enter_context(socket.socket())


def _not_opened(error: OSError) -> tuple[Outcome, str, str]:
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
        why = f"{error.strerror}; the limit of open files (ulimit -n) is too low"
        return Outcome.RETRY, "descriptors", why
    why = "a file of `certificate`, `client_certificate` or `client_key` is gone"
    return Outcome.HOLD, "tls", why


def _trouble(details: str) -> tuple[Outcome, str, str] | None:
    """Recognise what the client library says itself; it has but one code for it all.

    What a server says must not be taken for trouble that a person has to correct: only
    texts about connections that did not come about count as that.
    """
    if details == "Invalid metadata":
        return Outcome.HOLD, "headers", "a header is not legal, see `headers`"
    if _has_any(details, _NOT_CONNECTED):
        return _not_connected(details)
    if _has_any(details, _CUT):
        return Outcome.RETRY, "cut", f"the connection was cut: {one_line(details)}"
    return None


def _not_connected(details: str) -> tuple[Outcome, str, str]:
    if _has_any(details, _NOT_GRPC):
        return Outcome.HOLD, "protocol", _NO_GRPC
    if _has_any(details, _NOT_TLS):
        why = "it does not speak TLS; correct `endpoint` or its port"
        return Outcome.HOLD, "protocol", why
    if _has_any(details, _TLS) and not _has_any(details, _TLS_BROKE_OFF):
        return Outcome.HOLD, "tls", f"TLS failed: {one_line(details, 300)}"
    why = one_line(details)
    if "refused" in details:
        why = "connection refused; is a collector running?"
    return Outcome.RETRY, "unreachable", why


def _has_any(text: str, signs: tuple[str, ...]) -> bool:
    lowered = text.lower()
    return any(sign in lowered for sign in signs)


def _retryable_codes() -> frozenset[str]:
    variable = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"
    codes = os.environ.get(variable, "").upper().split(",")
    named = frozenset(code.strip() for code in codes if code.strip())
    return named or _RETRYABLE


def _retry_info_s(error: Any) -> float | None:
    """Read google.rpc.RetryInfo from the trailers, alone or inside a Status."""
    trailers = cast("Any", error.trailing_metadata()) or ()
    for key, value in trailers:
        try:
            if key == "google.rpc.retryinfo-bin":
                return _delay_s(RetryInfo.FromString(value))
            if key == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return _delay_s(info)
        except (DecodeError, TypeError, ValueError):
            continue  # garbage: as if nothing was told
    return None


def _delay_s(info: Any) -> float | None:
    return bounded_delay_s(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
