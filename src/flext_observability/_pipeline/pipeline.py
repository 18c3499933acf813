"""The running parts that belong to one set of settings, and their life."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

from ..constants import DropReason, Signal
from ..constants import FlextObservabilityConstants as C
from ..errors import FlextObservabilityConfigurationError
from ..settings import Settings
from .background import may_start
from .cleaning import Cleaner
from .exporters import MemoryExporter
from .intake import Writer
from .ledger import Ledger, Notices, SignalLedger
from .log_lines import LineSink
from .outlets import Outlets
from .processors import (
    GuardedLogProcessor,
    GuardedSpanProcessor,
    LogQueue,
    SpanQueue,
)
from .recent_records import RecentRecords
from .spool import Spool
from .spooled_route import SpooledRoute
from .tracing import Tracing

if TYPE_CHECKING:  # loaded where there is such a page
    from .endpoint import Endpoint
    from .prometheus import PrometheusReader
    from .route import Route

# How long a close waits for the ends of all threads.
_JOIN_S = 0.1
# How long one that is finished waits before it asks again whether to go on.
_FINISHING_STEP_S = 1.0


class Extras(NamedTuple):
    """SDK parts that the caller plugs in beside ours."""

    sampler: Sampler | None = None
    views: Sequence[View] = ()
    span_processors: Sequence[SpanProcessor] = ()
    log_record_processors: Sequence[LogRecordProcessor] = ()
    metric_readers: Sequence[MetricReader] = ()
    redact: Callable[[str, object], object] | None = None


class Pipeline:
    """The running parts that belong to one set of settings."""

    tracer_provider: TracerProvider | None = None
    tracing: Tracing | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    spool: Spool | None = None
    writer: Writer | None = None
    durability_reason: str | None = None
    lines: LineSink | None = None
    memory: MemoryExporter | None = None
    prometheus: "PrometheusReader | None" = None
    prometheus_address: tuple[str, int] = ("127.0.0.1", C.PORT_PROMETHEUS_EXPORTER)
    page: "PrometheusReader | None" = None

    def __init__(
        self,
        config: Settings,
        extras: Extras,
        resource: Resource,
        notices: Notices,
        propagator: TextMapPropagator,
        cleaner: Cleaner,
    ) -> None:
        """Begin without any of the running parts; ``providers`` adds them.

        Args:
            config: The settings.
            extras: What the caller plugs in.
            resource: Who sends.
            notices: Where trouble is said.
            propagator: Of the headers that travel.
            cleaner: Makes records legal and takes secrets out.
        """
        self.config = config
        self.extras = extras
        self.resource = resource
        self.notices = notices
        self.propagator = propagator
        self.cleaner = cleaner
        self.routes: list[Route] = []
        self.otlp_ledgers: dict[Signal, Ledger] = {}
        self.log_queues: list[LogQueue] = []
        self.span_queues: dict[str, SpanQueue] = {}
        self.ledgers: dict[Signal, Ledger] = {}
        self.endpoints: dict[Signal, Endpoint] = {}
        self.late_span_processors: tuple[SpanProcessor, ...] = ()
        self.late_log_processors: tuple[LogRecordProcessor, ...] = ()
        """Of the caller, added to the providers after setup."""
        self.outlets = Outlets(Notices())
        self.recent = RecentRecords()
        self._foreign_thread = ForeignThread()

    def start(self, former: "Pipeline | None" = None) -> None:
        """Start what does not wait for a record: metrics page and metric deliveries.

        Args:
            former: The pipeline this one replaces; it gives up its metrics page.

        Raises:
            FlextObservabilityConfigurationError: The metrics page's port is taken.
        """
        if self.prometheus is not None:
            address = former.prometheus_address if former is not None else None
            if former is not None and address == self.prometheus_address:
                former.stop_serving()  # at another address it stays until we have ours
            self._serve(self.prometheus)
        elif self.config.server_port is not None:  # the operations server has one too
            self.outlets.serving(self.config.server_host, self.config.server_port)
        self.start_threads()

    def start_threads(self) -> None:
        """Start the threads that there is something to do for."""
        self.outlets.start()
        if self.foreign_parts():
            self._foreign_thread.start()
        has_orphans = self.spool is not None and self.spool.has_orphans()
        for route in self.routes:
            is_due = has_orphans or route.ledger.snapshot().pending
            if is_due or route.signal is Signal.METRICS:
                route.start()

    def open_page(self) -> None:
        """Have all metrics at hand for whoever shows them; they are kept from now on.

        Each reader costs every measurement a little, so there is none unless asked for.
        """
        if self.page is not None or self.meter_provider is None:
            return
        self.page = self.prometheus
        if self.page is None:
            self.page = self.new_page()
            self.meter_provider.add_metric_reader(self.page)

    def new_page(self) -> "PrometheusReader":
        """Make a reader of all metrics; a meter provider must be given it."""
        from .prometheus import PrometheusReader

        return PrometheusReader(self.resource, C.SCOPE_NAME, self.cleaner.metrics)

    def stop_serving(self) -> None:
        """Free the port of the metrics page."""
        self.outlets.stop_serving()
        if self.prometheus is not None:
            self.prometheus.shutdown()

    def _serve(self, reader: "PrometheusReader") -> None:
        host, port = self.prometheus_address
        config = self.config
        from ..access import AccessRules

        rules = AccessRules.at(host, config.server_token, config.server_allowed_hosts)
        try:
            self.outlets.serving(host, reader.serve(host, port, rules))
        except OSError as error:
            message = (
                f"exporters: prometheus: {error}. Free the port or set "
                "OTEL_EXPORTER_PROMETHEUS_PORT to another one."
            )
            raise FlextObservabilityConfigurationError(message) from error

    def flush(self, deadline: float) -> dict[Signal, int]:
        """Send what was recorded so far.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Records per signal that are still pending then, 0 where a collection goes
            on; empty when all is done.
        """
        # All at once, and first: what comes after it may take the whole time.
        self.secure(deadline)
        for route in self.routes:
            route.hurry()
        left = dict.fromkeys(self._collect(deadline), 0)
        self._run_foreign(deadline, [p.force_flush for p in self._processors()])
        for route in self.routes:
            if not route.flush(deadline):
                pending = route.ledger.snapshot().pending
                left[route.signal] = left.get(route.signal, 0) + pending
        return left

    def secure(self, deadline: float) -> bool:
        """Bring what is queued to where a crash cannot reach it.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Whether all of it is there.
        """
        done = [route.secure(deadline) for route in self.routes]
        return all(done)

    def secure_or_flush(self, timeout_s: float) -> bool:
        """Bring what is queued to disk; where there is none, to its destination.

        Returns:
            Whether there is nothing to gain by trying again.
        """
        if self.spool is not None and self.spool.durability != "memory":
            return self.secure(time.monotonic() + timeout_s)
        self.flush(time.monotonic() + timeout_s)
        return True

    def close(self, deadline: float, successor: "Pipeline | None" = None) -> None:
        """Send what was recorded so far, give up the rest at the deadline, let go.

        Args:
            deadline: On the monotonic clock, seconds.
            successor: The next pipeline; parts of the caller that it has live on.
        """
        kept = successor.foreign_parts() if successor else ()
        self.outlets.begin_close(deadline)
        self.secure(deadline)
        for route in self.routes:
            route.hurry()
        self._collect(deadline)
        foreign = [p for p in self._processors() if p not in kept]
        calls = [processor.shutdown for processor in foreign]
        self._run_foreign(deadline, [*calls, lambda: self._release_readers(kept)])
        self.let_go(deadline)
        self._say_what_is_left()

    def finish(self, is_over: Callable[[], bool]) -> None:
        """Send what is here, however long that takes; nothing is added any more.

        Args:
            is_over: Whether to stop waiting for that.
        """
        deadline = time.monotonic() + self.config.exit_budget_s
        self._collect(deadline)
        self.secure(deadline)
        for route in self.routes:
            if route.signal is not Signal.METRICS:  # they are collected
                route.start()
            route.hurry()
        for route in self.routes:
            while not is_over() and not route.ledger.wait_settled(
                time.monotonic() + _FINISHING_STEP_S
            ):
                pass

    def let_go(self, deadline: float) -> None:
        """Let go of all that is ours; nothing more is collected for it.

        Args:
            deadline: On the monotonic clock, seconds; what is queued is sent until it.
        """
        self._foreign_thread.stop()
        for route in self.routes:
            route.drain_until(deadline)
        for route in self.routes:
            route.close(deadline)
        self.outlets.close(deadline)
        if self.writer is not None:
            self.writer.stop()
        self._join(time.monotonic() + _JOIN_S)
        if self.spool is not None:
            self.spool.close()
        # Not taken from its provider, which is over, too: that would wait for whatever
        # a collection under way waits for.
        self.page = None
        self.stop_serving()

    def _join(self, deadline: float) -> None:
        """Wait a moment for our threads, so that few outlive the pipeline."""
        for part in (self.writer, *self.routes):
            if part is not None:
                part.join(max(0.0, deadline - time.monotonic()))
        self.outlets.join(deadline)

    def hand_over(self, successor: "Pipeline") -> None:
        """Let spans that are still open end in another pipeline."""
        waiting = dict(successor.span_queues)
        for name, queue in self.span_queues.items():
            taker = waiting.pop(name, None)
            if taker is None and name not in successor.span_queues and waiting:
                taker = waiting.pop(next(iter(waiting)))
            # By what it does then: there may be a third pipeline by that time.
            queue.redirect(taker.hand_on if taker else _discard)
        if self.tracing is not None:
            queues = [queue.hand_on for queue in self.span_queues.values()]
            self.tracing.redirect(queues, successor.span_processors)
        successor.outlets.take_over(self.outlets)

    def report(self, processor: object, error: Exception) -> None:
        """Say that a processor of the caller raised."""
        name = type(processor).__name__
        self.notices.error(
            f"processor_{name}",
            f"the processor {name} raised {type(error).__name__}: {error}; "
            "telemetry goes on without it",
        )

    def abandon(self) -> None:
        """Take no more records: in a forked child, all of this is the parent's."""
        for spans in self.span_queues.values():
            spans.redirect(_discard)
        if self.tracing is not None:
            self.tracing.redirect([])
        if self.lines is not None:
            self.lines.is_open = False
        for logs in self.log_queues:
            logs.redirect(_discard)
        if self.spool is not None:
            self.spool.abandon()
        self.outlets.abandon()

    def leave_page_to_parent(self) -> None:
        """Serve and push no metrics page: in a forked child it is the parent's."""
        self.prometheus = None
        self.outlets.leave_page_to_parent()

    def _collect(self, deadline: float) -> list[Signal]:
        """Collect what is polled; give the signals whose collection goes on."""
        return [r.signal for r in self.routes if not r.collect(deadline)]

    @property
    def span_processors(self) -> tuple[SpanProcessor, ...]:
        """Of the caller: given to setup, and added to the provider since."""
        return (*self.extras.span_processors, *self.late_span_processors)

    @property
    def log_processors(self) -> tuple[LogRecordProcessor, ...]:
        """Of the caller: given to setup, and added to the provider since."""
        return (*self.extras.log_record_processors, *self.late_log_processors)

    def add_span_processor(self, processor: SpanProcessor) -> SpanProcessor | None:
        """Care for a processor that comes after setup as for those given to it.

        Returns:
            It, guarded; ``None`` when it is there already.
        """
        if any(processor is known for known in self.span_processors):
            return None
        self.late_span_processors = (*self.late_span_processors, processor)
        self._foreign_thread.start()
        return GuardedSpanProcessor(processor, self.report)

    def add_log_processor(
        self, processor: LogRecordProcessor
    ) -> LogRecordProcessor | None:
        """Do for log records what :meth:`add_span_processor` does for spans."""
        if any(processor is known for known in self.log_processors):
            return None
        self.late_log_processors = (*self.late_log_processors, processor)
        self._foreign_thread.start()
        return GuardedLogProcessor(processor, self.report)

    def carry_on(self, former: "Pipeline") -> None:
        """Take the processors that were added to the providers of another pipeline.

        Where their signal is switched off now they are kept for the next one.
        """
        for spans in former.late_span_processors:
            if self.tracer_provider is None:
                self.add_span_processor(spans)
            else:
                self.tracer_provider.add_span_processor(spans)
        for logs in former.late_log_processors:
            if self.logger_provider is None:
                self.add_log_processor(logs)
            else:
                self.logger_provider.add_log_record_processor(logs)

    def foreign_parts(self) -> tuple[object, ...]:
        """Give everything of the caller that has a life of its own."""
        return (*self._processors(), *self.extras.metric_readers)

    def _processors(self) -> tuple[SpanProcessor | LogRecordProcessor, ...]:
        return (*self.span_processors, *self.log_processors)

    def _run_foreign(self, deadline: float, calls: Sequence[Callable[[], Any]]) -> None:
        if self.foreign_parts():
            self._foreign_thread.run(calls, deadline)

    def _release_readers(self, kept: Sequence[object]) -> None:
        """Unregister readers, so that a later setup may be given the same objects."""
        if self.meter_provider is None:
            return
        for reader in self.extras.metric_readers:
            if reader in kept:
                continue
            with suppress(Exception):  # shut down by the caller already
                reader.collect()
            with suppress(Exception):
                self.meter_provider.remove_metric_reader(reader)

    def _say_what_is_left(self) -> None:
        left = self.left()
        if not left:
            return
        counts = {s: ledger.snapshot() for s, ledger in self.ledgers.items()}
        why = self.why_undelivered(
            [s for s, c in counts.items() if c.pending or _lost(c)]
        )
        self.notices.error("exit", f"{left} ({why})" if why else left)

    def why_undelivered(self, signals: Collection[Signal]) -> str:
        """Say what keeps records of these signals here; empty when nothing is known."""
        found: dict[str, str] = {}
        for route in self.routes:
            # The others export what is counted there as well.
            if route.signal in signals and route.ledger is self.ledgers[route.signal]:
                name = route.signal.value
                for problem in route.problems:
                    told = problem.removeprefix(f"{name}: ")
                    # Most often it is one trouble with the collector of them all.
                    found.setdefault(told.replace(f"/v1/{name}", ""), told)
        return "; ".join(found.values())

    def left(self) -> str:
        """Say what was not delivered when it closed; empty when all was."""
        counts = {s.value: ledger.snapshot() for s, ledger in self.ledgers.items()}
        lost = {s: _lost(c) for s, c in counts.items()}
        kept = {s: c.pending for s, c in counts.items()}
        parts: list[str] = []
        if any(lost.values()):
            parts.append(f"gave up undelivered telemetry: {_told(lost)}")
        if any(kept.values()) and self.spool is not None:
            parts.append(
                f"not delivered yet: {_told(kept)}; the next process of this service "
                f"sends what waits in {self.spool.directory}"
            )
        return "; ".join(parts)

    def records_arrived(self, signal: Signal, count: int) -> None:
        """Have records delivered that the spool adopted."""
        for route in self.routes:
            if isinstance(route, SpooledRoute) and route.signal is signal:
                route.notify(count)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people; empty when all is well."""
        found = [problem for route in self.routes for problem in route.problems]
        for route in self.routes:
            drops = route.ledger.problem
            found += [f"{route.signal.value}: {drops}"] if drops else []
        if self.spool is not None:
            found += self.spool.problems
        found += self.outlets.problems
        return tuple(dict.fromkeys(found))

    def is_producing(self) -> bool:
        """Whether any signal is switched on."""
        return any((self.tracer_provider, self.meter_provider, self.logger_provider))

    def snapshot(self) -> dict[str, SignalLedger]:
        """Give the ledger of every signal: that of its first exporter."""
        return {
            signal.value: self.ledgers[signal].snapshot()
            if signal in self.ledgers
            else SignalLedger()
            for signal in Signal
        }


_Calls = tuple[Sequence[Callable[[], Any]], threading.Event]


class ForeignThread:
    """Runs calls into the caller's parts, which may ignore any timeout.

    The thread is started early: while the interpreter exits, none can be.
    """

    def __init__(self) -> None:
        # Calls and who waits for them; `None` ends the thread.
        self._work: SimpleQueue[_Calls | None] = SimpleQueue()
        self._is_started = False

    def start(self) -> None:
        """Start the thread unless it runs, or cannot or may not be had."""
        if self._is_started or not may_start():
            return
        with suppress(RuntimeError):
            threading.Thread(
                target=self._loop, name="flext-foreign", daemon=True
            ).start()
            self._is_started = True

    def run(self, calls: Sequence[Callable[[], Any]], deadline: float) -> None:
        """Run calls one after the other; stop waiting at the deadline."""
        if not calls:
            return
        self.start()
        if not self._is_started:
            _run_all(calls)
            return
        done = threading.Event()
        self._work.put((calls, done))
        done.wait(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Let the thread end once it has nothing to do."""
        if self._is_started:
            self._work.put(None)

    def _loop(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            calls, done = work
            _run_all(calls)
            done.set()


def _run_all(calls: Sequence[Callable[[], Any]]) -> None:
    for call in calls:
        with suppress(Exception):  # one broken part must not stop the others
            call()


def _lost(counts: SignalLedger) -> int:
    return counts.dropped.get(DropReason.EXIT.value, 0)


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {signal}" for signal, count in counts.items() if count)


def _discard(_: object) -> None:
    """Take a span for an exporter that the new settings do not have."""
