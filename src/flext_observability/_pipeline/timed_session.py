"""Sessions of ``requests`` whose requests keep one deadline from first to last byte.

The timeouts of ``requests`` hold for each read alone: a server that sends one byte a
second is never late for them. Here every connect, send and receive gets what is left of
the whole. A lookup of names cannot be cut short; the system bounds it.
"""

import io
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read, wait_for_socket

_SLICE_BYTES = 256 * 1024


@dataclass(slots=True)
class Exchange:
    """One request under way."""

    deadline: float
    """On the monotonic clock, seconds."""
    has_begun: bool = False
    """Whether a byte of the request may have left."""
    is_watched: bool = False
    """Whether its connection reports here: not that of a foreign adapter."""

    @property
    def may_have_arrived(self) -> bool:
        """Whether the server may have the request, as far as we can tell."""
        return self.has_begun or not self.is_watched

    def left_s(self) -> float:
        """Give the seconds left.

        Raises:
            TimeoutError: There are none.
        """
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time of the request is over")
        return left_s


# Connections are made and used far below our call, but always in its thread.
_current: ContextVar[Exchange | None] = ContextVar("flext_exchange", default=None)


@contextmanager
def exchange(timeout_s: float) -> Generator[Exchange]:
    """Let the requests inside share one deadline."""
    begun = Exchange(time.monotonic() + timeout_s)
    token = _current.set(begun)
    try:
        yield begun
    finally:
        _current.reset(token)


def _allot(sock: Any) -> None:
    """Give a socket what is left of the current exchange, if there is one."""
    current = _current.get()
    if current is not None:
        sock.settimeout(current.left_s())


class _TimedReader(io.RawIOBase):
    """Reads from a socket within the deadline."""

    def __init__(self, raw: Any, sock: Any) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _allot(self._sock)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class _TimedReply(HTTPResponse):
    """A response of ``http.client``, read within the deadline."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        # urllib3 logs a warning about headers it does not like, at every request: a
        # server could fill the user's log.
        self.msg.defects = []
        self.msg.set_payload("")
        if self.chunked:
            del self.msg["Content-Length"]


class _TimedConnection(HTTPConnection):
    """A connection each of whose steps gets what is left of the whole."""

    response_class = _TimedReply
    _is_connecting = False
    _is_cut = False
    _is_plain = True

    def connect(self) -> None:
        """Connect; what a tunnel through a proxy says is no request yet."""
        self._is_connecting = True
        self._is_cut = False
        current = _current.get()
        if current is not None:
            current.is_watched = True
        try:
            super().connect()
        finally:
            self._is_connecting = False

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers, each within its share."""
        if _current.get() is None:
            return super()._new_conn()
        addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        trouble = OSError("the name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                return self._connected(
                    socket.socket(family, kind, protocol),
                    address,
                    len(addresses) - tried,
                )
            except OSError as error:
                trouble = error
        raise trouble

    def _connected(
        self, sock: socket.socket, address: Any, shares: int
    ) -> socket.socket:
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            current = _current.get()
            if current is not None:
                sock.settimeout(current.left_s() / shares)
            if self.source_address:
                sock.bind(self.source_address)
            sock.connect(address)
            _allot(sock)  # the TLS handshake keeps it
        except BaseException:
            sock.close()
            raise
        return sock

    def send(self, data: Any) -> None:
        """Send in slices, and stop when the server answers before it has all."""
        if self.sock is None:
            self.connect()
        sock: Any = self.sock
        current = _current.get()
        if current is None or not isinstance(data, bytes | bytearray):
            super().send(data)
            return
        current.is_watched = True
        current.has_begun = current.has_begun or not self._is_connecting
        rest = memoryview(data)
        while rest:
            _allot(sock)
            rest = rest[sock.send(rest[:_SLICE_BYTES]) :]
            if rest and self._is_plain and self._is_answered(current):
                self._is_cut = True
                raise BrokenPipeError  # urllib3 goes on to read the answer

    def _is_answered(self, current: Exchange) -> bool:
        """Wait until the server reads on, or says something already.

        Not under TLS, where servers talk by themselves: session tickets.
        """
        wait_for_socket(self.sock, read=True, write=True, timeout=current.left_s())
        return wait_for_read(self.sock, timeout=0.0)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request, never after half of another one."""
        if self._is_cut:
            self.close()
        super().request(*args, **kwargs)


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    """The same over TLS."""

    _is_plain = False


class _TimedPool(HTTPConnectionPool):
    ConnectionCls: Any = _TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TimedTlsConnection


_STOCK = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
_TIMED = {"http": _TimedPool, "https": _TimedTlsPool}


def _time(manager: Any) -> None:
    """Make a pool manager's connections timed, unless it makes its own (SOCKS)."""
    if getattr(manager, "pool_classes_by_scheme", None) == _STOCK:
        manager.pool_classes_by_scheme = _TIMED


class TimedAdapter(HTTPAdapter):
    """The stock adapter over timed connections, direct or through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the manager of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _time(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make or find the manager of a proxy's connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _time(manager)
        return manager


def timed(session: Session) -> Session:
    """Let a session keep deadlines; adapters that a plugin wrote stay as they are."""
    for prefix, adapter in list(session.adapters.items()):
        if type(adapter) is HTTPAdapter:
            session.mount(prefix, TimedAdapter(max_retries=adapter.max_retries))
        else:
            with suppress(Exception):  # it may be anything
                _time(adapter.poolmanager)  # type: ignore[attr-defined]
    return session
