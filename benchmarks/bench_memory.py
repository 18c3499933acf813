"""What a span takes while it waits for its delivery.

Traced allocations per span, with the same attributes on both sides. Plain OpenTelemetry
keeps the span in the queue of its batch processor. Ours waits, with the collector away
and durability "memory", first as an object in the queue, then encoded in the spool.

    python -m benchmarks.bench_memory [--quick]
"""

import gc
import socket
import time
import tracemalloc
from collections.abc import Callable

from benchmarks.figures import Figure
from benchmarks.harness import REQUEST_ID, Turn, one_turn, run, same
from benchmarks.plain import NEVER_MS, RESOURCE, DiscardSpans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import flext_observability as fo

AT_MOST_BYTES = 400
MORE_THAN_ANY_BATCH = 1 << 20


def closed_port() -> int:
    """Give a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def plain_call() -> Callable[[int], int]:
    """Give a span that stays in the queue of the stock batch processor."""
    processor = BatchSpanProcessor(
        DiscardSpans(),
        max_queue_size=MORE_THAN_ANY_BATCH,
        max_export_batch_size=MORE_THAN_ANY_BATCH,
        schedule_delay_millis=NEVER_MS,
    )
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("bench")

    def call(value: int) -> int:
        with tracer.start_as_current_span("call") as span:
            span.set_attribute("correlation.id", REQUEST_ID)
            return same(value)

    return call


def our_call() -> Callable[[int], int]:
    """Give a monitored call whose span cannot be delivered."""
    fo.setup(
        "bench",
        endpoint=f"http://127.0.0.1:{closed_port()}",
        protocol="http/protobuf",
        durability="memory",
        metrics_export_interval_s=3600,
    ).unwrap()
    fo.flext_set_correlation_id(REQUEST_ID)
    return fo.flext_monitor_function("call")(same)


def allocated() -> int:
    """Give the traced bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its variant, spans, seconds in which what waits is encoded."""
    variant, count, wait_s = arguments
    call = plain_call() if variant == "plain" else our_call()

    def turn() -> dict[str, float]:
        tracemalloc.start()
        for number in range(1000):
            call(number)
        time.sleep(float(wait_s))
        before = allocated()
        for number in range(int(count)):
            call(number)
        queued = allocated() - before
        time.sleep(float(wait_s))
        later = allocated() - before
        ledger = fo.status().signals.get("traces")
        return {
            "queued": queued / int(count),
            "later": later / int(count),
            "dropped": sum(ledger.dropped.values()) if ledger else 0,
        }

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure both sides once: allocations do not vary."""
    arguments = ("500", "0.1") if quick else ("5000", "4")
    plain = one_turn("bench_memory", "plain", *arguments)
    ours = one_turn("bench_memory", "ours", *arguments)
    note = f"{ours['dropped']} dropped" if ours["dropped"] else ""
    return [
        Figure(
            f"memory per queued span, {when}",
            f"{plain['queued']:,.0f} B",
            f"{ours[key]:,.0f} B",
            ours[key] / plain["queued"],
            f"≤ {AT_MOST_BYTES} B",
            ours[key] <= AT_MOST_BYTES,
            note,
        )
        for key, when in (("queued", "just made"), ("later", "encoded"))
    ]


if __name__ == "__main__":
    run(__doc__, figures, start)
