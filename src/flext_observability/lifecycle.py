"""Start, flush and stop: the calls that change what runs."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from . import runtime
from .constants import FlextObservabilityConstants as C
from .errors import (
    FlextObservabilityConfigurationError,
    FlextObservabilityTimeoutError,
)
from .own_log import ERROR, WARNING, say
from .report import FlextObservabilityStatus
from .result import FlextResult
from .runtime import state
from .settings import invalid_configuration, short_repr
from .settings_reader import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry._logs import Logger
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer
    from pydantic import SecretStr

    from ._pipeline.exporters import MemoryExporter
    from .application_settings import ObservabilitySettings
    from .config import FlextObservabilityConfig


class SetupFields(TypedDict, total=False):
    """The keywords of ``setup()``: every field of ``FlextObservabilityConfig``."""

    service_version: str | None
    service_namespace: str | None
    environment: str
    resource_attributes: Mapping[str, Any]
    endpoint: str | None
    protocol: str | None
    headers: Mapping[str, str]
    compression: str | None
    timeout_s: float
    certificate: "str | Path | None"
    client_certificate: "str | Path | None"
    client_key: "str | Path | None"
    exporters: str | Sequence[str]
    tracing_enabled: bool
    metrics_enabled: bool
    logs_enabled: bool
    sample_ratio: float
    propagators: str | Sequence[str]
    correlation_id_header: str
    log_level: str
    structured_logging: bool
    metrics_export_interval_s: float
    histogram_buckets_s: Sequence[float]
    max_span_attributes: int
    max_span_events: int
    max_span_links: int
    max_event_attributes: int
    max_link_attributes: int
    max_log_attributes: int
    max_attribute_length: int | None
    exit_budget_s: float
    durability: str | None
    spool_dir: "str | Path | None"
    spool_limit_bytes: int
    fsync: str
    handle_signals: bool
    redaction: bool
    redact_keys: Sequence[str]
    redact_patterns: Sequence[str]
    alertmanager_url: str | None
    alert_resend_s: float
    push_gateway_url: str | None
    service_discovery_dir: "str | Path | None"
    metrics_store_limit: int
    metrics_store_cleanup: int
    health_check_interval_s: float
    health_failure_threshold: int
    health_alert_on_failure: bool
    server_host: str
    server_port: int | None
    server_token: "str | SecretStr | None"
    server_allowed_hosts: str | Sequence[str]
    server_metrics_dir: "str | Path | None"


class FlextObservability:
    """The handle that ``setup()`` gives: the running system, whichever it is now.

    It holds nothing of its own. After a second ``setup()`` it speaks for the new
    pipeline, and so do the tracers, meters and loggers obtained from it.
    """

    @property
    def config(self) -> "FlextObservabilityConfig":
        """The settings in force."""
        from .config import FlextObservabilityConfig

        return FlextObservabilityConfig.get_global_instance()

    @property
    def tracer(self) -> "Tracer":
        """A plain OTel tracer for whoever wants one."""
        return runtime.tracer()

    @property
    def meter(self) -> "Meter":
        """A plain OTel meter."""
        return state.meter_provider().get_meter(C.SCOPE_NAME)

    @property
    def logger(self) -> "Logger":
        """A plain OTel logger."""
        return runtime.otel_logger()

    @property
    def memory(self) -> "MemoryExporter | None":
        """The records of the ``memory`` exporter, ``None`` when it is not in use."""
        pipeline = state.live()
        return None if pipeline is None else pipeline.memory

    def flush(self, timeout_s: float = 5.0) -> FlextResult[None]:
        """Do what :func:`flush` does."""
        return flush(timeout_s)

    def shutdown(self, timeout_s: float | None = None) -> FlextResult[None]:
        """Do what :func:`shutdown` does."""
        return shutdown(timeout_s)

    def push(self, timeout_s: float = 5.0) -> FlextResult[None]:
        """Push the metrics of this moment to the Pushgateway.

        Args:
            timeout_s: Seconds it may take.

        Returns:
            Success when the Pushgateway has them; a failure that says what is wrong,
            also when there is no ``push_gateway_url``.
        """
        return _push(timeout_s)

    def status(self) -> FlextObservabilityStatus:
        """Do what :func:`status` does."""
        return status()

    def __repr__(self) -> str:
        """Show what runs."""
        now = status()
        return (
            f"FlextObservability(service_name={now.service_name!r}, "
            f"running={now.running}, endpoint={now.endpoint!r})"
        )


_HANDLE = FlextObservability()


def setup(
    service_name: str | None = None,
    *,
    config: "FlextObservabilityConfig | ObservabilitySettings | None" = None,
    sampler: "Sampler | None" = None,
    views: "Sequence[View] | None" = None,
    span_processors: "Sequence[SpanProcessor]" = (),
    log_record_processors: "Sequence[LogRecordProcessor]" = (),
    metric_readers: "Sequence[MetricReader]" = (),
    redact: "Callable[[str, object], object] | None" = None,
    **fields: Unpack[SetupFields],
) -> FlextResult[FlextObservability]:
    """Send traces, metrics and logs of this process, from here on.

    May be called again: with equal settings nothing happens, with others the pipeline
    is exchanged, and the old one is flushed and closed. Safe from any thread.

    Args:
        service_name: ``service.name``; ``OTEL_SERVICE_NAME`` when not given.
        config: Settings prepared elsewhere; only the fields that were set count, and
            keywords of this call win over them.
        sampler: A sampler of the SDK; wins over ``sample_ratio``.
        views: Views of the SDK.
        span_processors: Processors of the SDK, beside ours.
        log_record_processors: Processors of the SDK; they see a record before ours.
        metric_readers: Readers of the SDK, beside ours.
        redact: Asked with name and value about every attribute, and with ``"body"``
            about every log text, before it leaves the process. ``None`` leaves the
            value to the rules; anything else is sent in its place, also the value
            itself, which spares what a rule would take.
        **fields: Fields of ``FlextObservabilityConfig`` by name.

    Returns:
        The handle; or ``Invalid configuration: <field>: <reason>`` with value and fix,
        which is logged as one ERROR too. After a failure, what was in force stays, and
        without a former setup the program runs on without telemetry.
    """
    try:
        stated: dict[str, object] = _fields_set(config)
        stated |= {k: v for k, v in fields.items() if v is not None}
        if service_name is not None:
            stated["service_name"] = service_name
        result = _setup(
            stated,
            sampler=sampler,
            views=_parts("views", views),
            span_processors=_parts("span_processors", span_processors),
            log_record_processors=_parts(
                "log_record_processors", log_record_processors
            ),
            metric_readers=_parts("metric_readers", metric_readers),
            redact=redact,
        )
    except FlextObservabilityConfigurationError as error:
        message = f"Invalid configuration: {error}"
        result = FlextResult[FlextObservability].fail(message, exception=error)
    except Exception as error:  # noqa: BLE001 - the host runs on without telemetry
        result = FlextResult[FlextObservability].fail(_told(error), exception=error)
    if result.is_failure:
        say(ERROR, "%s", result.error)
    return result


def _told(error: Exception) -> str:
    """Say why; what the SDK has against a variable begins with its name."""
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("OTEL_"):
        variable, _, reason = text.partition(" ")
        fix = "Correct the variable or unset it."
        return f"Invalid configuration: {variable}: {reason}. {fix}"
    return f"setup failed: {type(error).__name__}: {text}"


def _fields_set(config: object) -> dict[str, object]:
    """Take the fields of a prepared config that somebody set."""
    if config is None:
        return {}
    names: object = getattr(config, "model_fields_set", None)
    if not isinstance(names, set):
        # Of a mapping of settings, any value may be a secret.
        shown = short_repr(config) if isinstance(config, str) else type(config).__name__
        message = (
            "config: must be a FlextObservabilityConfig or ObservabilitySettings, got "
            f"{shown}. Give single settings as keywords of setup()."
        )
        raise FlextObservabilityConfigurationError(message)
    # What OTEL_* said is weaker than an argument, and is read again anyway.
    is_stated: Callable[[str], bool] | None = getattr(config, "is_stated", None)
    return {
        name: getattr(config, name)
        for name in cast("set[str]", names)
        if is_stated is None or is_stated(name)
    }


def _parts(name: str, parts: object) -> tuple[object, ...]:
    if parts is None:
        return ()
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        message = (
            f"{name}: must be a list, got {short_repr(parts)}. Give a list of "
            "objects of the OpenTelemetry SDK."
        )
        raise FlextObservabilityConfigurationError(message)
    return tuple(cast("Iterable[object]", parts))


def _check_parts(parts: Mapping[str, object]) -> FlextResult[Any]:
    """Refuse what is no part of the SDK before anything is built with it."""
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

    for name, kind in (
        ("views", View),
        ("span_processors", SpanProcessor),
        ("log_record_processors", LogRecordProcessor),
        ("metric_readers", MetricReader),
    ):
        for part in cast("tuple[object, ...]", parts[name]):
            if not isinstance(part, kind):
                return invalid_configuration(
                    f"{name}: must be {kind.__name__} objects of the OpenTelemetry "
                    f"SDK, got {short_repr(part)}. Give a list of such objects."
                )
    redact = parts["redact"]
    if redact is not None and not callable(redact):
        return invalid_configuration(
            f"redact: must be a function of name and value, got {short_repr(redact)}. "
            "For further names, set redact_keys."
        )
    sampler = parts["sampler"]
    if sampler is not None and not isinstance(sampler, Sampler):
        return invalid_configuration(
            f"sampler: must be a Sampler of the OpenTelemetry SDK, got "
            f"{short_repr(sampler)}. For a share of all traces, set sample_ratio."
        )
    return FlextResult[Any].ok(None)


def _setup(
    stated: Mapping[str, object], **extras: Any
) -> FlextResult[FlextObservability]:
    made = read_settings(stated)
    if made.is_failure:
        return FlextResult[FlextObservability].fail(
            made.error, exception=made.exception
        )
    checked = _check_parts(extras)
    if checked.is_failure:
        return FlextResult[FlextObservability].fail(
            checked.error, exception=checked.exception
        )
    from ._pipeline.pipeline import Extras

    with state.lock:
        state.apply(made.data, Extras(**extras))
    _warn_about_unread_variables()
    return FlextResult[FlextObservability].ok(_HANDLE)


def _warn_about_unread_variables() -> None:
    if os.environ.get("JAEGER_AGENT_HOST") or os.environ.get("JAEGER_AGENT_PORT"):
        say(
            WARNING,
            "JAEGER_AGENT_HOST and JAEGER_AGENT_PORT have no effect: Jaeger takes OTLP "
            "now; set OTEL_EXPORTER_OTLP_ENDPOINT instead",
        )
    if os.environ.get("OTEL_CONFIG_FILE"):
        say(
            WARNING,
            "OTEL_CONFIG_FILE is not read: setup() takes arguments and variables; "
            "unset it, or set the SDK up from that file without setup()",
        )


def _seconds(timeout_s: float) -> float:
    """Read a timeout: not negative, and no longer than a thread can wait."""
    return min(max(0.0, float(timeout_s)), threading.TIMEOUT_MAX / 2)


def flush(timeout_s: float = 5.0) -> FlextResult[None]:
    """Send what was recorded so far.

    Args:
        timeout_s: Seconds to wait at most.

    Returns:
        Success when nothing is pending any more, else a failure that says how much is.
    """
    try:
        pipeline = state.live()
        if pipeline is None:
            return FlextResult[None].ok(None)
        timeout_s = _seconds(timeout_s)
        deadline = time.monotonic() + timeout_s
        left = pipeline.flush(deadline)
        untold = pipeline.outlets.flush(deadline)
    except Exception as error:  # noqa: BLE001 - a flush never raises into the host
        return FlextResult[None].fail(f"flush failed: {error}", exception=error)
    if not left and not untold:
        return FlextResult[None].ok(None)
    told = ", ".join(
        f"{count} {signal.value}" if count else f"{signal.value} being collected"
        for signal, count in left.items()
    )
    told = ", ".join(filter(None, (told, untold)))
    untold_why = pipeline.outlets.why_untold if untold else ""
    why = "; ".join(filter(None, (pipeline.why_undelivered(left), untold_why)))
    message = f"not delivered within {timeout_s:g} s: {told} are pending"
    return FlextResult[None].fail(
        f"{message} ({why})" if why else message,
        exception=FlextObservabilityTimeoutError(message),
    )


def _push(timeout_s: float) -> FlextResult[None]:
    try:
        outlets = runtime.outlets()
        if outlets is None or outlets.pusher is None:
            message = (
                "nowhere to push to: set push_gateway_url in setup(); a forked child "
                "leaves the group to its parent"
            )
            return FlextResult[None].fail(message)
        trouble = outlets.pusher.push(_seconds(timeout_s))
    except Exception as error:  # noqa: BLE001 - a push never raises into the host
        return FlextResult[None].fail(f"push failed: {error}", exception=error)
    return FlextResult[None].fail(trouble) if trouble else FlextResult[None].ok(None)


def shutdown(timeout_s: float | None = None) -> FlextResult[None]:
    """Send what was recorded so far, stop, and return to the state before setup.

    Harmless when repeated. Telemetry calls after it do nothing.

    Args:
        timeout_s: Seconds to wait at most; ``exit_budget_s`` when not given.

    Returns:
        Success when everything was delivered, else a failure that says what was not.
    """
    try:
        with state.lock:
            pipeline = state.live()
            if pipeline is None:
                return FlextResult[None].ok(None)
            budget_s = pipeline.config.exit_budget_s if timeout_s is None else timeout_s
            left = state.stop(time.monotonic() + _seconds(budget_s))
    except Exception as error:  # noqa: BLE001 - a shutdown never raises into the host
        return FlextResult[None].fail(f"shutdown failed: {error}", exception=error)
    if not left:
        return FlextResult[None].ok(None)
    return FlextResult[None].fail(left, exception=FlextObservabilityTimeoutError(left))


def status() -> FlextObservabilityStatus:
    """Say what runs and what became of every record, also after a shutdown."""
    return state.last_status()
