"""Platform, repository, logging service, facade, protocols, types and constants."""

import asyncio
from typing import Any

import pydantic
import pytest

import flext_observability as fo


@pytest.fixture
def container() -> fo.FlextContainer:
    """An empty container."""
    return fo.FlextContainer()


# --- platform -------------------------------------------------------------------------


def test_platform(container: fo.FlextContainer) -> None:
    """Name and version are those of its settings; what it makes is in the store."""
    config = {"service_name": "shop", "service_version": "1.2", "log_level": "debug"}
    platform = fo.FlextObservabilityPlatformV2(config, container)
    assert (platform.name, platform.version) == ("shop", "1.2")
    assert platform.config.log_level == "DEBUG"
    assert platform.container is container
    assert isinstance(platform.logger, fo.FlextLogger)

    metric = platform.metric("orders", 2, "count", {"region": "eu"}, "counter").unwrap()
    trace = platform.trace("checkout", "shop", {"items": 3}).unwrap()
    alert = platform.alert("disk", "warning", "nearly full", source="host").unwrap()
    entry = platform.log("info", "hello", {"to": "you"}).unwrap()
    services = fo.FlextObservabilityServices(container)
    assert services.metrics.get_metrics().data == [metric]
    assert services.tracing.get_trace_info(trace.id).success
    assert services.alerts.get_alerts().data == [alert]
    assert services.logging.get_logs().data == [entry]
    assert platform.health_check().unwrap()["overall_status"] == "unknown"
    assert services.tracing.complete_trace(trace).success


def test_platform_failures(container: fo.FlextContainer) -> None:
    """Invalid values are failures; invalid settings a validation error."""
    platform = fo.FlextObservabilityPlatformV2(container=container)
    assert platform.metric("", 1).error == "Invalid metric name"
    assert platform.trace("").is_failure
    assert platform.alert("a", "loud", "x").error == "Invalid severity level"
    assert platform.log("info", "").error == "Invalid log message"
    for wrong in ({"service_nam": "x"}, {"sample_ratio": 7}, 3):
        bad: Any = wrong
        with pytest.raises(pydantic.ValidationError):
            fo.FlextObservabilityPlatformV2(bad)


def test_platform_defaults() -> None:
    """Settings in force, global container, version of the package."""
    fo.setup("shop", exporters=["none"]).unwrap()
    platform = fo.FlextObservabilityPlatformV2()
    assert platform.name == "shop"
    assert platform.version == fo.__version__
    assert platform.container is fo.FlextContainer.get_global()
    config = fo.FlextObservabilityConfig(service_name="mine")
    assert fo.FlextObservabilityPlatformV2(config).config is config


# --- repository -----------------------------------------------------------------------


def test_repository() -> None:
    """Entities by id and by word; nothing is emitted."""
    repository = fo.FlextObservabilityRepository()
    metric = fo.FlextMetric(name="load", value=1)
    trace = fo.FlextTrace(operation_name="checkout", service_name="shop")
    alert = fo.FlextAlert(name="disk", severity="warning", message="full")
    assert repository.store_metric(metric).success
    assert repository.store_trace(trace).success
    assert repository.store_alert(alert).success
    assert repository.get_metric(metric.id).data is metric
    assert repository.get_trace(trace.id).data is trace
    assert repository.get_alert(alert.id).data is alert
    assert repository.find_metrics_by_name("load").data == [metric]
    assert repository.find_metrics_by_name("loa").data == []
    assert repository.find_traces_by_operation("checkout").data == [trace]
    assert repository.find_alerts_by_severity("Warning").data == [alert]
    assert trace.status == "pending"


@pytest.mark.parametrize("what", ["metric", "trace", "alert"])
def test_repository_failures(what: str) -> None:
    """What has no id cannot be kept; unknown ids are named; nothing raises."""
    repository = fo.FlextObservabilityRepository()
    store: Any = getattr(repository, f"store_{what}")
    get: Any = getattr(repository, f"get_{what}")
    message = f"{what.title()} must have ID"
    without = fo.FlextEntity()
    without.id = ""
    for nothing in (None, "text", {"id": "x"}, without):
        assert store(nothing).error == message
    assert store(fo.FlextHealthCheck(name="x", status="healthy")).is_failure
    assert get("x7").error == f"{what.title()} 'x7' not found"
    assert get([]).is_failure
    assert store().is_failure


def test_repository_is_bounded() -> None:
    """As the stores of the services are."""
    repository = fo.FlextObservabilityRepository()
    metrics = [fo.FlextMetric(name="n", value=n) for n in range(1001)]
    for metric in metrics:
        repository.store_metric(metric).unwrap()
    assert repository.find_metrics_by_name("n").unwrap() == metrics[:499:-1]
    assert repository.get_metric(metrics[0].id).is_failure


# --- logging --------------------------------------------------------------------------


def test_log_entries(container: fo.FlextContainer) -> None:
    """Entities or values; the newest first, by level and correlation id."""
    service = fo.FlextLoggingService(container)
    with fo.flext_correlation_scope("req-1"):
        first = service.log_entry("INFO", "one", {"n": 1}).unwrap()
    second = service.log_entry(fo.FlextLogEntry(level="error", message="two")).unwrap()
    third = service.log_entry(
        level="error", message="three", correlation_id="req-2"
    ).unwrap()
    assert first.context == {"n": 1}
    assert service.get_logs().data == [third, second, first]
    assert service.get_logs(level="Error", limit=1).data == [third]
    assert service.get_logs(correlation_id="req-1").data == [first]
    assert asyncio.run(awaited(service)).unwrap() == [third, second, first]


async def awaited(
    service: fo.FlextLoggingService,
) -> fo.FlextResult[list[fo.FlextLogEntry]]:
    return await service.get_logs()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("loud", "x"), "Invalid log level"),
        ((3, "x"), "Invalid log level"),
        ((), "Invalid log level"),
        (("info", ""), "Invalid log message"),
        (("info", 3), "Invalid log message"),
        (("info",), "Invalid log message"),
        ((fo.FlextLogEntry(level="info", message=" "),), "Invalid log message"),
    ],
)
def test_bad_log_entries(
    container: fo.FlextContainer, arguments: Any, message: str
) -> None:
    """They are failures with the rule's message and are not kept."""
    service = fo.FlextLoggingService(container)
    result = service.log_entry(*arguments)
    assert result.error == f"Log entry validation failed: {message}"
    assert service.get_logs().data == []
    log: Any = service.log_entry
    assert "context" in log("info", "x", 3).error
    assert "color" in log("info", "x", color=3).error


def test_log_entries_are_bounded(container: fo.FlextContainer) -> None:
    """The newest 500 stay when the 1001st arrives."""
    service = fo.FlextLoggingService(container)
    for number in range(1001):
        service.log_entry("info", str(number)).unwrap()
    kept = service.get_logs(limit=2000).unwrap()
    assert [entry.message for entry in kept] == [str(n) for n in range(1000, 499, -1)]


# --- facade ---------------------------------------------------------------------------


def test_facade(container: fo.FlextContainer) -> None:
    """The five classes, and one of each on one container, registered."""
    facade = fo.FlextObservabilityServices
    services = facade(container)
    for name, key, kind, service in (
        ("MetricsService", "metrics", fo.FlextMetricsService, services.metrics),
        ("TracingService", "tracing", fo.FlextTracingService, services.tracing),
        ("AlertService", "alert", fo.FlextAlertService, services.alerts),
        ("HealthService", "health", fo.FlextHealthService, services.health),
        ("LoggingService", "logging", fo.FlextLoggingService, services.logging),
    ):
        assert getattr(facade, name) is kind
        assert isinstance(service, kind)
        assert service.container is container
        assert container.get(f"{key}_service").data is service


def test_global_service() -> None:
    """One object on the global container, until that is reset."""
    service = fo.get_global_observability_service()
    assert isinstance(service, fo.FlextObservabilityService)
    assert fo.get_global_observability_service() is service
    assert service.container is fo.FlextContainer.get_global()
    service.metrics.record_metric("before_reset", 1).unwrap()
    fo.reset_global_factory()
    again = fo.get_global_observability_service()
    assert again is not service
    assert again.metrics.get_metric_value("before_reset").is_failure
    assert service.metrics.get_metric_value("before_reset").success


# --- types ----------------------------------------------------------------------------


def test_services_meet_their_protocols(container: fo.FlextContainer) -> None:
    """Protocols can be checked at run time; a stranger meets none."""
    protocols = fo.FlextObservabilityProtocols
    services = fo.FlextObservabilityServices(container)
    assert isinstance(services.metrics, protocols.MetricsProtocol)
    assert isinstance(services.tracing, protocols.TracingProtocol)
    assert isinstance(services.alerts, protocols.AlertingProtocol)
    assert isinstance(services.health, protocols.HealthCheckProtocol)
    assert isinstance(services.logging, protocols.LoggingProtocol)

    class Dashboards:
        def create_dashboard(self) -> None: ...

        def get_dashboard(self) -> None: ...

    assert isinstance(Dashboards(), protocols.DashboardProtocol)
    assert not isinstance(Dashboards(), protocols.ObservabilityCollector)
    assert not isinstance(services.metrics, protocols.TracingProtocol)


def test_entities_have_their_shapes() -> None:
    """The entity protocols are met by the entities."""
    types = fo.FlextObservabilityTypes
    metric = fo.FlextMetric(name="n", value=1)
    assert isinstance(metric, types.MetricProtocol)
    assert isinstance(fo.FlextTrace(operation_name="o"), types.TraceProtocol)
    alert = fo.FlextAlert(name="a", severity="info", message="m")
    assert isinstance(alert, types.AlertProtocol)
    check = fo.FlextHealthCheck(name="c", status="healthy")
    assert isinstance(check, types.HealthCheckProtocol)
    entry = fo.FlextLogEntry(level="info", message="m")
    assert isinstance(entry, types.LogEntryProtocol)
    assert not isinstance(metric, types.LogEntryProtocol)
    for name in ("MetricValue", "TagsDict", "LogLevel", "AlertLevel", "TraceStatus"):
        assert hasattr(types, name)


def test_constants() -> None:
    """The words and figures of the contract."""
    constants = fo.FlextObservabilityConstants
    assert constants.METRIC_TYPES == ("gauge", "counter", "histogram")
    assert constants.ALERT_SEVERITIES == ("info", "warning", "error", "critical")
    assert constants.HEALTH_STATUSES == ("healthy", "degraded", "unhealthy")
    assert (constants.STORE_LIMIT, constants.STORE_KEPT) == (1000, 500)
    assert constants.SERIES_LIMIT == 2000
    assert constants.PORT_PROMETHEUS == 9090


def test_the_door_is_wide() -> None:
    """At least 58 public names."""
    assert len(set(fo.__all__)) >= 58
