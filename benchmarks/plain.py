"""Plain OpenTelemetry as its documentation builds it: the base of the figures."""

import time
from collections.abc import Callable, Sequence

from benchmarks.harness import same
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Tracer

RESOURCE = Resource.create({"service.name": "bench"})
QUEUE_RECORDS = 65_536
"""Longer than any turn: a side that drops has less to do."""
NEVER_MS = 3_600_000.0


class DiscardSpans(SpanExporter):
    """Counts a batch and forgets it: what a collector costs is not measured here."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Accept and drop."""
        self.count += len(spans)
        return SpanExportResult.SUCCESS


class DiscardMetrics(MetricExporter):
    """Forgets what a reader collects."""

    def export(
        self,
        metrics_data: MetricsData,  # noqa: ARG002 - signature of the base
        timeout_millis: float = 10_000,  # noqa: ARG002 - same
        **_: object,
    ) -> MetricExportResult:
        """Accept and drop."""
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002 - same
        """Have nothing to send."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        """Have nothing to close."""


def discarding_tracers(sampler: Sampler | None = None) -> TracerProvider:
    """Make the stock batch processor in front of an exporter that discards."""
    provider = TracerProvider(resource=RESOURCE, sampler=sampler)
    provider.add_span_processor(discarding_processor())
    return provider


def discarding_processor() -> BatchSpanProcessor:
    """Make the stock batch processor in front of an exporter that discards."""
    return BatchSpanProcessor(DiscardSpans(), max_queue_size=QUEUE_RECORDS)


def discarding_meters() -> MeterProvider:
    """Make the stock reader in front of an exporter that discards."""
    reader = PeriodicExportingMetricReader(DiscardMetrics(), NEVER_MS)
    return MeterProvider([reader], RESOURCE)


def spanned(tracer: Tracer) -> Callable[[int], int]:
    """Give the base of all calls: `with tracer.start_as_current_span()`."""

    def call(value: int) -> int:
        with tracer.start_as_current_span("call"):
            return same(value)

    return call


def monitored_by_hand(
    tracer: Tracer, meters: MeterProvider, correlation_id: Callable[[], str]
) -> Callable[[int], int]:
    """Give what a team writes to get span, histogram, outcome and correlation id."""
    meter = meters.get_meter("bench")
    duration = meter.create_histogram("call.duration", "s")
    calls = meter.create_counter("calls")

    def call(value: int) -> int:
        started = time.perf_counter()
        status = "ok"
        with tracer.start_as_current_span("call") as span:
            span.set_attribute("correlation.id", correlation_id())
            try:
                return same(value)
            except Exception:
                status = "error"
                raise
            finally:
                labels = {"operation": "call", "status": status}
                duration.record(time.perf_counter() - started, labels)
                calls.add(1, labels)

    return call
