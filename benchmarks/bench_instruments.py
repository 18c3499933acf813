"""What one measurement costs: bound instruments against the SDK's, two labels each.

The SDK's reader collects once an hour in both, so a turn is the calls alone. What ours
puts off to the collection is folded outside the measured time; `bench_durability`
counts it, as it is part of every monitored call.

    python -m benchmarks.bench_instruments [--quick]
"""

from typing import Any

from benchmarks.figures import Figure, compared, loss
from benchmarks.harness import (
    LEAD_IN,
    WARM_UP,
    Row,
    Turn,
    interleave,
    loop,
    one_turn,
    run,
)
from benchmarks.plain import discarding_meters
from benchmarks.server import Server

import flext_observability as fo

KINDS = ("counter", "histogram")
AT_MOST = 0.08
BASE = "plain"
BOUND = "bound"
UNBOUND = "with labels"
LABELS = {"region": "eu", "tier": "gold"}


def flush() -> None:
    """Collect and send."""
    fo.flush(30)


def groups() -> dict[str, list[Row]]:
    """Build the rows of both kinds; the first of each is its base."""
    meter = discarding_meters().get_meter("bench")
    plain_counter = meter.create_counter("bench.plain")
    plain_histogram = meter.create_histogram("bench.plain", "s")
    counter = fo.flext_counter("bench.counter")
    histogram = fo.flext_histogram("bench.histogram", unit="s")
    bound_counter = counter.bind(**LABELS)
    bound_histogram = histogram.bind(**LABELS)
    # A list per kind: plain, bound, with labels. The figure is any number.
    return {
        "counter": [
            Row(BASE, loop(lambda number: plain_counter.add(number, LABELS))),
            Row(BOUND, loop(lambda number: bound_counter.add(number)), flush),  # noqa: PLW0108 - all three pay for the lambda
            Row(UNBOUND, loop(lambda number: counter.add(number, LABELS)), flush),
        ],
        "histogram": [
            Row(BASE, loop(lambda number: plain_histogram.record(number, LABELS))),
            Row(BOUND, loop(lambda number: bound_histogram.record(number)), flush),  # noqa: PLW0108 - same
            Row(UNBOUND, loop(lambda number: histogram.record(number, LABELS)), flush),
        ],
    }


def start(arguments: list[str]) -> Turn:
    """Prepare a child: the server, calls per turn, turns of each row."""
    url, calls, repeats = arguments
    fo.setup(
        "bench",
        endpoint=url,
        protocol="http/protobuf",
        durability="memory",
        metrics_export_interval_s=3600,
    ).unwrap()
    built = groups()

    def turn() -> dict[str, Any]:
        times = {
            name: interleave(rows, int(calls), int(repeats))
            for name, rows in built.items()
        }
        flush()
        return times

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure both kinds of instrument."""
    calls, repeats = (100, 3) if quick else (2000, 60)
    turns = repeats + WARM_UP
    # Two rows each: what a turn adds to a sum, and how many values it records.
    wanted = {
        "counter": 2 * turns * (sum(range(calls)) + sum(range(LEAD_IN))),
        "histogram": 2 * turns * (calls + LEAD_IN),
    }
    with Server() as server:
        times = one_turn("bench_instruments", server.url, str(calls), str(repeats))
        totals = server.counts()["totals"]
    result: list[Figure] = []
    for kind in KINDS:
        lost = loss(totals.get(f"bench.{kind}", 0), wanted[kind], "measured")
        result += [
            compared(
                f"bound {kind}, 2 attributes",
                times[kind][BOUND],
                times[kind][BASE],
                at_most=AT_MOST,
                note=lost,
            ),
            compared(
                f"{kind}, 2 attributes with each call",
                times[kind][UNBOUND],
                times[kind][BASE],
            ),
        ]
    return result


if __name__ == "__main__":
    run(__doc__, figures, start)
