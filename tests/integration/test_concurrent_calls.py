"""Monitored calls in many threads at once: nothing is lost or counted twice."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import pytest
from opentelemetry import trace

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import run_program

THREADS = 8
DURATION = "flext.operation.duration"


def in_threads(work: Callable[[], None], count: int = THREADS) -> None:
    """Do it in that many threads at once; fail when it fails in one."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it must reach the test
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def assert_counted(
    collector: Collector, name: str, succeeded: int, failed: int
) -> None:
    """The latest collection has exactly that many calls."""
    flush()
    labels = {"flext.operation.name": name}
    points = collector.metrics(DURATION, **labels)
    by_outcome: dict[str, int] = {}
    for point in points:  # cumulative: the newest one of each outcome counts
        by_outcome[point.attributes.get("error.type", "")] = point.count
    assert by_outcome.get("", 0) == succeeded
    assert sum(by_outcome.values()) - by_outcome.get("", 0) == failed


def calls_with_everything_going_on(collector: Collector, calls: int) -> None:
    """Call from all threads, while others flush, look and collect."""
    start(collector, sample_ratio=0.5)

    @fo.flext_monitor_function("work")
    def work(number: int) -> int:
        if number % 10 == 9:
            raise ValueError(number)
        return number

    stop = threading.Event()

    def meanwhile() -> None:
        while not stop.is_set():
            fo.flush(0.2)
            assert fo.status().running
            time.sleep(0.01)

    def many() -> None:
        for number in range(calls):
            with suppress(ValueError):
                work(number)

    watcher = threading.Thread(target=meanwhile)
    watcher.start()
    in_threads(many)
    stop.set()
    watcher.join()
    total = THREADS * calls
    assert_counted(collector, "work", total - total // 10, total // 10)
    ledger = fo.status().signals["traces"]
    assert_balanced("traces")
    assert not ledger.pending
    assert len(collector.spans("work")) == ledger.delivered
    assert ledger.accepted == ledger.delivered + sum(ledger.dropped.values())


def test_totals(http_collector: Collector) -> None:
    """Eight threads, flushes and collections: totals are exact, the ledger balances."""
    calls_with_everything_going_on(http_collector, 2_000)


def test_many_totals(http_collector: Collector) -> None:
    """The same with 100,000 calls in each thread."""
    start(http_collector, sample_ratio=0.02)

    @fo.flext_monitor_function("work")
    def work() -> None:
        pass

    def many() -> None:
        for _ in range(100_000):
            work()

    in_threads(many)
    assert_counted(http_collector, "work", THREADS * 100_000, 0)
    assert_balanced("traces")


def test_exchanges_under_load(http_collector: Collector) -> None:
    """Setups in the middle: every call is counted, every span is somewhere known."""
    start(http_collector, resource_attributes={"round": "first"})

    @fo.flext_monitor_function("work")
    def work() -> bool:
        with fo.flext_span("inside"):
            return trace.get_current_span().is_recording()

    stop = threading.Event()
    done: list[int] = []

    def many() -> None:
        count = 0
        while not stop.is_set():
            assert work()
            count += 1
            if not count % 20:
                time.sleep(0.001)  # a burst that is dropped is another test's
        done.append(count)

    def exchange() -> None:
        for number in range(6):
            start(http_collector, resource_attributes={"round": str(number)})
            time.sleep(0.05)
        stop.set()

    threads = threading.Thread(target=exchange)
    threads.start()
    in_threads(many, 4)
    threads.join()
    flush()
    calls = sum(done)
    last: dict[str, int] = {}
    for point in http_collector.metrics(DURATION, **{"flext.operation.name": "work"}):
        last[point.resource["round"]] = point.count  # cumulative in its pipeline
    assert sum(last.values()) == calls
    assert len(http_collector.spans("work")) == calls
    assert len(http_collector.spans("inside")) == calls
    assert_balanced("traces", "metrics")


def test_ended_elsewhere(http_collector: Collector) -> None:
    """A span may end in another thread than it began in."""
    start(http_collector)
    tracer = trace.get_tracer("lib")
    spans = [tracer.start_span(f"span {n}") for n in range(200)]
    rest = iter(spans)
    lock = threading.Lock()

    def take() -> None:
        while True:
            with lock:
                span = next(rest, None)
            if span is None:
                return
            span.set_attribute("thread", threading.get_ident())
            span.end()

    in_threads(take)
    flush()
    assert len(http_collector.spans()) == 200
    assert_balanced("traces")


def test_ended_twice_at_once(http_collector: Collector) -> None:
    """A span that several threads end at the same moment is delivered once."""
    start(http_collector)
    tracer = trace.get_tracer("lib")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            span = tracer.start_span("op")
            gate = threading.Barrier(3)

            def end(span: trace.Span = span, gate: threading.Barrier = gate) -> None:
                gate.wait()
                span.end()

            in_threads(end, 3)
    finally:
        sys.setswitchinterval(interval)
    flush()
    assert len(http_collector.spans("op")) == 300
    assert fo.status().signals["traces"].accepted == 300


FORK = """
import os, sys, threading
import flext_observability as fo

fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()

@fo.flext_monitor_function("work")
def work(who):
    return who

stop = threading.Event()
def busy():
    while not stop.is_set():
        work("thread")

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()

@fo.flext_monitor_function("forks")
def forks():
    pid = os.fork()
    if pid:
        return pid
    for _ in range(100):
        with fo.flext_span("in the child"):
            pass
    assert fo.flush(5).success
    ledger = fo.status().signals["traces"]
    assert ledger.accepted == ledger.delivered >= 100, ledger
    os._exit(0)

codes = []
for _ in range(3):
    pid = forks()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
assert codes == [0, 0, 0], codes
assert fo.flush(10).success
ledger = fo.status().signals["traces"]
assert ledger.accepted == ledger.delivered + sum(ledger.dropped.values()), ledger
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forks_in_the_middle(http_collector: Collector) -> None:
    """Children forked inside a monitored call, under load, lose nothing of theirs."""
    run_program(FORK, http_collector.endpoint).ok()
    assert len(http_collector.spans("in the child")) == 300
    assert len(http_collector.spans("forks")) == 3


class InterruptError(Exception):
    """What a signal handler raises."""


# It may also raise in a callback of the interpreter's, which only reports it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
@pytest.mark.parametrize("is_nested", [False, True])
def test_raising_signal_handlers(
    http_collector: Collector,
    is_nested: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A handler may raise at any moment of a call: its span is current no more.

    The exception is the host's and comes out; the ledger balances, and work goes on.
    """
    start(http_collector)
    tracer = trace.get_tracer("lib")

    @fo.flext_monitor_function("work")
    def work() -> None:
        if is_nested:
            with fo.flext_span("inside"), tracer.start_as_current_span("plain"):
                pass

    raised, caught, outermost = 0, 0, trace.get_current_span()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        raised += 1
        raise InterruptError

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        deadline = time.monotonic() + 3
        while raised < 300 and time.monotonic() < deadline:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + (raised % 50) * 2e-6)
                for _ in range(100):
                    work()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptError:
                caught += 1
                assert trace.get_current_span() is outermost
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert raised >= 50
    # Not all: the wait for the writer, and what may raise by itself (values of spans,
    # readers of metrics), keep some.
    assert caught >= raised / 2
    flush()
    ended = len(http_collector.spans("work"))
    work()
    flush()
    assert len(http_collector.spans("work")) == ended + 1
    assert not fo.status().signals["traces"].pending
    assert_balanced("traces")
