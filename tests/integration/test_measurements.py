"""What is appended on the hot path reaches every reader, exactly."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import run_program

DELTA = AggregationTemporality.DELTA
LABELS = {"region": "eu", "outcome": "ok"}
DURATION = "flext.operation.duration"


def delta_reader() -> InMemoryMetricReader:
    """A reader that wants differences."""
    return InMemoryMetricReader({Counter: DELTA, Histogram: DELTA})


def points(data: MetricsData | None, name: str) -> list[Any]:
    """Give the points of a metric."""
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


class Adding:
    """Adds up what a delta reader is given, while others collect."""

    def __init__(self, *names: str) -> None:
        self.reader = delta_reader()
        self.totals = dict.fromkeys(names, 0)

    def collect(self) -> None:
        """Collect once."""
        data = self.reader.get_metrics_data()
        for name in self.totals:
            for point in points(data, name):
                self.totals[name] += getattr(point, "count", None) or point.value


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Run work in many threads at once."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()


@pytest.fixture
def collecting() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Do something again and again beside the test."""
    is_over = threading.Event()
    threads: list[threading.Thread] = []

    def begin(work: Callable[[], object]) -> None:
        def repeat() -> None:
            while not is_over.wait(0.002):
                work()

        threads.append(threading.Thread(target=repeat))
        threads[-1].start()

    yield begin
    is_over.set()
    for thread in threads:
        thread.join()


def shown_calls(name: str) -> float:
    """How many calls of an operation the text of the service shows."""
    text = fo.FlextMetricsService().export_prometheus_format().unwrap()
    start_ = f'flext_operation_duration_count{{flext_operation_name="{name}"}} '
    return sum(
        float(line.removeprefix(start_))
        for line in text.splitlines()
        if line.startswith(start_)
    )


@pytest.mark.timeout(180)
def test_exact_from_eight_threads(
    http_collector: Collector,
    collecting: Callable[[Callable[[], object]], None],
) -> None:
    """Nothing is lost or counted twice, whoever collects or asks meanwhile."""
    calls, threads = 100_000, 8
    names = ("hits", "sizes", DURATION)
    cumulative, adding = InMemoryMetricReader(), Adding(*names)
    start(
        http_collector,
        metric_readers=[cumulative, adding.reader],
        sample_ratio=0,
    )
    hits = fo.flext_counter("hits").bind(**LABELS)
    sizes = fo.flext_histogram("sizes").bind(**LABELS)

    @fo.flext_monitor_function("measured")
    def call() -> None: ...

    def work() -> None:
        for number in range(calls):
            hits.add(1)
            if number % 10 == 0:
                sizes.record(number % 100)
                call()

    collecting(adding.collect)
    collecting(cumulative.get_metrics_data)
    collecting(lambda: shown_calls("measured"))
    in_threads(threads, work)
    flush(20)
    adding.collect()
    all_calls = calls * threads
    assert adding.totals == {
        "hits": all_calls,
        "sizes": all_calls // 10,
        DURATION: all_calls // 10,
    }
    data = cumulative.get_metrics_data()
    assert [p.value for p in points(data, "hits")] == [all_calls]
    (spread,) = points(data, "sizes")
    assert (spread.count, spread.min, spread.max) == (all_calls // 10, 0, 90)
    assert spread.sum == all_calls // 100 * sum(range(0, 100, 10))
    assert sum(spread.bucket_counts) == spread.count
    assert http_collector.metric("hits").value == all_calls
    assert http_collector.metric(DURATION).count == all_calls // 10
    assert shown_calls("measured") == all_calls // 10
    assert_balanced()


VIEWS: dict[str, list[View]] = {
    "none": [],
    "other bounds": [
        View(
            instrument_name="m",
            aggregation=ExplicitBucketHistogramAggregation([1.0, 50.0]),
        )
    ],
    "two streams": [
        View(instrument_name="m", name="first"),
        View(
            instrument_name="m",
            name="second",
            aggregation=ExplicitBucketHistogramAggregation([7.0], record_min_max=False),
        ),
    ],
    "fewer attributes": [View(instrument_name="m", attribute_keys={"region"})],
    "no attributes": [View(instrument_name="m", attribute_keys=set())],
    "exponential": [
        View(instrument_name="m", aggregation=ExponentialBucketHistogramAggregation())
    ],
    "sum": [View(instrument_name="m", aggregation=SumAggregation())],
    "last value": [View(instrument_name="m", aggregation=LastValueAggregation())],
    "drop": [View(instrument_name="m", aggregation=DropAggregation())],
}


@pytest.mark.parametrize("kind", ["counter", "histogram", "gauge"])
@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_the_same_as_plain_opentelemetry(
    kind: str, views: list[View], temporality: str
) -> None:
    """Whatever the view and the temporality, the points are those of the SDK."""
    make = InMemoryMetricReader if temporality == "cumulative" else delta_reader
    plain, ours = make(), make()
    provider = MeterProvider([plain], shutdown_on_exit=False, views=views)
    fo.setup(
        "shop", exporters=["none"], metric_readers=[ours], views=list(views)
    ).unwrap()
    ways: list[tuple[str, Any, Any]] = [
        ("counter", provider.get_meter("x").create_counter, fo.flext_counter),
        ("histogram", provider.get_meter("x").create_histogram, fo.flext_histogram),
        ("gauge", provider.get_meter("x").create_gauge, fo.flext_gauge),
    ]
    (plain_make, own_make) = next((p, o) for k, p, o in ways if k == kind)
    method = {"counter": "add", "histogram": "record", "gauge": "set"}[kind]
    instrument, own = plain_make("m"), own_make("m")
    bound = own.bind(**LABELS)
    for round_ in range(3):
        for number in range(40):
            value = (number * 7 + round_) % 60
            getattr(instrument, method)(value, LABELS)
            getattr(bound, method)(value)
            getattr(instrument, method)(value / 4, {"region": "us"})
            getattr(own, method)(value / 4, {"region": "us"})
        expected = _comparable(plain.get_metrics_data())
        assert _comparable(ours.get_metrics_data()) == expected


def _comparable(data: MetricsData | None) -> list[dict[str, Any]]:
    """Points without times, exemplars, and what order floats were added in."""
    made: list[dict[str, Any]] = []
    for name in ("m", "first", "second"):
        for point in points(data, name):
            shown = {
                field: getattr(point, field)
                for field in point.__dataclass_fields__
                if "time" not in field and field != "exemplars"
            }
            for field in ("sum", "value"):
                if field in shown:
                    shown[field] = round(shown[field], 6)
            made.append({"name": name, **shown})
    return sorted(made, key=lambda each: str(each["attributes"]) + each["name"])


class _Keep(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.data: list[MetricsData] = []

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,
        **kwargs: object,
    ) -> MetricExportResult:
        self.data.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None: ...


def test_periodic_readers_of_others() -> None:
    """A reader with a thread of its own sees everything at each of its turns."""
    exporter = _Keep()
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=20)
    fo.setup("shop", exporters=["none"], metric_readers=[reader]).unwrap()
    hits = fo.flext_counter("hits")
    for number in range(50):
        hits.add(number)
    deadline, found = time.monotonic() + 20, [0]
    while time.monotonic() < deadline:
        found = [p.value for data in exporter.data for p in points(data, "hits")]
        if found and found[-1] == sum(range(50)):
            break
        time.sleep(0.01)
    assert found[-1] == sum(range(50))
    reader.shutdown()


def test_readers_added_later() -> None:
    """They see what is measured from then on, in the aggregation they ask for."""
    first = InMemoryMetricReader()
    fo.setup("shop", exporters=["none"], metric_readers=[first]).unwrap()
    sizes = fo.flext_histogram("sizes")
    for number in range(2000):
        sizes.record(number)
    provider: Any = metrics.get_meter_provider()
    later = [
        InMemoryMetricReader(),
        InMemoryMetricReader(
            preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
        ),
        InMemoryMetricReader(
            preferred_aggregation={
                Histogram: ExplicitBucketHistogramAggregation([10.0])
            }
        ),
    ]
    for reader in later:
        first.get_metrics_data()
        provider.add_metric_reader(reader)
    for number in range(2000):
        sizes.record(number % 20)
    last: list[Any] = []
    for reader in later:
        last = points(reader.get_metrics_data(), "sizes")
        assert [(point.count, point.max) for point in last] == [(2000, 19)]
    assert last[0].bucket_counts == (1100, 900)
    (point,) = points(first.get_metrics_data(), "sizes")
    assert point.count == 4000
    for reader in later:
        provider.remove_metric_reader(reader)


def test_an_exchange_of_pipelines_under_traffic(
    http_collector: Collector, second_collector: Collector
) -> None:
    """Every measurement is with the former collector or the later one, once."""
    start(http_collector, metrics_export_interval_s=3600)
    before = shown_calls("exchanged")
    hits, is_over = fo.flext_counter("hits"), threading.Event()
    sums: list[int] = []

    @fo.flext_monitor_function("exchanged")
    def call() -> None: ...

    def work() -> None:
        done = 0
        while not is_over.is_set():
            hits.add(1)
            call()
            done += 1
        sums.append(done)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    start(second_collector, metrics_export_interval_s=3600)
    time.sleep(0.2)
    is_over.set()
    for thread in threads:
        thread.join()
    flush(20)

    def last(server: Collector, name: str, field: str) -> float:
        return float(max(getattr(p, field) for p in server.metrics(name)))

    both = (http_collector, second_collector)
    # What is added while the former pipeline is collected for the last time is in its
    # aggregations, but in no collection: less than the threads do in a moment.
    got = sum(last(server, "hits", "value") for server in both)
    assert sum(sums) * 0.9 < got <= sum(sums)
    assert shown_calls("exchanged") - before == sum(sums)


def test_pending_measurements_at_an_exchange(
    http_collector: Collector, second_collector: Collector
) -> None:
    """What is pending goes to the former pipeline, what comes later to the other."""
    start(http_collector, metrics_export_interval_s=3600)
    hits = fo.flext_counter("hits").bind(**LABELS)
    for _ in range(5000):
        hits.add(1)
    start(second_collector, metrics_export_interval_s=3600)
    for _ in range(30):
        hits.add(1)
    fo.shutdown()
    hits.add(1)
    assert http_collector.metric("hits").value == 5000
    assert second_collector.metric("hits").value == 30


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="needs CPython")
def test_series_that_nobody_holds_any_more(http_collector: Collector) -> None:
    """Bound instruments and operations made on the way are counted like others."""
    start(http_collector)
    for number in range(3000):
        fo.flext_counter(f"hits.{number % 3}").bind(**LABELS).add(1)

        @fo.flext_monitor_function(f"made.{number % 3000}")
        def call() -> None: ...

        call()
        call()
    flush(20)
    found = {p.name: p.value for p in http_collector.metrics() if "hits" in p.name}
    assert found == {f"hits.{n}": 1000 for n in range(3)}
    calls = http_collector.metrics(DURATION)
    assert sum(p.count for p in calls) == 6000


def test_exemplars_are_the_first_and_the_slowest(http_collector: Collector) -> None:
    """Each period keeps spans to look at: the first, and the clearly slower ones."""
    reader = InMemoryMetricReader()
    start(http_collector, metric_readers=[reader])
    sizes = fo.flext_histogram("sizes").bind(**LABELS)
    for _ in range(2):
        ids: list[int] = []
        for value in (20, 1, 2, 3, 700, 4, 5):
            with fo.flext_span("s"):
                sizes.record(value)
                ids.append(trace.get_current_span().get_span_context().span_id)
        (point,) = points(reader.get_metrics_data(), "sizes")
        kept = {(e.value, e.span_id) for e in point.exemplars}
        assert {(20, ids[0]), (700, ids[4])} <= kept


def test_durations_have_exemplars(http_collector: Collector) -> None:
    """A monitored call that is slow leads to its span."""
    reader = InMemoryMetricReader()
    start(http_collector, metric_readers=[reader])

    @fo.flext_monitor_function("slow")
    def call(delay_s: float) -> int:
        time.sleep(delay_s)
        return trace.get_current_span().get_span_context().span_id

    for _ in range(5):
        call(0)
    slowest = call(0.12)
    call(0)
    (point,) = points(reader.get_metrics_data(), DURATION)
    assert slowest in {exemplar.span_id for exemplar in point.exemplars}


FORKING = """
    import os, sys
    import flext_observability as fo

    fo.setup(
        "shop",
        endpoint=sys.argv[1],
        protocol="http/protobuf",
        metrics_export_interval_s=3600,
    ).unwrap()
    hits = fo.flext_counter("hits").bind(who="all")

    @fo.flext_monitor_function("forked")
    def call(): ...

    for _ in range(1500):
        hits.add(1); call()
    child = os.fork()
    for _ in range(40 if child else 7):
        hits.add(1); call()
    fo.flush(20.0).unwrap()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        fo.shutdown()
    else:
        os._exit(0)
    """


@pytest.mark.skipif(sys.platform == "win32", reason="this platform has no fork")
def test_a_fork_counts_nothing_twice(http_collector: Collector) -> None:
    """What is pending at a fork stays the parent's; the child starts at zero."""
    run_program(FORKING, http_collector.endpoint).ok()
    by_process: dict[Any, set[float]] = {}
    for name in ("hits", DURATION):
        for point in http_collector.metrics(name):
            pid = point.resource["process.pid"]
            by_process.setdefault(pid, set()).add(point.count or point.value)
    assert sorted(map(max, by_process.values())) == [7, 1540]
    assert sorted(map(min, by_process.values())) == [7, 1540]


NEWER_SDK = """
    import logging, sys
    from opentelemetry.sdk.metrics._internal import aggregation
    exec(sys.argv[1])
    import flext_observability as fo
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    reader = InMemoryMetricReader()
    fo.setup("shop", exporters=["none"], metric_readers=[reader]).unwrap()
    hits = fo.flext_counter("hits").bind(region="eu")
    sizes = fo.flext_histogram("sizes")
    for number in range(3000):
        hits.add(1)
        sizes.record(number)
    data = reader.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            print(metric.name, getattr(point, "count", None) or point.value)
    """


SUMS_ELSEWHERE = """
class Elsewhere(aggregation._SumAggregation):
    def aggregate(self, measurement, should_sample_exemplar=True):
        self._previous_value += measurement.value
    def collect(self, *arguments):
        self._value = 0
        return super().collect(*arguments)
aggregation._SumAggregation.aggregate = Elsewhere.aggregate
"""


@pytest.mark.parametrize(
    "change",
    [
        "del aggregation._LastValueAggregation",
        SUMS_ELSEWHERE,
    ],
    ids=["no last value", "sums elsewhere"],
)
def test_a_newer_sdk(change: str) -> None:
    """Where a private piece is gone or works otherwise, one line says so.

    Every measurement arrives all the same, by its public call.
    """
    lines = run_program(NEWER_SDK, change).ok().lines
    assert len([line for line in lines if "many measurements at once" in line]) == 1
    assert {"hits 3000", "sizes 3000"} <= set(lines)


INTERRUPTED = """
    import signal, sys
    import flext_observability as fo
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    class Alarm(Exception): ...
    rung = 0
    is_armed = False
    def ring(*_):
        global rung, is_armed
        if is_armed:
            is_armed = False
            rung += 1
            raise Alarm
    reader = InMemoryMetricReader()
    fo.setup("shop", exporters=["none"], metric_readers=[reader]).unwrap()
    hits = fo.flext_counter("hits").bind(region="eu")
    sizes = fo.flext_histogram("sizes").bind(region="eu")
    hits.add(1)
    sizes.record(1)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    tried = 1
    while tried < 200_000:
        try:
            while tried < 200_000:
                is_armed = True  # again, where an exception was swallowed
                tried += 1
                hits.add(1)
                sizes.record(tried % 1000)
            is_armed = False
        except Alarm:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    point, = [
        p
        for m in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        if m.name == "hits" for p in m.data.data_points
    ]
    print(tried, rung, point.value)
    """


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timers")
def test_signal_handlers_that_raise() -> None:
    """An exception at any moment costs at most the measurement it hit."""
    lines = run_program(INTERRUPTED, timeout_s=100).ok().lines
    tried, rung, counted = map(int, lines[-1].split())
    assert rung > 20
    assert tried - rung <= counted <= tried


def test_gauges_keep_the_last_value(http_collector: Collector) -> None:
    """Whatever way it came: bound or not, the first or one of many."""
    start(http_collector)
    gauge = fo.flext_gauge("g")
    ways: Sequence[Callable[[float], None]] = (
        gauge.bind(**LABELS).set,
        lambda value: gauge.set(value, LABELS),
    )
    for way in ways:
        for value in (-3, 5, -7.5, 3):
            way(value)
        flush()
        assert http_collector.metric("g").value == 3
        way(-2)
        flush()
        assert http_collector.metrics("g")[-1].value == -2
