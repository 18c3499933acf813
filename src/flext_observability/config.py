"""Settings: arguments, environment variables, their precedence and their checks."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .connection import (
    check_pair,
    checked_endpoint,
    checked_header,
    checked_pem,
    checked_web_address,
)
from .constants import FlextObservabilityConstants as C
from .constants import Signal
from .environment import (
    LOOSE_FIELDS,
    SharedVariables,
    from_list,
    from_pairs,
    origin_of,
    otel_values,
    telemetry_is_disabled,
    variable_value,
)
from .errors import FlextObservabilityConfigurationError
from .result import FlextResult

Attributes = dict[str, str | bool | int | float]

# Settings that may hold a password.
_ADDRESSES = ("endpoint", "alertmanager_url", "push_gateway_url")


# -- reading values as people and environments write them


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _protocol(value: object) -> object:
    """Take ``http`` for ``http/protobuf``, as people write it."""
    lowered = _lower(value)
    return "http/protobuf" if lowered == "http" else lowered


LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]
TextList = Annotated[list[str], NoDecode, BeforeValidator(from_list)]
TextPairs = Annotated[Attributes, NoDecode, BeforeValidator(from_pairs)]
SecretPairs = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(from_pairs)]
NumberList = Annotated[list[float], NoDecode, BeforeValidator(from_list)]


def _is_one_word(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


def _fix(text: str) -> dict[str, Any]:
    """What the failure message tells the user to do."""
    return {"fix": text}


def _replace(cls: type, name: str, default: Any) -> None:
    """Put what a ``dataclasses.field`` says where Pydantic reads it."""
    if default.default_factory is not dataclasses.MISSING:
        setattr(cls, name, Field(default_factory=default.default_factory))
    elif default.default is not dataclasses.MISSING:
        setattr(cls, name, default.default)
    else:
        delattr(cls, name)


class FlextBaseSettings(BaseSettings):
    """Base for an application's own settings.

    ``model_config`` works as in pydantic-settings; a default written with
    ``dataclasses.field(default_factory=…)`` works too.
    """

    model_config = SettingsConfigDict(extra="ignore")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Turn ``dataclasses.field`` defaults into Pydantic ones."""
        for name, default in cast("list[tuple[str, Any]]", list(vars(cls).items())):
            if isinstance(default, dataclasses.Field):
                _replace(cls, name, default)
        super().__init_subclass__(**kwargs)


class ObservabilitySettings(FlextBaseSettings):
    """The short form, for nesting in a user's own settings (``OBSERVABILITY_*``)."""

    model_config = SettingsConfigDict(env_prefix="OBSERVABILITY_", extra="ignore")

    metrics_enabled: bool = True
    tracing_enabled: bool = True
    log_level: LogLevel = "INFO"
    correlation_id_header: str = C.HEADER_CORRELATION_ID


class FlextObservabilityConfig(BaseSettings):
    """Every setting of the library.

    A value comes from the strongest source that names it: argument, then
    ``FLEXT_OBSERVABILITY_<FIELD>``, ``OBSERVABILITY_<FIELD>``, ``FLEXT_LOG_LEVEL`` and
    ``FLEXT_ENVIRONMENT``, the ``OTEL_*`` variables of the OpenTelemetry specification,
    the default.
    """

    model_config = SettingsConfigDict(
        extra="forbid", validate_default=False, hide_input_in_errors=True
    )

    service_name: str = Field(
        default=C.DEFAULT_SERVICE_NAME,
        min_length=1,
        max_length=255,
        description="What the service is called everywhere.",
        json_schema_extra=_fix("Give a short name such as 'orders'."),
    )
    service_version: str | None = Field(
        default=None, description="Version of the service."
    )
    service_namespace: str | None = Field(
        default=None, description="Group of the service."
    )
    environment: str = Field(
        default=C.DEFAULT_ENVIRONMENT, description="deployment.environment.name."
    )
    resource_attributes: TextPairs = Field(
        default_factory=dict,
        description="Further resource attributes.",
        json_schema_extra=_fix("Give a dict, or key=value,key=value in a variable."),
    )

    endpoint: str | None = Field(
        default=None,
        repr=False,  # it may hold credentials
        description="Collector for all signals; gRPC to localhost:4317 when unset.",
        json_schema_extra=_fix(
            "Give a URL such as http://localhost:4317 (gRPC) "
            "or http://localhost:4318 (HTTP)."
        ),
    )
    protocol: Annotated[
        Literal["grpc", "http/protobuf"] | None, BeforeValidator(_protocol)
    ] = Field(
        default=None,
        description="Inferred from the endpoint when unset.",
        json_schema_extra=_fix("Use 'grpc' or 'http/protobuf'."),
    )
    headers: SecretPairs = Field(
        default_factory=dict[str, SecretStr],
        description="Headers of every export request; secret.",
        json_schema_extra=_fix("Give a dict of text, or key=value,key=value."),
    )
    compression: Annotated[
        Literal["none", "gzip", "deflate"] | None, BeforeValidator(_lower)
    ] = Field(
        default=None,
        description="Of export requests.",
        json_schema_extra=_fix("Use 'gzip', 'deflate' or 'none'."),
    )
    timeout_s: float = Field(
        default=C.DEFAULT_TIMEOUT_S,
        gt=0,
        le=600,
        description="Deadline of one export request, seconds.",
        json_schema_extra=_fix("Give seconds, above 0 and at most 600."),
    )
    certificate: Path | None = Field(
        default=None,
        description="CA file (PEM) the collector's certificate is checked with.",
        json_schema_extra=_fix("Give the path of a readable PEM file."),
    )
    client_certificate: Path | None = Field(
        default=None,
        description="Client certificate (PEM) for mutual TLS.",
        json_schema_extra=_fix("Give the path of a readable PEM file."),
    )
    client_key: Path | None = Field(
        default=None,
        description="Key (PEM) of the client certificate.",
        json_schema_extra=_fix("Give the path of a readable PEM file."),
    )

    exporters: TextList = Field(
        default_factory=lambda: ["otlp"],
        description="Where telemetry goes: otlp, console, prometheus, memory, none.",
        json_schema_extra=_fix(f"Use any of {', '.join(C.EXPORTERS)}."),
    )
    tracing_enabled: bool = Field(default=True, description="Whether spans are made.")
    metrics_enabled: bool = Field(default=True, description="Whether metrics are made.")
    logs_enabled: bool = Field(
        default=True, description="Whether log records are made."
    )
    sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of new traces that is recorded.",
        json_schema_extra=_fix("Give a number from 0 (none) to 1 (all)."),
    )
    propagators: TextList = Field(
        default_factory=lambda: ["tracecontext", "baggage"],
        description="How trace context travels in headers.",
        json_schema_extra=_fix("Use names such as tracecontext, baggage, b3, none."),
    )
    correlation_id_header: str = Field(
        default=C.HEADER_CORRELATION_ID,
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$",
        description="Header that carries the correlation id.",
        json_schema_extra=_fix("Use a legal header name such as X-Correlation-ID."),
    )

    log_level: LogLevel = Field(
        default="INFO",
        description="Lowest level of log records that are exported.",
        json_schema_extra=_fix("Use DEBUG, INFO, WARNING, ERROR or CRITICAL."),
    )
    structured_logging: bool = Field(
        default=True,
        description="Whether our loggers write JSON lines, else plain ones.",
    )
    metrics_export_interval_s: float = Field(
        default=C.DEFAULT_METRICS_EXPORT_INTERVAL_S,
        ge=1,
        le=3600,
        description="Seconds between metric exports.",
        json_schema_extra=_fix("Give seconds from 1 to 3600."),
    )
    histogram_buckets_s: NumberList = Field(
        default_factory=lambda: list(C.BUCKETS_S),
        description="Bounds of flext.operation.duration, seconds.",
        json_schema_extra=_fix("Give rising numbers such as [0.1, 0.5, 1]."),
    )

    max_span_attributes: int = Field(
        default=128,
        ge=1,
        le=1000,
        description="Attributes kept per span.",
        json_schema_extra=_fix("Give a whole number from 1 to 1000."),
    )
    max_span_events: int = Field(
        default=128, ge=1, le=1000, description="Events per span."
    )
    max_span_links: int = Field(
        default=128, ge=1, le=1000, description="Links per span."
    )
    max_event_attributes: int = Field(
        default=128, ge=1, le=1000, description="Attributes per span event."
    )
    max_link_attributes: int = Field(
        default=128, ge=1, le=1000, description="Attributes per span link."
    )
    max_log_attributes: int = Field(
        default=128, ge=1, le=1000, description="Attributes per log record."
    )
    max_attribute_length: int | None = Field(
        default=None,
        ge=1,
        description="Longest attribute text, characters; no limit if unset.",
    )

    exit_budget_s: float = Field(
        default=C.DEFAULT_EXIT_BUDGET_S,
        ge=0,
        le=600,
        description="Longest delay of the program's exit, seconds, all signals.",
        json_schema_extra=_fix("Give seconds from 0 to 600."),
    )

    durability: Annotated[
        Literal["memory", "batch", "record"] | None, BeforeValidator(_lower)
    ] = Field(
        default=None,
        description="What survives a crash; batch where the disk allows it if unset.",
        json_schema_extra=_fix("Use 'memory', 'batch' or 'record'."),
    )
    spool_dir: Path | None = Field(
        default=None,
        description="Where records wait on disk; the user's state directory if unset.",
        json_schema_extra=_fix("Give the path of a directory of your own."),
    )
    spool_limit_bytes: int = Field(
        default=C.SPOOL_LIMIT_BYTES,
        ge=1 << 20,
        le=1 << 40,
        description="Bytes on disk per service; the oldest go first.",
        json_schema_extra=_fix("Give bytes, at least 1048576."),
    )
    fsync: Annotated[Literal["never", "segment", "batch"], BeforeValidator(_lower)] = (
        Field(
            default="never",
            description="When the disk is synced, against power loss only.",
            json_schema_extra=_fix("Use 'never', 'segment' or 'batch'."),
        )
    )
    handle_signals: bool = Field(
        default=False,
        description="Whether SIGTERM and SIGINT first secure the records.",
    )
    redaction: bool = Field(
        default=True, description="Whether secrets are replaced before records leave."
    )
    redact_keys: TextList = Field(
        default_factory=list[str],
        description="Further attribute names whose values are secret, parts of names.",
        json_schema_extra=_fix("Give a list of words such as ['iban']."),
    )
    redact_patterns: TextList = Field(
        default_factory=list[str],
        description="Further regular expressions of secret text.",
        json_schema_extra=_fix("Give a list of legal regular expressions."),
    )

    alertmanager_url: str | None = Field(
        default=None,
        repr=False,  # it may hold credentials
        description="Alertmanager that processed alerts are posted to.",
        json_schema_extra=_fix("Give a URL such as http://localhost:9093."),
    )
    alert_resend_s: float = Field(
        default=C.DEFAULT_ALERT_RESEND_S,
        ge=1,
        le=3600,
        description="Seconds between two posts of an alert that lasts.",
        json_schema_extra=_fix("Give seconds from 1 to 3600."),
    )
    push_gateway_url: str | None = Field(
        default=None,
        repr=False,  # it may hold credentials
        description="Prometheus Pushgateway that metrics are pushed to.",
        json_schema_extra=_fix("Give a URL such as http://localhost:9091."),
    )
    service_discovery_dir: Path | None = Field(
        default=None,
        description="Where Prometheus (file_sd) finds processes that serve metrics.",
        json_schema_extra=_fix("Give the path of a directory."),
    )

    metrics_store_limit: int = Field(
        default=C.STORE_LIMIT,
        ge=1,
        le=1_000_000,
        description="Entities of each kind held in memory.",
        json_schema_extra=_fix("Give a whole number from 1 to 1000000."),
    )
    metrics_store_cleanup: int = Field(
        default=C.STORE_KEPT,
        ge=0,
        le=1_000_000,
        description="Newest entities kept when one too many arrives.",
        json_schema_extra=_fix("Give a whole number below metrics_store_limit."),
    )
    health_check_interval_s: float = Field(
        default=C.DEFAULT_HEALTH_CHECK_INTERVAL_S,
        ge=1,
        le=3600,
        description="Seconds between the checks of a started monitor.",
        json_schema_extra=_fix("Give seconds from 1 to 3600."),
    )
    health_failure_threshold: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Not-healthy reports in a row that raise an alert.",
        json_schema_extra=_fix("Give a whole number from 1 to 10."),
    )
    health_alert_on_failure: bool = Field(
        default=True, description="Whether such a streak raises an alert."
    )

    server_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Where the operations server listens.",
        json_schema_extra=_fix("Give an address such as 127.0.0.1, ::1 or 0.0.0.0."),
    )
    server_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Port of the operations server in this process; none if unset.",
        json_schema_extra=_fix("Give a port from 1 to 65535, usually 9464."),
    )
    server_token: SecretStr | None = Field(
        default=None,
        description="Bearer token of the operations server; secret.",
        json_schema_extra=_fix("Give printable ASCII without spaces."),
    )
    server_allowed_hosts: TextList = Field(
        default_factory=list[str],
        description="Further names that may stand in Host and Origin.",
        json_schema_extra=_fix("Give a list of host names, or '*' for any."),
    )
    server_metrics_dir: Path | None = Field(
        default=None,
        description="Directory in which processes behind one port join their metrics.",
        json_schema_extra=_fix("Give the path of a directory of your own."),
    )

    _instance: ClassVar["FlextObservabilityConfig | None"] = None
    # Fields whose value came from OTEL_*: a signal's own OTEL_* variable may win.
    _from_otel: frozenset[str] = PrivateAttr(default=frozenset())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - signature of the base
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - signature of the base
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first."""
        return (
            init_settings,
            # An empty variable counts as unset, as the specification has it for OTEL_*.
            EnvSettingsSource(
                settings_cls, env_prefix="FLEXT_OBSERVABILITY_", env_ignore_empty=True
            ),
            EnvSettingsSource(
                settings_cls, env_prefix="OBSERVABILITY_", env_ignore_empty=True
            ),
            SharedVariables(settings_cls),
        )

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_otel(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        """Let OTEL_* fill what no stronger source named."""
        given = dict(cast("Mapping[str, Any]", data))
        otel = {k: v for k, v in otel_values().items() if k not in given}
        # Our bounds do not apply to these: the variables keep the SDK's meaning.
        loose = {k: otel.pop(k) for k in LOOSE_FIELDS if isinstance(otel.get(k), float)}
        config = handler({**otel, **given})
        for field, value in loose.items():
            object.__setattr__(config, field, value)
        otel |= loose
        config._from_otel = frozenset(otel)  # noqa: SLF001 - our own
        return config

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else checked_endpoint(endpoint)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return {
            name: SecretStr(checked_header(name, value.get_secret_value()))
            for name, value in headers.items()
        }

    @field_validator("certificate", "client_certificate", "client_key")
    @classmethod
    def _check_file(cls, path: Path | None) -> Path | None:
        return None if path is None else Path(checked_pem(str(path)))

    @field_validator("server_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        text = None if token is None else token.get_secret_value()
        if text is not None and not (text.isascii() and _is_one_word(text)):
            message = "must be printable ASCII without spaces"
            raise ValueError(message)
        return token

    @field_validator("alertmanager_url", "push_gateway_url")
    @classmethod
    def _check_web_address(cls, address: str | None) -> str | None:
        return None if address is None else checked_web_address(address)

    @field_validator("spool_dir", "service_discovery_dir", "server_metrics_dir")
    @classmethod
    def _check_spool_dir(cls, path: Path | None) -> Path | None:
        # Absolute from the start: the program may change its directory.
        return None if path is None else path.expanduser().absolute()

    @field_validator("histogram_buckets_s")
    @classmethod
    def _check_buckets(cls, bounds: list[float]) -> list[float]:
        if not bounds or bounds != sorted(set(bounds)):
            message = "must be rising numbers without repeats"
            raise ValueError(message)
        return bounds

    @model_validator(mode="after")
    def _check_store_bounds(self) -> Self:
        stated = {"metrics_store_limit", "metrics_store_cleanup"}
        is_wrong = self.metrics_store_cleanup >= self.metrics_store_limit
        if is_wrong and stated <= self.model_fields_set:
            message = (
                "metrics_store_cleanup: must be below metrics_store_limit, "
                f"got {self.metrics_store_cleanup} of {self.metrics_store_limit}"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_client_pair(self) -> Self:
        if bool(self.client_certificate) != bool(self.client_key):
            missing = "client_key" if self.client_certificate else "client_certificate"
            message = f"{missing}: missing; mutual TLS needs certificate and key"
            raise ValueError(message)
        if self.client_certificate and self.client_key:
            check_pair(self.client_certificate, self.client_key)
        return self

    def store_bounds(self) -> tuple[int, int]:
        """Give how many entities of a kind are held, and how many survive a cleanup."""
        limit, kept = self.metrics_store_limit, self.metrics_store_cleanup
        if kept < limit:
            return limit, kept
        # Only one of the two was stated; the other one's default does not fit it.
        if "metrics_store_limit" in self.model_fields_set:
            return limit, limit // 2
        return 2 * max(kept, 1), kept

    # -- questions that the pipeline asks

    def is_stated(self, field: str) -> bool:
        """Whether an argument or one of our variables named the field, not OTEL_*."""
        return field in self.model_fields_set and field not in self._from_otel

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

    def validate_business_rules(self) -> FlextResult[None]:
        """Check the settings once more, as entities do; they were checked when made."""
        return FlextResult[None].ok(None)

    # -- the one in force

    @classmethod
    def get_global_instance(cls) -> "FlextObservabilityConfig":
        """Give the settings in force: those of ``setup()``, else of the environment."""
        if FlextObservabilityConfig._instance is None:
            FlextObservabilityConfig._instance = cls()
        return FlextObservabilityConfig._instance

    @classmethod
    def reset_global_instance(cls) -> None:
        """Forget the settings in force; the next use reads the environment again."""
        FlextObservabilityConfig._instance = None

    def become_global(self) -> None:
        """Make these the settings in force."""
        FlextObservabilityConfig._instance = self


# -- from bad input to a message


def make_config(
    stated: Mapping[str, object],
) -> FlextResult[FlextObservabilityConfig]:
    """Build the settings, or say which one is wrong.

    Args:
        stated: Fields by name, the strongest source.

    Returns:
        The settings, or the failure ``Invalid configuration: <field>: <reason>``.
    """
    for name in stated:
        if name not in FlextObservabilityConfig.model_fields:
            return invalid_configuration(_unknown(name))
    try:
        return FlextResult.ok(FlextObservabilityConfig(**cast("Any", stated)))
    except ValidationError as error:
        # Not the ValidationError itself: it remembers every input, secrets too.
        return invalid_configuration(_explain(error, stated))


def invalid_configuration(what: str) -> FlextResult[Any]:
    """Make the failure of a bad setting.

    Args:
        what: ``<field>: <reason>``, with the value and the fix.
    """
    message = f"Invalid configuration: {what}"
    return FlextResult[Any].fail(
        message, exception=FlextObservabilityConfigurationError(message)
    )


def _unknown(name: str) -> str:
    known = list(FlextObservabilityConfig.model_fields)
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}."
    return f"{name}: unknown setting. {hint}"


def _explain(error: ValidationError, stated: Mapping[str, object]) -> str:
    """Say field, reason, value and fix of the first error; never a secret."""
    first = error.errors(include_url=False, include_input=True)[0]
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if not first["loc"]:
        return f"{reason}."  # a rule over several fields; it names them itself
    field = str(first["loc"][0])
    value = stated.get(field, variable_value(field))
    is_secret = field in {"headers", "server_token"}
    secret = is_secret or (field in _ADDRESSES and "@" in str(value))
    shown = "" if secret else f", got {short_repr(value)}"
    origin = "" if field in stated else origin_of(field)
    info = FlextObservabilityConfig.model_fields.get(field)
    extra = cast("dict[str, str] | None", info.json_schema_extra if info else None)
    fix = (extra or {}).get("fix", "")
    return f"{field}: {reason[:1].lower()}{reason[1:]}{shown}{origin}. {fix}".rstrip()


def short_repr(value: object) -> str:
    """Show a value in a message: one line, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the message must come out whatever was passed
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004 - one line
