"""What stands between the SDK's providers and the pipe."""

import copy
import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from opentelemetry.context import Context
from opentelemetry.sdk._logs import (
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricReader,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from ..correlation import context_attributes, explicit_correlation_id
from ..traceparent import known_traces

Flush = Callable[[float], bool]
"""Sends what is queued until a deadline on the monotonic clock."""
Report = Callable[[object, Exception], None]
"""Says that a processor of the caller raised."""


class ContextSpanProcessor(SpanProcessor):
    """Puts what the context says on every span, whoever starts it.

    That is the correlation id that was set, and the attributes of the context. It also
    remembers the first local span of a trace, which children that know no more than the
    trace id hang under.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - signature of the base
        """Stamp the span, remember a local root."""
        correlation_id = explicit_correlation_id()
        if correlation_id:
            span.set_attribute(C.ATTR_CORRELATION_ID, correlation_id)
        stated = context_attributes()
        if stated:
            own = span.attributes or {}
            for name, value in stated.items():
                if name not in own:
                    span.set_attribute(name, value)
        parent = span.parent
        if parent is None or parent.is_remote:
            known_traces.add_local_root(span.get_span_context())


class SpanQueue(SpanProcessor):
    """Hands sampled, finished spans on."""

    def __init__(self, put: Callable[[ReadableSpan], None], flush: Flush) -> None:
        self.take = put
        """Takes a finished span that is sampled."""
        self._flush = flush

    def redirect(self, put: Callable[[ReadableSpan], None]) -> None:
        """Hand spans that end from now on to another pipeline."""
        self.take = put

    def hand_on(self, span: ReadableSpan) -> None:
        """Take a span of a former pipeline, or hand it on to a later one."""
        self.take(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self.take(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued, for whoever flushes the provider directly."""
        return self._flush(time.monotonic() + timeout_millis / 1000)


class GuardedSpanProcessor(SpanProcessor):
    """A processor of the caller; what it raises stops neither the host nor ours."""

    def __init__(self, inner: SpanProcessor, report: Report) -> None:
        self._inner = inner
        self._report = report

    def stands_for(self, processors: Collection[SpanProcessor]) -> bool:
        """Whether what it guards is one of these."""
        return any(self._inner is each for each in processors)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass on."""
        try:
            self._inner.on_start(span, parent_context)
        except Exception as error:  # noqa: BLE001 - foreign code
            self._report(self._inner, error)

    def _on_ending(self, span: Span) -> None:
        try:
            self._inner._on_ending(span)  # noqa: SLF001 - experimental in the SDK
        except Exception as error:  # noqa: BLE001 - foreign code
            self._report(self._inner, error)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on."""
        try:
            self._inner.on_end(span)
        except Exception as error:  # noqa: BLE001 - foreign code
            self._report(self._inner, error)

    def shutdown(self) -> None:
        """Pass on, for whoever shuts the provider down directly."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on."""
        return self._inner.force_flush(timeout_millis)


class GuardedLogProcessor(LogRecordProcessor):
    """A processor of the caller; what it raises stops neither the host nor ours."""

    def __init__(self, inner: LogRecordProcessor, report: Report) -> None:
        self._inner = inner
        self._report = report

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Pass on."""
        try:
            self._inner.on_emit(log_record)
        except Exception as error:  # noqa: BLE001 - foreign code
            self._report(self._inner, error)

    def shutdown(self) -> None:
        """Pass on."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on."""
        return self._inner.force_flush(timeout_millis)


class ContextLogProcessor(LogRecordProcessor):
    """Puts what the context says on every log record, whoever emits it."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Stamp the record; its own attributes win."""
        correlation_id = explicit_correlation_id()
        stated = context_attributes()
        if not correlation_id and not stated:
            return
        # The SDK's own mapping keeps to its limit, and counts what it leaves out.
        own: Any = log_record.log_record.attributes
        for name, value in stated_attributes(correlation_id, stated).items():
            if name not in own:
                own[name] = value

    def shutdown(self) -> None:
        """Nothing to shut down."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - signature of the base
        """Nothing is held here."""
        return True


def stated_attributes(
    correlation_id: str, stated: Mapping[str, AnyValue]
) -> dict[str, AnyValue]:
    """Join what the context says about everything that begins in it."""
    stamp = {C.ATTR_CORRELATION_ID: correlation_id} if correlation_id else {}
    return {**stated, **stamp}


class LogQueue(LogRecordProcessor):
    """Hands log records on."""

    def __init__(self, put: Callable[[ReadableLogRecord], None], flush: Flush) -> None:
        self._put = put
        self._flush = flush

    def redirect(self, put: Callable[[ReadableLogRecord], None]) -> None:
        """Hand records that are emitted from now on elsewhere."""
        self._put = put

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Take a log record as it is now; its context must not be kept alive."""
        record = copy.copy(log_record.log_record)
        record.context = Context()
        self._put(
            ReadableLogRecord(
                log_record=record,
                resource=log_record.resource or Resource.get_empty(),
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def shutdown(self) -> None:
        """Nothing to shut down; the pipeline closes its deliveries itself."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued, for whoever flushes the provider directly."""
        return self._flush(time.monotonic() + timeout_millis / 1000)


class MetricQueue(MetricReader):
    """Hands what a collection found on.

    It has no thread: the delivery polls it, and a flush or an exit collects once more.
    """

    def __init__(self, put: Callable[[MetricsData], None], flush: Flush) -> None:
        super().__init__(
            preferred_temporality=_preferred_temporality(),
            preferred_aggregation=_preferred_aggregation(),
        )
        self._put = put
        self._flush = flush

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - signature of the base
        **kwargs: Any,  # noqa: ARG002 - signature of the base
    ) -> None:
        if count_points(metrics_data):
            self._put(metrics_data)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and send, for whoever flushes the provider directly."""
        deadline = time.monotonic() + timeout_millis / 1000
        super().force_flush(timeout_millis)
        return self._flush(deadline)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing to shut down; the pipeline closes its deliveries itself."""


def count_points(data: MetricsData) -> int:
    """Count the data points of a collection, the ledger's unit for metrics."""
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def _preferred_temporality() -> dict[type, AggregationTemporality]:
    """Read OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE.

    https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/
    """
    preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "")
    delta: tuple[type, ...] = {
        "DELTA": (Counter, Histogram, ObservableCounter),
        "LOWMEMORY": (Counter, Histogram),
    }.get(preference.strip().upper(), ())
    kinds = (
        *(Counter, UpDownCounter, Histogram),
        *(ObservableCounter, ObservableUpDownCounter, ObservableGauge),
    )
    return {
        kind: AggregationTemporality.DELTA
        if kind in delta
        else AggregationTemporality.CUMULATIVE
        for kind in kinds
    }


def _preferred_aggregation() -> dict[type, Aggregation]:
    """Read OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION."""
    wanted = os.environ.get(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", ""
    )
    if wanted.strip().lower() == "base2_exponential_bucket_histogram":
        return {cast("type", Histogram): ExponentialBucketHistogramAggregation()}
    return {}
