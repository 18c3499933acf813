"""The other end of a TCP connection, which does what one function says: `Peer`.

For what no HTTP server would do; see `server.FaultServer` for scripted answers.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

Handler = Callable[[socket.socket], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """A listening port; use it as a context manager.

    Args:
        handler: called with every connection, in a thread of its own; the connection is
            closed when it returns.
        receive_bytes: size of the receive buffer, the system's choice when 0.
        tls: how it speaks TLS, if it does.
    """

    protocol = "http/protobuf"

    def __init__(
        self,
        handler: Handler,
        *,
        receive_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connections = 0
        """Made so far."""
        self.closing = threading.Event()
        """Set when the test is over; handlers that wait shall wait for it."""
        self._handler = handler
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes:  # before it listens: connections inherit it
            self._listener.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes
            )
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        self.endpoint = f"{scheme}://{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(connection)
                threading.Thread(
                    target=self._serve, args=(connection,), daemon=True
                ).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._handler(connection)

    def __enter__(self) -> Self:
        """Give the listening port."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close every connection."""
        self.closing.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def read_request(connection: socket.socket) -> bytes:
    """Read one HTTP request; give its body.

    Raises:
        EOFError: The client closed before.
    """
    file = connection.makefile("rb", buffering=0)
    length = 0
    while (line := _line(file)) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = b""
    while len(body) < length:
        part = file.read(length - len(body))
        if not part:
            raise EOFError
        body += part
    return body


def _line(file: object) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte: bytes = file.read(1)  # type: ignore[attr-defined]
        if not byte:
            raise EOFError
        line += byte
    return line
