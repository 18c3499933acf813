"""What operators' requests and the middleware cost, in one run.

Three tables. `/metrics` of a program with a counter, a gauge and a histogram of N
series each, over a real socket: time to the last byte, and size. `/health` of the
program `python -m flext_observability.server` under 50 connections that never pause.
What the ASGI and WSGI middleware add to a request, against
opentelemetry-instrumentation-asgi and -wsgi doing the same: a SERVER span and a
duration by the stable conventions, both sides with the SDK's batch processor in front
of an exporter that throws the spans away, and an in-memory metric reader. The ways take
turns within each repeat; the ratio is taken per repeat, then the median. Absolute times
only give orientation.

    python benchmarks/bench_server.py [--calls N] [--repeats N] [--seconds S]
"""

import argparse
import asyncio
import contextlib
import gc
import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

# The other side knows the stable conventions only when it is told so; read at import.
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

import flext_observability as fo

SERIES = (10, 1000, 2000)
CONNECTIONS = 50
WARM_UP = 3
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- /metrics


def scrape(connection: http.client.HTTPConnection, accept: str) -> tuple[float, int]:
    """Give seconds and bytes of one scrape."""
    began = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept": accept})
    size = len(connection.getresponse().read())
    return time.perf_counter() - began, size


def show_metrics(repeats: int) -> None:
    """Measure the page as it grows."""
    print("| series per instrument | text: ms | KiB | OpenMetrics: ms | KiB |")
    print("| --- | --- | --- | --- | --- |")
    for count in SERIES:
        port = free_port()
        fo.setup("bench", exporters=["none"], server_port=port).unwrap()
        counter = fo.flext_counter("bench.orders", unit="{order}")
        gauge = fo.flext_gauge("bench.queue", unit="{job}")
        histogram = fo.flext_histogram("bench.wait", unit="s")
        for number in range(count):
            labels = {"customer": f"c{number:04}", "region": "eu"}
            counter.add(1, labels)
            gauge.set(number, labels)
            histogram.record(number / 1000, labels)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        cells = [f"{count:,}"]
        for accept in ("text/plain", OPENMETRICS):
            found = [scrape(connection, accept) for _ in range(repeats + WARM_UP)]
            took_s = statistics.median(seconds for seconds, _ in found[WARM_UP:])
            cells += [f"{took_s * 1000:.1f}", f"{found[-1][1] / 1024:,.0f}"]
        connection.close()
        fo.shutdown()
        print(f"| {' | '.join(cells)} |", flush=True)


# -- /health


@contextlib.contextmanager
def server_program() -> Iterator[int]:
    """Run the server as a program of its own; gives its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "flext_observability.server", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


async def ask_until(port: int, path: str, deadline: float, took_s: list[float]) -> None:
    """Send requests on one connection, each when the one before is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    while (began := time.perf_counter()) < deadline:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        await reader.readexactly(length)
        took_s.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()


async def ask_all(port: int, path: str, seconds: float) -> list[float]:
    """Give how long each request took, over all connections."""
    took_s: list[float] = []
    deadline = time.perf_counter() + seconds
    tasks = [ask_until(port, path, deadline, took_s) for _ in range(CONNECTIONS)]
    await asyncio.gather(*tasks)
    return took_s


def show_health(seconds: float) -> None:
    """Measure requests per second."""
    print(f"| {CONNECTIONS} connections | requests/s | median ms | p99 ms |")
    print("| --- | --- | --- | --- |")
    with server_program() as port:
        for path in ("/health", "/health/live"):
            asyncio.run(ask_all(port, path, 1.0))
            took_s = sorted(asyncio.run(ask_all(port, path, seconds)))
            rate = len(took_s) / seconds
            median, p99 = took_s[len(took_s) // 2], took_s[len(took_s) * 99 // 100]
            cells = (path, f"{rate:,.0f}", f"{median * 1e3:.1f}", f"{p99 * 1e3:.1f}")
            print(f"| {' | '.join(cells)} |", flush=True)


# -- middleware


class Discard(SpanExporter):
    """Forgets a batch: what a collector costs is not measured here."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Accept and drop."""
        self.count += len(spans)
        return SpanExportResult.SUCCESS


Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WsgiApp = Callable[[Scope, Callable[..., object]], Iterable[bytes]]


@dataclass(frozen=True)
class Way:
    """One way to serve a request, and how to empty its queue."""

    name: str
    serve: Callable[[int], None]
    drain: Callable[[], object]


HEADERS = [
    (b"host", b"shop.internal:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


async def asgi_app(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with a few bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def wsgi_app(_environ: Scope, start_response: Callable[..., object]) -> list[bytes]:
    """Answer with a few bytes."""
    start_response("200 OK", [])
    return [b"x"]


def asgi_way(name: str, app: AsgiApp, drain: Callable[[], object]) -> Way:
    """Serve requests in an event loop, without a server around."""
    loop = asyncio.new_event_loop()

    async def receive() -> Scope:
        return {"type": "http.request"}

    async def send(_message: Scope) -> None:
        return

    async def turn(calls: int) -> None:
        for _ in range(calls):
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "server": ("127.0.0.1", 8000),
                "client": ("127.0.0.1", 50_000),
                "scheme": "http",
                "method": "GET",
                "root_path": "",
                "path": "/orders/7",
                "raw_path": b"/orders/7",
                "query_string": b"page=2",
                "headers": HEADERS,
            }
            await app(scope, receive, send)

    return Way(name, lambda calls: loop.run_until_complete(turn(calls)), drain)


def wsgi_way(name: str, app: WsgiApp, drain: Callable[[], object]) -> Way:
    """Serve requests without a server around."""

    def serve(calls: int) -> None:
        for _ in range(calls):
            environ: dict[str, Any] = {
                "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "",
                "PATH_INFO": "/orders/7",
                "QUERY_STRING": "page=2",
                "SERVER_NAME": "shop.internal",
                "SERVER_PORT": "8000",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "REMOTE_ADDR": "127.0.0.1",
                "wsgi.url_scheme": "http",
                **{
                    f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode()
                    for name, value in HEADERS
                },
            }
            body = app(environ, lambda *_: None)
            for _part in body:
                pass
            close = getattr(body, "close", None)
            if close is not None:
                close()

    return Way(name, serve, drain)


def contrib(kind: str, app: object) -> tuple[Any, Callable[[], object]] | None:
    """Wrap with the contrib package's middleware, if it is installed."""
    module = f"opentelemetry.instrumentation.{kind}"
    if find_spec("opentelemetry.instrumentation") is None or not find_spec(module):
        print(f"not installed: opentelemetry-instrumentation-{kind}")
        return None
    tracers = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    processor = BatchSpanProcessor(Discard())
    tracers.add_span_processor(processor)
    meters = MeterProvider([InMemoryMetricReader()])
    wrapped = import_module(module).OpenTelemetryMiddleware(
        app, tracer_provider=tracers, meter_provider=meters
    )
    return wrapped, processor.force_flush


def measured(ways: Sequence[Way], calls: int, repeats: int) -> list[list[float]]:
    """Give µs per request of every way, repeat by repeat."""
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for place, way in enumerate(ways):
            gc.collect()
            began = time.perf_counter()
            way.serve(calls)
            took_s = time.perf_counter() - began
            way.drain()
            if turn:  # the first one warms up
                times[place].append(took_s / calls * 1e6)
    return times


def show_middleware(calls: int, repeats: int) -> None:
    """Measure what is added to a request."""
    processor = BatchSpanProcessor(Discard())
    fo.setup(
        "bench",
        exporters=["none"],
        span_processors=[processor],
        metric_readers=[InMemoryMetricReader()],
    ).unwrap()
    print("| middleware | µs added per request | ratio |")
    print("| --- | --- | --- |")
    kinds: tuple[tuple[str, Any, Any, Any], ...] = (
        ("asgi", asgi_app, asgi_way, fo.FlextASGIMiddleware),
        ("wsgi", wsgi_app, wsgi_way, fo.FlextWSGIMiddleware),
    )
    for kind, app, make, ours in kinds:
        ways = [make("bare", app, lambda: None)]
        theirs = contrib(kind, app)
        if theirs is not None:
            ways.append(make(f"opentelemetry-instrumentation-{kind}", *theirs))
        ways.append(make(ours.__name__, ours(app), processor.force_flush))
        bare, *others = measured(ways, calls, repeats)
        added = [
            [took - base for took, base in zip(row, bare, strict=True)]
            for row in others
        ]
        for way, row in zip(ways[1:], added, strict=True):
            ratio = statistics.median(
                mine / base for mine, base in zip(row, added[0], strict=True)
            )
            print(f"| `{way.name}` | {statistics.median(row):.1f} | {ratio:.2f} |")
    fo.shutdown()


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=3000, help="per turn (3000)")
    parser.add_argument("--repeats", type=int, default=11, help="turns (11)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load (5)")
    options = parser.parse_args()
    show_middleware(options.calls, options.repeats)
    print()
    show_metrics(options.repeats)
    print()
    show_health(options.seconds)


if __name__ == "__main__":
    main()
