"""A tight loop: spans offered per second, and how many of them are lost.

One thread makes spans as fast as it can, on one core that it shares with everything the
library does in the background; what arrives is counted at the other end. Plain
OpenTelemetry is a bare span with the stock batch processor and OTLP/HTTP exporter; ours
is a monitored call. Another row offers 150,000 spans a second, evenly.

    python -m benchmarks.bench_overload [--quick]
"""

import statistics
import time
from collections.abc import Callable

from benchmarks.bench_durability import ours, plain
from benchmarks.figures import Figure
from benchmarks.harness import Turn, one_turn, run
from benchmarks.server import Server

WANTED_RATE = 150_000
STEP = 150
VARIANTS = ("plain", "memory", "batch")


def offer(call: Callable[[int], int], seconds: float, rate: int) -> tuple[int, float]:
    """Make spans for a while; give how many, and how long that took.

    Args:
        call: Makes one.
        seconds: For how long.
        rate: Spans a second; 0 for as many as go.
    """
    step_s = STEP / rate if rate else 0.0
    offered = 0
    started = now = time.perf_counter()
    while now < started + seconds:
        for number in range(STEP):
            call(number)
        offered += STEP
        now = time.perf_counter()
        ahead_s = started + offered / STEP * step_s - now
        if ahead_s > 0:
            time.sleep(ahead_s)
            now = time.perf_counter()
    return offered, now - started


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its variant, the server, seconds, spans a second."""
    variant, url, seconds, rate = arguments
    call, drain = plain(url) if variant == "plain" else ours(variant, url)

    def turn() -> dict[str, float]:
        warm_up, _ = offer(call, min(1.0, float(seconds)), 10_000)
        drain()
        cpu_s = time.process_time()
        offered, took_s = offer(call, float(seconds), int(rate))
        cpu_s = time.process_time() - cpu_s
        drain()
        return {
            "warm_up": warm_up,
            "offered": offered,
            "rate": offered / took_s,
            "share": 100 * cpu_s / took_s,
        }

    return turn


def measure(variant: str, seconds: float, rate: int, repeats: int) -> dict[str, float]:
    """Give median rate, worst loss and median share of the core, both in per cent."""
    rates: list[float] = []
    lost: list[float] = []
    shares: list[float] = []
    for _ in range(repeats):
        with Server() as server:
            answer = one_turn(
                "bench_overload", variant, server.url, str(seconds), str(rate)
            )
            arrived = server.counts()["spans"] - answer["warm_up"]
        rates.append(answer["rate"])
        shares.append(answer["share"])
        lost.append(100 * (1 - arrived / answer["offered"]))
    return {
        "rate": statistics.median(rates),
        "lost": max(lost),
        "share": statistics.median(shares),
    }


def told(measured: dict[str, float]) -> str:
    """Say a rate and a loss."""
    return f"{measured['lost']:.1f} % of {measured['rate']:,.0f}/s"


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure every variant as fast as it goes, then at the wanted rate."""
    seconds, repeats = (0.2, 1) if quick else (4.0, 3)
    result: list[Figure] = []
    for rate, what in (
        (0, "tight loop, as fast as it goes"),
        (WANTED_RATE, f"tight loop, {WANTED_RATE:,} spans/s"),
    ):
        base, *own = (measure(variant, seconds, rate, repeats) for variant in VARIANTS)
        for mode, each in zip(VARIANTS[1:], own, strict=True):
            result.append(
                Figure(
                    f"{what}, lost, durability {mode}",
                    told(base),
                    told(each),
                    None,
                    f"0 at ≥ {WANTED_RATE:,}/s",
                    each["lost"] <= 0 and each["rate"] >= 0.99 * WANTED_RATE,
                    f"had {each['share']:.0f} % of a core, plain {base['share']:.0f} %",
                )
            )
    return result


if __name__ == "__main__":
    run(__doc__, figures, start)
