"""What one monitored call costs, against a plain OpenTelemetry span in the same run.

The base is `with tracer.start_as_current_span()`, the stock batch processor and an
exporter that discards. Ours is the whole pipeline after `setup()`: span, duration,
outcome and correlation id, sent over OTLP/HTTP to a process that counts and forgets.
Times are CPU time of the process. What is queued at the end of a turn is sent outside
the measured time; what encoding and sending cost is the matter of `bench_durability`
and `bench_overload`.

    python -m benchmarks.bench_call [--quick]
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, compared, loss
from benchmarks.harness import (
    LEAD_IN,
    REQUEST_ID,
    WARM_UP,
    Row,
    Turn,
    fail,
    interleave,
    loop,
    loop_async,
    loop_failing,
    one_turn,
    run,
    same,
    same_async,
    under,
)
from benchmarks.plain import (
    discarding_meters,
    discarding_processor,
    discarding_tracers,
    monitored_by_hand,
    spanned,
)
from benchmarks.server import Server
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

import flext_observability as fo

BASE = "plain OTel, the base"
MONITORED = "monitored call"
CHILD = "monitored call, child of a span of the SDK"
CHILD_OF_OURS = "monitored call, child of a span of ours"
COROUTINE = "monitored coroutine"
RAISING = "monitored call that raises"
CONTEXT_MANAGER = "flext_span context manager"
NOT_SET_UP = "monitored call, not set up"
SAMPLED_OUT = "monitored call, sampled out by ratio"
AGAIN = "plain OTel, the base again"
STEADY = "monitored call, many in a row: what the writer does meanwhile, too"
STEADY_TURNS = 10
"""How many times the calls of the other rows are made in a row."""
DISCARDED = "monitored call, spans to the SDK's batch processor, discarded"


@dataclass(frozen=True)
class Wanted:
    """A row of the result."""

    group: str
    row: str
    at_most: float | None = None
    note: str = ""


WANTED = {
    "running": (
        Wanted("sync", MONITORED, 0.13),
        Wanted("child", CHILD, 0.15),
        Wanted("child", CHILD_OF_OURS, 0.15),
        Wanted("coroutine", COROUTINE, 0.16),
        Wanted("raising", RAISING, 0.12, "base: a plain span that raises"),
        Wanted("sync", CONTEXT_MANAGER, 0.16),
        Wanted("sync", "plain OTel, histogram, counter, correlation id by hand"),
        Wanted("sync", "bare function"),
        Wanted("sync", AGAIN, note="how far noise goes"),
        Wanted("steady", STEADY),
    ),
    "unset": (
        Wanted("sync", NOT_SET_UP, 0.03),
        Wanted("sync", "plain OTel, API without SDK"),
    ),
    "unsampled": (
        Wanted("sync", SAMPLED_OUT, 0.10),
        Wanted("sync", "plain OTel, sampled out by ratio"),
    ),
    "discarding": (Wanted("sync", DISCARDED),),
}


def set_up(kind: str, url: str) -> None:
    """Put the library into the state of a kind of child."""
    fo.flext_set_correlation_id(REQUEST_ID)
    if kind == "discarding":
        fo.setup(
            "bench",
            exporters=["none"],
            span_processors=[discarding_processor()],
            metrics_export_interval_s=3600,
        ).unwrap()
    elif kind != "unset":
        fo.setup(
            "bench",
            endpoint=url,
            protocol="http/protobuf",
            durability="memory",
            sample_ratio=0.0 if kind == "unsampled" else 1.0,
            metrics_export_interval_s=3600,
        ).unwrap()


def flush() -> None:
    """Send what is queued."""
    fo.flush(30)


def groups(kind: str) -> dict[str, list[Row]]:
    """Build the rows of a kind of child; the first of a group is its base."""
    provider = discarding_tracers()
    tracer = provider.get_tracer("bench")
    drain = provider.force_flush
    monitored = fo.flext_monitor_function("call")(same)
    base = Row(BASE, loop(spanned(tracer)), drain)
    if kind == "unset":
        without_sdk = spanned(trace.get_tracer("bench"))
        rows = [
            Row(NOT_SET_UP, loop(monitored)),
            Row("plain OTel, API without SDK", loop(without_sdk)),
        ]
        return {"sync": [base, *rows]}
    if kind == "unsampled":
        unsampled = discarding_tracers(ParentBasedTraceIdRatio(0.0))
        silent = spanned(unsampled.get_tracer("bench"))
        rows = [
            Row(SAMPLED_OUT, loop(monitored), flush),
            Row("plain OTel, sampled out by ratio", loop(silent)),
        ]
        return {"sync": [base, *rows]}
    if kind == "discarding":
        return {"sync": [base, Row(DISCARDED, loop(monitored), flush)]}

    by_hand = monitored_by_hand(
        tracer, discarding_meters(), fo.flext_get_correlation_id
    )

    def spanned_by_us(value: int) -> int:
        with fo.flext_span("call"):
            return same(value)

    async def spanned_async(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return await same_async(value)

    def spanned_raising(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return fail(value)

    monitored_async = fo.flext_monitor_function("coroutine")(same_async)
    monitored_raising = fo.flext_monitor_function("raising")(fail)
    of_theirs = under(lambda: tracer.start_as_current_span("parent"))
    of_ours = under(lambda: fo.flext_span("parent"))
    return {
        "sync": [
            base,
            Row(MONITORED, loop(monitored), flush),
            Row(CONTEXT_MANAGER, loop(spanned_by_us), flush),
            Row(
                "plain OTel, histogram, counter, correlation id by hand",
                loop(by_hand),
                drain,
            ),
            Row("bare function", loop(same)),
            Row(AGAIN, loop(spanned(tracer)), drain),
        ],
        "steady": [base, Row(STEADY, loop(monitored), flush)],
        "child": [
            Row(BASE, of_theirs(loop(spanned(tracer))), drain),
            Row(CHILD, of_theirs(loop(monitored)), flush),
            Row(CHILD_OF_OURS, of_ours(loop(monitored)), flush),
        ],
        "coroutine": [
            Row(BASE, loop_async(spanned_async), drain),
            Row(COROUTINE, loop_async(monitored_async), flush),
        ],
        "raising": [
            Row(BASE, loop_failing(spanned_raising), drain),
            Row(RAISING, loop_failing(monitored_raising), flush),
        ],
    }


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its kind, the server, calls per turn, turns of each row."""
    kind, url, calls, repeats = arguments
    set_up(kind, url)
    built = groups(kind)

    def turn() -> dict[str, Any]:
        times = {
            name: interleave(
                rows,
                int(calls) * (STEADY_TURNS if name == "steady" else 1),
                int(repeats),
            )
            for name, rows in built.items()
        }
        flush()
        now = fo.status().signals["traces"]
        return {"times": times, "lost": sum(now.dropped.values()) + now.pending}

    return turn


def remark_of(kind: str, calls: int, turns: int, arrived: dict[str, Any]) -> str:
    """Say what arrived, and whether that is everything."""
    steady = calls * STEADY_TURNS + LEAD_IN
    calls += LEAD_IN
    spans = arrived["spans"]
    counted = arrived["totals"].get("flext.operation.duration", 0)
    if kind == "unsampled":
        return f"{counted:.0f} of {calls * turns} calls are in the metrics"
    if kind == "running":
        # Six rows make spans besides, and one of them a parent for the lead-in and one
        # for the rest of each turn; five are counted.
        lost = loss(spans, (6 * calls + 2 + steady) * turns, "spans")
        return lost or loss(counted, (5 * calls + steady) * turns, "durations")
    return ""


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure every kind of child in a process of its own."""
    # With the lead-in less than a batch, at which the writer would not wait for the end
    # of the turn: what it does is measured elsewhere, as said above.
    calls, repeats = (100, 3) if quick else (1500, 60)
    result: list[Figure] = []
    for kind, wanted in WANTED.items():
        with Server() as server:
            answer = one_turn("bench_call", kind, server.url, str(calls), str(repeats))
            remark = remark_of(kind, calls, repeats + WARM_UP, server.counts())
        if answer["lost"]:
            remark = f"LOSS: {answer['lost']} spans, says the ledger"
        for each in wanted:
            times = answer["times"][each.group]
            notes = [each.note, remark if each.at_most else ""]
            result.append(
                compared(
                    each.row,
                    times[each.row],
                    times[BASE],
                    at_most=each.at_most,
                    note="; ".join(filter(None, notes)),
                )
            )
    return result


if __name__ == "__main__":
    run(__doc__, figures, start)
