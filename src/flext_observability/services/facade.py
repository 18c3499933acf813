"""All five services under one name."""

from typing import ClassVar

from ..container import FlextContainer
from .alerts import FlextAlertService
from .health import FlextHealthService
from .logging import FlextLoggingService
from .membership import container_or_global
from .metrics import FlextMetricsService
from .tracing import FlextTracingService


class FlextObservabilityServices:
    """The five service classes; an instance has one of each on one container."""

    MetricsService: ClassVar = FlextMetricsService
    TracingService: ClassVar = FlextTracingService
    AlertService: ClassVar = FlextAlertService
    HealthService: ClassVar = FlextHealthService
    LoggingService: ClassVar = FlextLoggingService

    def __init__(self, container: FlextContainer | None = None) -> None:
        """Build the services.

        Args:
            container: What they share; the one of the process when not given.
        """
        self.container = container_or_global(container)
        self.metrics = FlextMetricsService(self.container)
        self.tracing = FlextTracingService(self.container)
        self.alerts = FlextAlertService(self.container)
        self.health = FlextHealthService(self.container)
        self.logging = FlextLoggingService(self.container)


class FlextObservabilityService(FlextObservabilityServices):
    """The services of a container, as an application's one object."""


def get_global_observability_service() -> FlextObservabilityService:
    """Give the services of the global container; the same object until a reset."""
    container = FlextContainer.get_global()
    return container.store().part(
        "observability service", lambda: FlextObservabilityService(container)
    )
