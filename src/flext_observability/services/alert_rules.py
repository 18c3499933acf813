"""Threshold rules that stand: one alert when a rule fires, one when it resolves."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..constants import FlextObservabilityConstants as C
from ..locks import ForkSafeLock

Number = float | Decimal


def ratio_of(value: Number, threshold: Number) -> float:
    """Give how many times the threshold a value is; infinite for a threshold of 0."""
    # A Decimal above 0 may be 0 as a float.
    divisor = float(threshold)
    return float(value) / divisor if divisor else float("inf")


def severity_of_breach(value: Number, threshold: Number) -> str:
    """Give the severity by how far a value is above a threshold.

    A ratio says nothing about a threshold that is not positive: a warning then.
    """
    ratio = ratio_of(value, threshold)
    if threshold > 0:
        for bound, severity in C.BREACH_RATIOS:
            if ratio > bound:
                return severity
    return "warning"


def breach(name: str, metric: str, value: Number, threshold: Number) -> dict[str, Any]:
    """Give the fields of an alert about a metric above its threshold."""
    return {
        "name": name,
        "severity": severity_of_breach(value, threshold),
        "message": f"{metric} is {value}, above its threshold {threshold}",
        "source": metric,
        "details": {
            "metric_name": metric,
            "current_value": str(value),
            "threshold": str(threshold),
            "breach_ratio": str(ratio_of(value, threshold)),
        },
    }


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an alert fires, and when it resolves."""

    name: str
    metric: str
    threshold: Number
    duration_s: float = 0.0
    """How long the metric must be above the threshold."""
    clear_below: Number | None = None
    """Where the alert resolves; at or below the threshold when not given."""

    def is_clear(self, value: Number) -> bool:
        """Whether a firing alert resolves at this value."""
        if self.clear_below is None:
            return value <= self.threshold
        return value < self.clear_below


@dataclass(slots=True)
class _State:
    """What became of a rule so far."""

    rule: AlertRule
    above_since_s: float | None = None
    is_firing: bool = False
    alert_id: str = ""


class AlertRules:
    """The rules of one container; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._states: dict[str, _State] = {}

    def declare(self, rule: AlertRule) -> None:
        """Take a rule in; one of the same name starts over unless it is the same."""
        with self._lock:
            known = self._states.get(rule.name)
            if known is None or known.rule != rule:
                self._states[rule.name] = _State(rule)

    def fired(self, name: str, alert_id: str) -> None:
        """Remember the alert of a rule that fires, to be resolved with it."""
        with self._lock:
            if name in self._states:
                self._states[name].alert_id = alert_id

    def changes(
        self, value_of: Callable[[str], Number | None], now_s: float
    ) -> list[tuple[dict[str, Any], str | None]]:
        """Apply every rule once.

        Args:
            value_of: Gives the value of a metric, ``None`` when there is none.
            now_s: On the clock of the caller, seconds.

        Returns:
            For every rule that changed the fields of an alert, and the id of the alert
            that this one resolves, if any.
        """
        found: list[tuple[dict[str, Any], str | None]] = []
        with self._lock:
            for state in self._states.values():
                value = value_of(state.rule.metric)
                if value is None:
                    continue
                if state.is_firing:
                    if state.rule.is_clear(value):
                        found.append((_resolve(state, value), state.alert_id))
                elif _begins_to_fire(state, value, now_s):
                    rule = state.rule
                    fields = breach(rule.name, rule.metric, value, rule.threshold)
                    found.append((fields, None))
        return found


def _begins_to_fire(state: _State, value: Number, now_s: float) -> bool:
    if value <= state.rule.threshold:
        state.above_since_s = None
        return False
    if state.above_since_s is None:
        state.above_since_s = now_s
    state.is_firing = now_s - state.above_since_s >= state.rule.duration_s
    return state.is_firing


def _resolve(state: _State, value: Number) -> dict[str, Any]:
    state.is_firing = False
    state.above_since_s = None
    rule = state.rule
    return {
        "name": rule.name,
        "severity": "info",
        "status": "resolved",
        "message": f"{rule.metric} is {value}, back from above {rule.threshold}",
        "source": rule.metric,
        "details": {
            "metric_name": rule.metric,
            "current_value": str(value),
            "threshold": str(rule.threshold),
            "original_alert_id": state.alert_id,
        },
    }
