"""What making the bytes of an OTLP request costs, against the stock encoder.

Both take the same records of the SDK, in turns within each repeat, so that the drift of
the machine hits both alike; the ratio is taken per repeat, then the median. The time of
the stock encoder includes serializing. Absolute times only give orientation.

    python -m benchmarks.bench_encoding [--records N] [--repeats N]
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.figures import Figure, compared
from benchmarks.harness import REQUEST_ID, same
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flext_observability as fo

WARM_UP = 3
ATTRIBUTES: dict[str, Any] = {
    "http.request.method": "GET",
    "http.route": "/users/{id}",
    "http.response.status_code": 200,
    "cache.ratio": 0.75,
    "user.known": True,
}
OWN = "5 attributes, own spans"
OF_SDK = "{} attributes, SDK spans"
TARGETS = {OWN: 0.15, OF_SDK.format(5): 0.35}
Encode = Callable[[Sequence[Any]], object]
Case = tuple[str, Sequence[Any], int, Encode, Encode]
"""Name, records, their number, the stock encoder, ours."""


def ours(signal: str) -> Encode:
    """Find our encoder; it stands behind the pipe, and has no name at the door."""
    encoding = import_module("flext_observability._pipeline.encoding")
    encode: Encode = encoding.request_encoder(encoding.Signal(signal))
    return encode


def attributes(count: int, number: int) -> dict[str, Any]:
    """Give a record's attributes; one of them is unlike those of all others."""
    made = dict(list(ATTRIBUTES.items())[:count])
    return made | {"http.route": f"/users/{number}"} if count > 1 else made


def spans(count: int, attribute_count: int, resource: Resource) -> Sequence[Any]:
    """Finish spans of the SDK."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=resource, span_limits=SpanLimits())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("bench", "1")
    for number in range(count):
        tracer.start_span("op", attributes=attributes(attribute_count, number)).end()
    return memory.get_finished_spans()


def own_spans(count: int) -> tuple[Sequence[Any], Sequence[Any]]:
    """Finish spans of ours with five attributes; give them, and the same of the SDK."""
    found: list[Any] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            found.append(span)

    fo.setup("bench", exporters=["none"], span_processors=[Keep()]).unwrap()
    # Three say where the code is; the correlation id is the fifth.
    work = fo.flext_monitor_function("op", attributes={"cache.ratio": 0.75})(same)
    with fo.flext_correlation_scope(REQUEST_ID):
        for number in range(count):
            work(number)
    fo.shutdown()
    return found, [span.readable() for span in found]


def logs(count: int, attribute_count: int, resource: Resource) -> Sequence[Any]:
    """Emit log records of the SDK."""
    exporter: Any = InMemoryLogRecordExporter
    memory = exporter()
    provider = LoggerProvider(resource)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    logger = provider.get_logger("bench", "1")
    for number in range(count):
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=f"order {number} placed",
                attributes=attributes(attribute_count, number),
            )
        )
    found: Sequence[Any] = memory.get_finished_logs()
    return found


def metrics(count: int, resource: Resource) -> Sequence[Any]:
    """Collect points of counters and of histograms, half each."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], resource).get_meter("bench", "1")
    counter = meter.create_counter("orders")
    histogram = meter.create_histogram("duration", "s")
    for number in range(count // 2):
        counter.add(number, attributes(2, number))
        histogram.record(number / 7, attributes(2, number))
    return [reader.get_metrics_data()]


def cases(count: int) -> Iterator[Case]:
    """Build what is compared."""
    resource = Resource.create({"service.name": "bench"})
    for size in (0, 1, 5):
        made = spans(count, size, resource)
        yield OF_SDK.format(size), made, count, encode_spans, ours("traces")
    own, same_of_sdk = own_spans(count)
    yield OWN, own, count, lambda _: encode_spans(same_of_sdk), ours("traces")
    for size in (0, 5):
        made = logs(count, size, resource)
        yield f"logs, {size} attributes", made, count, encode_logs, ours("logs")
    data = metrics(count, resource)
    yield (
        "points of metrics, 2 attributes",
        data,
        count,
        lambda records: encode_metrics(records[0]),
        ours("metrics"),
    )


def measure(case: Case, repeats: int) -> tuple[list[float], list[float]]:
    """Return the microseconds per record of both encoders, a figure per repeat."""
    name, records, count, stock, own = case
    times: tuple[list[float], list[float]] = ([], [])

    def stock_bytes(records: Sequence[Any]) -> bytes:
        message: Any = stock(records)
        body: bytes = message.SerializeToString()
        return body

    if stock_bytes(records) != own(records):
        message = f"{name}: the encoders disagree"
        raise SystemExit(message)
    for number in range(WARM_UP + repeats):
        for encode, kept in zip((stock_bytes, own), times, strict=True):
            gc.collect()
            started = time.perf_counter()
            encode(records)
            spent = time.perf_counter() - started
            if number >= WARM_UP:
                kept.append(spent / count * 1e6)
    return times


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Compare the encoders."""
    found: list[Figure] = []
    for case in cases(512):
        stock, own = measure(case, 3 if quick else 60)
        found.append(
            compared(
                f"encoder, {case[0]}",
                [time_us / 1e6 for time_us in own],
                [time_us / 1e6 for time_us in stock],
                at_most=TARGETS.get(case[0]),
                note="a record; the base serializes, too",
            )
        )
    return found


def main() -> None:
    """Read the options, and print a line for each kind of record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=512, help="in a request")
    parser.add_argument("--repeats", type=int, default=40, help="turns of each encoder")
    options = parser.parse_args()
    title = f"requests of {options.records}"
    print(f"{title:<34} {'stock us':>9} {'ours us':>9} {'x stock':>8}")
    for case in cases(options.records):
        stock, own = measure(case, options.repeats)
        ratio = statistics.median(o / s for o, s in zip(own, stock, strict=True))
        medians = statistics.median(stock), statistics.median(own)
        print(f"{case[0]:<34} {medians[0]:>9.2f} {medians[1]:>9.2f} {ratio:>8.3f}")


if __name__ == "__main__":
    main()
