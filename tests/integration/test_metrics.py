"""Bound instruments and metric entities."""

import numbers
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start


def test_instruments(collector: Collector) -> None:
    """Counter, histogram and gauge arrive with unit, description and attributes."""
    start(collector)
    orders = fo.flext_counter("orders", unit="1", description="Orders taken.")
    orders.add(2, {"region": "eu"})
    orders.add(3, attributes={"region": "eu"})
    orders.add(1)
    size = fo.flext_histogram("order.size", unit="By", description="Bytes.")
    size.record(10, {"region": "eu"})
    size.record(30, {"region": "eu"})
    fo.flext_gauge("queue.length", unit="{job}").set(7)
    fo.flext_gauge("queue.length", unit="{job}").set(4)
    flush()

    eu = collector.metric("orders", region="eu")
    assert (eu.kind, eu.monotonic, eu.cumulative, eu.value) == ("sum", True, True, 5)
    assert (eu.unit, eu.description) == ("1", "Orders taken.")
    bare = [point for point in collector.metrics("orders") if not point.attributes]
    assert [point.value for point in bare] == [1]
    point = collector.metric("order.size", region="eu")
    assert (point.kind, point.count, point.value) == ("histogram", 2, 40)
    assert point.unit == "By"
    gauge = collector.metric("queue.length")
    assert (gauge.kind, gauge.value, gauge.unit) == ("gauge", 4, "{job}")
    assert_balanced("metrics")


@pytest.mark.parametrize(
    ("unit", "first", "last"),
    [("s", 0.005, 10), ("ms", 5, 10_000), ("By", 0, 10_000)],
)
def test_histogram_bounds(
    server: Collector, unit: str, first: float, last: float
) -> None:
    """The bounds of a histogram fit its unit."""
    fo.flext_histogram("h", unit=unit).record(1)
    flush()
    bounds = server.metric("h").bounds
    assert (bounds[0], bounds[-1]) == (first, last)


def test_exact_sums_from_threads(server: Collector) -> None:
    """Nothing is lost between threads."""
    counter = fo.flext_counter("hits")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counter.add(1), range(2000)))
    flush()
    assert server.metric("hits").value == 2000


def test_negative_counts_are_ignored(server: Collector) -> None:
    """A counter never goes down, and never raises."""
    counter = fo.flext_counter("hits")
    counter.add(3)
    counter.add(-2)
    flush()
    assert server.metric("hits").value == 3


@pytest.mark.parametrize(
    ("metric_type", "kind", "value"),
    [("counter", "sum", 5), ("gauge", "gauge", 3), ("histogram", "histogram", 5)],
)
def test_create_metric(
    collector: Collector, metric_type: str, kind: str, value: float
) -> None:
    """A created metric is a point on the instrument of its type; tags are labels."""
    start(collector)
    for amount in (2, 3):
        made = fo.flext_create_metric(
            "shop.orders", amount, "count", {"region": "eu"}, metric_type
        ).unwrap()
        assert made.value == amount
        assert made.tags == {"region": "eu"}
    flush()
    point = collector.metric("shop.orders", region="eu")
    assert (point.kind, point.value, point.unit) == (kind, value, "count")
    assert point.attributes == {"region": "eu"}
    if kind == "histogram":
        assert point.count == 2


def test_metric_defaults_to_gauge(server: Collector) -> None:
    """The type is never guessed from the unit."""
    fo.flext_create_metric("requests", 7, "count").unwrap()
    fo.flext_create_metric("exact", Decimal("1.5")).unwrap()
    flush()
    assert server.metric("requests").kind == "gauge"
    assert server.metric("exact").value == 1.5


class Float32:
    """A number of another library, such as NumPy's."""

    def __init__(self, value: object) -> None:
        self.value: Any = value

    def __float__(self) -> float:
        return float(self.value)


class Int64:
    """A whole number of another library."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Text(str):
    """A text of another library, all of whose values have such a method."""

    __slots__ = ()

    def __float__(self) -> float:
        return 7.0


@numbers.Complex.register
class Complex64(Float32):
    """A complex number, likewise."""


@pytest.mark.parametrize("value", [Float32(1.5), Fraction(3, 2), Decimal("1.5")])
def test_numbers_of_other_libraries(server: Collector, value: Any) -> None:
    """Whatever is a number is a value, as it is for the instruments."""
    made = fo.flext_create_metric("ratio", value).unwrap()
    assert type(made.value) is (Decimal if isinstance(value, Decimal) else float)
    rows: Any = Int64(3)
    assert fo.FlextMetricsService().record_metric("rows", rows).unwrap().value == 3
    fo.flext_gauge("same").set(value)
    flush()
    assert server.metric("ratio").value == server.metric("same").value == 1.5
    assert server.metric("rows").value == 3


def test_metric_names_are_made_legal(server: Collector) -> None:
    """Names that OTel refuses are bent, not lost."""
    fo.flext_create_metric("weiß nicht", 1).unwrap()
    fo.flext_create_metric("2nd", 2).unwrap()
    fo.flext_counter("a b").add(1)
    flush()
    assert server.metric("wei__nicht").value == 1
    assert server.metric("m_2nd").value == 2
    assert server.metric("a_b").value == 1


@pytest.mark.parametrize(
    ("name", "value", "metric_type", "message"),
    [
        ("", 1, "gauge", "Invalid metric name"),
        ("  ", 1, "gauge", "Invalid metric name"),
        ("x" * 256, 1, "gauge", "Invalid metric name"),
        (None, 1, "gauge", "Invalid metric name"),
        ("n", float("nan"), "gauge", "Invalid metric value"),
        ("n", float("inf"), "gauge", "Invalid metric value"),
        ("n", "7", "gauge", "Invalid metric value"),
        ("n", True, "gauge", "Invalid metric value"),
        ("n", b"7", "gauge", "Invalid metric value"),
        ("n", memoryview(b"7"), "gauge", "Invalid metric value"),
        ("n", 7j, "gauge", "Invalid metric value"),
        ("n", Text("7"), "gauge", "Invalid metric value"),
        ("n", Complex64(7), "gauge", "Invalid metric value"),
        ("n", Float32("no number"), "gauge", "Invalid metric value"),
        ("n", Float32("nan"), "gauge", "Invalid metric value"),
        ("n", Float32(-1), "counter", "Invalid metric value"),
        ("n", -1, "counter", "Invalid metric value"),
        ("n", -1, "histogram", "Invalid metric value"),
        ("n", 1, "meter", "Invalid metric type"),
    ],
)
def test_invalid_metrics(
    server: Collector, name: object, value: object, metric_type: str, message: str
) -> None:
    """An invalid metric is a failure with the rule's message and is not emitted."""
    result = fo.flext_create_metric(
        name,  # type: ignore[arg-type]
        value,  # type: ignore[arg-type]
        metric_type=metric_type,
    )
    assert result.is_failure
    assert result.error == message
    flush()
    assert not server.metrics("n")


def test_metric_tags_become_text(server: Collector) -> None:
    """Keys and values of tags are turned into text."""
    fo.flext_create_metric("m", 1, tags={"n": 5, 7: True}).unwrap()  # type: ignore[dict-item]
    flush()
    assert server.metric("m").attributes == {"n": "5", "7": "True"}
