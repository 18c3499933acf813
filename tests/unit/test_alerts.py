"""Alerts: rules, thresholds, escalation, standing rules."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import flext_observability as fo


class Clock:
    """Time as a test wants it."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def alerts(clock: Clock) -> fo.FlextAlertService:
    return fo.FlextAlertService(fo.FlextContainer(), clock=clock)


def make_alert(**fields: Any) -> fo.FlextAlert:
    given = {"name": "disk", "severity": "error", "message": "95 %", **fields}
    return fo.FlextAlert(**given)


def told(result: fo.FlextResult[list[fo.FlextAlert]]) -> list[tuple[str, str, str]]:
    return [(one.name, one.severity, one.status) for one in result.unwrap()]


# --- the entity ---


def test_defaults() -> None:
    """An alert comes with id, time and the current correlation id."""
    with fo.flext_correlation_scope("req-1"):
        alert = make_alert(severity="ERROR", tags={"a": 1})
    assert len(alert.id) == 32
    assert (alert.alert_id, alert.title) == (alert.id, "disk")
    assert alert.timestamp is alert.created_at
    assert (alert.severity, alert.status, alert.source) == ("error", "active", "")
    assert (alert.correlation_id, alert.tags) == ("req-1", {"a": "1"})
    assert alert.details == {}
    assert alert.validate_business_rules().success


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " ", "severity": "x"}, "Invalid alert name"),
        ({"severity": "loud", "message": ""}, "Invalid severity level"),
        ({"message": "\n"}, "Invalid alert message"),
        ({"status": "asleep"}, "Invalid alert status"),
    ],
)
def test_rules(
    alerts: fo.FlextAlertService, fields: dict[str, Any], message: str
) -> None:
    """The first broken rule in field order gives the message."""
    alert = make_alert(**fields)
    assert alert.validate_business_rules().error == message
    processed = alerts.process_alert(alert)
    assert processed.error == f"Alert validation failed: {message}"
    assert alerts.get_alerts().unwrap() == []


def test_wrong_types(alerts: fo.FlextAlertService) -> None:
    """The constructor raises, the service does not."""
    with pytest.raises(ValidationError):
        make_alert(name=1)
    with pytest.raises(ValidationError):
        make_alert(colour="red")
    calls: Any = alerts
    nothings: list[Any] = [None, "disk", 1, {}]
    for nothing in nothings:
        assert calls.process_alert(nothing).error == "Invalid alert"
        assert calls.escalate_alert(nothing, {}).error == "Invalid alert"


@given(
    st.text(min_size=1).filter(str.strip),
    st.sampled_from(["info", "warning", "error", "critical"]),
    st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
)
def test_round_trip(name: str, severity: str, details: dict[str, Any]) -> None:
    """A dump gives the same entity again."""
    alert = make_alert(name=name, severity=severity, details=details)
    assert fo.FlextAlert.model_validate(alert.model_dump()) == alert
    assert fo.FlextAlert.model_validate_json(alert.model_dump_json()) == alert


def test_json_of_any_details() -> None:
    """What JSON has no form for is shown as text, the rest as it is."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    alert = make_alert(details={"error": OSError("no"), "n": [1], "x": Hostile()})
    shown = json.loads(alert.model_dump_json())["details"]
    assert shown == {"error": "no", "n": [1], "x": "<unprintable>"}
    assert isinstance(alert.model_dump()["details"]["error"], OSError)


# --- the service ---


def test_life(alerts: fo.FlextAlertService) -> None:
    """Processed, acknowledged, resolved; unknown ids are named."""
    alert = make_alert()
    assert alerts.process_alert(alert).unwrap() is alert
    assert alerts.acknowledge_alert(alert.id).unwrap().status == "acknowledged"
    assert alerts.resolve_alert(alert.id).unwrap() is alert
    assert alert.status == "resolved"
    calls: Any = alerts
    for wanted in ("nope", "", None):
        for method in (calls.acknowledge_alert, calls.resolve_alert):
            assert method(wanted).error == f"Alert '{wanted}' not found"


def test_get_alerts(alerts: fo.FlextAlertService) -> None:
    """The newest first, by severity and status."""
    for name, severity in (("a", "info"), ("b", "error"), ("c", "error")):
        alerts.process_alert(make_alert(name=name, severity=severity)).unwrap()
    alerts.resolve_alert(alerts.get_alerts().unwrap()[0].id).unwrap()

    def names(**wanted: Any) -> list[str]:
        return [alert.name for alert in alerts.get_alerts(**wanted).unwrap()]

    assert names() == ["c", "b", "a"]
    assert names(limit=2) == ["c", "b"]
    assert names(severity="Error") == ["c", "b"]
    assert names(severity="error", status="active") == ["b"]
    calls: Any = alerts
    assert calls.get_alerts(limit=None).is_failure
    assert calls.get_alerts(severity=1).is_failure


def test_containers(alerts: fo.FlextAlertService) -> None:
    """Two containers share nothing, two services on one share all."""
    alert = alerts.process_alert(make_alert()).unwrap()
    other = fo.FlextAlertService(fo.FlextContainer())
    assert other.get_alerts().unwrap() == []
    assert other.resolve_alert(alert.id).is_failure
    same = fo.FlextAlertService(alerts.container)
    assert same.get_alerts().unwrap() == [alert]
    assert alerts.container.get("alert_service").unwrap() is alerts


def test_store_is_bounded(alerts: fo.FlextAlertService) -> None:
    """The newest 500 stay when the 1001st arrives."""
    for number in range(1001):
        alerts.process_alert(make_alert(name=f"a{number}")).unwrap()
    kept = alerts.get_alerts(limit=2000).unwrap()
    assert len(kept) == 501
    assert (kept[0].name, kept[-1].name) == ("a1000", "a500")


def test_awaited(alerts: fo.FlextAlertService) -> None:
    """Awaited calls give what plain ones do."""

    async def main() -> None:
        alert = (await alerts.process_alert(make_alert())).unwrap()
        assert (await alerts.escalate_alert(alert, {})).success
        assert (await alerts.evaluate_alert_thresholds({"a": 2}, {"a": 1})).success

    asyncio.run(main())


# --- thresholds ---


@pytest.mark.parametrize(
    ("value", "threshold", "severity"),
    [
        (80, 80, None),
        (79.9, 80, None),
        (81, 80, "warning"),
        (120, 80, "warning"),
        (121, 80, "error"),
        (160, 80, "error"),
        (160.1, 80, "critical"),
        (5, 0, "warning"),
        (-1, -80, "warning"),
        (-90, -80, None),
        (Decimal("2.1"), 1, "critical"),
        (Decimal("1.6"), Decimal(1), "error"),
        (1.6, Decimal(1), "error"),
    ],
)
def test_thresholds(
    alerts: fo.FlextAlertService,
    value: float | Decimal,
    threshold: float | Decimal,
    severity: str | None,
) -> None:
    """The ratio gives the severity; at or below the threshold there is nothing."""
    raised = alerts.evaluate_alert_thresholds({"cpu": value}, {"cpu": threshold})
    assert told(raised) == (
        [("cpu_threshold_breach", severity, "active")] if severity else []
    )
    assert alerts.get_alerts().unwrap() == raised.unwrap()
    for alert in raised.unwrap():
        ratio = float(value) / float(threshold) if threshold else float("inf")
        assert alert.details == {
            "metric_name": "cpu",
            "current_value": str(value),
            "threshold": str(threshold),
            "breach_ratio": str(ratio),
        }


def test_thresholds_of_metrics(alerts: fo.FlextAlertService) -> None:
    """Metrics give their tags; those without a threshold are left alone."""
    metrics = [
        fo.FlextMetric(name="cpu", value=190, tags={"host": "a"}),
        fo.FlextMetric(name="cpu", value=10),
        fo.FlextMetric(name="mem", value=10),
    ]
    (alert,) = alerts.evaluate_alert_thresholds(metrics, {"cpu": 80}).unwrap()
    assert (alert.severity, alert.tags) == ("critical", {"host": "a"})
    assert alert.details["current_value"] == "190.0"
    assert alert.details["breach_ratio"] == "2.375"
    assert alerts.evaluate_alert_thresholds([], {}).unwrap() == []


@pytest.mark.parametrize(
    ("metrics", "thresholds"),
    [
        ({"a": 2}, {"a": "1"}),
        ({"a": 2}, {"a": True}),
        ({"a": 2}, {"a": None}),
        ({"a": 2}, {"a": float("nan")}),
        ({"a": 2}, {"a": float("inf")}),
        ({"a": 2}, None),
        ({"a": 2}, [1]),
        ({"a": "2"}, {"a": 1}),
        ({"a": float("nan")}, {"a": 1}),
        (None, {"a": 1}),
        ("a", {"a": 1}),
        (["a"], {"a": 1}),
        ([fo.FlextMetric(name="", value=2)], {"a": 1}),
    ],
)
def test_invalid_thresholds(
    alerts: fo.FlextAlertService, metrics: Any, thresholds: Any
) -> None:
    """What is no number fails before anything is raised."""
    result = alerts.evaluate_alert_thresholds(metrics, thresholds)
    assert result.error == "Invalid alert threshold"
    assert alerts.get_alerts().unwrap() == []


# --- escalation ---


def test_escalation(alerts: fo.FlextAlertService) -> None:
    """A new alert above the old one, which is marked."""
    alert = alerts.process_alert(make_alert(source="probe", tags={"a": "b"})).unwrap()
    higher = alerts.escalate_alert(
        alert, {"level": 3, "duration_minutes": 45.5, "colour": "red"}
    ).unwrap()
    assert (higher.name, higher.severity) == ("disk_escalated", "critical")
    assert (higher.source, higher.tags) == ("probe", {"a": "b"})
    assert "95 %" in higher.message
    assert higher.details == {
        "original_alert_id": alert.id,
        "original_severity": "error",
        "escalation_level": "3",
        "escalation_duration": "45.5",
        "escalation_threshold": "30",
    }
    assert (alert.status, higher.status) == ("escalated", "active")
    assert alerts.get_alerts().unwrap() == [higher, alert]
    again = alerts.escalate_alert(higher, {"severity": "Error"}).unwrap()
    assert (again.name, again.severity) == ("disk_escalated_escalated", "error")


@pytest.mark.parametrize(
    ("severity", "minutes", "is_due"),
    [
        ("critical", 14.9, False),
        ("critical", 15, True),
        ("error", 29, False),
        ("error", Decimal(30), True),
        ("warning", 59, False),
        ("warning", 60, True),
        ("info", 59, False),
        ("info", 60, True),
    ],
)
def test_escalation_by_age(
    alerts: fo.FlextAlertService, severity: str, minutes: float, *, is_due: bool
) -> None:
    """An alert that is too young comes back as it is."""
    alert = make_alert(severity=severity)
    result = alerts.escalate_alert(alert, {"duration_minutes": minutes}).unwrap()
    assert (result is not alert) is is_due
    assert alert.status == ("escalated" if is_due else "active")


def test_own_escalation_thresholds(alerts: fo.FlextAlertService) -> None:
    """Given ones win, severity by severity."""
    config = {"duration_minutes": 10, "thresholds": {"error": 5}}
    for severity, is_due in (("error", True), ("warning", False)):
        alert = make_alert(severity=severity)
        assert (alerts.escalate_alert(alert, config).unwrap() is not alert) is is_due


@pytest.mark.parametrize(
    "config",
    [
        {"level": 0},
        {"level": -1},
        {"level": 1.5},
        {"level": "2"},
        {"level": True},
        {"level": None},
        {"duration_minutes": "5"},
        {"duration_minutes": float("nan")},
        {"duration_minutes": 5, "thresholds": {"error": "soon"}},
        {"duration_minutes": 5, "thresholds": [1]},
        [1],
        "level",
    ],
)
def test_invalid_escalation(alerts: fo.FlextAlertService, config: Any) -> None:
    """What is no level is a failure, and the original stays as it was."""
    alert = make_alert()
    result = alerts.escalate_alert(alert, config)
    assert result.error == "Invalid escalation level"
    assert alert.status == "active"


def test_escalation_to_an_unknown_severity(alerts: fo.FlextAlertService) -> None:
    """The new alert is checked like any other."""
    wanted = "Alert validation failed: Invalid severity level"
    for severity in ("loud", 7):
        alert = make_alert()
        assert alerts.escalate_alert(alert, {"severity": severity}).error == wanted
        assert alert.status == "active"
    assert alerts.escalate_alert(make_alert(name=""), {}).error == "Invalid alert"


def test_escalating_a_copy(alerts: fo.FlextAlertService) -> None:
    """The stored original is marked, whoever holds a copy."""
    alert = alerts.process_alert(make_alert()).unwrap()
    alerts.escalate_alert(alert.model_copy(), None).unwrap()
    assert alert.status == "escalated"


# --- standing rules ---


def test_rule_fires_and_resolves_once(alerts: fo.FlextAlertService) -> None:
    """One alert per change of state, however often it is evaluated."""
    alerts.declare("hot", "cpu", 80).unwrap()
    assert told(alerts.evaluate({"cpu": 80})) == []
    assert told(alerts.evaluate({"cpu": 130})) == [("hot", "error", "active")]
    for value in (90, 200, 81):
        assert told(alerts.evaluate({"cpu": value})) == []
    assert told(alerts.evaluate({"mem": 1})) == []
    (firing,) = alerts.get_alerts().unwrap()
    (resolved,) = alerts.evaluate({"cpu": 80}).unwrap()
    assert (resolved.name, resolved.severity, resolved.status) == (
        *("hot", "info", "resolved"),
    )
    assert resolved.details["original_alert_id"] == firing.id
    assert firing.status == "resolved"
    assert told(alerts.evaluate({"cpu": 1})) == []
    assert told(alerts.evaluate({"cpu": 161})) == [("hot", "critical", "active")]


def test_duration(alerts: fo.FlextAlertService, clock: Clock) -> None:
    """A rule must hold all the time before it fires."""
    alerts.declare("hot", "cpu", 80, duration_s=60).unwrap()

    def at(now_s: float, value: float) -> int:
        clock.now_s = now_s
        return len(alerts.evaluate({"cpu": value}).unwrap())

    assert [at(0, 90), at(59, 90), at(59.5, 70), at(60, 90)] == [0, 0, 0, 0]
    assert [at(119, 90), at(120, 90), at(121, 90)] == [0, 1, 0]
    assert [at(122, 80), at(123, 90), at(182, 90), at(183, 90)] == [1, 0, 0, 1]


def test_hysteresis(alerts: fo.FlextAlertService) -> None:
    """A value that wavers around the threshold does not fire again and again."""
    alerts.declare("hot", "cpu", 80, clear_below=70).unwrap()
    counts = [
        len(alerts.evaluate({"cpu": value}).unwrap())
        for value in (81, 79, 81, 70, 81, 69.9, 75, 81)
    ]
    assert counts == [1, 0, 0, 0, 0, 1, 0, 1]


def test_rules_over_own_metrics(alerts: fo.FlextAlertService) -> None:
    """Without values, those that the container's metrics service holds count."""
    metrics = fo.FlextMetricsService(alerts.container)
    alerts.declare("queue", "queue", Decimal(10)).unwrap()
    assert told(alerts.evaluate()) == []
    metrics.record_metric("queue", 11).unwrap()
    fo.FlextMetricsService(fo.FlextContainer()).record_metric("queue", 1).unwrap()
    assert told(alerts.evaluate()) == [("queue", "warning", "active")]
    # Rules and their states belong to the container, not to one service object.
    assert told(fo.FlextAlertService(alerts.container).evaluate()) == []
    assert told(fo.FlextAlertService(fo.FlextContainer()).evaluate()) == []


def test_declaring_again(alerts: fo.FlextAlertService) -> None:
    """The same rule goes on, another one of the name starts over."""
    alerts.declare("hot", "cpu", 80).unwrap()
    assert len(alerts.evaluate({"cpu": 90}).unwrap()) == 1
    alerts.declare("hot", "cpu", 80).unwrap()
    assert len(alerts.evaluate({"cpu": 90}).unwrap()) == 0
    alerts.declare("hot", "cpu", 85).unwrap()
    assert len(alerts.evaluate({"cpu": 90}).unwrap()) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("", "cpu", 1), {}, "Invalid alert name"),
        ((None, "cpu", 1), {}, "Invalid alert name"),
        (("hot", " ", 1), {}, "Invalid metric name"),
        (("hot", "cpu", "1"), {}, "Invalid alert threshold"),
        (("hot", "cpu", float("nan")), {}, "Invalid alert threshold"),
        (("hot", "cpu", 1), {"duration_s": -1}, "Invalid alert threshold"),
        (("hot", "cpu", 1), {"duration_s": None}, "Invalid alert threshold"),
        (("hot", "cpu", 1), {"clear_below": 2}, "Invalid alert threshold"),
        (("hot", "cpu", 1), {"clear_below": "0"}, "Invalid alert threshold"),
    ],
)
def test_invalid_rules(
    alerts: fo.FlextAlertService, arguments: Any, options: Any, message: str
) -> None:
    """A rule that makes no sense is refused."""
    assert alerts.declare(*arguments, **options).error == message
    assert alerts.evaluate({"cpu": 9}).unwrap() == []


def test_invalid_values(alerts: fo.FlextAlertService) -> None:
    """Values must be numbers."""
    calls: Any = alerts
    for values in ({"cpu": "9"}, {"cpu": None}, [1], 3):
        assert calls.evaluate(values).error == "Invalid metric value"


def test_failure_of_an_own_service() -> None:
    """What a derived service refuses is the failure of whoever raised it."""

    class Muted(fo.FlextAlertService):
        def process_alert(self, alert: fo.FlextAlert) -> fo.FlextResult[fo.FlextAlert]:
            return fo.FlextResult[fo.FlextAlert].fail("muted")

    muted = Muted(fo.FlextContainer())
    muted.declare("hot", "cpu", 80).unwrap()
    assert muted.evaluate({"cpu": 90}).error == "muted"
    assert muted.evaluate_alert_thresholds({"cpu": 90}, {"cpu": 80}).error == "muted"
    assert muted.escalate_alert(make_alert()).error == "muted"


def test_eight_threads(alerts: fo.FlextAlertService) -> None:
    """A change is told by one of all who evaluate."""
    alerts.declare("hot", "cpu", 80).unwrap()

    def work() -> int:
        count = 0
        for _ in range(50):
            count += len(alerts.evaluate({"cpu": 90}).unwrap())
            alerts.process_alert(make_alert()).unwrap()
        return count

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work) for _ in range(8)]
    assert sum(each.result() for each in done) == 1
    assert len(alerts.get_alerts(limit=1000).unwrap()) == 401


def test_a_threshold_that_is_zero_as_a_float(alerts: fo.FlextAlertService) -> None:
    """The ratio is infinite, as for 0."""
    (alert,) = alerts.evaluate_alert_thresholds(
        {"a": 1}, {"a": Decimal("1e-400")}
    ).unwrap()
    assert (alert.severity, alert.details["breach_ratio"]) == ("critical", "inf")


def test_ids_by_name(alerts: fo.FlextAlertService) -> None:
    """The parameter is called ``id``."""
    alert = alerts.process_alert(make_alert()).unwrap()
    assert alerts.acknowledge_alert(id=alert.id).unwrap().status == "acknowledged"
    assert alerts.resolve_alert(id=alert.id).unwrap().status == "resolved"
