"""What the health services on one container know of its components."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..constants import FlextObservabilityConstants as C
from ..entities import FlextAlert, FlextHealthCheck
from ..locks import ForkSafeLock

Record = dict[str, Any]
"""A report as plain data: what its sender does with the entity changes nothing here."""


@dataclass(slots=True)
class Component:
    """One component: its reports and its streak of bad ones."""

    history: deque[Record] = field(
        default_factory=lambda: deque[Record](maxlen=C.HEALTH_HISTORY_LIMIT)
    )
    streak: int = 0
    """Not-healthy reports in a row, up to now."""

    @property
    def latest(self) -> Record:
        """The last report."""
        return self.history[-1]


class HealthRecords:
    """Components by name, the one reported last at the end; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._components: dict[str, Component] = {}
        self._performed = 0
        self._started = time.monotonic()

    def add(
        self, check: FlextHealthCheck, bounds: tuple[int, int], threshold: int
    ) -> bool:
        """Take a valid report, unless it or a copy was taken before.

        Args:
            check: The report.
            bounds: Components held at most, and kept at a cleanup.
            threshold: Not-healthy reports in a row that make a streak.

        Returns:
            Whether the streak reached the threshold with this report.
        """
        record = record_of(check)
        with self._lock:
            if not check.emission().take(self):
                return False
            self._performed += 1
            component = self._components.pop(check.name, None)
            if component is None:
                component = Component()
                self._make_room(*bounds)
            self._components[check.name] = component
            component.history.append(record)
            is_healthy = check.status == "healthy"
            component.streak = 0 if is_healthy else component.streak + 1
            return component.streak == threshold

    def _make_room(self, limit: int, kept: int) -> None:
        if len(self._components) >= limit:
            names = list(self._components)
            for name in names[: len(names) - kept]:
                del self._components[name]

    def history(self, name: str) -> list[Record]:
        """Give the records of a component, the oldest first."""
        with self._lock:
            component = self._components.get(name)
            records = [] if component is None else list(component.history)
        return [_copied(record) for record in records]

    def overall(self) -> dict[str, Any]:
        """Aggregate the latest reports of all components."""
        with self._lock:
            latest = {n: each.latest for n, each in self._components.items()}
            performed = self._performed
        statuses = effective_statuses(latest)
        counts = Counter(statuses.values())
        total = len(statuses)
        return {
            "overall_status": overall_status(counts, total),
            "health_score": counts["healthy"] / total if total else 1.0,
            "summary": {
                "total_components": total,
                "healthy_components": counts["healthy"],
                "degraded_components": counts["degraded"],
                "unhealthy_components": counts["unhealthy"],
                "health_checks_performed": performed,
            },
            "components": {
                name: _copied(record) | {"effective_status": statuses[name]}
                for name, record in latest.items()
            },
            "uptime_seconds": time.monotonic() - self._started,
            "timestamp": datetime.now(UTC).isoformat(),
        }


def record_of(check: FlextHealthCheck) -> Record:
    """Make a record of a report, its time as ISO 8601 text."""
    return {
        "id": check.id,
        "name": check.name,
        "status": check.status,
        "message": check.message,
        "details": dict(check.details),
        "dependencies": list(check.dependencies),
        "timestamp": check.timestamp.isoformat(),
    }


def _copied(record: Record) -> Record:
    """Give a record that may be changed."""
    return {
        **record,
        "details": dict(record["details"]),
        "dependencies": list(record["dependencies"]),
    }


def effective_statuses(latest: Mapping[str, Record]) -> dict[str, str]:
    """Give the status of each component, with what it depends on in mind.

    A healthy component that needs one that is not healthy counts as degraded, and so
    on along the chain. Dependencies that nobody reported say nothing.
    """
    statuses: dict[str, str] = {n: record["status"] for n, record in latest.items()}
    ill = [name for name, status in statuses.items() if status != "healthy"]
    dependents: dict[str, list[str]] = {}
    for name, record in latest.items():
        for needed in record["dependencies"]:
            dependents.setdefault(needed, []).append(name)
    while ill:
        for name in dependents.get(ill.pop(), []):
            if statuses[name] == "healthy":
                statuses[name] = "degraded"
                ill.append(name)
    return statuses


def overall_status(counts: Mapping[str, int], total: int) -> str:
    """Give the status of a whole, by how many components have which."""
    if not total:
        return "unknown"
    if counts["healthy"] == total:
        return "healthy"
    return "unhealthy" if 2 * counts["unhealthy"] >= total else "degraded"


class StreakAlerts:
    """The alert of every component's present streak; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._by_component: dict[str, FlextAlert] = {}

    def keep(self, component: str, alert: FlextAlert) -> None:
        """Remember an alert; that of the component told of longest ago may go."""
        with self._lock:
            if len(self._by_component) >= C.STORE_LIMIT:
                del self._by_component[next(iter(self._by_component))]
            self._by_component[component] = alert

    def take(self, component: str) -> FlextAlert | None:
        """Give the alert of a component whose streak is over, and forget it."""
        if component not in self._by_component:
            return None
        with self._lock:
            return self._by_component.pop(component, None)
