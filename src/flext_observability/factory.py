"""Creation functions: validate, emit, give the entity."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from .container import FlextContainer
from .entities import (
    FlextAlert,
    FlextEntity,
    FlextHealthCheck,
    FlextLogEntry,
    FlextMetric,
)
from .recording import (
    emit_alert,
    emit_health_check,
    emit_log_entry,
    emit_metric,
    emit_trace,
)
from .result import FlextResult
from .services.tracing import trace_totals
from .traces import CREATING, FlextTrace

E = TypeVar("E", bound=FlextEntity)

# A wrong type in these fields is told in the words of the entity's own rule.
_RULE_OF_FIELD = {
    ("Metric", "name"): "Invalid metric name",
    ("Metric", "value"): "Invalid metric value",
    ("Metric", "metric_type"): "Invalid metric type",
    ("Trace", "operation_name"): "Invalid operation name",
    ("Trace", "service_name"): "Invalid service name",
    ("Alert", "name"): "Invalid alert name",
    ("Alert", "severity"): "Invalid severity level",
    ("Alert", "message"): "Invalid alert message",
    ("Health check", "name"): "Invalid health check name",
    ("Health check", "status"): "Invalid health status",
    ("Log entry", "level"): "Invalid log level",
    ("Log entry", "message"): "Invalid log message",
}


def _create(
    what: str, kind: type[E], emit: Callable[[E], None], fields: Mapping[str, Any]
) -> FlextResult[E]:
    """Make an entity of arguments, check its rules, emit it."""
    try:
        entity = kind.model_validate(dict(fields), context=CREATING)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "value"
        rule = _RULE_OF_FIELD.get((what, field))
        message = rule or f"{what} creation failed: {field}: {first['msg']}"
        return FlextResult[E].fail(message, exception=error)
    except Exception as error:  # noqa: BLE001 - e.g. a tag whose __str__ raises
        message = f"{what} creation failed: {type(error).__name__}"
        return FlextResult[E].fail(message, exception=error)
    checked = entity.validate_business_rules()
    if checked.is_failure:
        return FlextResult[E].fail(checked.error)
    try:
        emit(entity)
    except Exception as error:  # noqa: BLE001 - emission is separate from success
        return FlextResult[E].fail(
            f"{what} creation failed: emission: {type(error).__name__}", exception=error
        )
    return FlextResult[E].ok(entity)


def _given(**fields: Any) -> dict[str, Any]:
    """Leave out what was not given: the entity knows the default."""
    return {name: value for name, value in fields.items() if value is not None}


class FlextObservabilityMasterFactory:
    """Makes entities for one container: validated, emitted, ready to use."""

    def __init__(self, container: FlextContainer | None = None) -> None:
        """Make a factory.

        Args:
            container: The process-wide one when not given.
        """
        self.container = container or FlextContainer.get_global()

    def create_metric(
        self,
        name: str,
        value: float | Decimal,
        unit: str = "",
        tags: Mapping[str, object] | None = None,
        metric_type: str = "gauge",
        *,
        timestamp: datetime | None = None,
    ) -> FlextResult[FlextMetric]:
        """Do what :func:`flext_create_metric` does."""
        fields = {
            "name": name,
            "value": value,
            "unit": unit,
            "metric_type": metric_type,
        }
        optional = _given(tags=tags, timestamp=timestamp)
        return _create("Metric", FlextMetric, emit_metric, {**fields, **optional})

    def create_trace(
        self,
        operation_name: str | None = None,
        service_name: str | None = None,
        context: Mapping[str, object] | None = None,
        parent_trace_id: str | None = None,
        *,
        name: str | None = None,
        operation: str | None = None,
    ) -> FlextResult[FlextTrace]:
        """Do what :func:`flext_create_trace` does."""
        named = next(
            (text for text in (operation_name, name, operation) if text is not None), ""
        )
        optional = _given(
            service_name=service_name,
            context=context,
            parent_trace_id=parent_trace_id,
            operation=operation,
        )
        fields = {"operation_name": named, **optional}
        return _create("Trace", FlextTrace, self._emit_trace, fields)

    def _emit_trace(self, trace: FlextTrace) -> None:
        emit_trace(trace)
        trace.life().join(trace_totals(self.container), trace.id)

    def create_alert(
        self,
        name: str | None = None,
        severity: str | None = None,
        message: str | None = None,
        details: Mapping[str, object] | None = None,
        *,
        source: str = "",
        tags: Mapping[str, object] | None = None,
        title: str | None = None,
    ) -> FlextResult[FlextAlert]:
        """Do what :func:`flext_create_alert` does."""
        fields = {
            "name": title if name is None else name,
            "severity": severity,
            "message": message,
            "source": source,
        }
        optional = _given(details=details, tags=tags)
        return _create("Alert", FlextAlert, emit_alert, {**fields, **optional})

    def create_health_check(
        self,
        name: str,
        status: str,
        message: str = "",
        details: Mapping[str, object] | None = None,
        *,
        dependencies: Sequence[str] | None = None,
    ) -> FlextResult[FlextHealthCheck]:
        """Do what :func:`flext_create_health_check` does."""
        fields = {"name": name, "status": status, "message": message}
        optional = _given(details=details, dependencies=dependencies)
        return _create(
            "Health check",
            FlextHealthCheck,
            partial(emit_health_check, container=self.container),
            {**fields, **optional},
        )

    def create_log_entry(
        self,
        level: str,
        message: str,
        context: Mapping[str, object] | None = None,
        correlation_id: str | None = None,
    ) -> FlextResult[FlextLogEntry]:
        """Do what :func:`flext_create_log_entry` does."""
        fields = {"level": level, "message": message}
        optional = _given(context=context, correlation_id=correlation_id)
        return _create(
            "Log entry", FlextLogEntry, emit_log_entry, {**fields, **optional}
        )


def get_global_factory() -> FlextObservabilityMasterFactory:
    """Give the factory of the global container; the same object until a reset."""
    container = FlextContainer.get_global()
    return container.store().part(
        "factory", lambda: FlextObservabilityMasterFactory(container)
    )


def reset_global_factory() -> None:
    """Forget the global factory and the global container.

    Services built before keep theirs.
    """
    FlextContainer.reset_global()


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
