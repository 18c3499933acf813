"""What the services promise, for whoever brings a service of his own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final, runtime_checkable

from .entities import FlextAlert, FlextHealthCheck, FlextLogEntry, FlextMetric
from .result import FlextResult
from .typings import FlextObservabilityTypes as T


@final
class FlextObservabilityProtocols:
    """Protocols that can be checked at run time, under one name."""

    @runtime_checkable
    class MetricsProtocol(Protocol):
        """Records metrics and sums them up."""

        def record_metric(self, metric: FlextMetric) -> FlextResult[FlextMetric]:
            """Check, emit and keep a metric."""
            ...

        def collect_metrics(
            self, service_name: str, config: Mapping[str, Any]
        ) -> FlextResult[list[FlextMetric]]:
            """Record one metric per entry."""
            ...

        def get_metric_value(self, name: str) -> FlextResult[float]:
            """Give last value, sum or mean."""
            ...

        def get_metrics_summary(self) -> FlextResult[dict[str, Any]]:
            """Give totals."""
            ...

        def export_prometheus_format(self) -> FlextResult[str]:
            """Give Prometheus text."""
            ...

    @runtime_checkable
    class TracingProtocol(Protocol):
        """Starts and ends traces."""

        def start_trace(self, trace: Any, /) -> FlextResult[Any]:
            """Start a trace."""
            ...

        def complete_trace(self, trace: Any, /) -> FlextResult[T.TraceProtocol]:
            """End a trace well."""
            ...

        def error_trace(
            self, trace: Any, error: Any, /
        ) -> FlextResult[T.TraceProtocol]:
            """End a trace as failed."""
            ...

        def get_trace_info(self, trace_id: str, /) -> FlextResult[dict[str, Any]]:
            """Tell all about a trace."""
            ...

    @runtime_checkable
    class AlertingProtocol(Protocol):
        """Takes alerts and raises them further."""

        def process_alert(self, alert: FlextAlert) -> FlextResult[FlextAlert]:
            """Check, emit and keep an alert."""
            ...

        def escalate_alert(
            self, alert: FlextAlert, config: Mapping[str, Any]
        ) -> FlextResult[FlextAlert]:
            """Raise an alert to the next level."""
            ...

        def evaluate_alert_thresholds(
            self, metrics: Any, thresholds: Any
        ) -> FlextResult[list[FlextAlert]]:
            """Raise alerts for values above their thresholds."""
            ...

    @runtime_checkable
    class HealthCheckProtocol(Protocol):
        """Takes reports of components and aggregates them."""

        def execute_health_check(
            self, check: FlextHealthCheck
        ) -> FlextResult[FlextHealthCheck]:
            """Check, emit and keep a report."""
            ...

        def get_overall_health(self) -> FlextResult[dict[str, Any]]:
            """Aggregate all components."""
            ...

        def get_component_health_history(
            self, name: str
        ) -> FlextResult[list[dict[str, Any]]]:
            """Give the reports of one component."""
            ...

    @runtime_checkable
    class LoggingProtocol(Protocol):
        """Takes log entries."""

        def log_entry(self, entry: FlextLogEntry) -> FlextResult[FlextLogEntry]:
            """Check, emit and keep an entry."""
            ...

        def get_logs(
            self,
            *,
            level: str | None = None,
            correlation_id: str | None = None,
            limit: int = 100,
        ) -> FlextResult[list[FlextLogEntry]]:
            """Give stored entries."""
            ...

    @runtime_checkable
    class DashboardProtocol(Protocol):
        """Keeps dashboards."""

        def create_dashboard(
            self, name: str, panels: Sequence[Mapping[str, Any]]
        ) -> FlextResult[str]:
            """Make a dashboard; give its id."""
            ...

        def get_dashboard(self, dashboard_id: str) -> FlextResult[dict[str, Any]]:
            """Give a dashboard by id."""
            ...

    @runtime_checkable
    class ObservabilityCollector(Protocol):
        """Takes entities from elsewhere."""

        def collect_metric(self, metric: FlextMetric) -> FlextResult[None]:
            """Take a metric."""
            ...

        def collect_trace(self, trace: Any) -> FlextResult[None]:
            """Take a trace."""
            ...
