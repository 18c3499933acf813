"""Telemetry as text a person likes to read: from decoded OTLP, without any I/O.

The console exporter, ``flext-observability receive`` and the demo all show the same
thing because they all come here with the same protobuf messages.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from .readable import (
    MAX_VALUE,
    Paint,
    attribute,
    attributes_text,
    duration_text,
    printable,
    service_name,
    value_text,
)
from .series import Series, SeriesKey, fold_series, state_text

_MAX_EVENTS: Final = 10  # events shown under one span
_MAX_INDENT: Final = 24  # deeper spans are not moved further to the right
_MAX_COLUMN: Final = 64  # the column right of the names never starts further right

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000

_KINDS: Final = {
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_PRODUCER: "producer",
    Span.SPAN_KIND_CONSUMER: "consumer",
}
_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_LEVEL_STYLES: Final = {"WARN": "33", "ERROR": "31", "FATAL": "31;1", "DEBUG": "2"}


def render_traces(
    resource_spans: Sequence[ResourceSpans], *, color: bool = False
) -> str:
    """Draw every trace as an indented tree, the earliest trace first.

    Spans of several services meet in one tree when they share a trace id. A span whose
    parent is not among the given ones stands at root level and says so.

    Args:
        resource_spans: decoded spans, in any order.
        color: whether to use ANSI colours.

    Returns:
        The text, ending in a newline; empty when there are no spans.
    """
    traces: defaultdict[bytes, list[_SpanLine]] = defaultdict(list)
    for group in resource_spans:
        service = service_name(group.resource)
        for scope_spans in group.scope_spans:
            for span in scope_spans.spans:
                traces[span.trace_id].append(_SpanLine(service, span))
    ordered = sorted(traces.values(), key=lambda lines: min(map(_start_of, lines)))
    paint = Paint(enabled=color)
    return "".join(_trace_text(lines, paint) for lines in ordered)


def render_logs(resource_logs: Sequence[ResourceLogs], *, color: bool = False) -> str:
    """Write one line for every log record, in the order of their time.

    Args:
        resource_logs: decoded log records, in any order.
        color: whether to use ANSI colours.

    Returns:
        The text, ending in a newline; empty when there are no records.
    """
    rows = [
        (service_name(group.resource), scope_logs.scope.name, record)
        for group in resource_logs
        for scope_logs in group.scope_logs
        for record in scope_logs.log_records
    ]
    rows.sort(key=lambda row: _log_time(row[2]))
    many_services = len({service for service, _, _ in rows}) > 1
    paint = Paint(enabled=color)
    return "".join(
        _log_text(service if many_services else "", scope, record, paint)
        for service, scope, record in rows
    )


def render_metrics(
    resource_metrics: Sequence[ResourceMetrics], *, color: bool = False
) -> str:
    """Write one line for every series: name, unit, attributes and its value.

    When a series was exported several times, a cumulative counter or histogram and a
    gauge show their latest point; deltas are added up.

    Args:
        resource_metrics: decoded metrics, in any order.
        color: whether to use ANSI colours.

    Returns:
        The text, ending in a newline; empty when there are no points.
    """
    paint = Paint(enabled=color)
    return "".join(
        _service_metrics_text(service, known, paint)
        for service, known in sorted(fold_series(resource_metrics).items())
        if known
    )


@dataclass(slots=True)
class _SpanLine:
    """One span with the service it came from and its place in the tree."""

    service: str
    span: Span
    rails: str = ""
    orphan: bool = False

    @property
    def label(self) -> str:
        """What stands left of the duration column."""
        name = printable(self.span.name, MAX_VALUE) or "(no name)"
        kind = _KINDS.get(self.span.kind)
        return f"{self.service} · {name}" + (f" [{kind}]" if kind else "")

    @property
    def children_rails(self) -> str:
        """The vertical lines that go on below this span."""
        return self.rails.replace("├─ ", "│  ").replace("└─ ", "   ")


def _start_of(line: _SpanLine) -> int:
    return line.span.start_time_unix_nano


def _trace_text(lines: list[_SpanLine], paint: Paint) -> str:
    """Write one trace: a heading and its tree."""
    tree = list(_tree(lines))
    widths = (len(line.rails) + len(line.label) for line in tree)
    column = min(max(widths), _MAX_COLUMN)
    body = "".join(_span_text(line, column, paint) for line in tree)
    return f"{_trace_heading(lines, paint)}\n{body}"


def _trace_heading(lines: list[_SpanLine], paint: Paint) -> str:
    spans = [line.span for line in lines]
    start = min(span.start_time_unix_nano for span in spans)
    end = max(span.end_time_unix_nano for span in spans)
    services = sorted({line.service for line in lines})
    words = ["1 span" if len(spans) == 1 else f"{len(spans)} spans"]
    words += [", ".join(services), duration_text(end - start)]
    correlations = (attribute(span.attributes, "correlation.id") for span in spans)
    correlation = next(filter(None, correlations), "")
    if correlation:
        words.append(f"correlation {printable(correlation, MAX_VALUE)}")
    return f"{paint('1', f'trace {spans[0].trace_id.hex()}')} · {' · '.join(words)}"


def _tree(lines: list[_SpanLine]) -> Iterator[_SpanLine]:
    """Yield spans depth first with their rails; each exactly once, whatever came in.

    Iterative and tolerant: a chain of ten thousand spans, two spans that name each
    other as parent, or the same span twice must neither loop nor go missing.
    """
    lines = sorted(lines, key=_start_of)
    known = {line.span.span_id for line in lines}
    children: defaultdict[bytes, list[_SpanLine]] = defaultdict(list)
    roots: list[_SpanLine] = []
    for line in lines:
        parent = line.span.parent_span_id
        if parent in known and parent != line.span.span_id:
            children[parent].append(line)
        else:
            line.orphan = bool(parent)
            roots.append(line)
    yield from _walk(roots, children)
    for line in lines:
        if not line.rails:  # not shown yet: it hangs on a cycle, which starts here
            line.orphan = True
            yield from _walk([line], children)


def _walk(
    roots: list[_SpanLine], children: dict[bytes, list[_SpanLine]]
) -> Iterator[_SpanLine]:
    """Walk down from the roots, taking each list of children away as it is used."""
    _set_rails(roots, "")
    stack = roots[::-1]
    while stack:
        line = stack.pop()
        yield line
        waiting = children.pop(line.span.span_id, [])
        below = [child for child in waiting if not child.rails]
        _set_rails(below, line.children_rails)
        stack.extend(below[::-1])


def _set_rails(siblings: list[_SpanLine], rails: str) -> None:
    rails = rails[: 3 * _MAX_INDENT]
    for line in siblings:
        line.rails = rails + ("└─ " if line is siblings[-1] else "├─ ")


def _span_text(line: _SpanLine, column: int, paint: Paint) -> str:
    span = line.span
    nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
    failed = span.status.code == Status.STATUS_CODE_ERROR
    padding = " " * (column - len(line.rails) - len(line.label))
    label = paint("31", line.label) if failed else line.label
    words = [f"{line.rails}{label}{padding}", f"{duration_text(nanoseconds):>8}"]
    if failed:
        words.append(paint("31", f"✗ {_error_text(span)}".rstrip()))
    words.append(paint("2", attributes_text(span.attributes)))
    if line.orphan:
        parent = span.parent_span_id.hex()
        words.append(paint("2", f"(parent {parent} is elsewhere)"))
    rows = ["  ".join(filter(None, words)), *_event_rows(line, paint)]
    return "".join(f"{row.rstrip()}\n" for row in rows)


def _error_text(span: Span) -> str:
    """Return ``<error.type>: <message>`` from the status or the exception event."""
    exceptions = [e.attributes for e in span.events if e.name == "exception"]
    last = exceptions[-1] if exceptions else ()
    kind = attribute(span.attributes, "error.type")
    kind = kind or attribute(last, "exception.type")
    text = span.status.message or attribute(last, "exception.message")
    if text.startswith(f"{kind}:"):  # the stock SDK writes the type into the message
        return printable(text)
    return printable(": ".join(filter(None, (kind, text))))


def _event_rows(line: _SpanLine, paint: Paint) -> Iterator[str]:
    events = [event for event in line.span.events if event.name != "exception"]
    for event in events[:_MAX_EVENTS]:
        after = event.time_unix_nano - line.span.start_time_unix_nano
        name = printable(event.name, MAX_VALUE)
        words = f"• {name}  at {duration_text(after)}"
        attributes = attributes_text(event.attributes)
        yield f"{line.children_rails}   {paint('2', f'{words}  {attributes}'.rstrip())}"
    if len(events) > _MAX_EVENTS:
        yield f"{line.children_rails}   • … {len(events) - _MAX_EVENTS} more events"


def _log_time(record: LogRecord) -> int:
    return record.time_unix_nano or record.observed_time_unix_nano


def _log_text(service: str, scope: str, record: LogRecord, paint: Paint) -> str:
    level = _level_text(record)
    style = _LEVEL_STYLES.get(level, "")
    words = [_clock_text(_log_time(record)), f"{level:<5}"]
    if style:
        words[1] = paint(style, words[1])
    logger = printable(scope, MAX_VALUE)
    words += [service, paint("36", logger if logger != service else "")]
    message = value_text(record.body) or record.event_name
    words.append(printable(message))
    words.append(paint("31", _logged_exception(record, message)))
    words.append(paint("2", attributes_text(record.attributes)))
    if record.trace_id:
        words.append(paint("2", f"trace={record.trace_id.hex()[:8]}"))
    return "  ".join(filter(None, words)) + "\n"


def _level_text(record: LogRecord) -> str:
    """Return the level of the specification's ladder, else the source's own word."""
    if record.severity_number > 0:
        return _LEVELS[min((record.severity_number - 1) // 4, len(_LEVELS) - 1)]
    return printable(record.severity_text, 8) or "-"


def _logged_exception(record: LogRecord, message: str) -> str:
    """Return type and text of an exception, unless the message says it already."""
    kind = attribute(record.attributes, "exception.type")
    kind = kind or attribute(record.attributes, "error.type")
    text = attribute(record.attributes, "exception.message")
    if text and text in message:
        return ""
    return printable(": ".join(filter(None, (kind, text))))


def _clock_text(unix_nano: int) -> str:
    """Write the time of day in UTC, milliseconds included."""
    try:
        time = datetime.fromtimestamp(unix_nano // _SECOND, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return "??:??:??.???Z"
    return f"{time:%H:%M:%S}.{unix_nano % _SECOND // _MILLISECOND:03d}Z"


def _service_metrics_text(
    service: str, known: Mapping[SeriesKey, Series], paint: Paint
) -> str:
    """Write the series of one service under its name, in columns."""
    ordered = sorted(known.items(), key=lambda item: item[0])
    titles = [_series_title(key, series) for key, series in ordered]
    column = min(max(map(len, titles)), _MAX_COLUMN)
    rows = [paint("1", f"metrics of {service}")]
    for title, (key, series) in zip(titles, ordered, strict=True):
        words = [f"  {title:<{column}}", state_text(series), paint("2", key.attributes)]
        rows.append("  ".join(filter(None, words)))
    return "\n".join(rows) + "\n"


def _series_title(key: SeriesKey, series: Series) -> str:
    unit = f" ({printable(series.unit, MAX_VALUE)})" if series.unit else ""
    return f"{printable(key.name, MAX_VALUE)}{unit} {series.kind}"
