"""Types of values and shapes of entities, for annotations."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias, final, runtime_checkable

from .result import FlextResult


@runtime_checkable
class _EntityProtocol(Protocol):
    """What every entity has."""

    @property
    def id(self) -> str:
        """What it is known by."""
        ...

    def validate_business_rules(self) -> FlextResult[None]:
        """Check its rules."""
        ...


@runtime_checkable
class _MetricProtocol(_EntityProtocol, Protocol):
    """The shape of a metric."""

    name: str
    value: float | Decimal
    unit: str
    tags: dict[str, str]
    metric_type: str
    timestamp: datetime


@runtime_checkable
class _TraceProtocol(_EntityProtocol, Protocol):
    """The shape of a trace."""

    operation_name: str
    service_name: str
    context: dict[str, object]
    parent_trace_id: str | None
    trace_id: str
    span_id: str
    status: str


@runtime_checkable
class _AlertProtocol(_EntityProtocol, Protocol):
    """The shape of an alert."""

    name: str
    severity: str
    message: str
    details: dict[str, object]
    source: str
    tags: dict[str, str]
    status: str
    created_at: datetime


@runtime_checkable
class _HealthCheckProtocol(_EntityProtocol, Protocol):
    """The shape of a health check."""

    name: str
    status: str
    message: str
    details: dict[str, object]
    dependencies: list[str]
    timestamp: datetime


@runtime_checkable
class _LogEntryProtocol(_EntityProtocol, Protocol):
    """The shape of a log entry."""

    level: str
    message: str
    context: dict[str, object]
    correlation_id: str
    timestamp: datetime


@final
class FlextObservabilityTypes:
    """Types of values and shapes of entities, under one name."""

    MetricValue: TypeAlias = float | Decimal
    TagsDict: TypeAlias = dict[str, str]
    MetricType: TypeAlias = Literal["gauge", "counter", "histogram"]
    LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
    AlertLevel: TypeAlias = Literal["info", "warning", "error", "critical"]
    AlertStatus: TypeAlias = Literal[
        "active", "acknowledged", "escalated", "suppressed", "resolved"
    ]
    TraceStatus: TypeAlias = Literal["pending", "running", "completed", "failed"]
    HealthStatus: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
    Record: TypeAlias = dict[str, Any]

    EntityProtocol: TypeAlias = _EntityProtocol
    MetricProtocol: TypeAlias = _MetricProtocol
    TraceProtocol: TypeAlias = _TraceProtocol
    AlertProtocol: TypeAlias = _AlertProtocol
    HealthCheckProtocol: TypeAlias = _HealthCheckProtocol
    LogEntryProtocol: TypeAlias = _LogEntryProtocol
