"""The factory: validate, emit, give the entity, perhaps keep it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

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
from .services.alerts import FlextAlertService
from .services.health import FlextHealthService
from .services.logging import FlextLoggingService
from .services.membership import container_or_global
from .services.metrics import FlextMetricsService
from .services.tracing import FlextTracingService, trace_totals
from .traces import CREATING, FlextTrace

E = TypeVar("E", bound=FlextEntity)
S = TypeVar("S")
P = ParamSpec("P")


def _create(
    what: str, kind: type[E], emit: Callable[[E], None], fields: Mapping[str, Any]
) -> FlextResult[E]:
    """Make an entity of arguments, check its rules, emit it."""
    try:
        entity = kind.model_validate(dict(fields), context=CREATING)
    except ValidationError as error:
        why = kind.explain(fields, error)
        is_rule = why.startswith("Invalid ")
        message = why if is_rule else f"{what} creation failed: {why}"
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


def _kept_by(
    create: Callable[Concatenate["FlextObservabilityMasterFactory", P], FlextResult[E]],
) -> Callable[
    [Callable[["FlextObservabilityMasterFactory", E], FlextResult[E]]],
    Callable[Concatenate["FlextObservabilityMasterFactory", P], FlextResult[E]],
]:
    """Make a method with the parameters of ``create`` of one that keeps the entity."""

    def decorate(
        keep: Callable[["FlextObservabilityMasterFactory", E], FlextResult[E]],
    ) -> Callable[Concatenate["FlextObservabilityMasterFactory", P], FlextResult[E]]:
        @functools.wraps(create)
        def method(
            self: "FlextObservabilityMasterFactory",
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> FlextResult[E]:
            return create(self, *args, **kwargs).flat_map(lambda made: keep(self, made))

        for name in ("__name__", "__qualname__", "__doc__"):
            setattr(method, name, getattr(keep, name))
        return method

    return decorate


class FlextObservabilityMasterFactory:
    """Makes entities for one container: validated, emitted, ready to use.

    The ``create_*`` methods give an entity; ``metric``, ``trace``, ``alert``,
    ``health_check`` and ``log`` keep it in the container's store too.
    """

    def __init__(self, container: FlextContainer | None = None) -> None:
        """Make a factory.

        Args:
            container: The process-wide one when not given.
        """
        self.container = container_or_global(container)

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
            functools.partial(emit_health_check, container=self.container),
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

    # -- making and keeping

    def _service(self, key: str, kind: Callable[[FlextContainer], S]) -> S:
        """Give the container's service, which may be of a class derived from ours."""
        found = self.container.get_typed(key, cast("type[S]", kind))
        return found.data if found.success else kind(self.container)

    @_kept_by(create_metric)
    def metric(self, metric: FlextMetric) -> FlextResult[FlextMetric]:
        """Do what :meth:`create_metric` does, and record the metric."""
        service = self._service("metrics_service", FlextMetricsService)
        return service.record_metric(metric)

    @_kept_by(create_trace)
    def trace(self, trace: FlextTrace) -> FlextResult[FlextTrace]:
        """Do what :meth:`create_trace` does, and keep the trace."""
        service = self._service("tracing_service", FlextTracingService)
        return service.start_trace(trace)

    @_kept_by(create_alert)
    def alert(self, alert: FlextAlert) -> FlextResult[FlextAlert]:
        """Do what :meth:`create_alert` does, and process the alert."""
        service = self._service("alert_service", FlextAlertService)
        return service.process_alert(alert)

    @_kept_by(create_health_check)
    def health_check(self, check: FlextHealthCheck) -> FlextResult[FlextHealthCheck]:
        """Do what :meth:`create_health_check` does, and keep the report."""
        service = self._service("health_service", FlextHealthService)
        return service.execute_health_check(check)

    @_kept_by(create_log_entry)
    def log(self, entry: FlextLogEntry) -> FlextResult[FlextLogEntry]:
        """Do what :meth:`create_log_entry` does, and keep the entry."""
        service = self._service("logging_service", FlextLoggingService)
        return service.log_entry(entry)

    def health_status(self) -> FlextResult[dict[str, Any]]:
        """Give the overall health of the container."""
        return self._service("health_service", FlextHealthService).get_overall_health()


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
