"""Destinations that take records: the console, exporters of the SDK, memory."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from ..constants import Signal
from .cleaning import Cleaner
from .encoding import message_encoder
from .ledger import Ledger
from .verdict import DELIVERED, Outcome, Verdict


class SdkDestination:
    """An exporter made for the SDK: ``SpanExporter``, ``MetricExporter`` and so on."""

    def __init__(self, signal: Signal, name: str, exporter: Any) -> None:
        self._signal = signal
        self._name = name
        self._exporter = exporter

    def prepare(self, records: Sequence[Any]) -> Callable[[], Verdict]:
        """Hand over what the exporter expects; it encodes by itself."""
        batch = records[0] if self._signal is Signal.METRICS else records
        return lambda: self._export(batch)

    def _export(self, batch: Any) -> Verdict:
        result = self._exporter.export(batch)
        if getattr(result, "name", "") == "SUCCESS":
            return DELIVERED
        return Verdict(
            Outcome.REJECTED,
            f"exporter_{self._name}",
            f"the exporter {self._name!r} reported a failure for {self._signal.value}",
        )

    def close(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


class ConsoleDestination:
    """Standard output, for people.

    Spans end before their parents do; they are held until the local root of their
    trace has ended, so that a trace comes out as one tree.
    """

    _HOLD_S = 5.0
    _HOLD_SPANS = 2000

    def __init__(self, signal: Signal, stream: TextIO | None = None) -> None:
        from . import console  # only where somebody watches

        self._console = console
        self._signal = signal
        self._encode = message_encoder(signal)
        self._stream = stream
        self._held: dict[int, list[ReadableSpan]] = {}
        self._held_since = 0.0

    def prepare(self, records: Sequence[Any]) -> Callable[[], Verdict]:
        """Render the records that are complete."""
        if self._signal is Signal.TRACES:
            records = self._complete(cast("Sequence[ReadableSpan]", records))
        text = self._render(records) if records else ""
        return lambda: self._write(text)

    def _complete(self, spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
        now = time.monotonic()
        if not self._held:
            self._held_since = now
        ready: list[ReadableSpan] = []
        for span in spans:
            context = span.get_span_context()
            trace_id = context.trace_id if context else 0
            self._held.setdefault(trace_id, []).append(span)
            if span.parent is None or span.parent.is_remote:
                ready += self._held.pop(trace_id)
        held = sum(map(len, self._held.values()))
        if held > self._HOLD_SPANS or now - self._held_since > self._HOLD_S:
            ready += self._take_held()
        return ready

    def _take_held(self) -> list[ReadableSpan]:
        spans = [span for held in self._held.values() for span in held]
        self._held.clear()
        return spans

    def _render(self, records: Sequence[Any]) -> str:
        request = self._encode(records)
        color = self._has_color()
        console = self._console
        if self._signal is Signal.TRACES:
            text: str = console.render_traces(request.resource_spans, color=color)
        elif self._signal is Signal.METRICS:
            text = console.render_metrics(request.resource_metrics, color=color)
        else:
            text = console.render_logs(request.resource_logs, color=color)
        return text

    def _has_color(self) -> bool:
        if os.environ.get("NO_COLOR"):
            return False
        stream = self._stream or sys.stdout
        return bool(stream is not None and stream.isatty())

    def _write(self, text: str) -> Verdict:
        stream = self._stream or sys.stdout
        if stream is None:  # pythonw, or closed by the program
            return Verdict(
                Outcome.REJECTED, "console", "there is no standard output to show on"
            )
        if text:
            line = text if text.endswith("\n") else f"{text}\n"
            # A console that cannot write a character shows its number instead.
            encoding = stream.encoding or "utf-8"
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        return DELIVERED

    def close(self) -> None:
        """Show what is still held."""
        held = self._take_held()
        if held:
            with suppress(Exception):  # standard output may be closed already
                self._write(self._render(held))


class MemoryExporter:
    """Keeps the newest records in this process, for tests and notebooks."""

    LIMIT = 10_000

    def __init__(self, cleaner: Cleaner) -> None:
        self._clean_spans = cleaner.of_signal(Signal.TRACES)
        self._clean_logs = cleaner.of_signal(Signal.LOGS)
        self._clean_metrics = cleaner.metrics
        self._spans: deque[ReadableSpan] = deque(maxlen=self.LIMIT)
        self._logs: deque[ReadableLogRecord] = deque(maxlen=self.LIMIT)
        self.reader = InMemoryMetricReader()
        self.ledgers = {signal: Ledger() for signal in Signal}

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, oldest first, the newest 10,000."""
        return tuple(self._spans)

    @property
    def logs(self) -> tuple[ReadableLogRecord, ...]:
        """Log records, oldest first, the newest 10,000."""
        return tuple(self._logs)

    @property
    def metrics(self) -> MetricsData | None:
        """All metrics as of now; ``None`` when there are none."""
        data = self.reader.get_metrics_data()
        return None if data is None else self._clean_metrics(data)

    def clear(self) -> None:
        """Forget spans and log records."""
        self._spans.clear()
        self._logs.clear()

    def put_span(self, span: ReadableSpan) -> None:
        """Keep a finished span."""
        self._spans.extend(self._clean_spans([span]))
        self._count(Signal.TRACES)

    def put_log(self, record: ReadableLogRecord) -> None:
        """Keep a log record."""
        self._logs.extend(self._clean_logs([record]))
        self._count(Signal.LOGS)

    def _count(self, signal: Signal) -> None:
        self.ledgers[signal].accept(1)
        self.ledgers[signal].deliver(1)
