"""Creation functions: what the global factory makes, in one call each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from .entities import FlextAlert, FlextHealthCheck, FlextLogEntry, FlextMetric
from .factory import get_global_factory
from .result import FlextResult
from .traces import FlextTrace


def flext_create_metric(
    name: str,
    value: float | Decimal,
    unit: str = "",
    tags: Mapping[str, object] | None = None,
    metric_type: str = "gauge",
    *,
    timestamp: datetime | None = None,
) -> FlextResult[FlextMetric]:
    """Measure once: make a metric, check it, put it on its instrument.

    Args:
        name: Not blank, at most 255 characters; what OTel refuses becomes ``_`` there.
        value: Finite; not negative for counter and histogram.
        unit: UCUM code such as ``s``, or a word.
        tags: Labels; turned into text.
        metric_type: ``gauge`` sets, ``counter`` adds, ``histogram`` records.
        timestamp: When it was measured; now when not given.
    """
    return get_global_factory().create_metric(
        name, value, unit, tags, metric_type, timestamp=timestamp
    )


def flext_create_trace(
    operation_name: str | None = None,
    service_name: str | None = None,
    context: Mapping[str, object] | None = None,
    parent_trace_id: str | None = None,
    *,
    name: str | None = None,
    operation: str | None = None,
) -> FlextResult[FlextTrace]:
    """Begin a piece of work: make a trace, check it, start its span.

    The span is not made current: ``with trace:`` does that. It ends when the block
    does, by ``trace.complete()`` or ``trace.fail(error)``, by the tracing service, or
    when nobody holds the trace any more.

    Args:
        operation_name: Name of the span.
        service_name: The configured one when not given.
        context: Any values; they become attributes of the span.
        parent_trace_id: The ``id`` of a trace, of here or of another process, or the
            32 hex digits of a trace id; wins over ``context["parent_trace_id"]``.
        name: The same as ``operation_name``.
        operation: What kind of work it is; stands in for a missing name.
    """
    return get_global_factory().create_trace(
        operation_name,
        service_name,
        context,
        parent_trace_id,
        name=name,
        operation=operation,
    )


def flext_create_alert(
    name: str | None = None,
    severity: str | None = None,
    message: str | None = None,
    details: Mapping[str, object] | None = None,
    *,
    source: str = "",
    tags: Mapping[str, object] | None = None,
    title: str | None = None,
) -> FlextResult[FlextAlert]:
    """Raise an alert: make it, check it, emit the event and count it.

    Args:
        name: What the alert is called.
        severity: ``info``, ``warning``, ``error`` or ``critical``, in any case.
        message: What a person should know.
        details: Any values.
        source: Where it comes from.
        tags: Labels; turned into text.
        title: Stands in for ``name``.
    """
    return get_global_factory().create_alert(
        name, severity, message, details, source=source, tags=tags, title=title
    )


def flext_create_health_check(
    name: str,
    status: str,
    message: str = "",
    details: Mapping[str, object] | None = None,
    *,
    dependencies: Sequence[str] | None = None,
) -> FlextResult[FlextHealthCheck]:
    """Report how a component is: make a health check, check it, emit it.

    Args:
        name: Of the component.
        status: ``healthy``, ``degraded`` or ``unhealthy``, in any case.
        message: Why.
        details: Any values.
        dependencies: Names of other components that it needs.
    """
    return get_global_factory().create_health_check(
        name, status, message, details, dependencies=dependencies
    )


def flext_create_log_entry(
    level: str,
    message: str,
    context: Mapping[str, object] | None = None,
    correlation_id: str | None = None,
) -> FlextResult[FlextLogEntry]:
    """Log once: make an entry, check it, emit it joined to the current span.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``, in any case;
            below the configured ``log_level`` the entry is made but not emitted.
        message: Not blank.
        context: Any values; they become attributes.
        correlation_id: The current one when not given.
    """
    return get_global_factory().create_log_entry(
        level, message, context, correlation_id
    )
