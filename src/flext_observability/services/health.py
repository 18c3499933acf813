"""Health: reports of components, their aggregation, checks of the machine."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..entities import FlextAlert, FlextHealthCheck
from ..lifecycle import status
from ..recording import emit_health_check, tell_alert
from ..result import FlextResult
from ..settings_reader import settings_in_force
from .alerts import FlextAlertService
from .checks import Probe, Probes
from .health_records import HealthRecords, StreakAlerts
from .membership import bounds_in_force, container_or_global, enrol, shelf_of
from .outcome import is_text, never_raises
from .resources import disk_check, memory_check, thread_check

if TYPE_CHECKING:
    from ..container import FlextContainer

_DEFAULT_TIMEOUT_S = 5.0


class FlextHealthService:
    """Knows how the components are, and how the whole is."""

    def __init__(self, container: "FlextContainer | None" = None) -> None:
        """Join a container.

        Args:
            container: Its services share a store; the one of the process when not
                given.
        """
        self.container = container_or_global(container)
        store = self.container.store()
        self._records = store.part("health records", HealthRecords)
        self._probes = store.part("health probes", Probes)
        self._streaks = store.part("health alerts", StreakAlerts)
        enrol(self.container, "health_service", self)

    @never_raises
    def execute_health_check(
        self, check: FlextHealthCheck
    ) -> FlextResult[FlextHealthCheck]:
        """Check a report, emit it unless that was done, keep it as the latest.

        The third report in a row that is not healthy (``health_failure_threshold``)
        raises the alert ``<name>_unhealthy``, once per streak, unless
        ``health_alert_on_failure`` is off. A healthy report resolves it.

        Returns:
            The report, or ``Health check validation failed: <message>``.
        """
        if not isinstance(check, FlextHealthCheck):
            return _invalid(f"not a FlextHealthCheck: {type(check).__name__}")
        checked = check.validate_business_rules()
        if checked.is_failure:
            return _invalid(checked.error)
        threshold, is_alerting = _alerting()
        is_streak = self._records.add(check, bounds_in_force(), threshold)
        emit_health_check(check, self.container)
        if is_streak and is_alerting:
            self._raise_alert(check, threshold)
        elif check.status == "healthy":
            self._end_alert(check.name)
        return FlextResult[FlextHealthCheck].ok(check)

    def _raise_alert(self, check: FlextHealthCheck, threshold: int) -> None:
        reason = f": {check.message}" if check.message else ""
        alert = FlextAlert(
            name=f"{check.name}_unhealthy",
            severity="error",
            message=(
                f"{check.name} is {check.status}, "
                f"not healthy {threshold} times in a row{reason}"
            ),
            details={"component": check.name, "status": check.status},
            source="health",
        )
        FlextAlertService(self.container).process_alert(alert)
        self._streaks.keep(check.name, alert)

    def _end_alert(self, component: str) -> None:
        alert = self._streaks.take(component)
        if alert is None:
            return
        service = FlextAlertService(self.container)
        if service.resolve_alert(alert.id).is_failure:  # the store has let it go
            tell_alert(alert, is_over=True)

    @never_raises
    def get_overall_health(self) -> FlextResult[dict[str, Any]]:
        """Aggregate the latest report of every component.

        Returns:
            ``overall_status`` (``unknown`` without any component), ``health_score``,
            ``summary``, ``components``, ``uptime_seconds``, ``timestamp``.
        """
        return FlextResult[dict[str, Any]].ok(self._records.overall())

    @never_raises
    def get_component_health_history(
        self, name: str
    ) -> FlextResult[list[dict[str, Any]]]:
        """Give the last 100 reports of a component, the oldest first."""
        return FlextResult[list[dict[str, Any]]].ok(self._records.history(name))

    @never_raises
    def perform_system_health_check(self) -> FlextResult[dict[str, Any]]:
        """Measure the machine and this process.

        Returns:
            ``memory``, ``disk``, ``threads`` and ``observability_service``, each with
            ``status`` and figures; ``skipped`` names what cannot be measured here.
        """
        memory = memory_check()
        found: dict[str, Any] = {} if memory is None else {"memory": memory}
        found |= {
            "disk": disk_check(),
            "threads": thread_check(),
            "observability_service": self._own_check(),
            "skipped": ["memory"] if memory is None else [],
        }
        return FlextResult[dict[str, Any]].ok(found)

    def _own_check(self) -> dict[str, Any]:
        now = status()
        ledgers = now.signals.values()
        lost = sum(each.rejected + sum(each.dropped.values()) for each in ledgers)
        return {
            "status": "degraded" if lost else "healthy",
            "running": now.running,
            "records_delivered": sum(each.delivered for each in ledgers),
            "records_lost": lost,
            "records_pending": sum(each.pending for each in ledgers),
            "metrics_stored": len(shelf_of(self.container, "metrics")),
        }

    @never_raises
    def register_check(
        self,
        name: str,
        check: Callable[[], Any],
        *,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
        dependencies: Sequence[str] = (),
    ) -> FlextResult[None]:
        """Register a check of a component, for :meth:`run_checks`.

        Args:
            name: Of the component; not taken.
            check: A function or coroutine function without arguments. It gives a bool,
                a status word, a mapping with ``status``, ``message`` and details, a
                ``FlextHealthCheck``, a ``FlextResult`` of any of these, or ``None``,
                which is healthy; what it raises is unhealthy. It runs in a thread of
                its own, coroutines in an event loop of their own.
            timeout_s: Seconds it may take; longer is unhealthy.
            dependencies: Names of other components that it needs.
        """
        if not is_text(name):
            return FlextResult[None].fail("Invalid health check name")
        if not callable(check):
            return FlextResult[None].fail(f"Health check '{name}' must be callable")
        if isinstance(timeout_s, bool) or not 0 < float(timeout_s) < float("inf"):
            return FlextResult[None].fail(
                f"Health check '{name}': timeout_s must be seconds above 0"
            )
        needed = (dependencies,) if isinstance(dependencies, str) else dependencies
        if not self._probes.add(Probe(name, check, float(timeout_s), tuple(needed))):
            return FlextResult[None].fail(f"Health check '{name}' already registered")
        return FlextResult[None].ok(None)

    @never_raises
    def unregister_check(self, name: str) -> FlextResult[None]:
        """Forget a registered check; its reports stay."""
        if not self._probes.remove(name):
            return FlextResult[None].fail(f"Health check '{name}' not found")
        return FlextResult[None].ok(None)

    @never_raises
    def run_checks(self) -> FlextResult[list[FlextHealthCheck]]:
        """Run every registered check, all at once, and take their reports.

        It waits for the slowest check, at most its timeout: in an event loop, call it
        by ``asyncio.to_thread``.

        Returns:
            The reports, in the order of registration.
        """
        reports = self._probes.run()
        taken = [self.execute_health_check(report) for report in reports]
        failed = next((each for each in taken if each.is_failure), None)
        if failed is not None:
            return FlextResult[list[FlextHealthCheck]].fail(failed.error)
        return FlextResult[list[FlextHealthCheck]].ok(reports)


def _alerting() -> tuple[int, bool]:
    """Give the length of a streak, and whether it raises an alert."""

    def read(_: None) -> tuple[int, bool]:
        config = settings_in_force()
        return config.health_failure_threshold, config.health_alert_on_failure

    return FlextResult.ok(None).map(read).unwrap_or((3, True))


def _invalid(message: str | None) -> FlextResult[FlextHealthCheck]:
    return FlextResult[FlextHealthCheck].fail(
        f"Health check validation failed: {message}"
    )
