"""The running system: the only process-global state of the package.

``setup`` installs global OTel providers once; everything behind them can be exchanged.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from weakref import WeakSet

from ._pipeline.background import BackgroundThread, defer_endings
from ._pipeline.measurements import Measurements
from ._pipeline.operations import OperationTotals
from .constants import DropReason, Signal
from .constants import FlextObservabilityConstants as C
from .host_hooks import EndOfProcess, HostHooks
from .locks import ForkSafeLock
from .own_log import ERROR, WARNING, say
from .report import FlextObservabilityStatus, no_ledgers, status_of

if TYPE_CHECKING:
    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer, TracerProvider

    from ._pipeline.outlets import Outlets
    from ._pipeline.pipeline import Extras, Pipeline
    from ._pipeline.uwsgi_forks import UwsgiForks
    from .settings import Settings

T = TypeVar("T")


class Surface(Protocol):
    """What a process shows of itself, beside the pipeline."""

    def apply(self, config: "Settings | None") -> None:
        """Serve what the settings say, ``None`` nothing; raise when that fails."""

    def awake(self, config: "Settings") -> None:
        """Begin in a forked child that has a pipeline of its own now."""

    def share(self, config: "Settings") -> None:
        """Join metrics with sibling processes, if the settings say so."""

    def resume(self) -> None:
        """Begin what had to wait until this process may have threads."""

    def shared(self) -> Any:
        """Give what joins them, ``None`` where nothing does."""

    def after_fork(self) -> None:
        """Let go, in a forked child, of what is the parent's."""


_KEPT_LIMIT = 10_000


class Follower(Protocol):
    """Keeps something that belongs to the pipeline of the moment."""

    def follow(self, pipeline: "Pipeline | None") -> None:
        """Take what belongs to that pipeline, or to none; never raises."""
        ...


class _State:
    """Everything that is one per process."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.pipeline: Pipeline | None = None
        self._key: tuple[Any, ...] | None = None
        self._hooks = HostHooks(self.logger_provider, self._secure)
        self._former_propagator: TextMapPropagator | None = None
        self._proxies: Any = None
        self.kept: dict[str, Any] = {}  # our own tracer, logger and histograms
        self._closed: Pipeline | None = None
        self._are_providers_installed = False
        # In a forked child: the parent's pipeline, and for good, because letting go
        # of its gRPC channel would touch threads that do not exist here.
        self._inherited: list[Pipeline] = []
        self.is_asleep = False
        self._is_awaking = False
        self._uwsgi_forks: UwsgiForks | None = None
        self._heritage: Pipeline | None = None
        """What another process recorded and this one is to send."""
        # The operations server, which stands above: the door puts it here.
        self.surface: Surface | None = None
        # Who shows all metrics; while there is one, pipelines have them at hand.
        self._viewers: WeakSet[Any] = WeakSet()
        self.has_mounted_app = False
        """Whether the program got an operations application, which shows records."""
        self._followers_lock = ForkSafeLock()
        self._followers: WeakSet[Follower] = WeakSet()

    # -- the providers OTel was given

    def proxies(self) -> Any:
        # No lock where it is made already: `setup` and `shutdown` hold it for seconds.
        if self._proxies is not None:
            return self._proxies
        with self.lock:
            if self._proxies is None:
                from ._pipeline.logger_proxies import LoggerProviderProxy
                from ._pipeline.meter_proxies import MeterProviderProxy
                from ._pipeline.tracer_proxies import TracerProviderProxy

                self._proxies = (
                    TracerProviderProxy(),
                    MeterProviderProxy(self.refuse_measurement),
                    LoggerProviderProxy(),
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

    def refuse_measurement(self) -> None:
        """Count a measurement that is no number its instrument can take."""
        pipeline = self.pipeline
        if pipeline is None:
            return
        ledger = pipeline.ledgers.get(Signal.METRICS)
        if ledger is not None:
            ledger.refuse(DropReason.UNENCODABLE, 1)
        pipeline.notices.error(
            "refused_measurement",
            "a measurement is no finite number, or negative where the instrument only "
            "grows; it is not counted",
        )

    # -- life

    def apply(self, config: "Settings", extras: "Extras") -> None:
        """Build the pipeline of these settings and put it in place of the old one.

        Raises:
            Exception: It came to nothing; what was in force still is.
        """
        from ._pipeline.providers import release_readers
        from .settings import InForce

        key = (repr(_comparable(config)), extras)
        if self.live() is not None and key == self._key:
            return
        former = self.pipeline
        if former is not None:
            known = former.extras.metric_readers
            release_readers([r for r in extras.metric_readers if r in known])
        self._expect_uwsgi_forks(config)
        pipeline: Pipeline | None = None
        try:
            self._show(config)  # first: a port in use leaves nothing behind
            pipeline = self._build(config, extras)
            if former is not None:
                pipeline.carry_on(former)
            pipeline.start(former)
            self._put_in_force(pipeline)
        except Exception:
            self._go_back(former, pipeline)
            self._restore_readers(former, extras)
            raise
        self._key = key
        InForce.settings = config
        if former is not None:
            _retire(former, pipeline)

    def _expect_uwsgi_forks(self, config: "Settings") -> None:
        if "uwsgi" in sys.modules and self._uwsgi_forks is None:
            from ._pipeline.uwsgi_forks import UwsgiForks

            serves = bool(
                config.server_port is not None
                or "prometheus" in config.exporters
                or config.push_gateway_url
            )
            self._uwsgi_forks = UwsgiForks.expected(
                self._begin_late,
                BackgroundThread("flext-heir", self._inherit).start,
                has_service=serves,
            )

    def _begin_late(self) -> None:
        """Start what had to wait until this process is not forked any more."""
        pipeline = self.pipeline
        if pipeline is None:
            return
        pipeline.start_threads()
        if self.surface is not None:
            self.surface.resume()

    def _build(
        self, config: "Settings", extras: "Extras", resource: "Resource | None" = None
    ) -> "Pipeline":
        from ._pipeline.process_globals import global_propagator
        from ._pipeline.providers import build_pipeline

        global_propagator()  # first: what is loaded later may import its module
        return build_pipeline(
            config,
            extras,
            resource,
            meter_provider=self.meter_provider(),
            before_collection=measurements.collect,
        )

    def _put_in_force(self, pipeline: "Pipeline") -> None:
        # Without an inner provider they do nothing, so they may stay if the rest fails.
        if not self._are_providers_installed:
            from ._pipeline.process_globals import install_providers

            install_providers(self.proxies())
            self._are_providers_installed = True
        self._exchange(pipeline)
        self._hooks.install(pipeline.config, pipeline.lines)
        _end.hook()

    def _go_back(self, former: "Pipeline | None", failed: "Pipeline | None") -> None:
        """Undo a setup that came to nothing; what was in force stays."""
        with suppress(Exception):
            if failed is not None and self.pipeline is failed:
                self._exchange(former)
                if former is None:
                    self._hooks.remove()
                else:
                    self._hooks.install(former.config, former.lines)
        with suppress(Exception):
            self._show(None if former is None else former.config)
        if failed is not None:
            failed.let_go(time.monotonic())

    def _restore_readers(self, former: "Pipeline | None", extras: "Extras") -> None:
        """Give the caller's readers back after a setup that came to nothing."""
        from ._pipeline.providers import release_readers

        release_readers(extras.metric_readers)
        if former is None or former.meter_provider is None:
            return
        for reader in former.extras.metric_readers:
            if reader in extras.metric_readers:
                former.meter_provider.add_metric_reader(reader)

    def _show(self, config: "Settings | None") -> None:
        if self.surface is not None:
            self.surface.apply(config)

    def open_page(self, viewer: object) -> None:
        """Have all metrics at hand, in this pipeline and in those that follow.

        Args:
            viewer: Who shows them; it counts while it lives.
        """
        self._viewers.add(viewer)
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline.open_page()

    def keep_recent(self) -> None:
        """Have the newest spans and log records at hand, in later pipelines too."""
        self.has_mounted_app = True
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline.recent.is_kept = True

    def _exchange(self, pipeline: "Pipeline | None") -> None:
        if pipeline is not None:
            is_served = pipeline.config.server_port is not None
            pipeline.recent.is_kept = is_served or self.has_mounted_app
            if self._viewers:
                pipeline.open_page()
        tracers, meters, loggers = self.proxies()
        self.pipeline = pipeline
        # Metrics first: an instrument may be used by what starts a span.
        provider = pipeline and pipeline.meter_provider
        measurements.pause()
        meters.exchange(provider)
        find = None
        if provider is not None:
            from ._pipeline.sdk_aggregations import Streams

            find = Streams.of
        measurements.resume(find)
        tracers.exchange(pipeline and pipeline.tracer_provider)
        loggers.exchange(pipeline and pipeline.logger_provider)
        self._tell_followers(pipeline)
        self._hooks.send_lines(None if pipeline is None else pipeline.lines)
        self._exchange_propagator(pipeline)

    def _tell_followers(self, pipeline: "Pipeline | None") -> None:
        with self._followers_lock:
            for follower in list(self._followers):
                follower.follow(pipeline)

    def add_follower(self, follower: "Follower") -> None:
        with self._followers_lock:
            self._followers.add(follower)
            follower.follow(self.pipeline)

    def _exchange_propagator(self, pipeline: "Pipeline | None") -> None:
        from ._pipeline.process_globals import exchange_propagator

        if pipeline is not None:
            former = exchange_propagator(pipeline.propagator)
            self._former_propagator = self._former_propagator or former
        elif self._former_propagator is not None:
            exchange_propagator(self._former_propagator)
            self._former_propagator = None

    def _secure(self) -> bool:
        """Bring records to safety before a signal ends the program."""
        pipeline = self.pipeline
        if pipeline is None:
            return True
        try:
            return pipeline.secure_or_flush(pipeline.config.exit_budget_s)
        except Exception:  # noqa: BLE001 - the signal must take its effect
            return True

    def exit(self, deadline: float) -> None:
        """Close the pipeline at the end of the program.

        It stays in place: what is emitted later, by exit handlers that run after ours
        and by finalizers, is counted there as dropped.
        """
        pipeline = self.pipeline
        if pipeline is not None:
            self._hooks.remove_bridge()
            with suppress(Exception):
                self._show(None)
            pipeline.close(deadline)
        self._close_heritage(deadline)

    def stop(self, deadline: float) -> str:
        """Close the pipeline and return to the state before setup.

        Returns:
            What was not delivered, for people; empty when all was.
        """
        pipeline = self.live()
        if pipeline is None:
            return ""
        self._hooks.remove()
        with suppress(Exception):
            self._show(None)
        pipeline.close(deadline)
        self._close_heritage(deadline)
        self._closed = pipeline
        self._exchange(None)
        self._key = None
        from .settings import InForce

        InForce.settings = None
        return pipeline.left()

    def last_status(self) -> FlextObservabilityStatus:
        pipeline = self.live()
        if pipeline is not None:
            return status_of(pipeline, running=pipeline.is_producing())
        if self._closed is not None:  # late records are still counted there
            return status_of(self._closed, running=False)
        return FlextObservabilityStatus(signals=no_ledgers())

    # -- fork

    def after_fork(self) -> None:
        """Start over in a forked child: the records queued here are the parent's."""
        self._closed = None
        self._is_awaking = False
        heritage, self._heritage = self._heritage, None
        if heritage is not None:
            heritage.abandon()
        former = self.pipeline
        forks = None if former is None else self._uwsgi_forks
        is_heir = forks is not None and forks.makes_heir()
        if is_heir:
            measurements.renew_locks()
            _operations.renew_lock()
        else:
            measurements.start_over()
            _operations.start_over()
        if self.surface is not None:
            with suppress(Exception):
                self.surface.after_fork()
        if former is None:
            return
        from ._pipeline.exchange import Awakening

        if is_heir:
            former.leave_page_to_parent()
            self._heritage = former
        else:
            # Spans that are open now end here, into locks that nobody may release.
            former.abandon()
        self._inherited.append(former)
        self.pipeline = None
        self.is_asleep = True
        self._hooks.send_lines(None)
        tracers, meters, loggers = self.proxies()
        for proxy in (meters, tracers, loggers):
            proxy.exchange(Awakening(partial(self._awakened, proxy)))
        self._tell_followers(None)

    def _inherit(self) -> None:
        """Send what a process recorded that will send nothing any more itself."""
        heritage = self._heritage
        if heritage is None:
            return
        self._awake()
        with suppress(Exception):
            if self.pipeline is not None:
                heritage.hand_over(self.pipeline)
            heritage.finish(lambda: self._heritage is not heritage)
        self._close_heritage(time.monotonic() + heritage.config.exit_budget_s)

    def _close_heritage(self, deadline: float) -> None:
        """Let go of what was inherited; once, by whoever comes first."""
        heritage, self._heritage = self._heritage, None
        if heritage is not None:
            with suppress(Exception):
                heritage.close(deadline, self.pipeline)

    def inherited(self) -> "Pipeline | None":
        """Give the parent's pipeline in a forked child that has none of its own yet."""
        return self._inherited[-1] if self.is_asleep else None

    def _awakened(self, proxy: Any) -> Any:
        self._awake()
        if proxy.inner is None:  # it came to nothing
            from ._pipeline.process_globals import idle_provider

            return idle_provider(proxy)
        return proxy.inner

    def _awake(self) -> None:
        """Build the child's own pipeline; other threads wait until it is there.

        Until then the child counts as asleep: who finds neither a pipeline nor that
        takes it for a program without telemetry.
        """
        with self.lock:
            if not self.is_asleep or self._is_awaking:  # used while it is being built
                return
            self._is_awaking = True
            parents = self._inherited[-1]
            try:
                self._start_like(parents)
            except Exception as error:  # noqa: BLE001 - whoever uses telemetry first is here
                self._exchange(None)
                self.is_asleep = False
                why = f"{type(error).__name__}: {error}"
                say(ERROR, "a forked child runs without telemetry: %s", why)
            else:
                self.is_asleep = False
                if self.surface is not None:
                    self.surface.awake(parents.config)
            finally:
                self._is_awaking = False

    def _start_like(self, parents: "Pipeline") -> None:
        from ._pipeline.providers import release_readers
        from ._pipeline.resource import is_instance_stated, renewed_resource

        release_readers(parents.extras.metric_readers)
        stated = is_instance_stated(parents.config)
        pipeline = self._build(
            parents.config,
            parents.extras,
            renewed_resource(parents.resource, is_instance_stated=stated),
        )
        # The page of metrics is the parent's: the child cannot have its port.
        pipeline.leave_page_to_parent()
        pipeline.carry_on(parents)
        pipeline.start()
        self._exchange(pipeline)


state = _State()
_operations = OperationTotals()
"""Counts of monitored calls in this process, with or without a pipeline."""

measurements = Measurements(_operations)
"""What was measured in this process and no reader has seen."""

start_over = state.after_fork  # the package's fork hook calls it


def _comparable(config: "Settings") -> dict[str, object]:
    """Give settings that can be compared, secrets included."""
    environment = {k: v for k, v in os.environ.items() if k.startswith("OTEL_")}
    return {**config.values(), "OTEL": environment}


def _retire(former: "Pipeline", successor: "Pipeline") -> None:
    """Close a pipeline that another one has replaced, whatever happens."""
    try:
        former.hand_over(successor)
        deadline = time.monotonic() + former.config.exit_budget_s
        former.close(deadline, successor)
    except Exception as error:  # noqa: BLE001 - the new one is in force all the same
        why = f"{type(error).__name__}: {error}"
        say(WARNING, "the former pipeline could not be closed: %s", why)


def _at_exit() -> None:
    """Bring out what is left, within the exit budget, whatever happens."""
    config = current_config()
    if config is None:
        return
    admit_endings = defer_endings()
    with suppress(Exception):  # the interpreter is leaving; nobody reads a traceback
        state.exit(time.monotonic() + config.exit_budget_s)
    admit_endings()


_end = EndOfProcess(_at_exit)


# -- for the verbs above this floor


def is_running() -> bool:
    """Whether a pipeline is there; cheap enough for every call."""
    return state.pipeline is not None or state.is_asleep


def current_config() -> "Settings | None":
    """Give the settings in force, ``None`` before setup."""
    pipeline = state.pipeline or state.inherited()
    return None if pipeline is None else pipeline.config


def outlets() -> "Outlets | None":
    """Give what is told beside OTLP, ``None`` before setup."""
    pipeline = state.live()
    return None if pipeline is None else pipeline.outlets


def current_propagator() -> "TextMapPropagator":
    """Give the propagator in force; before setup, the one OpenTelemetry has."""
    pipeline = state.live()
    if pipeline is not None:
        return pipeline.propagator
    from ._pipeline.process_globals import global_propagator

    return global_propagator()


def tracer_provider() -> "TracerProvider":
    """Give the tracer provider that follows the pipeline of the moment."""
    return state.tracer_provider()


def meter_provider() -> "MeterProvider":
    """Give the meter provider that follows the pipeline of the moment."""
    return state.meter_provider()


def logger_provider() -> "LoggerProvider":
    """Give the logger provider that follows the pipeline of the moment."""
    return state.logger_provider()


def operations() -> OperationTotals:
    """Give the totals of monitored calls, with every call that has ended."""
    measurements.read()
    return _operations


def follow(follower: Follower) -> None:
    """Let an object follow every pipeline, from the present one on, while it lives."""
    state.add_follower(follower)


def kept(key: str, make: "Callable[[], T]") -> "T":
    """Give a proxy that follows every pipeline; it is made once.

    Args:
        key: Names it.
        make: Makes it.
    """
    found: T | None = state.kept.get(key)
    if found is not None:
        return found
    if len(state.kept) >= _KEPT_LIMIT:  # names made at run time; start over
        state.kept.clear()
    made: T = state.kept.setdefault(key, make())
    return made


def tracer() -> "Tracer":
    """Give the tracer of our own spans."""
    return kept("tracer", lambda: tracer_provider().get_tracer(C.SCOPE_NAME))


def otel_logger() -> "Logger":
    """Give the logger of our own records."""
    return kept("logger", lambda: logger_provider().get_logger(C.SCOPE_NAME))
