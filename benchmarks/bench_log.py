"""What the log bridge adds to a line of standard logging.

The base is the same line to a `NullHandler`. Our bridge hears every logger, so the
rows cannot share a process: each has one of its own, and these take turns.

    python -m benchmarks.bench_log [--quick]
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.figures import Figure, compared, loss
from benchmarks.harness import (
    LEAD_IN,
    REQUEST_ID,
    Turn,
    nothing,
    run,
    take_turns,
)
from benchmarks.server import Server

AT_MOST = 1.6
WHAT = "one stdlib log line through the bridge, to a NullHandler's"


def null_handler(logger: logging.Logger) -> Callable[[], object]:
    """Send the line nowhere; give what empties its queue."""
    logger.addHandler(logging.NullHandler())
    return nothing


def plain(logger: logging.Logger) -> Callable[[], object]:
    """Send the line through the SDK's handler and batch processor, and discard it."""
    from opentelemetry.sdk._logs import (
        LoggerProvider,
        LoggingHandler,
        ReadableLogRecord,
    )
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Discard(LogRecordExporter):
        def export(
            self,
            batch: Sequence[ReadableLogRecord],  # noqa: ARG002 - signature of the base
        ) -> LogRecordExportResult:
            return LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - same
            return True

        def shutdown(self) -> None:
            pass

    provider = LoggerProvider()
    processor = BatchLogRecordProcessor(Discard(), max_queue_size=65_536)
    provider.add_log_record_processor(processor)
    # Deprecated in favour of a contrib package that holds the same handler.
    with warnings.catch_warnings(action="ignore"):
        logger.addHandler(LoggingHandler(logger_provider=provider))
    return provider.force_flush


def bridged(logger: logging.Logger, url: str) -> Callable[[], object]:
    """Send the line through our bridge, a `NullHandler` beside it."""
    import flext_observability as fo

    logger.addHandler(logging.NullHandler())
    fo.setup(
        "bench",
        endpoint=url,
        protocol="http/protobuf",
        durability="memory",
        metrics_export_interval_s=3600,
    ).unwrap()
    fo.flext_set_correlation_id(REQUEST_ID)
    return lambda: fo.flush(30)


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its variant, the server, lines per turn."""
    variant, url, lines = arguments
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    drain = null_handler(logger) if variant == "null" else nothing
    if variant == "plain":
        drain = plain(logger)
    if variant == "bridge":
        drain = bridged(logger, url)

    def turn() -> float:
        for number in range(LEAD_IN):  # not timed, see there
            logger.info("order %d placed", number)
        started = time.process_time()
        for number in range(int(lines)):
            logger.info("order %d placed", number)
        spent = time.process_time() - started
        drain()
        return spent / int(lines)

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Let the three variants take turns."""
    lines, turns, starts = (100, 3, 1) if quick else (1000, 20, 5)
    with Server() as server:
        arguments = (server.url, str(lines))
        variants = {name: (name, *arguments) for name in ("null", "plain", "bridge")}
        times: dict[str, list[Any]] = take_turns(
            "bench_log", variants, turns=turns, starts=starts
        )
        arrived = server.counts()["log_records"]
    made = (turns + 1) * starts * (lines + LEAD_IN)
    notes = ["base: the line to a NullHandler", loss(arrived, made, "lines")]
    null = times["null"]
    return [
        compared(
            WHAT,
            times["bridge"],
            null,
            at_most=AT_MOST,
            note="; ".join(filter(None, notes)),
        ),
        compared(
            "plain OTel, the SDK's handler, to a NullHandler's", times["plain"], null
        ),
    ]


if __name__ == "__main__":
    run(__doc__, figures, start)
