"""Configuration, container, factory and health under one object."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from .config import FlextObservabilityConfig
from .constants import VERSION
from .entities import FlextAlert, FlextLogEntry, FlextMetric
from .factory import FlextObservabilityMasterFactory
from .logs import FlextLogger, get_logger
from .result import FlextResult
from .services.health import FlextHealthService
from .services.membership import container_or_global
from .traces import FlextTrace

if TYPE_CHECKING:
    from .container import FlextContainer

_FIELDS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class FlextObservabilityPlatformV2:
    """Makes, emits and keeps entities for one container. It starts no pipeline."""

    def __init__(
        self,
        config: Mapping[str, Any] | FlextObservabilityConfig | None = None,
        container: "FlextContainer | None" = None,
    ) -> None:
        """Make a platform.

        Args:
            config: Fields of ``FlextObservabilityConfig``; the settings in force when
                not given.
            container: The one of the process when not given.

        Raises:
            ValidationError: A field is unknown or has a wrong value.
        """
        if config is None:
            self.config = FlextObservabilityConfig.get_global_instance()
        elif isinstance(config, FlextObservabilityConfig):
            self.config = config
        else:
            fields = _FIELDS.validate_python(config)
            self.config = FlextObservabilityConfig(**fields)
        self.container = container_or_global(container)
        self.name = self.config.service_name
        self.version = self.config.service_version or VERSION
        self.logger: FlextLogger = get_logger(self.name)
        self._factory = FlextObservabilityMasterFactory(self.container)

    def metric(
        self,
        name: str,
        value: float | Decimal,
        unit: str = "",
        tags: Mapping[str, object] | None = None,
        metric_type: str = "gauge",
        *,
        timestamp: datetime | None = None,
    ) -> FlextResult[FlextMetric]:
        """Make, emit and keep a metric, as the factory does."""
        return self._factory.metric(
            name, value, unit, tags, metric_type, timestamp=timestamp
        )

    def trace(
        self,
        operation_name: str | None = None,
        service_name: str | None = None,
        context: Mapping[str, object] | None = None,
        parent_trace_id: str | None = None,
        **named: Any,
    ) -> FlextResult[FlextTrace]:
        """Begin and keep a trace, as the factory does."""
        return self._factory.trace(
            operation_name, service_name, context, parent_trace_id, **named
        )

    def alert(
        self,
        name: str | None = None,
        severity: str | None = None,
        message: str | None = None,
        details: Mapping[str, object] | None = None,
        **named: Any,
    ) -> FlextResult[FlextAlert]:
        """Raise and keep an alert, as the factory does."""
        return self._factory.alert(name, severity, message, details, **named)

    def log(
        self,
        level: str,
        message: str,
        context: Mapping[str, object] | None = None,
        correlation_id: str | None = None,
    ) -> FlextResult[FlextLogEntry]:
        """Emit and keep a log entry, as the factory does."""
        return self._factory.log(level, message, context, correlation_id)

    def health_check(self) -> FlextResult[dict[str, Any]]:
        """Give the overall health of the container."""
        return FlextHealthService(self.container).get_overall_health()
