"""Prometheus text of the metrics service, read back by prometheus_client's parser."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import flext_observability as fo

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
OTHER = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000]


@pytest.fixture
def service() -> fo.FlextMetricsService:
    """A service on a container of its own."""
    return fo.FlextMetricsService(fo.FlextContainer())


def text_of(service: fo.FlextMetricsService) -> str:
    """The text without the monitored calls of this process."""
    text = service.export_prometheus_format().unwrap()
    assert text == "" or text.endswith("\n")
    families = re.split("^(?=# HELP )", text, flags=re.MULTILINE)
    return "".join(f for f in families if "flext_operation_name=" not in f)


def parsed(service: fo.FlextMetricsService) -> dict[str, Metric]:
    return {f.name: f for f in text_string_to_metric_families(text_of(service))}


def test_nothing(service: fo.FlextMetricsService) -> None:
    """Nothing recorded, nothing shown."""
    assert text_of(service) == ""


def test_gauge_and_counter(service: fo.FlextMetricsService) -> None:
    """No unit in the name, `_total` for counters, floats in repr form, no braces."""
    service.record_metric("api_requests", 150, "count")
    service.record_metric("temperature.out-door", -2.5, "Cel")
    service.record_metric("orders", 2, "count", metric_type="counter")
    service.record_metric("orders", 3, "count", metric_type="counter")
    lines = text_of(service).splitlines()
    assert [line for line in lines if not line.startswith("# HELP ")] == [
        *("# TYPE api_requests gauge", "api_requests 150.0"),
        *("# TYPE orders_total counter", "orders_total 5.0"),
        *("# TYPE temperature_out_door gauge", "temperature_out_door -2.5"),
    ]


def test_last_value_and_sum_per_tag_set(service: fo.FlextMetricsService) -> None:
    """Each set of tags is a series of its own."""
    for region, value in (("eu", 1), ("us", 2), ("eu", 3)):
        service.record_metric("g", value, tags={"region": region})
        service.record_metric("c", value, "", {"region": region}, "counter")
    text = text_of(service)
    assert 'g{region="eu"} 3.0\ng{region="us"} 2.0\n' in text
    assert 'c_total{region="eu"} 4.0\nc_total{region="us"} 2.0\n' in text


@pytest.mark.parametrize(
    ("unit", "bounds"),
    [
        *((unit, SECONDS) for unit in ("s", "seconds", "Sec")),
        *((unit, [1000 * b for b in SECONDS]) for unit in ("ms", "milliseconds")),
        *((unit, OTHER) for unit in ("", "By", "count")),
    ],
)
def test_histogram(
    service: fo.FlextMetricsService, unit: str, bounds: list[float]
) -> None:
    """Cumulative buckets up to +Inf, by unit; a value at a bound is inside."""
    values = [bounds[0], bounds[3], bounds[3] * 1.01, bounds[-1] * 2]
    for value in values:
        service.record_metric("h", value, unit, {"k": "v"}, "histogram")
    family = parsed(service)["h"]
    assert family.type == "histogram"
    samples = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for sample in family.samples
    }
    edges = [float(le) for name, le in samples if name == "h_bucket"]
    assert edges == [*bounds, float("inf")]
    for le, count in [(s.labels["le"], s.value) for s in family.samples[: len(edges)]]:
        assert count == sum(value <= float(le) for value in values)
    assert samples["h_count", ""] == 4
    assert samples["h_sum", ""] == pytest.approx(sum(values))
    assert all(sample.labels["k"] == "v" for sample in family.samples)


def test_a_name_with_several_types(service: fo.FlextMetricsService) -> None:
    """The first type keeps the name; one TYPE line per name."""
    service.record_metric("x", 1, metric_type="counter")
    service.record_metric("x", 2)
    service.record_metric("x", 3, metric_type="histogram")
    service.record_metric("y_count", 4)
    service.record_metric("y", 5, metric_type="histogram")
    families = parsed(service)
    assert {n: f.type for n, f in families.items()} == {
        "x": "counter",
        "x_gauge": "gauge",
        "x_histogram": "histogram",
        "y_count": "gauge",
        "y_histogram": "histogram",
    }
    text = text_of(service)
    assert text.count("# TYPE ") == text.count("# HELP ") == len(families)


def test_a_counter_that_says_total(service: fo.FlextMetricsService) -> None:
    """The suffix is not doubled, and its plain name stays free."""
    service.record_metric("orders_total", 2, metric_type="counter")
    service.record_metric("orders", 7)
    text = text_of(service)
    assert "\norders_total 2.0\n" in text
    assert "\norders 7.0\n" in text


def test_names_that_read_the_same(service: fo.FlextMetricsService) -> None:
    """They become one family: gauges show the last, sums are added, no series twice."""
    for name in ("a.b", "a-b"):
        service.record_metric(f"{name}.c", 2, metric_type="counter")
        service.record_metric(f"{name}.g", 2 if name == "a.b" else 3)
    service.record_metric("h.x", 0.5, "s", metric_type="histogram")
    service.record_metric("h-x", 600, "ms", metric_type="histogram")
    text = text_of(service)
    assert "\na_b_c_total 4.0\n" in text
    assert "\na_b_g 3.0\n" in text
    assert 'h_x_bucket{le="10.0"} 1.0\n' in text
    assert 'h_x_bucket{le="+Inf"} 2.0\n' in text
    assert "h_x_sum 600.5\n" in text


def test_labels(service: fo.FlextMetricsService) -> None:
    """Names are made legal, values escaped; reserved names are moved aside."""
    tags = {
        "http.route": 'a"b\\c\nd',
        "le": "x",
        "__name__": "y",
        "1st": "z",
        "k.a": "1",
        "k-a": "2",
        "empty": "",
        "long." * 100: "!",
        "snow": "☃\ud800",
    }
    service.record_metric("h", 1, tags=tags, metric_type="histogram")
    labels = parsed(service)["h"].samples[-1].labels
    assert labels == {
        "http_route": 'a"b\\c\nd',
        "exported_le": "x",
        "_name__": "y",
        "_1st": "z",
        "k_a": "2;1",
        "long_" * 100: "!",
        "snow": "☃?",
    }


def test_monitored_calls_leave_names_alone(service: fo.FlextMetricsService) -> None:
    """A metric recorded by the name of our histogram is joined to it, or moves."""
    fo.flext_monitor_function("prometheus_text_op")(lambda: None)()
    service.record_metric("flext.operation.duration", 3)
    text = service.export_prometheus_format().unwrap()
    assert "# TYPE flext_operation_duration histogram" in text
    assert "\nflext_operation_duration_gauge 3.0\n" in text


NAMES = st.text(min_size=1, max_size=20).filter(str.strip)
TAGS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
VALUES = st.floats(0, allow_nan=False, allow_infinity=False)
KINDS = st.sampled_from(["gauge", "counter", "histogram"])


@given(st.lists(st.tuples(NAMES, VALUES, TAGS, KINDS), max_size=20))
def test_any_text_can_be_parsed(metrics: list[Any]) -> None:
    """Whatever is recorded, the text is legal, and no series stands there twice."""
    service = fo.FlextMetricsService(fo.FlextContainer())
    for name, value, tags, kind in metrics:
        service.record_metric(name, value, "s", tags, kind).unwrap()
    text = text_of(service)
    lines = text.split("\n")[:-1]
    series = [line.rsplit(" ", 1)[0] for line in lines if line[0] != "#"]
    assert len(series) == len(set(series))
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    assert len(samples) == len(series)
    totals = [s.value for s in samples if s.name.endswith("_total")]
    counted = [v for _, v, _, kind in metrics if kind == "counter"]
    assert sum(totals) == pytest.approx(sum(counted))
    assert len(families) <= len(metrics)
