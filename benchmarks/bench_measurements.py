"""What one measurement or one log line costs, against plain OpenTelemetry.

Both in the same process, taking turns: the drift of the machine hits both alike. The
ratio is taken per repeat, then the median. What is appended on the hot path and worked
off later is paid for inside the measured time: every turn ends with a collection.

    python benchmarks/bench_measurements.py [--calls N] [--repeats N]
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk._logs.export import (
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
    rows: list[tuple[float, float]] = []
    for turn in (base, ours):
        turn(calls // 10)
    gc.collect()
    gc.disable()
    for _ in range(repeats):
        rows.append((measured(base, calls), measured(ours, calls)))
    gc.enable()
    plain = statistics.median(row[0] for row in rows)
    own = statistics.median(row[1] for row in rows)
    ratio = statistics.median(row[1] / row[0] for row in rows)
    print(f"{name:44} {plain:9.0f} {own:9.0f} {ratio:8.3f}")


def _plain_meter(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)


def compare_metrics(calls: int, repeats: int) -> None:
    """Bound and unbound instruments, two attributes, a cumulative reader each."""
    reader, own_reader = InMemoryMetricReader(), InMemoryMetricReader()
    meter = _plain_meter(reader).get_meter("plain")
    fo.setup("bench", exporters=["none"], metric_readers=[own_reader]).unwrap()
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    gauge = meter.create_gauge("g")
    own_counter, own_histogram = fo.flext_counter("c"), fo.flext_histogram("h")
    own_gauge = fo.flext_gauge("g")
    bound_counter = own_counter.bind(**LABELS)
    bound_histogram = own_histogram.bind(**LABELS)
    bound_gauge = own_gauge.bind(**LABELS)

    def plain_add(times: int) -> None:
        for _ in range(times):
            counter.add(1, {"region": "eu", "outcome": "ok"})
        reader.get_metrics_data()

    def plain_record(times: int) -> None:
        for number in range(times):
            histogram.record(number % 100, {"region": "eu", "outcome": "ok"})
        reader.get_metrics_data()

    def plain_set(times: int) -> None:
        for number in range(times):
            gauge.set(number, {"region": "eu", "outcome": "ok"})
        reader.get_metrics_data()

    def bound_add(times: int) -> None:
        for _ in range(times):
            bound_counter.add(1)
        own_reader.get_metrics_data()

    def bound_record(times: int) -> None:
        for number in range(times):
            bound_histogram.record(number % 100)
        own_reader.get_metrics_data()

    def bound_set(times: int) -> None:
        for number in range(times):
            bound_gauge.set(number)
        own_reader.get_metrics_data()

    def unbound_add(times: int) -> None:
        for _ in range(times):
            own_counter.add(1, {"region": "eu", "outcome": "ok"})
        own_reader.get_metrics_data()

    def unbound_record(times: int) -> None:
        for number in range(times):
            own_histogram.record(number % 100, {"region": "eu", "outcome": "ok"})
        own_reader.get_metrics_data()

    compare("bound counter / counter.add", plain_add, bound_add, calls, repeats)
    compare("bound histogram / record", plain_record, bound_record, calls, repeats)
    compare("bound gauge / set", plain_set, bound_set, calls, repeats)
    compare("unbound counter / counter.add", plain_add, unbound_add, calls, repeats)
    compare("unbound histogram / record", plain_record, unbound_record, calls, repeats)
    fo.shutdown()


class _Discard(LogRecordExporter):
    """Forgets: what a collector costs is not measured here."""

    def export(self, batch: Sequence[object]) -> LogRecordExportResult:
        """Accept and drop."""
        del batch
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to shut down."""


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


if __name__ == "__main__":
    main()
