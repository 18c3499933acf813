"""Creation functions and the factory: arguments, messages, containers."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pydantic
import pytest

import flext_observability as fo

CREATORS = ("metric", "trace", "alert", "health_check", "log_entry")


class Hostile:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


def function(kind: str) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(fo, f"flext_create_{kind}")
    return made


# --- arguments ---


def test_metric_arguments() -> None:
    """By position and by keyword; the type is never guessed."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    metric = fo.flext_create_metric(
        "m", 3, "count", {"a": 1}, "counter", timestamp=moment
    ).unwrap()
    assert (metric.name, metric.value, metric.unit) == ("m", 3.0, "count")
    assert type(metric.value) is float
    assert (metric.tags, metric.metric_type) == ({"a": "1"}, "counter")
    assert metric.timestamp == moment
    plain = fo.flext_create_metric(value=Decimal("0.10"), name="m").unwrap()
    assert (plain.metric_type, plain.unit, plain.tags) == ("gauge", "", {})
    assert str(plain.value) == "0.10"


@pytest.mark.parametrize(
    ("args", "named", "wanted"),
    [
        (("a", "s"), {}, ("a", "s", "a")),
        (("a",), {}, ("a", "flext-service", "a")),
        ((), {"name": "a"}, ("a", "flext-service", "a")),
        ((), {"operation": "b"}, ("b", "flext-service", "b")),
        ((), {"name": "a", "operation": "b"}, ("a", "flext-service", "b")),
        (("a",), {"operation": "b"}, ("a", "flext-service", "b")),
        (("a",), {"name": "c", "operation": "b"}, ("a", "flext-service", "b")),
        ((), {"operation_name": "a", "service_name": "s"}, ("a", "s", "a")),
    ],
)
def test_trace_arguments(
    args: Any, named: dict[str, Any], wanted: tuple[str, str, str]
) -> None:
    """Two positions are operation and service; keywords fill what is missing."""
    trace = fo.flext_create_trace(*args, **named).unwrap()
    assert (trace.operation_name, trace.service_name, trace.operation) == wanted
    assert trace.status == "running"


def test_alert_arguments() -> None:
    """Name, severity, message; a title stands in for the name."""
    alert = fo.flext_create_alert(
        "disk", "ERROR", "full", {"free": 0}, source="probe", tags={"n": 1}
    ).unwrap()
    assert (alert.name, alert.severity, alert.message) == ("disk", "error", "full")
    assert (alert.details, alert.source, alert.tags) == (
        {"free": 0},
        "probe",
        {"n": "1"},
    )
    titled = fo.flext_create_alert(title="disk", severity="info", message="m").unwrap()
    assert titled.name == titled.title == "disk"
    both = fo.flext_create_alert("name", "info", "m", title="title").unwrap()
    assert both.name == "name"
    swapped = fo.flext_create_alert("disk", "it is full", "error")
    assert swapped.error == "Invalid severity level"


def test_health_check_and_log_entry_arguments() -> None:
    """The others, by position."""
    check = fo.flext_create_health_check(
        "db", "Degraded", "slow", {"ms": 900}, dependencies=["disk"]
    ).unwrap()
    assert (check.component, check.status, check.message) == ("db", "degraded", "slow")
    assert (check.details, check.dependencies) == ({"ms": 900}, ["disk"])
    entry = fo.flext_create_log_entry("INFO", "hello", {"a": 1}, "req-1").unwrap()
    assert (entry.level, entry.message) == ("info", "hello")
    assert (entry.context, entry.correlation_id) == ({"a": 1}, "req-1")


@pytest.mark.parametrize("kind", CREATORS)
def test_factory_has_the_same_parameters(kind: str) -> None:
    """The three ways to make an entity take the same arguments."""
    wanted = inspect.signature(function(kind)).parameters
    name = "log" if kind == "log_entry" else kind
    for method in (f"create_{kind}", name):
        bound = getattr(fo.FlextObservabilityMasterFactory(), method)
        assert inspect.signature(bound).parameters == wanted
        assert bound.__name__ == method


# --- messages ---


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("metric", {"name": "", "value": 1}, "Invalid metric name"),
        ("metric", {"name": "m" * 256, "value": 1}, "Invalid metric name"),
        ("metric", {"name": 7, "value": "x"}, "Invalid metric name"),
        ("metric", {"name": None, "value": 1}, "Invalid metric name"),
        ("metric", {"name": "m", "value": "1"}, "Invalid metric value"),
        ("metric", {"name": "m", "value": True}, "Invalid metric value"),
        ("metric", {"name": "m", "value": None}, "Invalid metric value"),
        ("metric", {"name": "m", "value": float("nan")}, "Invalid metric value"),
        ("metric", {"name": "m", "value": Decimal("Infinity")}, "Invalid metric value"),
        (
            "metric",
            {"name": "m", "value": -1, "metric_type": "counter"},
            "Invalid metric value",
        ),
        (
            "metric",
            {"name": "m", "value": -1, "metric_type": "histogram"},
            "Invalid metric value",
        ),
        (
            "metric",
            {"name": "m", "value": 1, "metric_type": "meter"},
            "Invalid metric type",
        ),
        ("trace", {}, "Invalid operation name"),
        ("trace", {"operation_name": " "}, "Invalid operation name"),
        ("trace", {"operation_name": 7}, "Invalid operation name"),
        ("trace", {"operation_name": "a", "service_name": ""}, "Invalid service name"),
        ("trace", {"operation_name": "a", "service_name": 7}, "Invalid service name"),
        ("alert", {}, "Invalid alert name"),
        ("alert", {"name": "a"}, "Invalid severity level"),
        ("alert", {"name": "a", "severity": "loud"}, "Invalid severity level"),
        ("alert", {"name": "a", "severity": "info"}, "Invalid alert message"),
        (
            "alert",
            {"name": "a", "severity": "info", "message": 7},
            "Invalid alert message",
        ),
        ("health_check", {"name": "", "status": "x"}, "Invalid health check name"),
        ("health_check", {"name": "a", "status": "x"}, "Invalid health status"),
        ("health_check", {"name": "a", "status": None}, "Invalid health status"),
        ("log_entry", {"level": "loud", "message": ""}, "Invalid log level"),
        ("log_entry", {"level": None, "message": ""}, "Invalid log level"),
        ("log_entry", {"level": "info", "message": " "}, "Invalid log message"),
    ],
)
def test_rule_messages(kind: str, arguments: dict[str, Any], message: str) -> None:
    """A broken rule is told in the entity's words."""
    assert function(kind)(**arguments).error == message


@pytest.mark.parametrize(
    ("kind", "arguments", "start"),
    [
        (
            "metric",
            {"name": "m", "value": 1, "unit": 7},
            "Metric creation failed: unit",
        ),
        (
            "metric",
            {"name": "m", "value": 1, "tags": 7},
            "Metric creation failed: tags",
        ),
        (
            "metric",
            {"name": "m", "value": 1, "timestamp": "x"},
            "Metric creation failed: timestamp",
        ),
        (
            "metric",
            {"name": "m", "value": 1, "tags": {"a": Hostile()}},
            "Metric creation failed: tags: Value error, must become text",
        ),
        (
            "trace",
            {"operation_name": "a", "context": 7},
            "Trace creation failed: context",
        ),
        (
            "trace",
            {"operation_name": "a", "parent_trace_id": 7},
            "Trace creation failed: parent_trace_id",
        ),
        (
            "trace",
            {"operation_name": "a", "context": {"parent_trace_id": Hostile()}},
            "Trace creation failed: RuntimeError",
        ),
        (
            "alert",
            {"name": "a", "severity": "info", "message": "m", "details": 7},
            "Alert creation failed: details",
        ),
        (
            "alert",
            {"name": "a", "severity": "info", "message": "m", "source": 7},
            "Alert creation failed: source",
        ),
        (
            "health_check",
            {"name": "a", "status": "healthy", "dependencies": 7},
            "Health check creation failed: dependencies",
        ),
        (
            "log_entry",
            {"level": "info", "message": "m", "context": 7},
            "Log entry creation failed: context",
        ),
        (
            "log_entry",
            {"level": "info", "message": "m", "correlation_id": 7},
            "Log entry creation failed: correlation_id",
        ),
    ],
)
def test_wrong_types(kind: str, arguments: dict[str, Any], start: str) -> None:
    """Another wrong type names the field, and nothing raises."""
    error = function(kind)(**arguments).error
    assert error is not None
    assert error.startswith(start)


def test_hostile_context_is_kept() -> None:
    """Values that cannot be shown do no harm."""
    fo.setup("shop", exporters=["memory"]).unwrap()
    hostile = Hostile()
    trace = fo.flext_create_trace("a", context={"x": hostile, "": 1}).unwrap()
    assert trace.context["x"] is hostile
    trace.fail(hostile).unwrap()
    assert trace.error == "<unprintable>"
    details = {"x": hostile}
    assert fo.flext_create_alert("a", "info", "m", details).success
    assert fo.flext_create_health_check("a", "unhealthy", details=details).success
    assert fo.flext_create_log_entry("info", "m", details).success


# --- containers ---


def test_factory_creates_without_keeping() -> None:
    """``create_*`` fills no store."""
    container = fo.FlextContainer()
    factory = fo.FlextObservabilityMasterFactory(container)
    factory.create_metric("m", 1).unwrap()
    factory.create_trace("t").unwrap()
    factory.create_alert("a", "info", "m").unwrap()
    factory.create_log_entry("info", "m").unwrap()
    assert container.list_services() == []
    services = fo.FlextObservabilityServices(container)
    assert services.metrics.get_metrics().unwrap() == []
    assert services.tracing.search_traces().unwrap() == []
    assert services.alerts.get_alerts().unwrap() == []
    assert services.logging.get_logs().unwrap() == []
    assert services.health.get_overall_health().unwrap()["overall_status"] == "unknown"


def test_factory_keeps() -> None:
    """The short names create and keep."""
    container = fo.FlextContainer()
    factory = fo.FlextObservabilityMasterFactory(container)
    services = fo.FlextObservabilityServices(container)
    metric = factory.metric("m", 2, metric_type="counter").unwrap()
    assert services.metrics.get_metrics().unwrap() == [metric]
    assert services.metrics.get_metric_value("m").unwrap() == 2.0
    trace = factory.trace("t", context={"n": 1}).unwrap()
    assert services.tracing.search_traces().unwrap() == [trace]
    info = services.tracing.get_tracing_summary().unwrap()["service_info"]
    assert (info["traces_started"], info["active_traces"]) == (1, 1)
    alert = factory.alert("a", "info", "m").unwrap()
    assert services.alerts.get_alerts().unwrap() == [alert]
    entry = factory.log("info", "m").unwrap()
    assert services.logging.get_logs().unwrap() == [entry]
    check = factory.health_check("db", "degraded").unwrap()
    assert check.status == "degraded"
    health = factory.health_status().unwrap()
    assert health["overall_status"] == "degraded"
    assert health["components"].keys() == {"db"}
    assert factory.metric("", 1).error == "Invalid metric name"
    assert factory.trace("").error == "Invalid operation name"


def test_factory_uses_the_container_s_service() -> None:
    """A service of the application's own, registered before, gets the entities."""

    class Counting(fo.FlextAlertService):
        seen = 0

        def process_alert(self, alert: fo.FlextAlert) -> fo.FlextResult[fo.FlextAlert]:
            self.seen += 1
            return super().process_alert(alert)

    container = fo.FlextContainer()
    own = Counting(container)
    factory = fo.FlextObservabilityMasterFactory(container)
    factory.alert("a", "info", "m").unwrap()
    assert own.seen == 1
    container.register("alert_service", "something else", replace=True).unwrap()
    assert factory.alert("b", "info", "m").success
    assert len(own.get_alerts().unwrap()) == 2


def test_global_factory() -> None:
    """One object until a reset; services built before keep their store."""
    fo.reset_global_factory()
    factory = fo.get_global_factory()
    assert fo.get_global_factory() is factory
    assert factory.container is fo.FlextContainer.get_global()
    service = fo.FlextMetricsService()
    factory.metric("m", 1).unwrap()
    assert service.get_metric_value("m").success
    fo.reset_global_factory()
    assert fo.get_global_factory() is not factory
    assert fo.FlextContainer.get_global() is not factory.container
    assert fo.FlextMetricsService().get_metric_value("m").is_failure
    assert service.get_metric_value("m").unwrap() == 1.0


def test_factory_needs_a_container() -> None:
    """A wrong type is told at once."""
    with pytest.raises(ValueError, match="FlextContainer"):
        fo.FlextObservabilityMasterFactory("shop")  # type: ignore[arg-type]


# --- the base class ---


def test_domain_service() -> None:
    """A base for services of one's own, which may set what they like."""

    class Billing(fo.FlextDomainService):
        def __init__(self, container: fo.FlextContainer) -> None:
            super().__init__(container)
            self.currency = "EUR"

        def execute(self) -> fo.FlextResult[object]:
            return fo.FlextResult[object].ok(self.currency)

    container = fo.FlextContainer()
    billing = Billing(container)
    assert billing.container is container
    assert billing.execute().unwrap() == "EUR"
    assert billing.validate_business_rules().success
    assert billing.logger.name.endswith("Billing")
    plain = fo.FlextDomainService()
    assert plain.container is fo.FlextContainer.get_global()
    assert plain.execute().error == "FlextDomainService does not implement execute()"


def test_platform_takes_what_the_factory_takes() -> None:
    """Also the time of a metric."""
    platform = fo.FlextObservabilityPlatformV2(container=fo.FlextContainer())
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert platform.metric("m", 1, timestamp=moment).unwrap().timestamp == moment


@pytest.mark.parametrize(
    ("entity", "field", "value", "message"),
    [
        (fo.FlextMetric(name="m", value=1), "name", None, "Invalid metric name"),
        (fo.FlextMetric(name="m", value=1), "value", "1", "Invalid metric value"),
        (fo.FlextMetric(name="m", value=1), "value", 10**400, "Invalid metric value"),
        (fo.FlextMetric(name="m", value=1), "metric_type", [], "Invalid metric type"),
        (fo.FlextLogEntry(level="info", message="m"), "message", 5, "log message"),
        (fo.FlextHealthCheck(name="db", status="healthy"), "name", [], "check name"),
    ],
)
def test_an_entity_spoilt_by_an_assignment(
    entity: fo.FlextEntity, field: str, value: object, message: str
) -> None:
    """It breaks the rule of that field; checking never raises."""
    setattr(entity, field, value)
    assert message in str(entity.validate_business_rules().error)


@pytest.mark.parametrize(
    "text", ['{"name": "a", "value": "abc"}', '{"name": "a", "value": true}']
)
def test_json_without_a_number(text: str) -> None:
    """It is told like any wrong value."""
    with pytest.raises(pydantic.ValidationError, match="must be a number"):
        fo.FlextMetric.model_validate_json(text)


def test_a_tag_that_cannot_be_text() -> None:
    """The constructor tells it like any wrong value."""
    with pytest.raises(pydantic.ValidationError, match="must become text"):
        fo.FlextMetric.model_validate(
            {"name": "m", "value": 1, "tags": {"a": Hostile()}}
        )
