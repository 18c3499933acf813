"""Metrics: record, sum up, query, show to Prometheus."""

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast, overload

from pydantic import NonNegativeInt, TypeAdapter

from .. import runtime
from .._pipeline.operations import OperationDurations
from ..constants import FlextObservabilityConstants as C
from ..entities import FlextMetric
from ..recording import emit_metric
from ..result import FlextResult
from .exposition import Buckets, Row, prometheus_text
from .membership import bounds_in_force, container_or_global, enrol, shelf_of
from .outcome import is_text, made, never_raises, newest_limit, word_asked
from .series import MetricTotals
from .stored_metrics import MetricsById, StoredMetric

if TYPE_CHECKING:
    from ..container import FlextContainer
    from ..store import Shelf

_BOUND: TypeAdapter[int | None] = TypeAdapter(NonNegativeInt | None)
_BAD_COLLECTION: Final = "Invalid metrics collection configuration"


class FlextMetricsService:
    """Records metrics and answers questions about them.

    Services on one container share one store and one set of totals. The store holds
    single metrics and is bounded; totals are kept beside it, so that a counter never
    goes down because the store was cleaned up.
    """

    def __init__(
        self,
        container: "FlextContainer | None" = None,
        *,
        metrics_store_limit: int | None = None,
        metrics_store_cleanup: int | None = None,
    ) -> None:
        """Join a container.

        Args:
            container: Its services share a store; the one of the process when not
                given.
            metrics_store_limit: Metrics held at most, instead of the setting of that
                name; for all metrics services on the container.
            metrics_store_cleanup: Metrics that survive a cleanup, likewise.

        Raises:
            ValidationError: The container is none, or a bound is no whole number from
                0 on.
        """
        asked_limit = _BOUND.validate_python(metrics_store_limit)
        asked_kept = _BOUND.validate_python(metrics_store_cleanup)
        self.container = container_or_global(container)
        self._shelf: Shelf[StoredMetric] = shelf_of(self.container, "metrics")
        self._metrics_store = MetricsById(self._shelf)
        self._totals = self.container.store().part("metric totals", MetricTotals)
        if asked_limit is not None or asked_kept is not None:
            limit, kept = bounds_in_force()
            limit = limit if asked_limit is None else asked_limit
            kept = min(kept, limit // 2) if asked_kept is None else asked_kept
            self._totals.bounds = (limit, kept)
        enrol(self.container, "metrics_service", self)

    @overload
    def record_metric(self, metric: FlextMetric) -> FlextResult[FlextMetric]: ...

    @overload
    def record_metric(
        self,
        name: str,
        value: float | Decimal,
        unit: str = "",
        tags: Mapping[str, object] | None = None,
        metric_type: str = "gauge",
    ) -> FlextResult[FlextMetric]: ...

    @never_raises
    def record_metric(self, *args: Any, **kwargs: Any) -> FlextResult[FlextMetric]:
        """Check a metric, emit it unless that was done, and keep it.

        Takes a ``FlextMetric``, or the values of one: ``name``, ``value``, ``unit``,
        ``tags``, ``metric_type``. A metric that was recorded here before changes
        nothing.

        Returns:
            The metric, or ``Metric validation failed: <message>``.
        """
        given = _metric_of(*args, **kwargs).flat_map(_checked)
        if given.is_failure:
            return FlextResult[FlextMetric].fail(
                f"Metric validation failed: {given.error}", exception=given.exception
            )
        return FlextResult[FlextMetric].ok(self._keep(given.data))

    def _keep(self, metric: FlextMetric) -> FlextMetric:
        series = self._totals.add(metric)
        if series is not None:
            self._shelf.bound(*(self._totals.bounds or bounds_in_force()))
            self._shelf.add(StoredMetric(metric, series))
        emit_metric(metric)
        return metric

    @never_raises
    def collect_metrics(
        self, service_name: str, config: Mapping[str, Any]
    ) -> FlextResult[list[FlextMetric]]:
        """Record one metric per entry, all or none.

        Args:
            service_name: Becomes the tag ``service``.
            config: By name, ``value``, ``unit``, ``type`` and ``tags``, all optional; a
                bare number is a value.
        """
        if not is_text(service_name) or not config or not isinstance(config, Mapping):
            return FlextResult[list[FlextMetric]].fail(_BAD_COLLECTION)
        checked: list[FlextMetric] = []
        for name, entry in list(config.items()):
            given = _entry_metric(service_name, name, entry).flat_map(_checked)
            if given.is_failure:
                return FlextResult[list[FlextMetric]].fail(
                    f"Metric validation failed: {given.error}",
                    exception=given.exception,
                )
            checked.append(given.data)
        return FlextResult[list[FlextMetric]].ok([self._keep(m) for m in checked])

    @never_raises
    def export_prometheus_format(self) -> FlextResult[str]:
        """Give Prometheus text: this container's totals and all monitored calls."""
        # Read before the rows: what comes in between is shown, and asked for again.
        calls = runtime.operations().figures().calls
        version = (os.getpid(), self._totals.version, calls)  # a fork keeps the page
        shown, text = self._totals.page
        if shown != version:
            text = prometheus_text(shown_rows(self.container))
            self._totals.page = (version, text)
        return FlextResult[str].ok(text)

    @never_raises
    def get_metric_value(self, name: str) -> FlextResult[float]:
        """Give the last value of a gauge, the sum of a counter, a histogram's mean.

        Returns:
            The value over all tags, or ``Metric '<name>' not found``.
        """
        value = self._totals.value_of(name)
        if value is None:
            return FlextResult[float].fail(f"Metric '{name}' not found")
        return FlextResult[float].ok(value)

    @never_raises
    def get_metrics(
        self,
        name: str | None = None,
        *,
        metric_type: str | None = None,
        tags: Mapping[str, object] | None = None,
        limit: int = 100,
    ) -> FlextResult[list[FlextMetric]]:
        """Give stored metrics, the newest first.

        Args:
            name: Only these.
            metric_type: Only these.
            tags: Only those that carry all of these tags.
            limit: Of the answer.
        """
        asked = word_asked(metric_type)

        def is_wanted(metric: StoredMetric) -> bool:
            return (
                (name is None or metric.name == name)
                and asked in {None, metric.metric_type}
                and (not tags or metric.has_tags(tags))
            )

        found = self._shelf.newest(newest_limit(limit), is_wanted)
        return FlextResult[list[FlextMetric]].ok([each.entity() for each in found])

    @never_raises
    def get_metrics_summary(self) -> FlextResult[dict[str, Any]]:
        """Give totals by name, and what the service did.

        Returns:
            ``service_info`` (``uptime_seconds``, ``metrics_recorded``,
            ``unique_metrics``, ``series_dropped``), ``counters``, ``gauges`` and
            ``histograms`` (``count``, ``sum``, ``min``, ``max``, ``mean``). A counter
            that only ever saw Decimal is an exact Decimal.
        """
        return FlextResult[dict[str, Any]].ok(self._totals.summary())

    @never_raises
    def reset_metrics(self) -> FlextResult[None]:
        """Empty the store and the totals of the container."""
        self._totals.clear()
        self._shelf.clear()
        return FlextResult[None].ok(None)


def shown_rows(container: "FlextContainer") -> list[Row]:
    """Give what Prometheus is shown of a container: its totals, all monitored calls."""
    rows = [_operation_row(each) for each in runtime.operations().durations()]
    totals = container.store().part("metric totals", MetricTotals)
    return [*rows, *totals.rows()]


def _metric_of(
    metric: object = None,
    value: object = None,
    unit: object = "",
    tags: object = None,
    metric_type: object = "gauge",
    **named: object,
) -> FlextResult[FlextMetric]:
    first = named.pop("name", metric)
    if named:
        unknown = ", ".join(sorted(named))
        return FlextResult[FlextMetric].fail(f"unknown argument: {unknown}")
    if isinstance(first, FlextMetric):
        return FlextResult[FlextMetric].ok(first)
    fields: dict[str, object] = {
        "name": first,
        "value": value,
        "unit": unit,
        "tags": dict[str, str]() if tags is None else tags,
        "metric_type": metric_type,
    }
    return made(FlextMetric, fields)


def _entry_metric(
    service_name: str, name: object, entry: object
) -> FlextResult[FlextMetric]:
    given = cast(
        "Mapping[str, Any]", entry if isinstance(entry, Mapping) else {"value": entry}
    )
    tags: Any = given.get("tags") or dict[str, str]()
    if isinstance(tags, Mapping):
        tags = {**cast("Mapping[str, object]", tags), "service": service_name}
    fields = {
        "name": name,
        "value": given.get("value", 0.0),
        "unit": given.get("unit", ""),
        "tags": tags,
        "metric_type": given.get("type", "gauge"),
    }
    return made(FlextMetric, fields)


def _checked(metric: FlextMetric) -> FlextResult[FlextMetric]:
    return metric.validate_business_rules().map(lambda _: metric)


def _operation_row(durations: OperationDurations) -> Row:
    key = durations.key
    labels = {C.ATTR_OPERATION_NAME: key.operation, C.ATTR_ERROR_TYPE: key.error_type}
    return Row(
        key.metric,
        "histogram",
        labels,
        Buckets(durations.cumulative, durations.sum_s),
        durations.began_ns,
        "s",
    )
