"""Plain HTTP requests to the tools of operators: Alertmanager, Pushgateway."""

from dataclasses import dataclass
from http.client import responses
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from requests.utils import get_auth_from_url

from .client_identity import user_agent
from .timed_exchange import exchange
from .timed_session import own_session
from .verdict import one_line, retry_after_s

# What a server says about a refusal fits; the rest is not read.
_REPLY_BYTES = 4096
# The content is at fault. Everything else may be another time: a server in trouble, or
# credentials and addresses that a person will correct.
_REFUSALS = frozenset({400, 413, 415, 422})
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    status: int = 0
    """The HTTP status; 0 when there was no answer."""
    message: str = ""
    """What is wrong, one line, without credentials; empty when all went well."""
    retry_after_s: float | None = None
    """When the server told us to come back, seconds from now."""

    @property
    def is_success(self) -> bool:
        """Whether the server took it."""
        return self.status in _SUCCESS

    @property
    def is_refusal(self) -> bool:
        """Whether the same request can never succeed."""
        return self.status in _REFUSALS


class WebClient:
    """One web service; never raises, never follows a redirect."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            address: Its URL; user and password in it are sent as basic authentication.
            token: Sent as bearer token.
        """
        self._address = address
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        self.shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
        """The address as it may be shown."""
        name, password = get_auth_from_url(address)
        self._session = own_session((name, password) if name else None)
        self._session.headers.update(
            {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
        )
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def send(
        self, method: str, path: str, body: bytes, content_type: str, timeout_s: float
    ) -> Answer:
        """Make one request within a time.

        Args:
            method: Such as ``POST``.
            path: Below the address, with a slash in front.
            body: What to send.
            content_type: Of the body.
            timeout_s: From the first to the last byte, seconds.
        """
        with exchange(timeout_s):
            try:
                response = self._session.request(
                    method,
                    self._address + path,
                    data=body,
                    headers={"Content-Type": content_type},
                    timeout=timeout_s,
                    allow_redirects=False,
                    stream=True,
                )
            except Exception as error:  # noqa: BLE001 - of requests, urllib3, sockets
                return Answer(0, f"cannot reach {self.shown}: {_reason(error)}")
            return self._answer(response)

    def _answer(self, response: Any) -> Answer:
        said = _said(response)
        status = int(response.status_code)
        if status in _SUCCESS:
            return Answer(status)
        name = responses.get(status, "")
        where = f"{self.shown} answered {status} {name}".rstrip()
        if 300 <= status < 400:  # noqa: PLR2004 - the redirection class of HTTP
            said = "a redirect, which is never followed; correct the address"
        message = f"{where}: {said}" if said else where
        told_s = retry_after_s(response.headers.get("Retry-After"))
        return Answer(status, message, told_s)

    def close(self) -> None:
        """Drop the connection."""
        self._session.close()


def _said(response: Any) -> str:
    """Read a bounded reply; a whole one leaves the connection fit for the next."""
    raw = response.raw
    try:
        reply: bytes = raw.read(_REPLY_BYTES + 1, decode_content=False)
    except Exception:  # noqa: BLE001 - cut, late, garbage: all the same
        raw.close()
        return ""
    if len(reply) > _REPLY_BYTES:
        raw.close()
    else:
        raw.release_conn()
    return one_line(reply.decode("utf-8", "replace").strip())


def _reason(error: BaseException) -> str:
    """Say what an exception means; texts of ``requests`` may quote a password."""
    found: BaseException | None = error
    for _ in range(16):  # chains are short
        if isinstance(found, TimeoutError):
            return "no answer in time"
        if isinstance(found, OSError) and found.strerror:
            return one_line(found.strerror).lower()
        inner = found and (found.__cause__ or found.__context__)
        if inner is None:
            break
        found = inner
    if isinstance(found, ConnectionError):
        return "the connection was cut"
    name = type(found).__name__
    return "no answer in time" if "Timeout" in name else name
