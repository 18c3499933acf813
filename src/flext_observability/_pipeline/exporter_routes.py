"""The way of records to each exporter, as the settings say, and its sizes and times."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from ..errors import FlextObservabilityConfigurationError
from ..settings import Settings
from .direct_route import DirectRoute
from .exporters import ConsoleDestination, SdkDestination
from .pipeline import Pipeline
from .registry import registered
from .route import Bounds, Route
from .spooled_route import SpooledRoute
from .transport import make_transport

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
WRITE_DELAY_S = 0.05


def open_route(
    pipeline: Pipeline,
    signal: Signal,
    name: str,
    *,
    size: Callable[[Any], int] | None = None,
    poll: Callable[[], None] | None = None,
) -> Route:
    """Open the way of a signal's records to one exporter.

    Args:
        pipeline: It becomes a part of this one.
        signal: What the records are.
        name: Of the exporter.
        size: Counts what a record holds; one when not given.
        poll: Makes records whenever the route asks for them.

    Raises:
        FlextObservabilityConfigurationError: No such exporter is installed.
    """
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
            else SdkDestination(signal, name, registered_exporter(signal, name)())
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
        return pipeline.recent.watching(signal, lambda batch: clean(lines.read(batch)))
    return pipeline.recent.watching(signal, clean)


def _spooled_bounds(pipeline: Pipeline, signal: Signal, timeout_s: float) -> Bounds:
    """Add how soon records are written, which the durability decides."""
    bounds = _bounds(pipeline.config, signal, timeout_s, is_console=False)
    durability = pipeline.spool.durability if pipeline.spool else "memory"
    bounds = bounds._replace(
        write_records=bounds.batch_records,
        hurry_records=bounds.batch_records,
        write_delay_s=WRITE_DELAY_S,
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


def registered_exporter(signal: Signal, name: str) -> Any:
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
    queue = positive(f"{prefix}_MAX_QUEUE_SIZE", _QUEUE_RECORDS)
    batch = positive(f"{prefix}_MAX_EXPORT_BATCH_SIZE", _BATCH_RECORDS)
    delay_ms = positive(f"{prefix}_SCHEDULE_DELAY", default_ms)
    return Bounds(queue, min(batch, queue), delay_ms / 1000, timeout_s)


def stated_queues() -> dict[Signal, int]:
    """Read how many records may wait in memory, where a variable says so."""
    sizes = {
        Signal.TRACES: positive("OTEL_BSP_MAX_QUEUE_SIZE", 0),
        Signal.LOGS: positive("OTEL_BLRP_MAX_QUEUE_SIZE", 0),
    }
    return {signal: size for signal, size in sizes.items() if size}


def positive(variable: str, default: int) -> int:
    """Read a whole number above 0; as in the SDK, anything else is the default."""
    try:
        value = int(os.environ.get(variable, default))
    except ValueError:
        return default
    return value if value > 0 else default
