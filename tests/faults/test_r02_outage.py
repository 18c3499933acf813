"""R2: `kill -9` during an outage; a new process sends what the dead one left."""

import random
from collections.abc import Callable

import pytest

from tests.faults.rig import Ended, Run, assert_balanced
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
    ended: list[Ended] = []
    for _ in range(kills):
        child = run.start(count=None, setup={"durability": durability})
        child.wait_count(seeded.randrange(6_000, 10_000))
        ended.append(child.kill())
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
    # What the killed ones learned about each other died with their ledgers; the kill
    # may fall between the end of a record and the child's own count of it.
    own = len(ended[-1].finished - faults.numbers())
    assert own - 1 <= ledger["dropped"].get("crash", 0) <= lost + kills
    assert ledger["delivered"] == ledger["adopted"] - ledger["dropped"].get("crash", 0)
    assert rate >= DRAIN_RATE
