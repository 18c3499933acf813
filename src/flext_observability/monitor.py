"""Monitoring in the name of one service or component."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from logging import getLogger
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from pydantic import TypeAdapter

from . import runtime
from ._pipeline.values import clean_attributes
from .constants import FlextObservabilityConstants as C
from .correlation import context_attributes, enter_attributes, restore
from .entities import FlextHealthCheck, FlextMetric
from .locks import ForkSafeLock
from .monitoring import flext_monitor_function, is_bare
from .result import FlextResult
from .services.health import FlextHealthService
from .services.membership import container_or_global
from .services.metrics import FlextMetricsService
from .services.outcome import never_raises
from .settings import Settings
from .settings_reader import settings_in_force

if TYPE_CHECKING:
    from .container import FlextContainer

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")

_logger = getLogger("flext_observability")
_NAME: TypeAdapter[str | None] = TypeAdapter(str | None)
_STOP_TIMEOUT_S = 5.0


class FlextObservabilityMonitor:
    """Monitoring in the name of one service or component.

    What is made through it carries ``service=<service_name>``. It works without being
    started; started, it checks the machine and the registered health checks of its
    container in the background.
    """

    def __init__(
        self,
        service_name: str | None = None,
        *,
        container: "FlextContainer | None" = None,
    ) -> None:
        """Make a monitor.

        Args:
            service_name: The configured one when not given.
            container: Whose services are used; the one of the process when not given.
        """
        self.service_name = _NAME.validate_python(service_name) or _configured_name()
        self.container = container_or_global(container)
        self._attributes = {C.ATTR_MONITOR_SERVICE: self.service_name}
        self._created = time.monotonic()
        self._functions = 0
        self._lock = ForkSafeLock()
        self._rounds: _Rounds | None = None

    # -- what is made in its name

    @overload
    def function(self, operation_name: F, /) -> F: ...

    @overload
    def function(
        self, operation_name: str | None = None, **options: Any
    ) -> Callable[[F], F]: ...

    def function(self, operation_name: Any = None, **options: Any) -> Any:
        """Do what :func:`flext_monitor_function` does, in the name of this monitor.

        Args:
            operation_name: As there; also bare, ``@monitor.function``.
            **options: As there.
        """
        given = cast("Mapping[str, Any] | None", options.pop("attributes", None))
        attributes = {**clean_attributes(given), **self._attributes}
        bare = is_bare(operation_name)
        name = None if bare else operation_name
        decorate = flext_monitor_function(name, attributes=attributes, **options)

        def counted(function: Any) -> Any:
            with self._lock:
                self._functions += 1
            return decorate(function)

        return counted(operation_name) if bare else counted

    @contextmanager
    def context(self, **attributes: Any) -> Generator[Self]:
        """Put attributes on every span and log record begun inside.

        Tasks begun inside inherit them; threads do when they inherit the context.

        Args:
            **attributes: Any values. What a span or record says itself wins.
        """
        token = enter_attributes({**clean_attributes(attributes), **self._attributes})
        set_here = context_attributes()
        try:
            yield self
        finally:
            restore(token, set_here)

    @never_raises
    def record_metric(
        self,
        name: str,
        value: float | Decimal,
        unit: str = "",
        tags: Mapping[str, object] | None = None,
        metric_type: str = "gauge",
    ) -> FlextResult[FlextMetric]:
        """Record a metric with the tag ``service``.

        Returns:
            The metric, or ``Metric validation failed: <message>``.
        """
        tagged: Any = self._attributes if tags is None else tags
        if isinstance(tags, Mapping):
            tagged = {**tags, **self._attributes}
        return FlextMetricsService(self.container).record_metric(
            name, value, unit, tagged, metric_type
        )

    # -- the background

    @property
    def is_active(self) -> bool:
        """Whether the checks run in the background."""
        rounds = self._rounds
        return rounds is not None and rounds.is_alive()

    @never_raises
    def start(self) -> FlextResult[None]:
        """Check at once and then every ``health_check_interval_s``; may be repeated.

        Each round reports the components ``system.memory``, ``system.disk``,
        ``system.threads`` and ``system.observability_service``, and runs the registered
        health checks of the container.
        """
        with self._lock:
            if not self.is_active:
                self._rounds = _Rounds(FlextHealthService(self.container))
                self._rounds.start()
        return FlextResult[None].ok(None)

    @never_raises
    def stop(self) -> FlextResult[None]:
        """End the background checks; may be repeated."""
        with self._lock:
            rounds, self._rounds = self._rounds, None
        if rounds is not None:
            rounds.stop()
        return FlextResult[None].ok(None)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    # -- questions

    @never_raises
    def health_status(self) -> FlextResult[dict[str, Any]]:
        """Give the overall health of the container, and ``monitor_metrics``."""
        own = {
            "monitor_uptime_seconds": time.monotonic() - self._created,
            "functions_monitored": self._functions,
            "monitoring_active": self.is_active,
        }
        overall = FlextHealthService(self.container).get_overall_health()
        return overall.map(lambda found: {**found, "monitor_metrics": own})

    @never_raises
    def metrics_summary(self) -> FlextResult[dict[str, Any]]:
        """Give the metrics summary of the container."""
        return FlextMetricsService(self.container).get_metrics_summary()


class _Rounds:
    """The thread of a started monitor."""

    def __init__(self, health: FlextHealthService) -> None:
        self._health = health
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="flext-monitor", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a round that hangs in a check is left behind, its thread is a daemon."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT_S)

    def is_alive(self) -> bool:
        """Whether it runs; never in a forked child, which has no such thread."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._round()
            self._stopping.wait(_interval_s())

    def _round(self) -> None:
        found = self._health.perform_system_health_check()
        if found.is_failure:
            _logger.warning("system health check: %s", found.error)
        for name, figures in (found.data or {}).items():
            if not isinstance(figures, Mapping):
                continue  # what was skipped
            given = dict(cast("Mapping[str, Any]", figures))
            self._health.execute_health_check(
                FlextHealthCheck(
                    name=f"system.{name}", status=given.pop("status"), details=given
                )
            )
        if not self._stopping.is_set():
            self._health.run_checks()


def _configured_name() -> str:
    return _setting(lambda config: config.service_name, C.DEFAULT_SERVICE_NAME)


def _interval_s() -> float:
    default = C.DEFAULT_HEALTH_CHECK_INTERVAL_S
    return _setting(lambda config: config.health_check_interval_s, default)


V = TypeVar("V")


def _setting(read: Callable[[Settings], V], default: V) -> V:
    """Read a setting in force; a broken environment is told by ``setup()``."""
    config = runtime.current_config()
    found = FlextResult.ok(None).map(lambda _: read(config or settings_in_force()))
    return found.unwrap_or(default)
