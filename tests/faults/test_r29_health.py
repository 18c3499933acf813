"""R29: `status()` tells the truth about a collector, a spool and drops in trouble."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.rig import Child, Run, assert_balanced
from tests.faults.server import HANG, FaultServer, Reply

WITHIN_S = 10.0


def wait_problem(child: Child, word: str) -> tuple[float, dict[str, Any]]:
    """Give the seconds until a problem names the reason, and the status then."""
    began = time.monotonic()
    while True:
        status = child.status()
        took_s = time.monotonic() - began
        if any(word in problem.lower() for problem in status["problems"]):
            return took_s, status
        assert took_s < WITHIN_S, f"{word!r} not told: {status['problems']}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("trouble", "word"),
    [("closed", "refused"), ("hanging", "no answer"), ("busy", "503")],
)
def test_collector_down(
    run: Run,
    faults: FaultServer,
    trouble: str,
    word: str,
    figure: Callable[..., None],
) -> None:
    """Within 10 s it is not ready and says why, stays alive, and recovers."""
    child = run.start(count=10, then="serve").wait_count(10)
    child.ask("flush 5")
    status = child.status()
    assert status["ready"], status["problems"]
    if trouble == "closed":
        faults.close_port()
    else:
        faults.reply_always(HANG if trouble == "hanging" else Reply(503))
    child.ask("make 10")
    took_s, status = wait_problem(child, word)
    figure(f"R29-{trouble}", told_after_s=round(took_s, 2))
    assert not status["ready"]
    assert status["running"]
    assert_balanced(status)

    if trouble == "closed":
        faults.open_port()
    else:
        faults.reply_always(Reply())
    # A flush cuts pauses short; a request that hangs ends after its 10 s.
    child.ask("flush 15")
    status = child.status()
    assert status["ready"], status["problems"]
    assert_balanced(child.end().status)
    assert not run.lost()


def test_full_spool(run: Run, faults: FaultServer, figure: Callable[..., None]) -> None:
    """A spool above 80 % of its limit is told; so are drops, once there are some."""
    faults.close_port()
    child = run.start(
        count=10, then="serve", setup={"spool_limit_bytes": 1 << 20}
    ).wait_count(10)
    status = child.status()
    while status["spool_bytes"] <= 0.82 * (1 << 20):
        child.ask("make 200")
        status = child.status()
    dropped = status["signals"]["traces"]["dropped"]
    took_s, status = wait_problem(child, "spool")
    figure(
        "R29-spool",
        told_after_s=round(took_s, 2),
        spool_bytes=status["spool_bytes"],
        dropped=sum(dropped.values()),
    )
    assert not status["ready"]
    assert_balanced(status)

    child.ask("make 15000")
    took_s, status = wait_problem(child, "drop")
    assert status["signals"]["traces"]["dropped"]["spool_full"] > 0
    figure("R29-drops", told_after_s=round(took_s, 2))
    assert_balanced(status)
    assert status["running"]
    faults.open_port()
    last, drained = child.end().status, run.drain()
    counted = 0
    for told in (last, drained):
        assert_balanced(told)
        counted += sum(told["signals"]["traces"]["dropped"].values())
    assert len(run.lost()) == counted
