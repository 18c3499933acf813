"""The metrics we emit: names, kinds, units, labels; what dashboards are made from."""

from dataclasses import dataclass
from typing import Final, Literal

from .constants import FlextObservabilityConstants as C


@dataclass(frozen=True, slots=True)
class EmittedMetric:
    """One metric, as OpenTelemetry knows it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """UCUM code, as the instrument states it."""
    attributes: tuple[str, ...]
    """Keys that its points may carry."""
    meaning: str
    """One line for people."""


OPERATION_DURATION: Final = EmittedMetric(
    C.METRIC_OPERATION_DURATION,
    "histogram",
    "s",
    (C.ATTR_OPERATION_NAME, C.ATTR_ERROR_TYPE),
    "How long monitored calls took; their counts are successes and failures.",
)
# Recorded by the middleware and by instrumentations of others, by one convention:
# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
SERVED_REQUESTS: Final = EmittedMetric(
    "http.server.request.duration",
    "histogram",
    "s",
    ("http.request.method", "http.route", "http.response.status_code"),
    "How long served HTTP requests took.",
)
ALERTS: Final = EmittedMetric(
    C.METRIC_ALERTS,
    "counter",
    "{alert}",
    ("severity", "name"),
    "Alerts that were raised.",
)
HEALTH_STATUS: Final = EmittedMetric(
    C.METRIC_HEALTH_STATUS,
    "gauge",
    "1",
    ("component",),
    "Health of a component: 1 healthy, 0.5 degraded, 0 unhealthy.",
)
RECORDS: Final = EmittedMetric(
    C.METRIC_RECORDS,
    "counter",
    "{record}",
    (C.ATTR_SIGNAL, C.ATTR_OUTCOME, C.ATTR_REASON),
    "What became of telemetry records: accepted = delivered + rejected + dropped + "
    "pending.",
)
PENDING: Final = EmittedMetric(
    "flext.telemetry.pending",
    "gauge",
    "{record}",
    (C.ATTR_SIGNAL,),
    "Records that wait; on the page of the operations server only.",
)
SPOOL_USAGE: Final = EmittedMetric(
    C.METRIC_SPOOL_USAGE,
    "gauge",
    "By",
    (),
    "Bytes that undelivered records of the service take.",
)
SPOOL_LIMIT: Final = EmittedMetric(
    C.METRIC_SPOOL_LIMIT,
    "gauge",
    "By",
    (),
    "Bytes that undelivered records of the service may take.",
)

CATALOGUE: Final = (
    *(OPERATION_DURATION, SERVED_REQUESTS, ALERTS, HEALTH_STATUS),
    *(RECORDS, PENDING, SPOOL_USAGE, SPOOL_LIMIT),
)
