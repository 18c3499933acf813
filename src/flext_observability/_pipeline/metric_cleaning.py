"""Collected metrics made legal and without secrets."""

from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any, cast

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)

from .record_parts import ScopeCleaner, each, legal_id
from .value_cleaning import ValueCleaner

_INT64 = 1 << 63


class MetricCleaner:
    """Cleans one collection after the other; what is clean stays the same object."""

    def __init__(self, values: ValueCleaner, scopes: ScopeCleaner) -> None:
        self._values = values
        self._scopes = scopes

    def clean(self, data: MetricsData) -> MetricsData:
        """Clean a collection."""
        resources = each(self._resource, data.resource_metrics)
        if resources is data.resource_metrics:
            return data
        return MetricsData(resource_metrics=resources)

    def _resource(self, found: ResourceMetrics) -> ResourceMetrics:
        scopes = each(self._scope, found.scope_metrics)
        if scopes is found.scope_metrics:
            return found
        return replace(found, scope_metrics=scopes)

    def _scope(self, found: ScopeMetrics) -> ScopeMetrics:
        scope = self._scopes.clean(found.scope) or found.scope
        metrics = each(self._metric, found.metrics)
        if scope is found.scope and metrics is found.metrics:
            return found
        return replace(found, scope=scope, metrics=metrics)

    def _metric(self, found: Metric) -> Metric:
        values = self._values
        name = values.text(found.name)
        description = values.optional_text(found.description)
        unit = values.optional_text(found.unit)
        points = each(self._point, cast("Sequence[Any]", found.data.data_points))
        same = (name, description, unit) == (found.name, found.description, found.unit)
        if same and points is found.data.data_points:
            return found
        data = replace(cast("Any", found.data), data_points=points)
        return Metric(name=name, description=description, unit=unit, data=data)

    def _point(self, found: Any) -> Any:
        changes: dict[str, Any] = {}
        attributes = self._values.attributes(found.attributes)
        if attributes and attributes is not found.attributes:
            changes["attributes"] = dict(attributes)
        for name in _numbers_of(found):
            value = getattr(found, name)
            legal = legal_number(value)
            if legal is not value:
                changes[name] = legal
        exemplars = each(self._exemplar, found.exemplars)
        if exemplars is not found.exemplars:
            changes["exemplars"] = exemplars
        return replace(found, **changes) if changes else found

    def _exemplar(self, found: Exemplar) -> Exemplar:
        own = found.filtered_attributes
        attributes = self._values.attributes(own)
        if attributes and attributes is not own:
            attributes = dict(attributes)
        made = (
            attributes,
            legal_number(found.value),
            found.time_unix_nano,
            None if found.span_id is None else legal_id(found.span_id, 8),
            None if found.trace_id is None else legal_id(found.trace_id, 16),
        )
        ids = (found.span_id, found.trace_id)
        if all(map(is_, made, (own, found.value, found.time_unix_nano, *ids))):
            return found
        return Exemplar(*made)


def _numbers_of(point: object) -> tuple[str, ...]:
    if isinstance(point, NumberDataPoint):
        return ("value",)
    if isinstance(point, HistogramDataPoint):
        return ("sum", "min", "max")
    return ("sum", "min", "max", "zero_count")


def legal_number(value: Any) -> Any:
    """Give a number that OTLP can express; the same object when it is one.

    Sums of Decimal or of other numbers become floats; NaN is legal there.
    """
    if type(value) is float or value is None:
        return value
    try:
        if isinstance(value, int):
            plain = int(value)
            if -_INT64 <= plain < _INT64:
                return value if type(value) is int else plain
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except Exception:  # noqa: BLE001 - whatever calls itself a number
        return float("nan")
