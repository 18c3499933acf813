"""R3: the ways a process ends, other than by the end of its program."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.rig import Ended, Run, assert_balanced

COUNT = 2_000
WINDOW_RECORDS = 512
# Name -> fields of `app.Options`, the signal sent, the exit code, whether exit
# functions run.
ENDINGS = {
    "sigterm": ({"then": "wait"}, signal.SIGTERM, -signal.SIGTERM, False),
    "sigterm_handler": (
        {"then": "wait", "handler": "exit"},
        signal.SIGTERM,
        7,
        True,
    ),
    "sigint": ({"then": "wait"}, signal.SIGINT, -signal.SIGINT, True),
    "os._exit": ({"then": "os._exit"}, None, 5, False),
    "exception": ({"then": "raise"}, None, 1, True),
    "thread": ({"then": "thread_exit"}, None, 0, True),
}

modes = pytest.mark.parametrize(
    "durability", ["batch", pytest.param("record", marks=pytest.mark.slow)]
)


def end(
    run: Run, options: dict[str, Any], number: signal.Signals | None, **setup: object
) -> Ended:
    """Run a child to its end."""
    child = run.start(count=COUNT, setup=setup, **options)
    if number is not None:
        child.wait_line("READY")
        child.signal(number)
    return child.wait()


@modes
@pytest.mark.parametrize("ending", ENDINGS)
def test_ending(
    run: Run, durability: str, ending: str, figure: Callable[..., None]
) -> None:
    """Nothing is lost beyond the mode's window; exit code and handler are kept."""
    options, number, code, runs_exit_functions = ENDINGS[ending]
    ended = end(run, options, number, durability=durability)
    assert ended.code == code, ended.stderr
    assert ("HANDLED 15" in ended.lines) == ("handler" in options)
    assert ("RuntimeError: the program failed" in ended.stderr) == (code == 1)
    if runs_exit_functions:
        assert_balanced(ended.status)
        assert not run.lost()
    status = run.drain()
    assert_balanced(status)
    lost = len(run.lost())
    figure(f"R3-{ending}-{durability}", lost=lost, duplicates=run.duplicates())
    secure = runs_exit_functions or durability == "record"
    assert lost <= (0 if secure else WINDOW_RECORDS)


@pytest.mark.parametrize(
    ("options", "number", "code"),
    [
        ({}, signal.SIGTERM, -signal.SIGTERM),
        ({}, signal.SIGINT, -signal.SIGINT),
        ({"handler": "exit"}, signal.SIGTERM, 7),
    ],
    ids=["sigterm", "sigint", "own_handler"],
)
def test_handled_signals(
    run: Run, options: dict[str, str], number: signal.Signals, code: int
) -> None:
    """With `handle_signals` even `batch` loses nothing; who handled it still does."""
    ended = end(
        run,
        {"then": "wait", **options},
        number,
        durability="batch",
        handle_signals=True,
    )
    assert ended.code == code, ended.stderr
    assert ("HANDLED 15" in ended.lines) == bool(options)
    assert_balanced(run.drain())
    assert not run.lost()


def test_handled_signal_in_a_hot_loop(run: Run) -> None:
    """The handler may interrupt a write of its own thread; nothing is lost then."""
    child = run.start(count=None, setup={"durability": "batch", "handle_signals": True})
    child.wait_count(3_000)
    child.signal(signal.SIGTERM)
    assert child.wait().code == -signal.SIGTERM
    assert_balanced(run.drain())
    assert len(run.lost()) <= 1  # the record on which it was interrupted


def test_handler_that_goes_on(run: Run) -> None:
    """A program that survives SIGTERM by its own handler works on as before."""
    child = run.start(
        count=10,
        then="serve",
        handler="note",
        setup={"durability": "batch", "handle_signals": True},
    ).wait_count(10)
    child.signal(signal.SIGTERM)
    child.wait_line("HANDLED")
    child.ask("make 10")
    ended = child.end()
    assert ended.code == 0
    assert_balanced(ended.status)
    assert not run.lost()
    assert len(run.finished()) == 20
