"""Families of processes for the fork tests; every member makes numbered records.

Usage: families.py SCENARIO SETUP, where SETUP is JSON, the arguments of ``fo.setup``.
A member says ``MEMBER {json}`` on standard output when it is done: who it is, how many
records of each kind it made, its pid, and the ledger as it was at its end.
"""

import atexit
import concurrent.futures
import contextlib
import faulthandler
import importlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any, Self

WATCHDOG_S = 20.0
COUNT = 5
"""Spans, and log records, that a member makes at a time."""


def watch() -> None:
    """Tell all stacks and die after 20 s; not inherited, so every process calls it."""
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG_S)


# Not dump_traceback_later: armed in the parent, it hangs for ever in the child.
faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
os.register_at_fork(after_in_child=watch)
watch()

import flext_observability as fo  # noqa: E402 - the watchdog watches the import too

log = logging.getLogger("family")
log.setLevel(logging.INFO)
log.addHandler(logging.NullHandler())
log.propagate = True


class Member:
    """This process: what it is called, and what it made."""

    def __init__(self) -> None:
        self.who = "parent"
        self.made = 0

    def becomes(self, who: str) -> None:
        """Be somebody else, who made nothing yet."""
        self.who, self.made = who, 0

    def make(self, count: int = COUNT) -> None:
        """Make that many spans and log records."""
        for number in range(self.made, self.made + count):
            with fo.flext_span("op", {"who": self.who, "n": number}):
                log.info("line", extra={"who": self.who, "n": number})
            self.made = number + 1

    def tell(self) -> None:
        """Say ``MEMBER``."""
        signals = fo.status().signals
        ledgers = {
            name: {
                "accepted": ledger.accepted,
                "delivered": ledger.delivered,
                "rejected": ledger.rejected,
                "pending": ledger.pending,
                "adopted": ledger.adopted,
                "retransmitted": ledger.retransmitted,
                "dropped": dict(ledger.dropped),
            }
            for name, ledger in signals.items()
        }
        told = {
            "who": self.who,
            "made": self.made,
            "pid": os.getpid(),
            "ledgers": ledgers,
        }
        say("MEMBER " + json.dumps(told))


me = Member()


def say(line: str) -> None:
    """Print a line at once and in one piece, whatever the process ends by."""
    os.write(1, f"{line}\n".encode())


def start() -> None:
    """Call ``fo.setup`` as the command line says."""
    fo.setup("family", **json.loads(sys.argv[2])).unwrap()


def start_slow() -> None:
    """Call ``fo.setup``; nothing is sent within 15 s unless somebody flushes or ends.

    A child that leaves with a request under way has it repeated by the next process;
    after the usual second that could happen to one that the machine stopped.
    """
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "15000"
    os.environ["OTEL_BLRP_SCHEDULE_DELAY"] = "15000"
    start()


def leave() -> None:
    """End by os._exit, with nothing left that the mode would lose then."""
    durability = fo.status().durability
    if durability == "memory":
        fo.flush(10.0).unwrap()
    elif durability == "batch":
        wait_for_the_writer()
    leave_at_once()


def wait_for_the_writer() -> None:
    """Wait until all is on disk, which the library sees to by itself in 100 ms.

    On a machine that others use too, its thread may get there later.
    """
    pipeline = importlib.import_module("flext_observability.runtime").state.live()
    deadline = time.monotonic() + WATCHDOG_S / 2
    while any(route._intake.unwritten for route in pipeline.routes):
        if time.monotonic() > deadline:
            say(f"TROUBLE {me.who} has records that nobody writes")
            return
        time.sleep(0.01)


def leave_at_once() -> None:
    """End by os._exit."""
    me.tell()
    os._exit(0)


def fork(child: Callable[[], None], who: str = "child") -> int:
    """Fork; the child does its work and ends by ``sys.exit``."""
    pid = os.fork()
    if pid == 0:
        me.becomes(who)
        child()
        sys.exit(0)
    return pid


def wait(*pids: int) -> None:
    """Wait for children, all of whom must have ended well."""
    for pid in pids:
        status = os.waitpid(pid, 0)[1]
        watch()  # they have 20 s each
        if status:
            say(f"TROUBLE child {pid} ended with {status}")


# -- scenarios of os.fork


def before_setup() -> None:
    """Fork first; both call setup."""

    def child() -> None:
        start()
        me.make()

    pid = fork(child)
    start()
    me.make()
    wait(pid)


def after_setup() -> None:
    """Records before and after the fork; the child ends as scripts do."""
    start()
    me.make()
    pid = fork(me.make)
    me.make()
    wait(pid)
    me.make()


def os_exit() -> None:
    """The child ends by os._exit, and delivered nothing before if it can wait."""
    start_slow()
    me.make()

    def child() -> None:
        me.make()
        leave()

    wait(fork(child))
    me.make()


def os_exit_at_once() -> None:
    """The child ends by os._exit in the middle of its work."""
    start_slow()
    me.make()

    def child() -> None:
        me.make(1000)
        leave_at_once()

    wait(fork(child))


def both_call_setup() -> None:
    """Parent and child both call setup, the child although it inherited one."""
    start()
    me.make()

    def child() -> None:
        start()
        me.make()

    wait(fork(child))


def double() -> None:
    """A child and a grandchild, each with records of its own."""
    start()
    me.make()

    def child() -> None:
        me.make()
        pid = fork(me.make, "grandchild")
        me.make()
        wait(pid)

    wait(fork(child))


def double_idle() -> None:
    """A daemon: its parent never used telemetry and leaves first."""
    start_slow()
    me.make()
    reader, writer = os.pipe()

    def child() -> None:
        os.setsid()
        pid = os.fork()
        if pid:
            os._exit(0)
        me.becomes("grandchild")
        os.close(reader)
        me.make()
        leave()

    pid = fork(child)
    os.close(writer)
    wait(pid)
    os.read(reader, 1)  # its end: the grandchild is done


def in_a_span() -> None:
    """Fork inside an open span: it is the parent's, and ends once."""
    start()
    with fo.flext_span("open", {"who": "parent", "n": -1}):
        me.make()
        pid = fork(me.make)
    wait(pid)


def from_a_thread() -> None:
    """Another thread than the main one forks."""
    start_slow()
    me.make()

    def work() -> None:
        def child() -> None:
            me.make()
            leave()

        wait(fork(child))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    me.make()


def fork_hooks() -> None:
    """The program's own fork hooks use telemetry, in parent and child."""

    def in_child() -> None:
        me.becomes("child")
        me.make()

    os.register_at_fork(
        before=me.make, after_in_parent=me.make, after_in_child=in_child
    )
    start()
    me.make()
    pid = os.fork()
    if pid:
        wait(pid)


def many_generations() -> None:
    """Eight generations, each of which makes records and has one child."""
    start()
    for generation in range(8):
        me.make()
        pid = os.fork()
        if pid:
            wait(pid)
            return
        me.becomes(f"generation {generation}")
    me.make()


def exec_in_child() -> None:
    """A child makes records, secures them and becomes another program."""
    start()
    me.make()

    def child() -> None:
        me.make()
        fo.flush(10.0).unwrap()
        me.tell()
        os.execv(sys.executable, [sys.executable, "-c", "pass"])  # noqa: S606 - the point

    wait(fork(child))
    me.make()


def shutdown_in_child() -> None:
    """What a child shuts down is its own."""
    start()
    me.make()

    def child() -> None:
        fo.shutdown()

    def later_child() -> None:
        me.make()
        fo.shutdown(20.0).unwrap()

    wait(fork(child, "idle"), fork(later_child))
    me.make()


# -- scenarios of multiprocessing


def work_as(who: str) -> None:
    """Target of a process of multiprocessing."""
    me.becomes(who)
    # After our finalizer, whose priority is higher.
    util.Finalize(None, me.tell, exitpriority=1)
    if not fo.status().running:
        start()
    me.make()


def processes(method: str) -> None:
    """Two children of that start method."""
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([])
    start()
    me.make()
    children = [context.Process(target=work_as, args=(f"child {n}",)) for n in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            say(f"TROUBLE exit code {child.exitcode}")
    me.make()


def mp_fork() -> None:
    """Children of fork."""
    processes("fork")


def mp_spawn() -> None:
    """Children of spawn, which call setup themselves."""
    processes("spawn")


def mp_forkserver() -> None:
    """Children of forkserver, which call setup themselves."""
    processes("forkserver")


def mp_forkserver_preloaded() -> None:
    """Children of a fork server in which setup was called already."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preloaded"])
    os.environ["FAMILY_SETUP"] = sys.argv[2]
    processes_of = [
        context.Process(target=work_preloaded, args=(f"child {n}",)) for n in (1, 2)
    ]
    start()
    me.make()
    for child in processes_of:
        child.start()
    for child in processes_of:
        child.join()
        if child.exitcode:
            say(f"TROUBLE exit code {child.exitcode}")


def work_preloaded(who: str) -> None:
    """Target where setup was called by whoever forked us."""
    if not fo.status().running:
        say("TROUBLE the fork server did not call setup")
    work_as(who)


def pool_work(number: int) -> int:
    """Make one record per task; who makes it is whoever gets the task."""
    with fo.flext_span("op", {"who": "pool", "n": number}):
        log.info("line", extra={"who": "pool", "n": number})
    return os.getpid()


def mp_pool() -> None:
    """A pool ends its workers by SIGTERM; 40 tasks."""
    start()
    me.make()
    context: Any = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        pool.map(pool_work, range(40), chunksize=1)
    say(f"POOL {40}")


def executor() -> None:
    """Workers of a ProcessPoolExecutor; 40 tasks."""
    start()
    me.make()
    context: Any = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as workers:
        list(workers.map(pool_work, range(40)))
    say(f"POOL {40}")


# -- locks


class Noise:
    """Threads that make records as fast as they may, so that every lock is in use."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.spans = self.logs = 0
        self._threads = [
            threading.Thread(target=work)
            for work in (self._make_spans, self._make_logs, self._ask)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _make_spans(self) -> None:
        # A few at a time: all of them must be found at the collector later.
        while not self._stop.wait(0.003):
            for number in range(self.spans, self.spans + 10):
                with fo.flext_span("noise", {"n": number}):
                    self.spans = number + 1

    def _make_logs(self) -> None:
        while not self._stop.wait(0.003):
            for number in range(self.logs, self.logs + 10):
                log.info("noise", extra={"n": number})
                self.logs = number + 1

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            fo.status()
            fo.flush(0.002)


def locks() -> None:
    """200 forks while threads record, flush and ask; every other child records too."""
    start_slow()
    ends = (me.make, _do_nothing, _make_and_leave, _do_nothing)
    with Noise() as noise:
        running: list[int] = []
        for number in range(200):
            running.append(fork(ends[number % len(ends)], _name()))
            if len(running) == 5:
                wait(running.pop(0))
        wait(*running)
    say(f"NOISE {noise.spans} {noise.logs}")


def _do_nothing() -> None:
    """End without a record."""
    os._exit(0)


_names = iter(range(10_000))


def _name() -> str:
    return f"child {next(_names)}"


def _make_and_leave() -> None:
    me.make()
    leave()


def life() -> None:
    """40 forks while another thread calls setup and shutdown again and again."""
    start_slow()
    stop = threading.Event()

    def churn() -> None:
        fields = json.loads(sys.argv[2])
        for turn in range(10_000):
            if stop.is_set():
                return
            fo.setup("family", **{**fields, "metrics_export_interval_s": 50 + turn % 2})
            if turn % 3 == 0:
                fo.shutdown(1.0)

    thread = threading.Thread(target=churn)
    thread.start()
    for _ in range(40):

        def child() -> None:
            start()
            me.make(2)
            # Not sys.exit: the fork may have happened inside any call of the program.
            leave()

        wait(fork(child, _name()))
    stop.set()
    thread.join()
    start()


# -- who owns the directory


def wait_for_line() -> str:
    """Read a line of standard input, without a buffer that a fork would copy."""
    line = b""
    while not line.endswith(b"\n"):
        found = os.read(0, 1)
        if not found:
            break
        line += found
    return line.decode().strip()


def owner() -> None:
    """Make records, have children of every kind, then wait to be stopped."""
    start()
    me.make(50)

    def idle() -> None:
        return

    def used() -> None:
        me.make()

    def used_and_left() -> None:
        me.make()
        leave()

    def left() -> None:
        os._exit(0)

    def became_another() -> None:
        os.execv(sys.executable, [sys.executable, "-c", "pass"])  # noqa: S606 - the point

    for who, work in (
        ("idle", idle),
        ("used", used),
        ("used and left", used_and_left),
        ("left", left),
        ("another", became_another),
    ):
        wait(fork(work, who))
    context: Any = multiprocessing.get_context("fork")
    process = context.Process(target=work_as, args=("mp",))
    process.start()
    process.join()
    _leave_survivors()
    say("READY")
    signal.pause()


def _leave_survivors() -> None:
    """Children and a program that outlive us: they must not keep our directory."""

    def idle() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(60)

    def used() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        me.make()
        fo.flush(0.2)
        say("USED")
        time.sleep(60)

    pids = [fork(idle, "survivor"), fork(used, "used survivor")]
    program = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False
    )
    say(f"SURVIVORS {' '.join(map(str, [*pids, program.pid]))}")


def late() -> None:
    """Another process of the service: makes records, and stays for what it adopts.

    That takes a moment, and on a busy machine some more.
    """
    me.becomes("late")
    start()
    me.make()
    began = time.monotonic()
    while time.monotonic() - began < (12 if _dead_are_left() else 3):
        time.sleep(0.05)


def _dead_are_left() -> bool:
    """Whether directories of dead processes wait for somebody to take them over."""
    folder = Path(json.loads(sys.argv[2])["spool_dir"])
    locks = folder.glob("*/v1/*/lock")
    pids = {int(lock.parent.name.rsplit("-", 2)[1]) for lock in locks}
    return not all(map(_is_alive, pids))


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def crowd() -> None:
    """Fork children that several threads use first, all at the same moment."""
    start()
    me.make()
    for number in range(12):
        wait(fork(_crowd, f"crowd {number}"))


def _crowd() -> None:
    together = threading.Barrier(8)

    def work(number: int) -> None:
        together.wait()
        with fo.flext_span("op", {"who": me.who, "n": number}):
            log.info("line", extra={"who": me.who, "n": number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    me.made = len(threads)


def early_thread() -> None:
    """A fork hook has a thread use telemetry first, while later hooks still run."""

    def work(number: int) -> None:
        with fo.flext_span("op", {"who": me.who, "n": number}):
            log.info("line", extra={"who": me.who, "n": number})

    threads: list[threading.Thread] = []

    def in_child() -> None:
        me.becomes("child")
        threads.append(threading.Thread(target=work, args=(0,)))
        threads[0].start()
        state = importlib.import_module("flext_observability.runtime").state
        while state.is_asleep and not state._is_awaking:
            time.sleep(0.001)

    os.register_at_fork(after_in_child=in_child)
    start()  # loads what has fork hooks of its own: they run after this one
    me.make()
    pid = os.fork()
    if pid:
        wait(pid)
        return
    work(1)
    threads[0].join()
    me.made = 2


def fork_while_awaking() -> None:
    """A child forks again while another thread of it builds its pipeline."""
    start()
    me.make()
    state = importlib.import_module("flext_observability.runtime").state
    pid = os.fork()
    if pid:
        wait(pid)
        return
    me.becomes("child")
    is_building, may_go_on = threading.Event(), threading.Event()
    build = state._start_like

    def build_slowly(parents: Any) -> None:
        is_building.set()
        may_go_on.wait(10)
        build(parents)

    state._start_like = build_slowly
    thread = threading.Thread(target=me.make)
    thread.start()
    is_building.wait(10)
    pid = os.fork()
    if not pid:
        state._start_like = build
        me.becomes("grandchild")
        me.make()
        return
    may_go_on.set()
    thread.join()
    wait(pid)


# -- what an unused child costs


def idle_child() -> None:
    """A child that never uses telemetry: its files, threads and descriptors."""
    start()
    me.make()
    fo.flush(10.0).unwrap()
    folder = Path(str(fo.status().spool_dir or "/nonexistent"))
    before = _files(folder)
    ours = {name for name in _open_files() if "spool" in name}
    reader, writer = os.pipe()
    began = time.perf_counter_ns()
    pid = os.fork()
    if pid == 0:
        me.becomes("idle")
        hook_us = (time.perf_counter_ns() - began) // 1000
        still = {name for name in _open_files() if "spool" in name}
        found = {
            "threads": threading.active_count(),
            "tasks": _tasks_left(),
            "open": sorted(still),
            "appeared": sorted(_files(folder) - before),
            "fork_us": hook_us,
        }
        os.write(writer, json.dumps(found).encode())
        sys.exit(0)
    os.close(writer)
    told = json.loads(os.read(reader, 65536))
    wait(pid)
    appeared = sorted(_files(folder) - before)
    say("IDLE " + json.dumps({**told, "left": appeared, "ours": sorted(ours)}))


def _tasks_left(within_s: float = 2.0) -> int:
    """How many threads the kernel knows; it may take that long to forget one.

    The SDK's fork hook asks the resource detectors in a thread and waits for its end in
    Python, which comes a moment before its end in the kernel.
    """
    deadline = time.monotonic() + within_s
    while True:
        count = len(list(Path("/proc/self/task").iterdir()))
        if count == 1 or time.monotonic() > deadline:
            return count
        time.sleep(0.005)


# -- what is imported when


class ImportSpy:
    """Notes what is looked for among the modules, and by whom."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def find_spec(self, name: str, *_place: object) -> None:
        """Find nothing."""
        self.found.append(f"{name} in {threading.current_thread().name}")


def imports() -> None:
    """Use everything once after setup; what is imported then?"""
    start()
    spy = ImportSpy()
    sys.meta_path.insert(0, spy)
    me.make()
    fo.flext_counter("count").add(1)
    fo.flext_gauge("gauge").set(1)
    fo.flext_histogram("histogram").record(1)
    fo.get_logger("other").info("line of another logger")
    fo.flext_monitor_function("named")(len)("")
    with fo.flext_correlation_scope("id"):
        headers = fo.flext_inject_headers({}).unwrap()
    with fo.flext_extract_headers(headers):
        fo.flext_add_attributes(n=1)
    fo.flush(10.0).unwrap()
    fo.shutdown(20.0).unwrap()
    sys.meta_path.remove(spy)
    say("IMPORTS " + json.dumps(spy.found))


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _open_files() -> list[str]:
    found: list[str] = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(path.readlink()))
    return found


SCENARIOS: dict[str, Callable[[], None]] = {
    work.__name__: work
    for work in (
        *(
            before_setup,
            after_setup,
            os_exit,
            os_exit_at_once,
            both_call_setup,
            double,
            double_idle,
        ),
        *(in_a_span, from_a_thread, fork_hooks, many_generations, exec_in_child),
        *(shutdown_in_child, mp_fork, mp_spawn, mp_forkserver),
        *(mp_forkserver_preloaded, mp_pool, executor, locks, life, owner, late, crowd),
        *(early_thread, fork_while_awaking, idle_child, imports),
    )
}


if __name__ == "__main__":
    # Before setup(): exit functions run backwards, so this one sees the last ledger.
    atexit.register(me.tell)
    SCENARIOS[sys.argv[1]]()
