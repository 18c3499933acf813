"""R5: a collector that is restarted again and again."""

import time
from collections.abc import Callable

import pytest

from tests.faults.rig import Run, assert_balanced
from tests.faults.server import FaultServer


@pytest.mark.parametrize(
    ("cuts", "up_s", "down_s"),
    [
        (3, 0.5, 0.5),
        pytest.param(
            *(20, 1.0, 5.0), marks=[pytest.mark.slow, pytest.mark.timeout(240)]
        ),
    ],
)
def test_bouncing(
    run: Run,
    faults: FaultServer,
    cuts: int,
    up_s: float,
    down_s: float,
    figure: Callable[..., None],
) -> None:
    """Nothing is lost, and at most one batch is repeated per cut."""
    child = run.start(
        count=int(cuts * (up_s + down_s) * 500),
        pace_s=0.02,
        batch=10,
        then="serve",
        setup={"durability": "batch"},
    ).wait_count(1)
    for _ in range(cuts):
        time.sleep(up_s)  # the fault itself: so long it is up
        faults.bounce(down_s)
    ended = child.end(60)
    assert_balanced(ended.status)
    status = run.drain()
    assert_balanced(status)
    largest = max(arrival.count for arrival in faults.arrivals("traces"))
    figure(
        "R5",
        cuts=cuts,
        finished=len(ended.finished),
        lost=len(run.lost()),
        duplicates=run.duplicates(),
        largest_batch=largest,
    )
    assert not run.lost()
    assert run.duplicates() <= cuts * largest
