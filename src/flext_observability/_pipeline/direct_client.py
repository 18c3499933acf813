"""Requests by the standard library alone, straight to the server.

``requests`` costs a program as much to load as all the rest of our way over HTTP. It
stays for what it knows and this does not: proxies, and sessions that plugins bring.
"""

import os
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import ECONNRESET, EPIPE, EPROTOTYPE
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from ssl import SSLContext, TLSVersion, create_default_context
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .endpoint import Endpoint
from .http_client import HttpReply, read_reply
from .timed_exchange import (
    TimedReply,
    current_exchange,
    is_ready,
    open_socket,
    send_slices,
)

_NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
_PORTS = {"http": 80, "https": 443}
# How it shows that a server hung up while we were sending; the third is of macOS.
_HUNG_UP = frozenset({EPIPE, ECONNRESET, EPROTOTYPE})
_LABEL_CHARACTERS = 63
_PATH_CHARACTERS = "/!$&'()*+,:;=@~%"


class DirectClient:
    """Makes requests over one kept-alive connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        credentials: tuple[str, str] | None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            endpoint: Where requests go, and its certificates.
            headers: Of every request.
            credentials: User and password for basic authentication.
        """
        self._headers = dict(headers)
        self._credentials = credentials
        self._connection: _Connection | None = None
        with suppress(ValueError):  # said at each request: it burns nothing
            self._connection = _Connection(endpoint)
        self._in_use = threading.Lock()
        self._is_closed = False

    def post(self, body: bytes, timeout_s: float) -> HttpReply:  # noqa: ARG002 - the exchange around it knows
        """Make one request; its connection is fit for the next if it is read whole."""
        if self._connection is None:
            message = "the address is not legal"
            raise ValueError(message)
        headers = dict(self._headers)
        if self._credentials:
            headers["Authorization"] = _basic(*self._credentials)
        with self._in_use:
            try:
                reply = self._connection.post(body, headers)
            except BaseException:
                self._connection.close()
                raise
        if self._is_closed:
            self._released(self._connection)
        return reply

    def close(self) -> None:
        """Drop the connection; a request under way ends early."""
        self._is_closed = True
        if self._connection and not self._released(self._connection):
            self._connection.interrupt()

    def _released(self, connection: "_Connection") -> bool:
        """Close the connection, unless a thread uses it, who will do so at its end."""
        is_idle = self._in_use.acquire(blocking=False)
        if is_idle:
            connection.close()
            self._in_use.release()
        return is_idle


def _basic(name: str, password: str) -> str:
    """Give the header of basic authentication.

    Raises:
        UnicodeEncodeError: It cannot be said in HTTP.
    """
    return f"Basic {b64encode(f'{name}:{password}'.encode('latin-1')).decode()}"


# -- the connection


class _Connection(HTTPConnection):
    """A connection each of whose steps gets what is left of the whole."""

    response_class = TimedReply

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ValueError: The address is not legal.
        """
        parts = urlsplit(endpoint.url)
        name = _name(parts.hostname or "")
        # As servers and their certificates know it: no zone, no dot at the end.
        host = name.partition("%")[0] if ":" in name else name.rstrip(".")
        default_port = _PORTS[parts.scheme]
        super().__init__(host, parts.port or default_port)
        self.default_port = default_port  # another one is told to the server
        self._name = name
        self._target = _target(parts.path, parts.query)
        self._make_context: Callable[[], SSLContext] | None = None
        if parts.scheme == "https":
            self._make_context = _contexts(endpoint)
        self._socket: socket.socket | None = None
        self._process = 0

    def post(self, body: bytes, headers: Mapping[str, str]) -> HttpReply:
        """Make one request, over the connection there is unless the server left it."""
        if self.sock is not None and is_ready(self.sock):
            self.close()
        if self.sock is None:
            self.connect()
        is_cut = False
        try:
            self.request("POST", self._target, body, headers)
        except OSError as error:
            if error.errno not in _HUNG_UP:
                raise
            is_cut = True  # it may have answered all the same
        with self.getresponse() as response:
            _check_length(response)
            reply = read_reply(
                response.status, response.headers, lambda size: _read(response, size)
            )
        if is_cut or reply.body is None:
            self.close()
        return reply

    def connect(self) -> None:
        """Connect, and agree on TLS if the address says so."""
        current = current_exchange()
        if current is not None:
            current.is_watched = True
        # Bytes: Python would load a codec for names as text.
        sock = open_socket(self._name.encode(), self.port, _NO_DELAY)
        try:
            if self._make_context:
                sock = self._make_context().wrap_socket(
                    sock, server_hostname=self.host.encode()
                )
        except BaseException:
            sock.close()
            raise
        self.sock = self._socket = sock
        self._process = os.getpid()

    def send(self, data: Any) -> None:
        """Send in slices, and stop when the server answers before it has all."""
        current = current_exchange()
        if current is not None:
            current.has_begun = True
        send_slices(self.sock, data, is_plain=self._make_context is None)

    def interrupt(self) -> None:
        """Let whoever waits for the server wait no longer."""
        # A forked child has the same connection: there it is not ours to end.
        if self._socket is not None and self._process == os.getpid():
            with suppress(OSError):  # it is closed by now
                # Not that of TLS, after which another thread could send in the clear.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _check_length(response: HTTPResponse) -> None:
    """Refuse an answer of two lengths: nobody can tell where the next one begins.

    Raises:
        HTTPException: It has.
    """
    lengths = response.headers.get_all("Content-Length", ())
    if len(set(lengths)) > 1 and not response.chunked:
        raise HTTPException(lengths)


def _read(response: HTTPResponse, size: int) -> bytes:
    """Read a part of a body.

    Raises:
        IncompleteRead: It ended too early, about which ``http.client`` is silent.
    """
    part = response.read(size)
    if not part and response.length:
        raise IncompleteRead(part, response.length)
    return part


# -- TLS


def _contexts(endpoint: Endpoint) -> Callable[[], SSLContext]:
    """Give what makes the rules of a TLS connection.

    For each connection anew: its files may have been replaced.
    """
    stock = None
    if not endpoint.certificate:
        # Loaded here, by whoever calls setup(): an import in our thread while the
        # program forks would leave the child a held lock.
        from certifi import where

        stock = where()

    def make() -> SSLContext:
        # The variables as `requests` reads them, which many machines set.
        authorities = (
            endpoint.certificate
            or os.environ.get("REQUESTS_CA_BUNDLE")
            or os.environ.get("CURL_CA_BUNDLE")
            or stock
        )
        is_folder = authorities is not None and Path(authorities).is_dir()
        context = create_default_context(
            cafile=None if is_folder else authorities,
            capath=authorities if is_folder else None,
        )
        context.minimum_version = TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False
        context.post_handshake_auth = True  # a server may ask late who we are
        context.set_alpn_protocols(["http/1.1"])
        if endpoint.client_certificate and endpoint.client_key:
            # A password function, so that an encrypted key fails instead of asking.
            context.load_cert_chain(
                endpoint.client_certificate, endpoint.client_key, password=lambda: ""
            )
        return context

    return make


# -- the address


def _name(host: str) -> str:
    """Give the name or the address of a host as it is looked up.

    Raises:
        ValueError: It is not legal.
    """
    if ":" in host:  # the zone's percent sign is itself escaped in a URL
        address, percent, zone = host.partition("%")
        host = address + percent + unquote(zone.removeprefix("25") or zone)
    elif not host.isascii():
        from idna import encode  # comes with `requests`; seldom needed

        host = encode(host, uts46=True).decode()
    labels = host.removesuffix(".").split(".")
    is_legal = host.isascii() and host.isprintable() and not set(" []") & set(host)
    if not is_legal or host.startswith("*"):
        raise ValueError
    if ":" not in host and not all(0 < len(x) <= _LABEL_CHARACTERS for x in labels):
        raise ValueError
    return host


def _target(path: str, query: str) -> str:
    """Give path and query as they are sent.

    Raises:
        UnicodeEncodeError: They hold half of a character.
    """
    target = f"/{_quoted(path.lstrip('/'))}"
    return f"{target}?{_quoted(query, '?')}" if query else target


def _quoted(text: str, more: str = "") -> str:
    """Escape what may not stand in a URL, and nothing twice."""
    escaped = re.sub("%(?![0-9A-Fa-f]{2})", "%25", text)
    return quote(escaped, safe=_PATH_CHARACTERS + more)
