"""What the decorators of Logfire, Datadog and Sentry cost, against plain OpenTelemetry.

Each runs in a process of its own, beside plain OpenTelemetry in the same process, and
discards as early as it allows: Logfire in an exporter behind a batch processor, Datadog
before encoding, Sentry in its transport. Factors mean something, ten per cent do not.

They are installed apart from everything else, by `make bench-peers`.

    python -m benchmarks.bench_peers [--quick]
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, compared
from benchmarks.harness import (
    ROOT,
    Row,
    Turn,
    interleave,
    loop,
    loop_async,
    one_turn,
    run,
    same,
    same_async,
    under,
)
from benchmarks.plain import discarding_processor, discarding_tracers, spanned

PYTHON = Path(os.environ.get("BENCH_PEERS_PYTHON", ROOT / ".venvs/peers/bin/python"))
PEERS = {"logfire": "logfire", "ddtrace": "ddtrace", "sentry": "sentry-sdk"}
"""The peers, and the names of their packages."""
BASE = "plain OTel"
BASE_ASYNC = "plain OTel, coroutine"


def logfire_rows() -> list[Row]:
    """Build the rows of Logfire."""
    logfire: Any = import_module("logfire")
    processor = discarding_processor()
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        additional_span_processors=[processor],
    )
    instrument: Callable[..., Any] = logfire.instrument
    drain = processor.force_flush
    with_arguments = instrument("call")(same)
    without = instrument("call", extract_args=False)(same)
    coroutine = instrument("call")(same_async)
    return [
        Row("Logfire @instrument", loop(with_arguments), drain),
        Row("Logfire @instrument(extract_args=False)", loop(without), drain),
        Row("Logfire @instrument, coroutine", loop_async(coroutine), drain),
    ]


def ddtrace_rows() -> list[Row]:
    """Build the rows of Datadog: no agent is there, and none is looked for."""
    os.environ |= {
        "DD_CRASHTRACKING_ENABLED": "false",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
    }
    trace: Any = import_module("ddtrace.trace")
    base: type = trace.TraceFilter

    class Discard(base):  # type: ignore[misc] # known only where it is installed
        def process_trace(self, _: object) -> None:
            """Keep nothing."""

    trace.tracer.configure(trace_processors=[Discard()])
    wrap: Callable[..., Any] = trace.tracer.wrap
    return [
        Row("ddtrace @tracer.wrap", loop(wrap("call")(same))),
        Row("ddtrace @tracer.wrap, coroutine", loop_async(wrap("call")(same_async))),
    ]


def sentry_rows() -> list[Row]:
    """Build the rows of Sentry: a span needs an open transaction."""
    sentry: Any = import_module("sentry_sdk")
    base: type = import_module("sentry_sdk.transport").Transport

    class Discard(base):  # type: ignore[misc] # known only where it is installed
        def capture_envelope(self, _: object) -> None:
            """Keep nothing."""

    sentry.init(
        dsn="http://nobody@127.0.0.1/1", transport=Discard, traces_sample_rate=1.0
    )

    def transaction() -> AbstractContextManager[object]:
        opened: AbstractContextManager[object] = sentry.start_transaction(name="turn")
        return opened

    within = under(transaction)
    traced = within(loop(sentry.trace(same)))
    coroutine = within(loop_async(sentry.trace(same_async)))
    return [
        Row("Sentry @trace in a transaction", traced),
        Row("Sentry @trace in a transaction, coroutine", coroutine),
    ]


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its peer, calls per turn, turns of each row."""
    peer, calls, repeats = arguments
    provider = discarding_tracers()
    tracer = provider.get_tracer("bench")

    async def spanned_async(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return await same_async(value)

    build = {"logfire": logfire_rows, "ddtrace": ddtrace_rows, "sentry": sentry_rows}
    rows = [
        Row(BASE, loop(spanned(tracer)), provider.force_flush),
        Row(BASE_ASYNC, loop_async(spanned_async), provider.force_flush),
        *build[peer](),
    ]

    def turn() -> dict[str, Any]:
        times = interleave(rows, int(calls), int(repeats))
        return {"times": times, "version": version(PEERS[peer])}

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure each peer in a process of its own, where they are installed."""
    if not PYTHON.exists():
        note = "not installed: `make bench-peers` installs and measures them"
        return [Figure("Logfire, ddtrace, Sentry", "-", "-", note=note)]
    # Sentry keeps 1000 spans of a transaction.
    calls, repeats = ("100", "2") if quick else ("900", "40")
    result: list[Figure] = []
    for peer, package in PEERS.items():
        answer = one_turn("bench_peers", peer, calls, repeats, python=str(PYTHON))
        times = answer["times"]
        result += [
            compared(
                name,
                measured,
                times[BASE_ASYNC if name.endswith("coroutine") else BASE],
                note=f"{package} {answer['version']}",
            )
            for name, measured in times.items()
            if name not in {BASE, BASE_ASYNC}
        ]
    return result


if __name__ == "__main__":
    run(__doc__, figures, start)
