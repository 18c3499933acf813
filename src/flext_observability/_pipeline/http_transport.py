"""OTLP over HTTP with protobuf bodies."""

import gzip
import os
import sys
import zlib
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from socket import gaierror
from ssl import (
    SSLCertVerificationError,
    SSLEOFError,
    SSLError,
    SSLSyscallError,
    SSLZeroReturnError,
)
from urllib.parse import unquote, urlsplit

from .client_identity import credential_provider, user_agent
from .direct_client import DirectClient
from .endpoint import Endpoint
from .http_client import HttpClient, HttpReply
from .otlp_reply import accepted, refusal_text
from .timed_exchange import Exchange, exchange
from .verdict import Outcome, Verdict, one_line, retry_after_s

# Level 1 takes a seventh of the time of the default for nearly the same size.
_COMPRESSION_LEVEL = 1

# https://opentelemetry.io/docs/specs/otlp/#otlphttp-response; 408 is our addition,
# the specification is silent about it.
_RETRYABLE = frozenset({408, 429, 502, 503, 504})
_OUTCOMES = {
    400: Outcome.BISECT,
    401: Outcome.HOLD,
    403: Outcome.HOLD,
    413: Outcome.SPLIT,
}
_HINTS = {
    401: "; the server asks for credentials, see `headers`",
    403: "; the server refuses the credentials, see `headers`",
    404: "; check the path of `endpoint`",
    413: "; the request is too large for it and is sent in parts",
}
# What servers say to plain HTTP on their TLS port; they say it with 400.
_WANTS_TLS = ("to an https server", "to https port", "plain http request")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
# TLS broke off as any connection may; everything else needs a person.
_BROKEN_OFF = (SSLEOFError, SSLSyscallError, SSLZeroReturnError)
_GRPC_PORT = "if this is a gRPC port (usually 4317), use protocol='grpc' or port 4318"
_NO_HTTP = f"it does not answer HTTP/1.1; {_GRPC_PORT}"


class HttpTransport:
    """OTLP/HTTP with protobuf bodies over one kept-alive connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client = _client(endpoint)

    def send(self, body: bytes, timeout_s: float) -> Verdict:
        """Send one serialized export request within a time."""
        with exchange(timeout_s) as under_way:
            try:
                reply = self._client.post(self._compressed(body), timeout_s)
            except Exception as error:  # noqa: BLE001 - of requests, urllib3, sockets
                return self._failed(error, under_way)
        return self._judge(reply, body)

    def _compressed(self, body: bytes) -> bytes:
        match self._endpoint.compression:
            case "gzip":
                return gzip.compress(body, _COMPRESSION_LEVEL)
            case "deflate":
                return zlib.compress(body, _COMPRESSION_LEVEL)
            case _:
                return body

    def _judge(self, reply: HttpReply, body: bytes) -> Verdict:
        status = reply.status
        if 200 <= status < 300:  # noqa: PLR2004 - the success class of HTTP
            return accepted(self._endpoint.signal, body, reply.body)
        reason = f"http_{status}"
        where = f"{self._endpoint.shown} answered {status}"
        if status in _RETRYABLE:
            told_s = retry_after_s(reply.retry_after)
            return Verdict(
                Outcome.RETRY, reason, f"{where}; retrying", retry_after_s=told_s
            )
        if 300 <= status < 400:  # noqa: PLR2004 - the redirection class of HTTP
            why = "a redirect, which is never followed; correct `endpoint`"
            return Verdict(Outcome.HOLD, reason, f"{where}: {why}")
        said = refusal_text(reply.body)
        if status == 400 and any(sign in said.lower() for sign in _WANTS_TLS):  # noqa: PLR2004 - bad request
            why = "it wants TLS; correct `endpoint` to https://"
            return Verdict(Outcome.HOLD, "protocol", f"{where}: {why}")
        outcome = _OUTCOMES.get(status, Outcome.REJECTED)
        text = f"{where}: {said}" if said else where
        return Verdict(outcome, reason, f"{text}{_HINTS.get(status, '')}")

    def _failed(self, error: Exception, under_way: Exchange) -> Verdict:
        outcome, reason, why = _explain(_chain(error), has_begun=under_way.has_begun)
        is_held = outcome is Outcome.HOLD
        message = f"cannot deliver to {self._endpoint.shown} (http/protobuf): {why}"
        return Verdict(
            outcome,
            reason,
            message,
            may_have_arrived=under_way.may_have_arrived and not is_held,
        )

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()


# -- who makes the requests


def _client(endpoint: Endpoint) -> HttpClient:
    """Choose the cheapest that will do."""
    credentials = None
    if "authorization" not in endpoint.headers:
        credentials = _credentials(endpoint.url)
    provider = credential_provider("HTTP", endpoint.signal)
    if not provider and not _has_proxy(urlsplit(endpoint.url).scheme):
        return DirectClient(endpoint, _headers(endpoint), credentials)
    from .session_client import SessionClient

    session = provider() if provider else None
    return SessionClient(endpoint, _headers(endpoint), credentials, session)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    """Give the headers of every request; the user's win over ours."""
    ours = {
        "Content-Type": "application/x-protobuf",
        "User-Agent": user_agent(),
        "Accept-Encoding": "gzip",
    }
    theirs = endpoint.headers
    headers = {name: ours[name] for name in ours if name.lower() not in theirs}
    headers |= theirs
    # Where a request ends is not theirs to say.
    for name in ("content-length", "transfer-encoding"):
        headers.pop(name, None)
    if endpoint.compression != "none":
        headers.pop("content-encoding", None)
        headers["Content-Encoding"] = endpoint.compression
    return headers


def _credentials(url: str) -> tuple[str, str] | None:
    """Give user and password of an address, if it has both."""
    parts = urlsplit(url)
    if not parts.username or parts.password is None:
        return None
    return unquote(parts.username), unquote(parts.password)


def _has_proxy(scheme: str) -> bool:
    """Tell whether a proxy may be named for a scheme; ``requests`` decides the rest."""
    if sys.platform in {"darwin", "win32"}:  # they have settings of their own
        from urllib.request import getproxies

        return bool(getproxies().keys() & {scheme, "all"})
    wanted = {f"{scheme}_proxy", "all_proxy"}
    return any(value and name.lower() in wanted for name, value in os.environ.items())


# -- what went wrong


def _chain(error: BaseException) -> list[BaseException]:
    """Give an error and what caused it, the innermost last."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 32:  # noqa: PLR2004 - chains are short
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            waiting += [
                *(getattr(each, "reason", None), each.__cause__, each.__context__),
                *each.args,
            ]
    return found


_Explained = tuple[Outcome, str, str] | None


def _explain(
    chain: list[BaseException], *, has_begun: bool
) -> tuple[Outcome, str, str]:
    """Tell what an exception means: outcome, reason, and a line for people."""
    found = _tls(chain)  # first: a certificate that fails is a ValueError too
    if found is None and not has_begun:
        # Once the request is out, what is not legal is the answer.
        found = _illegal(chain)
    found = found or _network(chain)
    if found is not None:
        return found
    if has_begun:
        return Outcome.RETRY, "cut", "its answer is broken"
    inner = chain[-1]
    # Texts of requests quote the address, whose query may be secret.
    is_plain = type(inner).__module__ == "builtins"
    why = one_line(inner) if is_plain else type(inner).__name__
    return Outcome.RETRY, "unreachable", why


def _illegal(chain: list[BaseException]) -> _Explained:
    """Recognise what was refused before anything was sent; its text may be secret."""
    for error in chain:
        if isinstance(error, UnicodeEncodeError) or _is_named(error, "InvalidHeader"):
            return Outcome.HOLD, "headers", "a header is not legal, see `headers`"
    if isinstance(chain[0], ValueError):  # what requests raises about addresses too
        return Outcome.HOLD, "endpoint", "the address or its proxy is not legal"
    return None


def _tls(chain: list[BaseException]) -> _Explained:
    for error in chain:
        if isinstance(error, FileNotFoundError) or "invalid path" in str(error):
            why = (
                "a file of `certificate`, `client_certificate` or `client_key` is gone"
            )
            return Outcome.HOLD, "tls", why
        if not isinstance(error, SSLError):
            continue
        said = one_line(error)
        if isinstance(error, _BROKEN_OFF):
            return Outcome.RETRY, "cut", f"the TLS connection broke off: {said}"
        if not isinstance(error, SSLCertVerificationError) and any(
            sign in said for sign in _NOT_TLS
        ):
            why = "it does not speak TLS; correct `endpoint` or its port"
            return Outcome.HOLD, "protocol", why
        return Outcome.HOLD, "tls", f"TLS failed: {said}"
    return None


# In order: the first type that fits an exception says what it means.
_NETWORK: tuple[tuple[type[BaseException], Outcome, str, str], ...] = (
    (
        *(RemoteDisconnected, Outcome.RETRY, "cut"),
        f"it hung up without an answer; {_GRPC_PORT}",
    ),
    (BadStatusLine, Outcome.HOLD, "protocol", _NO_HTTP),
    (HTTPException, Outcome.RETRY, "cut", "its answer is broken"),
    (TimeoutError, Outcome.RETRY, "timeout", "no answer in time"),
    (gaierror, Outcome.RETRY, "unreachable", "its name cannot be looked up"),
    (
        *(ConnectionRefusedError, Outcome.RETRY, "unreachable"),
        "connection refused; is a collector running?",
    ),
    (ConnectionError, Outcome.RETRY, "cut", "the connection was cut"),
)


def _network(chain: list[BaseException]) -> _Explained:
    for error in chain:
        for kind, outcome, reason, why in _NETWORK:
            if isinstance(error, kind):
                return outcome, reason, why
    if any(_is_named(error, "Timeout") for error in chain):
        return Outcome.RETRY, "timeout", "no answer in time"
    return None


def _is_named(error: BaseException, part: str) -> bool:
    return part in type(error).__name__
