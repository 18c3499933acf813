"""R28: a process that is stopped for a while, as by a laptop that sleeps."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.rig import Child, Run, assert_balanced
from tests.faults.server import FaultServer, Reply

BATCH = 512
seconds = pytest.mark.parametrize(
    "stop_s", [2, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(120)])]
)


def sleep(child: Child, stop_s: float) -> int:
    """Stop a child for that long; give how many records it had finished."""
    child.signal(signal.SIGSTOP)
    try:
        time.sleep(stop_s)  # the fault itself
        return child.count
    finally:
        child.signal(signal.SIGCONT)


def assert_nothing_given_up(status: dict[str, dict[str, dict[str, object]]]) -> None:
    """Nothing expired, nothing was dropped, nothing was refused."""
    ledger = status["signals"]["traces"]
    assert ledger["dropped"] == {}
    assert ledger["rejected"] == 0


@seconds
@pytest.mark.parametrize(
    "durability", ["batch", pytest.param("memory", marks=pytest.mark.slow)]
)
def test_stop_and_continue(
    run: Run,
    faults: FaultServer,
    durability: str,
    stop_s: int,
    figure: Callable[..., None],
) -> None:
    """It goes on where it was, and nothing is lost."""
    child = run.start(
        count=None, pace_s=0.01, batch=10, setup={"durability": durability}
    ).wait_count(300)
    faults.wait_numbers(1)
    before = sleep(child, stop_s)
    began = time.monotonic()
    child.wait_count(before + 300)
    faults.wait_for(lambda: any(n > before for n in faults.tally()), 15)
    resumed_s = time.monotonic() - began
    child.signal(signal.SIGINT)  # unlike SIGTERM, it runs exit functions
    ended = child.wait()
    assert_balanced(ended.status)
    assert_nothing_given_up(ended.status)
    lost = len(run.lost())
    figure(
        "R28",
        mode=durability,
        stopped_s=stop_s,
        lost=lost,
        resumed_s=round(resumed_s, 1),
    )
    assert lost == 0
    assert run.duplicates() == 0


@seconds
def test_stopped_while_a_request_is_under_way(
    run: Run, faults: FaultServer, stop_s: int, figure: Callable[..., None]
) -> None:
    """The time of a request is over when it wakes up: one batch twice, none lost."""
    faults.reply_next(Reply(delay_s=0.5))
    child = run.start(
        count=100, then="serve", setup={"durability": "batch", "timeout_s": 1.0}
    ).wait_count(100)
    faults.wait_for(lambda: faults.request_count)
    before = sleep(child, stop_s)
    assert before == 100
    child.ask("make 100")
    child.ask("flush 10")
    ended = child.end()
    assert_balanced(ended.status)
    assert_nothing_given_up(ended.status)
    lost, twice = len(run.lost()), run.duplicates()
    figure("R28", in_request_s=stop_s, lost=lost, duplicates=twice)
    assert lost == 0
    assert twice <= BATCH
    assert twice <= ended.status["signals"]["traces"]["retransmitted"]


@seconds
def test_stopped_in_an_outage(
    run: Run, faults: FaultServer, stop_s: int, figure: Callable[..., None]
) -> None:
    """What waits on disk while the process and its collector sleep does not expire."""
    faults.close_port()
    child = run.start(count=500, then="serve", setup={"durability": "batch"})
    child.wait_count(500)
    sleep(child, stop_s)
    faults.open_port()
    child.ask("flush 15")
    ended = child.end()
    assert_balanced(ended.status)
    assert_nothing_given_up(ended.status)
    lost = len(run.lost())
    figure("R28", in_outage_s=stop_s, lost=lost)
    assert lost == 0
