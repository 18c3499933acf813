"""Collections of metrics become the bytes that the stock encoder makes of them."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import (
    AlwaysOnExemplarFilter,
    Counter,
    Exemplar,
    MeterProvider,
)
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from tests.fixtures.encoders import METRICS, calls_of_stock
from tests.fixtures.hostile import VALUES as HOSTILE
from tests.fixtures.records import (
    ATTRIBUTES,
    EXAMPLES,
    FLOATS,
    INT64,
    NAMES,
    ODDITIES,
    RESOURCES,
    SCOPES,
    TIMES,
    UINT64,
    VALUES,
    Fields,
    spoilt,
)

LIBRARY = InstrumentationScope("lib")
IDS = st.none() | UINT64
EXEMPLAR: Fields = st.fixed_dictionaries(
    {
        "filtered_attributes": ATTRIBUTES,
        "value": INT64 | FLOATS,
        "time_unix_nano": TIMES,
        "span_id": IDS,
        "trace_id": IDS,
    }
)
POINT: dict[str, Any] = {
    "attributes": ATTRIBUTES,
    "start_time_unix_nano": TIMES,
    "time_unix_nano": TIMES,
    "exemplars": st.lists(EXEMPLAR.map(lambda made: Exemplar(**made)), max_size=2),
}
SUMMARY: dict[str, Any] = POINT | {
    "count": UINT64,
    "sum": st.none() | FLOATS | st.integers(-(2**70), 2**70),
    "min": st.none() | FLOATS | st.integers(-5, 5),
    "max": st.none() | FLOATS,
}
COUNTS = st.lists(UINT64, max_size=20) | st.lists(UINT64, max_size=20).map(tuple)
BUCKETS = st.builds(Buckets, st.integers(-5, 5), COUNTS)
# Each kind of data: its class, its fields besides the points, its points.
KINDS: list[tuple[Any, dict[str, Any], Any, Fields]] = [
    (
        Gauge,
        {},
        NumberDataPoint,
        st.fixed_dictionaries(POINT | {"value": INT64 | FLOATS}),
    ),
    (
        Sum,
        {
            "aggregation_temporality": st.sampled_from(AggregationTemporality),
            "is_monotonic": st.booleans(),
        },
        NumberDataPoint,
        st.fixed_dictionaries(POINT | {"value": INT64 | FLOATS}),
    ),
    (
        Histogram,
        {"aggregation_temporality": st.sampled_from(AggregationTemporality)},
        HistogramDataPoint,
        st.fixed_dictionaries(
            SUMMARY
            | {
                "bucket_counts": COUNTS,
                "explicit_bounds": st.lists(FLOATS | st.integers(-5, 5), max_size=20),
            }
        ),
    ),
    (
        ExponentialHistogram,
        {"aggregation_temporality": st.sampled_from(AggregationTemporality)},
        ExponentialHistogramDataPoint,
        st.fixed_dictionaries(
            SUMMARY
            | {
                "scale": st.integers(-5, 5),
                "zero_count": UINT64,
                "positive": BUCKETS,
                "negative": BUCKETS,
                "flags": st.integers(0, 1),
            }
        ),
    ),
]


@st.composite
def metrics(draw: st.DrawFn, *, odd: bool = False) -> Metric:
    """Draw a metric of any kind; an odd one has anything in a field somewhere."""
    kind, more, point, fields = draw(st.sampled_from(KINDS))
    points = [point(**draw(fields)) for _ in range(draw(st.integers(0, 2)))]
    data: Fields = st.fixed_dictionaries(more | {"data_points": st.just(points)})
    place = draw(st.sampled_from(["point", "exemplar", "data", "metric"]))
    if odd and place in {"point", "exemplar"}:
        spoilt_one = draw(spoilt(fields))
        if place == "exemplar":
            spoilt_one = draw(fields)
            spoilt_one["exemplars"] = [Exemplar(**draw(spoilt(EXEMPLAR)))]
        points.append(point(**spoilt_one))
    made = kind(**draw(spoilt(data) if odd and place == "data" else data))
    metric: Fields = st.fixed_dictionaries(
        {
            "name": NAMES,
            "description": st.none() | NAMES,
            "unit": st.none() | st.just("s"),
            "data": st.just(made),
        }
    )
    return Metric(**draw(spoilt(metric) if odd and place == "metric" else metric))


def collections(metric: st.SearchStrategy[Metric]) -> st.SearchStrategy[MetricsData]:
    scope = st.builds(ScopeMetrics, SCOPES, st.lists(metric, max_size=3), st.just("x"))
    resource = st.builds(
        ResourceMetrics, RESOURCES, st.lists(scope, max_size=3), st.just("y")
    )
    return st.builds(MetricsData, st.lists(resource, max_size=3))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What the stock encoder says about odd values is not the matter."""
    with caplog.at_level(logging.CRITICAL, logger="opentelemetry"):
        yield


@EXAMPLES
@given(collections(metrics()))
def test_any_collection(data: MetricsData) -> None:
    """Every kind of metric, of several resources and scopes, gives the same bytes."""
    METRICS.assert_same([data])


def collection(*found: Metric, scope: Any = LIBRARY) -> MetricsData:
    metrics = ScopeMetrics(scope, found, "")
    return MetricsData([ResourceMetrics(Resource({}), [metrics], "")])


@EXAMPLES
@given(metrics(), metrics(odd=True))
def test_anything_in_a_field(metric: Metric, odd: Metric) -> None:
    """With anything in a field: the same bytes, or none from either encoder."""
    METRICS.assert_same([collection(metric, odd)])


@EXAMPLES
@given(SCOPES | st.none() | VALUES)
def test_anything_as_scope(scope: Any) -> None:
    """Metrics come from a scope, or neither encoder takes them."""
    METRICS.assert_same([collection(scope=scope)])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values(name: str) -> None:
    """Values that break what touches them give what the stock encoder gives."""
    value = HOSTILE[name]
    labelled = NumberDataPoint({"value": value}, 1, 2, 3)
    measured = NumberDataPoint({}, 1, 2, value)
    for point in (labelled, measured):
        METRICS.assert_same([collection(Metric("gauge", "", "", Gauge([point])))])


NUMBER: dict[str, Any] = {
    "attributes": {"a": 1},
    "start_time_unix_nano": 1,
    "time_unix_nano": 2,
    "value": 3,
    "exemplars": [],
}
HISTOGRAM: dict[str, Any] = {
    "attributes": {"a": 1},
    "start_time_unix_nano": 1,
    "time_unix_nano": 2,
    "count": 3,
    "sum": 0.5,
    "bucket_counts": [1, 2],
    "explicit_bounds": [0.5],
    "min": 0,
    "max": 1.0,
    "exemplars": [],
}
MEASURED: dict[str, Any] = {
    "filtered_attributes": {"a": 1},
    "value": 1.5,
    "time_unix_nano": 2,
    "span_id": 3,
    "trace_id": 4,
}
DELTA = AggregationTemporality.DELTA


def odd_metrics(field: str, odd: Any) -> Iterator[Metric]:
    """Make metrics with something odd wherever there is a field of that name."""
    fields = {field: odd}
    if field in NUMBER:
        number = NumberDataPoint(**NUMBER | fields)
        yield Metric("g", None, "s", Gauge([number]))
        yield Metric("s", None, "s", Sum([number], DELTA, is_monotonic=True))
    if field in HISTOGRAM:
        point = HistogramDataPoint(**HISTOGRAM | fields)
        yield Metric("h", None, "s", Histogram([point], DELTA))
    if field in MEASURED:
        number = NumberDataPoint({}, 1, 2, 3, [Exemplar(**MEASURED | fields)])
        yield Metric("g", None, "s", Gauge([number]))
    points = [NumberDataPoint(**NUMBER)]
    sums: dict[str, Any] = {"aggregation_temporality": DELTA, "is_monotonic": True}
    if field in sums or field == "data_points":
        yield Metric("s", None, "s", Sum(**{"data_points": points} | sums | fields))
    usual: dict[str, Any] = {"name": "g", "description": "", "unit": "s"}
    if field in usual or field == "data":
        yield Metric(**usual | {"data": Gauge(points)} | fields)


@pytest.mark.parametrize(
    "field",
    sorted(
        {*NUMBER, *HISTOGRAM, *MEASURED}
        | {"data_points", "aggregation_temporality", "is_monotonic"}
        | {"name", "description", "unit", "data"}
    ),
)
def test_odd_fields(field: str) -> None:
    """Each field in turn with odd contents: the same bytes, or none from either."""
    made = [metric for odd in ODDITIES for metric in odd_metrics(field, odd)]
    taken = [METRICS.assert_same([collection(metric)]) for metric in made]
    assert any(taken)


def sdk_metrics(temporality: AggregationTemporality) -> MetricsData:
    """Collect one of each instrument, with exemplars."""
    reader = InMemoryMetricReader(
        preferred_temporality={Counter: temporality, HistogramInstrument: temporality},
    )
    provider = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter())
    meter = provider.get_meter("lib", "1")

    def observe(_: CallbackOptions) -> list[Observation]:
        return [Observation(1.5, {"kind": "seen"})]

    meter.create_observable_gauge("gauge", [observe])
    counter = meter.create_counter("counter", "By", "how much")
    histogram = meter.create_histogram("histogram", "s")
    with TracerProvider().get_tracer("lib").start_as_current_span("op"):
        for number in range(3):
            counter.add(number, {"number": number})
            histogram.record(number / 7, {"ok": True, "name": "é"})
    provider.get_meter("other").create_up_down_counter("level").add(-2)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data


@pytest.mark.parametrize("temporality", [*AggregationTemporality][1:])
def test_metrics_of_the_sdk(temporality: AggregationTemporality) -> None:
    """What the SDK's own readers collect needs no help of the stock encoder."""
    data = sdk_metrics(temporality)
    body = METRICS.assert_same([data])
    assert body is not None
    assert b"histogram" in body
    assert calls_of_stock(lambda: METRICS.ours([data])) == 0


def test_exponential_histograms_of_the_sdk() -> None:
    """They are rare and the stock encoder's, their neighbours are not."""
    view = View(
        instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation()
    )
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=[view])
    meter = provider.get_meter("lib")
    for number in range(100):
        meter.create_histogram("spread").record(number - 50)
        meter.create_histogram("plain").record(number - 50)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert METRICS.assert_same([data])


def test_no_metrics() -> None:
    """Nothing makes an empty request."""
    assert METRICS.assert_same([MetricsData([])]) == b""
