"""Figures of the machine and of this process, measured when asked."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Observation

from . import runtime
from ._pipeline.values import clean_number, clean_text, legal_metric_name
from .constants import FlextObservabilityConstants as C
from .lifecycle import status
from .locks import ForkSafeLock
from .result import FlextResult
from .services.membership import container_or_global
from .services.metrics import FlextMetricsService
from .services.outcome import is_text, never_raises
from .services.resources import MISSING, disk_usage, psutil_module
from .services.tracing import FlextTracingService

if TYPE_CHECKING:
    from .container import FlextContainer

_FRESH_S = 1.0
# Processor time is counted in ticks of 10 ms: a shorter stretch says nothing.
_SHORTEST_S = 0.1


class FlextMetricsCollector:
    """Real figures of machine and process, and gauges that are read at every export."""

    def __init__(self, container: "FlextContainer | None" = None) -> None:
        """Make a collector.

        Args:
            container: Whose traces and metrics are summed up; the one of the process
                when not given.
        """
        self.container = container_or_global(container)
        self._lock = ForkSafeLock()
        self._known: dict[str, float] = {}
        self._known_at = float("-inf")
        self._times = _cpu_times()

    @never_raises
    def collect_system_metrics(self) -> FlextResult[dict[str, float]]:
        """Measure the machine; an answer serves for a second.

        Returns:
            ``cpu_percent`` since the former answer (the first call may wait a tenth of
            a second for it), ``memory_percent``, ``disk_usage_percent`` and
            ``boot_time`` (seconds since 1970); ``psutil is not installed`` without it.
        """
        psutil = psutil_module()
        if psutil is None:
            return FlextResult[dict[str, float]].fail(MISSING)
        with self._lock:
            if time.monotonic() - self._known_at >= _FRESH_S:
                self._known = {
                    "cpu_percent": self._cpu_percent(),
                    "memory_percent": float(psutil.virtual_memory().percent),
                    "disk_usage_percent": disk_usage()["percent"],
                    "boot_time": float(psutil.boot_time()),
                }
                self._known_at = time.monotonic()
            return FlextResult[dict[str, float]].ok(dict(self._known))

    def _cpu_percent(self) -> float:
        began, former = self._times or _cpu_times() or (0.0, (0.0, 0.0))
        time.sleep(max(0.0, _SHORTEST_S - (time.monotonic() - began)))
        self._times = _cpu_times()
        if self._times is None:
            return 0.0
        busy, total = (n - f for n, f in zip(self._times[1], former, strict=True))
        return min(100.0, max(0.0, 100 * busy / total)) if total > 0 else 0.0

    @never_raises
    def collect_application_metrics(self) -> FlextResult[dict[str, Any]]:
        """Give what was counted in this process.

        Returns:
            ``monitored_calls``, ``error_ratio`` and ``mean_duration_seconds`` of
            monitored functions (``None`` before the first call), ``active_traces`` of
            the container, ``records_delivered`` and ``records_lost``.
        """
        calls = runtime.operations().figures()
        tracing = FlextTracingService(self.container).get_tracing_summary()
        ledgers = status().signals.values()
        return tracing.map(
            lambda found: {
                "monitored_calls": calls.calls,
                "error_ratio": calls.errors / calls.calls if calls.calls else None,
                "mean_duration_seconds": (
                    calls.duration_s / calls.calls if calls.calls else None
                ),
                "active_traces": found["service_info"]["active_traces"],
                "records_delivered": sum(each.delivered for each in ledgers),
                "records_lost": sum(
                    each.rejected + sum(each.dropped.values()) for each in ledgers
                ),
            }
        )

    @never_raises
    def collect(
        self, name: str, callback: Callable[[], float], unit: str = ""
    ) -> FlextResult[None]:
        """Have a value read at every export: an observable gauge.

        Args:
            name: Characters that OTel refuses become ``_``; once per process.
            callback: Gives a number. What is none, or an exception, is left out of that
                export.
            unit: UCUM code, or a word.
        """
        if not is_text(name):
            return FlextResult[None].fail("Invalid metric name")
        if not callable(callback):
            return FlextResult[None].fail(f"Callback of '{name}' must be callable")
        legal = legal_metric_name(name)

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return _observed(callback)

        mark = object()
        if runtime.kept(f"observable gauge {legal}", lambda: mark) is not mark:
            return FlextResult[None].fail(f"Metric '{name}' is collected already")
        runtime.meter_provider().get_meter(C.SCOPE_NAME).create_observable_gauge(
            legal, callbacks=[observe], unit=clean_text(unit)[:63]
        )
        return FlextResult[None].ok(None)

    @never_raises
    def metrics_summary(self) -> FlextResult[dict[str, Any]]:
        """Give the metrics summary of the container."""
        return FlextMetricsService(self.container).get_metrics_summary()


def _observed(callback: Callable[[], float]) -> list[Observation]:
    try:
        number = clean_number(callback())
    except Exception:  # noqa: BLE001 - the caller's code runs inside an export
        return []
    return [] if number is None else [Observation(number)]


def _cpu_times() -> tuple[float, tuple[float, float]] | None:
    """Give the moment, and busy and total processor seconds up to it."""
    psutil = psutil_module()
    if psutil is None:
        return None
    times = psutil.cpu_times()
    # Linux counts the time of guests inside user and nice as well.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - guests
    waiting = times.idle + getattr(times, "iowait", 0.0)
    return time.monotonic(), (total - waiting, total)
