"""R11: more records at once than can be sent."""

from collections.abc import Callable

import pytest

from tests.faults.rig import Run, assert_balanced
from tests.faults.server import FaultServer

bursts = pytest.mark.parametrize(
    "count",
    [20_000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(180)])],
)


@bursts
@pytest.mark.parametrize("durability", ["batch", "record"])
def test_on_disk(
    run: Run, count: int, durability: str, figure: Callable[..., None]
) -> None:
    """Where records wait on disk, none of a burst is lost."""
    ended = run.start(count=count, setup={"durability": durability}).wait(90)
    assert_balanced(ended.status)
    assert not sum(ended.status["signals"]["traces"]["dropped"].values())
    assert_balanced(run.drain(60))
    figure(f"R11-{durability}", finished=count, lost=len(run.lost()))
    assert not run.lost()


@bursts
@pytest.mark.parametrize("threads", [0, 4])
def test_in_memory(
    run: Run, faults: FaultServer, count: int, threads: int, figure: Callable[..., None]
) -> None:
    """In memory, what is lost is counted exactly."""
    each = count // max(1, threads)
    child = run.start(
        count=each, threads=threads, then="exit", setup={"durability": "memory"}
    )
    ended = child.wait(90)
    assert_balanced(ended.status)
    ledger = ended.status["signals"]["traces"]
    lost = len(run.lost())
    figure(f"R11-memory-{threads}", finished=count, lost=lost, **ledger["dropped"])
    assert ledger["accepted"] == count
    assert sum(ledger["dropped"].values()) == lost
    assert not run.duplicates()
