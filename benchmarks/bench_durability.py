"""What the durability of a record costs, against plain OpenTelemetry in the same run.

Every variant runs in processes of its own, which take turns: plain OpenTelemetry (span,
stock batch processor and OTLP/HTTP exporter), then one monitored call per durability
mode. All send to one process that reads and forgets. Two figures per variant, as ratios
to plain, medians of the turns:

call  CPU time of the calling thread per call
all   CPU time of the whole process per delivered span, from the call to the socket

The calls are paced: plain OpenTelemetry would drop half of a burst.

    python -m benchmarks.bench_durability [--calls N] [--repeats N]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BURST = 200
PAUSE_S = 0.02


def same(value: int) -> int:
    """Do nothing: what is measured is around it."""
    return value


def plain(endpoint: str) -> tuple[Callable[[int], int], Callable[[], int]]:
    """Give the call and the drain of plain OpenTelemetry."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    made = 0

    def call(value: int) -> int:
        nonlocal made
        made += 1
        with tracer.start_as_current_span("call"):
            return same(value)

    def drain() -> int:
        provider.force_flush()
        return made

    return call, drain


def ours(mode: str, endpoint: str) -> tuple[Callable[[int], int], Callable[[], int]]:
    """Give the monitored call and the drain of this library."""
    import flext_observability as fo

    fo.setup(
        "bench",
        endpoint=endpoint,
        protocol="http/protobuf",
        durability=mode,
        metrics_export_interval_s=3600,
    ).unwrap()

    def drain() -> int:
        fo.flush(60).unwrap()
        return fo.status().signals["traces"].delivered

    return fo.flext_monitor_function("call")(same), drain


def turn(mode: str, endpoint: str, calls: int) -> None:
    """Make the calls and print the figures of one turn."""
    call, drain = plain(endpoint) if mode == "plain" else ours(mode, endpoint)
    for number in range(1000):
        call(number)
    before = drain()
    process_s = time.process_time()
    thread_s = 0.0
    for _ in range(calls // BURST):
        started_s = time.thread_time()
        for number in range(BURST):
            call(number)
        thread_s += time.thread_time() - started_s
        time.sleep(PAUSE_S)
    delivered = drain() - before
    process_s = time.process_time() - process_s
    figures = {"call": thread_s / calls, "all": process_s / max(1, delivered)}
    print(json.dumps(figures | {"delivered": delivered}))


def run_turn(mode: str, endpoint: str, calls: int) -> dict[str, float]:
    """Run one turn in a process of its own, with a spool of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--turn", mode, endpoint, str(calls)],
            env={"FLEXT_OBSERVABILITY_SPOOL_DIR": str(Path(folder) / "spool")},
            capture_output=True,
            text=True,
            check=True,
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Let the variants take turns, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000, help="calls per turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns per variant")
    parser.add_argument("--turn", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        mode, endpoint, calls = options.turn
        turn(mode, endpoint, int(calls))
        return
    from benchmarks.bench_call import forgetting_server

    modes = ("plain", "memory", "batch", "record")
    kept: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
    with forgetting_server() as endpoint:
        for _ in range(options.repeats):
            for mode in modes:
                kept[mode].append(run_turn(mode, endpoint, options.calls))
    heads = ("call us", "x plain", "all us", "x plain", "delivered")
    print(" " * 8 + "".join(f"{head:>11}" for head in heads))
    for mode in modes:
        cells = [f"{mode:<8}"]
        for figure in ("call", "all"):
            pairs = zip(kept[mode], kept["plain"], strict=True)
            ratio = statistics.median(m[figure] / base[figure] for m, base in pairs)
            median = statistics.median(m[figure] for m in kept[mode])
            cells.append(f"{median * 1e6:>11.1f}{ratio:>11.2f}")
        delivered = min(m["delivered"] for m in kept[mode])
        print("".join(cells) + f"{delivered:>11.0f}")


if __name__ == "__main__":
    main()
