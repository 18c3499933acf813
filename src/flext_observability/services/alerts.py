"""The alert service: alerts by id, thresholds, escalation, standing rules."""

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast

from .._pipeline.values import clean_number, clean_text
from ..container import FlextContainer
from ..entities import FlextAlert, FlextMetric, is_blank
from ..recording import emit_alert, tell_alert
from ..result import FlextResult
from ..store import Shelf
from .alert_rules import AlertRule, AlertRules, breach
from .escalation import escalation
from .membership import container_or_global, enrol, shelf_of
from .metrics import FlextMetricsService
from .outcome import made, never_raises, newest_limit, word_asked

_INVALID = "Invalid alert"
_INVALID_THRESHOLD = "Invalid alert threshold"


class FlextAlertService:
    """Keeps alerts, and raises them where a metric passes its threshold."""

    def __init__(
        self,
        container: FlextContainer | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the service; all on one container share alerts and rules.

        Args:
            container: The process-wide one when not given.
            clock: Gives seconds, for rules with a duration.
        """
        self.container = container_or_global(container)
        self._clock = clock
        self._rules = self.container.store().part("alert rules", AlertRules)
        enrol(self.container, "alert_service", self)

    @property
    def _alerts_store(self) -> Shelf[FlextAlert]:
        return shelf_of(self.container, "alerts")

    # -- single alerts

    @never_raises
    def process_alert(self, alert: FlextAlert) -> FlextResult[FlextAlert]:
        """Check an alert, emit it unless that was done, keep it."""
        if not isinstance(alert, FlextAlert):
            return FlextResult[FlextAlert].fail(_INVALID)
        checked = alert.validate_business_rules()
        if checked.is_failure:
            message = f"Alert validation failed: {checked.error}"
            return FlextResult[FlextAlert].fail(message)
        emit_alert(alert)
        self._alerts_store.add(alert)
        tell_alert(alert)
        return FlextResult[FlextAlert].ok(alert)

    @never_raises
    def acknowledge_alert(
        self,
        id: str,  # noqa: A002 - a name of the contract
    ) -> FlextResult[FlextAlert]:
        """Say that somebody takes care of an alert."""
        return self._set_status(id, "acknowledged")

    @never_raises
    def resolve_alert(
        self,
        id: str,  # noqa: A002 - a name of the contract
    ) -> FlextResult[FlextAlert]:
        """Say that the reason for an alert is gone."""
        return self._set_status(id, "resolved")

    def _set_status(self, alert_id: object, status: str) -> FlextResult[FlextAlert]:
        key = alert_id.id if isinstance(alert_id, FlextAlert) else alert_id
        found = self._alerts_store.get(key) if isinstance(key, str) else None
        if found is None:
            message = f"Alert '{clean_text(key)}' not found"
            return FlextResult[FlextAlert].fail(message)
        former, found.status = found.status, status
        if status == "resolved" != former:
            tell_alert(found, is_over=True)
        return FlextResult[FlextAlert].ok(found)

    @never_raises
    def get_alerts(
        self,
        *,
        severity: str | None = None,
        status: str | None = None,
        limit: int = 100,
    ) -> FlextResult[list[FlextAlert]]:
        """Give stored alerts, the newest first.

        Args:
            severity: Only of this severity.
            status: Only with this status.
            limit: How many at most.
        """
        asked_severity, asked_status = word_asked(severity), word_asked(status)

        def is_wanted(alert: FlextAlert) -> bool:
            return (severity is None or asked_severity == alert.severity) and (
                status is None or asked_status == alert.status
            )

        found = self._alerts_store.newest(newest_limit(limit), is_wanted)
        return FlextResult[list[FlextAlert]].ok(found)

    # -- escalation

    @never_raises
    def escalate_alert(
        self, alert: FlextAlert, config: Mapping[str, Any] | None = None
    ) -> FlextResult[FlextAlert]:
        """Raise an alert again, higher, unless it is too young for that.

        Args:
            alert: The original; its status becomes ``escalated``.
            config: ``level`` (1 or more), ``severity`` of the new alert (critical),
                ``duration_minutes`` that the original has lasted, ``thresholds`` in
                minutes by severity; all optional.

        Returns:
            The new alert; or the original, unchanged, when it has lasted for less
            than the threshold of its severity.
        """
        if not isinstance(alert, FlextAlert):
            return FlextResult[FlextAlert].fail(_INVALID)
        if alert.validate_business_rules().is_failure:
            return FlextResult[FlextAlert].fail(_INVALID)
        fields = escalation(alert, config)
        if fields.is_failure:
            return FlextResult[FlextAlert].fail(fields.error)
        if fields.data is None:
            return FlextResult[FlextAlert].ok(alert)
        return self._raise(fields.data).map(lambda made: self._escalated(alert, made))

    def _escalated(self, original: FlextAlert, higher: FlextAlert) -> FlextAlert:
        original.status = "escalated"
        self._set_status(original.id, "escalated")  # the stored one may be a copy
        return higher

    def _raise(self, fields: Mapping[str, Any]) -> FlextResult[FlextAlert]:
        new = made(FlextAlert, fields)
        if new.is_failure:
            message = f"Alert validation failed: {new.error}"
            return FlextResult[FlextAlert].fail(message, exception=new.exception)
        return self.process_alert(new.data)

    # -- thresholds

    @never_raises
    def evaluate_alert_thresholds(
        self,
        metrics: "list[FlextMetric] | Mapping[str, float | Decimal]",
        thresholds: "Mapping[str, float | Decimal]",
    ) -> FlextResult[list[FlextAlert]]:
        """Raise an alert for every metric above its threshold.

        Args:
            metrics: Metrics, or values by name.
            thresholds: Limits by name; metrics without one are left alone.

        Returns:
            The alerts, each ``<metric>_threshold_breach``, processed.
        """
        limits = _numbers(thresholds)
        measured = _measured(metrics)
        if limits is None or measured is None:
            return FlextResult[list[FlextAlert]].fail(_INVALID_THRESHOLD)
        raised: list[FlextAlert] = []
        for name, value, tags in measured:
            if name not in limits or not value > limits[name]:
                continue
            fields = breach(f"{name}_threshold_breach", name, value, limits[name])
            alert = self._raise({**fields, "tags": tags})
            if alert.is_failure:
                return FlextResult[list[FlextAlert]].fail(alert.error)
            raised.append(alert.data)
        return FlextResult[list[FlextAlert]].ok(raised)

    # -- standing rules

    @never_raises
    def declare(
        self,
        name: str,
        metric: str,
        threshold: float | Decimal,
        *,
        duration_s: float = 0.0,
        clear_below: float | Decimal | None = None,
    ) -> FlextResult[None]:
        """Set up a rule that :meth:`evaluate` applies from now on.

        Args:
            name: Of the rule and its alerts; one declared before is replaced, and
                the very same one stays as it is.
            metric: Name of a metric of this container.
            threshold: The rule holds while the metric is above it.
            duration_s: Seconds the rule must hold before it fires.
            clear_below: A firing rule resolves when the metric is below this, which
                keeps a value that wavers around the threshold from firing again and
                again; when not given, at or below the threshold.
        """
        for text, what in ((name, "alert"), (metric, "metric")):
            if not _is_name(text):
                return FlextResult[None].fail(f"Invalid {what} name")
        bound = threshold if clear_below is None else clear_below
        numbers = _numbers({"limit": threshold, "bound": bound, "time": duration_s})
        if numbers is None or bound > threshold or duration_s < 0:
            return FlextResult[None].fail(_INVALID_THRESHOLD)
        rule = AlertRule(name, metric, threshold, float(duration_s), clear_below)
        self._rules.declare(rule)
        return FlextResult[None].ok(None)

    @never_raises
    def evaluate(
        self, metrics: "Mapping[str, float | Decimal] | None" = None
    ) -> FlextResult[list[FlextAlert]]:
        """Apply the declared rules once; to be called every now and then.

        Args:
            metrics: Values by name; those of this container's metrics service when
                not given. A metric without a value leaves its rule as it is.

        Returns:
            An alert for every rule that began to fire, and one of status ``resolved``
            for every rule that ceased to: one per change, however long it lasts.
        """
        if metrics is not None and _numbers(metrics) is None:
            return FlextResult[list[FlextAlert]].fail("Invalid metric value")
        service = FlextMetricsService(self.container)

        def value_of(name: str) -> float | Decimal | None:
            if metrics is not None:
                return metrics.get(name)
            return service.get_metric_value(name).unwrap_or(None)

        told: list[FlextAlert] = []
        for fields, firing_id in self._rules.changes(value_of, self._clock()):
            alert = self._raise(fields)
            if alert.is_failure:
                return FlextResult[list[FlextAlert]].fail(alert.error)
            told.append(alert.data)
            if firing_id is None:
                self._rules.fired(alert.data.name, alert.data.id)
            else:
                self._set_status(firing_id, "resolved")
        return FlextResult[list[FlextAlert]].ok(told)


def _is_name(text: object) -> bool:
    return not is_blank(text)


def _numbers(given: object) -> dict[str, float | Decimal] | None:
    """Take a mapping of names to finite numbers; ``None`` when it is none."""
    if not isinstance(given, Mapping):
        return None
    pairs = cast("Mapping[object, Any]", given)
    if any(clean_number(value) is None for value in pairs.values()):
        return None
    if any(isinstance(value, str) for value in pairs.values()):
        return None
    return {str(name): value for name, value in pairs.items()}


def _measured(
    metrics: object,
) -> list[tuple[str, float | Decimal, dict[str, str]]] | None:
    """Take metrics, or values by name; ``None`` when they are neither."""
    if isinstance(metrics, Mapping):
        numbers = _numbers(cast("object", metrics))
        if numbers is None:
            return None
        return [(name, value, {}) for name, value in numbers.items()]
    if not isinstance(metrics, list | tuple):
        return None
    measured: list[tuple[str, float | Decimal, dict[str, str]]] = []
    for metric in cast("list[object]", metrics):
        if not isinstance(metric, FlextMetric):
            return None
        if metric.validate_business_rules().failure:
            return None
        measured.append((metric.name, metric.value, metric.tags))
    return measured
