"""The metrics service: validation, totals, queries and the bounded store."""

import asyncio
import gc
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.programs import run_program

import flext_observability as fo


@pytest.fixture
def service() -> fo.FlextMetricsService:
    """A service on a container of its own."""
    return fo.FlextMetricsService(fo.FlextContainer())


def in_threads(number: int, run: Callable[[int], object]) -> None:
    """Run something in threads that all start at the same moment."""
    gate = threading.Barrier(number)

    def start(index: int) -> None:
        gate.wait()
        run(index)

    threads = [threading.Thread(target=start, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


# --- recording ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 1), "Invalid metric name"),
        ((" ", 1), "Invalid metric name"),
        (("n" * 256, 1), "Invalid metric name"),
        ((3, 1), "Invalid metric name"),
        ((None, 1), "Invalid metric name"),
        ((), "Invalid metric name"),
        (("n", "1"), "Invalid metric value"),
        (("n", True), "Invalid metric value"),
        (("n",), "Invalid metric value"),
        (("n", float("nan")), "Invalid metric value"),
        (("n", 10**400), "Invalid metric value"),
        (("n", Decimal("Infinity")), "Invalid metric value"),
        (("n", -1, "", None, "counter"), "Invalid metric value"),
        (("n", -0.5, "", None, "histogram"), "Invalid metric value"),
        (("n", 1, "", None, "summary"), "Invalid metric type"),
        (("n", 1, "", None, 7), "Invalid metric type"),
    ],
)
def test_what_breaks_a_rule(
    service: fo.FlextMetricsService, arguments: tuple[Any, ...], message: str
) -> None:
    """The failure gives the rule's message; nothing is counted or stored."""
    record: Any = service.record_metric
    assert record(*arguments).error == f"Metric validation failed: {message}"
    assert len(service._metrics_store) == 0
    assert service.get_metrics_summary().unwrap()["counters"] == {}


def test_other_wrong_arguments_are_failures(service: fo.FlextMetricsService) -> None:
    """Nothing raises: wrong types name their field, unknown arguments themselves."""
    record: Any = service.record_metric
    assert "tags" in record("n", 1, tags=3).error
    assert "unit" in record("n", 1, unit=3).error

    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    assert "RuntimeError" in record("n", 1, tags={"a": Silent()}).error
    assert "color" in record("n", 1, color=3).error
    assert record(fo.FlextMetric(name="", value=1)).is_failure
    assert record(1, 2, 3, 4, 5, 6, 7).is_failure


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", 3), ("value", "x"), ("tags", None), ("tags", {"a": 1, 2: "b"})),
        *(("unit", []), ("metric_type", None)),
    ],
)
def test_an_entity_that_was_spoilt(
    service: fo.FlextMetricsService, field: str, value: Any
) -> None:
    """What its owner assigned later breaks neither the call nor the page of text."""
    metric = fo.FlextMetric(name="n", value=1)
    setattr(metric, field, value)
    assert isinstance(service.record_metric(metric), fo.FlextResult)
    service.record_metric("good", 1).unwrap()
    assert "\ngood 1.0\n" in service.export_prometheus_format().unwrap()


def test_keywords_work(service: fo.FlextMetricsService) -> None:
    """Every parameter can be named."""
    named = service.record_metric(
        name="n", value=1, unit="s", tags={"k": 2}, metric_type="HISTOGRAM"
    ).unwrap()
    assert (named.metric_type, named.tags) == ("histogram", {"k": "2"})
    assert service.record_metric(metric=named).unwrap() is named


def test_the_same_metric_counts_once(service: fo.FlextMetricsService) -> None:
    """Also as a copy, and from another service of the container; a rebuilt one is new.

    The store holds the last one of an id.
    """
    metric = fo.FlextMetric(name="n", value=2, metric_type="counter")
    for same in (metric, metric.model_copy(), metric.model_copy(deep=True)):
        assert fo.FlextMetricsService(service.container).record_metric(same).success
    assert service.get_metric_value("n").data == 2
    rebuilt = fo.FlextMetric.model_validate(metric.model_dump())
    service.record_metric(rebuilt).unwrap()
    assert service.get_metric_value("n").data == 4
    assert len(service._metrics_store) == 1


def test_the_same_metric_in_two_containers(service: fo.FlextMetricsService) -> None:
    """Each has its own totals: both count it once."""
    other = fo.FlextMetricsService(fo.FlextContainer())
    metric = fo.FlextMetric(name="n", value=2, metric_type="counter")
    for each in (service, other, service, other):
        each.record_metric(metric).unwrap()
    assert service.get_metric_value("n").data == other.get_metric_value("n").data == 2


def test_awaited_calls_give_the_same(service: fo.FlextMetricsService) -> None:
    """A plain call and an awaited one are one call."""

    async def main() -> fo.FlextResult[fo.FlextMetric]:
        return await service.record_metric("n", 1)

    assert asyncio.run(main()).unwrap().name == "n"


def test_a_wrong_container_is_a_validation_error() -> None:
    """As in any Pydantic model."""
    wrong: Any = "container"
    with pytest.raises(pydantic.ValidationError):
        fo.FlextMetricsService(wrong)


def test_it_registers_itself_once() -> None:
    """The first service of a container has the key; later ones share its store."""
    container = fo.FlextContainer()
    first = fo.FlextMetricsService(container)
    second = fo.FlextMetricsService(container)
    assert container.get("metrics_service").data is first
    second.record_metric("n", 1).unwrap()
    assert first.get_metrics().unwrap()[0].name == "n"


# --- many at once ---------------------------------------------------------------------


def test_collect(service: fo.FlextMetricsService) -> None:
    """Every key is optional, a bare number is a value, the service is a tag."""
    config: dict[str, Any] = {
        "load": {"value": 0.5, "unit": "1", "tags": {"cpu": 0, "service": "x"}},
        "orders": {"value": 3, "type": "counter"},
        "empty": {},
        "bare": 7,
        "exact": Decimal("0.1"),
    }
    made = service.collect_metrics("shop", config).unwrap()
    assert [m.name for m in made] == list(config)
    assert [m.value for m in made] == [0.5, 3, 0, 7, Decimal("0.1")]
    assert all(m.tags["service"] == "shop" for m in made)
    assert made[0].tags["cpu"] == "0"
    assert made[1].metric_type == "counter"
    assert service.get_metric_value("orders").data == 3


@pytest.mark.parametrize(
    ("name", "config"), [("", {"a": 1}), ("s", {}), ("s", None), ("s", 3), (None, {})]
)
def test_collect_nothing(
    service: fo.FlextMetricsService, name: Any, config: Any
) -> None:
    """An empty name or configuration is a failure."""
    assert (
        service.collect_metrics(name, config).error
        == "Invalid metrics collection configuration"
    )


@pytest.mark.parametrize(
    "bad", [{"value": "x"}, {"type": "x"}, "text", {"tags": 3}, {"unit": []}, None]
)
def test_collect_all_or_none(service: fo.FlextMetricsService, bad: Any) -> None:
    """One bad entry, and none is recorded."""
    result = service.collect_metrics("shop", {"good": 1, "bad": bad})
    assert str(result.error).startswith("Metric validation failed: ")
    assert len(service._metrics_store) == 0
    assert service.get_metric_value("good").is_failure


# --- totals ---------------------------------------------------------------------------


def test_values_by_type(service: fo.FlextMetricsService) -> None:
    """Gauge: last; counter: sum over all tags; histogram: mean."""
    for value in (5, 2):
        service.record_metric("gauge", value, tags={"k": value})
        service.record_metric("counter", value, "", {"k": value}, "counter")
        service.record_metric("histogram", value, "", {"k": value}, "histogram")
    assert service.get_metric_value("gauge").data == 2
    assert service.get_metric_value("counter").data == 7
    assert service.get_metric_value("histogram").data == 3.5
    assert service.get_metric_value("none").error == "Metric 'none' not found"
    wrong: Any = ["x"]
    assert service.get_metric_value(wrong).is_failure


def test_decimals_add_up_exactly(service: fo.FlextMetricsService) -> None:
    """Where all are Decimal; one float makes the sum a float."""
    for value in ("0.1", "0.2", "1E+40"):
        service.record_metric("exact", Decimal(value), metric_type="counter")
    service.record_metric("mixed", Decimal("0.5"), metric_type="counter")
    service.record_metric("mixed", 0.25, metric_type="counter")
    sums = service.get_metrics_summary().unwrap()["counters"]
    assert sums["exact"] == Decimal("10000000000000000000000000000000000000000.3")
    assert isinstance(sums["mixed"], float)
    assert sums["mixed"] == 0.75
    assert isinstance(service.get_metric_value("exact").data, float)
    assert service.get_metrics("exact").unwrap()[-1].value == Decimal("0.1")


@given(st.lists(st.decimals(0, 10**9, places=6), min_size=1))
def test_any_decimals_add_up_exactly(values: list[Decimal]) -> None:
    """Whatever is recorded, in whichever series."""
    service = fo.FlextMetricsService(fo.FlextContainer())
    for number, value in enumerate(values):
        service.record_metric("n", value, "", {"k": number % 3}, "counter").unwrap()
    assert service.get_metrics_summary().unwrap()["counters"]["n"] == sum(values)


def test_summary(service: fo.FlextMetricsService) -> None:
    """What was recorded, by type and name."""
    service.record_metric("latency", 4, "ms", {"k": 1}, "histogram")
    service.record_metric("latency", 2, "ms", {"k": 2}, "histogram")
    service.record_metric("load", 3)
    service.record_metric("orders", 3, metric_type="counter")
    summary = service.get_metrics_summary().unwrap()
    info = summary["service_info"]
    assert info.pop("uptime_seconds") >= 0
    assert info == {"metrics_recorded": 4, "unique_metrics": 3, "series_dropped": 0}
    assert summary["gauges"] == {"load": 3}
    assert summary["counters"] == {"orders": 3}
    assert summary["histograms"] == {
        "latency": {"count": 2, "sum": 6, "min": 2, "max": 4, "mean": 3}
    }


def test_a_metric_from_the_store_counts_no_second_time(
    service: fo.FlextMetricsService,
) -> None:
    """What a query gives equals what was recorded, and is marked like it."""
    metric = service.record_metric("n", Decimal("0.5"), "s", {"b": 1, "a": 2}).unwrap()
    (found,) = service.get_metrics().unwrap()
    assert found == metric
    assert found == service._metrics_store[metric.id]
    assert found.model_dump() == metric.model_dump()
    service.record_metric(found).unwrap()
    assert (
        service.get_metrics_summary().unwrap()["service_info"]["metrics_recorded"] == 1
    )


def test_reset(service: fo.FlextMetricsService) -> None:
    """Store and totals are empty; what was recorded before can be recorded again."""
    metric = service.record_metric("n", 1, metric_type="counter").unwrap()
    assert service.reset_metrics().success
    assert len(service._metrics_store) == 0
    assert service.get_metric_value("n").is_failure
    assert service.record_metric(metric).success
    assert service.get_metric_value("n").data == 1


# --- queries --------------------------------------------------------------------------


def test_queries(service: fo.FlextMetricsService) -> None:
    """The newest first, filtered by name, type and tags, and bounded."""
    for number in range(150):
        kind = "counter" if number % 2 else "gauge"
        service.record_metric(f"m{number % 3}", number, "", {"n": number}, kind)

    def values(**wanted: Any) -> list[Any]:
        return [m.value for m in service.get_metrics(**wanted).unwrap()]

    assert values() == list(range(149, 49, -1))
    assert values(name="m1", limit=2) == [148, 145]
    assert values(metric_type="Counter", limit=2) == [149, 147]
    assert values(tags={"n": 7}, limit=1000) == [7]
    assert values(name="none") == values(limit=0) == values(limit=-1) == []
    wrong: Any = "many"
    assert service.get_metrics(limit=wrong).is_failure
    assert service.get_metrics(metric_type=wrong).data == []
    assert service.get_metrics(tags=wrong).is_failure


# --- bounds ---------------------------------------------------------------------------


def test_store_is_bounded_and_totals_go_on(service: fo.FlextMetricsService) -> None:
    """The 1001st leaves the newest 500 and itself; the counter never goes down."""
    for number in range(1, 1001):
        service.record_metric("n", 1, "", None, "counter").unwrap()
        assert len(service._metrics_store) == number
    service.record_metric("n", 1, "", None, "counter").unwrap()
    assert len(service._metrics_store) == 501
    assert service.get_metric_value("n").data == 1001


def test_bounds_by_keyword() -> None:
    """They hold for every metrics service of the container, none else."""
    container = fo.FlextContainer()
    service = fo.FlextMetricsService(
        container, metrics_store_limit=10, metrics_store_cleanup=4
    )
    for number in range(11):
        fo.FlextMetricsService(container).record_metric("n", number).unwrap()
    assert len(service._metrics_store) == 5
    alone = fo.FlextMetricsService(fo.FlextContainer(), metrics_store_limit=4)
    for number in range(5):
        alone.record_metric("n", number).unwrap()
    assert [m.value for m in alone.get_metrics().unwrap()] == [4, 3, 2]


def test_bounds_by_setting(
    service: fo.FlextMetricsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings in force bound every store, also one that exists already."""
    for number in range(30):
        service.record_metric("n", number).unwrap()
    fo.setup("shop", exporters=["none"], metrics_store_limit=20).unwrap()
    service.record_metric("n", 30).unwrap()
    assert len(service._metrics_store) == 11
    fo.shutdown()
    fo.FlextObservabilityConfig.reset_global_instance()
    monkeypatch.setenv("FLEXT_OBSERVABILITY_METRICS_STORE_LIMIT", "8")
    monkeypatch.setenv("FLEXT_OBSERVABILITY_METRICS_STORE_CLEANUP", "2")
    service.record_metric("n", 31).unwrap()
    assert len(service._metrics_store) == 3
    fo.FlextObservabilityConfig.reset_global_instance()


@pytest.mark.parametrize(
    "fields",
    [
        {"metrics_store_limit": 0},
        {"metrics_store_limit": 10, "metrics_store_cleanup": 10},
        {"metrics_store_cleanup": -1},
    ],
)
def test_wrong_bounds_are_failures(fields: Any) -> None:
    """Setup names the field."""
    result = fo.setup("shop", exporters=["none"], **fields)
    assert str(result.error).startswith("Invalid configuration: metrics_store_")


def test_series_are_bounded(service: fo.FlextMetricsService) -> None:
    """Beyond 2000 the least recently updated series goes, and is counted."""
    for number in range(2000):
        service.record_metric("n", 1, "", {"k": number}, "counter")
    service.record_metric("n", 1, "", {"k": 0}, "counter")
    service.record_metric("n", 1, "", {"k": 2000}, "counter")
    text = service.export_prometheus_format().unwrap()
    assert 'n_total{k="0"} 2.0' in text
    assert 'n_total{k="1"}' not in text
    assert 'n_total{k="2000"} 1.0' in text
    info = service.get_metrics_summary().unwrap()["service_info"]
    assert info["series_dropped"] == 1


def test_memory_is_flat(service: fo.FlextMetricsService) -> None:
    """A hundred thousand records, a thousand names: as much as after five thousand."""
    numbers = count()

    def record(times: int) -> None:
        for _ in range(times):
            number = next(numbers)
            service.record_metric(
                f"n{number % 1000}", number, "", {"k": number % 7}, "histogram"
            )

    record(5_000)
    gc.collect()
    tracemalloc.start()
    try:
        record(5_000)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        record(10_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    record(80_000)
    assert len(service._metrics_store) <= 1000
    assert grown < 300_000  # a store fills and is cleaned up within these bounds


def test_eight_threads_count_exactly(service: fo.FlextMetricsService) -> None:
    """No record is lost, and one metric from many threads counts once."""
    shared = [
        fo.FlextMetric(name="shared", value=1, metric_type="counter")
        for _ in range(200)
    ]

    def record(index: int) -> None:
        for number in range(200):
            service.record_metric("n", 1, "", {"k": index % 2}, "counter")
            service.record_metric("h", number, "", None, "histogram")
            service.record_metric(shared[number])

    in_threads(8, record)
    assert service.get_metric_value("n").data == 1600
    assert service.get_metric_value("shared").data == 200
    figures = service.get_metrics_summary().unwrap()["histograms"]["h"]
    assert (figures["count"], figures["sum"]) == (1600, 8 * 199 * 100)
    info = service.get_metrics_summary().unwrap()["service_info"]
    assert info["metrics_recorded"] == 3400


def test_reading_while_writing(service: fo.FlextMetricsService) -> None:
    """Every page of text is consistent in itself: the last bucket is the count."""

    def work(index: int) -> None:
        if index:
            for number in range(300):
                service.record_metric("h", number, "", None, "histogram")
            return
        for _ in range(30):
            lines = service.export_prometheus_format().unwrap().splitlines()
            found = dict(line.rsplit(" ", 1) for line in lines if line[:2] == "h_")
            assert found.get('h_bucket{le="+Inf"}') == found.get("h_count")

    in_threads(4, work)


# --- monitored calls ------------------------------------------------------------------


@pytest.fixture
def names() -> Callable[[], str]:
    """Operation names that no other test uses: their totals are the process's."""
    numbers = count()
    return lambda: f"metrics_service_op_{next(numbers)}_{id(numbers)}"


def shown(service: fo.FlextMetricsService, operation: str) -> dict[str, float]:
    """The samples of an operation, by name and labels without the operation's."""
    text = service.export_prometheus_format().unwrap()
    label = f'flext_operation_name="{operation}"'
    return {
        line.rsplit(" ", 1)[0].replace(label, ""): float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if label in line
    }


def test_calls_are_counted_before_setup(
    service: fo.FlextMetricsService, names: Callable[[], str]
) -> None:
    """Successes and failures of every kind; no entity is stored."""
    name = names()

    @fo.flext_monitor_function(name)
    def call(*, fails: bool) -> None:
        if fails:
            raise KeyError

    @fo.flext_monitor_function(name)
    async def call_later() -> fo.FlextResult[None]:
        return fo.FlextResult[None].fail("no")

    @fo.flext_monitor_function(name)
    def generate() -> Iterator[int]:
        yield 1

    for _ in range(3):
        call(fails=False)
    with pytest.raises(KeyError):
        call(fails=True)
    assert asyncio.run(call_later()).is_failure
    assert list(generate()) == [1]

    samples = shown(service, name)
    assert samples["flext_operation_duration_count{}"] == 4
    assert samples['flext_operation_duration_count{error_type="KeyError",}'] == 1
    assert samples['flext_operation_duration_count{error_type="FlextResult",}'] == 1
    assert samples['flext_operation_duration_bucket{,le="+Inf"}'] == 4
    assert 0 < samples["flext_operation_duration_sum{}"] < 4
    assert len(service._metrics_store) == 0


def test_calls_are_counted_once_after_setup(
    service: fo.FlextMetricsService, names: Callable[[], str]
) -> None:
    """With a pipeline too; another metric name shows as another histogram."""
    fo.setup("shop", exporters=["none"]).unwrap()
    name = names()

    @fo.flext_monitor_function(name, metric_name="orders.time")
    def call() -> None: ...

    call()
    call()
    assert shown(service, name)["orders_time_count{}"] == 2


def test_bounds_of_durations(
    service: fo.FlextMetricsService, names: Callable[[], str]
) -> None:
    """Those of the setting, in text as in OpenTelemetry."""
    fo.setup("shop", exporters=["none"], histogram_buckets_s=[0.5, 2]).unwrap()
    name = names()

    @fo.flext_monitor_function(name)
    def call() -> None: ...

    call()
    bounds = [sample for sample in shown(service, name) if "_bucket" in sample]
    assert [b.split('"')[1] for b in bounds] == ["0.5", "2.0", "+Inf"]


def test_eight_threads_call_exactly(
    service: fo.FlextMetricsService, names: Callable[[], str]
) -> None:
    """Every call counts, whether or not something is exported."""
    name = names()

    @fo.flext_monitor_function(name)
    def call() -> None: ...

    in_threads(8, lambda _: repeat(call, 500))
    assert shown(service, name)["flext_operation_duration_count{}"] == 4000
    fo.setup("shop", exporters=["none"]).unwrap()
    in_threads(8, lambda _: repeat(call, 100))
    assert shown(service, name)["flext_operation_duration_count{}"] == 4800


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_starts_over() -> None:
    """The calls before the fork are the parent's; the child counts its own."""
    program = """
        import os
        import flext_observability as fo

        @fo.flext_monitor_function("forked")
        def call(): ...

        def show(who):
            text = fo.FlextMetricsService().export_prometheus_format().unwrap()
            counts = [x for x in text.splitlines() if x.startswith("flext_operation_d")]
            print(who, [x.split()[1] for x in counts if "_count{" in x], flush=True)

        call(), call()
        if child := os.fork():
            os.waitpid(child, 0)
            show("parent")
        else:
            call()
            show("child")
        """
    assert run_program(program).ok().lines == ["child ['1.0']", "parent ['2.0']"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_shows_no_page_of_the_parent() -> None:
    """As many calls as the parent had are no reason to show the parent's text."""
    program = """
        import os
        import flext_observability as fo

        service = fo.FlextMetricsService(fo.FlextContainer())
        fo.flext_monitor_function("parent's")(int)()
        service.export_prometheus_format().unwrap()
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            fo.flext_monitor_function("child's")(int)()
            text = service.export_prometheus_format().unwrap()
            print("parent's" in text, "child's" in text, flush=True)
            os._exit(0)
        """
    assert run_program(program).ok().lines == ["False True"]


def test_a_metric_remembers_no_reset(service: fo.FlextMetricsService) -> None:
    """One entity that is recorded after every reset does not grow."""
    metric = fo.FlextMetric(name="kept", value=1)

    def go() -> None:
        service.record_metric(metric).unwrap()
        service.reset_metrics().unwrap()

    repeat(go, 100)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        repeat(go, 2000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000 * 8
    service.record_metric(metric).unwrap()
    service.record_metric(metric.model_copy()).unwrap()
    assert service.get_metric_value("kept").data == 1
    assert len(service.get_metrics().unwrap()) == 1


@pytest.mark.parametrize("bound", ["x", [], -5, 1.5])
@pytest.mark.parametrize("name", ["metrics_store_limit", "metrics_store_cleanup"])
def test_bad_bounds(name: str, bound: object) -> None:
    """They are told like any wrong setting."""
    given: dict[str, Any] = {name: bound}
    with pytest.raises(pydantic.ValidationError):
        fo.FlextMetricsService(fo.FlextContainer(), **given)


@pytest.mark.parametrize("kind", ["gauge", "counter"])
def test_a_value_beyond_floats(service: fo.FlextMetricsService, kind: str) -> None:
    """It is refused, before anything is counted."""
    for _ in range(2):
        found = service.record_metric("m", Decimal("1e400"), "", None, kind)
        assert found.error == "Metric validation failed: Invalid metric value"
    assert service.get_metric_value("m").is_failure


@pytest.mark.parametrize("name", [5, "  ", None])
def test_collection_in_no_name(service: fo.FlextMetricsService, name: Any) -> None:
    """It is refused."""
    assert service.collect_metrics(name, {"a": 1}).is_failure


def test_a_type_that_is_no_text(service: fo.FlextMetricsService) -> None:
    """It is a failure, whatever the store holds."""
    kind: Any = 5
    assert "must be text" in str(service.get_metrics(metric_type=kind).error)
    service.record_metric("m", 1).unwrap()
    assert "must be text" in str(service.get_metrics(metric_type=kind).error)
