"""How the benchmarks measure: rows take turns, in processes of their own.

Rows that are compared run A B C, A B C, … so that the drift of the machine hits all
alike; a ratio is taken per repeat, then the median of the ratios. What is measured runs
in child processes pinned to one core; the servers they send to have the other cores.

A benchmark is a module that gives `run` its figures (in the parent) and its turn (in
the child). A child makes one turn whenever it is told to, and answers as JSON, so that
rows that cannot share a process take turns as well.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, Self, TypeAlias, cast

from benchmarks.figures import Figure, print_tables

ROOT = Path(__file__).resolve().parent.parent
REQUEST_ID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
"""The correlation id of every span and log record: it is part of the work."""
WARM_UP = 3
"""Turns that are not counted."""
LEAD_IN = 200
"""Calls at the beginning of each turn that are not timed: the collection before it, and
the other rows, have emptied the caches of the processor."""
UNWANTED = ("OTEL_", "FLEXT_", "OBSERVABILITY_", "COVERAGE_")
"""Variables that would steer one side and not the other, or slow down both."""

Run = Callable[[int], None]
"""Makes that many calls."""
Answer: TypeAlias = Any
"""What a turn tells its parent: whatever JSON can say."""
Turn = Callable[[], Answer]
"""Measures once."""


class OopsError(Exception):
    """What the raising rows raise."""


def same(value: int) -> int:
    """Do nothing: what is measured is around it."""
    return value


async def same_async(value: int) -> int:
    """Do nothing, awaited."""
    return value


def fail(value: int) -> int:
    """Raise: the cost of a failure."""
    raise OopsError(value)


def nothing() -> None:
    """Stand for a queue that need not be emptied."""


def loop(function: Callable[[int], object]) -> Run:
    """Call a function n times."""

    def run(calls: int) -> None:
        for number in range(calls):
            function(number)

    return with_own_code(run)


def with_own_code(run: Run) -> Run:
    """Give a function a call site of its own, as the callers of a program have.

    Functions of one definition share their code, and the interpreter specialises that
    for one callee; with several at the same place it gives up, for all rows.
    """
    function = cast("FunctionType", run)
    code = function.__code__.replace(co_name=function.__name__)
    return FunctionType(
        code, function.__globals__, function.__name__, None, function.__closure__
    )


def loop_failing(function: Callable[[int], object]) -> Run:
    """Call a function that raises n times, and catch as its caller would."""

    def run(calls: int) -> None:
        for number in range(calls):
            with contextlib.suppress(OopsError):
                function(number)

    return with_own_code(run)


def loop_async(function: Callable[[int], Awaitable[object]]) -> Run:
    """Await a function n times inside one event loop."""
    events = asyncio.new_event_loop()

    async def turn(calls: int) -> None:
        for number in range(calls):
            await function(number)

    def run(calls: int) -> None:
        events.run_until_complete(turn(calls))

    return run


def under(
    parent: Callable[[], contextlib.AbstractContextManager[object]],
) -> Callable[[Run], Run]:
    """Make runs that happen inside a span: every call is its child."""

    def wrap(run: Run) -> Run:
        def within(calls: int) -> None:
            with parent():
                run(calls)

        return within

    return wrap


@dataclass(frozen=True, slots=True)
class Row:
    """One way to do a group's work, and how to empty its queue."""

    name: str
    run: Run
    drain: Callable[[], object] = nothing


def interleave(rows: Sequence[Row], calls: int, repeats: int) -> dict[str, list[float]]:
    """Let rows take turns; give CPU seconds per call, by row, one figure per repeat.

    A turn makes ``LEAD_IN`` calls more than it times.

    It is the CPU time of the process: background threads run as they like during a
    turn, and are part of its cost; other processes on the same core are not. On a core
    of its own it is the elapsed time, as no row waits for anything. What is still
    queued at the end of a turn is sent outside the measured time, so that no row pays
    for the one before it.
    """
    times: dict[str, list[float]] = {row.name: [] for row in rows}
    for number in range(WARM_UP + repeats):
        for row in rows:
            gc.collect()
            row.run(LEAD_IN)
            started = time.process_time()
            row.run(calls)
            spent = time.process_time() - started
            row.drain()
            if number >= WARM_UP:
                times[row.name].append(spent / calls)
    return times


def cores() -> tuple[int, set[int]] | None:
    """Give the core of what is measured and those of the servers, where one can say."""
    if sys.platform != "linux":
        return None
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        return None
    return usable[-1], set(usable[:-1])


def environment(folder: str) -> dict[str, str]:
    """Give a child's environment: nothing that steers telemetry, a spool of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(UNWANTED)}
    return kept | {
        "FLEXT_OBSERVABILITY_SPOOL_DIR": str(Path(folder) / "spool"),
        "PYTHONHASHSEED": "0",
    }


@dataclass
class Worker:
    """A child process that makes a turn of a benchmark whenever it is told to.

    Used in a `with` statement. It is killed at the end: nobody waits for exporters.
    """

    module: str
    arguments: Sequence[str]
    python: str = sys.executable
    _process: subprocess.Popen[str] = field(init=False, repr=False)
    _folder: tempfile.TemporaryDirectory[str] = field(init=False, repr=False)

    def __enter__(self) -> Self:
        """Start the process."""
        # Its last writes may race with the removal of the folder.
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                self.python,
                "-m",
                f"benchmarks.{self.module}",
                "--child",
                *self.arguments,
            ],
            cwd=ROOT,
            env=environment(self._folder.name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def turn(self) -> Answer:
        """Have one turn made; give its answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("not started")
        # A process that is gone leaves its reason on standard error.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("turn\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"benchmarks.{self.module} {self.arguments} has failed")
        return json.loads(answer)


def one_turn(module: str, *arguments: str, python: str = sys.executable) -> Answer:
    """Make one turn in a process of its own; give its answer."""
    with Worker(module, arguments, python) as worker:
        return worker.turn()


def take_turns(
    module: str, variants: Mapping[str, Sequence[str]], turns: int, starts: int
) -> dict[str, list[Answer]]:
    """Let processes take turns; give the answers by variant, one per turn.

    Args:
        module: The benchmark.
        variants: The arguments of each variant's process.
        turns: How many turns each process makes; the first warms it up and does not
            count.
        starts: How often all processes are started anew: where a process happens to
            lay out its memory is worth a few per cent.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in variants}
    for _ in range(starts):
        with contextlib.ExitStack() as stack:
            workers = {
                name: stack.enter_context(Worker(module, arguments))
                for name, arguments in variants.items()
            }
            for worker in workers.values():
                worker.turn()
            for _ in range(turns):
                for name, worker in workers.items():
                    answers[name].append(worker.turn())
    return answers


def serve_turns(turn: Turn) -> None:
    """Make a turn per line of standard input, in a child."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what others print is no answer
    for _ in sys.stdin:
        print(json.dumps(turn()), file=answers, flush=True)
    os._exit(0)  # what nobody collects need not be waited for


def run(
    description: str | None,
    figures: Callable[[bool], list[Figure]],
    start: Callable[[list[str]], Turn],
) -> None:
    """Be the command line of a benchmark.

    Args:
        description: The module's docstring.
        figures: Measures everything; told whether seconds must do.
        start: Prepares the turn of a child from its arguments.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few calls: does it run")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is None:
        print_tables(figures(options.quick))
        return
    known = cores()
    if known and sys.platform == "linux":
        os.sched_setaffinity(0, {known[0]})
    serve_turns(start(options.child))
