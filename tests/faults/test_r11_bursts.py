"""R11: more records at once than can be sent."""

from collections.abc import Callable

import pytest

from tests.faults.rig import Run, assert_balanced
from tests.faults.server import ACCEPT, BUSY, Arrival, FaultServer, Reply

DEADLINE_S = 240.0  # 200,000 writes of one record each, on a machine others use too

bursts = pytest.mark.parametrize(
    "count",
    [20_000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(360)])],
)


@bursts
@pytest.mark.parametrize("durability", ["batch", "record"])
def test_on_disk(
    run: Run, count: int, durability: str, figure: Callable[..., None]
) -> None:
    """Where records wait on disk, none of a burst is lost."""
    ended = run.start(count=count, setup={"durability": durability}).wait(DEADLINE_S)
    assert ended.code == 0, ended.stderr
    assert_balanced(ended.status)
    assert not sum(ended.status["signals"]["traces"]["dropped"].values())
    drained = run.drain(60)
    assert_balanced(drained)
    lost = len(run.lost())
    figure(
        f"R11-{durability}",
        finished=count,
        lost=lost,
        duplicates=run.duplicates(),
        left_for_the_next=drained["signals"]["traces"]["adopted"],
    )
    assert not lost


@bursts
@pytest.mark.parametrize("threads", [0, 4])
def test_in_memory(
    run: Run, count: int, threads: int, figure: Callable[..., None]
) -> None:
    """In memory, what is lost is counted exactly."""
    burst_in_memory(run, count, threads, figure, "memory")
    assert not run.duplicates()


@bursts
@pytest.mark.parametrize("threads", [0, 4])
def test_in_memory_while_the_collector_refuses(
    run: Run, faults: FaultServer, count: int, threads: int, figure: Callable[..., None]
) -> None:
    """So it is when the collector takes two requests and then no more."""
    taken: list[Arrival] = []

    def respond(arrival: Arrival) -> Reply:
        taken.append(arrival)
        return ACCEPT if len(taken) <= 2 else BUSY

    faults.reply_with(respond)
    lost = burst_in_memory(run, count, threads, figure, "memory_refused")
    assert 0 < lost < count


def burst_in_memory(
    run: Run, count: int, threads: int, figure: Callable[..., None], case: str
) -> int:
    """Make a burst, compare what is missing with what was counted; give how much."""
    child = run.start(
        count=count // max(1, threads),
        threads=threads,
        setup={"durability": "memory"},
    )
    ended = child.wait(DEADLINE_S)
    assert ended.code == 0, ended.stderr
    assert_balanced(ended.status)
    ledger = ended.status["signals"]["traces"]
    lost = len(run.lost())
    figure(
        f"R11-{case}_{threads or 1}_threads",
        finished=count,
        lost=lost,
        **{f"counted_{reason}": number for reason, number in ledger["dropped"].items()},
    )
    assert ledger["accepted"] == count
    assert ledger["pending"] == 0
    assert sum(ledger["dropped"].values()) == lost
    return lost
