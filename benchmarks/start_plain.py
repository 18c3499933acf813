"""The set-up of all three signals over OTLP/HTTP as it is written by hand."""

import logging
import warnings

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def start(url: str) -> None:
    """Send traces, metrics and logs of this process."""
    resource = Resource.create({"service.name": "bench"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces"))
    )
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{url}/v1/metrics")
    )
    metrics.set_meter_provider(MeterProvider([reader], resource))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{url}/v1/logs"))
    )
    set_logger_provider(loggers)
    # Deprecated in favour of a contrib package that holds the same handler.
    with warnings.catch_warnings(action="ignore"):
        logging.getLogger().addHandler(LoggingHandler(logger_provider=loggers))


def deliver() -> None:
    """Make one record of each signal, and wait until they have arrived."""
    with trace.get_tracer("bench").start_as_current_span("call"):
        metrics.get_meter("bench").create_counter("calls").add(1)
        logging.getLogger("bench").warning("called")
    providers = (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        get_logger_provider(),
    )
    for provider in providers:
        provider.force_flush()  # type: ignore[union-attr] # the API's type, the SDK's object
