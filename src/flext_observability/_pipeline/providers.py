"""From settings to a pipeline: pure assembly, no process-global state."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

# Not used here. Its fork hook must be registered before those of the SDK's providers,
# which submit to a thread pool in the child and would wait for its lock for ever.
from concurrent.futures import thread as _thread_pools_first
from typing import Any, cast

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.metrics import CallbackOptions, CallbackT, Observation
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace.propagation.tracecontext import (
    TraceContextTextMapPropagator,
)

from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from ..correlation import CleanBaggage
from ..errors import FlextObservabilityConfigurationError
from ..settings import Settings
from .cleaning import Cleaner
from .direct_route import DirectRoute
from .durability import LedgerAccounts, open_spool
from .endpoint import endpoint_for, insecure_credentials_warning
from .exporters import ConsoleDestination, MemoryExporter, SdkDestination
from .ids import OfferedIds
from .intake import Writer
from .ledger import Ledger, Notices, observe
from .log_lines import LineSink, WatchedLoggerProvider
from .occupancy import observe_occupancy
from .outlets import make_outlets, make_pusher
from .pipeline import Extras, Pipeline
from .processors import (
    ContextLogProcessor,
    ContextSpanProcessor,
    GuardedLogProcessor,
    GuardedSpanProcessor,
    LogQueue,
    MetricQueue,
    SpanQueue,
    count_points,
)
from .registry import named_by, registered
from .resource import build_resource
from .route import Bounds, Route
from .span_start import is_possible
from .spooled_route import SpooledRoute
from .tracing import PipelineTracerProvider, Tracing, root_bound
from .transport import make_transport

del _thread_pools_first

# A console is watched while it happens.
_CONSOLE_DELAY_S = 0.2
# The defaults of the SDK, 2048 and 512, lose a third of a burst of 20,000 records.
_QUEUE_RECORDS = 32_768
_BATCH_RECORDS = 2048
_DELAY_S = 1.0
_METRIC_COLLECTIONS = 64
# What a crash may take from `batch`: less than 512 records, less than 100 ms. Both are
# promises, so threads that finish records at the same moment get some room.
_WINDOW_RECORDS = 448
_WRITE_DELAY_S = 0.05


def build_pipeline(
    config: Settings,
    extras: Extras,
    resource: Resource | None = None,
    *,
    before_collection: Callable[[], None] = lambda: None,
) -> Pipeline:
    """Assemble a pipeline; nothing is connected yet and no thread runs.

    Args:
        config: The settings.
        extras: SDK parts of the caller.
        resource: Who sends; found out when not given.
        before_collection: Called whenever any reader begins to collect metrics.

    Raises:
        FlextObservabilityConfigurationError: A setting names what does not exist; the
            message is ``<field>: <reason>``.
    """
    notices = Notices()
    cleaner = Cleaner.of(config, extras.redact, notices.error)
    pipeline = Pipeline(
        config=config,
        extras=extras,
        resource=resource or build_resource(config, cleaner.redactor),
        notices=notices,
        propagator=_propagator(config),
        cleaner=cleaner,
    )
    names = {
        signal: _checked_names(config.exporters_for(signal), signal)
        for signal in Signal
        if config.is_enabled(signal)
    }
    if any("memory" in chosen for chosen in names.values()):
        pipeline.memory = MemoryExporter(pipeline.cleaner)
    _prepare_spool(pipeline, [s for s, chosen in names.items() if "otlp" in chosen])
    if Signal.TRACES in names:
        pipeline.tracer_provider = _tracer_provider(pipeline, names[Signal.TRACES])
    if Signal.LOGS in names:
        pipeline.logger_provider = _logger_provider(pipeline, names[Signal.LOGS])
    headers = [v for e in pipeline.endpoints.values() for v in e.headers.values()]
    pipeline.outlets = make_outlets(
        config, cleaner, headers, pipeline.resource, pipeline.notices
    )
    if Signal.METRICS in names:  # last: it takes the caller's readers into its service
        pipeline.meter_provider = _meter_provider(
            pipeline, names[Signal.METRICS], before_collection
        )
    return pipeline


def _prepare_spool(pipeline: Pipeline, signals: Sequence[Signal]) -> None:
    """Open what all signals share on their way to collectors."""
    if not signals:
        return
    for signal in signals:
        endpoint = endpoint_for(pipeline.config, signal)
        pipeline.endpoints[signal] = endpoint
        pipeline.otlp_ledgers[signal] = Ledger()
        warning = insecure_credentials_warning(endpoint)
        if warning:
            pipeline.notices.error("insecure_credentials", warning)
    pipeline.notices.hide(
        [v for e in pipeline.endpoints.values() for v in e.headers.values()],
        pipeline.cleaner.redactor.text,
    )
    accounts = LedgerAccounts(
        pipeline.otlp_ledgers, pipeline.notices, pipeline.records_arrived
    )
    pipeline.spool, pipeline.durability_reason = open_spool(
        pipeline.config,
        str(pipeline.resource.attributes.get("service.name", "")),
        [endpoint_for(pipeline.config, signal) for signal in Signal],
        accounts,
        _stated_queues(),
    )
    pipeline.writer = Writer(pipeline.spool, _WRITE_DELAY_S)


def _checked_names(names: Sequence[str], signal: Signal) -> list[str]:
    """Leave ``none`` out, and Prometheus where it does not apply."""
    kept = [name for name in names if name != "none"]
    if signal is not Signal.METRICS:
        kept = [name for name in kept if name != "prometheus"]
    return kept


# Those of the API need not be looked for in every installed package.
_STANDARD: Mapping[str, Callable[[], TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
}


def _propagator(config: Settings) -> TextMapPropagator:
    """Make the propagator of header formats by their ``OTEL_PROPAGATORS`` names."""
    origin = " (from OTEL_PROPAGATORS)" if config.is_from_otel("propagators") else ""
    found: list[TextMapPropagator] = []
    for name in dict.fromkeys(name.lower() for name in config.propagators):
        if name == "none":
            return CompositePropagator([])
        made = _STANDARD.get(name) or registered("opentelemetry_propagator", name)
        if made is None:
            message = (
                f"propagators: unknown propagator {name!r}{origin}. Use tracecontext, "
                f"baggage or none, or install opentelemetry-propagator-{name}."
            )
            raise FlextObservabilityConfigurationError(message)
        found.append(made())
    return CompositePropagator([*found, CleanBaggage()])


def _tracer_provider(pipeline: Pipeline, names: Sequence[str]) -> TracerProvider:
    config, extras = pipeline.config, pipeline.extras
    generator, configurator = _id_generator(), _configurator("tracer")
    limits = SpanLimits(
        max_span_attributes=_limit(config, "max_span_attributes"),
        max_events=_limit(config, "max_span_events"),
        max_links=_limit(config, "max_span_links"),
        max_event_attributes=_limit(config, "max_event_attributes"),
        max_link_attributes=_limit(config, "max_link_attributes"),
        max_attribute_length=_limit(config, "max_attribute_length"),
        max_span_attribute_length=_limit(config, "max_attribute_length"),
    )
    provider = PipelineTracerProvider(
        **configurator,
        sampler=_sampler(config, extras.sampler),
        resource=pipeline.resource,
        shutdown_on_exit=False,
        id_generator=OfferedIds(generator),
        span_limits=limits,
    )
    provider.add_span_processor(ContextSpanProcessor())
    guarded = [
        GuardedSpanProcessor(processor, pipeline.report)
        for processor in extras.span_processors
    ]
    queues = [_span_queue(pipeline, name) for name in names]
    for processor in (*guarded, *queues):
        provider.add_span_processor(processor)
    bound = root_bound(provider.sampler)
    if bound is not None and generator is None and not configurator and is_possible():
        takes = [queue.take for queue in queues]
        tracing = Tracing(pipeline.resource, limits, bound, takes)
        for processor in guarded:
            tracing.add(processor)
        provider.tracing = pipeline.tracing = tracing
    provider.guard = pipeline.care_for
    return provider


def _span_queue(pipeline: Pipeline, name: str) -> SpanQueue:
    if name == "memory" and pipeline.memory is not None:
        queue = SpanQueue(pipeline.memory.put_span, _settled)
        ledger = pipeline.memory.ledgers[Signal.TRACES]
        pipeline.ledgers.setdefault(Signal.TRACES, ledger)
    else:
        route = _route(pipeline, Signal.TRACES, name)
        queue = SpanQueue(route.put, route.flush)
    pipeline.span_queues[name] = queue
    return queue


def _settled(_: float) -> bool:
    """Flush memory, where everything has arrived already."""
    return True


def _limit(config: Settings, field_name: str) -> Any:
    """Give a limit only when one was stated: unset, the SDK reads its OTEL_* variable.

    The SDK knows ``None`` as "ask the environment, then the default".
    """
    return getattr(config, field_name) if config.is_stated(field_name) else None


def _sampler(config: Settings, sampler: Sampler | None) -> Sampler | None:
    """Choose the sampler; ``None`` lets the SDK read OTEL_TRACES_SAMPLER."""
    if sampler is not None:
        return sampler
    if config.is_stated("sample_ratio"):
        return ParentBasedTraceIdRatio(config.sample_ratio)
    return None


def _id_generator() -> IdGenerator | None:
    """Make the generator that OTEL_PYTHON_ID_GENERATOR names."""
    if os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip() in {"", "random"}:
        return None
    made = named_by(("OTEL_PYTHON_ID_GENERATOR",), "opentelemetry_id_generator")
    generator: IdGenerator = made()
    return generator


def _configurator(kind: str) -> dict[str, Any]:
    """Give the option for what OTEL_PYTHON_<KIND>_CONFIGURATOR names.

    Experimental in the SDK: the option is private, so it is passed only when asked for.
    """
    found = named_by(
        (f"OTEL_PYTHON_{kind.upper()}_CONFIGURATOR",),
        f"_opentelemetry_{kind}_configurator",
    )
    return {} if found is None else {f"_{kind}_configurator": found}


def _logger_provider(pipeline: Pipeline, names: Sequence[str]) -> LoggerProvider:
    configurator = _configurator("logger")
    limits = LogRecordLimits(
        max_attributes=_limit(pipeline.config, "max_log_attributes"),
        max_attribute_length=_limit(pipeline.config, "max_attribute_length"),
    )
    provider = WatchedLoggerProvider(
        **configurator,
        resource=pipeline.resource,
        shutdown_on_exit=False,
        log_record_limits=limits,
    )
    lines = LineSink(provider, limits.max_log_record_attributes)
    pipeline.lines = lines
    provider.add_log_record_processor(ContextLogProcessor())
    for processor in pipeline.extras.log_record_processors:
        guarded = GuardedLogProcessor(processor, pipeline.report)
        provider.add_log_record_processor(guarded)
    for name in names:
        if name == "memory" and pipeline.memory is not None:
            queue = LogQueue(pipeline.memory.put_log, _settled)
            pipeline.ledgers.setdefault(
                Signal.LOGS, pipeline.memory.ledgers[Signal.LOGS]
            )
        else:
            route = _route(pipeline, Signal.LOGS, name)
            queue = LogQueue(route.put, route.flush)
            lines.put = route.put
        pipeline.log_queues.append(queue)
        provider.add_log_record_processor(queue)
    if not configurator and _are_lines_enough(pipeline, names, limits):
        lines.is_open = True
        provider.lines = lines
    return provider


def _are_lines_enough(
    pipeline: Pipeline, names: Sequence[str], limits: LogRecordLimits
) -> bool:
    """Whether nobody but the encoder reads what the log bridge takes."""
    return (
        list(names) in ([], ["otlp"])
        and not pipeline.extras.log_record_processors
        and limits.max_log_record_attribute_length is None
        and not any(
            os.environ.get(name, "").strip().lower() == "true"
            for name in (
                "OTEL_SDK_DISABLED",
                "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
            )
        )
    )


def _meter_provider(
    pipeline: Pipeline, names: Sequence[str], before_collection: Callable[[], None]
) -> MeterProvider:
    readers: list[MetricReader] = []
    for name in names:
        if name == "memory" and pipeline.memory is not None:
            readers.append(pipeline.memory.reader)
        elif name == "prometheus":
            pipeline.prometheus_address = _prometheus_address()
            clean = pipeline.cleaner.metrics
            from .prometheus import PrometheusReader

            pipeline.prometheus = PrometheusReader(C.SCOPE_NAME, clean)
            readers.append(pipeline.prometheus)
        else:
            readers.append(_metric_reader(pipeline, name))
    if pipeline.config.push_gateway_url:
        page = pipeline.prometheus
        if page is None:
            from .prometheus import PrometheusReader

            page = PrometheusReader(C.SCOPE_NAME, pipeline.cleaner.metrics)
            readers.append(page)
        pipeline.outlets.pusher = make_pusher(
            pipeline.config, page, pipeline.resource, pipeline.notices
        )
    readers += pipeline.extras.metric_readers
    provider = MeterProvider(
        **_configurator("meter"),
        metric_readers=readers,
        resource=pipeline.resource,
        shutdown_on_exit=False,
        views=[*pipeline.extras.views, *_own_views(pipeline.config)],
    )

    def prepare(_: CallbackOptions) -> Iterable[Observation]:
        before_collection()
        return ()

    # The SDK asks all callbacks before it collects anything, for every reader, also
    # for those added later.
    callbacks: list[CallbackT] = [prepare]
    if pipeline.otlp_ledgers:  # on a console of one's own it would only be noise
        callbacks.append(lambda _: observe(pipeline.ledgers))
    provider.get_meter(C.SCOPE_NAME).create_observable_counter(
        C.METRIC_RECORDS,
        callbacks,
        unit="{record}",
        description="Telemetry records by signal and by what became of them.",
    )
    if pipeline.spool is not None:
        observe_occupancy(provider, pipeline.spool, pipeline.ledgers)
    return provider


def _own_views(config: Settings) -> list[View]:
    """Bounds of the duration histogram, when the caller asked for others."""
    if not config.is_stated("histogram_buckets_s"):
        return []  # the instrument advises its own
    return [
        View(
            instrument_name=C.METRIC_OPERATION_DURATION,
            aggregation=ExplicitBucketHistogramAggregation(config.histogram_buckets_s),
        )
    ]


def _prometheus_address() -> tuple[str, int]:
    """Read where the metrics page is served, as the specification names it."""
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or "127.0.0.1"
    port_text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
    try:
        return host, int(port_text) if port_text else C.PORT_PROMETHEUS_EXPORTER
    except ValueError:
        message = (
            f"OTEL_EXPORTER_PROMETHEUS_PORT: must be a port number, got {port_text!r}"
        )
        raise FlextObservabilityConfigurationError(message) from None


def _metric_reader(pipeline: Pipeline, name: str) -> MetricReader:
    """Make the reader that feeds a delivery, or the one a package registers."""
    if name not in {"otlp", "console"}:
        registered = _registered_exporter(Signal.METRICS, name)
        if issubclass(registered, MetricReader):
            return cast("MetricReader", registered())
    readers: list[MetricReader] = []
    route = _route(
        pipeline,
        Signal.METRICS,
        name,
        size=count_points,
        poll=lambda: readers[0].collect(_collect_timeout_ms()),
    )
    reader = MetricQueue(route.put, route.flush)
    readers.append(reader)
    return reader


def _collect_timeout_ms() -> float:
    return float(_positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000))


def _route(
    pipeline: Pipeline,
    signal: Signal,
    name: str,
    *,
    size: Callable[[Any], int] | None = None,
    poll: Callable[[], None] | None = None,
) -> Route:
    clean = _cleaner(pipeline, signal)
    if name == "otlp" and pipeline.writer is not None:
        endpoint = pipeline.endpoints[signal]
        route: Route = SpooledRoute[Any](
            signal,
            make_transport(endpoint),
            pipeline.writer,
            _spooled_bounds(pipeline, signal, endpoint.timeout_s),
            pipeline.notices,
            ledger=pipeline.otlp_ledgers[signal],
            clean=clean,
            size=size,
            poll=poll,
        )
    else:
        is_console = name == "console"
        destination: Any = (
            ConsoleDestination(signal)
            if is_console
            else SdkDestination(signal, name, _registered_exporter(signal, name)())
        )
        bounds = _bounds(pipeline.config, signal, 30.0, is_console=is_console)
        route = DirectRoute[Any](
            signal,
            destination,
            bounds,
            pipeline.notices,
            clean=clean,
            size=size or _one,
            poll=poll,
        )
    pipeline.routes.append(route)
    pipeline.ledgers.setdefault(signal, route.ledger)
    return route


def _one(_: object) -> int:
    return 1


def _cleaner(
    pipeline: Pipeline, signal: Signal
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    clean, lines = pipeline.cleaner.of_signal(signal), pipeline.lines
    if signal is Signal.LOGS and lines is not None:
        return lambda batch: clean(lines.read(batch))
    return clean


def _spooled_bounds(pipeline: Pipeline, signal: Signal, timeout_s: float) -> Bounds:
    """Add how soon records are written, which the durability decides."""
    bounds = _bounds(pipeline.config, signal, timeout_s, is_console=False)
    durability = pipeline.spool.durability if pipeline.spool else "memory"
    bounds = bounds._replace(
        write_records=bounds.batch_records,
        hurry_records=bounds.batch_records,
        write_delay_s=_WRITE_DELAY_S,
    )
    if durability == "memory":
        return bounds
    # A short queue is written out before it is full.
    window = min(_WINDOW_RECORDS, max(1, bounds.queue_records // 2))
    return bounds._replace(
        # Two writes per window: a caller at its end waits for one of them only.
        write_records=max(1, min(window // 2, bounds.batch_records)),
        hurry_records=max(1, window // 2),
        window_records=1 if durability == "record" else window,
    )


def _registered_exporter(signal: Signal, name: str) -> Any:
    """Find an exporter that another package registers for ``OTEL_*_EXPORTER``."""
    found = registered(f"opentelemetry_{signal.value}_exporter", name)
    if found is None:
        message = (
            f"exporters: unknown exporter {name!r} for {signal.value}. Use any of "
            f"{', '.join(C.EXPORTERS)}, or install the package that offers it "
            f"(usually opentelemetry-exporter-{name})."
        )
        raise FlextObservabilityConfigurationError(message)
    return found


def _bounds(
    config: Settings,
    signal: Signal,
    timeout_s: float,
    *,
    is_console: bool,
) -> Bounds:
    if signal is Signal.METRICS:
        # The SDK takes an infinite interval for "never"; a year is close enough.
        delay_s = min(config.metrics_export_interval_s, 365 * 86_400.0)
        return Bounds(_METRIC_COLLECTIONS, 1, delay_s, timeout_s)
    prefix = "OTEL_BSP" if signal is Signal.TRACES else "OTEL_BLRP"
    default_ms = int((_CONSOLE_DELAY_S if is_console else _DELAY_S) * 1000)
    queue = _positive(f"{prefix}_MAX_QUEUE_SIZE", _QUEUE_RECORDS)
    batch = _positive(f"{prefix}_MAX_EXPORT_BATCH_SIZE", _BATCH_RECORDS)
    delay_ms = _positive(f"{prefix}_SCHEDULE_DELAY", default_ms)
    return Bounds(queue, min(batch, queue), delay_ms / 1000, timeout_s)


def _stated_queues() -> dict[Signal, int]:
    """Read how many records may wait in memory, where a variable says so."""
    sizes = {
        Signal.TRACES: _positive("OTEL_BSP_MAX_QUEUE_SIZE", 0),
        Signal.LOGS: _positive("OTEL_BLRP_MAX_QUEUE_SIZE", 0),
    }
    return {signal: size for signal, size in sizes.items() if size}


def _positive(variable: str, default: int) -> int:
    """Read a whole number above 0; as in the SDK, anything else is the default."""
    try:
        value = int(os.environ.get(variable, default))
    except ValueError:
        return default
    return value if value > 0 else default


def release_readers(readers: Sequence[MetricReader]) -> None:
    """Let the caller's readers be registered with another provider.

    The SDK keeps a process-wide set of registered readers, which a forked child
    inherits, and its public way out of it would shut the readers down.
    """
    registered: Any = getattr(MeterProvider, "_all_metric_readers", None)
    if registered is not None:
        for reader in readers:
            registered.discard(reader)


def renewed_resource(resource: Resource, *, is_instance_stated: bool) -> Resource:
    """Describe a forked child: another process, another instance unless stated."""
    from uuid import uuid4

    renewed: dict[str, str | int] = {"process.pid": os.getpid()}
    if not is_instance_stated:
        renewed["service.instance.id"] = str(uuid4())
    return resource.merge(Resource(dict(renewed)))
