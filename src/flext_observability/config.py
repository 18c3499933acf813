"""Settings as users see them: every field, its type, and what is wrong with a value."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from .connection import (
    check_pair,
    checked_endpoint,
    checked_header,
    checked_pem,
    checked_web_address,
    shown_address,
)
from .constants import FlextObservabilityConstants as C
from .environment import (
    LOOSE_FIELDS,
    from_list,
    from_pairs,
    origin_of,
    otel_values,
    own_values,
    variable_value,
)
from .result import FlextResult
from .secret_names import Secrecy, SecretNames
from .secret_text import REDACTED, usual_text
from .setting_rules import SETTINGS, absolute, are_buckets, is_token, protocol_name
from .settings import (
    InForce,
    Settings,
    has_fitting_bounds,
    invalid_configuration,
    settings_or,
    short_repr,
)

Attributes = dict[str, str | bool | int | float]

# Settings that may hold a password.
_ADDRESSES = ("endpoint", "alertmanager_url", "push_gateway_url")


# -- reading values as people and environments write them


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _protocol(value: object) -> object:
    return protocol_name(value) if isinstance(value, str) else value


def _revealed(value: object) -> object:
    """Take what ``model_dump()`` hides in the place of what it was made from."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        return {name: _revealed(each) for name, each in pairs.items()}
    return value


Address = Annotated[str | None, BeforeValidator(_revealed)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]
# Inside an application's own settings, too, a variable is read as ours are: no JSON.
TextList = Annotated[list[str], NoDecode, BeforeValidator(from_list)]
TextPairs = Annotated[
    Attributes, NoDecode, BeforeValidator(from_pairs), BeforeValidator(_revealed)
]
SecretPairs = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(from_pairs)]
NumberList = Annotated[list[float], NoDecode, BeforeValidator(from_list)]


def _setting(name: str, description: str, fix: str = "", **more: Any) -> Any:
    """Describe a field; its default and its bounds stand with the rules.

    Args:
        name: Of the field.
        description: One sentence.
        fix: What the failure message tells the user to do.
        **more: For Pydantic.
    """
    rule = SETTINGS[name]
    if rule.is_mutable():
        more["default_factory"] = rule.fresh
    else:
        more["default"] = rule.default
    return Field(
        description=description,
        json_schema_extra={"fix": fix} if fix else None,
        **rule.bounds,
        **more,
    )


class FlextObservabilityConfig(BaseModel):
    """Every setting of the library.

    A value comes from the strongest source that names it: argument, then
    ``FLEXT_OBSERVABILITY_<FIELD>``, ``OBSERVABILITY_<FIELD>``, ``FLEXT_LOG_LEVEL`` and
    ``FLEXT_ENVIRONMENT``, the ``OTEL_*`` variables of the OpenTelemetry specification,
    the default.

    Secrets are shown nowhere: ``headers``, ``server_token``, credentials in URLs, and
    ``resource_attributes`` that redaction would take. Text and JSON say ``[redacted]``
    or asterisks; ``model_dump()`` gives ``SecretStr``, from which
    ``model_validate()`` makes the same settings again. The attributes, ``vars()`` and
    iteration give URLs and resource attributes as they are.
    """

    model_config = ConfigDict(
        extra="forbid", validate_default=False, hide_input_in_errors=True
    )

    service_name: str = _setting(
        "service_name",
        "What the service is called everywhere.",
        "Give a short name such as 'orders'.",
    )
    service_version: str | None = _setting("service_version", "Version of the service.")
    service_namespace: str | None = _setting(
        "service_namespace", "Group of the service."
    )
    environment: str = _setting("environment", "deployment.environment.name.")
    resource_attributes: TextPairs = _setting(
        "resource_attributes",
        "Further resource attributes.",
        "Give a dict, or key=value,key=value in a variable.",
    )
    endpoint: Address = _setting(
        "endpoint",
        "Collector for all signals; gRPC to localhost:4317 when unset.",
        "Give a URL such as http://localhost:4317 (gRPC) "
        "or http://localhost:4318 (HTTP).",
    )
    protocol: Annotated[
        Literal["grpc", "http/protobuf"] | None, BeforeValidator(_protocol)
    ] = _setting(
        "protocol",
        "Inferred from the endpoint when unset.",
        "Use 'grpc' or 'http/protobuf'.",
    )
    headers: SecretPairs = _setting(
        "headers",
        "Headers of every export request; secret.",
        "Give a dict of text, or key=value,key=value.",
    )
    compression: Annotated[
        Literal["none", "gzip", "deflate"] | None, BeforeValidator(_lower)
    ] = _setting(
        "compression", "Of export requests.", "Use 'gzip', 'deflate' or 'none'."
    )
    timeout_s: float = _setting(
        "timeout_s",
        "Deadline of one export request, seconds.",
        "Give seconds, above 0 and at most 600.",
    )
    certificate: Path | None = _setting(
        "certificate",
        "CA file (PEM) the collector's certificate is checked with.",
        "Give the path of a readable PEM file.",
    )
    client_certificate: Path | None = _setting(
        "client_certificate",
        "Client certificate (PEM) for mutual TLS.",
        "Give the path of a readable PEM file.",
    )
    client_key: Path | None = _setting(
        "client_key",
        "Key (PEM) of the client certificate.",
        "Give the path of a readable PEM file.",
    )
    exporters: TextList = _setting(
        "exporters",
        "Where telemetry goes: otlp, console, prometheus, memory, none.",
        f"Use any of {', '.join(C.EXPORTERS)}.",
    )
    tracing_enabled: bool = _setting("tracing_enabled", "Whether spans are made.")
    metrics_enabled: bool = _setting("metrics_enabled", "Whether metrics are made.")
    logs_enabled: bool = _setting("logs_enabled", "Whether log records are made.")
    sample_ratio: float = _setting(
        "sample_ratio",
        "Share of new traces that is recorded.",
        "Give a number from 0 (none) to 1 (all).",
    )
    propagators: TextList = _setting(
        "propagators",
        "How trace context travels in headers.",
        "Use names such as tracecontext, baggage, b3, none.",
    )
    correlation_id_header: str = _setting(
        "correlation_id_header",
        "Header that carries the correlation id.",
        "Use a legal header name such as X-Correlation-ID.",
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$",
    )
    log_level: LogLevel = _setting(
        "log_level",
        "Lowest level of log records that are exported.",
        "Use DEBUG, INFO, WARNING, ERROR or CRITICAL.",
    )
    structured_logging: bool = _setting(
        "structured_logging", "Whether our loggers write JSON lines, else plain ones."
    )
    metrics_export_interval_s: float = _setting(
        "metrics_export_interval_s",
        "Seconds between metric exports.",
        "Give seconds from 1 to 3600.",
    )
    histogram_buckets_s: NumberList = _setting(
        "histogram_buckets_s",
        "Bounds of flext.operation.duration, seconds.",
        "Give rising numbers such as [0.1, 0.5, 1].",
    )
    max_span_attributes: int = _setting(
        "max_span_attributes",
        "Attributes kept per span.",
        "Give a whole number from 1 to 1000.",
    )
    max_span_events: int = _setting("max_span_events", "Events per span.")
    max_span_links: int = _setting("max_span_links", "Links per span.")
    max_event_attributes: int = _setting(
        "max_event_attributes", "Attributes per span event."
    )
    max_link_attributes: int = _setting(
        "max_link_attributes", "Attributes per span link."
    )
    max_log_attributes: int = _setting(
        "max_log_attributes", "Attributes per log record."
    )
    max_attribute_length: int | None = _setting(
        "max_attribute_length", "Longest attribute text, characters; no limit if unset."
    )
    exit_budget_s: float = _setting(
        "exit_budget_s",
        "Longest delay of the program's exit, seconds, all signals.",
        "Give seconds from 0 to 600.",
    )
    durability: Annotated[
        Literal["memory", "batch", "record"] | None, BeforeValidator(_lower)
    ] = _setting(
        "durability",
        "What survives a crash; batch where the disk allows it if unset.",
        "Use 'memory', 'batch' or 'record'.",
    )
    spool_dir: Path | None = _setting(
        "spool_dir",
        "Where records wait on disk; the user's state directory if unset.",
        "Give the path of a directory of your own.",
    )
    spool_limit_bytes: int = _setting(
        "spool_limit_bytes",
        "Bytes on disk per service; the oldest go first.",
        "Give bytes, at least 1048576.",
    )
    fsync: Annotated[Literal["never", "segment", "batch"], BeforeValidator(_lower)] = (
        _setting(
            "fsync",
            "When the disk is synced, against power loss only.",
            "Use 'never', 'segment' or 'batch'.",
        )
    )
    handle_signals: bool = _setting(
        "handle_signals", "Whether SIGTERM and SIGINT first secure the records."
    )
    redaction: bool = _setting(
        "redaction", "Whether secrets are replaced before records leave."
    )
    redact_keys: TextList = _setting(
        "redact_keys",
        "Further attribute names whose values are secret, parts of names.",
        "Give a list of words such as ['iban'].",
    )
    redact_patterns: TextList = _setting(
        "redact_patterns",
        "Further regular expressions of secret text.",
        "Give a list of legal regular expressions.",
    )
    alertmanager_url: Address = _setting(
        "alertmanager_url",
        "Alertmanager that processed alerts are posted to.",
        "Give a URL such as http://localhost:9093.",
    )
    alert_resend_s: float = _setting(
        "alert_resend_s",
        "Seconds between two posts of an alert that lasts.",
        "Give seconds from 1 to 3600.",
    )
    push_gateway_url: Address = _setting(
        "push_gateway_url",
        "Prometheus Pushgateway that metrics are pushed to.",
        "Give a URL such as http://localhost:9091.",
    )
    service_discovery_dir: Path | None = _setting(
        "service_discovery_dir",
        "Where Prometheus (file_sd) finds processes that serve metrics.",
        "Give the path of a directory.",
    )
    metrics_store_limit: int = _setting(
        "metrics_store_limit",
        "Entities of each kind held in memory.",
        "Give a whole number from 1 to 1000000.",
    )
    metrics_store_cleanup: int = _setting(
        "metrics_store_cleanup",
        "Newest entities kept when one too many arrives.",
        "Give a whole number below metrics_store_limit.",
    )
    health_check_interval_s: float = _setting(
        "health_check_interval_s",
        "Seconds between the checks of a started monitor.",
        "Give seconds from 1 to 3600.",
    )
    health_failure_threshold: int = _setting(
        "health_failure_threshold",
        "Not-healthy reports in a row that raise an alert.",
        "Give a whole number from 1 to 10.",
    )
    health_alert_on_failure: bool = _setting(
        "health_alert_on_failure", "Whether such a streak raises an alert."
    )
    server_host: str = _setting(
        "server_host",
        "Where the operations server listens.",
        "Give an address such as 127.0.0.1, ::1 or 0.0.0.0.",
    )
    server_port: int | None = _setting(
        "server_port",
        "Port of the operations server in this process; none if unset.",
        "Give a port from 1 to 65535, usually 9464.",
    )
    server_token: SecretStr | None = _setting(
        "server_token",
        "Bearer token of the operations server and of the metrics page; secret.",
        "Give printable ASCII without spaces.",
    )
    server_allowed_hosts: TextList = _setting(
        "server_allowed_hosts",
        "Further names that may stand in Host and Origin.",
        "Give a list of host names, or '*' for any.",
    )
    server_metrics_dir: Path | None = _setting(
        "server_metrics_dir",
        "Directory in which processes behind one port join their metrics.",
        "Give the path of a directory of your own.",
    )

    # The settings in force, and how they are shown.
    _shown: ClassVar["tuple[Settings, FlextObservabilityConfig] | None"] = None
    # Fields whose value came from OTEL_*: a signal's own OTEL_* variable may win.
    _from_otel: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_environment(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        """Let variables fill what nobody stated, those of ours before OTEL_*."""
        if isinstance(data, cls):
            return handler(data)
        given = {**own_values(SETTINGS), **cast("Mapping[str, Any]", data)}
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
        if token is not None and not is_token(token.get_secret_value()):
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
        return None if path is None else absolute(path)

    @field_validator("histogram_buckets_s")
    @classmethod
    def _check_buckets(cls, bounds: list[float]) -> list[float]:
        if not are_buckets(bounds):
            message = "must be rising numbers without repeats"
            raise ValueError(message)
        return bounds

    @model_validator(mode="after")
    def _check_store_bounds(self) -> Self:
        if not has_fitting_bounds(vars(self), frozenset(self.model_fields_set)):
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

    def is_stated(self, field: str) -> bool:
        """Whether an argument or one of our variables named the field, not OTEL_*."""
        return field in self.model_fields_set and field not in self._from_otel

    def validate_business_rules(self) -> FlextResult[None]:
        """Check the settings once more, as entities do; they were checked when made."""
        return FlextResult[None].ok(None)

    # -- as people see it

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Give what ``repr`` and ``str`` show, without secrets."""
        for name, value in super().__repr_args__():
            if name in _ADDRESSES and isinstance(value, str):
                yield name, shown_address(value)
            elif name == "resource_attributes" and isinstance(value, dict):
                yield name, self._without_secrets(cast("Attributes", value))
            else:
                yield name, value

    @field_serializer(*_ADDRESSES)
    def _hide_address(self, address: str | None, info: FieldSerializationInfo) -> Any:
        return (
            address
            if address is None
            else _hidden(address, shown_address(address), info)
        )

    @field_serializer("resource_attributes")
    def _hide_attributes(
        self, attributes: Attributes, info: FieldSerializationInfo
    ) -> Any:
        shown = self._without_secrets(attributes)
        return {
            name: _hidden(value, shown[name], info)
            for name, value in attributes.items()
        }

    def _without_secrets(self, attributes: Attributes) -> Attributes:
        """Give attributes as they leave the process."""
        names = SecretNames(self.redact_keys)
        made: Attributes = {}
        for name, value in attributes.items():
            if isinstance(value, bool) or names.secrecy_of(name) is Secrecy.NOTHING:
                is_text = isinstance(value, str)
                made[name] = usual_text().redacted(str(value)) if is_text else value
            else:
                made[name] = REDACTED
        return made

    # -- the pipeline's own form

    def settings(self) -> Settings:
        """Give these settings in the form that the pipeline runs by."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["headers"] = {
            name: secret.get_secret_value() for name, secret in self.headers.items()
        }
        token = self.server_token
        values["server_token"] = None if token is None else token.get_secret_value()
        return Settings(
            values,
            stated=frozenset(self.model_fields_set - self._from_otel),
            from_otel=self._from_otel,
        )

    @classmethod
    def of(cls, settings: Settings) -> "FlextObservabilityConfig":
        """Show settings that were read and checked already."""
        values = settings.values()
        values["headers"] = {
            name: SecretStr(value) for name, value in settings.headers.items()
        }
        token = settings.server_token
        values["server_token"] = None if token is None else SecretStr(token)
        fields_set = set(settings.fields_set())
        config = cls.model_construct(fields_set, **values)
        config._from_otel = frozenset(filter(settings.is_from_otel, fields_set))  # noqa: SLF001 - our own
        return config

    # -- the one in force

    @classmethod
    def get_global_instance(cls) -> "FlextObservabilityConfig":
        """Give the settings in force: those of ``setup()``, else of the environment."""
        settings = settings_or(lambda: cls().settings())
        shown = FlextObservabilityConfig._shown
        if shown is None or shown[0] is not settings:
            shown = settings, cls.of(settings)
            FlextObservabilityConfig._shown = shown
        return shown[1]

    @classmethod
    def reset_global_instance(cls) -> None:
        """Forget the settings in force; the next use reads the environment again."""
        InForce.settings = FlextObservabilityConfig._shown = None


def _hidden(value: object, shown: object, info: FieldSerializationInfo) -> object:
    """Give for a dump what is shown, or the value behind a ``SecretStr``."""
    if shown == value or info.mode == "json":
        return shown
    return SecretStr(str(value))


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
