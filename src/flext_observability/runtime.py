"""The running system: the only process-global state of the package.

``setup`` installs global OTel providers once; everything behind them can be exchanged.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from logging import getLevelNamesMapping, getLogger
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, cast
from weakref import finalize

from ._pipeline.operations import OperationTotals
from .constants import FlextObservabilityConstants as C
from .constants import Signal
from .errors import (
    FlextObservabilityConfigurationError,
    FlextObservabilityTimeoutError,
)
from .result import FlextResult

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer, TracerProvider

    from ._pipeline.exporters import MemoryExporter
    from ._pipeline.ledger import SignalLedger
    from ._pipeline.log_bridge import LogBridge
    from ._pipeline.pipeline import Extras, Pipeline
    from .config import FlextObservabilityConfig, ObservabilitySettings

T = TypeVar("T")

_KEPT_LIMIT = 10_000

_logger = getLogger("flext_observability")


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
    metrics_store_limit: int
    metrics_store_cleanup: int
    health_check_interval_s: float
    health_failure_threshold: int
    health_alert_on_failure: bool


@dataclass(frozen=True, slots=True)
class FlextObservabilityStatus:
    """What the library is doing, at one moment."""

    running: bool = False
    """Whether telemetry is produced."""
    service_name: str = C.DEFAULT_SERVICE_NAME
    """``service.name`` of everything that is sent."""
    endpoint: str | None = None
    """The collector, without credentials; ``None`` when nothing goes to one."""
    protocol: str | None = None
    """``grpc`` or ``http/protobuf``; ``None`` when nothing goes to a collector."""
    durability: str = "memory"
    """Where records wait for delivery."""
    signals: "Mapping[str, SignalLedger]" = field(default_factory=dict[str, Any])
    """The ledger of ``traces``, ``metrics`` and ``logs``, in records."""
    last_error: str | None = None
    """The last trouble with delivery, if there was any."""
    spool_bytes: int = 0
    """Bytes on disk that wait for delivery."""


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
        return tracer()

    @property
    def meter(self) -> "Meter":
        """A plain OTel meter."""
        return _state.meter_provider().get_meter(C.SCOPE_NAME)

    @property
    def logger(self) -> "Logger":
        """A plain OTel logger."""
        return otel_logger()

    @property
    def memory(self) -> "MemoryExporter | None":
        """The records of the ``memory`` exporter, ``None`` when it is not in use."""
        pipeline = _state.live()
        return None if pipeline is None else pipeline.memory

    def flush(self, timeout_s: float = 5.0) -> FlextResult[None]:
        """Do what :func:`flush` does."""
        return flush(timeout_s)

    def shutdown(self, timeout_s: float | None = None) -> FlextResult[None]:
        """Do what :func:`shutdown` does."""
        return shutdown(timeout_s)

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


class _State:
    """Everything that is one per process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipeline: Pipeline | None = None
        self.handle = FlextObservability()
        self._key: tuple[Any, ...] | None = None
        self._bridge: LogBridge | None = None
        self._undo_executors: Callable[[], None] | None = None
        self._former_propagator: TextMapPropagator | None = None
        self._proxies: Any = None
        self.kept: dict[str, Any] = {}  # our own tracer, logger and histograms
        self._closed: Pipeline | None = None
        self._hooked = False
        # In a forked child: the parent's pipeline, and for good, because letting go
        # of its gRPC channel would touch threads that do not exist here.
        self._inherited: list[Pipeline] = []
        self.is_asleep = False

    # -- the providers OTel was given

    def proxies(self) -> Any:
        # No lock where it is made already: `setup` and `shutdown` hold it for seconds.
        if self._proxies is not None:
            return self._proxies
        with self.lock:
            if self._proxies is None:
                from ._pipeline import proxies

                self._proxies = (
                    proxies.TracerProviderProxy(),
                    proxies.MeterProviderProxy(),
                    proxies.LoggerProviderProxy(),
                )
            return self._proxies

    def tracer_provider(self) -> "TracerProvider":
        return cast("TracerProvider", self.proxies()[0])

    def meter_provider(self) -> "MeterProvider":
        return cast("MeterProvider", self.proxies()[1])

    def logger_provider(self) -> "LoggerProvider":
        return cast("LoggerProvider", self.proxies()[2])

    def live(self) -> "Pipeline | None":
        """Give the pipeline; in a forked child, build its own at the first use."""
        if self.is_asleep:
            self._awake()
        return self.pipeline

    # -- life

    def apply(self, config: "FlextObservabilityConfig", extras: "Extras") -> None:
        """Build the pipeline of these settings and put it in place of the old one."""
        from ._pipeline.providers import build_pipeline, release_readers

        key = (repr(_comparable(config)), extras)
        if self.live() is not None and key == self._key:
            return
        former = self.pipeline
        if former is not None:
            known = former.extras.metric_readers
            release_readers([r for r in extras.metric_readers if r in known])
        try:
            pipeline = build_pipeline(config, extras)
            pipeline.start(former)
        except Exception:
            self._restore_readers(former, extras)
            raise
        self._exchange(pipeline)
        self._key = key
        config.become_global()
        self._listen(config)
        self._hook_process()
        if former is not None:
            former.hand_over(pipeline)
            deadline = time.monotonic() + former.config.exit_budget_s
            former.close(deadline, successor=extras)

    def _restore_readers(self, former: "Pipeline | None", extras: "Extras") -> None:
        """Give the caller's readers back after a setup that came to nothing."""
        from ._pipeline.providers import release_readers

        release_readers(extras.metric_readers)
        if former is None or former.meter_provider is None:
            return
        for reader in former.extras.metric_readers:
            if reader in extras.metric_readers:
                former.meter_provider.add_metric_reader(reader)

    def _exchange(self, pipeline: "Pipeline | None") -> None:
        tracers, meters, loggers = self.proxies()
        self.pipeline = pipeline
        # Metrics first: an instrument may be used by what starts a span.
        meters.exchange(pipeline and pipeline.meter_provider)
        tracers.exchange(pipeline and pipeline.tracer_provider)
        loggers.exchange(pipeline and pipeline.logger_provider)
        self._install_globals(pipeline)

    def _install_globals(self, pipeline: "Pipeline | None") -> None:
        from opentelemetry import propagate

        if pipeline is None:
            if self._former_propagator is not None:
                propagate.set_global_textmap(self._former_propagator)
                self._former_propagator = None
            return
        if self._former_propagator is None:
            self._former_propagator = propagate.get_global_textmap()
        propagate.set_global_textmap(pipeline.propagator)
        if not self._hooked:
            self._install_providers()

    def _install_providers(self) -> None:
        from opentelemetry import _logs, metrics, trace

        for setter, getter, provider in zip(
            (
                trace.set_tracer_provider,
                metrics.set_meter_provider,
                _logs.set_logger_provider,
            ),
            (
                trace.get_tracer_provider,
                metrics.get_meter_provider,
                _logs.get_logger_provider,
            ),
            self.proxies(),
            strict=True,
        ):
            if not _is_set_by_another(getter()):
                cast("Callable[[Any], None]", setter)(provider)
                continue
            _logger.warning(
                "another %s was installed before setup(); telemetry made through "
                "plain OpenTelemetry calls goes there, ours goes to our pipeline",
                type(getter()).__name__,
            )

    def _listen(self, config: "FlextObservabilityConfig") -> None:
        """Bridge standard logging and carry context into thread pools."""
        from ._pipeline.executors import (
            install_executor_propagation,
        )
        from ._pipeline.log_bridge import LogBridge

        level = getLevelNamesMapping()[config.log_level]
        if not config.is_enabled(Signal.LOGS):
            self._stop_bridge()
        elif self._bridge is None:
            self._bridge = LogBridge(self.logger_provider(), level)
            self._bridge.install()
        else:
            self._bridge.set_level(level)
        if self._undo_executors is None:
            self._undo_executors = install_executor_propagation()

    def _stop_bridge(self) -> None:
        if self._bridge is not None:
            self._bridge.remove()
            self._bridge = None

    def _hook_process(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        # Exit handlers run backwards. This makes weakref register its own now, so that
        # it runs after ours: the HTTP client closes its sockets by weak references.
        finalize(self, id, None).detach()
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.after_fork)
        _end_multiprocessing_children()

    def stop(self, deadline: float) -> dict[str, int]:
        """Close the pipeline and return to the state before setup.

        Returns:
            Records per signal that were given up.
        """
        pipeline = self.live()
        if pipeline is None:
            return {}
        before = {
            signal: ledger.snapshot() for signal, ledger in pipeline.ledgers.items()
        }
        self._stop_bridge()
        if self._undo_executors is not None:
            self._undo_executors()
            self._undo_executors = None
        pipeline.close(deadline)
        self._closed = pipeline
        self._exchange(None)
        self._key = None
        _forget_config()
        lost: dict[str, int] = {}
        for signal, ledger in pipeline.ledgers.items():
            now = dict(ledger.snapshot().dropped)
            was = dict(before[signal].dropped)
            count = now.get("exit", 0) - was.get("exit", 0)
            if count:
                lost[signal.value] = count
        return lost

    def last_status(self) -> FlextObservabilityStatus:
        pipeline = self.live()
        if pipeline is not None:
            return _status_of(pipeline, running=pipeline.is_producing())
        if self._closed is not None:  # late records are still counted there
            return _status_of(self._closed, running=False)
        return FlextObservabilityStatus(signals=_no_ledgers())

    # -- fork

    def after_fork(self) -> None:
        """Start over in a forked child: the records queued here are the parent's."""
        self.lock = threading.RLock()
        self._closed = None
        if self.pipeline is None:
            return
        from ._pipeline.proxies import Awakening

        # Spans that are open now end here, into locks that nobody may release.
        self.pipeline.abandon()
        self._inherited.append(self.pipeline)
        self.pipeline = None
        self.is_asleep = True
        tracers, meters, loggers = self.proxies()
        for proxy in (meters, tracers, loggers):
            proxy.after_fork(Awakening(partial(self._awakened, proxy)))

    def inherited(self) -> "Pipeline | None":
        """Give the parent's pipeline in a forked child that has none of its own yet."""
        return self._inherited[-1] if self.is_asleep else None

    def _awakened(self, proxy: Any) -> Any:
        self._awake()
        return proxy.inner

    def _awake(self) -> None:
        from ._pipeline.providers import (
            build_pipeline,
            release_readers,
            renewed_resource,
        )

        with self.lock:
            if not self.is_asleep:
                return
            self.is_asleep = False
            parents = self._inherited[-1]
            release_readers(parents.extras.metric_readers)
            variable = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
            key = "service.instance.id"
            stated = key in parents.config.resource_attributes or key in variable
            pipeline = build_pipeline(
                parents.config,
                parents.extras,
                renewed_resource(parents.resource, is_instance_stated=stated),
            )
            # The page of metrics is the parent's: the child cannot have its port.
            pipeline.prometheus = None
            pipeline.start()
            self._exchange(pipeline)


_state = _State()

operations = OperationTotals()
"""Counts of monitored calls in this process, with or without a pipeline."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=operations.start_over)


def _comparable(config: "FlextObservabilityConfig") -> dict[str, object]:
    """Give settings that can be compared, secrets included."""
    values = config.model_dump()
    values["headers"] = {
        name: secret.get_secret_value() for name, secret in config.headers.items()
    }
    environment = {k: v for k, v in os.environ.items() if k.startswith("OTEL_")}
    return {**values, "OTEL": environment}


def _is_set_by_another(provider: object) -> bool:
    """Whether somebody installed a provider: the API starts with proxies of its own."""
    module = type(provider).__module__
    is_ours = module.startswith("flext_observability")
    is_api = not module.startswith("opentelemetry.sdk") and module.startswith(
        "opentelemetry."
    )
    return not (is_ours or is_api)


def _forget_config() -> None:
    from .config import FlextObservabilityConfig

    FlextObservabilityConfig.reset_global_instance()


def _no_ledgers() -> "Mapping[str, SignalLedger]":
    from ._pipeline.ledger import SignalLedger

    return {signal.value: SignalLedger() for signal in Signal}


def _status_of(pipeline: "Pipeline", *, running: bool) -> FlextObservabilityStatus:
    first = next(iter(pipeline.endpoints.values()), None)
    return FlextObservabilityStatus(
        running=running,
        service_name=str(pipeline.resource.attributes.get("service.name", "")),
        endpoint=None if first is None else _base_url(first.shown, first.protocol),
        protocol=None if first is None else first.protocol,
        signals=pipeline.snapshot(),
        last_error=pipeline.notices.last_error,
    )


def _base_url(url: str, protocol: str) -> str:
    """Show the endpoint as it is configured, without a signal's path."""
    if protocol == "grpc":
        return url
    return (
        url.removesuffix("/v1/traces")
        .removesuffix("/v1/metrics")
        .removesuffix("/v1/logs")
    )


def _at_exit() -> None:
    """Bring out what is left, within the exit budget, whatever happens."""
    pipeline = _state.pipeline
    if pipeline is None:
        return
    with suppress(Exception):  # the interpreter is leaving; nobody reads a traceback
        _state.stop(time.monotonic() + pipeline.config.exit_budget_s)


def _end_multiprocessing_children() -> None:
    """Children of ``multiprocessing`` end in ``os._exit``: atexit never runs there."""

    def register(_: object = None) -> None:
        from multiprocessing import util

        util.Finalize(None, _at_exit, exitpriority=100)

    from multiprocessing import util

    util.register_after_fork(_state, register)
    if sys.modules.get("multiprocessing.process") is not None:
        from multiprocessing import parent_process

        if parent_process() is not None:  # a spawned child that calls setup itself
            register()


# -- public


def setup(
    service_name: str | None = None,
    *,
    config: "FlextObservabilityConfig | ObservabilitySettings | None" = None,
    sampler: "Sampler | None" = None,
    views: "Sequence[View] | None" = None,
    span_processors: "Sequence[SpanProcessor]" = (),
    log_record_processors: "Sequence[LogRecordProcessor]" = (),
    metric_readers: "Sequence[MetricReader]" = (),
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
        )
    except FlextObservabilityConfigurationError as error:
        message = f"Invalid configuration: {error}"
        result = FlextResult[FlextObservability].fail(message, exception=error)
    except Exception as error:  # noqa: BLE001 - the host runs on without telemetry
        message = f"setup failed: {type(error).__name__}: {error}"
        result = FlextResult[FlextObservability].fail(message, exception=error)
    if result.is_failure:
        _logger.error("%s", result.error)
    return result


def _fields_set(config: object) -> dict[str, object]:
    """Take the fields of a prepared config that somebody set."""
    if config is None:
        return {}
    names: object = getattr(config, "model_fields_set", None)
    if not isinstance(names, set):
        from .config import short_repr

        message = (
            "config: must be a FlextObservabilityConfig or ObservabilitySettings, got "
            f"{short_repr(config)}. Give single settings as keywords of setup()."
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
        from .config import short_repr

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

    from .config import invalid_configuration, short_repr

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
    from .config import make_config

    made = make_config(stated)
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

    with _state.lock:
        _state.apply(made.data, Extras(**extras))
    _warn_about_obsolete_variables()
    return FlextResult[FlextObservability].ok(_state.handle)


def _warn_about_obsolete_variables() -> None:
    if os.environ.get("JAEGER_AGENT_HOST") or os.environ.get("JAEGER_AGENT_PORT"):
        _logger.warning(
            "JAEGER_AGENT_HOST and JAEGER_AGENT_PORT have no effect: Jaeger takes OTLP "
            "now; set OTEL_EXPORTER_OTLP_ENDPOINT instead"
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
        pipeline = _state.live()
        if pipeline is None:
            return FlextResult[None].ok(None)
        timeout_s = _seconds(timeout_s)
        left = pipeline.flush(time.monotonic() + timeout_s)
    except Exception as error:  # noqa: BLE001 - a flush never raises into the host
        return FlextResult[None].fail(f"flush failed: {error}", exception=error)
    if not left:
        return FlextResult[None].ok(None)
    told = ", ".join(f"{count} {signal.value}" for signal, count in left.items())
    why = pipeline.notices.last_error
    message = f"not delivered within {timeout_s:g} s: {told} are pending"
    return FlextResult[None].fail(
        f"{message} ({why})" if why else message,
        exception=FlextObservabilityTimeoutError(message),
    )


def shutdown(timeout_s: float | None = None) -> FlextResult[None]:
    """Send what was recorded so far, stop, and return to the state before setup.

    Harmless when repeated. Telemetry calls after it do nothing.

    Args:
        timeout_s: Seconds to wait at most; ``exit_budget_s`` when not given.

    Returns:
        Success when everything was delivered, else a failure that says what was not.
    """
    try:
        with _state.lock:
            pipeline = _state.live()
            if pipeline is None:
                return FlextResult[None].ok(None)
            budget_s = pipeline.config.exit_budget_s if timeout_s is None else timeout_s
            lost = _state.stop(time.monotonic() + _seconds(budget_s))
    except Exception as error:  # noqa: BLE001 - a shutdown never raises into the host
        return FlextResult[None].fail(f"shutdown failed: {error}", exception=error)
    if not lost:
        return FlextResult[None].ok(None)
    told = ", ".join(f"{count} {signal}" for signal, count in lost.items())
    message = f"gave up undelivered telemetry: {told}"
    return FlextResult[None].fail(
        message, exception=FlextObservabilityTimeoutError(message)
    )


def status() -> FlextObservabilityStatus:
    """Say what runs and what became of every record, also after a shutdown."""
    return _state.last_status()


# -- for the verbs above this floor


def is_running() -> bool:
    """Whether a pipeline is there; cheap enough for every call."""
    return _state.pipeline is not None or _state.is_asleep


def current_config() -> "FlextObservabilityConfig | None":
    """Give the settings in force, ``None`` before setup."""
    pipeline = _state.pipeline or _state.inherited()
    return None if pipeline is None else pipeline.config


def current_propagator() -> "TextMapPropagator":
    """Give the propagator in force; before setup, the one OpenTelemetry has."""
    pipeline = _state.live()
    if pipeline is not None:
        return pipeline.propagator
    from opentelemetry import propagate

    return propagate.get_global_textmap()


def tracer_provider() -> "TracerProvider":
    """Give the tracer provider that follows the pipeline of the moment."""
    return _state.tracer_provider()


def meter_provider() -> "MeterProvider":
    """Give the meter provider that follows the pipeline of the moment."""
    return _state.meter_provider()


def logger_provider() -> "LoggerProvider":
    """Give the logger provider that follows the pipeline of the moment."""
    return _state.logger_provider()


def kept(key: str, make: "Callable[[], T]") -> "T":
    """Give a proxy that follows every pipeline; it is made once.

    Args:
        key: Names it.
        make: Makes it.
    """
    found: T | None = _state.kept.get(key)
    if found is not None:
        return found
    if len(_state.kept) >= _KEPT_LIMIT:  # names made at run time; start over
        _state.kept.clear()
    made: T = _state.kept.setdefault(key, make())
    return made


def tracer() -> "Tracer":
    """Give the tracer of our own spans."""
    return kept("tracer", lambda: tracer_provider().get_tracer(C.SCOPE_NAME))


def otel_logger() -> "Logger":
    """Give the logger of our own records."""
    return kept("logger", lambda: logger_provider().get_logger(C.SCOPE_NAME))
