"""A collection of metrics as one OTLP export request."""

from collections.abc import Sequence
from struct import Struct, pack
from typing import cast

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import (
    encode_metrics as stock_request,
)
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .otlp_groups import Source, resource_source, scope_source
from .otlp_wire import (
    TextFields,
    UnusualError,
    attributes_bytes,
    either,
    fixed64_field,
    sized,
)

_names = TextFields(b"\x0a")
_descriptions = TextFields(b"\x12")
_units = TextFields(b"\x1a")
_TEMPORALITIES = {
    AggregationTemporality.UNSPECIFIED: b"",
    AggregationTemporality.DELTA: b"\x10\x01",
    AggregationTemporality.CUMULATIVE: b"\x10\x02",
}
_ONLY_INT = {int}
_pack_double = Struct("<d").pack
_pack_times = Struct("<BQBQ").pack
_pack_int64 = Struct("<q").pack


def encode_metrics(data: MetricsData) -> bytes:
    """Encode a collection into the bytes of one export request, as the stock encoder.

    Args:
        data: What a reader collected.

    Raises:
        Exception: The collection holds what OTLP cannot express.
    """
    # Of equal resources, and of equal scopes in one, the stock encoder keeps the last
    # one's contents; a reader makes one of each.
    groups: dict[Source, dict[Source, bytes]] = {}
    for found in data.resource_metrics:
        scopes: dict[Source, bytes] = {}
        groups[resource_source(found.resource)] = scopes
        for inner in found.scope_metrics:
            if cast("object", inner.scope) is None:
                raise UnusualError  # only spans and log records may come from nowhere
            scope = scope_source(inner.scope)
            scopes[scope] = scope.group(b"\x12", map(metric_field, inner.metrics))
    return b"".join(
        resource.group(b"\x0a", scopes.values()) for resource, scopes in groups.items()
    )


def metric_field(metric: Metric) -> bytes:
    """Lay out one metric, of whatever kind, as a field of its group."""
    return b"\x12" + sized(either(_usual, _stock_body, metric))


def _stock_body(metric: Metric) -> bytes:
    scopes = [ScopeMetrics(InstrumentationScope(""), [metric], "")]
    request = stock_request(MetricsData([ResourceMetrics(Resource({}), scopes, "")]))
    (made,) = request.resource_metrics[0].scope_metrics[0].metrics
    body: bytes = made.SerializeToString()
    return body


def _usual(metric: Metric) -> bytes:
    parts = (
        _names[metric.name],
        _descriptions[metric.description],
        _units[metric.unit],
        _data(metric.data),
    )
    return b"".join(parts)


def _data(data: object) -> bytes:
    if type(data) is Sum:
        points = [_number_point(point) for point in data.data_points]
        return _points_field(b"\x3a", points, _sum_kind(data))
    if type(data) is Gauge:
        # A gauge is of a moment: the stock encoder leaves its start out.
        points = [_number_point(point, has_start=False) for point in data.data_points]
        return _points_field(b"\x2a", points)
    if type(data) is Histogram:
        points = [_histogram_point(point) for point in data.data_points]
        return _points_field(b"\x4a", points, _temporality(data))
    raise UnusualError


def _sum_kind(data: Sum) -> bytes:
    if type(data.is_monotonic) is not bool:
        raise UnusualError
    temporality = _temporality(data)
    return temporality + b"\x18\x01" if data.is_monotonic else temporality


def _temporality(data: Sum | Histogram) -> bytes:
    temporality = data.aggregation_temporality
    if type(temporality) is not AggregationTemporality:
        raise UnusualError
    return _TEMPORALITIES[temporality]


def _points_field(tag: bytes, points: list[bytes], suffix: bytes = b"") -> bytes:
    if not points:
        return b""
    fields = [b"\x0a" + sized(point) for point in points]
    return tag + sized(b"".join(fields) + suffix)


def _number_point(point: NumberDataPoint, *, has_start: bool = True) -> bytes:
    value = point.value
    parts = (
        _times(point.start_time_unix_nano if has_start else None, point.time_unix_nano),
        b"" if type(value) is int else b"\x21" + _pack_double(_float(value)),
        _exemplars(b"\x2a", point.exemplars),
        b"\x31" + _pack_int64(value) if type(value) is int else b"",
        attributes_bytes(b"\x3a", point.attributes),
    )
    return b"".join(parts)


def _times(start: int | None, time: int | None) -> bytes:
    if start and time and type(start) is type(time) is int:
        return _pack_times(0x11, start, 0x19, time)
    return fixed64_field(b"\x11", start) + fixed64_field(b"\x19", time)


def _float(value: float) -> float:
    if type(value) is not float:
        raise UnusualError
    return value


def _histogram_point(point: HistogramDataPoint) -> bytes:
    parts = (
        _times(point.start_time_unix_nano, point.time_unix_nano),
        fixed64_field(b"\x21", point.count),
        _double_field(b"\x29", point.sum),
        _counts_field(b"\x32", point.bucket_counts),
        _packed_field(b"\x3a", "d", point.explicit_bounds),
        _exemplars(b"\x42", point.exemplars),
        attributes_bytes(b"\x4a", point.attributes),
        _double_field(b"\x59", point.min),
        _double_field(b"\x61", point.max),
    )
    return b"".join(parts)


def _double_field(tag: bytes, value: float | None) -> bytes:
    """Lay out an optional double: 0 is there, ``None`` is not."""
    if value is None:
        return b""
    if type(value) is not float and type(value) is not int:
        raise UnusualError
    return tag + _pack_double(value)


def _counts_field(tag: bytes, counts: Sequence[int] | None) -> bytes:
    # True is a number for Python, and none for protobuf.
    if counts and {*map(type, counts)} != _ONLY_INT:
        raise UnusualError
    return _packed_field(tag, "Q", counts)


def _packed_field(tag: bytes, code: str, numbers: Sequence[float] | None) -> bytes:
    if numbers is None:
        return b""
    body = pack(f"<{len(numbers)}{code}", *numbers)
    return tag + sized(body) if body else b""


def _exemplars(tag: bytes, exemplars: Sequence[Exemplar]) -> bytes:
    return b"".join([tag + sized(_exemplar(exemplar)) for exemplar in exemplars])


def _exemplar(exemplar: Exemplar) -> bytes:
    value = exemplar.value
    parts = (
        fixed64_field(b"\x11", exemplar.time_unix_nano),
        b"" if type(value) is int else b"\x19" + _pack_double(_float(value)),
        _ids(exemplar.span_id, exemplar.trace_id),
        b"\x31" + _pack_int64(value) if type(value) is int else b"",
        attributes_bytes(b"\x3a", exemplar.filtered_attributes),
    )
    return b"".join(parts)


def _ids(span_id: int | None, trace_id: int | None) -> bytes:
    if span_id is None or trace_id is None:
        return b""
    span = b"\x22\x08" + span_id.to_bytes(8, "big")
    return span + b"\x2a\x10" + trace_id.to_bytes(16, "big")
