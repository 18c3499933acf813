"""What one monitored call costs, against a plain OpenTelemetry span in the same run.

Each group names its base; its other rows do the same work another way. The rows of a
group take turns within each repeat, so that the drift of the machine hits all alike;
the ratio is taken per repeat, then the median. Absolute times only give orientation.

Both sides are built alike: the SDK's batch processor in front of an exporter that
throws the spans away, handed to ours by `span_processors=` with `exporters=["none"]`,
and an in-memory metric reader, for our calls also record a duration. With --otlp both
sides send over OTLP/HTTP instead, each with its shipped exporter, to a process that
reads and forgets. Queues are emptied between turns, outside the measured time.

    python benchmarks/bench_call.py [--otlp] [--calls N] [--repeats N]
"""

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
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

WARM_UP = 3
Run = Callable[[int], None]
Drain = Callable[[], object]


class Discard(SpanExporter):
    """Counts a batch and forgets it: what a collector costs is not measured here."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Accept and drop."""
        self.count += len(spans)
        return SpanExportResult.SUCCESS


class OopsError(Exception):
    """What the raising rows raise."""


@dataclass(frozen=True)
class Row:
    """One way to do a group's work, and how to empty its queue."""

    name: str
    run: Run
    drain: Drain


def same(value: int) -> int:
    """Do nothing: every row wraps this."""
    return value


async def same_async(value: int) -> int:
    """Do nothing, awaited."""
    return value


def fail(value: int) -> int:
    """Raise: the cost of a failure."""
    raise OopsError(value)


def repeat(function: Callable[[int], object]) -> Run:
    """Call a function n times."""

    def run(calls: int) -> None:
        for number in range(calls):
            function(number)

    return run


def repeat_failing(function: Callable[[int], object]) -> Run:
    """Call a function that raises n times, and catch as its caller would."""

    def run(calls: int) -> None:
        for number in range(calls):
            with contextlib.suppress(OopsError):
                function(number)

    return run


def repeat_async(function: Callable[[int], Awaitable[object]]) -> Run:
    """Await a function n times inside one event loop."""
    loop = asyncio.new_event_loop()

    async def turn(calls: int) -> None:
        for number in range(calls):
            await function(number)

    def run(calls: int) -> None:
        loop.run_until_complete(turn(calls))

    return run


class Forget(BaseHTTPRequestHandler):
    """Reads a request and answers success."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer an export."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def serve(port: Connection) -> None:
    """Tell the port, then forget whatever comes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forget)
    port.send(server.server_port)
    server.serve_forever()


@contextlib.contextmanager
def forgetting_server() -> Iterator[str]:
    """Run the forgetting server in a process of its own; gives its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def plain_rows(exporter: SpanExporter) -> dict[str, list[Row]]:
    """Build the base of each group from the SDK alone."""
    resource = Resource.create({"service.name": "bench"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    meter = MeterProvider([InMemoryMetricReader()], resource).get_meter("bench")
    duration = meter.create_histogram("bench.duration", "s")

    def span(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return same(value)

    def span_and_histogram(value: int) -> int:
        started = time.perf_counter()
        with tracer.start_as_current_span("call"):
            try:
                return same(value)
            finally:
                duration.record(time.perf_counter() - started, {"operation": "call"})

    async def span_async(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return await same_async(value)

    def span_raising(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return fail(value)

    def row(name: str, run: Run) -> Row:
        return Row(name, run, provider.force_flush)

    return {
        "sync": [
            row("plain: with start_as_current_span", repeat(span)),
            row("plain, and a histogram by hand", repeat(span_and_histogram)),
        ],
        "async": [row("plain: with, in a coroutine", repeat_async(span_async))],
        "raising": [row("plain: with, raising", repeat_failing(span_raising))],
    }


def our_rows() -> dict[str, list[Row]]:
    """Build the rows of this library on the running setup."""
    monitored = fo.flext_monitor_function("call")(same)
    monitored_async = fo.flext_monitor_function("call_async")(same_async)
    monitored_raising = fo.flext_monitor_function("call_raising")(fail)

    def span(value: int) -> int:
        with fo.flext_span("call"):
            return same(value)

    async def span_async(value: int) -> int:
        async with fo.flext_span("call"):
            return await same_async(value)

    def row(name: str, run: Run) -> Row:
        return Row(name, run, lambda: fo.flush(30))

    return {
        "sync": [
            row("flext_monitor_function", repeat(monitored)),
            row("flext_span", repeat(span)),
        ],
        "async": [
            row("flext_monitor_function", repeat_async(monitored_async)),
            row("flext_span", repeat_async(span_async)),
        ],
        "raising": [row("flext_monitor_function", repeat_failing(monitored_raising))],
    }


def measure(rows: list[Row], calls: int, repeats: int) -> list[list[float]]:
    """Return nanoseconds per call, one list per row, one figure per repeat."""
    times: list[list[float]] = [[] for _ in rows]
    for number in range(WARM_UP + repeats):
        for row, kept in zip(rows, times, strict=True):
            gc.collect()
            started = time.perf_counter_ns()
            row.run(calls)
            spent = time.perf_counter_ns() - started
            row.drain()
            if number >= WARM_UP:
                kept.append(spent / calls)
    return times


def report(group: str, rows: list[Row], times: list[list[float]]) -> None:
    """Print one group's table; the first row is the base."""
    print(f"\n{group:<38} {'median us':>10} {'x base':>8}")
    for row, kept in zip(rows, times, strict=True):
        ratios = [mine / base for mine, base in zip(kept, times[0], strict=True)]
        median_us = statistics.median(kept) / 1000
        print(f"{row.name:<38} {median_us:>10.2f} {statistics.median(ratios):>8.2f}")


def compare(exporter: SpanExporter, calls: int, repeats: int) -> None:
    """Measure the three groups; the exporter is that of the plain side."""
    plain, ours = plain_rows(exporter), our_rows()
    for group, base in plain.items():
        rows = [*base, *ours[group]]
        report(group, rows, measure(rows, calls, repeats))


def main() -> None:
    """Read the options, build both sides alike, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--otlp", action="store_true", help="send to a local server")
    parser.add_argument("--calls", type=int, default=1000, help="calls per turn")
    parser.add_argument("--repeats", type=int, default=40, help="turns of each row")
    options = parser.parse_args()
    if options.otlp:
        with forgetting_server() as endpoint:
            fo.setup("bench", endpoint=endpoint, protocol="http/protobuf").unwrap()
            exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
            compare(exporter, options.calls, options.repeats)
            fo.shutdown()
        return
    theirs, ours = Discard(), Discard()
    fo.setup(
        "bench",
        exporters=["none"],
        span_processors=[BatchSpanProcessor(ours)],
        metric_readers=[InMemoryMetricReader()],
    ).unwrap()
    compare(theirs, options.calls, options.repeats)
    fo.shutdown()
    # A side that dropped or skipped spans would have had less to do.
    print(f"\nspans exported: plain {theirs.count}, ours {ours.count}")


if __name__ == "__main__":
    main()
