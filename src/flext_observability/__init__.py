"""flext-observability: traces, metrics and logs of a Python service in one call.

>>> import flext_observability as fo
>>> fo.setup(service_name="orders")  # doctest: +SKIP

Every public name is imported from here; sub-modules are private. Names are loaded when
they are first used, so that importing the package costs next to nothing.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application_settings import FlextBaseSettings, ObservabilitySettings
    from .asgi import FlextASGIMiddleware
    from .config import FlextObservabilityConfig
    from .constants import FlextObservabilityConstants
    from .container import FlextContainer
    from .correlation import flext_get_correlation_id, flext_set_correlation_id
    from .creation import (
        flext_create_alert,
        flext_create_health_check,
        flext_create_log_entry,
        flext_create_metric,
        flext_create_trace,
    )
    from .entities import (
        FlextAlert,
        FlextEntity,
        FlextHealthCheck,
        FlextLogEntry,
        FlextMetric,
    )
    from .errors import (
        FlextObservabilityConfigurationError,
        FlextObservabilityConnectionError,
        FlextObservabilityError,
        FlextObservabilityHealthError,
        FlextObservabilityLoggingError,
        FlextObservabilityMetricsError,
        FlextObservabilityProcessingError,
        FlextObservabilityTimeoutError,
        FlextObservabilityTracingError,
        FlextObservabilityValidationError,
    )
    from .factory import (
        FlextObservabilityMasterFactory,
        get_global_factory,
        reset_global_factory,
    )
    from .instruments import flext_counter, flext_gauge, flext_histogram
    from .lifecycle import FlextObservability, flush, setup, shutdown, status
    from .logs import FlextLogger, FlextStructuredLogger, get_logger
    from .monitor import FlextObservabilityMonitor
    from .monitoring import flext_monitor_function
    from .platform import FlextObservabilityPlatformV2
    from .propagation import (
        flext_correlation_scope,
        flext_extract_headers,
        flext_inject_headers,
    )
    from .protocols import FlextObservabilityProtocols
    from .report import FlextObservabilityStatus
    from .repository import FlextObservabilityRepository
    from .result import FlextResult
    from .services.alerts import FlextAlertService
    from .services.domain import FlextDomainService
    from .services.facade import (
        FlextObservabilityService,
        FlextObservabilityServices,
        get_global_observability_service,
    )
    from .services.health import FlextHealthService
    from .services.logging import FlextLoggingService
    from .services.metrics import FlextMetricsService
    from .services.tracing import FlextTracingService
    from .spans import flext_add_attributes, flext_span
    from .system import FlextMetricsCollector
    from .traces import FlextTrace
    from .typings import FlextObservabilityTypes
    from .wsgi import FlextWSGIMiddleware

    __version__: str

# Where each name is defined; the type checker's imports above say the same.
_MODULES = {
    "asgi": ("FlextASGIMiddleware",),
    "application_settings": ("FlextBaseSettings", "ObservabilitySettings"),
    "config": ("FlextObservabilityConfig",),
    "constants": ("FlextObservabilityConstants",),
    "container": ("FlextContainer",),
    "correlation": ("flext_get_correlation_id", "flext_set_correlation_id"),
    "creation": (
        "flext_create_alert",
        "flext_create_health_check",
        "flext_create_log_entry",
        "flext_create_metric",
        "flext_create_trace",
    ),
    "entities": (
        "FlextAlert",
        "FlextEntity",
        "FlextHealthCheck",
        "FlextLogEntry",
        "FlextMetric",
    ),
    "errors": (
        "FlextObservabilityConfigurationError",
        "FlextObservabilityConnectionError",
        "FlextObservabilityError",
        "FlextObservabilityHealthError",
        "FlextObservabilityLoggingError",
        "FlextObservabilityMetricsError",
        "FlextObservabilityProcessingError",
        "FlextObservabilityTimeoutError",
        "FlextObservabilityTracingError",
        "FlextObservabilityValidationError",
    ),
    "factory": (
        "FlextObservabilityMasterFactory",
        "get_global_factory",
        "reset_global_factory",
    ),
    "instruments": ("flext_counter", "flext_gauge", "flext_histogram"),
    "logs": ("FlextLogger", "FlextStructuredLogger", "get_logger"),
    "monitor": ("FlextObservabilityMonitor",),
    "monitoring": ("flext_monitor_function",),
    "spans": ("flext_add_attributes", "flext_span"),
    "platform": ("FlextObservabilityPlatformV2",),
    "propagation": (
        "flext_correlation_scope",
        "flext_extract_headers",
        "flext_inject_headers",
    ),
    "protocols": ("FlextObservabilityProtocols",),
    "repository": ("FlextObservabilityRepository",),
    "result": ("FlextResult",),
    "lifecycle": ("FlextObservability", "flush", "setup", "shutdown", "status"),
    "report": ("FlextObservabilityStatus",),
    "services.alerts": ("FlextAlertService",),
    "services.domain": ("FlextDomainService",),
    "services.facade": (
        "FlextObservabilityService",
        "FlextObservabilityServices",
        "get_global_observability_service",
    ),
    "services.health": ("FlextHealthService",),
    "services.logging": ("FlextLoggingService",),
    "services.metrics": ("FlextMetricsService",),
    "services.tracing": ("FlextTracingService",),
    "system": ("FlextMetricsCollector",),
    "traces": ("FlextTrace",),
    "typings": ("FlextObservabilityTypes",),
    "wsgi": ("FlextWSGIMiddleware",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "FlextASGIMiddleware",
    "FlextAlert",
    "FlextAlertService",
    "FlextBaseSettings",
    "FlextContainer",
    "FlextDomainService",
    "FlextEntity",
    "FlextHealthCheck",
    "FlextHealthService",
    "FlextLogEntry",
    "FlextLogger",
    "FlextLoggingService",
    "FlextMetric",
    "FlextMetricsCollector",
    "FlextMetricsService",
    "FlextObservability",
    "FlextObservabilityConfig",
    "FlextObservabilityConfigurationError",
    "FlextObservabilityConnectionError",
    "FlextObservabilityConstants",
    "FlextObservabilityError",
    "FlextObservabilityHealthError",
    "FlextObservabilityLoggingError",
    "FlextObservabilityMasterFactory",
    "FlextObservabilityMetricsError",
    "FlextObservabilityMonitor",
    "FlextObservabilityPlatformV2",
    "FlextObservabilityProcessingError",
    "FlextObservabilityProtocols",
    "FlextObservabilityRepository",
    "FlextObservabilityService",
    "FlextObservabilityServices",
    "FlextObservabilityStatus",
    "FlextObservabilityTimeoutError",
    "FlextObservabilityTracingError",
    "FlextObservabilityTypes",
    "FlextObservabilityValidationError",
    "FlextResult",
    "FlextStructuredLogger",
    "FlextTrace",
    "FlextTracingService",
    "FlextWSGIMiddleware",
    "ObservabilitySettings",
    "__version__",
    "flext_add_attributes",
    "flext_correlation_scope",
    "flext_counter",
    "flext_create_alert",
    "flext_create_health_check",
    "flext_create_log_entry",
    "flext_create_metric",
    "flext_create_trace",
    "flext_extract_headers",
    "flext_gauge",
    "flext_get_correlation_id",
    "flext_histogram",
    "flext_inject_headers",
    "flext_monitor_function",
    "flext_set_correlation_id",
    "flext_span",
    "flush",
    "get_global_factory",
    "get_global_observability_service",
    "get_logger",
    "reset_global_factory",
    "setup",
    "shutdown",
    "status",
]


_VERBS = ("instruments", "logs", "monitoring", "propagation", "spans")


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        from .constants import VERSION

        found: object = VERSION
    elif name in _HOME:
        found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        if name == "setup":
            # First used in a thread while another one forks, these would leave the
            # child a module lock that nobody releases.
            for verbs in _VERBS:
                import_module(f"{__name__}.{verbs}")
            # Stands above all that setup knows, and tells the running system of itself.
            import_module(f"{__name__}.web.surface").install()
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)


_AFTER_FORK = (
    ("locks", "renew_all"),
    ("_pipeline.ids", "start_over"),
    ("runtime", "start_over"),
)


def _start_over_in_child() -> None:
    """Leave the parent's pipeline alone, before a later fork hook can use it.

    Hooks run in the order of their registration: here, not in the modules, because a
    program may register its own in between and have it log, make a span, or start a
    thread that does.
    """
    for name, verb in _AFTER_FORK:
        module = sys.modules.get(f"{__name__}.{name}")
        start_over: Any = getattr(module, verb, None)  # none while it is loaded
        if start_over is not None:
            start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_in_child)
