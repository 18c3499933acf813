"""From entities to OpenTelemetry: the one translation, at most once per entity."""

from decimal import Decimal
from logging import getLevelNamesMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from . import runtime
from ._pipeline.log_bridge import severity_of
from ._pipeline.values import clean_attributes, clean_labels, clean_text
from .constants import FlextObservabilityConstants as C
from .constants import buckets_for
from .entities import FlextLogEntry, FlextMetric
from .monitoring import legal_metric_name


def emit_metric(metric: FlextMetric) -> None:
    """Put a metric on its instrument unless that was done already.

    Args:
        metric: A valid one. Gauge sets, counter adds, histogram records.
    """
    mark = metric.emission()
    if mark.done:
        return
    mark.done = True
    if not runtime.is_running():
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
    mark = entry.emission()
    if mark.done:
        return
    mark.done = True
    config = runtime.current_config()
    if not runtime.is_running():
        return
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
        span_context = SpanContext(
            int(entry.trace_id or "0", 16),
            int(entry.span_id or "0", 16),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    except ValueError:
        return None
    if not span_context.is_valid:
        return None
    return trace.set_span_in_context(NonRecordingSpan(span_context))
