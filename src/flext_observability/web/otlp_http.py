"""OTLP/HTTP in: three POST paths, hardened against what a browser or a bug may send.

Order of the checks: may the caller speak to us at all (DNS rebinding shows in Host and
Origin), does the path exist, is the method right, is the body of a kind we read, and
only then the body itself, which is decompressed while it arrives and never inflates
beyond its limit.
"""

import contextlib
import io
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any, Final
from urllib.parse import urlsplit

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from ..constants import Signal
from .otlp import (
    BODY_LIMIT_BYTES,
    JSON,
    PROTOBUF,
    SERVICES,
    ExportRequest,
    MalformedRequestError,
    Service,
    message_bytes,
    parse_request,
)

_REQUEST_DEADLINE_S: Final = 10.0  # from its first byte to its last
_IDLE_DEADLINE_S: Final = 60.0  # between two requests of one connection
_CONCURRENCY: Final = 8  # requests being decoded
_SLOT_WAIT_S: Final = 1.0
_CONNECTION_LIMIT: Final = 256
_IN_FLIGHT_LIMIT_BYTES: Final = 64 * 1024 * 1024  # bodies of all requests together
_LINGER_S: Final = 1.0
_STOP_GRACE_S: Final = 1.0
_PIECE_BYTES: Final = 64 * 1024

# Real telemetry compresses 5 to 50 times; only small bodies may exceed the ratio.
_RATIO_LIMIT: Final = 100
_RATIO_FREE_BYTES: Final = 4 * 1024 * 1024

_HEX: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_INFLATERS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_PATHS: Final = {service.http_path: service for service in SERVICES}

Deliver = Callable[[Signal, ExportRequest], None]


class _RefusedError(Exception):
    """An answer other than 200; the connection is closed after it."""

    def __init__(self, status: HTTPStatus, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class HttpServer:
    """Takes export requests over HTTP/1.1 and hands them to a callback.

    Args:
        host: loopback address.
        port: port, 0 for any free one.
        deliver: called with every request, from several threads.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, deliver: Deliver) -> None:
        try:
            self._listener = _Listener(host, port, deliver)
        except OSError as error:
            literal = f"[{host}]" if ":" in host else host
            message = (
                f"cannot listen on {literal}:{port}: {os.strerror(error.errno or 0)}"
            )
            raise OSError(message) from error
        self._thread = threading.Thread(
            target=self._listener.serve_forever,
            args=(0.05,),
            name="flext-otlp-http",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._listener.server_address[1])

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def stop(self) -> None:
        """Let running requests end, for a second at most, and close everything."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.close_connections()


class _Listener(ThreadingHTTPServer):
    """Accepts connections, each served by a thread, and knows which are open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_port = False

    def __init__(self, host: str, port: int, deliver: Deliver) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.deliver = deliver
        self.slots = threading.BoundedSemaphore(_CONCURRENCY)
        self.budget = _Budget(_IN_FLIGHT_LIMIT_BYTES)
        self._connections: set[socket.socket] = set()
        self._connections_changed = threading.Condition()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of a host name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), 0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or refuse it when there are too many."""
        with self._connections_changed:
            crowded = len(self._connections) >= _CONNECTION_LIMIT
            self._connections.add(request)
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        with self._connections_changed:
            self._connections.discard(request)
            self._connections_changed.notify_all()

    def close_connections(self) -> None:
        """Stop reading from every connection and wait until its thread is done."""
        with self._connections_changed:
            for connection in self._connections:
                # The answer to a request that was read already can still be sent.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._connections_changed.wait_for(
                lambda: not self._connections, _STOP_GRACE_S
            )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about connections that broke; they are the client's affair."""


class _Budget:
    """Bytes of bodies that may be in memory at the same time."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        with self._lock:
            if amount > self._left:
                return False
            self._left -= amount
            return True

    def give_back(self, amount: int) -> None:
        with self._lock:
            self._left += amount


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a point in time, however slowly bytes trickle in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = 0.0

    def allow(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Speaks OTLP/HTTP on one connection."""

    protocol_version = "HTTP/1.1"
    server: _Listener  # pyright: ignore[reportIncompatibleVariableOverride]
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = _DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reader, _PIECE_BYTES)

    def handle_one_request(self) -> None:
        self._reader.allow(_IDLE_DEADLINE_S)
        try:
            self.rfile.peek(1)  # type: ignore[attr-defined]
        except OSError:  # idle for too long, or gone
            self.close_connection = True
            return
        self._reader.allow(_REQUEST_DEADLINE_S)
        super().handle_one_request()

    def do_POST(self) -> None:
        taken: list[int] = []
        try:
            service, media_type = self._check_head()
            body = b"".join(self._read_body(taken))
            with self._slot():
                request = parse_request(service, body, media_type)
                self.server.deliver(service.signal, request)
            self._reply(HTTPStatus.OK, service.response())
        except _RefusedError as refusal:
            self._refuse(refusal)
        except MalformedRequestError as error:
            # The body was read to its end: the connection can go on.
            self._reply(HTTPStatus.BAD_REQUEST, Status(message=str(error)))
        finally:
            self.server.budget.give_back(sum(taken))

    def _refuse_method(self) -> None:
        message = f"{self.command} is not allowed, only POST"
        refusal = _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, message, Allow="POST")
        try:
            self._check_caller()
            self._service()
        except _RefusedError as earlier:
            refusal = earlier
        self._refuse(refusal)

    do_GET = do_HEAD = do_PUT = _refuse_method  # noqa: N815 - named by http.server
    do_PATCH = do_DELETE = do_OPTIONS = _refuse_method  # noqa: N815

    # -- the head of a request

    def _check_head(self) -> tuple[Service, str]:
        """Refuse all that can be told from the head; return service and media type."""
        self._check_caller()
        service = self._service()
        media_type = self._media_type()
        if media_type not in (PROTOBUF, JSON):
            raise _RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"content type must be {PROTOBUF} or {JSON}",
            )
        return service, media_type

    def _check_caller(self) -> None:
        """Refuse requests that a foreign web page made a browser send to us."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "one Host header is needed")
        origin = self.headers.get("Origin")
        if not _is_loopback(f"//{hosts[0]}") or (origin and not _is_loopback(origin)):
            message = "Host and Origin must be loopback names"
            raise _RefusedError(HTTPStatus.FORBIDDEN, message)

    def _service(self) -> Service:
        service = _PATHS.get(self.path.partition("?")[0])
        if service is None:
            message = f"no such path, only {', '.join(_PATHS)}"
            raise _RefusedError(HTTPStatus.NOT_FOUND, message)
        return service

    def _media_type(self) -> str:
        # The request line may have been unreadable: then there are no headers.
        headers = getattr(self, "headers", None)
        return headers.get_content_type() if headers else ""

    # -- its body

    def _read_body(self, taken: list[int]) -> Iterator[bytes]:
        """Yield the decompressed body; note in ``taken`` what it costs the budget."""
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        pieces = self._raw_pieces()
        if encoding != "identity":
            if encoding not in _INFLATERS:
                message = f"content encoding must be one of {', '.join(_INFLATERS)}"
                raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
            pieces = _inflate(pieces, _INFLATERS[encoding])
        for piece in pieces:
            if not self.server.budget.take(len(piece)):
                raise _too_busy()
            taken.append(len(piece))
            if sum(taken) > BODY_LIMIT_BYTES:
                raise _too_large()
            yield piece

    def _raw_pieces(self) -> Iterator[bytes]:
        try:
            if "Transfer-Encoding" in self.headers:
                yield from self._chunks()
            else:
                yield from self._exactly(self._content_length())
        except TimeoutError:
            message = f"the request took longer than {_REQUEST_DEADLINE_S:.0f} s"
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, message) from None

    def _content_length(self) -> int:
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths:
            message = "Content-Length or chunked transfer coding is needed"
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, message)
        # Two lengths, or one that is no plain number, are a smuggling attempt or a bug.
        if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "unreadable Content-Length")
        length = int(lengths[0][:20])
        if length > BODY_LIMIT_BYTES:
            raise _too_large()
        return length

    def _exactly(self, amount: int) -> Iterator[bytes]:
        while amount:
            piece = self.rfile.read1(min(amount, _PIECE_BYTES))
            if not piece:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body ends too early")
            amount -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        """Read the chunked transfer coding (RFC 9112, section 7.1)."""
        coding = self.headers.get("Transfer-Encoding", "").strip().lower()
        if coding != "chunked" or "Content-Length" in self.headers:
            message = "the only transfer coding is chunked, without Content-Length"
            raise _RefusedError(HTTPStatus.BAD_REQUEST, message)
        total = 0
        while size := self._chunk_size():
            total += size
            if total > BODY_LIMIT_BYTES:
                raise _too_large()
            yield from self._exactly(size)
            if self._short_line() != b"":
                raise _RefusedError(HTTPStatus.BAD_REQUEST, "unreadable chunk")
        for _ in range(100):  # trailer fields, of no interest here
            if self._short_line() == b"":
                return
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "too many trailer fields")

    def _chunk_size(self) -> int:
        digits = self._short_line().partition(b";")[0].strip()
        if not _HEX.fullmatch(digits):  # int() would also take signs and underscores
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "unreadable chunk")
        return int(digits, 16)

    def _short_line(self) -> bytes:
        line = self.rfile.readline(1024)
        if not line.endswith(b"\n"):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "unreadable chunk")
        return line.rstrip(b"\r\n")

    @contextlib.contextmanager
    def _slot(self) -> Generator[None]:
        if not self.server.slots.acquire(timeout=_SLOT_WAIT_S):
            raise _too_busy()
        try:
            yield
        finally:
            self.server.slots.release()

    # -- answers

    def _refuse(self, refusal: _RefusedError) -> None:
        """Answer, then close: what is left of the body will not be read."""
        self.close_connection = True
        headers = {**refusal.headers, "Connection": "close"}
        self._reply(refusal.status, Status(message=str(refusal)), headers)
        self._linger()

    def _linger(self) -> None:
        """Take what is still coming, for a moment, so that the answer gets through.

        Closing a socket with unread data resets the connection, and the client would
        see that instead of the answer.
        """
        self._reader.allow(_LINGER_S)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(_PIECE_BYTES):
                pass

    def _reply(
        self,
        status: HTTPStatus,
        message: Message,
        headers: dict[str, str] | None = None,
    ) -> None:
        media_type = PROTOBUF if self._media_type() == PROTOBUF else JSON
        body = message_bytes(message, media_type)
        self.connection.settimeout(_REQUEST_DEADLINE_S)
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Answer what the base class refuses by itself, in our form instead of HTML."""
        del explain
        # What could not be read counts as HTTP/0.9, whose answers have no status.
        self.request_version = self.protocol_version
        status = HTTPStatus(code)
        self._refuse(_RefusedError(status, message or status.phrase))

    def version_string(self) -> str:
        return "flext-observability"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay silent: the receiver's output is what it received."""


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _inflate(pieces: Iterable[bytes], window_bits: int) -> Iterator[bytes]:
    """Decompress a stream piece by piece, refusing what inflates suspiciously.

    A gzip stream may consist of several members (RFC 1952, section 2.2).
    """
    inflater = zlib.decompressobj(window_bits)
    read = written = 0
    try:
        for piece in pieces:
            read += len(piece)
            rest = piece
            while rest:
                if inflater.eof:
                    inflater = zlib.decompressobj(window_bits)
                inflated = inflater.decompress(rest, _PIECE_BYTES)
                written += len(inflated)
                if written > max(_RATIO_FREE_BYTES, _RATIO_LIMIT * read):
                    raise _too_large()
                yield inflated
                rest = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error as error:
        message = f"broken compression: {error}"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, message) from error
    if not inflater.eof:
        message = "broken compression: ends too early"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, message)


def _too_large() -> _RefusedError:
    message = f"the body exceeds {BODY_LIMIT_BYTES} bytes, or {_RATIO_LIMIT} times its "
    message += "compressed size"
    return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _too_busy() -> _RefusedError:
    message = "too many requests at once"
    return _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, message, Retry_After="1")
