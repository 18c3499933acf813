"""Telemetry made in the middle of telemetry: signals, finalizers, forks, handlers."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import flext_observability as fo
from tests.conftest import library_threads
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import Ended, run_program

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="signals and forks as Unix has them"
)

# Ends a program that hangs, with the place where it does on stderr.
WATCHDOG = """
import faulthandler, os, sys
faulthandler.dump_traceback_later(15, exit=True)
"""


def run_watched(source: str, *args: str, **env: str) -> Ended:
    """Run a program that is ended with its stacks when it hangs."""
    # Not measured: coverage's own files and locks are neither reentrant nor fork-safe.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    return run_program(WATCHDOG + source, *args, env={**unmeasured, **env}).ok()


def test_signal_handler_that_records(http_collector: Collector) -> None:
    """A signal handler may record anything wherever it interrupts us; nothing hangs."""
    done = run_watched(
        """
import logging, random, signal, time
import flext_observability as fo
fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()
fo.flext_span, fo.flext_counter  # loaded: Python's own import is not reentrant
handled = 0

def handler(*_):
    global handled
    handled += 1
    with fo.flext_span("in the handler"):
        logging.getLogger("shop").warning("in the handler")
    fo.flext_counter("handled").add(1)

signal.signal(signal.SIGALRM, handler)
end, plain = time.monotonic() + 1.0, 0
while time.monotonic() < end:
    # Armed again by this loop only: never two handlers at once.
    signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 2e-4))
    for _ in range(3):
        with fo.flext_span("plain"):
            pass
        plain += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(handled, plain, fo.flush(10.0).success, fo.shutdown(5.0).success)
""",
        http_collector.endpoint,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="64",
    )
    handled, plain, flushed, closed = done.stdout.split()
    assert (flushed, closed) == ("True", "True"), done.stdout
    assert len(http_collector.spans("plain")) == int(plain)
    assert len(http_collector.spans("in the handler")) == int(handled) > 10
    assert http_collector.metric("handled").value == int(handled)


def test_finalizer_that_records(http_collector: Collector) -> None:
    """A finalizer that the garbage collector runs in the midst of us may record."""
    done = run_watched(
        """
import gc, logging, time
import flext_observability as fo
fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()
fo.flext_span, fo.get_logger  # loaded: Python's own import is not reentrant
ended = 0

class Resource:
    def __init__(self):
        self.itself = self

    def __del__(self):
        global ended
        ended += 1
        with fo.flext_span("finalized"):
            pass
        fo.get_logger("shop").info("finalized")

sys.stderr = None
gc.set_threshold(3)
end, plain = time.monotonic() + 1.0, 0
while time.monotonic() < end:
    Resource()
    with fo.flext_span("plain"):
        fo.flext_counter("plain").add(1)
    plain += 1
gc.collect()
print(ended, plain, fo.flush(10.0).success)
""",
        http_collector.endpoint,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="64",
    )
    ended, plain, flushed = done.stdout.split()
    assert flushed == "True"
    assert int(ended) > 10
    assert len(http_collector.spans("plain")) == int(plain)
    assert len(http_collector.spans("finalized")) == int(ended)


def test_signal_while_a_line_is_written() -> None:
    """A handler that logs while stderr blocks does not lock the program up."""
    done = run_watched(
        """
import signal, threading, time
import flext_observability as fo
log = fo.get_logger("shop")
reading, writing = os.pipe()
sys.stderr = os.fdopen(writing, "w", buffering=1)
signal.signal(signal.SIGUSR1, lambda *_: log.warning("SIGUSR1 received"))

def kick():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.3)
    while os.read(reading, 1 << 16):
        pass

threading.Thread(target=kick, daemon=True).start()
for _ in range(20):
    log.info("y" * 15_000)
print("fine", flush=True)
os._exit(0)
"""
    )
    assert done.stdout == "fine\n"


def test_fork_while_others_write_lines() -> None:
    """A child forked while other threads write lines can write its own."""
    done = run_watched(
        """
import signal, threading
import flext_observability as fo
fo.setup("shop", exporters=["none"]).unwrap()
log = fo.get_logger("shop")

def hammer():
    while True:
        log.info("x" * 200)

for _ in range(2):
    threading.Thread(target=hammer, daemon=True).start()
hung = 0
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(3)
        log.info("child")
        os._exit(0)
    hung += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
print("hung", hung, flush=True)
os._exit(0)
"""
    )
    assert done.stdout == "hung 0\n"


def test_span_that_is_open_over_a_fork() -> None:
    """A span that was open at a fork may end in the child, whoever held what lock."""
    done = run_watched(
        """
import signal, threading
import flext_observability as fo
fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()

def hammer():
    while True:
        with fo.flext_span("hammer"):
            pass

for _ in range(3):
    threading.Thread(target=hammer, daemon=True).start()
hung = 0
for _ in range(25):
    with fo.flext_span("request"):
        pid = os.fork()
        if pid == 0:
            signal.alarm(3)
    if pid == 0:
        os._exit(0)
    hung += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
print("hung", hung, flush=True)
os._exit(0)
""",
        f"http://127.0.0.1:{closed_port()}",
    )
    assert done.stdout == "hung 0\n"


def test_settings_hold_in_a_child_from_the_start() -> None:
    """A child's first request and first line follow the settings of its parent."""
    done = run_watched(
        """
import flext_observability as fo
fo.setup(
    "shop",
    exporters=["memory"],
    correlation_id_header="X-Request-ID",
    log_level="ERROR",
).unwrap()
pid = os.fork()
if pid == 0:
    sys.stderr = sys.stdout
    fo.get_logger("shop").info("below the level")
    for _ in range(2):
        with fo.flext_extract_headers({"x-request-id": "req-7"}) as correlation_id:
            print(correlation_id)
        with fo.flext_span("awake"):
            pass
    print(fo.status().running, flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    )
    assert done.lines == ["req-7", "req-7", "True"]


def test_otel_decorator_in_a_child_and_after_a_restart() -> None:
    """A tracer's decorator follows the pipeline into a child and over a restart."""
    done = run_watched(
        """
import flext_observability as fo
handle = fo.setup("shop", exporters=["memory"]).unwrap()

@handle.tracer.start_as_current_span("decorated")
def work():
    pass

pid = os.fork()
if pid == 0:
    with fo.flext_span("own"):
        pass
    work()
    print([span.name for span in handle.memory.spans], flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
fo.shutdown()
fo.setup("shop", exporters=["memory"]).unwrap()
work()
print([span.name for span in handle.memory.spans])
"""
    )
    assert done.lines == ["['own', 'decorated']", "['decorated']"]


class Refusal(logging.Filter):
    """A filter of the host that fails on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError(f"the host's filter fails: {record.getMessage()[:20]}")


def test_host_filter_that_raises_on_our_notices(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notices that the host's logging cannot take stop neither call nor delivery."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "5")
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    endpoint = f"http://127.0.0.1:{closed_port()}"
    start(http_collector, endpoint=endpoint, durability="memory")
    handler = logging.StreamHandler()
    handler.addFilter(Refusal())
    ours = logging.getLogger("flext_observability")
    ours.addHandler(handler)
    try:

        @fo.flext_monitor_function("work")
        def work() -> int:
            return 1

        assert [work() for _ in range(20)] == [1] * 20
        assert fo.flush(0.3).is_failure
    finally:
        ours.removeHandler(handler)
    assert "flext-traces" in library_threads()
    assert died == []
    dropped = fo.status().signals["traces"].dropped
    assert 0 < dropped["queue_full"] <= 15
    assert_balanced()


def _bad_setup() -> bool:
    return fo.setup("shop", sample_ratio=9).is_failure


def _setup_with_a_warning() -> bool:
    os.environ["JAEGER_AGENT_HOST"] = "localhost"
    try:
        return fo.setup("shop", exporters=["none"]).success
    finally:
        del os.environ["JAEGER_AGENT_HOST"]


def _setup_with_a_name_otel_refuses() -> bool:
    handle = fo.setup("shop", exporters=["none"], metrics_enabled=False).unwrap()
    handle.meter.create_counter("1 bad name")
    return fo.setup("shop", exporters=["memory"]).success


def _span_of_no_kind() -> bool:
    with fo.flext_span("x", kind="nonsense"):
        return True


def _decorator_of_no_kind() -> bool:
    return fo.flext_monitor_function("x", kind="nonsense")(lambda: True)()


def _decorator_of_nothing() -> bool:
    nothing: Any = 3
    decorated: Any = fo.flext_monitor_function("x")(nothing)
    return bool(decorated == 3)


@pytest.mark.parametrize(
    "call",
    [
        _bad_setup,
        _setup_with_a_warning,
        _setup_with_a_name_otel_refuses,
        _span_of_no_kind,
        _decorator_of_no_kind,
        _decorator_of_nothing,
    ],
)
def test_host_filter_that_raises_on_what_a_call_says(call: Callable[[], bool]) -> None:
    """What a call says on the log changes nothing about it when logging fails."""
    handler = logging.StreamHandler()
    handler.addFilter(Refusal())
    ours = logging.getLogger("flext_observability")
    ours.addHandler(handler)
    try:
        assert call()
    finally:
        ours.removeHandler(handler)


def test_logging_handler_that_records(server: Collector) -> None:
    """A handler of the host that makes telemetry of each record makes it once."""

    class Recording(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with fo.flext_span("handled"):
                logging.getLogger("shop.handler").warning("from the handler")

    handler = Recording()
    logger = logging.getLogger("shop.recorded")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("said once")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    flush()
    server.span("handled")
    server.log("said once")
    server.log("from the handler")
