"""R2: `kill -9` during an outage; a new process sends what the dead one left."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.rig import Child, Run, assert_balanced, wait_until
from tests.faults.server import FaultServer

WINDOW_RECORDS = 512
DRAIN_RATE = 5_000


@pytest.mark.parametrize("durability", ["record", "batch"])
@pytest.mark.parametrize(
    "kills", [1, pytest.param(5, marks=[pytest.mark.slow, pytest.mark.timeout(120)])]
)
def test_outage(
    run: Run,
    faults: FaultServer,
    durability: str,
    kills: int,
    seeded: random.Random,
    figure: Callable[..., None],
) -> None:
    """No more is lost than with the collector up, and draining is fast."""
    faults.close_port()
    for _ in range(kills):
        child = run.start(count=None, setup={"durability": durability})
        child.wait_count(seeded.randrange(6_000, 10_000))
        child.kill()
    faults.open_port()
    status = run.drain()
    assert_balanced(status)

    arrivals = faults.arrivals("traces")
    seconds = arrivals[-1].at - arrivals[0].at
    rate = sum(a.count for a in arrivals[:-1]) / max(seconds, 1e-6)
    lost = len(run.lost())
    ledger = status["signals"]["traces"]
    figure(
        f"R2-{durability}",
        kills=kills,
        finished=len(run.finished()),
        lost=lost,
        crash=ledger["dropped"].get("crash", 0),
        spans_per_s=round(rate),
    )
    assert lost <= (0 if durability == "record" else kills * (WINDOW_RECORDS + 1))
    # What the killed ones had counted of each other is handed on; a kill may fall
    # between the end of a record and the child's own count of it.
    assert abs(ledger["dropped"].get("crash", 0) - lost) <= kills
    assert ledger["delivered"] == ledger["adopted"] - ledger["dropped"].get("crash", 0)
    assert rate >= DRAIN_RATE


def kill_busy(run: Run, seeded: random.Random) -> int:
    """Kill two children in their hot loops, in an outage; give what they finished.

    Two, since one could just have written all it had.
    """
    busy = [run.start(count=None, setup={"durability": "batch"}) for _ in range(2)]
    for child in busy:
        child.wait_count(seeded.randrange(2_000, 3_000))
        child.kill()
    return len(run.finished())


def counted_crash(child: Child, finished: int) -> int:
    """Wait until a child has entered what the dead left; give what it lost."""

    def ledger() -> dict[str, Any]:
        found: dict[str, Any] = child.status()["signals"]["traces"]
        return found if found["adopted"] >= finished - 2 else {}

    return int(wait_until(ledger)["dropped"]["crash"])


def test_losses_are_handed_on(
    run: Run, faults: FaultServer, seeded: random.Random
) -> None:
    """Crash after crash: who counted what the dead had lost dies too, the count not."""
    faults.close_port()
    finished = kill_busy(run, seeded)
    counted: list[int] = []
    for _ in range(3):  # they make no record of their own
        child = run.start(count=0, then="serve", setup={"durability": "batch"})
        counted.append(counted_crash(child, finished))
        child.kill()
    faults.open_port()
    status = run.drain()
    assert_balanced(status)
    lost = status["signals"]["traces"]["dropped"]["crash"]
    assert counted == [lost] * 3
    assert abs(lost - len(run.lost())) <= 2


def told_by_metrics(faults: FaultServer) -> Counter[str]:
    """Lost spans by the process that says so, as its last metrics count them."""
    told: Counter[str] = Counter()
    for arrival in faults.arrivals("metrics"):
        for group in arrival.message.resource_metrics:
            names = {a.key: a.value.string_value for a in group.resource.attributes}
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    if metric.name != "flext.telemetry.records":
                        continue
                    for point in metric.sum.data_points:
                        found = {a.key: a.value.string_value for a in point.attributes}
                        if found.get("flext.reason") != "crash":
                            continue
                        if found["flext.signal"] == "traces":
                            told[names["service.instance.id"]] = point.as_int
    return told


def test_losses_that_a_metric_tells_are_not_handed_on(
    run: Run, faults: FaultServer, seeded: random.Random
) -> None:
    """Metrics on disk outlive the process that counted: nobody counts that again."""
    faults.close_port()
    finished = kill_busy(run, seeded)
    setup = {"durability": "batch", "metrics_enabled": True}
    second = run.start(count=0, then="serve", setup=setup)
    counted = counted_crash(second, finished)
    second.ask("flush 3")  # collects and writes; nobody takes it yet
    second.kill()
    faults.open_port()
    status = run.drain(metrics_enabled=True)
    assert_balanced(status)
    assert "crash" not in status["signals"]["traces"]["dropped"]
    assert told_by_metrics(faults).total() == counted
