"""The child of the fault tests: makes numbered records, and says so in a mapped file.

Usage: app.py OPTIONS, where OPTIONS is JSON, the fields of `Options`. `rig.Run.start`
calls it. The counter file outlives the process, whatever ends it:

    u64[0]          monotonic ns when the work was done and the end began; 0 before
    u64[1]          1 once setup() has returned
    u64[2 + 2 * t]  records that thread t has finished
    u64[3 + 2 * t]  Unix time of the last of them, ns
"""

import atexit
import dataclasses
import itertools
import json
import logging
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

COUNTER_BYTES = 4096
THREAD_STRIDE = 10**8
"""Thread t of a child makes the numbers first + t * THREAD_STRIDE + 1, ..."""


@dataclasses.dataclass
class Options:
    """What the child does."""

    counter: str
    setup: dict[str, Any]
    """Arguments of ``fo.setup``."""
    count: int | None = 1000
    """Records per thread; ``None`` for as many as it can until it is killed."""
    signal: str = "traces"
    """``traces``, ``logs`` or ``metrics``."""
    first: int = 0
    pace_s: float = 0.0
    """Pause after each record."""
    batch: int = 1
    """Records between two pauses."""
    threads: int = 0
    """Threads that make records; 0 for the main thread."""
    then: str = "exit"
    """How it ends, a name in ``ENDINGS``."""
    handler: str = ""
    """Handler of SIGTERM that the program installs: ``exit`` ends with code 7,
    ``note`` only prints."""
    slowest: bool = False
    """Whether to measure each record; printed as ``US p50 p99 max`` at the end."""


class Work:
    """Makes the records."""

    def __init__(self, options: Options) -> None:
        self.options = options
        with open(options.counter, "r+b") as file:  # noqa: PTH123 - for its number
            self.map = mmap.mmap(file.fileno(), COUNTER_BYTES)
        self.slots = memoryview(self.map).cast("Q")
        self.spent_ns: list[int] = []
        self.made = [0] * max(1, options.threads)

    def maker(self) -> Callable[[int], object]:
        if self.options.signal == "logs":
            logger = logging.getLogger("app")
            logger.setLevel(logging.INFO)
            return lambda n: logger.info("record", extra={"n": n})
        if self.options.signal == "metrics":
            counter = fo.flext_counter("made")
            return lambda _: counter.add(1)
        return _span

    def make(self, thread: int, count: int | None) -> None:
        """Make so many more records as thread number ``thread``."""
        options, slots, make = self.options, self.slots, self.maker()
        at, base = 2 + 2 * thread, options.first + thread * THREAD_STRIDE
        begin = self.made[thread] + 1
        numbers: Iterable[int] = itertools.count(begin)
        if count is not None:
            numbers = range(begin, begin + count)
        make = self.timed(make) if options.slowest else make
        for number in numbers:
            make(base + number)
            slots[at] = number
            slots[at + 1] = time.time_ns()
            self.made[thread] = number
            if options.pace_s and number % options.batch == 0:
                time.sleep(options.pace_s)

    def timed(self, make: Callable[[int], object]) -> Callable[[int], object]:
        def measured(number: int) -> None:
            began = time.perf_counter_ns()
            make(number)
            self.spent_ns.append(time.perf_counter_ns() - began)

        return measured

    def run(self) -> None:
        """Make all records that the options ask for."""
        if not self.options.threads:
            self.make(0, self.options.count)
            return
        workers = [
            threading.Thread(target=self.make, args=(number, self.options.count))
            for number in range(self.options.threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def mark_end(self) -> None:
        """From here on the program wants to end."""
        if self.spent_ns:
            spent = sorted(self.spent_ns)
            ranks = (spent[len(spent) // 2], spent[len(spent) * 99 // 100], spent[-1])
            say("US " + " ".join(f"{ns / 1000:.1f}" for ns in ranks))
        self.slots[0] = time.monotonic_ns()


def _span(number: int) -> None:
    with fo.flext_span("op", {"n": number}):
        pass


def say(line: str) -> None:
    """Print a line at once, in one piece, also while the interpreter shuts down."""
    os.write(1, f"{line}\n".encode())


def tell_status() -> None:
    """Print ``STATUS`` and the ledger as JSON."""
    status = fo.status()
    names = (field.name for field in dataclasses.fields(status))
    plain = {name: getattr(status, name) for name in names} | {"ready": status.ready}
    say("STATUS " + json.dumps(plain, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return dict(value) if hasattr(value, "keys") else str(value)


# -- how it ends


def serve(work: Work) -> None:
    """Do what the lines of standard input say; end at ``end`` or at their end."""
    for line in sys.stdin:
        command, *words = line.split()
        if command == "end":
            break
        if command == "make":
            work.make(0, int(words[0]))
            say("MADE")
        elif command == "flush":
            say(f"FLUSHED {fo.flush(float(words[0])).success}")
        elif command == "status":
            tell_status()
        elif command == "shutdown":
            say(f"SHUTDOWN {fo.shutdown().success}")
    work.mark_end()


def wait_for_signal(work: Work) -> None:
    """Sleep until a signal ends the process."""
    work.mark_end()
    say("READY")
    while True:
        signal.pause()


def run_on(work: Work) -> None:
    """Do nothing more, for a long time."""
    work.mark_end()
    say("READY")
    time.sleep(600)


def leave(work: Work) -> None:
    """End at once, without any handler."""
    tell_status()
    work.mark_end()
    os._exit(5)


def fail(work: Work) -> None:
    """End by an exception that nobody catches."""
    work.mark_end()
    raise RuntimeError("the program failed")


def exit_in_thread(work: Work) -> None:
    """Call sys.exit in a thread that also makes one more record; then end."""

    def last() -> None:
        work.make(0, 1)
        sys.exit(9)

    thread = threading.Thread(target=last)
    thread.start()
    thread.join()
    work.mark_end()


def fork(work: Work) -> None:
    """Make as many records again in a forked child, which ends as scripts do."""
    pid = os.fork()
    if pid:
        work.mark_end()
        os.waitpid(pid, 0)
        return
    work.make(0, work.options.count)


def fork_and_leave(work: Work) -> None:
    """Make as many records again in a forked child, which ends in os._exit."""
    pid = os.fork()
    if pid:
        work.mark_end()
        os.waitpid(pid, 0)
        return
    work.make(0, work.options.count)
    os._exit(0)


def fork_by_multiprocessing(work: Work) -> None:
    """Make as many records again in a child of multiprocessing."""
    import multiprocessing

    context: Any = multiprocessing.get_context("fork")
    child = context.Process(target=work.make, args=(0, work.options.count))
    child.start()
    child.join()
    work.mark_end()


ENDINGS: dict[str, Callable[[Work], None]] = {
    "exit": Work.mark_end,
    "serve": serve,
    "wait": wait_for_signal,
    "run_on": run_on,
    "os._exit": leave,
    "raise": fail,
    "thread_exit": exit_in_thread,
    "fork": fork,
    "fork_exit": fork_and_leave,
    "multiprocessing": fork_by_multiprocessing,
}


def install_handler(kind: str) -> None:
    """Install the program's own handler of SIGTERM."""

    def handler(number: int, _frame: object) -> None:
        say(f"HANDLED {number}")
        if kind == "exit":
            sys.exit(7)

    if kind:
        signal.signal(signal.SIGTERM, handler)


def main() -> None:
    """Do what the options say."""
    work = Work(Options(**json.loads(sys.argv[1])))
    install_handler(work.options.handler)
    # Before setup(): exit functions run backwards, so this one sees the last ledger.
    atexit.register(tell_status)
    result = fo.setup(**work.options.setup)
    if result.is_failure:
        sys.exit(f"setup: {result.error}")
    work.slots[1] = 1
    work.run()
    ENDINGS[work.options.then](work)


if __name__ == "__main__":
    import flext_observability as fo

    main()
