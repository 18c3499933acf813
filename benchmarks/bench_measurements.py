"""What one measurement or one log line costs, against plain OpenTelemetry.

Both in the same process, taking turns: the drift of the machine hits both alike. The
ratio is taken per repeat, then the median. What is appended on the hot path and worked
off later is paid for inside the measured time: every turn ends with a collection.

    python benchmarks/bench_measurements.py [--calls N] [--repeats N]
"""

import argparse
import gc
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

import flext_observability as fo

LABELS = {"region": "eu", "outcome": "ok"}
Turn = Callable[[int], None]


def measured(turn: Turn, calls: int) -> float:
    """Give nanoseconds per call of one turn."""
    started = time.perf_counter_ns()
    turn(calls)
    return (time.perf_counter_ns() - started) / calls


def compare(name: str, base: Turn, ours: Turn, calls: int, repeats: int) -> None:
    """Print medians of both, and of the ratios of each repeat."""
    for turn in (base, ours):
        turn(calls // 10)
    gc.collect()
    gc.disable()
    rows = [(measured(base, calls), measured(ours, calls)) for _ in range(repeats)]
    gc.enable()
    plain = statistics.median(row[0] for row in rows)
    own = statistics.median(row[1] for row in rows)
    ratio = statistics.median(row[1] / row[0] for row in rows)
    print(f"{name:44} {plain:9.0f} {own:9.0f} {ratio:8.3f}")


def unbound(measure: Callable[..., None], reader: InMemoryMetricReader) -> Turn:
    """Measure with two labels at the call, then collect."""

    def turn(calls: int) -> None:
        for number in range(calls):
            measure(number % 100, {"region": "eu", "outcome": "ok"})
        reader.get_metrics_data()

    return turn


def bound(measure: Callable[..., None], reader: InMemoryMetricReader) -> Turn:
    """Measure with labels bound before, then collect."""

    def turn(calls: int) -> None:
        for number in range(calls):
            measure(number % 100)
        reader.get_metrics_data()

    return turn


def compare_metrics(calls: int, repeats: int) -> None:
    """Bound and unbound instruments, two attributes, a cumulative reader each."""
    reader, own_reader = InMemoryMetricReader(), InMemoryMetricReader()
    provider = MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    meter = provider.get_meter("plain")
    fo.setup("bench", exporters=["none"], metric_readers=[own_reader]).unwrap()
    counter, histogram = fo.flext_counter("c"), fo.flext_histogram("h")
    gauge = fo.flext_gauge("g")
    add = unbound(meter.create_counter("c").add, reader)
    record = unbound(meter.create_histogram("h").record, reader)
    set_ = unbound(meter.create_gauge("g").set, reader)
    rows = [
        ("bound counter / add", add, bound(counter.bind(**LABELS).add, own_reader)),
        (
            "bound histogram / record",
            record,
            bound(histogram.bind(**LABELS).record, own_reader),
        ),
        ("bound gauge / set", set_, bound(gauge.bind(**LABELS).set, own_reader)),
        ("unbound counter / add", add, unbound(counter.add, own_reader)),
        ("unbound histogram / record", record, unbound(histogram.record, own_reader)),
    ]
    for name, base, ours in rows:
        compare(name, base, ours, calls, repeats)
    fo.shutdown()


class _Unbridged(logging.Logger):
    """Calls its handlers as before any bridge was installed."""

    callHandlers = logging.Logger.callHandlers  # noqa: N815 - its name there


def lines(logger: logging.Logger, after: Callable[[], object]) -> Turn:
    """Write lines."""
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())

    def turn(calls: int) -> None:
        for number in range(calls):
            logger.info("order %s placed", number)
        after()

    return turn


def compare_logs(calls: int, repeats: int) -> None:
    """One line through each bridge, over the same line to a NullHandler."""
    null = lines(_Unbridged("shop"), int)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(_Discard()))
    plain = _Unbridged("plain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain.addHandler(LoggingHandler(logger_provider=provider))
    compare("log line, OTel handler / none", null, lines(plain, int), calls, repeats)
    provider.shutdown()
    ways: dict[str, dict[str, Any]] = {
        "log line, ours, no exporter / none": {"exporters": ["none"]},
        "log line, ours, OTLP to a closed port / none": {
            "endpoint": "http://127.0.0.1:9",
            "protocol": "http/protobuf",
            "durability": "memory",
        },
    }
    for name, fields in ways.items():
        fo.setup("bench", tracing_enabled=False, metrics_enabled=False, **fields)
        ours = lines(logging.Logger("shop"), int)  # noqa: LOG001 - without a parent
        compare(name, null, ours, calls, repeats)
        fo.shutdown(0)


class _Discard(LogRecordExporter):
    """Forgets: what a collector costs is not measured here."""

    def export(self, batch: Sequence[object]) -> LogRecordExportResult:
        """Accept and drop."""
        del batch
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to shut down."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held."""
        del timeout_millis
        return True


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'median ns per call':44} {'plain':>9} {'ours':>9} {'ratio':>8}")
    compare_metrics(options.calls, options.repeats)
    # A thousand lines a turn: less than the queue takes before the writer wakes.
    compare_logs(1000, options.repeats * 2)


if __name__ == "__main__":
    main()
