"""Processors of others, plugged in beside ours, see spans as the SDK shows them."""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, Status, StatusCode

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import run_program

Plug = Callable[[Collector, SpanProcessor], None]


class Followed(ParentBased):
    """Decides as our own default does; being foreign, it takes the SDK's path."""


def _by_argument(collector: Collector, processor: SpanProcessor) -> None:
    start(collector, span_processors=[processor])


def _afterwards(collector: Collector, processor: SpanProcessor) -> None:
    start(collector)
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(processor)


def _on_the_path_of_the_sdk(collector: Collector, processor: SpanProcessor) -> None:
    start(collector, span_processors=[processor], sampler=Followed(ALWAYS_ON))


@pytest.fixture(params=[_by_argument, _afterwards, _on_the_path_of_the_sdk])
def plug(request: pytest.FixtureRequest) -> Plug:
    """Each way to have a processor, and the SDK's own spans for comparison."""
    way: Plug = request.param
    return way


class Diary(SpanProcessor):
    """Writes down what happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.parents: list[Context | None] = []
        self.current: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.lines.append(f"start {span.name}")
        self.parents.append(parent_context)
        assert span.is_recording()
        assert span.end_time is None
        assert span.start_time

    def _on_ending(self, span: Span) -> None:
        self.lines.append(f"ending {span.name}")

    def on_end(self, span: ReadableSpan) -> None:
        self.lines.append(f"end {span.name}")
        now: Any = trace.get_current_span()
        self.current.append(getattr(now, "name", "none"))
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


def spans_of_every_kind() -> None:
    """A span of every way to make one, nested."""

    @fo.flext_monitor_function("call")
    def call() -> None:
        with fo.flext_span("block", attributes={"a": 1}):
            pass

    with trace.get_tracer("lib").start_as_current_span("outer"):
        call()
        trace.get_tracer("lib").start_span("manual").end()


def test_order(http_collector: Collector, plug: Plug) -> None:
    """Every span is shown once at its start and once at its end, in that order."""
    diary = Diary()
    plug(http_collector, diary)
    spans_of_every_kind()
    names = [line for line in diary.lines if "ending" not in line]
    assert names == [
        *("start outer", "start call", "start block", "end block", "end call"),
        *("start manual", "end manual", "end outer"),
    ]
    endings = [line for line in diary.lines if not line.startswith("start")]
    assert endings[::2] == [f"ending {line[4:]}" for line in endings[1::2]]


def test_given_context(http_collector: Collector, plug: Plug) -> None:
    """At its start a processor is handed the context that the caller gave, or none."""
    diary = Diary()
    plug(http_collector, diary)
    given = Context({"baggage": 1})
    trace.get_tracer("lib").start_span("op", given).end()
    trace.get_tracer("lib").start_span("op").end()
    assert diary.parents[0] is given
    assert diary.parents[1] is None


class Writes(SpanProcessor):
    """Reads and writes at the start, as enriching processors do."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        assert isinstance(span, ReadableSpan)
        assert isinstance(span, trace.Span)
        attributes: Any = span.attributes
        span.set_attribute("read", str(attributes.get("a")))
        span.set_attributes({"x": 1, "y": [1, 2]})
        span.add_event("started")
        span.update_name(f"{span.name}!")
        # Not public, and done all the same.
        written: Any = span._attributes
        written["private"] = "yes"
        assert "private" in written
        assert written.get("x") == 1
        assert dict(written)["y"] == (1, 2)
        del written["x"]

    def on_end(self, span: ReadableSpan) -> None:
        assert span.attributes
        with pytest.raises(TypeError):
            span.attributes["late"] = 1  # type: ignore[index]  # that is the point


def test_written_attributes(http_collector: Collector, plug: Plug) -> None:
    """What a processor writes at the start arrives, also by the private name."""
    plug(http_collector, Writes())
    tracer = trace.get_tracer("lib")
    with tracer.start_as_current_span("op", attributes={"a": 1}):
        pass
    flush()
    span = http_collector.span("op!")
    assert span.attributes == {"a": 1, "read": "1", "y": [1, 2], "private": "yes"}
    assert [event.name for event in span.events] == ["started"]


class Inspects(SpanProcessor):
    """Asks for everything that a span of the SDK answers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        assert context is not None
        assert span.context is context or span.context == context
        assert context.is_valid
        scope = span.instrumentation_scope
        assert scope is not None
        told = json.loads(span.to_json())
        self.seen.append(
            {
                "name": span.name,
                "kind": span.kind,
                "status": (span.status.status_code, span.status.description),
                "attributes": dict(span.attributes or {}),
                "events": [(e.name, dict(e.attributes or {})) for e in span.events],
                "links": [dict(link.attributes or {}) for link in span.links],
                "dropped": (
                    span.dropped_attributes,
                    span.dropped_events,
                    span.dropped_links,
                ),
                "scope": (scope.name, scope.version, scope.schema_url),
                "resource": span.resource.attributes["service.name"],
                "parent": None if span.parent is None else span.parent.is_remote,
                "json": told["name"],
            }
        )


def test_everything_a_span_answers(http_collector: Collector) -> None:
    """All that can be read is what the SDK's span says."""
    seen = []
    for sampler in (None, Followed(ALWAYS_ON)):
        inspects = Inspects()
        start(http_collector, span_processors=[inspects], sampler=sampler)
        tracer = trace.get_tracer("lib", "1", schema_url="https://example.org/schema")
        with tracer.start_as_current_span("op", kind=SpanKind.SERVER) as span:
            span.set_attribute("a", [1, "x"])
            span.add_event("e", {"b": 1})
            span.add_link(span.get_span_context(), {"c": 2})
            with tracer.start_as_current_span("child") as child:
                child.set_status(StatusCode.ERROR, "no")
        seen.append(inspects.seen)
    assert seen[0] == seen[1]


class Raises(SpanProcessor):
    """Raises wherever it is asked."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("start")

    def _on_ending(self, span: Span) -> None:
        raise RuntimeError("ending")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("end")


def test_raising_processor(http_collector: Collector, plug: Plug) -> None:
    """A processor that raises harms neither the program nor another one, nor spans."""
    plug(http_collector, Raises())
    diary = Diary()
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(diary)
    spans_of_every_kind()
    assert sum("end" in line.split() for line in diary.lines) == 4
    flush()
    assert len(http_collector.spans()) == 4
    assert_balanced("traces")


def test_stock_processors(http_collector: Collector, plug: Plug) -> None:
    """Stock processors, exporters and the stock encoder take our spans."""
    memory = InMemorySpanExporter()
    batch: Any = BatchSpanProcessor(memory)
    plug(http_collector, batch)
    provider: Any = trace.get_tracer_provider()
    at_once = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(at_once))
    spans_of_every_kind()
    assert batch.force_flush()
    flush()
    names = ["block", "call", "manual", "outer"]
    for exporter in (memory, at_once):
        spans = exporter.get_finished_spans()
        assert [span.name for span in spans] == names
        request = encode_spans(spans)
        assert request.SerializeToString()
    arrived = {s.name: (s.span_id, s.parent_span_id) for s in http_collector.spans()}
    for span in memory.get_finished_spans():
        context, parent = span.get_span_context(), span.parent
        assert context is not None
        ids = (f"{context.span_id:016x}", f"{parent.span_id:016x}" if parent else "")
        assert arrived[span.name] == ids
    batch.shutdown()


def test_console_of_the_sdk(
    http_collector: Collector, plug: Plug, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stock console exporter prints our spans."""
    plug(http_collector, SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))
    with fo.flext_span("shown", attributes={"a": 1}):
        pass
    assert json.loads(capsys.readouterr().out)["name"] == "shown"


def test_flushed_and_shut_down(http_collector: Collector, plug: Plug) -> None:
    """``flush`` flushes processors of others, ``shutdown`` shuts them down."""
    memory = InMemorySpanExporter()
    plug(http_collector, BatchSpanProcessor(memory, schedule_delay_millis=60_000))
    with fo.flext_span("flushed"):
        pass
    flush()
    assert [span.name for span in memory.get_finished_spans()] == ["flushed"]
    with fo.flext_span("at the end"):
        pass
    assert fo.shutdown(20.0).success
    assert len(memory.get_finished_spans()) == 2


class Starts(SpanProcessor):
    """Makes spans itself, as a processor that counts or samples may do."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.name != "inner":
            trace.get_tracer("lib").start_span("inner").end()


def test_processor_that_makes_spans(http_collector: Collector, plug: Plug) -> None:
    """A processor may start spans while it looks at one."""
    plug(http_collector, Starts())
    with trace.get_tracer("lib").start_as_current_span("outer"):
        pass
    flush()
    assert sorted(span.name for span in http_collector.spans()) == ["inner", "outer"]


def test_added_under_load(http_collector: Collector) -> None:
    """A processor that is added while spans are made sees all that start later."""
    start(http_collector)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with fo.flext_span("before"):
                pass

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    diary = Diary()
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(diary)
    with fo.flext_span("after"):
        pass
    stop.set()
    for worker in workers:
        worker.join()
    assert diary.lines.count("start after") == diary.lines.count("end after") == 1
    flush()
    assert_balanced("traces")


class WholeLife(Diary):
    """Writes down what becomes of itself, too."""

    def shutdown(self) -> None:
        self.lines.append("shut down")


def add(processor: SpanProcessor) -> None:
    """Add to the global provider, as libraries of vendors do."""
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(processor)


@pytest.mark.parametrize("sampler", [None, Followed(ALWAYS_ON)])
def test_added_processor_stays(
    http_collector: Collector, sampler: Followed | None
) -> None:
    """One that was added after setup goes on seeing every span after another setup.

    That is so on the SDK's path, too, and for a span that is open meanwhile.
    """
    start(http_collector, sampler=sampler)
    diary = WholeLife()
    add(diary)
    across = trace.get_tracer("lib").start_span("across")
    start(http_collector, sampler=sampler, log_level="DEBUG")
    start(http_collector, tracing_enabled=False)
    start(http_collector, sampler=sampler)
    across.end()
    trace.get_tracer("lib").start_span("later").end()
    flush()
    assert diary.lines == [
        *("start across", "ending across", "end across"),
        *("start later", "ending later", "end later"),
    ]
    fo.shutdown()
    assert diary.lines[-1] == "shut down"
    assert diary.lines.count("shut down") == 1


def test_added_processor_is_flushed_after_another_setup(
    http_collector: Collector,
) -> None:
    """``flush`` and ``shutdown`` go on caring for a processor that was carried over."""
    start(http_collector)
    memory = InMemorySpanExporter()
    add(BatchSpanProcessor(memory, schedule_delay_millis=60_000))
    start(http_collector, log_level="DEBUG")
    trace.get_tracer("lib").start_span("flushed").end()
    flush()
    trace.get_tracer("lib").start_span("at the end").end()
    assert fo.shutdown(20.0).success
    names = [span.name for span in memory.get_finished_spans()]
    assert names == ["flushed", "at the end"]


def test_added_twice(http_collector: Collector) -> None:
    """The same processor sees a span once, however often it is added or given."""
    diary = WholeLife()
    start(http_collector, span_processors=[diary])
    add(diary)
    trace.get_tracer("lib").start_span("given, added").end()
    start(http_collector)
    added = WholeLife()
    add(added)
    add(added)
    start(http_collector, span_processors=[added])
    trace.get_tracer("lib").start_span("added, given").end()
    assert diary.lines.count("end given, added") == 1
    assert diary.lines[-1] == "shut down"
    assert added.lines == [
        *("start added, given", "ending added, given", "end added, given")
    ]


FORKING_PROGRAM = """
import os, sys
import flext_observability as fo
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor

class Spans(SpanProcessor):
    def on_end(self, span):
        print(span.name, flush=True)

class Logs(LogRecordProcessor):
    def on_emit(self, log_record):
        print(log_record.log_record.body, flush=True)
    def shutdown(self): ...
    def force_flush(self, timeout_millis=30_000): return True

fo.setup("shop", exporters=["none"]).unwrap()
trace.get_tracer_provider().add_span_processor(Spans())
_logs.get_logger_provider().add_log_record_processor(Logs())
child = os.fork()
with trace.get_tracer("lib").start_as_current_span("span" if child else "its span"):
    fo.get_logger("x").warning("line" if child else "its line")
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_added_processor_in_a_forked_child() -> None:
    """A child sees with the processors that its parent had added to the providers."""
    ended = run_program(FORKING_PROGRAM).ok()
    assert sorted(ended.lines) == ["its line", "its span", "line", "span"]


class WritesLate(SpanProcessor):
    """Does at the end what vendors' documentation says, by private names."""

    def on_end(self, span: ReadableSpan) -> None:
        told: Any = span
        if span.name == "outer":
            told._name = f"updated {told._name}"
            told._attributes = {**told._attributes, "dimension": told._kind.name}
            told._status = Status(StatusCode.ERROR, "late")
        else:
            assert told._parent.span_id
            told._parent = None
            told._end_time = told._start_time
        assert told._context == span.get_span_context()
        assert told._resource.attributes
        assert told._instrumentation_scope.name == "lib"
        assert not told._events
        assert not told._links


def test_written_at_the_end(http_collector: Collector, plug: Plug) -> None:
    """What a processor writes at the end, by private names, is what arrives."""
    plug(http_collector, WritesLate())
    tracer = trace.get_tracer("lib")
    with tracer.start_as_current_span("outer", attributes={"a": 1}) as outer:
        sdk: Any = outer
        assert isinstance(sdk._readable_span(), ReadableSpan)
        tracer.start_span("inner").end()
    flush()
    span = http_collector.span("updated outer")
    assert span.attributes == {"a": 1, "dimension": "INTERNAL"}
    assert (span.status, span.status_message) == ("error", "late")
    inner = http_collector.span("inner")
    assert not inner.parent_span_id
    assert inner.start_ns == inner.end_ns
