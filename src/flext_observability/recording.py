"""From entities to OpenTelemetry: the one translation, at most once per entity."""

from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from logging import getLevelNamesMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, TraceFlags

from . import runtime
from ._pipeline.log_lines import severity_of
from ._pipeline.values import (
    clean_attributes,
    clean_labels,
    clean_text,
    legal_metric_name,
)
from .constants import FlextObservabilityConstants as C
from .constants import buckets_for
from .container import FlextContainer
from .entities import FlextAlert, FlextHealthCheck, FlextLogEntry, FlextMetric
from .locks import ForkSafeLock
from .traceparent import known_traces, write_traceparent
from .traces import FlextTrace, created_traces

_SEVERITIES = {"info": 20, "warning": 30, "error": 40, "critical": 50}
_HEALTH_LEVELS = {"healthy": 20, "degraded": 30, "unhealthy": 40}
_HEALTH_FIGURES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


def emit_metric(metric: FlextMetric) -> None:
    """Put a metric on its instrument unless that was done already.

    Args:
        metric: A valid one. Gauge sets, counter adds, histogram records.
    """
    if not metric.emission().claim() or not runtime.is_running():
        return
    instrument = _instrument(metric)
    value = float(metric.value) if isinstance(metric.value, Decimal) else metric.value
    labels = clean_labels(metric.tags)
    method = {"gauge": "set", "counter": "add", "histogram": "record"}
    getattr(instrument, method[metric.metric_type])(value, labels)


def _instrument(metric: FlextMetric) -> Any:
    """Give the instrument; the meter keeps one per name, type and unit."""
    name, unit = legal_metric_name(metric.name), clean_text(metric.unit)[:63]
    meter = runtime.meter_provider().get_meter(C.SCOPE_NAME)
    if metric.metric_type == "histogram":
        bounds = list(buckets_for(unit))
        return meter.create_histogram(
            name, unit=unit, explicit_bucket_boundaries_advisory=bounds
        )
    if metric.metric_type == "counter":
        return meter.create_counter(name, unit=unit)
    return meter.create_gauge(name, unit=unit)


def emit_log_entry(entry: FlextLogEntry) -> None:
    """Emit a log entry unless that was done already, or its level is switched off.

    Args:
        entry: A valid one.
    """
    if not entry.emission().claim() or not runtime.is_running():
        return
    config = runtime.current_config()
    level = getLevelNamesMapping()[entry.level.upper()]
    lowest = config.log_level if config is not None else "INFO"
    if level < getLevelNamesMapping()[lowest]:
        return
    number, text = severity_of(level)
    attributes = clean_attributes(entry.context)
    if entry.correlation_id and entry.correlation_id != entry.trace_id:
        attributes[C.ATTR_CORRELATION_ID] = clean_text(entry.correlation_id)
    runtime.otel_logger().emit(
        timestamp=int(entry.timestamp.timestamp() * 1e9),
        context=_context_of(entry),
        severity_number=number,
        severity_text=text,
        body=clean_text(entry.message),
        attributes=attributes,
    )


def _context_of(entry: FlextLogEntry) -> Any:
    """Join the record to the span the entry names, which may have ended since."""
    try:
        ids = int(entry.trace_id or "0", 16), int(entry.span_id or "0", 16)
    except ValueError:
        ids = (0, 0)
    current = trace.get_current_span().get_span_context()
    if current.is_valid and ids == (current.trace_id, current.span_id):
        return None  # the current context will do
    origin = known_traces.origin_of(write_traceparent(*ids, TraceFlags.SAMPLED))
    if origin is None or origin.parent is None:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    return trace.set_span_in_context(NonRecordingSpan(origin.parent))


def emit_trace(trace: FlextTrace) -> None:
    """Start the span of a trace unless that was done already.

    Args:
        trace: A valid one. From here on its id is known to every service.
    """
    if trace.begin():
        created_traces[trace.id] = trace


def emit_alert(alert: FlextAlert) -> None:
    """Emit an alert, as event and as count, unless that was done already.

    Args:
        alert: A valid one.
    """
    if not alert.emission().claim() or not runtime.is_running():
        return
    told: dict[str, object] = {
        C.ATTR_ALERT_ID: alert.id,
        C.ATTR_ALERT_NAME: alert.name,
        C.ATTR_ALERT_SOURCE: alert.source,
        C.ATTR_ALERT_DETAILS: alert.details,
        C.ATTR_ALERT_TAGS: alert.tags,
        C.ATTR_CORRELATION_ID: alert.correlation_id,
    }
    current = trace.get_current_span().get_span_context()
    if alert.correlation_id == f"{current.trace_id:032x}":
        del told[C.ATTR_CORRELATION_ID]  # nobody set one: the trace id stands in
    _emit_event(
        C.EVENT_ALERT,
        _SEVERITIES[alert.severity],
        alert.created_at,
        alert.message,
        {name: value for name, value in told.items() if value},
    )
    meter = runtime.meter_provider().get_meter(C.SCOPE_NAME)
    meter.create_counter(
        C.METRIC_ALERTS, unit="{alert}", description="Alerts by severity and name."
    ).add(1, {"severity": alert.severity, "name": clean_text(alert.name)})


def tell_alert(alert: FlextAlert, *, is_over: bool = False) -> None:
    """Have Alertmanager told of a processed alert, if a setting names one.

    Args:
        alert: A valid one.
        is_over: Whether it was resolved just now.
    """
    with suppress(Exception):  # the alert is processed, whoever hears of it
        outlets = runtime.outlets()
        if outlets is None or outlets.alerts is None:
            return
        if is_over:
            outlets.alerts.resolve(alert)
        else:
            outlets.alerts.update(alert)


class _LastStatuses:
    """The status of components as a container saw them last; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._by_component: dict[str, str] = {}

    def swap(self, component: str, status: str) -> str | None:
        """Keep a status and give the former; who reports most rarely is forgotten."""
        with self._lock:
            former = self._by_component.pop(component, None)
            if len(self._by_component) >= C.STORE_LIMIT:
                del self._by_component[next(iter(self._by_component))]
            self._by_component[component] = status
            return former


def emit_health_check(check: FlextHealthCheck, container: FlextContainer) -> None:
    """Emit a health check, unless that was done already.

    The gauge always; the event only when the status changed, or at first is not
    healthy.

    Args:
        check: A valid one.
        container: Whose view of the component counts.
    """
    seen = container.store().part("health last emitted", _LastStatuses)
    # A report that this container knows already says nothing about the present.
    if not check.emission().take(seen):
        return
    last = seen.swap(check.component, check.status)
    if not check.emission().claim() or not runtime.is_running():
        return
    component = clean_text(check.component)
    meter = runtime.meter_provider().get_meter(C.SCOPE_NAME)
    meter.create_gauge(
        C.METRIC_HEALTH_STATUS,
        unit="1",
        description="1 healthy, 0.5 degraded, 0 unhealthy.",
    ).set(_HEALTH_FIGURES[check.status], {"component": component})
    if check.status == (last or "healthy"):
        return
    told: dict[str, object] = {
        C.ATTR_HEALTH_COMPONENT: component,
        C.ATTR_HEALTH_STATUS: check.status,
        C.ATTR_HEALTH_FORMER_STATUS: last,
        C.ATTR_HEALTH_DETAILS: check.details,
    }
    _emit_event(
        C.EVENT_HEALTH_CHANGED,
        _HEALTH_LEVELS[check.status],
        check.timestamp,
        check.message or f"{component} is {check.status}",
        {name: value for name, value in told.items() if value},
    )


def _emit_event(
    name: str, level: int, moment: datetime, body: str, attributes: dict[str, object]
) -> None:
    number, text = severity_of(level)
    runtime.otel_logger().emit(
        timestamp=int(moment.timestamp() * 1e9),
        severity_number=number,
        severity_text=text,
        body=clean_text(body),
        attributes=clean_attributes(attributes),
        event_name=name,
    )
