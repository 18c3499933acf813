"""The shapes of the REST API, as its OpenAPI document shows them."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..constants import FlextObservabilityConstants as C

_BEGINS_WITH_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _iso(value: object) -> object:
    """Refuse bare numbers: Pydantic would take them for seconds or milliseconds."""
    if isinstance(value, str) and not _BEGINS_WITH_DATE.match(value):
        message = "must be a time as ISO 8601 has it, such as 2026-05-01T12:00:00Z"
        raise ValueError(message)
    return value


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


Moment = Annotated[datetime, BeforeValidator(_iso), AfterValidator(_aware)]
MetricType = Annotated[
    Literal["gauge", "counter", "histogram"], BeforeValidator(_lower)
]
Severity = Annotated[
    Literal["info", "warning", "error", "critical"], BeforeValidator(_lower)
]
AlertStatus = Annotated[
    Literal["active", "acknowledged", "escalated", "suppressed", "resolved"],
    BeforeValidator(_lower),
]
TraceStatus = Annotated[
    Literal["pending", "running", "completed", "failed"], BeforeValidator(_lower)
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
]


class Problem(BaseModel):
    """Why there is no other answer."""

    detail: str


class MetricView(BaseModel):
    """A recorded metric."""

    id: str
    name: str
    value: float | str = Field(description="A number; text when no number shows it.")
    unit: str
    timestamp: datetime
    tags: dict[str, Any]
    metric_type: str


class TraceView(BaseModel):
    """A trace that was started here."""

    id: str = Field(description="W3C traceparent.")
    trace_id: str
    span_id: str
    operation_name: str
    service_name: str
    operation: str
    context: dict[str, Any]
    parent_trace_id: str | None
    start_time: datetime
    end_time: datetime | None
    duration: float | None = Field(description="Seconds.")
    status: str
    error: str | None


class LogView(BaseModel):
    """A log entry."""

    id: str
    level: str
    message: str
    context: dict[str, Any]
    timestamp: datetime
    correlation_id: str
    trace_id: str | None
    span_id: str | None


class AlertView(BaseModel):
    """An alert."""

    id: str
    name: str
    severity: str
    message: str
    details: dict[str, Any]
    source: str
    tags: dict[str, Any]
    status: str
    created_at: datetime
    correlation_id: str


class _Listing(BaseModel):
    total: int = Field(description="How many there are; this is a part of them.")
    limit: int
    offset: int


class MetricList(_Listing):
    """Metrics, the newest first."""

    metrics: list[MetricView]


class TraceList(_Listing):
    """Traces, the newest first."""

    traces: list[TraceView]


class LogList(_Listing):
    """Log entries, the newest first."""

    logs: list[LogView]


class AlertList(_Listing):
    """Alerts, the newest first."""

    alerts: list[AlertView]


class HealthView(BaseModel):
    """The state of the whole; details for callers who may see them."""

    model_config = ConfigDict(extra="allow")

    status: Literal["healthy", "degraded", "unhealthy"]


class LiveView(BaseModel):
    """The process answers."""

    status: Literal["alive"]


# Rules of the entity, which tells of a broken one; here they are told, not applied.
# What Python calls blank; the patterns of JSON Schema know fewer such characters.
_NOT_BLANK: dict[str, Any] = {"pattern": r"[^\s\x1c-\x1f\x85]"}
_SEVERITIES: dict[str, Any] = {"enum": list(C.ALERT_SEVERITIES)}


class NewAlert(BaseModel):
    """An alert to raise."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(json_schema_extra=_NOT_BLANK)
    severity: str = Field(description="In any case.", json_schema_extra=_SEVERITIES)
    message: str = Field(json_schema_extra=_NOT_BLANK)
    details: dict[str, Any] = Field(default_factory=dict[str, Any])
    source: str = ""
    tags: dict[str, str] = Field(default_factory=dict[str, str])


class Escalation(BaseModel):
    """How an alert is escalated; everything is optional."""

    model_config = ConfigDict(extra="forbid")

    level: int = Field(default=1, json_schema_extra={"minimum": 1})
    severity: str = Field(
        default="critical",
        description="Of the new alert.",
        json_schema_extra=_SEVERITIES,
    )
    duration_minutes: float | None = Field(
        default=None, description="How long the alert has lasted."
    )
    thresholds: dict[str, float] | None = Field(
        default=None, description="Minutes by severity, before which nothing happens."
    )
