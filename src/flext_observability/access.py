"""Who may ask the pages of a process what: the operations server, the metrics page.

Two rules. A token, once there is one, is asked of everybody. Without one only callers
on this machine are served, and only those that came here on purpose: a name in Host or
Origin that is not of this machine means that a web page sent the request (DNS
rebinding, cross-site requests), a forwarding header that it came from elsewhere.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .errors import FlextObservabilityConfigurationError

_FORWARDED: Final = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
    *("x-real-ip", "via"),
)
_ANY: Final = "*"

Header = Callable[[str], str]
"""Gives a header by its lower-case name, ``""`` when it was not sent."""


class Refusal(NamedTuple):
    """An answer to who may not ask."""

    status: HTTPStatus
    message: str


class Access(NamedTuple):
    """What one caller may."""

    refusal: Refusal | None
    """Why he gets neither metrics nor the API, ``None`` when he gets all."""
    is_forged: bool = False
    """Whether a foreign page sent the request; then he gets nothing at all."""

    @property
    def is_full(self) -> bool:
        """Whether details are for him."""
        return self.refusal is None


class AccessRules:
    """Decides what a caller may.

    Args:
        token: Asked of everybody; ``None`` when only this machine is served.
        allowed_hosts: Further names for Host and Origin; ``*`` is any.
    """

    def __init__(
        self, token: str | None = None, allowed_hosts: Sequence[str] = ()
    ) -> None:
        self._token = None if token is None else token.encode()
        self._hosts = frozenset(host.lower().rstrip(".") for host in allowed_hosts)
        # With a token there is nothing that a rebound name could open.
        self._any_host = _ANY in self._hosts or (token is not None and not self._hosts)

    @classmethod
    def at(
        cls, host: str, token: str | None, allowed_hosts: Sequence[str]
    ) -> "AccessRules":
        """Make the rules of what listens on an address; without a token, by its name.

        Args:
            host: Where it listens.
            token: Asked of everybody.
            allowed_hosts: Further names.
        """
        own = [] if token is not None else [host]
        return cls(token, [*allowed_hosts, *own])

    def judge(self, peer: str, header: Header) -> Access:
        """Say what a caller may.

        Args:
            peer: His address, ``""`` where there is none.
            header: Gives his headers.
        """
        host, origin = header("host"), header("origin")
        if origin and not self._is_ours(origin, host):
            message = "requests of other origins are refused"
            return Access(Refusal(HTTPStatus.FORBIDDEN, message), is_forged=True)
        is_known = self._any_host or self._is_known(_name(f"//{host}"))
        if self._token is not None:
            # Probes come by addresses: they get their word, whatever the name.
            refusal = self._check_token(header("authorization"))
            return Access(refusal or (None if is_known else _foreign_host()))
        if not _is_loopback(peer) or any(map(header, _FORWARDED)):
            message = "only callers on this machine are served; set server_token"
            return Access(Refusal(HTTPStatus.FORBIDDEN, message))
        return Access(None if is_known else _foreign_host(), is_forged=not is_known)

    def _check_token(self, authorization: str) -> Refusal | None:
        scheme, _, given = authorization.partition(" ")
        # Compared in constant time, also when the scheme is another one.
        is_equal = hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self._token or b""
        )
        if is_equal and scheme.lower() == "bearer":
            return None
        return Refusal(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")

    def _is_ours(self, origin: str, host: str) -> bool:
        """Whether the page that sent a request is one of this server."""
        name = _name(origin)
        if self._any_host:
            return bool(name) and name == _name(f"//{host}")
        return self._is_known(name)

    def _is_known(self, name: str) -> bool:
        return name in self._hosts or name == "localhost" or _is_loopback(name)


def check_reach(setting: str, host: str, token: str | None) -> None:
    """Let nothing listen where anybody could ask.

    Args:
        setting: Names the address.
        host: The address.
        token: Asked of everybody.

    Raises:
        FlextObservabilityConfigurationError: Others reach it, and there is no token.
    """
    if token is None and host.lower() != "localhost" and not _is_loopback(host):
        message = (
            f"{setting}: {host} can be reached from other machines, and no "
            "server_token is set. Set FLEXT_OBSERVABILITY_SERVER_TOKEN, or listen "
            "on 127.0.0.1."
        )
        raise FlextObservabilityConfigurationError(message)


def wsgi_header(environ: Mapping[str, Any], name: str) -> str:
    """Give a header of a WSGI request, ``""`` when it was not sent."""
    return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


def _foreign_host() -> Refusal:
    message = "the Host header names another machine; see server_allowed_hosts"
    return Refusal(HTTPStatus.FORBIDDEN, message)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return parsed.is_loopback or bool(mapped and mapped.is_loopback)


def _name(url: str) -> str:
    """Give the host of a URL, ``""`` when it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
