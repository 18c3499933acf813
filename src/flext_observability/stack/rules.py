"""Alerting and recording rules of Prometheus, made from the metric catalogue.

The burn rates are those of https://sre.google/workbook/alerting-on-slos/: a budget that
burns this fast is spent in two days (fast) or five (slow) of thirty.
"""

from dataclasses import dataclass, replace
from typing import Any

from ..catalogue import HEALTH_STATUS, OPERATION_DURATION
from .queries import Queries, checked_service, quoted

_RATIO = "job:flext_operation_errors:ratio_rate"
_WINDOWS = ("5m", "30m", "1h", "6h")
_FAST, _SLOW = 14.4, 6.0
_ERRORS_LIMIT = 0.05
_SPOOL_LIMIT = 0.8
_OPERATION = ("job", "flext_operation_name")


@dataclass(frozen=True)
class Goals:
    """What a service promises."""

    success_ratio: float = 0.99
    """Share of the calls that must succeed, over thirty days."""
    duration_s: float = 1.0
    """Below which 95 % of an operation's calls must end."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: A figure is out of its range.
        """
        if not 0 < self.success_ratio < 1:
            message = "the success ratio is between 0 and 1, such as 0.99"
            raise ValueError(message)
        if not self.duration_s > 0:
            message = "the duration is above 0 seconds"
            raise ValueError(message)


@dataclass(frozen=True)
class Rule:
    """One alerting rule."""

    name: str
    expression: str
    lasts: str
    """How long it must hold."""
    severity: str
    summary: str
    what_to_do: str

    def model(self) -> dict[str, Any]:
        """Give what Prometheus reads."""
        return {
            "alert": self.name,
            "expr": self.expression,
            **({} if self.lasts == "0m" else {"for": self.lasts}),
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.what_to_do},
        }


def rule_files(
    service: str | None = None, goals: Goals | None = None
) -> dict[str, dict[str, Any]]:
    """Make the rules, by file name.

    Args:
        service: The only one they watch; its ``job`` in Prometheus.
        goals: What is promised.

    Raises:
        ValueError: The name cannot stand in a file.
    """
    matcher = "" if service is None else f"job={quoted(checked_service(service))}"
    ask = Queries(matcher)
    goals = goals or Goals()
    return {
        "operations.yml": _file(
            ("flext-operation-ratios", _ratios(ask)),
            ("flext-operations", _models(_operations(ask, goals))),
        ),
        "requests.yml": _file(("flext-requests", _models(_requests(ask)))),
        "health.yml": _file(("flext-health", _models(_health(ask)))),
        "telemetry.yml": _file(("flext-telemetry", _models(_telemetry(ask)))),
    }


def _file(*groups: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"groups": [{"name": name, "rules": rules} for name, rules in groups]}


def _models(rules: list[Rule]) -> list[dict[str, Any]]:
    return [rule.model() for rule in rules]


def _ratios(ask: Queries) -> list[dict[str, Any]]:
    return [
        {"record": f"{_RATIO}{window}", "expr": replace(ask, window=window).errors()}
        for window in _WINDOWS
    ]


def _burns(matcher: str, long: str, short: str, limit: float) -> str:
    inside = f"{{{matcher}}}" if matcher else ""
    both = (f"{_RATIO}{window}{inside} > {limit:.6g}" for window in (long, short))
    return " and ".join(both)


def _operations(ask: Queries, goals: Goals) -> list[Rule]:
    budget = 1 - goals.success_ratio
    slow = ask.quantile(OPERATION_DURATION, 0.95, _OPERATION)
    inside = f"{{{ask.services}}}" if ask.services else ""
    return [
        Rule(
            "FlextErrorRatioHigh",
            f"{_RATIO}5m{inside} > {_ERRORS_LIMIT:g}",
            "10m",
            "warning",
            "{{ $labels.job }}: {{ $value | humanizePercentage }} of the calls fail",
            "See the dashboard Operations, Errors by type; the error log records carry "
            "the trace ids.",
        ),
        Rule(
            "FlextErrorBudgetBurnsFast",
            _burns(ask.services, "1h", "5m", _FAST * budget),
            "2m",
            "critical",
            "{{ $labels.job }} spends its error budget of thirty days within two",
            "Of the calls of an hour {{ $value | humanizePercentage }} failed; "
            f"{budget * 100:.4g} % may.",
        ),
        Rule(
            "FlextErrorBudgetBurnsSlowly",
            _burns(ask.services, "6h", "30m", _SLOW * budget),
            "15m",
            "warning",
            "{{ $labels.job }} spends its error budget of thirty days within five",
            "Of the calls of six hours {{ $value | humanizePercentage }} failed; "
            f"{budget * 100:.4g} % may.",
        ),
        Rule(
            "FlextOperationSlow",
            f"{slow} > {goals.duration_s:g}",
            "10m",
            "warning",
            "{{ $labels.job }}: {{ $labels.flext_operation_name }} is slow",
            "5 % of its calls take longer than {{ $value | humanizeDuration }}; the "
            f"goal is {goals.duration_s:g} s.",
        ),
    ]


def _requests(ask: Queries) -> list[Rule]:
    return [
        Rule(
            "FlextRequestsFail",
            f"{ask.served_errors()} > {_ERRORS_LIMIT:g}",
            "10m",
            "warning",
            "{{ $labels.job }}: {{ $value | humanizePercentage }} of the HTTP requests "
            "are answered with 5xx",
            "See the dashboard Services, Failed requests.",
        )
    ]


def _health(ask: Queries) -> list[Rule]:
    return [
        Rule(
            "FlextTargetDown",
            f"up{{{ask.services}}} == 0" if ask.services else "up == 0",
            "5m",
            "critical",
            "{{ $labels.job }}: Prometheus cannot read {{ $labels.instance }}",
            "Is the process running, and its port open to Prometheus?",
        ),
        Rule(
            "FlextComponentNotHealthy",
            f"{ask.raw(HEALTH_STATUS)} < 1",
            "5m",
            "warning",
            "{{ $labels.job }}: {{ $labels.component }} is not healthy",
            "Its health is {{ $value }}: 0.5 is degraded, 0 unhealthy. GET /health "
            "says why.",
        ),
    ]


def _telemetry(ask: Queries) -> list[Rule]:
    whose = "{{ $labels.job }} ({{ $labels.instance }})"
    recent = replace(ask, window="15m")
    return [
        Rule(
            "FlextTelemetryLost",
            recent.growth("dropped"),
            "0m",
            "warning",
            f"{whose} lost {{{{ $labels.flext_signal }}}}",
            "{{ $value | humanize }} records were given up: "
            "{{ $labels.flext_reason }}. status() of the process says more.",
        ),
        Rule(
            "FlextTelemetryRejected",
            recent.growth("rejected"),
            "0m",
            "warning",
            f"{whose}: the collector rejects {{{{ $labels.flext_signal }}}}",
            "{{ $value | humanize }} records were refused for good; their bytes lie in "
            "rejected/ of the spool.",
        ),
        Rule(
            "FlextTelemetryNotDelivered",
            recent.undelivered(),
            "10m",
            "warning",
            f"{whose} delivers no {{{{ $labels.flext_signal }}}}",
            "{{ $value | humanize }} records wait. Is the collector running, and does "
            "it take the credentials?",
        ),
        Rule(
            "FlextSpoolFilling",
            f"{ask.spool_fill()} > {_SPOOL_LIMIT:g}",
            "5m",
            "critical",
            f"{whose}: the spool is {{{{ $value | humanizePercentage }}}} full",
            "When it is full, the oldest records are given up. Bring the collector "
            "back, or raise spool_limit_bytes.",
        ),
    ]
