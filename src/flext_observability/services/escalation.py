"""What an alert becomes when nobody takes care of it."""

from collections.abc import Mapping
from typing import Any, cast

from .._pipeline.values import clean_number
from ..constants import FlextObservabilityConstants as C
from ..entities import FlextAlert
from ..result import FlextResult

_INVALID = "Invalid escalation level"


def escalation(alert: FlextAlert, config: object) -> FlextResult[dict[str, Any] | None]:
    """Give the fields of the higher alert.

    Args:
        alert: The original.
        config: A mapping with ``level``, ``severity``, ``duration_minutes`` and
            ``thresholds``, all optional; ``None`` is an empty one.

    Returns:
        ``None`` when the original has not lasted long enough; ``Invalid escalation
        level`` when a figure in the config is none.
    """
    fail = FlextResult[dict[str, Any] | None].fail
    if config is not None and not isinstance(config, Mapping):
        return fail(_INVALID)
    given = cast("Mapping[str, object]", config or {})
    level = given.get("level", 1)
    if not isinstance(level, int) or isinstance(level, bool) or level < 1:
        return fail(_INVALID)
    lasted: dict[str, object] = {}
    duration = given.get("duration_minutes")
    if duration is not None:
        limit = _limit(alert.severity, given.get("thresholds"))
        if not _is_number(duration) or not _is_number(limit):
            return fail(_INVALID)
        if cast("float", duration) < cast("float", limit):
            return FlextResult[dict[str, Any] | None].ok(None)
        lasted = {
            "escalation_duration": str(duration),
            "escalation_threshold": str(limit),
        }
    fields: dict[str, Any] = {
        "name": f"{alert.name}_escalated",
        "severity": given.get("severity", "critical"),
        "message": f"{alert.message} (escalated to level {level})",
        "source": alert.source,
        "tags": alert.tags,
        "correlation_id": alert.correlation_id,
        "details": {
            "original_alert_id": alert.id,
            "original_severity": alert.severity,
            "escalation_level": str(level),
            **lasted,
        },
    }
    return FlextResult[dict[str, Any] | None].ok(fields)


def _is_number(value: object) -> bool:
    return not isinstance(value, str) and clean_number(value) is not None


def _limit(severity: str, own: object) -> object:
    """Give the minutes before an alert of this severity may be escalated."""
    if own is None:
        return C.ESCALATION_MINUTES[severity]
    if not isinstance(own, Mapping):
        return None
    limits = cast("Mapping[str, object]", own)
    return limits.get(severity, C.ESCALATION_MINUTES[severity])
