"""Nothing is lost silently: the ledger agrees with what the collector saw."""

import logging
import threading
import time
from contextlib import ExitStack

import pytest
from opentelemetry import trace

import flext_observability as fo
from tests.fixtures.collector import (
    BAD_REQUEST,
    HANG,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Answer,
    Collector,
    Protocol,
    closed_port,
    silent_port,
)
from tests.fixtures.interruptions import interrupted
from tests.fixtures.library import assert_balanced, flush, flush_in_vain, start


def make_spans(count: int, name: str = "x") -> None:
    for _ in range(count):
        with fo.flext_span(name):
            pass


def test_delivered(collector: Collector) -> None:
    """What the collector confirmed is delivered, for every signal."""
    start(collector)
    make_spans(30)
    for number in range(20):
        logging.getLogger("x").warning("line %d", number)
    fo.flext_counter("hits").add(1)
    flush()
    signals = fo.status().signals
    assert signals["traces"].delivered == len(collector.spans("x")) == 30
    assert signals["logs"].delivered == len(collector.logs()) == 20
    assert signals["metrics"].delivered == len(collector.metrics())
    for ledger in signals.values():
        assert ledger.pending == 0
        assert ledger.rejected == 0
        assert not ledger.dropped
    assert_balanced()


def test_pending(http_collector: Collector) -> None:
    """What was not sent yet is pending."""
    start(http_collector)
    make_spans(5)
    ledger = fo.status().signals["traces"]
    assert ledger.accepted == 5
    assert ledger.pending == 5 - ledger.delivered
    assert_balanced()
    flush()
    assert fo.status().signals["traces"].delivered == 5


def test_partial_success(collector: Collector) -> None:
    """Records that the collector refuses in a partial success count as rejected."""
    collector.answer_next(
        Answer(rejected=2, message="too old"), signals=("traces", "logs")
    )
    start(collector)
    make_spans(5)
    for _ in range(5):
        logging.getLogger("x").warning("line")
    flush()
    for name in ("traces", "logs"):
        ledger = fo.status().signals[name]
        assert (ledger.accepted, ledger.delivered, ledger.rejected) == (5, 3, 2)
    assert "too old" in str(fo.status().last_error)
    assert_balanced()


def test_warning_without_rejection(collector: Collector) -> None:
    """A message without rejected records is a warning; everything is delivered."""
    collector.answer_next(Answer(rejected=0, message="be careful"))
    start(collector)
    make_spans(3)
    flush()
    ledger = fo.status().signals["traces"]
    assert (ledger.delivered, ledger.rejected) == (3, 0)


def test_refused(collector: Collector) -> None:
    """A request refused as malformed is given up and counted; the reason is shown."""
    collector.answer_next(BAD_REQUEST, signals=["traces"])
    start(collector)
    make_spans(4)
    fo.flush()
    ledger = fo.status().signals["traces"]
    assert ledger.delivered == 0
    assert ledger.rejected + sum(ledger.dropped.values()) == 4
    assert ledger.pending == 0
    assert BAD_REQUEST.message in str(fo.status().last_error)

    make_spans(2, "later")
    flush()
    assert len(collector.spans("later")) == 2
    assert fo.status().signals["traces"].delivered == 2
    assert_balanced()


def test_unauthenticated(collector: Collector) -> None:
    """A collector that does not know us is named as the reason; all is accounted."""
    collector.answer_always(UNAUTHENTICATED)
    start(collector, exit_budget_s=0.2)
    make_spans(4)
    status = flush_in_vain(1.0)
    assert status.signals["traces"].delivered == 0
    assert "credentials" in str(status.last_error)
    assert_balanced()


def test_retry(collector: Collector) -> None:
    """A collector that is away for a moment gets everything once it is back."""
    collector.answer_next(UNAVAILABLE, signals=["traces"])
    start(collector)
    make_spans(4)
    flush(timeout_s=10)
    assert len(collector.requests("traces")) == 2
    assert len(collector.spans("x")) == 4
    assert fo.status().signals["traces"].delivered == 4
    assert_balanced()


def test_retry_after(http_collector: Collector) -> None:
    """Throttled with Retry-After, the next try comes not before that time."""
    http_collector.answer_next(
        Answer(429, message="slow down", retry_after_s=1), signals=["traces"]
    )
    start(http_collector)
    make_spans(1)
    began = time.monotonic()
    flush(timeout_s=10)
    assert time.monotonic() - began >= 0.9
    assert len(http_collector.spans("x")) == 1


@pytest.mark.parametrize("trouble", ["closed", "silent", "hanging"])
def test_flush_keeps_its_time(protocol: Protocol, trouble: str) -> None:
    """Whatever the other end does, flush and shutdown end in time; all is counted."""
    with Collector(protocol) as hanging, silent_port() as silent:
        hanging.answer_always(HANG)
        port = {"closed": closed_port(), "silent": silent, "hanging": hanging.port}
        fo.setup(
            "shop",
            endpoint=f"http://127.0.0.1:{port[trouble]}",
            protocol=protocol,
            durability="memory",
        ).unwrap()
        make_spans(3)
        logging.getLogger("x").warning("line")

        began = time.monotonic()
        result = fo.flush(timeout_s=0.5)
        assert time.monotonic() - began < 5.0  # a request has 10 s
        assert result.is_failure
        assert fo.status().signals["traces"].pending == 3
        assert_balanced()

        began = time.monotonic()
        fo.shutdown(timeout_s=0.5)
        assert time.monotonic() - began < 5.0  # a request has 10 s
        ledger = fo.status().signals["traces"]
        if ledger.accepted:
            assert ledger.pending == 0
            assert sum(ledger.dropped.values()) == 3
        assert_balanced()


def test_record_that_comes_while_it_closes(http_collector: Collector) -> None:
    """A record put at the very moment of the close is counted, and counted once."""
    start(http_collector, metrics_enabled=False, logs_enabled=False)
    make_spans(1)
    flush()
    span = trace.get_tracer("shop").start_span("late")
    is_put, is_closed = threading.Event(), threading.Event()

    def wait_for_the_close() -> None:
        is_put.set()
        assert is_closed.wait(10)

    def end() -> None:
        with interrupted(
            "call", "_refuse_newest", "intake.py", wait_for_the_close
        ) as reached:
            span.end()
            assert reached

    late = threading.Thread(target=end)

    def go_on() -> None:
        is_closed.set()
        late.join(10)

    with ExitStack() as stack:

        def put() -> None:
            late.start()
            assert is_put.wait(10)
            stack.enter_context(interrupted("return", "close", "ledger.py", go_on))

        stack.enter_context(interrupted("call", "_count_taken", "intake.py", put))
        fo.shutdown(timeout_s=1.0)
    assert is_closed.is_set()
    assert not late.is_alive()
    ledger = fo.status().signals["traces"]
    assert (ledger.accepted, ledger.delivered, ledger.pending) == (2, 1, 0)
    assert ledger.dropped == {"exit": 1}


def test_exporting_makes_no_telemetry(server: Collector) -> None:
    """The library's own traffic is neither traced nor logged."""
    logging.getLogger().setLevel(logging.DEBUG)
    make_spans(1)
    flush()
    make_spans(1)
    flush()
    assert len(server.spans()) == 2
    assert not server.logs()


def test_two_exporters_count_once_each(http_collector: Collector) -> None:
    """The ledger tells about the collector, whatever else is listening."""
    start(http_collector, exporters=["otlp", "memory"])
    make_spans(5)
    flush()
    ledger = fo.status().signals["traces"]
    assert (ledger.accepted, ledger.delivered) == (5, 5)
