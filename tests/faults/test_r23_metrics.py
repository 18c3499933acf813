"""R23: measurements that are none, names that are none, and too many series."""

import logging
import math
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

import flext_observability as fo
from tests.fixtures.collector import Collector, Point, closed_port
from tests.fixtures.hostile import VALUES
from tests.fixtures.library import assert_balanced, flush, start

SERIES_LIMIT = 2000
NO_NUMBERS: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "negative infinity": -math.inf,
    "decimal nan": Decimal("NaN"),
    "text": "x",
    "none": None,
    "bool": True,
    "list": [1],
    "complex": 1j,
    "raises": VALUES["raises"],
}


@pytest.fixture
def server(http_collector: Collector) -> Collector:
    """A collector with the library already set up against it."""
    start(http_collector)
    return http_collector


@pytest.fixture
def meter(request: pytest.FixtureRequest) -> metrics.Meter:
    """A plain meter of the test's own: instruments outlive a shutdown."""
    return metrics.get_meter(request.node.nodeid)


@pytest.fixture
def observe(meter: metrics.Meter) -> Iterator[Callable[[str, Any], None]]:
    """Make observable gauges that fall silent with the test."""
    is_over: list[bool] = []

    def make(name: str, callback: Any) -> None:
        def ask(options: CallbackOptions) -> Any:
            return [] if is_over else callback(options)

        meter.create_observable_gauge(name, [ask])

    yield make
    is_over.append(True)


def refused() -> int:
    """How many measurements were counted as none."""
    return dict(fo.status().signals["metrics"].dropped).get("unencodable", 0)


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS.keys())
def test_what_is_no_number(
    server: Collector,
    meter: metrics.Meter,
    caplog: pytest.LogCaptureFixture,
    value: Any,
) -> None:
    """It is counted and not exported; the instrument goes on, and it is said once."""
    ways: list[Callable[[Any], None]] = [
        fo.flext_counter("a").add,
        fo.flext_histogram("b").record,
        fo.flext_gauge("c").set,
        meter.create_counter("d").add,
        meter.create_up_down_counter("e").add,
        meter.create_histogram("f").record,
        meter.create_gauge("g").set,
    ]
    for way in ways:
        way(value)
        way(3)
        way(value)
    assert refused() == 2 * len(ways)
    flush()
    for name in "abcdefg":
        point = server.metric(name)
        assert (point.value, point.count) in {(3, 0), (3, 1)}
    said = [r for r in caplog.records if "no finite number" in r.getMessage()]
    assert len(said) == 1
    assert_balanced()


def test_negative_where_it_only_grows(server: Collector, meter: metrics.Meter) -> None:
    """A negative amount is no amount of a counter or histogram, of others it is."""
    for grows in (
        fo.flext_counter("a").add,
        fo.flext_histogram("b").record,
        meter.create_counter("c").add,
        meter.create_histogram("d").record,
    ):
        grows(-1)
        grows(-0.0)
    meter.create_up_down_counter("e").add(-1)
    meter.create_gauge("f").set(-1)
    fo.flext_gauge("g").set(-1)
    flush()
    assert refused() == 4
    assert [server.metric(name).value for name in "abcd"] == [0, 0, 0, 0]
    assert [server.metric(name).value for name in "efg"] == [-1, -1, -1]
    assert_balanced()


def test_numbers_of_other_kinds(server: Collector, meter: metrics.Meter) -> None:
    """Decimals and integers beyond 64 bits are numbers, beside floats and ints."""
    counter: Any = meter.create_counter("sum")
    for amount in (Decimal("1.5"), 2, 0.25, 2**70):
        counter.add(amount)
    big = meter.create_counter("big")
    for _ in range(3):  # each legal, the sum is not
        big.add(2**62)
    meter.create_gauge("now").set(Decimal("0.5"))  # type: ignore[arg-type]  # as programs do
    flush()
    assert server.metric("sum").value == 3.75 + 2.0**70
    assert server.metric("big").value == 3 * 2.0**62
    assert server.metric("now").value == 0.5
    assert_balanced()
    assert refused() == 0


@pytest.mark.parametrize("name", VALUES)
def test_labels_of_any_value(
    server: Collector, meter: metrics.Meter, name: str
) -> None:
    """Any label is made one; the measurement counts, and its neighbours too."""
    value = VALUES[name]
    counter: Any = meter.create_counter("plain")
    for labels in ({"bad": value}, {"bad": {"a": [value]}}, value):
        counter.add(1, labels)
    fo.flext_counter("ours").add(1, {"bad": value})
    meter.create_counter("neighbour").add(1)
    flush()
    assert sum(point.value for point in server.metrics("plain")) == 3
    assert server.metric("ours").value == 1
    assert server.metric("neighbour").value == 1
    assert refused() == 0
    assert_balanced()


@pytest.mark.parametrize("name", VALUES)
def test_callbacks_of_any_value(
    server: Collector, observe: Callable[[str, Any], None], name: str
) -> None:
    """A callback that gives nonsense spoils no other metric."""
    value = VALUES[name]

    def labels(_: CallbackOptions) -> list[Observation]:
        return [Observation(1, {"bad": value}), Observation(2, value)]

    def values(_: CallbackOptions) -> list[Observation]:
        return [Observation(value), Observation(3)]

    def nonsense(_: CallbackOptions) -> Any:
        return value

    def raising(_: CallbackOptions) -> Any:
        raise RuntimeError

    for number, callback in enumerate((labels, values, nonsense, raising)):
        observe(f"seen.{number}", callback)
    fo.flext_counter("neighbour").add(1)
    flush()
    assert server.metric("neighbour").value == 1
    assert server.metric("seen.0")
    assert server.metric("seen.1").value == 3
    assert_balanced()


def test_generators_as_callbacks(server: Collector, meter: metrics.Meter) -> None:
    """A generator, which OpenTelemetry takes too, is asked at every collection."""

    def numbers() -> Any:
        number = 0
        while True:
            number += 1
            yield [Observation(number, {"a": ["b"]})]

    meter.create_observable_gauge("asked", [numbers()])
    flush()
    first = server.metric("asked").value
    flush()
    assert server.metric("asked").value > first


BAD_NAMES = ["", " ", "1st", "a b", "a\nb", "ä", "x" * 300, "a{b}", "-", "_x", "a\x00"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_none(
    server: Collector,
    meter: metrics.Meter,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    """An instrument of a bad name works under a legal one."""
    meter.create_counter(name).add(1)
    meter.create_histogram(f"h{name}", unit="ü" * 100).record(1)
    fo.flext_counter(f"o{name}").add(1)
    meter.create_counter("neighbour").add(1)
    flush()
    scopes = {request.node.nodeid, "flext_observability"}
    names = {point.name for point in server.metrics() if point.scope in scopes}
    ours = {n for n in names if not n.startswith("flext.")}
    assert len(ours) == 4
    assert all(n.isascii() and n[0].isalpha() and len(n) <= 255 for n in ours)
    assert_balanced()


def test_clash_is_said_once(
    server: Collector, meter: metrics.Meter, caplog: pytest.LogCaptureFixture
) -> None:
    """Two instruments of one name and another unit: one warning, both exported."""
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            meter.create_counter("clash", unit="s").add(1)
            meter.create_counter("clash", unit="ms").add(1)
            meter.create_histogram("clash").record(1)
            fo.flext_counter("clash", unit="s").add(1)
            fo.flext_counter("clash", unit="ms").add(1)
    flush()
    found = server.metrics("clash")
    assert {(point.kind, point.unit) for point in found} >= {
        ("sum", "s"),
        ("sum", "ms"),
    }
    said = [r for r in caplog.records if "clash" in r.getMessage()]
    assert len(said) <= 3, [r.getMessage() for r in said]
    assert_balanced()


def _series(points: list[Point]) -> set[tuple[tuple[str, Any], ...]]:
    return {tuple(sorted(point.attributes.items())) for point in points}


@pytest.mark.parametrize("way", ["ours", "plain"])
def test_a_hundred_thousand_label_sets(
    http_collector: Collector,
    meter: metrics.Meter,
    figure: Callable[..., None],
    way: str,
) -> None:
    """At most 2,000 series are kept; the others are one that says so."""
    start(http_collector)
    counter: Any = (
        fo.flext_counter("many") if way == "ours" else meter.create_counter("many")
    )
    for number in range(100_000):
        counter.add(1, {"user": number})
    flush(20)
    points = http_collector.metrics("many")
    assert len(_series(points)) == len(points) <= SERIES_LIMIT + 1
    assert sum(point.value for point in points) == 100_000
    overflow = [p for p in points if p.attributes.get("otel.metric.overflow") is True]
    assert len(overflow) == 1
    assert overflow[0].value >= 100_000 - SERIES_LIMIT
    assert_balanced()
    figure("R23", label_sets=100_000, series=len(points), lost=0)


def test_the_page_shows_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape shows the same: legal series, the overflow, no NaN, no repeats."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    fo.setup("shop", exporters=["prometheus"]).unwrap()
    for number in range(3000):
        fo.flext_counter("many").add(1, {"user": number})
    for value in NO_NUMBERS.values():
        fo.flext_counter("odd").add(value)
    fo.flext_counter("odd").add(1, {"bad": VALUES["surrogate"]})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    many = [line for line in lines if line.startswith("many_total{")]
    assert len(many) == len(set(many)) <= SERIES_LIMIT + 1
    assert sum(float(line.rsplit(" ", 1)[1]) for line in many) == 3000
    odd = [line for line in lines if line.startswith("odd_total")]
    assert odd == ['odd_total{bad="a?b"} 1.0']


def test_entities(server: Collector) -> None:
    """The same through entities: what is no metric is a failure, and not sent."""
    for value in NO_NUMBERS.values():
        assert fo.flext_create_metric("made", value).is_failure
    assert fo.flext_create_metric("made", -1, metric_type="counter").is_failure
    assert fo.flext_create_metric("made", 2, metric_type="counter").success
    flush()
    assert server.metric("made").value == 2
    assert_balanced()
