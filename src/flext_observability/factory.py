"""Creation functions: validate, emit, give the entity."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError

from .entities import FlextEntity, FlextLogEntry, FlextMetric
from .recording import emit_log_entry, emit_metric
from .result import FlextResult

E = TypeVar("E", bound=FlextEntity)

# A wrong type in these fields is told in the words of the entity's own rule.
_RULE_OF_FIELD = {
    ("Metric", "name"): "Invalid metric name",
    ("Metric", "value"): "Invalid metric value",
    ("Metric", "metric_type"): "Invalid metric type",
    ("Log entry", "level"): "Invalid log level",
    ("Log entry", "message"): "Invalid log message",
}


def _create(
    what: str, kind: type[E], emit: Callable[[E], None], fields: dict[str, Any]
) -> FlextResult[E]:
    """Make an entity of arguments, check its rules, emit it."""
    try:
        entity = kind(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "value"
        rule = _RULE_OF_FIELD.get((what, field))
        message = rule or f"{what} creation failed: {field}: {first['msg']}"
        return FlextResult[E].fail(message, exception=error)
    except Exception as error:  # noqa: BLE001 - e.g. a tag whose __str__ raises
        message = f"{what} creation failed: {type(error).__name__}"
        return FlextResult[E].fail(message, exception=error)
    checked = entity.validate_business_rules()
    if checked.is_failure:
        return FlextResult[E].fail(checked.error)
    try:
        emit(entity)
    except Exception as error:  # noqa: BLE001 - emission is separate from success
        return FlextResult[E].fail(
            f"{what} creation failed: emission: {type(error).__name__}", exception=error
        )
    return FlextResult[E].ok(entity)


def flext_create_metric(
    name: str,
    value: float | Decimal,
    unit: str = "",
    tags: Mapping[str, object] | None = None,
    metric_type: str = "gauge",
    *,
    timestamp: datetime | None = None,
) -> FlextResult[FlextMetric]:
    """Measure once: make a metric, check it, put it on its instrument.

    Args:
        name: Not blank, at most 255 characters; what OTel refuses becomes ``_`` there.
        value: Finite; not negative for counter and histogram.
        unit: UCUM code such as ``s``, or a word.
        tags: Labels; turned into text.
        metric_type: ``gauge`` sets, ``counter`` adds, ``histogram`` records.
        timestamp: When it was measured; now when not given.
    """
    fields: dict[str, Any] = {
        "name": name,
        "value": value,
        "unit": unit,
        "tags": tags or {},
        "metric_type": metric_type,
    }
    if timestamp is not None:
        fields["timestamp"] = timestamp
    return _create("Metric", FlextMetric, emit_metric, fields)


def flext_create_log_entry(
    level: str,
    message: str,
    context: Mapping[str, object] | None = None,
    correlation_id: str | None = None,
) -> FlextResult[FlextLogEntry]:
    """Log once: make an entry, check it, emit it joined to the current span.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``, in any case;
            below the configured ``log_level`` the entry is made but not emitted.
        message: Not blank.
        context: Any values; they become attributes.
        correlation_id: The current one when not given.
    """
    fields: dict[str, Any] = {
        "level": level,
        "message": message,
        "context": context or {},
    }
    if correlation_id is not None:
        fields["correlation_id"] = correlation_id
    return _create("Log entry", FlextLogEntry, emit_log_entry, fields)
