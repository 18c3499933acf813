"""R19: clocks that jump or stand still."""

import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from tests.faults.rig import Run
from tests.faults.server import FaultServer, Reply
from tests.fixtures.programs import run_program

DAY_S = 86_400
YEAR_S = 365 * DAY_S

# The clocks are replaced before the library, or anything it uses, is imported.
PROGRAM = """
import json, logging, sys, time

real_wall, real_wall_ns = time.time, time.time_ns
real_mono, real_mono_ns = time.monotonic, time.monotonic_ns
shift_s, stands_at = 0.0, None

time.time = lambda: real_wall() + shift_s
time.time_ns = lambda: real_wall_ns() + int(shift_s * 1e9)
time.monotonic = lambda: real_mono() if stands_at is None else stands_at
time.monotonic_ns = lambda: int(time.monotonic() * 1e9)

import flext_observability as fo

def make(first, count):
    for n in range(first, first + count):
        with fo.flext_span("op", {"n": n}):
            logging.getLogger("app").warning("record", extra={"n": n})

def settle(timeout_s):
    "Wait by the real clock: what is pending shall become none."
    end = real_mono() + timeout_s
    while real_mono() < end:
        if not sum(l.pending for l in fo.status().signals.values()):
            return True
        time.sleep(0.02)
    return False

def tell():
    for name, l in fo.status().signals.items():
        settled = l.delivered + l.rejected + sum(l.dropped.values())
        assert l.accepted == settled + l.pending, l
        print(name, l.accepted, l.delivered, dict(l.dropped))

logging.getLogger("app").addHandler(logging.NullHandler())
fo.setup(**json.loads(sys.argv[1])).unwrap()
make(0, 100)
"""


def run_clocks(run: Run, rest: str, **setup: object) -> list[str]:
    """Run the program with that end; give what it printed."""
    text = PROGRAM + textwrap.dedent(rest)
    return run_program(text, run.settings(**setup), timeout_s=100).ok().lines


@pytest.mark.parametrize(
    "durability", ["batch", pytest.param("memory", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "jump_s",
    [
        pytest.param(DAY_S, marks=pytest.mark.slow, id="+day"),
        pytest.param(-DAY_S, marks=pytest.mark.slow, id="-day"),
        pytest.param(YEAR_S, id="+year"),
        pytest.param(-YEAR_S, id="-year"),
    ],
)
def test_wall_clock_jumps(
    run: Run, faults: FaultServer, durability: str, jump_s: int
) -> None:
    """A jump loses nothing, expires nothing, hangs nothing."""
    lines = run_clocks(
        run,
        f"""
        shift_s = {jump_s}
        make(100, 100)
        assert settle(10)
        assert fo.flush(5.0).success
        tell()
        """,
        durability=durability,
    )
    assert "traces 200 200 {}" in lines
    assert "logs 200 200 {}" in lines
    assert faults.numbers() == set(range(200))


@pytest.mark.parametrize(
    "jump_s", [-DAY_S, pytest.param(-YEAR_S, marks=pytest.mark.slow)]
)
def test_no_negative_duration(run: Run, faults: FaultServer, jump_s: int) -> None:
    """A span during which the wall clock jumps back ends not before it began."""
    run_clocks(
        run,
        f"""
        with fo.flext_span("across", {{"n": 1000}}):
            shift_s = {jump_s}

        @fo.flext_monitor_function("monitored")
        def monitored():
            global shift_s
            shift_s += {jump_s}

        monitored()
        """,
    )
    spans = [s for a in faults.arrivals("traces") for s in a.records()]
    assert {"across", "monitored"} <= {span.name for span in spans}
    backward = {s.name for s in spans if s.end_time_unix_nano < s.start_time_unix_nano}
    assert not backward


def test_records_wait_through_a_jump(run: Run, faults: FaultServer) -> None:
    """What waits on disk does not become too old by a jump of the clock."""
    faults.close_port()
    run_clocks(run, f"shift_s = {YEAR_S}; make(100, 100)", exit_budget_s=0.1)
    threading.Timer(1.0, faults.open_port).start()
    lines = run_clocks(
        run,
        f"""
        # Taken over before the jump: after it nobody could tell how old they are.
        while any(fo.status().signals[s].adopted < 200 for s in ("traces", "logs")):
            time.sleep(0.01)
        shift_s = {YEAR_S}
        assert settle(15)
        tell()
        """,
    )
    assert "traces 300 300 {}" in lines, lines
    assert faults.numbers() == set(range(200))


@pytest.mark.parametrize(
    "jump_s", [YEAR_S, pytest.param(-YEAR_S, marks=pytest.mark.slow)]
)
def test_retries_are_unaffected(run: Run, faults: FaultServer, jump_s: int) -> None:
    """A told delay is kept whatever the wall clock does meanwhile."""
    faults.reply_next(Reply(503, headers={"Retry-After": "1"}), signals=["traces"])
    run_clocks(
        run,
        f"""
        while not fo.status().last_error:  # it was told by then
            time.sleep(0.01)
        shift_s = {jump_s}
        fo.flush(20.0).unwrap()
        """,
        logs_enabled=False,
    )
    first, second = faults.arrivals("traces")[:2]
    # With the clock of the wall it were at once, or a year.
    assert 1.0 <= second.at - first.at <= 8.0


@pytest.mark.parametrize("durability", ["memory", "batch", "record"])
def test_monotonic_clock_stands(
    run: Run, faults: FaultServer, durability: str, figure: Callable[..., None]
) -> None:
    """With a monotonic clock that stands, records arrive and the program ends."""
    began = time.monotonic()
    run_clocks(
        run,
        """
        stands_at = real_mono()
        make(100, 100)
        assert settle(10)
        tell()
        """,
        durability=durability,
    )
    figure("R19", clock="stands", mode=durability, s=round(time.monotonic() - began, 1))
    assert faults.numbers() == set(range(200))
    assert faults.numbers("logs") == set(range(200))


def test_monotonic_clock_stands_in_an_outage(run: Run, faults: FaultServer) -> None:
    """A clock that stands for a while during an outage delays, and loses nothing."""
    faults.reply_always(Reply(503))
    run_clocks(
        run,
        """
        stands_at = real_mono()
        make(100, 100)
        time.sleep(2)
        stands_at = None
        """,
        exit_budget_s=0.5,
    )
    faults.reply_always(Reply())
    run.drain()
    assert faults.numbers() == set(range(200))


@pytest.mark.parametrize("durability", ["memory", "batch"])
def test_exit_with_a_standing_clock(
    run: Run, faults: FaultServer, durability: str
) -> None:
    """Even then a program that nobody listens to comes to its end."""
    faults.close_port()
    began = time.monotonic()
    run_clocks(run, "stands_at = real_mono()", durability=durability)
    assert time.monotonic() - began < 30
