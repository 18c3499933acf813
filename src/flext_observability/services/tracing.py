"""The tracing service: traces by id, and what became of them."""

import time
from collections.abc import Mapping
from typing import Any, overload

from .._pipeline.values import clean_text
from ..container import FlextContainer
from ..locks import ForkSafeLock
from ..result import FlextResult
from ..store import Shelf
from ..trace_life import DROPPED
from ..traceparent import read_trace_id
from ..traces import FlextTrace, created_traces
from .membership import container_or_global, enrol, shelf_of
from .outcome import made, never_raises, newest_limit, word_asked


class TraceTotals:
    """What the traces of one container came to; thread-safe.

    A finalizer may tell of an end at any moment, so the lock lets its holder in again.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._since = time.monotonic()
        self._active: dict[str, None] = {}
        self._ended = {"completed": 0, "failed": 0, DROPPED: 0}
        self._duration_s = 0.0
        self.started = 0

    def begun(self, entity_id: str) -> None:
        """Count a trace that runs."""
        with self._lock:
            self.started += 1
            self._active[entity_id] = None

    def ended(self, entity_id: str, status: str, duration_s: float) -> None:
        """Count its end."""
        with self._lock:
            self._active.pop(entity_id, None)
            self._ended[status] += 1
            if status != DROPPED:
                self._duration_s += duration_s

    def summary(self) -> dict[str, Any]:
        """Give the figures of the tracing summary."""
        with self._lock:
            completed, failed = self._ended["completed"], self._ended["failed"]
            judged = completed + failed
            return {
                "service_info": {
                    "uptime_seconds": time.monotonic() - self._since,
                    "traces_started": self.started,
                    "traces_completed": completed,
                    "traces_failed": failed,
                    "active_traces": len(self._active),
                },
                "active_traces": list(self._active),
                "performance_metrics": {
                    "completion_rate": completed / self.started
                    if self.started
                    else 0.0,
                    "avg_duration_seconds": self._duration_s / judged
                    if judged
                    else 0.0,
                },
            }


def trace_totals(container: FlextContainer) -> TraceTotals:
    """Give what counts the traces of a container."""
    return container.store().part("trace totals", TraceTotals)


class FlextTracingService:
    """Starts and ends traces, and keeps them by id."""

    def __init__(self, container: FlextContainer | None = None) -> None:
        """Make the service; all on one container share one store.

        Args:
            container: The process-wide one when not given.
        """
        self.container = container_or_global(container)
        self._totals = trace_totals(self.container)
        enrol(self.container, "tracing_service", self)

    @property
    def _traces_store(self) -> Shelf[FlextTrace]:
        return shelf_of(self.container, "traces")

    # -- starting and ending

    @overload
    def start_trace(self, trace: FlextTrace, /) -> FlextResult[FlextTrace]: ...

    @overload
    def start_trace(
        self,
        name: str,
        service_name: str | None = None,
        context: Mapping[str, object] | None = None,
        parent_trace_id: str | None = None,
    ) -> FlextResult[str]: ...

    @never_raises
    def start_trace(self, *args: Any, **kwargs: Any) -> FlextResult[Any]:
        """Start the span of a trace unless it runs, and keep the trace.

        Args:
            *args: A ``FlextTrace``; or its operation name, service name, context and
                parent trace id.
            **kwargs: The same by name: ``trace``, or ``name``, ``service_name``,
                ``context``, ``parent_trace_id``.

        Returns:
            The entity; or, when it was made here, its id.
        """
        given = kwargs.get("trace") if not args else args[0]
        if isinstance(given, FlextTrace):
            return self._start(given)
        return self._start_named(*args, **kwargs)

    def _start_named(
        self,
        name: str = "",
        service_name: str | None = None,
        context: Mapping[str, object] | None = None,
        parent_trace_id: str | None = None,
        *more: object,
        **named: object,
    ) -> FlextResult[str]:
        if more or named:
            unknown = ", ".join([*map(clean_text, more), *sorted(named)])
            message = f"Trace validation failed: unknown argument: {unknown}"
            return FlextResult[str].fail(message)
        optional = {
            "service_name": service_name,
            "context": context,
            "parent_trace_id": parent_trace_id,
        }
        fields = {key: value for key, value in optional.items() if value is not None}
        new = made(FlextTrace, {"operation_name": name, **fields})
        if new.is_failure:
            message = f"Trace validation failed: {new.error}"
            return FlextResult[str].fail(message, exception=new.exception)
        return self._start(new.data).map(lambda trace: trace.id)

    def _start(self, trace: FlextTrace) -> FlextResult[FlextTrace]:
        checked = trace.validate_business_rules()
        if checked.is_failure:
            message = f"Trace validation failed: {checked.error}"
            return FlextResult[FlextTrace].fail(message)
        if trace.is_over():
            return FlextResult[FlextTrace].fail("Trace already ended")
        trace.begin()
        self._keep(trace)
        return FlextResult[FlextTrace].ok(trace)

    def _keep(self, trace: FlextTrace) -> None:
        trace.life().join(self._totals, trace.id)
        for gone in self._traces_store.add(trace):
            gone.drop()

    @never_raises
    def complete_trace(self, trace_or_id: FlextTrace | str) -> FlextResult[FlextTrace]:
        """End a trace well.

        Args:
            trace_or_id: The entity, its ``id``, or a trace id, which means the oldest
                running one of that trace.
        """
        return self._started(trace_or_id).flat_map(self._keeping).flat_map(_complete)

    @never_raises
    def error_trace(
        self, trace: FlextTrace | str, error: str | BaseException
    ) -> FlextResult[FlextTrace]:
        """End a trace badly.

        Args:
            trace: As for :meth:`complete_trace`.
            error: The text for the span's description; of an exception it is its
                text, and the exception is recorded as an event.
        """
        found = self._started(trace).flat_map(self._keeping)
        return found.flat_map(lambda entity: entity.fail(error))

    def _keeping(self, trace: FlextTrace) -> FlextResult[FlextTrace]:
        """Take in a trace that a creation function started, before it ends."""
        if trace.is_over():
            return FlextResult[FlextTrace].fail("Trace already ended")
        if trace.id not in self._traces_store:
            self._keep(trace)
        return FlextResult[FlextTrace].ok(trace)

    # -- finding

    def _started(self, trace: object) -> FlextResult[FlextTrace]:
        if isinstance(trace, FlextTrace):
            if trace.life().done:
                return FlextResult[FlextTrace].ok(trace)
            return self._find(trace.id)
        return self._find(trace)

    def _find(self, wanted: object) -> FlextResult[FlextTrace]:
        found: FlextTrace | None = None
        if isinstance(wanted, str):
            if read_trace_id(wanted) is not None:
                found = self._of_trace(wanted.lower())
            else:
                found = self._traces_store.get(wanted) or created_traces.get(wanted)
        if found is None or not found.life().done:
            message = f"Trace '{clean_text(wanted)}' not found"
            return FlextResult[FlextTrace].fail(message)
        return FlextResult[FlextTrace].ok(found)

    def _of_trace(self, trace_id: str) -> FlextTrace | None:
        """Give the oldest running one of a trace, else the oldest that ran."""
        # `values()` of a weak dictionary may change while it is read.
        created = [reference() for reference in created_traces.valuerefs()]
        family = sorted(
            (
                trace
                for trace in [*self._stored(), *created]
                if trace is not None and trace.trace_id == trace_id
            ),
            key=lambda trace: (not trace.life().is_running, trace.life().started_ns),
        )
        return family[0] if family else None

    def _stored(self) -> list[FlextTrace]:
        """Give the stored traces, the oldest first."""
        store = self._traces_store
        return store.newest(len(store) + 1)[::-1]

    # -- asking

    @never_raises
    def get_trace_info(
        self,
        id: FlextTrace | str,  # noqa: A002 - a name of the contract
    ) -> FlextResult[dict[str, Any]]:
        """Describe a trace.

        Args:
            id: As for :meth:`complete_trace`.

        Returns:
            Its fields, and ``duration`` (seconds), ``trace_spans`` (ids of all stored
            traces with the same ``trace_id``, the oldest first) and ``child_traces``
            (ids of those right below it).
        """
        found = self._started(id)
        if found.is_failure:
            return FlextResult[dict[str, Any]].fail(found.error)
        trace = found.data
        family = [one for one in self._stored() if one.trace_id == trace.trace_id]
        if trace.id not in {one.id for one in family}:
            family.append(trace)
        info: dict[str, Any] = {
            **trace.model_dump(),
            "duration": trace.duration,
            "trace_spans": [one.id for one in family],
            "child_traces": [one.id for one in family if _is_child(one, trace)],
        }
        return FlextResult[dict[str, Any]].ok(info)

    @never_raises
    def search_traces(
        self,
        *,
        service_name: str | None = None,
        operation_name: str | None = None,
        status: str | None = None,
        limit: int = 100,
    ) -> FlextResult[list[FlextTrace]]:
        """Give stored traces, the newest first.

        Args:
            service_name: Only of this service.
            operation_name: Only with this name.
            status: Only with this status.
            limit: How many at most.
        """
        asked = word_asked(status)

        def is_wanted(trace: FlextTrace) -> bool:
            return (
                service_name in {None, trace.service_name}
                and operation_name in {None, trace.operation_name}
                and asked in {None, trace.status}
            )

        found = self._traces_store.newest(newest_limit(limit), is_wanted)
        return FlextResult[list[FlextTrace]].ok(found)

    @never_raises
    def get_tracing_summary(self) -> FlextResult[dict[str, Any]]:
        """Sum up the traces of the container."""
        return FlextResult[dict[str, Any]].ok(self._totals.summary())


def _complete(trace: FlextTrace) -> FlextResult[FlextTrace]:
    return trace.complete()


def _is_child(trace: FlextTrace, parent: FlextTrace) -> bool:
    above = trace.life().parent
    return above is not None and f"{above.span_id:016x}" == parent.span_id
