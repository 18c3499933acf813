"""Words, figures and names of the package in one place.

Every attribute, metric, event and header name that we emit stands here, with the
semantic convention it follows where there is one
(https://opentelemetry.io/docs/specs/semconv/).
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, final

VERSION = "0.1.0"
"""Of the package; the build reads it here."""


class Signal(StrEnum):
    """The three kinds of telemetry, by the names that OTLP uses."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class DropReason(StrEnum):
    """Why an accepted record was given up; the list is closed."""

    QUEUE_FULL = "queue_full"
    SPOOL_FULL = "spool_full"
    DISK_FULL = "disk_full"
    TOO_OLD = "too_old"
    UNENCODABLE = "unencodable"
    DAMAGED = "damaged"
    EXIT = "exit"
    CRASH = "crash"


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
    TRACE_STATUSES: Final = ("pending", "running", "completed", "failed")
    ALERT_SEVERITIES: Final = ("info", "warning", "error", "critical")
    ALERT_STATUSES: Final = (
        *("active", "acknowledged", "escalated", "suppressed", "resolved"),
    )
    HEALTH_STATUSES: Final = ("healthy", "degraded", "unhealthy")
    SIGNALS: Final = tuple(signal.value for signal in Signal)
    EXPORTERS: Final = ("otlp", "console", "prometheus", "memory", "none")
    PROTOCOLS: Final = ("grpc", "http/protobuf")
    COMPRESSIONS: Final = ("none", "gzip", "deflate")
    SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")

    # Ports: IANA registers 4317 and 4318 for OTLP; the others are the usual ones.
    PORT_OTLP_GRPC: Final = 4317
    PORT_OTLP_HTTP: Final = 4318
    PORT_PROMETHEUS_EXPORTER: Final = 9464
    PORT_PROMETHEUS: Final = 9090
    PORT_PUSH_GATEWAY: Final = 9091
    PORT_ALERTMANAGER: Final = 9093
    PORT_GRAFANA: Final = 3000
    PORT_JAEGER: Final = 16686
    PORT_SERVER: Final = 9090

    DEFAULT_SERVICE_NAME: Final = "flext-service"
    DEFAULT_ENVIRONMENT: Final = "development"
    DEFAULT_ENDPOINT: Final = "http://localhost:4317"
    DEFAULT_TIMEOUT_S: Final = 10.0
    DEFAULT_EXIT_BUDGET_S: Final = 2.0
    DEFAULT_METRICS_EXPORT_INTERVAL_S: Final = 60.0
    SPOOL_LIMIT_BYTES: Final = 512 * 1024 * 1024
    DEFAULT_HEALTH_CHECK_INTERVAL_S: Final = 30.0
    DEFAULT_ALERT_RESEND_S: Final = 60.0
    DEFAULT_SCRAPE_INTERVAL_S: Final = 15.0

    # The bounded stores: entities of a kind, and those that survive a cleanup; series
    # of totals; reports of one component's health.
    STORE_LIMIT: Final = 1000
    STORE_KEPT: Final = 500
    SERIES_LIMIT: Final = 2000
    # What spans of one name share is kept ready, for names that are no texts.
    SPAN_NAMES_KEPT: Final = 1000
    SPAN_NAME_KEPT: Final = 256
    HEALTH_HISTORY_LIMIT: Final = 100
    # Where the system check turns degraded and unhealthy.
    SYSTEM_PERCENT_LIMITS: Final = (80.0, 95.0)
    SYSTEM_THREAD_LIMITS: Final = (50, 100)

    # How far above its threshold a value is (ratio), and the severity of that.
    BREACH_RATIOS: Final = ((2.0, "critical"), (1.5, "error"))
    # How many minutes an alert lasts before it may be escalated.
    ESCALATION_MINUTES: Final[Mapping[str, float]] = MappingProxyType(
        {"critical": 15, "error": 30, "warning": 60, "info": 60}
    )

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
    METRIC_RECORDS: Final = "flext.telemetry.records"
    METRIC_PENDING: Final = "flext.telemetry.pending"
    METRIC_SPOOL_USAGE: Final = "flext.telemetry.spool.usage"
    METRIC_SPOOL_LIMIT: Final = "flext.telemetry.spool.limit"
    EVENT_OPERATION_FAILED: Final = "flext.operation.failed"
    EVENT_OPERATION_COMPLETED: Final = "flext.operation.completed"
    METRIC_ALERTS: Final = "flext.alerts"
    METRIC_HEALTH_STATUS: Final = "flext.health.status"
    EVENT_ALERT: Final = "flext.alert"
    EVENT_HEALTH_CHANGED: Final = "flext.health.changed"
    ATTR_SIGNAL: Final = "flext.signal"
    ATTR_OUTCOME: Final = "flext.outcome"
    ATTR_REASON: Final = "flext.reason"
    OUTCOME_ACCEPTED: Final = "accepted"
    OUTCOME_DELIVERED: Final = "delivered"
    OUTCOME_REJECTED: Final = "rejected"
    OUTCOME_DROPPED: Final = "dropped"
    ATTR_SERVICE_NAME: Final = "flext.service.name"
    ATTR_OPERATION: Final = "flext.operation"
    ATTR_PARENT_TRACE_ID: Final = "flext.parent_trace_id"
    ATTR_TRACE_END: Final = "flext.trace.end"
    ATTR_ALERT_ID: Final = "flext.alert.id"
    ATTR_ALERT_NAME: Final = "flext.alert.name"
    ATTR_ALERT_SOURCE: Final = "flext.alert.source"
    ATTR_ALERT_DETAILS: Final = "flext.alert.details"
    ATTR_ALERT_TAGS: Final = "flext.alert.tags"
    ATTR_HEALTH_COMPONENT: Final = "flext.health.component"
    ATTR_HEALTH_STATUS: Final = "flext.health.status"
    ATTR_HEALTH_FORMER_STATUS: Final = "flext.health.former_status"
    ATTR_HEALTH_DETAILS: Final = "flext.health.details"
    ATTR_OPERATION_NAME: Final = "flext.operation.name"
    ATTR_OPERATION_DURATION: Final = "flext.operation.duration_s"
    ATTR_ERROR_CATEGORY: Final = "flext.error.category"
    ATTR_ARGUMENT_PREFIX: Final = "arg."
    ATTR_CORRELATION_ID: Final = "correlation.id"
    ATTR_MONITOR_SERVICE: Final = "service"
    # Semantic conventions, stable.
    ATTR_CODE_FUNCTION_NAME: Final = "code.function.name"
    ATTR_CODE_FILE_PATH: Final = "code.file.path"
    ATTR_CODE_LINE_NUMBER: Final = "code.line.number"
    ATTR_CODE_STACKTRACE: Final = "code.stacktrace"
    ATTR_ERROR_TYPE: Final = "error.type"
    ATTR_EXCEPTION_TYPE: Final = "exception.type"
    ATTR_EXCEPTION_ESCAPED: Final = "exception.escaped"
    ATTR_EXCEPTION_MESSAGE: Final = "exception.message"
    ATTR_EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
    # Those of served HTTP requests.
    METRIC_SERVER_DURATION: Final = "http.server.request.duration"
    ATTR_HTTP_METHOD: Final = "http.request.method"
    ATTR_HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
    ATTR_HTTP_ROUTE: Final = "http.route"
    ATTR_HTTP_STATUS_CODE: Final = "http.response.status_code"
    ATTR_URL_SCHEME: Final = "url.scheme"
    ATTR_URL_PATH: Final = "url.path"
    ATTR_URL_QUERY: Final = "url.query"
    ATTR_SERVER_ADDRESS: Final = "server.address"
    ATTR_SERVER_PORT: Final = "server.port"
    ATTR_CLIENT_ADDRESS: Final = "client.address"
    ATTR_PROTOCOL_VERSION: Final = "network.protocol.version"
    ATTR_USER_AGENT: Final = "user_agent.original"
    # Every other method is `_OTHER` there: a label must not have any number of values.
    HTTP_METHODS: Final = frozenset(
        {
            *("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
            *("QUERY", "TRACE"),
        }
    )
    # Paths that the middleware leaves out of traces and durations, unless told others.
    PROBE_PATHS: Final = (
        *("/health", "/health/live", "/health/ready", "/healthz", "/livez", "/readyz"),
        "/metrics",
    )

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
