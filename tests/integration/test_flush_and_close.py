"""What a flush and a shutdown promise, whatever foreign parts and queues do."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.request import urlopen

import pytest
from opentelemetry import metrics
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor

import flext_observability as fo
from tests.fixtures.collector import (
    HANG,
    UNAUTHENTICATED,
    Collector,
    Protocol,
    closed_port,
)
from tests.fixtures.library import (
    assert_balanced,
    emit_all,
    flush,
    start,
    wait_until,
)
from tests.fixtures.programs import run_program


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What slow parts of the host wait for; set at the end of the test."""
    event = threading.Event()
    yield event
    fo.shutdown(timeout_s=0.1)
    event.set()


def took_s(call: Callable[[], object]) -> float:
    """How long a call took, seconds."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


class SlowSpans(SpanProcessor):
    """A span processor that ignores every timeout."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release
        self.is_closing = False

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.release.wait(10)

    def shutdown(self) -> None:
        self.is_closing = True
        self.release.wait(10)


class SlowLogs(LogRecordProcessor):
    """A log record processor that ignores every timeout."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    def on_emit(self, log_record: Any) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.release.wait(10)

    def shutdown(self) -> None:
        self.release.wait(10)


class SlowMetrics(MetricExporter):
    """A metric exporter that ignores every timeout."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self.release = release

    def export(
        self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.release.wait(10)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None: ...


def slow_parts(kind: str, release: threading.Event) -> dict[str, Any]:
    """The keyword of ``setup()`` for one kind of slow part."""
    if kind == "span_processors":
        return {kind: [SlowSpans(release)]}
    if kind == "log_record_processors":
        return {kind: [SlowLogs(release)]}
    exporter = SlowMetrics(release)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
    return {kind: [reader]}


# Who holds us up does so for 10 s; a machine that stalls takes less.
SOON_S = 5.0
SLOW = ["span_processors", "log_record_processors", "metric_readers"]


@pytest.mark.parametrize("kind", SLOW)
def test_slow_parts_of_the_host(
    http_collector: Collector, release: threading.Event, kind: str
) -> None:
    """A slow part of the host holds neither flush nor shutdown beyond its deadline."""
    start(http_collector, **slow_parts(kind, release))
    emit_all("x")
    assert took_s(lambda: fo.flush(0.4)) < SOON_S
    assert took_s(lambda: fo.shutdown(0.4)) < SOON_S


@pytest.mark.parametrize("kind", SLOW)
def test_our_records_go_out_first(
    http_collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    release: threading.Event,
    kind: str,
) -> None:
    """What a slow part of the host takes of the time costs none of our records."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50000")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50000")
    start(http_collector, **slow_parts(kind, release))
    emit_all("x")
    result = fo.shutdown(3.0)
    assert result.success, result.error
    http_collector.span("x")
    http_collector.log("x")
    http_collector.metric("x")
    assert_balanced()


def test_readers_after_a_flush(http_collector: Collector) -> None:
    """A flush leaves nothing undone at shutdown: the reader is let go, at once."""
    reader = InMemoryMetricReader()
    start(http_collector, metric_readers=[reader])
    emit_all("x")
    flush()
    assert took_s(lambda: fo.shutdown(20.0).unwrap()) < SOON_S
    start(http_collector, metric_readers=[reader])
    fo.flext_counter("again").add(1)
    assert reader.get_metrics_data()


def test_slow_callback(http_collector: Collector, release: threading.Event) -> None:
    """A metric callback that takes its time is named by flush, and left at shutdown."""
    handle = start(http_collector)

    def observe(_: metrics.CallbackOptions) -> list[metrics.Observation]:
        # An instrument follows every later pipeline: after this test it says nothing.
        if release.is_set():
            return []
        release.wait(10)
        return [metrics.Observation(1)]

    handle.meter.create_observable_gauge("slow", [observe])
    emit_all("x")
    started = time.monotonic()
    result = fo.flush(0.4)
    assert time.monotonic() - started < SOON_S
    assert result.is_failure
    assert "metrics" in str(result.error)
    assert took_s(lambda: fo.shutdown(0.4)) < SOON_S
    http_collector.span("x")
    http_collector.log("x")


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_hanging_collector(seconds: float) -> None:
    """A collector that takes requests and never answers holds nobody up."""
    with Collector("http/protobuf") as server:
        server.answer_always(HANG)
        start(server)
        emit_all("x")
        started = time.monotonic()
        flushed = fo.flush(seconds)
        assert seconds * 0.9 < time.monotonic() - started < SOON_S
        assert flushed.is_failure
        closed: list[fo.FlextResult[None]] = []
        assert took_s(lambda: closed.append(fo.shutdown(seconds))) < SOON_S
        assert closed[0].is_failure
        assert "1 traces" in str(closed[0].error)
        assert_balanced()


def test_flush_tells_the_truth_when_the_queue_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records dropped at a full queue do not pass for the delivery of earlier ones."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
    fo.setup(
        "shop",
        endpoint=f"http://127.0.0.1:{closed_port()}",
        protocol="http/protobuf",
        durability="memory",
    ).unwrap()
    stop = threading.Event()

    def emit() -> None:
        while not stop.wait(0.001):
            with fo.flext_span("y"):
                pass

    for _ in range(80):
        with fo.flext_span("x"):
            pass
    thread = threading.Thread(target=emit)
    thread.start()
    try:
        result = fo.flush(0.8)
    finally:
        stop.set()
        thread.join()
    assert result.is_failure
    ledger = fo.status().signals["traces"]
    assert f"{ledger.pending} traces" in str(result.error)
    assert ledger.delivered == 0
    assert 50 <= ledger.pending <= 100, "what waits and the batch under way"
    assert ledger.dropped["queue_full"] > 0
    assert_balanced("traces")


def test_flush_does_not_wait_for_later_records(http_collector: Collector) -> None:
    """A flush returns once what was recorded before it is out, whatever comes after."""
    start(http_collector)
    stop = threading.Event()

    def emit() -> None:
        while not stop.wait(0.0005):
            with fo.flext_span("later"):
                pass

    thread = threading.Thread(target=emit)
    thread.start()
    try:
        with fo.flext_span("before"):
            pass
        flush()
        http_collector.span("before")
    finally:
        stop.set()
        thread.join()


def test_span_that_ends_after_shutdown(http_collector: Collector) -> None:
    """A span that ends after shutdown is counted as given up, not forgotten."""
    start(http_collector)
    with fo.flext_span("late"):
        fo.shutdown(1.0).unwrap()
    ledger = fo.status().signals["traces"]
    assert (ledger.accepted, dict(ledger.dropped)) == (1, {"exit": 1})
    assert not fo.status().running
    assert_balanced()
    assert http_collector.spans() == []


def test_others_go_on_while_one_shuts_down(release: threading.Event) -> None:
    """While a shutdown waits for its deadline, no other thread's first call waits."""
    slow = SlowSpans(release)
    fo.setup("shop", exporters=["none"], span_processors=[slow])
    closing = threading.Thread(target=lambda: fo.shutdown(8.0))
    closing.start()
    wait_until(lambda: slow.is_closing)

    def first_calls() -> None:
        fo.FlextStructuredLogger("never.used").info("x")
        fo.get_logger("never.used.either").info("x")
        fo.flext_counter("never.used").add(1)
        fo.flext_histogram("never.used.s").record(1)
        fo.status()

    assert took_s(first_calls) < SOON_S
    assert closing.is_alive()
    release.set()
    closing.join()


@pytest.mark.parametrize("timeout_s", ["1", float("inf"), 10**30, -1, 0])
def test_odd_timeouts(http_collector: Collector, timeout_s: Any) -> None:
    """Any number is a timeout, however long; nothing raises."""
    start(http_collector)
    emit_all("x")
    flushed = fo.flush(timeout_s)
    assert flushed.success or float(timeout_s) <= 0
    closed = fo.shutdown(timeout_s)
    assert closed.success or float(timeout_s) <= 0
    assert not fo.status().running


@pytest.mark.parametrize("timeout_s", ["soon", None, object(), [1]])
def test_timeouts_that_are_none(http_collector: Collector, timeout_s: Any) -> None:
    """What is no number fails the flush, says so and raises nothing."""
    start(http_collector)
    emit_all("x")
    result = fo.flush(timeout_s)
    assert result.is_failure
    assert "flush failed" in str(result.error)
    flush()


def test_reader_after_a_failed_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader given to a setup that failed can be given to the next one."""
    reader = InMemoryMetricReader()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nonsense")
    assert fo.setup("shop", metric_readers=[reader]).is_failure
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    fo.setup("shop", exporters=["memory"], metric_readers=[reader]).unwrap()
    fo.flext_counter("hits").add(1)
    assert reader.get_metrics_data()


def test_reader_in_force_survives_a_failed_setup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed setup leaves the readers in force at work, also those it was given."""
    reader = InMemoryMetricReader()
    fo.setup("shop", exporters=["memory"], metric_readers=[reader]).unwrap()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nonsense")
    assert fo.setup("other", metric_readers=[reader]).is_failure
    fo.flext_counter("hits").add(1)
    assert reader.get_metrics_data()
    assert fo.status().service_name == "shop"


def test_metrics_page_survives_a_failed_setup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the new port of the metrics page is taken, the page in force stays."""
    free = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(free))
    fo.setup("shop", exporters=["prometheus"]).unwrap()

    def page() -> str:
        with urlopen(f"http://127.0.0.1:{free}/metrics", timeout=3) as reply:
            return cast("bytes", reply.read()).decode()

    fo.flext_counter("hits").add(1)
    assert "hits_total" in page()
    with Collector("http/protobuf") as taken:
        port = taken.endpoint.rpartition(":")[2]
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
        assert fo.setup("shop", exporters=["prometheus"]).is_failure
    assert "hits_total" in page()


def test_instrument_that_only_a_switched_off_signal_took() -> None:
    """A name that OTel refuses, taken while metrics were off, breaks no later setup."""
    handle = fo.setup("shop", exporters=["memory"], metrics_enabled=False).unwrap()
    handle.meter.create_counter("1 bad name").add(1)
    fo.setup("other", exporters=["memory"]).unwrap()
    with fo.flext_span("x"):
        fo.flext_counter("good").add(1)
    assert fo.status().service_name == "other"
    assert handle.memory is not None
    assert [span.name for span in handle.memory.spans] == ["x"]


BLAME = """
    import sys
    import flext_observability as fo

    endpoint, protocol, beside, durability, *words = sys.argv[1:]
    handle = fo.setup(
        "shop",
        endpoint=endpoint,
        protocol=protocol,
        durability=durability,
        exit_budget_s=0.8,
        alertmanager_url=beside,
        push_gateway_url=beside,
    ).unwrap()
    with fo.flext_span("work"):
        pass
    fo.FlextAlertService().process_alert(
        fo.FlextAlert(name="a", severity="info", message="m")
    )
    for _ in range(5):  # a busy machine may need more than one
        failed = str(fo.flush(1.0).error)
        if all(word in failed for word in words):
            break
    print(failed)
    assert handle.push().is_failure
    print(fo.status().last_error)
"""


def blame(
    collector: Collector, durability: str, *words: str
) -> tuple[list[str], str, str]:
    """What a program says at its end, and before, when nobody takes anything.

    The words are what it shall hear of before it goes on.
    """
    beside = f"http://127.0.0.1:{closed_port()}"
    address = (collector.endpoint, collector.protocol)
    ended = run_program(BLAME, *address, beside, durability, *words).ok()
    (undelivered,) = (
        line
        for line in ended.stderr.splitlines()
        if "not delivered yet:" in line or "gave up undelivered" in line
    )
    (alerts,) = (
        line for line in ended.stderr.splitlines() if "gave up telling" in line
    )
    assert "Alertmanager: cannot reach" in alerts
    return ended.lines, undelivered, alerts


@pytest.mark.parametrize("durability", ["batch", "memory"])
def test_the_reason_is_that_of_the_collector(
    collector: Collector, durability: str
) -> None:
    """What keeps records here is named, not what ails the Pushgateway or alerts."""
    collector.answer_always(UNAUTHENTICATED)
    (flushed, last_error), undelivered, _ = blame(
        collector, durability, "credentials", "Alertmanager: cannot reach"
    )
    for said in (flushed, last_error, undelivered):
        assert said.count("credentials") == 1
    for said in (last_error, undelivered):
        assert "Pushgateway" not in said
        assert "Alertmanager" not in said
    assert "Alertmanager: cannot reach" in flushed, "an alert is pending too"


@pytest.mark.parametrize("durability", ["batch", "memory"])
def test_a_collector_that_hangs_is_the_reason(
    protocol: Protocol, durability: str
) -> None:
    """A request without an answer is a reason too, however short the time was."""
    with Collector(protocol) as hanging:
        hanging.answer_always(HANG)
        _, undelivered, _ = blame(hanging, durability)
    assert "no answer" in undelivered
    assert "Pushgateway" not in undelivered


def _failure(word: str) -> str:
    """What a flush says, if the word is in it; at first nothing may be known yet."""
    failed = str(fo.flush(1.0).error)
    return failed if word in failed else ""


def test_the_reason_is_that_of_the_signal(collector: Collector) -> None:
    """A signal that arrives has no part in why another one does not."""
    collector.answer_always(UNAUTHENTICATED, signals=["metrics"])
    start(collector, logs_enabled=False)
    with fo.flext_span("work"):
        pass
    failed = wait_until(lambda: _failure("credentials"))
    assert "traces" not in failed
    assert "credentials" in failed


def test_what_is_beside_is_told_when_all_arrives(collector: Collector) -> None:
    """`last_error` names the Pushgateway when there is nothing else to name."""
    handle = start(collector, push_gateway_url=f"http://127.0.0.1:{closed_port()}")
    assert fo.status().last_error is None
    assert handle.push().is_failure
    assert str(fo.status().last_error).startswith("Pushgateway: cannot reach")
    fo.shutdown(timeout_s=0.5)
