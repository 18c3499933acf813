"""R20: threads that cannot start, and an interpreter that shuts down."""

import textwrap
from collections.abc import Callable

import pytest

from tests.faults.rig import Run
from tests.faults.server import FaultServer
from tests.fixtures.programs import Ended, run_program

modes = pytest.mark.parametrize(
    "durability",
    ["batch", *(pytest.param(m, marks=pytest.mark.slow) for m in ("memory", "record"))],
)

PROGRAM = """
import atexit, gc, json, logging, sys, threading
import flext_observability as fo

def tell():
    for name, l in fo.status().signals.items():
        settled = l.delivered + l.rejected + sum(l.dropped.values())
        assert l.accepted == settled + l.pending, l
        print(name, l.accepted, l.delivered, sum(l.dropped.values()), flush=True)

def make(first, count):
    for n in range(first, first + count):
        with fo.flext_span("op", {"n": n}):
            logging.getLogger("app").warning("record", extra={"n": n})
        fo.flext_counter("made").add(1)

logging.getLogger("app").addHandler(logging.NullHandler())
logging.getLogger("app").propagate = True
atexit.register(tell)  # before setup(): it runs after the last delivery
settings = json.loads(sys.argv[1])
"""

REFUSE = """
def refuse(self, *_):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
"""
SETUP = "fo.setup(**settings).unwrap()\n"


def run_with(run: Run, rest: str, **setup: object) -> Ended:
    """Run the program with that end; it says nothing on standard error."""
    text = PROGRAM + textwrap.dedent(rest)
    # How long an exit may take is R4's; here a stall shall cost no record.
    settings = run.settings(exit_budget_s=20.0, **setup)
    ended = run_program(text, settings, timeout_s=90).ok()
    assert ended.stderr == ""
    return ended


@modes
def test_refused_threads(
    run: Run, faults: FaultServer, durability: str, figure: Callable[..., None]
) -> None:
    """Without any thread of ours, records arrive at exit or are counted."""
    ended = run_with(
        run,
        SETUP + REFUSE + "make(0, 1000)",
        durability=durability,
        metrics_enabled=True,
    )
    counted = {words[0]: words[1:] for words in map(str.split, ended.lines)}
    for signal in ("traces", "logs"):
        accepted, delivered, dropped = map(int, counted[signal])
        arrived = len(faults.numbers(signal))
        figure("R20", mode=durability, signal=signal, arrived=arrived, dropped=dropped)
        assert (accepted, delivered) == (1000, arrived)
        assert durability != "memory" or arrived + dropped == 1000
    if durability != "memory":
        run.drain()
        assert faults.numbers() == faults.numbers("logs") == set(range(1000))


def test_refused_threads_before_setup(run: Run) -> None:
    """The SDK itself needs a thread to be loaded: setup fails, the program runs on."""
    ended = run_program(
        PROGRAM
        + REFUSE
        + """
result = fo.setup(**settings)
make(0, 10)
print("new thread" in str(result.error) or result.success)
""",
        run.settings(),
    ).ok()
    assert "True" in ended.lines
    assert "Traceback" not in ended.stderr


@modes
def test_threads_refused_at_first(
    run: Run, faults: FaultServer, durability: str
) -> None:
    """Once threads can be had again, delivery goes on by itself."""
    run_with(
        run,
        SETUP
        + """
real = threading.Thread.start
"""
        + REFUSE
        + """
make(0, 100)
threading.Thread.start = real
make(100, 100)
fo.flush(20.0).unwrap()
""",
        durability=durability,
    )
    assert faults.numbers() == faults.numbers("logs") == set(range(200))


@modes
def test_telemetry_from_atexit(run: Run, faults: FaultServer, durability: str) -> None:
    """Exit functions that run before ours are heard; those after it are counted."""
    ended = run_with(
        run,
        f"""
        atexit.register(make, 200, 100)  # runs when all is shut down
        {SETUP}
        atexit.register(make, 100, 100)
        make(0, 100)
        """,
        durability=durability,
    )
    assert set(range(200)) <= faults.numbers()
    assert set(range(200)) <= faults.numbers("logs")
    assert ended.lines[0].startswith("traces ")


@modes
def test_telemetry_from_finalizers(
    run: Run, faults: FaultServer, durability: str
) -> None:
    """Objects that make telemetry in `__del__` do no harm, whenever they die."""
    run_with(
        run,
        SETUP
        + """
class Noisy:
    def __init__(self, number):
        self.number = number
        self.me = self  # a cycle: the collector decides when
    def __del__(self):
        make(self.number, 1)

Noisy(0)
gc.collect()
for n in range(1, 300):
    Noisy(n)
gc.collect()
left = Noisy(1000)  # dies while modules are taken down
sys.noisy = Noisy(1001)
""",
        durability=durability,
    )
    assert set(range(300)) <= faults.numbers()
    assert set(range(300)) <= faults.numbers("logs")


@pytest.mark.parametrize("durability", ["batch", "record"])
def test_daemon_threads_at_the_end(
    run: Run, faults: FaultServer, durability: str
) -> None:
    """Daemon threads that go on while the interpreter leaves cause no trouble."""
    text = """
def for_ever():
    n = 10**6
    while True:
        n += 1
        with fo.flext_span("noise", {"n": n}):
            pass

make(0, 100)
for _ in range(3):
    threading.Thread(target=for_ever, daemon=True).start()
threading.Event().wait(0.2)
"""
    ended = run_program(PROGRAM + SETUP + text, run.settings(durability=durability))
    # It may say what was made too late to be sent, and no more than that.
    assert len(ended.ok().stderr.splitlines()) <= 1, ended.stderr
    run.drain()
    assert set(range(100)) <= faults.numbers()
    assert set(range(100)) <= faults.numbers("logs")


def test_closed_port_without_threads(run: Run, faults: FaultServer) -> None:
    """Nobody listening and no thread to be had: the records are on disk at the end."""
    faults.close_port()
    ended = run_program(
        PROGRAM + SETUP + REFUSE + "make(0, 1000)\n", run.settings(), timeout_s=90
    ).ok()
    assert "Traceback" not in ended.stderr
    faults.open_port()
    run.drain()
    assert faults.numbers() == faults.numbers("logs") == set(range(1000))
