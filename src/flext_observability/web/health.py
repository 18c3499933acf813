"""How the process is: what load balancers, orchestrators and operators ask."""

import threading
import time
from contextvars import Context
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from ..container import FlextContainer
from ..lifecycle import status
from ..services.checks import Probes
from ..services.health import FlextHealthService
from .page import current_redactor
from .plain import plain_record

_HEALTHY: Final = "healthy"
_DEGRADED: Final = "degraded"
_UNHEALTHY: Final = "unhealthy"
# Registered checks run when somebody asks, but no more often than that.
_CHECKS_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """A status code and what stands in the body."""

    code: HTTPStatus
    body: dict[str, Any]


class HealthReport:
    """Puts the reports of components and telemetry's own state together.

    Unhealthy is what the components say. Telemetry that does not arrive makes the whole
    degraded at most: an application without its collector still serves.

    Args:
        container: Whose components count; the one of the process when not given.
    """

    def __init__(self, container: FlextContainer | None = None) -> None:
        self._container = container
        self._running = threading.Lock()
        self._ran_at_s = -_CHECKS_EVERY_S

    def _service(self) -> FlextHealthService:
        return FlextHealthService(self._container or FlextContainer.get_global())

    @property
    def is_stale(self) -> bool:
        """Whether registered checks should run before the next answer."""
        container = self._container or FlextContainer.get_global()
        if container.store().part("health probes", Probes).is_empty:
            return False
        return time.monotonic() - self._ran_at_s >= _CHECKS_EVERY_S

    def refresh(self) -> None:
        """Run the registered checks, if it is time; it takes as long as the slowest."""
        with self._running:
            if self.is_stale:
                # Not as part of a request: they are the application's own work.
                Context().run(self._service().run_checks)
                self._ran_at_s = time.monotonic()

    @staticmethod
    def live() -> HealthAnswer:
        """Say that the process answers, which is all that liveness means."""
        return HealthAnswer(HTTPStatus.OK, {"status": "alive"})

    def overall(self, *, has_details: bool) -> HealthAnswer:
        """Give the state of the whole: 503 when it is unhealthy, else 200.

        Args:
            has_details: Whether the caller may see more than the one word.
        """
        components = self._service().get_overall_health().unwrap_or(dict[str, Any]())
        telemetry = _telemetry()
        word = str(components.get("overall_status", _HEALTHY))
        if word == "unknown":  # nobody reported anything, and the process answers
            word = _HEALTHY
        if word == _HEALTHY and telemetry["status"] == _DEGRADED:
            word = _DEGRADED
        code = HTTPStatus.SERVICE_UNAVAILABLE if word == _UNHEALTHY else HTTPStatus.OK
        body: dict[str, Any] = {"status": word}
        if has_details:
            found = {**components, "telemetry": telemetry}
            body |= plain_record(found, current_redactor())
        return HealthAnswer(code, body)

    def everything(self) -> HealthAnswer:
        """Give the same with details, and figures of the machine."""
        answer = self.overall(has_details=True)
        system = (
            self._service().perform_system_health_check().unwrap_or(dict[str, Any]())
        )
        answer.body["system"] = plain_record(system, current_redactor())
        return answer


def _telemetry() -> dict[str, Any]:
    """Say whether telemetry arrives; a program without any is well all the same."""
    now = status()
    word = _DEGRADED if now.problems else _HEALTHY
    return {
        "status": word if now.running else "off",
        "problems": list(now.problems),
        "last_error": now.last_error,
        "endpoint": now.endpoint,
        "durability": now.durability,
        "spool_bytes": now.spool_bytes,
        "signals": {
            signal: {
                "accepted": ledger.accepted,
                "delivered": ledger.delivered,
                "rejected": ledger.rejected,
                "dropped": sum(ledger.dropped.values()),
                "pending": ledger.pending,
            }
            for signal, ledger in now.signals.items()
        },
    }
