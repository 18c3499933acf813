"""R25: setup and shutdown in any order and number leave one pipeline or none.

A child counts its own threads, descriptors and directories, so that nothing of the
test process is counted with them.
"""

import logging
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from tests.conftest import library_threads, serving
from tests.faults.rig import wait_until
from tests.fixtures.collector import Collector, Protocol, closed_port
from tests.fixtures.library import assert_balanced, emit_all, flush, start
from tests.fixtures.programs import run_program

LEAK = 2
CROWD = 50

PROGRAM = """
import logging, os, pathlib, sys, threading, time
import flext_observability as fo

endpoint, protocol, spool_dir = sys.argv[1:4]
settings = dict(endpoint=endpoint, protocol=protocol, spool_dir=spool_dir)
log = logging.getLogger("cycles")
log.addHandler(logging.NullHandler())

def emit(n):
    with fo.flext_span("cycle", {"n": n}):
        log.warning("cycle")
    fo.flext_counter("cycles").add(1)

def usage():
    "Threads of Python, tasks of the system, open files."
    tasks = len(os.listdir("/proc/self/task"))
    return threading.active_count(), tasks, len(os.listdir("/proc/self/fd"))

def grown(before):
    "What there is more of; threads of others may take a moment to end."
    end = time.monotonic() + 3
    while True:
        more = [now - then for now, then in zip(usage(), before)]
        if max(more) <= 2 or time.monotonic() > end:
            return more
        time.sleep(0.05)

def directories():
    folders = pathlib.Path(spool_dir).glob("*/v1/*")
    return sorted(f.name for f in folders if f.name != "rejected")

def balance():
    for name, l in fo.status().signals.items():
        settled = l.delivered + l.rejected + sum(l.dropped.values())
        assert l.accepted == settled + l.pending, (name, l)
"""


def run_cycles(rest: str, collector: Collector, spool_dir: Path) -> list[str]:
    """Run the program with that end; give what it printed."""
    ended = run_program(
        PROGRAM + textwrap.dedent(rest),
        *(collector.endpoint, collector.protocol, str(spool_dir)),
        timeout_s=100,
    ).ok()
    assert ended.stderr == ""
    return ended.lines


@pytest.mark.parametrize("cycles", [25, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "durability", ["batch", pytest.param("memory", marks=pytest.mark.slow)]
)
def test_cycles(
    collector: Collector,
    durability: str,
    cycles: int,
    tmp_path: Path,
    figure: Callable[..., None],
) -> None:
    """Cycles deliver all they made and leave threads and files as they were."""
    (line,) = run_cycles(
        f"""
        for n in range({cycles} + 5):
            if n == 5:  # what is loaded and kept at the first use is there now
                before = usage()
            fo.setup("shop", durability={durability!r}, **settings).unwrap()
            emit(n)
            assert fo.shutdown(10.0).success
            balance()
            assert not directories(), directories()
        print(*grown(before))
        """,
        collector,
        tmp_path / "cycles",
    )
    threads, tasks, files = map(int, line.split())
    figure(
        "R25",
        protocol=collector.protocol.partition("/")[0],
        mode=durability,
        cycles=cycles,
        threads=f"{threads:+}",
        fds=f"{files:+}",
    )
    assert max(threads, tasks, files) <= LEAK, line
    numbers = [span.attributes["n"] for span in collector.spans("cycle")]
    assert numbers == [*range(cycles + 5)]
    assert len(collector.logs("cycle")) == cycles + 5


@pytest.mark.parametrize(
    "protocol", ["http/protobuf", pytest.param("grpc", marks=pytest.mark.slow)]
)
def test_cycles_in_an_outage(
    protocol: Protocol, tmp_path: Path, figure: Callable[..., None]
) -> None:
    """Cycles that deliver nothing leak nothing; the first after it delivers it all."""
    spool_dir = tmp_path / "outage"
    port = closed_port()
    ended = run_program(
        PROGRAM
        + """
for n in range(20):
    if n == 5:
        before = usage()
    fo.setup("shop", durability="batch", exit_budget_s=0.05, **settings).unwrap()
    emit(n)
    assert fo.shutdown().is_failure
    balance()
print(len(directories()), *grown(before))
""",
        *(f"http://127.0.0.1:{port}", protocol, str(spool_dir)),
    ).ok()
    assert "Traceback" not in ended.stderr
    left, *leaked = map(int, ended.stdout.split())
    with serving(protocol, port=port) as collector:
        lines = run_cycles(
            """
            import time
            fo.setup("shop", durability="batch", **settings).unwrap()
            end = time.monotonic() + 15
            ledger = lambda: fo.status().signals["traces"]
            while ledger().delivered < 20 and time.monotonic() < end:
                time.sleep(0.02)
            fo.shutdown(10.0).unwrap()
            balance()
            print(ledger().adopted, ledger().delivered, len(directories()))
            """,
            collector,
            spool_dir,
        )
        numbers = [span.attributes["n"] for span in collector.spans("cycle")]
    figure(
        "R25",
        protocol=protocol.partition("/")[0],
        cycles_in_outage=20,
        directories=left,
        delivered_later=len(numbers),
    )
    assert lines == ["20 20 0"]
    assert sorted(numbers) == [*range(20)]
    assert 1 <= left <= 20
    assert max(leaked) <= LEAK, leaked


@pytest.mark.parametrize(
    "durability", ["batch", pytest.param("memory", marks=pytest.mark.slow)]
)
def test_setup_again_and_again(
    collector: Collector,
    durability: str,
    tmp_path: Path,
    figure: Callable[..., None],
) -> None:
    """Exchanged settings, without a shutdown between them, leak nothing either."""
    (line,) = run_cycles(
        f"""
        for n in range(30):
            if n == 10:
                before = usage()
            name = ("shop", "shelf")[n % 2]
            fo.setup(name, durability={durability!r}, **settings).unwrap()
            emit(n)
        more = grown(before)
        fo.shutdown(10.0).unwrap()
        balance()
        assert not directories(), directories()
        print(*more)
        """,
        collector,
        tmp_path / "exchange",
    )
    threads, tasks, files = map(int, line.split())
    figure(
        "R25", exchanges=30, mode=durability, threads=f"{threads:+}", fds=f"{files:+}"
    )
    assert max(threads, tasks, files) <= LEAK, line
    assert sorted(s.attributes["n"] for s in collector.spans("cycle")) == [*range(30)]


# -- many threads at once


def crowd(call: Callable[[int], object], size: int = CROWD) -> list[object]:
    """Call it from many threads at the same moment; give results and errors."""
    found: list[object] = []
    barrier = threading.Barrier(size)

    def one(number: int) -> None:
        barrier.wait(20)
        try:
            found.append(call(number))
        except BaseException as error:  # noqa: BLE001 - that is the finding
            found.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"
    return found


def own_directories(spool_dir: Path) -> list[Path]:
    """The directories of processes, delivered or not."""
    return [path for path in spool_dir.glob("*/v1/*") if path.name != "rejected"]


@pytest.mark.parametrize("durability", ["memory", "batch", "record"])
def test_setup_from_many_threads(
    http_collector: Collector,
    durability: str,
    tmp_path: Path,
    figure: Callable[..., None],
) -> None:
    """Fifty threads that call setup at once get one pipeline, and use it at once."""
    spool_dir = tmp_path / "crowd"

    def work(number: int) -> bool:
        handle = start(http_collector, durability=durability, spool_dir=spool_dir)
        with handle.tracer.start_as_current_span("crowd", attributes={"n": number}):
            logging.getLogger("crowd").warning("crowd")
        fo.flext_counter("crowd").add(1)
        return handle.status().running

    assert crowd(work) == [True] * CROWD
    threads = library_threads()
    assert len(threads) == len(set(threads)), threads
    assert len(own_directories(spool_dir)) == (durability != "memory")
    flush(10.0)
    figure("R25", crowd=CROWD, mode=durability, threads=len(threads))
    numbers = sorted(s.attributes["n"] for s in http_collector.spans("crowd"))
    assert numbers == [*range(CROWD)]
    assert len(http_collector.logs("crowd")) == CROWD
    assert http_collector.metric("crowd").value == CROWD
    assert_balanced()


def is_one_pipeline() -> bool:
    """Whether no thread of ours runs twice."""
    threads = library_threads()
    return len(threads) == len(set(threads))


def test_different_setups_from_many_threads(http_collector: Collector) -> None:
    """When their settings differ, one of them is in force, and nothing is lost."""

    def work(number: int) -> bool:
        start(http_collector, f"shop {number}", durability="batch")
        with fo.flext_span("crowd", {"n": number}):
            return True

    assert crowd(work, 12) == [True] * 12
    assert fo.status().service_name.startswith("shop ")
    flush(10.0)
    wait_until(is_one_pipeline)  # threads of the others may take a moment to end
    numbers = sorted(s.attributes["n"] for s in http_collector.spans("crowd"))
    assert numbers == [*range(12)]
    assert_balanced()


@pytest.mark.parametrize("durability", ["memory", "batch"])
def test_shutdown_from_many_threads(collector: Collector, durability: str) -> None:
    """Every one of many shutdowns succeeds; the records of all arrive once."""
    start(collector, durability=durability)
    for _ in range(100):
        emit_all("last")
    results: list[Any] = crowd(lambda _: fo.shutdown(10.0))
    assert [result.success for result in results] == [True] * CROWD
    assert not fo.status().running
    assert len(collector.spans("last")) == 100
    assert len(collector.logs("last")) == 100
    assert_balanced()


@pytest.fixture
def busy() -> Iterator[list[BaseException]]:
    """Three threads that make telemetry all the time; what it raised in them."""
    raised: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.0005):
            try:
                emit_all("busy")
                fo.status()
            except BaseException as error:  # noqa: BLE001 - that is the finding
                raised.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield raised
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("durability", ["memory", "batch"])
def test_any_order_at_once(
    http_collector: Collector, durability: str, busy: list[BaseException]
) -> None:
    """Setup, flush and shutdown from many threads, under load: no error, no hang."""

    def work(number: int) -> bool:
        calls: tuple[Callable[[], Any], ...] = (
            lambda: fo.setup(
                f"shop {number % 3}",
                endpoint=http_collector.endpoint,
                protocol="http/protobuf",
                durability=durability,
            ),
            lambda: fo.flush(2.0),
            lambda: fo.shutdown(2.0),
            fo.status,
        )
        for step in range(6):
            calls[(number + step) % len(calls)]()
        return True

    assert crowd(work, 12) == [True] * 12
    assert busy == []
    fo.shutdown(10.0)
    assert not fo.status().running
    assert_balanced()
    wait_until(lambda: not library_threads())


# -- too early, too late, twice


def test_use_before_setup(http_collector: Collector) -> None:
    """Before setup, everything may be called; objects kept from then work after it."""
    before = library_threads()

    @fo.flext_monitor_function("early")
    def monitored() -> int:
        return 7

    counter, logger = fo.flext_counter("early"), fo.get_logger("early")
    emit_all("early")
    counter.add(1)
    assert monitored() == 7
    assert fo.flush().success
    assert fo.shutdown(20.0).success
    status = fo.status()
    assert not status.running
    assert not status.ready
    assert_balanced()
    assert library_threads() == before

    start(http_collector)
    assert monitored() == 7
    counter.add(2)
    logger.info("kept logger")
    flush()
    assert [span.name for span in http_collector.spans()] == ["early"]
    assert http_collector.metric("early").value == 2
    assert len(http_collector.logs()) == 1
    assert_balanced()


@pytest.mark.parametrize("durability", ["memory", "batch", "record"])
def test_use_after_shutdown(
    http_collector: Collector, durability: str, tmp_path: Path
) -> None:
    """After shutdown, calls do nothing; what began before it is counted as dropped."""
    spool_dir = tmp_path / "late"
    handle = start(http_collector, durability=durability, spool_dir=spool_dir)
    counter, tracer = fo.flext_counter("late"), handle.tracer
    emit_all("in time")
    open_span = tracer.start_span("still open")
    fo.shutdown(10.0).unwrap()
    open_span.end()
    for _ in range(3):
        emit_all("late")
        counter.add(1)
        tracer.start_span("late").end()
        assert fo.flush().success
        assert fo.shutdown(20.0).success
    status = fo.status()
    assert not status.running
    assert not status.ready
    assert status.signals["traces"].dropped in ({}, {"exit": 1})
    assert not own_directories(spool_dir)
    assert {s.name for s in http_collector.spans()} == {"in time"}
    assert {log.body for log in http_collector.logs()} == {"in time"}
    assert_balanced()


def test_equal_setup_changes_nothing(http_collector: Collector) -> None:
    """A second setup with the same settings keeps the pipeline and its ledger."""
    start(http_collector, durability="batch")
    emit_all("kept")
    flush()
    threads = {t.ident for t in threading.enumerate() if t.name.startswith("flext")}
    accepted = fo.status().signals["traces"].accepted
    for _ in range(100):
        start(http_collector, durability="batch")
    assert fo.status().signals["traces"].accepted == accepted
    now = {t.ident for t in threading.enumerate() if t.name.startswith("flext")}
    assert now == threads
    assert_balanced()
