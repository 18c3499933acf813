"""Words, figures and names of the package in one place.

Every attribute, metric, event and header name that we emit stands here, with the
semantic convention it follows where there is one
(https://opentelemetry.io/docs/specs/semconv/).
"""

import re
from enum import StrEnum
from typing import Final, final


class Signal(StrEnum):
    """The three kinds of telemetry, by the names that OTLP uses."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class DropReason(StrEnum):
    """Why an accepted record was given up; the list is closed."""

    QUEUE_FULL = "queue_full"
    UNENCODABLE = "unencodable"
    EXIT = "exit"


class ErrorCategory(StrEnum):
    """Coarse class of a failed operation, for grouping beyond exception types."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PERMISSION = "permission"
    VALIDATION = "validation"
    CANCELLED = "cancelled"
    OTHER = "other"


@final
class FlextObservabilityConstants:
    """Every word and figure that users may need to compare with."""

    METRIC_TYPES: Final = ("gauge", "counter", "histogram")
    LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
    SIGNALS: Final = tuple(signal.value for signal in Signal)
    EXPORTERS: Final = ("otlp", "console", "prometheus", "memory", "none")
    PROTOCOLS: Final = ("grpc", "http/protobuf")
    COMPRESSIONS: Final = ("none", "gzip", "deflate")
    SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")

    # Ports: IANA registers 4317 and 4318 for OTLP; the others are the usual ones.
    PORT_OTLP_GRPC: Final = 4317
    PORT_OTLP_HTTP: Final = 4318
    PORT_PROMETHEUS_EXPORTER: Final = 9464

    DEFAULT_SERVICE_NAME: Final = "flext-service"
    DEFAULT_ENVIRONMENT: Final = "development"
    DEFAULT_ENDPOINT: Final = "http://localhost:4317"
    DEFAULT_TIMEOUT_S: Final = 10.0
    DEFAULT_EXIT_BUDGET_S: Final = 2.0
    DEFAULT_METRICS_EXPORT_INTERVAL_S: Final = 60.0

    # Bounds of histograms by unit. Seconds are the SDK's default ladder, which is
    # made for milliseconds, divided by 1000.
    BUCKETS_S: Final = (
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0),
    )
    BUCKETS_MS: Final = (
        *(5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0),
        *(1000.0, 2500.0, 5000.0, 7500.0, 10000.0),
    )
    BUCKETS_OTHER: Final = (0.0, *BUCKETS_MS)

    METRIC_NAME_LENGTH_LIMIT: Final = 255

    # -- what we emit
    SCOPE_NAME: Final = "flext_observability"
    METRIC_OPERATION_DURATION: Final = "flext.operation.duration"
    EVENT_OPERATION_FAILED: Final = "flext.operation.failed"
    EVENT_OPERATION_COMPLETED: Final = "flext.operation.completed"
    ATTR_OPERATION_NAME: Final = "flext.operation.name"
    ATTR_OPERATION_DURATION: Final = "flext.operation.duration_s"
    ATTR_ERROR_CATEGORY: Final = "flext.error.category"
    ATTR_ARGUMENT_PREFIX: Final = "arg."
    ATTR_CORRELATION_ID: Final = "correlation.id"
    # Semantic conventions, stable.
    ATTR_CODE_FUNCTION_NAME: Final = "code.function.name"
    ATTR_CODE_FILE_PATH: Final = "code.file.path"
    ATTR_CODE_LINE_NUMBER: Final = "code.line.number"
    ATTR_ERROR_TYPE: Final = "error.type"
    ATTR_EXCEPTION_TYPE: Final = "exception.type"
    ATTR_EXCEPTION_MESSAGE: Final = "exception.message"
    ATTR_EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

    HEADER_CORRELATION_ID: Final = "X-Correlation-ID"
    CORRELATION_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")

    # Bounds that make any value legal (reliability.md, "never hurt the host").
    VALUE_DEPTH_LIMIT: Final = 8
    VALUE_ITEMS_LIMIT: Final = 128
    VALUE_TEXT_LIMIT: Final = 16 * 1024


def buckets_for(unit: str) -> tuple[float, ...]:
    """Give the histogram bounds that fit a unit.

    Args:
        unit: UCUM code such as ``s`` or ``ms``, or a word such as ``seconds``.
    """
    lowered = unit.lower()
    if lowered in {"s", "sec", "second", "seconds"}:
        return FlextObservabilityConstants.BUCKETS_S
    if lowered in {"ms", "millisecond", "milliseconds"}:
        return FlextObservabilityConstants.BUCKETS_MS
    return FlextObservabilityConstants.BUCKETS_OTHER
