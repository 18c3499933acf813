"""One deadline for a whole HTTP request, from the first to the last byte.

The timeout of a socket holds for each step alone: a server that sends one byte a second
is never late for it. Here every connect, send and receive gets what is left of the
whole. A lookup of names cannot be cut short; the system bounds it.
"""

import io
import select
import socket
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from errno import EPIPE
from http.client import HTTPResponse
from typing import Any

_SLICE_BYTES = 256 * 1024
# RFC 9110, section 15.2: a client reads on. ``http.client`` skips only 100, and 101
# answers a question that we do not ask.
_INTERIM = frozenset({*range(100, 200)} - {101})

SocketOption = tuple[int, int, int | bytes]


class Exchange:
    """One request under way."""

    def __init__(self, deadline: float) -> None:
        """Begin.

        Args:
            deadline: On the monotonic clock, seconds.
        """
        self.deadline = deadline
        self.has_begun = False
        """Whether a byte of the request may have left."""
        self.is_watched = False
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


def current_exchange() -> Exchange | None:
    """Give the exchange we are inside of, if any."""
    return _current.get()


def allot(sock: Any) -> None:
    """Give a socket what is left of the current exchange, if there is one."""
    current = _current.get()
    if current is not None:
        sock.settimeout(current.left_s())


# -- connecting


def open_socket(
    host: bytes | str,
    port: int,
    options: Iterable[SocketOption],
    source: Any = None,
) -> socket.socket:
    """Connect to the first address that answers, each within its share of the time.

    Args:
        host: A name or an address; as bytes, nothing is loaded to encode it.
        port: Where it listens.
        options: What to set on the socket.
        source: The address to connect from, if that matters.

    Raises:
        OSError: Nobody answers, in time or at all.
    """
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    trouble = OSError("the name has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            sock = socket.socket(family, kind, protocol)
            shares = len(addresses) - tried
            _connect(sock, address, shares, options, source)
        except OSError as error:
            trouble = error
        else:
            return sock
    raise trouble


def _connect(
    sock: socket.socket,
    address: Any,
    shares: int,
    options: Iterable[SocketOption],
    source: Any,
) -> None:
    try:
        for option in options:
            sock.setsockopt(*option)
        current = _current.get()
        if current is not None:
            sock.settimeout(current.left_s() / shares)
        if source:
            sock.bind(source)
        sock.connect(address)
        allot(sock)  # the TLS handshake keeps it
    except BaseException:
        sock.close()
        raise


# -- sending


def send_slices(sock: Any, data: bytes | bytearray, *, is_plain: bool) -> None:
    """Send in slices, and stop when the server answers before it has all.

    Args:
        sock: A connected socket.
        data: What to send.
        is_plain: Whether it goes without TLS, under which servers talk by themselves:
            session tickets.

    Raises:
        BrokenPipeError: The server has answered; the answer can be read.
        OSError: The connection broke, or the time is over.
    """
    rest = memoryview(data)
    while rest:
        allot(sock)
        rest = rest[sock.send(rest[:_SLICE_BYTES]) :]
        if rest and is_plain and _is_answered(sock):
            raise BrokenPipeError(EPIPE, "answered before the end of the request")


def _is_answered(sock: Any) -> bool:
    """Wait until the server reads on, or says something already."""
    current = _current.get()
    if current is not None:
        is_ready(sock, current.left_s(), or_to_write=True)
    return is_ready(sock)


def is_ready(sock: Any, timeout_s: float = 0.0, *, or_to_write: bool = False) -> bool:
    """Wait until a socket can be read, or until its end: that is read too."""
    if not hasattr(select, "poll"):
        writers = [sock] if or_to_write else []
        return any(select.select([sock], writers, [], timeout_s))
    poll = select.poll()  # looked up at each call: gevent replaces it
    poll.register(sock, select.POLLIN | (select.POLLOUT if or_to_write else 0))
    return bool(poll.poll(timeout_s * 1000))


# -- receiving


class _TimedReader(io.RawIOBase):
    """Reads from a socket within the deadline."""

    def __init__(self, raw: Any, sock: Any) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        allot(self._sock)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class TimedReply(HTTPResponse):
    """A response of ``http.client``, read within the deadline."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        """Begin to read, from a socket as ``http.client`` hands it over."""
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))

    def begin(self) -> None:
        """Read the head of the answer; what a server says before it is no answer."""
        super().begin()
        while self.status in _INTERIM:
            self.headers = None  # type: ignore[assignment]  # not begun, to the base
            super().begin()
