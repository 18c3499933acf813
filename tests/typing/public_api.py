"""Every public signature, used as users use it, for the type checkers alone.

Never run: `make type-check` reads it with mypy --strict and with pyright strict. What
must be refused carries a `type: ignore` that both checkers report once it is unused.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, assert_type

from opentelemetry._logs import Logger
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

import flext_observability as fo
from flext_observability import (
    FlextAlert,
    FlextHealthCheck,
    FlextLogEntry,
    FlextMetric,
    FlextObservability,
    FlextObservabilityConfig,
    FlextObservabilityStatus,
    FlextResult,
    FlextTrace,
    ObservabilitySettings,
    flext_monitor_function,
    flext_span,
    setup,
)

# --- running ---


def running() -> None:
    """Setup takes every field by name, and says what it made."""
    result = setup("shop")
    assert_type(result, FlextResult[FlextObservability])
    assert_type(setup(), FlextResult[FlextObservability])
    setup(
        "shop",
        sampler=ALWAYS_ON,
        views=[View(instrument_name="*")],
        span_processors=[SimpleSpanProcessor(InMemorySpanExporter())],
        metric_readers=(InMemoryMetricReader(),),
        service_version="1.2",
        service_namespace="store",
        environment="production",
        resource_attributes={"team": "a"},
        endpoint="https://collector:4317",
        protocol="grpc",
        headers={"authorization": "Bearer"},
        compression="gzip",
        timeout_s=3.0,
        certificate="ca.pem",
        client_certificate="client.pem",
        client_key="client.key",
        exporters=["otlp", "console"],
        tracing_enabled=True,
        metrics_enabled=True,
        logs_enabled=False,
        sample_ratio=0.5,
        propagators=["tracecontext"],
        correlation_id_header="X-Request-ID",
        log_level="DEBUG",
        structured_logging=True,
        metrics_export_interval_s=10,
        histogram_buckets_s=[0.1, 1.0],
        max_span_attributes=64,
        exit_budget_s=1.0,
        durability="record",
        spool_dir="spool",
        spool_limit_bytes=1 << 24,
        fsync="segment",
        handle_signals=True,
        redaction=True,
        redact_keys=["iban"],
        redact_patterns=[r"\bK-\d+"],
        alertmanager_url="http://localhost:9093",
        alert_resend_s=60,
        push_gateway_url="http://localhost:9091",
        service_discovery_dir="targets",
        redact=lambda _, value: value,
    )
    setup("shop", config=ObservabilitySettings())
    setup("shop", config=FlextObservabilityConfig())
    setup("shop", endpont="http://collector:4317")  # type: ignore[call-arg]
    setup("shop", timeout_s="3")  # type: ignore[arg-type]

    handle = result.unwrap()
    assert_type(handle.config, FlextObservabilityConfig)
    assert_type(handle.tracer, Tracer)
    assert_type(handle.meter, Meter)
    assert_type(handle.logger, Logger)
    assert_type(handle.flush(timeout_s=1.0), FlextResult[None])
    assert_type(handle.shutdown(timeout_s=None), FlextResult[None])
    assert_type(handle.push(timeout_s=1.0), FlextResult[None])
    assert_type(handle.status(), FlextObservabilityStatus)
    assert_type(fo.flush(), FlextResult[None])
    assert_type(fo.flush(timeout_s=1), FlextResult[None])
    assert_type(fo.shutdown(), FlextResult[None])


def ledger() -> None:
    """The status is a typed record."""
    status = fo.status()
    assert_type(status, FlextObservabilityStatus)
    assert_type(status.running, bool)
    assert_type(status.service_name, str)
    assert_type(status.endpoint, str | None)
    assert_type(status.protocol, str | None)
    assert_type(status.durability, str)
    assert_type(status.last_error, str | None)
    assert_type(status.spool_bytes, int)
    assert_type(status.durability_reason, str)
    assert_type(status.spool_dir, str | None)
    assert_type(status.problems, tuple[str, ...])
    assert_type(status.ready, bool)
    traces = status.signals["traces"]
    assert_type(traces.accepted, int)
    assert_type(traces.delivered, int)
    assert_type(traces.rejected, int)
    assert_type(traces.pending, int)
    for reason, count in traces.dropped.items():
        assert_type(reason, str)
        assert_type(count, int)
    status.running = False  # type: ignore[misc]


# --- results ---


def results(metric: FlextResult[int]) -> None:
    """The carried type follows through every member."""
    assert_type(FlextResult.ok(1), FlextResult[int])
    assert_type(FlextResult[int].fail("no"), FlextResult[int])
    assert_type(metric.success, bool)
    assert_type(metric.is_failure, bool)
    assert_type(metric.error, str | None)
    assert_type(metric.exception, BaseException | None)
    assert_type(metric.unwrap(), int)
    assert_type(metric.unwrap_or(""), int | str)
    assert_type(metric.map(str), FlextResult[str])
    assert_type(
        metric.flat_map(lambda value: FlextResult.ok([value])).unwrap(), list[int]
    )
    match metric:
        case FlextResult(True, value, _):
            assert_type(value, int)
        case FlextResult(False, _, message):
            assert_type(message, str | None)
        case _:
            pass


async def awaited(metric: FlextResult[int]) -> None:
    """A result can be awaited where async code expects to."""
    assert_type(await metric, FlextResult[int])


# --- the decorator ---


@flext_monitor_function("price")
def price(amount: float, *, currency: str = "EUR") -> float:
    """Decorated with a name."""
    return amount if currency else 0.0


@flext_monitor_function
def bare(amount: float) -> float:
    """Decorated bare."""
    return amount


@flext_monitor_function()
def called(amount: float) -> float:
    """Decorated with empty parentheses."""
    return amount


@flext_monitor_function(
    "order",
    capture_args=("order_id",),
    record_exception=False,
    attributes={"tier": "gold", "retries": 3},
    kind="server",
)
async def order(order_id: str) -> dict[str, int]:
    """Decorated with every option."""
    return {order_id: 1}


@flext_monitor_function("numbers")
def numbers(limit: int) -> Iterator[int]:
    """Decorate a generator."""
    yield from range(limit)


@flext_monitor_function("lines")
async def lines(limit: int) -> AsyncIterator[str]:
    """Decorate an async generator."""
    for number in range(limit):
        yield str(number)


class Mailer:
    """Methods of each kind."""

    @flext_monitor_function("send")
    def send(self, to: str) -> bool:
        """Decorate a method."""
        return bool(to)

    @staticmethod
    @flext_monitor_function("check")
    def check(to: str) -> bool:
        """Decorate below staticmethod."""
        return bool(to)

    @classmethod
    @flext_monitor_function("make")
    def make(cls, to: str) -> "Mailer":
        """Decorate below classmethod."""
        assert to
        return cls()


async def decorated() -> None:
    """A decorated function keeps its signature."""
    assert_type(price(1.0, currency="USD"), float)
    assert_type(bare(1.0), float)
    assert_type(called(1.0), float)
    assert_type(await order("7"), dict[str, int])
    for number in numbers(3):
        assert_type(number, int)
    async for line in lines(3):
        assert_type(line, str)
    assert_type(Mailer().send("a"), bool)
    assert_type(Mailer.check("a"), bool)
    assert_type(Mailer.make("a"), Mailer)
    price("1")  # type: ignore[arg-type]
    bare()  # type: ignore[call-arg]
    flext_monitor_function("price", capture_arguments=())  # type: ignore[call-overload]


# --- blocks and instruments ---


async def blocks() -> None:
    """A span is a context manager, plain and async."""
    with flext_span("load", attributes={"rows": 3, "source": "disk"}) as span:
        span.set_attribute("done", value=True)
        span.add_event("half way", {"rows": 1})
        span.record_exception(ValueError("x"))
        assert_type(span.trace_id, str)
        assert_type(span.is_recording(), bool)
    async with flext_span("load"):
        fo.flext_add_attributes(rows=3, source="disk")


def instruments() -> None:
    """Bound instruments."""
    calls = fo.flext_counter("calls", unit="1", description="Calls made.")
    calls.add(1)
    calls.add(2.5, {"path": "/"})
    fo.flext_histogram("size", unit="By", description="Sizes.").record(12, {"a": "b"})
    fo.flext_gauge("depth").set(3.0, attributes={"queue": "mail"})
    calls.add("1")  # type: ignore[arg-type]


# --- correlation ---


def correlation(incoming: dict[str, str]) -> None:
    """Ids and headers."""
    assert_type(fo.flext_get_correlation_id(), str)
    fo.flext_set_correlation_id("req-1")
    with fo.flext_correlation_scope("req-1"):
        pass
    with fo.flext_correlation_scope(), fo.flext_correlation_scope(headers=incoming):
        pass
    with fo.flext_extract_headers(incoming):
        pass
    assert_type(fo.flext_inject_headers(incoming), FlextResult[dict[str, str]])
    manager: AbstractContextManager[Any] = fo.flext_extract_headers(incoming)
    del manager


# --- entities ---


def entities() -> None:
    """Creation functions give results of entities."""
    made = fo.flext_create_metric("orders", 1, "count", tags={"region": "eu"})
    assert_type(made, FlextResult[FlextMetric])
    fo.flext_create_metric("orders", Decimal("1.5"), metric_type="counter")
    metric = made.unwrap()
    assert_type(metric.name, str)
    assert_type(metric.value, float | Decimal)
    assert_type(metric.tags, dict[str, str])
    assert_type(metric.validate_business_rules(), FlextResult[None])
    entry = fo.flext_create_log_entry("info", "hello", {"to": "you"})
    assert_type(entry, FlextResult[FlextLogEntry])
    assert_type(entry.unwrap().message, str)


def more_entities() -> None:
    """Traces, alerts and health checks, and the factory that makes them all."""
    trace = fo.flext_create_trace("load", "etl", {"rows": 3}, parent_trace_id=None)
    assert_type(trace, FlextResult[FlextTrace])
    fo.flext_create_trace(name="load", operation="etl.load")
    with trace.unwrap() as running_trace:
        assert_type(running_trace, FlextTrace)
        assert_type(running_trace.id, str)
        assert_type(running_trace.trace_id, str)
        assert_type(running_trace.duration, float | None)
    alert = fo.flext_create_alert("cpu", "critical", "too hot", {"value": 99})
    assert_type(alert, FlextResult[FlextAlert])
    assert_type(alert.unwrap().severity, str)
    check = fo.flext_create_health_check("db", "healthy", dependencies=["disk"])
    assert_type(check, FlextResult[FlextHealthCheck])
    factory = fo.get_global_factory()
    assert_type(factory, fo.FlextObservabilityMasterFactory)
    assert_type(factory.create_metric("orders", 1), FlextResult[FlextMetric])
    assert_type(factory.create_alert(title="cpu"), FlextResult[FlextAlert])
    assert_type(factory.metric("m", 1, unit="s"), FlextResult[FlextMetric])
    assert_type(factory.trace(name="load"), FlextResult[FlextTrace])
    factory.metric(name="m")  # type: ignore[call-arg]
    fo.reset_global_factory()
    entity: fo.FlextEntity = alert.unwrap()
    assert_type(entity.validate_domain_rules(), FlextResult[None])


# --- container and services ---


def container() -> None:
    """The container gives back what it was given."""
    box = fo.FlextContainer()
    assert_type(box.register("rate", 0.2, replace=True), FlextResult[None])
    assert_type(box.get("rate"), FlextResult[object])
    assert_type(box.get_typed("rate", float), FlextResult[float])
    assert_type(box.has("rate"), bool)
    assert_type(box.list_services(), list[str])
    assert_type(fo.FlextContainer.get_global(), fo.FlextContainer)


async def services(metric: FlextMetric, trace: FlextTrace, alert: FlextAlert) -> None:
    """Each service method says what it gives, plain and awaited."""
    metrics = fo.FlextMetricsService(fo.FlextContainer())
    assert_type(metrics.record_metric(metric), FlextResult[FlextMetric])
    assert_type(
        metrics.record_metric("orders", 1, "count", {"region": "eu"}, "counter"),
        FlextResult[FlextMetric],
    )
    assert_type(await metrics.record_metric(metric), FlextResult[FlextMetric])
    assert_type(metrics.get_metric_value("orders"), FlextResult[float])
    assert_type(metrics.export_prometheus_format(), FlextResult[str])
    assert_type(metrics.get_metrics("orders", limit=5), FlextResult[list[FlextMetric]])

    tracing = fo.FlextTracingService()
    assert_type(tracing.start_trace(trace), FlextResult[FlextTrace])
    assert_type(tracing.start_trace("cleanup"), FlextResult[str])
    assert_type(tracing.complete_trace(trace), FlextResult[FlextTrace])
    assert_type(tracing.error_trace("id", ValueError()), FlextResult[FlextTrace])
    assert_type(tracing.search_traces(limit=3), FlextResult[list[FlextTrace]])

    alerts = fo.FlextAlertService()
    assert_type(alerts.process_alert(alert), FlextResult[FlextAlert])
    assert_type(alerts.escalate_alert(alert, {"level": 2}), FlextResult[FlextAlert])
    assert_type(
        alerts.evaluate_alert_thresholds([metric], {"cpu": 80}),
        FlextResult[list[FlextAlert]],
    )

    health = fo.FlextHealthService()
    assert_type(health.get_overall_health(), FlextResult[dict[str, Any]])
    assert_type(health.run_checks(), FlextResult[list[FlextHealthCheck]])

    logging_service = fo.FlextLoggingService()
    written = logging_service.log_entry("info", "hello", {"to": "you"})
    assert_type(written, FlextResult[FlextLogEntry])
    assert_type(
        logging_service.get_logs(level="info"), FlextResult[list[FlextLogEntry]]
    )

    metrics.get_metric_value(7)  # type: ignore[arg-type]
    alerts.process_alert(metric)  # type: ignore[arg-type]


def protocols() -> None:
    """Each service meets its protocol, for the type checkers too."""
    metrics: fo.FlextObservabilityProtocols.MetricsProtocol = fo.FlextMetricsService()
    alerts: fo.FlextObservabilityProtocols.AlertingProtocol = fo.FlextAlertService()
    health: fo.FlextObservabilityProtocols.HealthCheckProtocol = fo.FlextHealthService()
    logging_: fo.FlextObservabilityProtocols.LoggingProtocol = fo.FlextLoggingService()
    tags: fo.FlextObservabilityTypes.TagsDict = {"region": "eu"}
    del metrics, alerts, health, logging_, tags


class Billing(fo.FlextDomainService):
    """A service of the user's own."""

    def execute(self) -> FlextResult[object]:
        """Override what the base leaves open."""
        return FlextResult[object].ok("billed")


class ShopSettings(fo.FlextBaseSettings):
    """Settings of the user's own, with ours inside."""

    observability: ObservabilitySettings = ObservabilitySettings()


# --- the rest of the vocabulary ---

monitor = fo.FlextObservabilityMonitor("billing")


@monitor.function("invoice")
def invoice(number: int) -> int:
    """Decorated through a monitor."""
    return number


def the_rest(metric: FlextMetric) -> None:
    """Monitor, collector, repository, platform, facade."""
    assert_type(invoice(7), int)
    with monitor, monitor.context(tenant="t1"):
        assert_type(monitor.is_active, bool)
    assert_type(monitor.record_metric("invoices", 3), FlextResult[FlextMetric])
    collector = fo.FlextMetricsCollector()
    assert_type(collector.collect_system_metrics(), FlextResult[dict[str, float]])
    repository = fo.FlextObservabilityRepository()
    assert_type(repository.store_metric(metric), FlextResult[None])
    assert_type(repository.get_metric("id"), FlextResult[FlextMetric])
    platform = fo.FlextObservabilityPlatformV2({"service_name": "shop"})
    assert_type(platform.metric("orders", 1), FlextResult[FlextMetric])
    assert_type(platform.trace("load"), FlextResult[FlextTrace])
    facade = fo.get_global_observability_service()
    assert_type(facade, fo.FlextObservabilityService)
    everything: fo.FlextObservabilityServices = facade
    del everything
    assert_type(Billing().execute(), FlextResult[object])
    level: str = ShopSettings().observability.log_level
    header: str = fo.FlextObservabilityConstants.HEADER_CORRELATION_ID
    del level, header


# --- logs ---


def logs() -> None:
    """Loggers take context by keyword."""
    logger = fo.get_logger("shop")
    assert_type(logger, fo.FlextLogger)
    logger.info("sent %s", "mail", to="you", count=3)
    logger.error("not sent", retry=True)
    logger.warning("slow")
    structured = fo.FlextStructuredLogger("shop").bind(tenant="t1")
    assert_type(structured, fo.FlextStructuredLogger)
    assert_type(structured.info("sent", amount=12.5), FlextResult[None])
    logging.getLogger("shop").info("plain", extra={"to": "you"})


# --- errors ---


def errors(result: FlextResult[int]) -> None:
    """Only unwrap raises, one family."""
    try:
        result.unwrap()
    except fo.FlextObservabilityConfigurationError as error:
        assert_type(error, fo.FlextObservabilityConfigurationError)
    except (
        fo.FlextObservabilityConnectionError,
        fo.FlextObservabilityHealthError,
        fo.FlextObservabilityLoggingError,
        fo.FlextObservabilityMetricsError,
        fo.FlextObservabilityProcessingError,
        fo.FlextObservabilityTimeoutError,
        fo.FlextObservabilityTracingError,
        fo.FlextObservabilityValidationError,
    ) as error:
        assert_type(error.args, tuple[Any, ...])
    except fo.FlextObservabilityError as error:
        assert_type(str(error), str)
    assert_type(fo.__version__, str)


# --- services ---


def services_in_detail(services: fo.FlextObservabilityServices) -> None:
    """Entities or values go in; results of the same type come out."""
    metric = FlextMetric(name="orders", value=1)
    metrics = services.metrics
    assert_type(metrics.record_metric(metric), FlextResult[FlextMetric])
    assert_type(
        metrics.record_metric("orders", Decimal(1), "", {"a": 1}, "counter"),
        FlextResult[FlextMetric],
    )
    metrics.record_metric("orders")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(
        metrics.collect_metrics("shop", {"a": 1}), FlextResult[list[FlextMetric]]
    )
    assert_type(metrics.get_metric_value("orders"), FlextResult[float])
    assert_type(metrics.export_prometheus_format(), FlextResult[str])
    assert_type(metrics.get_metrics(limit=3), FlextResult[list[FlextMetric]])
    assert_type(metrics.reset_metrics(), FlextResult[None])
    assert_type(services.logging.log_entry("info", "x"), FlextResult[FlextLogEntry])
    assert_type(services.logging.get_logs(), FlextResult[list[FlextLogEntry]])


def health_in_detail(service: fo.FlextHealthService) -> None:
    """Reports, and checks that are functions or coroutine functions."""
    check = FlextHealthCheck(name="db", status="healthy")
    assert_type(service.execute_health_check(check), FlextResult[FlextHealthCheck])
    assert_type(service.get_overall_health(), FlextResult[dict[str, Any]])

    async def answers() -> bool:
        return True

    assert_type(
        service.register_check("db", answers, timeout_s=2, dependencies=["net"]),
        FlextResult[None],
    )
    assert_type(service.run_checks(), FlextResult[list[FlextHealthCheck]])


def monitor_in_detail() -> None:
    """The monitor's decorator keeps signatures, as the plain one does."""
    billing = fo.FlextObservabilityMonitor("billing", container=fo.FlextContainer())

    @billing.function("invoice", kind="server")
    def invoice(number: int) -> str:
        return str(number)

    @billing.function
    async def later(number: int) -> str:
        return str(number)

    assert_type(invoice(3), str)
    with billing as same, billing.context(tenant="t1"):
        assert_type(same, fo.FlextObservabilityMonitor)
    assert_type(billing.start(), FlextResult[None])
    assert_type(billing.is_active, bool)
    assert_type(billing.record_metric("n", 1), FlextResult[FlextMetric])
    assert_type(billing.health_status(), FlextResult[dict[str, Any]])
    invoice("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(later.__name__, str)


def tracing_protocol(service: fo.FlextTracingService) -> Any:
    """Also where a method takes an entity or its text."""
    tracing: fo.FlextObservabilityProtocols.TracingProtocol = service
    trace: fo.FlextObservabilityTypes.TraceProtocol = FlextTrace(operation_name="t")
    return tracing.start_trace(trace)


def figures(collector: fo.FlextMetricsCollector) -> None:
    """Figures of machine and process."""
    assert_type(collector.collect_system_metrics(), FlextResult[dict[str, float]])
    assert_type(collector.collect_application_metrics(), FlextResult[dict[str, Any]])
    assert_type(collector.collect("queue", lambda: 3), FlextResult[None])


def servers() -> None:
    """Middleware wraps any application and is one itself."""
    asgi = fo.FlextASGIMiddleware(object(), excluded_paths=["/ping", "/internal/*"])
    fo.FlextASGIMiddleware(asgi, trusts_callers=False)
    wsgi = fo.FlextWSGIMiddleware(object(), trusts_callers=None)
    fo.FlextWSGIMiddleware(wsgi, excluded_paths=["/ping"])
    fo.FlextWSGIMiddleware(wsgi, exclude="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    setup(
        server_host="127.0.0.1",
        server_port=9464,
        server_token="t",  # noqa: S106 - no secret of anybody
        server_allowed_hosts=["shop.internal"],
        server_metrics_dir="/run/shop",
    )


def rooms() -> None:
    """Platform, repository and the global facade."""
    platform = fo.FlextObservabilityPlatformV2({"service_name": "shop"})
    assert_type(platform.metric("n", 1), FlextResult[FlextMetric])
    assert_type(platform.trace("checkout"), FlextResult[FlextTrace])
    assert_type(platform.alert("a", "info", "m"), FlextResult[FlextAlert])
    assert_type(platform.log("info", "m"), FlextResult[FlextLogEntry])
    repository = fo.FlextObservabilityRepository()
    assert_type(repository.get_metric("x"), FlextResult[FlextMetric])
    assert_type(
        repository.find_alerts_by_severity("info"), FlextResult[list[FlextAlert]]
    )
    assert_type(fo.get_global_observability_service(), fo.FlextObservabilityService)
