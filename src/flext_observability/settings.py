"""The settings that a pipeline runs by, read without loading Pydantic."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .connection import check_pair
from .constants import Signal
from .environment import (
    LOOSE_FIELDS,
    from_list,
    otel_values,
    own_values,
    telemetry_is_disabled,
)
from .errors import FlextObservabilityConfigurationError
from .locks import ForkSafeLock
from .result import FlextResult
from .secret_text import usual_text
from .setting_rules import SETTINGS, UnsureError

if TYPE_CHECKING:
    from pathlib import Path


class Settings:
    """Every setting with its value, all checked; secrets as plain text.

    The fields are those of ``FlextObservabilityConfig``, which says what they mean.
    Nothing here shows a value by itself.
    """

    service_name: str
    service_version: str | None
    service_namespace: str | None
    environment: str
    resource_attributes: dict[str, str | bool | int | float]
    endpoint: str | None
    protocol: str | None
    headers: dict[str, str]
    compression: str | None
    timeout_s: float
    certificate: "Path | None"
    client_certificate: "Path | None"
    client_key: "Path | None"
    exporters: list[str]
    tracing_enabled: bool
    metrics_enabled: bool
    logs_enabled: bool
    sample_ratio: float
    propagators: list[str]
    correlation_id_header: str
    log_level: str
    structured_logging: bool
    metrics_export_interval_s: float
    histogram_buckets_s: list[float]
    max_span_attributes: int
    max_span_events: int
    max_span_links: int
    max_event_attributes: int
    max_link_attributes: int
    max_log_attributes: int
    max_attribute_length: int | None
    exit_budget_s: float
    durability: str | None
    spool_dir: "Path | None"
    spool_limit_bytes: int
    fsync: str
    handle_signals: bool
    redaction: bool
    redact_keys: list[str]
    redact_patterns: list[str]
    alertmanager_url: str | None
    alert_resend_s: float
    push_gateway_url: str | None
    service_discovery_dir: "Path | None"
    metrics_store_limit: int
    metrics_store_cleanup: int
    health_check_interval_s: float
    health_failure_threshold: int
    health_alert_on_failure: bool
    server_host: str
    server_port: int | None
    server_token: str | None
    server_allowed_hosts: list[str]
    server_metrics_dir: "Path | None"

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        stated: frozenset[str],
        from_otel: frozenset[str],
    ) -> None:
        """Take values that were read and checked.

        Args:
            values: By field; the others have their defaults.
            stated: Fields that an argument or one of our variables named.
            from_otel: Fields whose value came from ``OTEL_*``.
        """
        self._values = {name: rule.fresh() for name, rule in SETTINGS.items()}
        self._values.update(values)
        self._stated = stated
        self._from_otel = from_otel
        self.__dict__.update(self._values)

    def values(self) -> dict[str, Any]:
        """Give all by name, secrets included."""
        return dict(self._values)

    def fields_set(self) -> frozenset[str]:
        """Name the fields that have another source than the default."""
        return self._stated | self._from_otel

    def is_stated(self, field: str) -> bool:
        """Whether an argument or one of our variables named the field, not OTEL_*."""
        return field in self._stated

    def is_from_otel(self, field: str) -> bool:
        """Whether the field's value was read from an OTEL_* variable."""
        return field in self._from_otel

    def exporters_for(self, signal: Signal) -> list[str]:
        """Give the exporter names of a signal, without repeats."""
        own = os.environ.get(f"OTEL_{signal.name}_EXPORTER")
        names = self.exporters
        if own and own.strip() and not self.is_stated("exporters"):
            names = cast("list[str]", from_list(own))
        return list(dict.fromkeys(name.lower() for name in names))

    def is_enabled(self, signal: Signal) -> bool:
        """Whether a signal is produced at all."""
        if telemetry_is_disabled():
            return False
        return {
            Signal.TRACES: self.tracing_enabled,
            Signal.METRICS: self.metrics_enabled,
            Signal.LOGS: self.logs_enabled,
        }[signal]

    def store_bounds(self) -> tuple[int, int]:
        """Give how many entities of a kind are held, and how many survive a cleanup."""
        limit, kept = self.metrics_store_limit, self.metrics_store_cleanup
        if kept < limit:
            return limit, kept
        # Only one of the two was stated; the other one's default does not fit it.
        if "metrics_store_limit" in self.fields_set():
            return limit, limit // 2
        return 2 * max(kept, 1), kept


# -- reading


def plain_settings(stated: Mapping[str, object]) -> Settings:
    """Read settings whose values are all plain.

    Raises:
        Exception: One is not; it may still be legal.
    """
    given = {**own_values(SETTINGS), **stated}
    otel = {name: value for name, value in otel_values().items() if name not in given}
    # The bounds do not hold for these: the variables keep the SDK's meaning.
    loose = {k: otel[k] for k in LOOSE_FIELDS if isinstance(otel.get(k), float)}
    values = {
        name: SETTINGS[name].read(value)
        for name, value in {**otel, **given}.items()
        if name not in loose
    }
    settings = Settings(
        values | loose, stated=frozenset(given), from_otel=frozenset(otel)
    )
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    certificate, key = settings.client_certificate, settings.client_key
    if certificate and key:
        check_pair(certificate, key)
    elif certificate or key:
        raise UnsureError
    if not has_fitting_bounds(settings.values(), settings.fields_set()):
        raise UnsureError


def has_fitting_bounds(values: Mapping[str, Any], fields_set: frozenset[str]) -> bool:
    """Whether the bounds of the store fit each other, where both were stated."""
    return (
        not {"metrics_store_limit", "metrics_store_cleanup"} <= fields_set
        or values["metrics_store_cleanup"] < values["metrics_store_limit"]
    )


def invalid_configuration(what: str) -> FlextResult[Any]:
    """Make the failure of a bad setting.

    Args:
        what: ``<field>: <reason>``, with the value and the fix.
    """
    message = f"Invalid configuration: {what}"
    return FlextResult[Any].fail(
        message, exception=FlextObservabilityConfigurationError(message)
    )


def short_repr(value: object) -> str:
    """Show a value in a message: one line, whatever it is, without its secrets."""
    try:
        text = usual_text().redacted(repr(value))
    except Exception:  # noqa: BLE001 - the message must come out whatever was passed
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004 - one line


# -- the ones in force


class InForce:
    """The settings that hold in this process."""

    settings: Settings | None = None
    """Those of ``setup()``, or of the environment once somebody asked."""


_choice = ForkSafeLock()


def settings_or(read: Callable[[], Settings]) -> Settings:
    """Give the settings in force; before ``setup()``, those that are read now.

    Args:
        read: Reads the environment; what it raises passes through.
    """
    known = InForce.settings
    if known is not None:
        return known
    found = read()  # outside the lock: it may load Pydantic
    with _choice:
        known = InForce.settings
        if known is None:
            known = InForce.settings = found
    return known
