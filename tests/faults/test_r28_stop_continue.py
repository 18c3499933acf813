"""R28: a process that is stopped for a while, as by a laptop that sleeps."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.rig import Run, assert_balanced
from tests.faults.server import FaultServer


@pytest.mark.parametrize(
    "seconds",
    [2, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(120)])],
)
@pytest.mark.parametrize("durability", ["memory", "batch"])
def test_stop_and_continue(
    run: Run,
    faults: FaultServer,
    durability: str,
    seconds: int,
    figure: Callable[..., None],
) -> None:
    """It goes on where it was, and nothing is lost."""
    child = run.start(
        count=None, pace_s=0.01, batch=10, setup={"durability": durability}
    ).wait_count(500)
    faults.wait_numbers(1)
    child.signal(signal.SIGSTOP)
    time.sleep(seconds)  # the fault itself
    before = child.count
    child.signal(signal.SIGCONT)
    child.wait_count(before + 500)
    began = time.monotonic()
    faults.wait_for(lambda: any(n > before for n in faults.tally()), 15)
    resumed_s = time.monotonic() - began
    child.signal(signal.SIGINT)  # unlike SIGTERM, it runs exit functions
    ended = child.wait()
    assert_balanced(ended.status)
    if durability != "memory":
        assert_balanced(run.drain())
    lost = len(run.lost())
    figure(
        f"R28-{durability}",
        stopped_s=seconds,
        lost=lost,
        resumed_s=round(resumed_s, 1),
    )
    assert lost == 0
