"""What the environment says: the variables that settings are read from."""

import os
from collections.abc import Collection, Sequence
from typing import Any, cast
from urllib.parse import unquote


def from_pairs(value: object) -> object:
    """Read ``key=value,key=value`` (values percent-decoded, as in OTEL_*)."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for item in filter(str.strip, value.split(",")):
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            message = "must be written key=value,key=value"
            raise ValueError(message)
        pairs[unquote(key.strip())] = unquote(text.strip())
    return pairs


def from_list(value: object) -> object:
    """Read ``a,b`` and a lone word as a list."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


# Variables without our prefix: those of all Flext packages, and of deployments.
_SHARED = {
    "FLEXT_LOG_LEVEL": "log_level",
    "FLEXT_ENVIRONMENT": "environment",
    "HEALTH_CHECK_INTERVAL": "health_check_interval_s",
    "ALERT_MANAGER_URL": "alertmanager_url",
    "ALERTMANAGER_URL": "alertmanager_url",  # later: wins over the one above
    "PROMETHEUS_PUSH_GATEWAY": "push_gateway_url",
}
_PREFIXES = ("observability_", "flext_observability_")  # the strongest last


def own_values(fields: Collection[str]) -> dict[str, str]:
    """Settings that our variables name, in any case; an empty one counts as unset.

    Args:
        fields: Names of all settings.
    """
    env = os.environ
    values = {field: env[name] for name, field in _SHARED.items() if env.get(name)}
    lowered = {name.lower(): value for name, value in env.items() if value}
    for prefix in _PREFIXES:
        for field in fields:
            value = lowered.get(prefix + field)
            if value is not None:
                values[field] = value
    return values


def telemetry_is_disabled() -> bool:
    """Whether ``OTEL_SDK_DISABLED=true`` or ``OTEL_ENABLED=false`` is set."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return disabled or os.environ.get("OTEL_ENABLED", "").strip().lower() == "false"


def otel_values() -> dict[str, Any]:
    """Settings named by OTEL_* variables; an empty variable counts as unset."""
    env = os.environ
    values: dict[str, Any] = {
        field: env[f"OTEL_{variable}"]
        for field, variable in (
            ("endpoint", "EXPORTER_OTLP_ENDPOINT"),
            ("protocol", "EXPORTER_OTLP_PROTOCOL"),
            ("headers", "EXPORTER_OTLP_HEADERS"),
            ("compression", "EXPORTER_OTLP_COMPRESSION"),
            ("certificate", "EXPORTER_OTLP_CERTIFICATE"),
            ("client_certificate", "EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            ("client_key", "EXPORTER_OTLP_CLIENT_KEY"),
            ("propagators", "PROPAGATORS"),
        )
        if env.get(f"OTEL_{variable}", "").strip()
    }
    values |= _otel_resource_values()
    if "headers" in values:  # the SDK skips what it cannot read, item by item
        items = str(values["headers"]).split(",")
        values["headers"] = ",".join(item for item in items if "=" in item)
    for field, variable, divisor in (
        ("timeout_s", "OTEL_EXPORTER_OTLP_TIMEOUT", 1),
        ("metrics_export_interval_s", "OTEL_METRIC_EXPORT_INTERVAL", 1000),
    ):
        text = env.get(variable, "").strip()
        number = _positive_number(text)
        if number is not None:
            values[field] = number / divisor
        elif text and field == "timeout_s":
            values[field] = text  # refused with its name; the SDK's exporters differ
    return values


LOOSE_FIELDS = ("timeout_s", "metrics_export_interval_s")


def _positive_number(text: str) -> float | None:
    """Read a number above 0; ``None`` for anything else, as the SDK does."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 else None


def _otel_resource_values() -> dict[str, str]:
    """Settings that OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME name."""
    try:
        pairs = from_pairs(os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    except ValueError:
        pairs = {}  # the SDK skips what it cannot read, item by item
    attributes = cast("dict[str, str]", pairs)
    found = {
        "service_name": os.environ.get("OTEL_SERVICE_NAME")
        or attributes.get("service.name"),
        "service_version": attributes.get("service.version"),
        "service_namespace": attributes.get("service.namespace"),
        "environment": attributes.get("deployment.environment.name")
        or attributes.get("deployment.environment"),
    }
    return {field: value for field, value in found.items() if value}


def variables_of(field: str) -> Sequence[str]:
    """Name the variables a field is read from, the strongest first."""
    otel = {
        "endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "protocol": "OTEL_EXPORTER_OTLP_PROTOCOL",
        "headers": "OTEL_EXPORTER_OTLP_HEADERS",
        "compression": "OTEL_EXPORTER_OTLP_COMPRESSION",
        "timeout_s": "OTEL_EXPORTER_OTLP_TIMEOUT",
        "certificate": "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "client_certificate": "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "client_key": "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "propagators": "OTEL_PROPAGATORS",
        "log_level": "FLEXT_LOG_LEVEL",
        "environment": "FLEXT_ENVIRONMENT",
        "health_check_interval_s": "HEALTH_CHECK_INTERVAL",
        "push_gateway_url": "PROMETHEUS_PUSH_GATEWAY",
    }
    if field == "alertmanager_url":
        otel[field] = next(
            filter(os.environ.get, ("ALERTMANAGER_URL", "ALERT_MANAGER_URL")),
            "ALERTMANAGER_URL",
        )
    upper = field.upper()
    names = [f"FLEXT_OBSERVABILITY_{upper}", f"OBSERVABILITY_{upper}"]
    return [*names, otel[field]] if field in otel else names


def variable_value(field: str) -> str | None:
    """Give what the strongest variable of a field says, ``None`` when none is set."""
    return next(
        (os.environ[name] for name in variables_of(field) if os.environ.get(name)),
        None,
    )


def origin_of(field: str) -> str:
    """Say which variable a field's value came from, ``""`` when none is set."""
    name = next((n for n in variables_of(field) if os.environ.get(n)), None)
    return f" (from {name})" if name else ""
