"""Entities in memory, emitted by nobody."""

from typing import Any, TypeVar

from .entities import FlextAlert, FlextEntity, FlextMetric
from .result import FlextResult
from .services.membership import bounds_in_force
from .services.outcome import never_raises
from .store import Shelf
from .traces import FlextTrace

E = TypeVar("E", bound=FlextEntity)


class FlextObservabilityRepository:
    """Keeps metrics, traces and alerts by id, bounded as the stores of the services."""

    def __init__(self) -> None:
        """Make an empty repository."""
        self._metrics: Shelf[FlextMetric] = Shelf()
        self._traces: Shelf[FlextTrace] = Shelf()
        self._alerts: Shelf[FlextAlert] = Shelf()

    @never_raises
    def store_metric(self, metric: FlextMetric) -> FlextResult[None]:
        """Keep a metric; ``Metric must have ID`` when it has none."""
        return _put(self._metrics, metric, FlextMetric, "Metric")

    @never_raises
    def store_trace(self, trace: FlextTrace) -> FlextResult[None]:
        """Keep a trace; ``Trace must have ID`` when it has none."""
        return _put(self._traces, trace, FlextTrace, "Trace")

    @never_raises
    def store_alert(self, alert: FlextAlert) -> FlextResult[None]:
        """Keep an alert; ``Alert must have ID`` when it has none."""
        return _put(self._alerts, alert, FlextAlert, "Alert")

    @never_raises
    def get_metric(self, metric_id: str) -> FlextResult[FlextMetric]:
        """Give a metric by id, or ``Metric '<id>' not found``."""
        return _found(self._metrics, metric_id, "Metric")

    @never_raises
    def get_trace(self, trace_id: str) -> FlextResult[FlextTrace]:
        """Give a trace by id, or ``Trace '<id>' not found``."""
        return _found(self._traces, trace_id, "Trace")

    @never_raises
    def get_alert(self, alert_id: str) -> FlextResult[FlextAlert]:
        """Give an alert by id, or ``Alert '<id>' not found``."""
        return _found(self._alerts, alert_id, "Alert")

    @never_raises
    def find_metrics_by_name(self, name: str) -> FlextResult[list[FlextMetric]]:
        """Give the metrics of exactly this name, the newest first."""
        shelf = self._metrics
        return FlextResult[list[FlextMetric]].ok(
            shelf.newest(len(shelf), lambda metric: metric.name == name)
        )

    @never_raises
    def find_traces_by_operation(self, name: str) -> FlextResult[list[FlextTrace]]:
        """Give the traces of exactly this operation name, the newest first."""
        shelf = self._traces
        return FlextResult[list[FlextTrace]].ok(
            shelf.newest(len(shelf), lambda trace: trace.operation_name == name)
        )

    @never_raises
    def find_alerts_by_severity(self, severity: str) -> FlextResult[list[FlextAlert]]:
        """Give the alerts of a severity, in any case, the newest first."""
        shelf = self._alerts
        return FlextResult[list[FlextAlert]].ok(
            shelf.newest(len(shelf), lambda alert: alert.severity == severity.lower())
        )


def _put(shelf: Shelf[E], entity: Any, kind: type[E], what: str) -> FlextResult[None]:
    if not getattr(entity, "id", None):
        return FlextResult[None].fail(f"{what} must have ID")
    if not isinstance(entity, kind):
        return FlextResult[None].fail(
            f"{what} must be a {kind.__name__}, got {type(entity).__name__}"
        )
    shelf.bound(*bounds_in_force())
    shelf.add(entity)
    return FlextResult[None].ok(None)


def _found(shelf: Shelf[E], entity_id: str, what: str) -> FlextResult[E]:
    entity = shelf.get(entity_id)
    if entity is None:
        return FlextResult[E].fail(f"{what} '{entity_id}' not found")
    return FlextResult[E].ok(entity)
