"""What the durability of a record costs, against plain OpenTelemetry in the same run.

Plain OpenTelemetry is a bare span, the stock batch processor and the stock OTLP/HTTP
exporter; ours is a monitored call (span, duration, outcome, correlation id) in each
durability mode. Each has a process of its own; they take turns, and send to one process
that counts and forgets. Two figures each, as ratios to plain:

- CPU time of the calling thread per call;
- CPU time of the whole process per span that arrived, from the call to the socket.

The calls are paced, some 10,000 a second: plain OpenTelemetry drops half of a burst.

    python -m benchmarks.bench_durability [--quick]
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, compared, loss
from benchmarks.harness import REQUEST_ID, Turn, run, same, take_turns
from benchmarks.plain import RESOURCE, spanned
from benchmarks.server import Server

MODES = ("memory", "batch", "record")
BURST = 200
PAUSE_S = 0.02
AT_MOST_ALL = {"memory": 0.15, "batch": 0.18, "record": None}
AT_MOST_CALL = {"memory": 0.5, "batch": 0.5, "record": 1.5}
"""R27 of the reliability promises."""

Pair = tuple[Callable[[int], int], Callable[[], object]]
"""A call, and what sends everything it left behind."""


def plain(url: str) -> Pair:
    """Give the call and the drain of plain OpenTelemetry."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=RESOURCE)
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return spanned(provider.get_tracer("bench")), provider.force_flush


def ours(mode: str, url: str) -> Pair:
    """Give the monitored call and the drain of this library."""
    import flext_observability as fo

    fo.setup(
        "bench",
        endpoint=url,
        protocol="http/protobuf",
        durability=mode,
        metrics_export_interval_s=3600,
    ).unwrap()
    in_force = fo.status().durability
    if in_force != mode:
        raise SystemExit(f"{in_force}: {fo.status().durability_reason}")
    fo.flext_set_correlation_id(REQUEST_ID)
    return fo.flext_monitor_function("call")(same), lambda: fo.flush(60).unwrap()


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its variant, the server, calls per turn."""
    variant, url, calls = arguments
    call, drain = plain(url) if variant == "plain" else ours(variant, url)
    bursts = int(calls) // BURST

    def turn() -> dict[str, float]:
        process_s = time.process_time()
        thread_s = 0.0
        for _ in range(bursts):
            started_s = time.thread_time()
            for number in range(BURST):
                call(number)
            thread_s += time.thread_time() - started_s
            time.sleep(PAUSE_S)
        drain()
        process_s = time.process_time() - process_s
        made = bursts * BURST
        return {"call": thread_s / made, "all": process_s / made}

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Let plain OpenTelemetry and the three modes take turns."""
    calls, turns, starts = (400, 1, 1) if quick else (20_000, 3, 3)
    answers: dict[str, list[Any]] = {}
    with Server() as server:
        variants = {name: (name, server.url, str(calls)) for name in ("plain", *MODES)}
        answers = take_turns("bench_durability", variants, turns=turns, starts=starts)
        arrived = server.counts()["spans"]
    made = len(variants) * (turns + 1) * starts * calls
    lost = loss(arrived, made, "spans")

    def column(variant: str, key: str) -> list[float]:
        return [each[key] for each in answers[variant]]

    result = [
        compared(
            f"total CPU per delivered span, OTLP/HTTP, durability {mode}",
            column(mode, "all"),
            column("plain", "all"),
            at_most=AT_MOST_ALL[mode],
            note=lost,
        )
        for mode in MODES
    ]
    result += [
        compared(
            f"calling thread's CPU per monitored call, durability {mode} (R27)",
            column(mode, "call"),
            column("plain", "call"),
            at_most=AT_MOST_CALL[mode],
        )
        for mode in MODES
    ]
    result += [
        compared(
            f"the same, {mode} over memory",
            column(mode, "call"),
            column("memory", "call"),
            note="base: durability memory",
        )
        for mode in ("batch", "record")
    ]
    return result


if __name__ == "__main__":
    run(__doc__, figures, start)
