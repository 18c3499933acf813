"""An OTLP/HTTP server that misbehaves on demand: `FaultServer`.

Raw asyncio sockets in a thread of its own. Every request is answered by a `Reply`:
those queued by `reply_next`, then what `reply_with` computes, then that of
`reply_always`.

For gRPC, `tests.fixtures.collector.Collector` has scripted answers of its own.
"""

import asyncio
import contextlib
import functools
import gzip
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.fixtures.collector import closed_port

T = TypeVar("T")
Cut = Literal["", "before", "during", "after", "accepted"]

SIGNALS = ("traces", "metrics", "logs")
NUMBER = "n"
"""Attribute of spans and log records that carries their number."""
COUNTED = "made"
"""Counter whose value is the number, for metrics."""

_TYPES: dict[str, tuple[type[Message], type[Message], str]] = {
    "traces": (
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        "rejected_spans",
    ),
    "metrics": (
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
    "logs": (
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        "rejected_log_records",
    ),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server does with one request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    """Instead of the OTLP response that fits the status."""
    raw: bytes | None = None
    """Instead of an HTTP answer; then the connection is closed."""
    rejected: int = 0
    """Records refused in a partial success."""
    message: str = ""
    delay_s: float = 0.0
    """Between the request and the answer."""
    drip_s: float = 0.0
    """Between two bytes of the answer."""
    hang: bool = False
    """Never answer."""
    cut: Cut = ""
    """Reset the connection: before the body is read, in the middle of it, after it, or
    after the records were accepted."""
    accepts: bool | None = None
    """Whether the records count as accepted, where the rest does not say it right."""

    @property
    def is_accepting(self) -> bool:
        """Whether a client may find that the records arrived."""
        if self.accepts is not None:
            return self.accepts
        is_answered = self.raw is None and not self.hang and self.cut == ""
        return 200 <= self.status < 300 and (is_answered or self.cut == "accepted")


ACCEPT = Reply()
HANG = Reply(hang=True)
BUSY = Reply(503, message="come back later")
BAD_REQUEST = Reply(400, message="malformed")
CUT_AFTER_ACCEPTING = Reply(cut="accepted")


@dataclass(frozen=True)
class Arrival:
    """One export request; decoded when somebody looks into it."""

    signal: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)
    """As it came over the wire; empty when the connection was cut before it."""
    at: float
    """When its head had arrived, on the monotonic clock, seconds."""

    @functools.cached_property
    def content(self) -> bytes:
        """The body, decompressed."""
        encoding = self.headers.get("content-encoding", "")
        if encoding == "gzip":
            return gzip.decompress(self.body)
        return zlib.decompress(self.body) if encoding == "deflate" else self.body

    @functools.cached_property
    def message(self) -> Any:
        """The protobuf message."""
        return _TYPES[self.signal][0].FromString(self.content)

    def records(self) -> Iterator[Any]:
        """The spans, log records or data points in it."""
        for group in getattr(self.message, _GROUPS[self.signal][0]):
            for scope in getattr(group, _GROUPS[self.signal][1]):
                if self.signal == "traces":
                    yield from scope.spans
                elif self.signal == "logs":
                    yield from scope.log_records
                else:
                    for metric in scope.metrics:
                        data = getattr(metric, metric.WhichOneof("data"))
                        yield from data.data_points

    @functools.cached_property
    def count(self) -> int:
        """Records in it."""
        return sum(1 for _ in self.records())

    @functools.cached_property
    def numbers(self) -> list[int]:
        """Numbers of the numbered records in it."""
        return [number for number, _ in self.numbered()]

    def numbered(self) -> Iterator[tuple[int, int]]:
        """Yield number and end (Unix time in ns) of the numbered records."""
        if self.signal == "metrics":
            yield from self._counted()
            return
        for record in self.records():
            for pair in record.attributes:
                if pair.key == NUMBER:
                    is_span = self.signal == "traces"
                    yield (
                        pair.value.int_value,
                        record.end_time_unix_nano if is_span else record.time_unix_nano,
                    )

    def _counted(self) -> Iterator[tuple[int, int]]:
        for group in self.message.resource_metrics:
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == COUNTED:
                        for point in metric.sum.data_points:
                            value = int(point.as_int or point.as_double)
                            yield value, point.time_unix_nano


_GROUPS = {
    "traces": ("resource_spans", "scope_spans"),
    "metrics": ("resource_metrics", "scope_metrics"),
    "logs": ("resource_logs", "scope_logs"),
}


class FaultServer:
    """A listening OTLP/HTTP server; use it as a context manager.

    Args:
        port: on loopback, 0 for one of the system's choice.
        identity: PEM files of its private key and certificate chain; TLS when given.
        is_open: whether it listens at once.
    """

    protocol = "http/protobuf"

    def __init__(
        self,
        *,
        port: int = 0,
        identity: tuple[Path, Path] | None = None,
        is_open: bool = True,
    ) -> None:
        self.accept_delay_s = 0.0
        """Seconds that every connection waits before the server looks at it."""
        self.responder: Callable[[Arrival], Reply | None] | None = None
        self._tls = _tls(identity) if identity else None
        self._changed = threading.Condition()
        self._arrivals: list[tuple[Arrival, Reply]] = []
        self._next: dict[str, deque[Reply]] = {signal: deque() for signal in SIGNALS}
        self._always: dict[str, Reply] = dict.fromkeys(SIGNALS, ACCEPT)
        self._counted = 0
        self._tallies: dict[str, Counter[int]] = {s: Counter() for s in SIGNALS}
        self._ends: dict[str, dict[int, int]] = {signal: {} for signal in SIGNALS}
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._raw: set[socket.socket] = set()  # accepted, and no transport's yet
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault-server", daemon=True
        )
        self._thread.start()
        self.port = port or closed_port()  # nobody else's while it is closed
        self.open_port()
        if not is_open:
            self.close_port()
        scheme, host = ("https", "localhost") if identity else ("http", "127.0.0.1")
        self.endpoint = f"{scheme}://{host}:{self.port}"

    # -- what it does

    def reply_next(self, *replies: Reply, signals: Iterable[str] = SIGNALS) -> None:
        """Give these replies, one per request and signal, before the standing one."""
        with self._changed:
            for signal in signals:
                self._next[signal].extend(replies)

    def reply_always(self, reply: Reply, signals: Iterable[str] = SIGNALS) -> None:
        """Give this reply from now on."""
        with self._changed:
            for signal in signals:
                self._always[signal] = reply

    def reply_with(self, responder: Callable[[Arrival], Reply | None]) -> None:
        """Ask this function for the reply; ``None`` from it means the standing one."""
        self.responder = responder

    def open_port(self) -> None:
        """Listen, on the same port as before."""
        self._call(self._open())

    def close_port(self) -> None:
        """Listen no more, and reset every connection."""
        self._call(self._close())

    def bounce(self, down_s: float) -> None:
        """Be away for that long."""
        self.close_port()
        time.sleep(down_s)
        self.open_port()

    # -- what arrived

    def arrivals(self, signal: str | None = None) -> list[Arrival]:
        """Every request, refused ones too, in order."""
        return [arrival for arrival, _ in self.exchanges(signal)]

    def exchanges(self, signal: str | None = None) -> list[tuple[Arrival, Reply]]:
        """Every request and what was done with it."""
        with self._changed:
            return [
                (arrival, reply)
                for arrival, reply in self._arrivals
                if signal in (None, arrival.signal)
            ]

    @property
    def request_count(self) -> int:
        """Requests so far."""
        return len(self._arrivals)

    def tally(self, signal: str = "traces") -> Counter[int]:
        """How often each number was accepted."""
        self._catch_up()
        return self._tallies[signal]

    def numbers(self, signal: str = "traces") -> set[int]:
        """The distinct numbers that were accepted."""
        return set(self.tally(signal))

    def duplicates(self, signal: str = "traces") -> int:
        """Numbered records accepted beyond the first time."""
        tally = self.tally(signal)
        return tally.total() - len(tally)

    def ends_ns(self, signal: str = "traces") -> dict[int, int]:
        """Number -> when that record ended, Unix time in ns."""
        self._catch_up()
        return self._ends[signal]

    def wait_for(self, probe: Callable[[], T], timeout_s: float = 20.0) -> T:
        """Return the first true value of ``probe``, asked after every request.

        Raises:
            AssertionError: when it stays false for ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if value := probe():
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                counts = {s: len(self._tallies[s]) for s in SIGNALS}
                raise AssertionError(
                    f"nothing fit within {timeout_s} s; {self.request_count} requests, "
                    f"distinct numbers {counts}"
                )
            with self._changed:
                # A short step, since probes may also look at other things.
                self._changed.wait(min(left, 0.05))

    def wait_numbers(
        self, count: int, timeout_s: float = 20.0, signal: str = "traces"
    ) -> None:
        """Wait until that many distinct numbers were accepted."""
        self.wait_for(lambda: len(self.tally(signal)) >= count, timeout_s)

    def _catch_up(self) -> None:
        with self._changed:
            new = self._arrivals[self._counted :]
            self._counted += len(new)
            for arrival, reply in new:
                if reply.is_accepting:
                    for number, end_ns in arrival.numbered():
                        self._tallies[arrival.signal][number] += 1
                        self._ends[arrival.signal][number] = end_ns

    # -- life

    def close(self) -> None:
        """Stop for good."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Self:
        """Give the listening server."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop for good."""
        self.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        listener.setblocking(False)  # noqa: FBT003 - the call has no keyword
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    async def _close(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        tasks = set(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that is cancelled before its first step closes nothing.
        for client in self._raw:
            client.close()
        self._raw.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            client.setblocking(False)  # noqa: FBT003 - the call has no keyword
            self._raw.add(client)
            task = self._loop.create_task(self._connection(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connection(self, client: socket.socket) -> None:
        if self.accept_delay_s:
            await asyncio.sleep(self.accept_delay_s)
        reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(reader)
        self._raw.discard(client)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._tls
            )
        except BaseException:
            client.close()
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            while await self._exchange(reader, writer):
                pass
            writer.close()
        except (OSError, EOFError, ssl.SSLError, ValueError):
            transport.abort()
        except asyncio.CancelledError:
            _reset(transport)
            raise

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; say whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        at = time.monotonic()
        first, *lines = head.decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        signal = path.rsplit("/", 1)[-1]
        if signal not in SIGNALS:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return False
        with self._changed:
            queue = self._next[signal]
            reply = queue.popleft() if queue else None
        body = b""
        if reply is None or reply.cut != "before":
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            share = 0.5 if reply is not None and reply.cut == "during" else 1.0
            body = await _read_body(reader, headers, share)
        arrival = Arrival(signal, path, headers, body, at)
        reply = reply or self._standing(arrival)
        with self._changed:
            self._arrivals.append((arrival, reply))
            self._changed.notify_all()
        return await self._answer(writer, signal, reply)

    def _standing(self, arrival: Arrival) -> Reply:
        reply = self.responder(arrival) if self.responder else None
        return reply or self._always[arrival.signal]

    async def _answer(
        self, writer: asyncio.StreamWriter, signal: str, reply: Reply
    ) -> bool:
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.hang:
            await asyncio.sleep(3600)
        if reply.cut:
            _reset(writer.transport)
            return False
        data = _rendered(signal, reply) if reply.raw is None else reply.raw
        if reply.drip_s:
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(reply.drip_s)
        else:
            writer.write(data)
        await writer.drain()
        return reply.raw is None and reply.headers.get("Connection") != "close"


def _rendered(signal: str, reply: Reply) -> bytes:
    body = reply.body
    if body is None and 200 <= reply.status < 300:
        response: Any = _TYPES[signal][1]()
        if reply.rejected or reply.message:
            setattr(response.partial_success, _TYPES[signal][2], reply.rejected)
            response.partial_success.error_message = reply.message
        body = response.SerializeToString()
    elif body is None:
        body = Status(message=reply.message).SerializeToString()
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Length": str(len(body)),
        **reply.headers,
    }
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Odd"
    lines = [f"HTTP/1.1 {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], share: float
) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts: list[bytes] = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(int(headers.get("content-length", 0)) * share))


def _reset(transport: asyncio.BaseTransport) -> None:
    """Close with RST instead of FIN."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _tls(identity: tuple[Path, Path]) -> ssl.SSLContext:
    key, chain = identity
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context
