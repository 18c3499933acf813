"""From settings to a pipeline: pure assembly, no process-global state."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

# Not used here. Its fork hook must be registered before those of the SDK's providers,
# which submit to a thread pool in the child and would wait for its lock for ever.
from concurrent.futures import thread as _thread_pools_first
from typing import Any, cast

from opentelemetry import metrics
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.metrics import CallbackOptions, CallbackT, Observation
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
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
from .durability import LedgerAccounts, open_spool
from .endpoint import endpoint_for, insecure_credentials_warning
from .exporter_routes import (
    WRITE_DELAY_S,
    open_route,
    positive,
    registered_exporter,
    stated_queues,
)
from .exporters import MemoryExporter
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
from .span_start import is_possible
from .tracing import PipelineTracerProvider, Tracing, root_bound

del _thread_pools_first


def build_pipeline(
    config: Settings,
    extras: Extras,
    resource: Resource | None = None,
    *,
    meter_provider: metrics.MeterProvider,
    before_collection: Callable[[], None],
) -> Pipeline:
    """Assemble a pipeline; nothing is connected yet and no thread runs.

    Args:
        config: The settings.
        extras: SDK parts of the caller.
        resource: Who sends; found out when not given.
        meter_provider: Where the SDK measures its own work, if it is told to. Left to
            itself it would install the provider that OTEL_PYTHON_METER_PROVIDER names.
        before_collection: Called whenever any reader begins to collect metrics.

    Raises:
        FlextObservabilityConfigurationError: A setting names what does not exist; the
            message is ``<field>: <reason>``.
    """
    pipeline = bare_pipeline(config, extras, resource)
    cleaner = pipeline.cleaner
    names = {
        signal: _checked_names(config.exporters_for(signal), signal)
        for signal in Signal
        if config.is_enabled(signal)
    }
    if any("memory" in chosen for chosen in names.values()):
        pipeline.memory = MemoryExporter(pipeline.cleaner)
    _prepare_spool(pipeline, [s for s, chosen in names.items() if "otlp" in chosen])
    if Signal.TRACES in names:
        pipeline.tracer_provider = _tracer_provider(
            pipeline, names[Signal.TRACES], meter_provider
        )
    if Signal.LOGS in names:
        pipeline.logger_provider = _logger_provider(
            pipeline, names[Signal.LOGS], meter_provider
        )
    headers = [v for e in pipeline.endpoints.values() for v in e.headers.values()]
    pipeline.outlets = make_outlets(config, cleaner, headers, pipeline.resource)
    if Signal.METRICS in names:  # last: it takes the caller's readers into its service
        pipeline.meter_provider = _meter_provider(
            pipeline, names[Signal.METRICS], before_collection
        )
    return pipeline


def bare_pipeline(
    config: Settings, extras: Extras, resource: Resource | None = None
) -> Pipeline:
    """Give a pipeline that makes no records and brings none anywhere.

    Args:
        config: The settings.
        extras: SDK parts of the caller.
        resource: Who sends; found out when not given.

    Raises:
        FlextObservabilityConfigurationError: As ``build_pipeline``.
    """
    notices = Notices()
    cleaner = Cleaner.of(config, extras.redact, notices.error)
    notices.hide((), cleaner.redactor.text)
    return Pipeline(
        config=config,
        extras=extras,
        resource=resource or build_resource(config, cleaner.redactor),
        notices=notices,
        propagator=_propagator(config),
        cleaner=cleaner,
    )


def add_deliveries(pipeline: Pipeline) -> None:
    """Have a bare pipeline send what others left of any signal, switched off or not.

    Raises:
        FlextObservabilityConfigurationError: As ``build_pipeline``.
    """
    _prepare_spool(pipeline, tuple(Signal))
    for signal in Signal:
        open_route(pipeline, signal, "otlp")


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
        stated_queues(),
    )
    pipeline.writer = Writer(pipeline.spool, WRITE_DELAY_S)


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


def _tracer_provider(
    pipeline: Pipeline, names: Sequence[str], meter_provider: metrics.MeterProvider
) -> TracerProvider:
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
        meter_provider=meter_provider,
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
    provider.admit = pipeline.add_span_processor
    return provider


def _span_queue(pipeline: Pipeline, name: str) -> SpanQueue:
    if name == "memory" and pipeline.memory is not None:
        queue = SpanQueue(pipeline.memory.put_span, _settled)
        ledger = pipeline.memory.ledgers[Signal.TRACES]
        pipeline.ledgers.setdefault(Signal.TRACES, ledger)
    else:
        route = open_route(pipeline, Signal.TRACES, name)
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


def _logger_provider(
    pipeline: Pipeline, names: Sequence[str], meter_provider: metrics.MeterProvider
) -> LoggerProvider:
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
        meter_provider=meter_provider,
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
            route = open_route(pipeline, Signal.LOGS, name)
            queue = LogQueue(route.put, route.flush)
            lines.put = route.put
        pipeline.log_queues.append(queue)
        provider.add_log_record_processor(queue)
    if not configurator and _are_lines_enough(pipeline, names, limits):
        lines.is_open = True
        provider.lines = lines
    provider.admit = pipeline.add_log_processor
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
            pipeline.prometheus_address = _prometheus_address(pipeline.config)
            pipeline.prometheus = pipeline.new_page()
            readers.append(pipeline.prometheus)
        else:
            readers.append(_metric_reader(pipeline, name))
    if pipeline.config.push_gateway_url:
        page = pipeline.prometheus
        if page is None:
            page = pipeline.new_page()
            readers.append(page)
        pipeline.outlets.pusher = make_pusher(
            pipeline.config, page, pipeline.resource, pipeline.outlets.notices
        )
    readers += pipeline.extras.metric_readers
    provider = MeterProvider(
        **_configurator("meter"),
        metric_readers=readers,
        resource=pipeline.resource,
        shutdown_on_exit=False,
        views=[*pipeline.extras.views, *_own_views(pipeline.config)],
        exemplar_filter=_exemplar_filter(),
    )

    def prepare(_: CallbackOptions) -> Iterable[Observation]:
        before_collection()
        if pipeline.spool is not None:
            pipeline.spool.note_observed()
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


_EXEMPLAR_FILTERS: Mapping[str, Callable[[], ExemplarFilter]] = {
    "trace_based": TraceBasedExemplarFilter,
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
}


def _exemplar_filter() -> ExemplarFilter:
    """Read OTEL_METRICS_EXEMPLAR_FILTER; for the SDK an empty one is no filter."""
    stated = os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip()
    make = _EXEMPLAR_FILTERS.get(stated.lower() or "trace_based")
    if make is None:
        message = (
            f"OTEL_METRICS_EXEMPLAR_FILTER: unknown filter {stated!r}. "
            f"Use {', '.join(_EXEMPLAR_FILTERS)}, or unset the variable."
        )
        raise FlextObservabilityConfigurationError(message)
    return make()


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


def _prometheus_address(config: Settings) -> tuple[str, int]:
    """Read where the metrics page is served, as the specification names it."""
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or "127.0.0.1"
    from ..access import check_reach

    check_reach("OTEL_EXPORTER_PROMETHEUS_HOST", host, config.server_token)
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
        registered = registered_exporter(Signal.METRICS, name)
        if issubclass(registered, MetricReader):
            return cast("MetricReader", registered())
    readers: list[MetricReader] = []
    route = open_route(
        pipeline,
        Signal.METRICS,
        name,
        size=count_points,
        poll=lambda: readers[0].collect(positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000)),
    )
    reader = MetricQueue(route.put, route.flush)
    readers.append(reader)
    return reader


def release_readers(readers: Sequence[MetricReader]) -> None:
    """Let the caller's readers be registered with another provider.

    The SDK keeps a process-wide set of registered readers, which a forked child
    inherits, and its public way out of it would shut the readers down.
    """
    registered: Any = getattr(MeterProvider, "_all_metric_readers", None)
    if registered is not None:
        for reader in readers:
            registered.discard(reader)
