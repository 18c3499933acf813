"""What arrives at an OTLP server for each entity, type and path: once, or never."""

import gc
import os
import pickle
import secrets
import threading
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import get_tracer

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import run_program

NOTHING = {"traces": 0, "metrics": 0, "logs": 0}


def make_metric(
    kind: str, value: float | Decimal = 2, name: str = "m"
) -> fo.FlextMetric:
    return fo.FlextMetric(
        name=name, value=value, unit="s", tags={"region": "eu"}, metric_type=kind
    )


# --- metrics ---


@pytest.mark.parametrize(
    ("kind", "point"),
    [("gauge", "gauge"), ("counter", "sum"), ("histogram", "histogram")],
)
@pytest.mark.parametrize("path", ["function", "factory", "service", "both"])
def test_metric(collector: Collector, kind: str, point: str, path: str) -> None:
    """A metric is one point on the instrument of its type, whatever way it takes."""
    start(collector)
    container = fo.FlextContainer()
    factory = fo.FlextObservabilityMasterFactory(container)
    service = fo.FlextMetricsService(container)
    arguments: Any = ("m", 2, "s", {"region": "eu"}, kind)
    if path == "service":
        service.record_metric(*arguments).unwrap()
    else:
        make = fo.flext_create_metric if path != "factory" else factory.create_metric
        metric = make(*arguments).unwrap()
        if path == "both":
            service.record_metric(metric).unwrap()
            service.record_metric(metric.model_copy()).unwrap()
    flush()
    seen = collector.metric("m")
    assert (seen.kind, seen.unit, seen.value) == (point, "s", 2)
    assert seen.attributes == {"region": "eu"}
    if kind == "histogram":
        assert seen.count == 1
        assert seen.bounds[0] == 0.005
    if kind == "counter":
        assert seen.monotonic


@pytest.mark.parametrize("kind", ["gauge", "counter", "histogram"])
def test_rebuilt_metric_counts_as_new(server: Collector, kind: str) -> None:
    """The mark is shared by copies and is not in a dump."""
    metric = make_metric(kind)
    service = fo.FlextMetricsService(fo.FlextContainer())
    service.record_metric(metric).unwrap()
    service.record_metric(metric.model_copy(deep=True)).unwrap()
    for rebuilt in (
        fo.FlextMetric.model_validate(metric.model_dump()),
        fo.FlextMetric.model_validate_json(metric.model_dump_json()),
        pickle.loads(pickle.dumps(metric)),  # noqa: S301 - our own
    ):
        service.record_metric(rebuilt.model_copy(update={"id": "x"})).unwrap()
    flush()
    seen = server.metric("m")
    if kind == "histogram":
        assert seen.count == 4
    assert seen.value == {"gauge": 2, "counter": 8, "histogram": 8}[kind]


def test_decimal_metric(server: Collector) -> None:
    """A Decimal arrives as the nearest float."""
    fo.flext_create_metric("price", Decimal("0.1"), metric_type="counter").unwrap()
    flush()
    assert server.metric("price").value == 0.1


def test_metric_names_that_otel_refuses(server: Collector) -> None:
    """Illegal characters become underscores, a first digit gets a letter before it."""
    fo.flext_create_metric("9 lives ü", 1).unwrap()
    flush()
    assert server.metric("m_9_lives__").value == 1


# --- logs ---


@pytest.mark.parametrize(
    ("level", "severity"),
    [("info", "INFO"), ("WARNING", "WARN"), ("error", "ERROR"), ("critical", "FATAL")],
)
@pytest.mark.parametrize("path", ["function", "factory", "service", "both"])
def test_log_entry(
    http_collector: Collector, level: str, severity: str, path: str
) -> None:
    """An entry is one record with its severity, context and ids."""
    start(http_collector)
    service = fo.FlextLoggingService(fo.FlextContainer())
    factory = fo.FlextObservabilityMasterFactory(fo.FlextContainer())
    with fo.flext_span("work") as span:
        if path == "service":
            service.log_entry(level, "hello", {"n": 1}, "req-1").unwrap()
        else:
            make = (
                factory.create_log_entry
                if path == "factory"
                else fo.flext_create_log_entry
            )
            entry = make(level, "hello", {"n": 1}, "req-1").unwrap()
            if path == "both":
                service.log_entry(entry).unwrap()
    flush()
    seen = http_collector.log("hello")
    assert seen.severity == severity
    assert seen.attributes == {"n": 1, "correlation.id": "req-1"}
    assert (seen.trace_id, seen.span_id) == (span.trace_id, span.span_id)


def test_log_entry_below_the_level(server: Collector) -> None:
    """Below ``log_level`` the entry is made, and nothing leaves the process."""
    assert fo.flext_create_log_entry("debug", "psst").unwrap().level == "debug"
    flush()
    assert not server.logs("psst")


def test_log_entry_made_outside_any_span(server: Collector) -> None:
    """It stays outside, though a span is current where it is recorded."""
    entry = fo.FlextLogEntry(level="info", message="outside")
    with fo.flext_span("work"):
        fo.FlextLoggingService(fo.FlextContainer()).log_entry(entry).unwrap()
    flush()
    seen = server.log("outside")
    assert (seen.trace_id, seen.span_id) == ("", "")


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_log_entry_has_the_flags_of_its_span(
    http_collector: Collector, ratio: float
) -> None:
    """Inside the span, after it, and for a span that this process does not know."""
    start(http_collector, sample_ratio=ratio)
    service = fo.FlextLoggingService(fo.FlextContainer())
    with fo.flext_create_trace("work", "shop").unwrap():
        fo.flext_create_log_entry("info", "inside").unwrap()
        after = fo.FlextLogEntry(level="info", message="after")
    service.log_entry(after).unwrap()
    ids = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    service.log_entry(fo.FlextLogEntry(level="info", message="far", **ids)).unwrap()
    flush()
    flags = {
        record.body.string_value: record.flags & 1
        for request in http_collector.requests("logs")
        for resource in request.message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    }
    assert flags == {"inside": int(ratio), "after": int(ratio), "far": 1}


# --- alerts ---


@pytest.mark.parametrize(
    ("severity", "text"),
    [("info", "INFO"), ("warning", "WARN"), ("error", "ERROR"), ("CRITICAL", "FATAL")],
)
@pytest.mark.parametrize("path", ["function", "factory", "service", "both"])
def test_alert(http_collector: Collector, severity: str, text: str, path: str) -> None:
    """An alert is one event and one more on the counter."""
    start(http_collector)
    service = fo.FlextAlertService(fo.FlextContainer())
    factory = fo.FlextObservabilityMasterFactory(fo.FlextContainer())
    with fo.flext_correlation_scope("req-7"):
        if path == "service":
            alert = fo.FlextAlert(
                name="disk",
                severity=severity,
                message="95 %",
                details={"host": "a", "free": 5},
                source="probe",
            )
            service.process_alert(alert).unwrap()
        else:
            make = fo.flext_create_alert if path != "factory" else factory.create_alert
            alert = make(
                "disk", severity, "95 %", {"host": "a", "free": 5}, source="probe"
            ).unwrap()
            if path == "both":
                service.process_alert(alert).unwrap()
                service.process_alert(alert).unwrap()
    flush()
    seen = http_collector.log("95 %")
    assert (seen.event_name, seen.severity) == ("flext.alert", text)
    assert seen.attributes == {
        "flext.alert.id": alert.id,
        "flext.alert.name": "disk",
        "flext.alert.source": "probe",
        "flext.alert.details": {"host": "a", "free": 5},
        "correlation.id": "req-7",
    }
    count = http_collector.metric("flext.alerts")
    assert (count.kind, count.value, count.monotonic) == ("sum", 1, True)
    assert count.attributes == {"severity": severity.lower(), "name": "disk"}


def test_alert_without_a_correlation_id(server: Collector) -> None:
    """Where the trace id stands in, the record's own trace id says it already."""
    with fo.flext_span("work") as span:
        alert = fo.flext_create_alert("disk", "error", "full", tags={"a": 1}).unwrap()
    assert alert.correlation_id == span.trace_id
    flush()
    seen = server.log("full")
    assert (seen.trace_id, seen.span_id) == (span.trace_id, span.span_id)
    assert seen.attributes == {
        "flext.alert.id": alert.id,
        "flext.alert.name": "disk",
        "flext.alert.tags": {"a": "1"},
    }


# --- health checks ---


@pytest.mark.parametrize(
    ("status", "figure", "severity"),
    [("healthy", 1, None), ("Degraded", 0.5, "WARN"), ("unhealthy", 0, "ERROR")],
)
@pytest.mark.parametrize("path", ["function", "factory", "service", "both"])
def test_health_check(
    http_collector: Collector,
    status: str,
    figure: float,
    severity: str | None,
    path: str,
) -> None:
    """A check sets the gauge; a first report is an event unless it is healthy."""
    fo.reset_global_factory()
    start(http_collector)
    service = fo.FlextHealthService(fo.FlextContainer())
    factory = fo.FlextObservabilityMasterFactory(fo.FlextContainer())
    if path == "service":
        check = fo.FlextHealthCheck(name="db", status=status, message="looked")
        service.execute_health_check(check).unwrap()
    else:
        make = (
            factory.create_health_check
            if path == "factory"
            else fo.flext_create_health_check
        )
        check = make("db", status, "looked").unwrap()
        if path == "both":
            service.execute_health_check(check).unwrap()
            service.execute_health_check(check).unwrap()
    flush()
    seen = http_collector.metric("flext.health.status")
    assert (seen.kind, seen.value) == ("gauge", figure)
    assert seen.attributes == {"component": "db"}
    assert [log.severity for log in http_collector.logs("looked")] == (
        [severity] if severity else []
    )
    for log in http_collector.logs("looked"):
        assert log.event_name == "flext.health.changed"


def test_an_old_report_changes_nothing(server: Collector) -> None:
    """A report given again is no news, and does not make the next one news."""
    health = fo.FlextHealthService(fo.FlextContainer())
    up = fo.FlextHealthCheck(name="db", status="healthy")
    health.execute_health_check(up).unwrap()
    for status in ("unhealthy", "unhealthy"):
        check = fo.FlextHealthCheck(name="db", status=status)
        health.execute_health_check(check).unwrap()
        health.execute_health_check(up).unwrap()
    flush()
    assert len(server.logs("db is unhealthy")) == 1


def test_a_change_seen_by_many_threads(server: Collector) -> None:
    """The first of the reports is the change; the others agree with it."""
    health = fo.FlextHealthService(fo.FlextContainer())
    gate = threading.Barrier(8)

    def tell() -> None:
        check = fo.FlextHealthCheck(name="db", status="unhealthy")
        gate.wait()
        health.execute_health_check(check).unwrap()

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush()
    assert len(server.logs("db is unhealthy")) == 1


def test_a_component_among_many(server: Collector) -> None:
    """Whoever reports all the time is not forgotten for those who come and go."""
    health = fo.FlextHealthService(fo.FlextContainer())
    for number in range(1100):
        main = fo.FlextHealthCheck(name="main", status="unhealthy")
        health.execute_health_check(main).unwrap()
        other = fo.FlextHealthCheck(name=f"other {number}", status="healthy")
        health.execute_health_check(other).unwrap()
    flush()
    assert len(server.logs("main is unhealthy")) == 1


def test_health_changes_are_told_once(server: Collector) -> None:
    """An event stands for a change, as the container saw it."""
    factory = fo.FlextObservabilityMasterFactory(fo.FlextContainer())
    other = fo.FlextObservabilityMasterFactory(fo.FlextContainer())
    for status in ("healthy", "unhealthy", "unhealthy", "degraded", "healthy"):
        factory.create_health_check("db", status).unwrap()
    other.create_health_check("db", "unhealthy").unwrap()
    flush()
    told = [
        (
            log.attributes.get("flext.health.former_status"),
            log.attributes["flext.health.status"],
        )
        for log in server.logs()
    ]
    assert told == [
        ("healthy", "unhealthy"),
        ("unhealthy", "degraded"),
        ("degraded", "healthy"),
        (None, "unhealthy"),
    ]


# --- traces ---


@pytest.mark.parametrize("path", ["function", "factory", "service", "text", "with"])
def test_trace(collector: Collector, path: str) -> None:
    """A trace is one span that carries the entity's ids and attributes."""
    start(collector)
    container = fo.FlextContainer()
    service = fo.FlextTracingService(container)
    context: dict[str, object] = {"n": 1, "ok": True, "why": None, "list": [1, "a"]}
    with fo.flext_correlation_scope("req-9"):
        if path in {"service", "with"}:
            trace = fo.FlextTrace(
                operation_name="load",
                service_name="etl",
                operation="etl.load",
                context=context,
            )
            if path == "service":
                service.start_trace(trace).unwrap()
            else:
                trace.__enter__()
        elif path == "text":
            made = service.start_trace("load", "etl", context).unwrap()
            trace = service.search_traces().unwrap()[0]
            assert trace.id == made
        else:
            factory = fo.FlextObservabilityMasterFactory(container)
            make = fo.flext_create_trace if path == "function" else factory.create_trace
            trace = make("load", "etl", context, operation="etl.load").unwrap()
    trace_id = trace.id
    assert trace.status == "running"
    service.start_trace(trace).unwrap()
    assert service.complete_trace(trace.id).unwrap() is trace
    assert trace.id == trace_id
    flush()
    seen = collector.span("load")
    assert trace.id == f"00-{seen.trace_id}-{seen.span_id}-01"
    assert (seen.status, seen.parent_span_id, seen.kind) == ("ok", "", "internal")
    wanted = {
        "n": 1,
        "ok": True,
        "why": "None",
        "list": "[1, 'a']",
        "flext.service.name": "etl",
        "correlation.id": "req-9",
    }
    if path != "text":
        wanted["flext.operation"] = "etl.load"
    assert seen.attributes == wanted
    assert_balanced("traces")


def test_failed_traces(server: Collector) -> None:
    """The text is the span's description; an exception is an event too."""
    service = fo.FlextTracingService(fo.FlextContainer())
    for name, error in (("text", "disk full"), ("error", OSError("disk full"))):
        made = service.start_trace(name).unwrap()
        trace = service.error_trace(made, error).unwrap()
        assert (trace.status, trace.error) == ("failed", "disk full")
    raised = ValueError("no")
    with (
        pytest.raises(ValueError, match="no") as caught,
        fo.FlextTrace(operation_name="block") as block,
    ):
        raise raised
    assert caught.value is raised
    assert (block.status, block.error) == ("failed", "no")
    flush()
    for name in ("text", "error"):
        seen = server.span(name)
        assert (seen.status, seen.status_message) == ("error", "disk full")
    assert not server.span("text").events
    event = server.span("error").event("exception").attributes
    assert (event["exception.type"], event["exception.message"]) == (
        "OSError",
        "disk full",
    )
    assert "raise raised" in str(
        server.span("block").event("exception").attributes["exception.stacktrace"]
    )


def test_attributes_and_events(server: Collector) -> None:
    """The entity stands for its span."""
    trace = fo.FlextTrace(operation_name="load")
    assert trace.add_event("early").error == "Trace not started"
    assert trace.set_attribute("before", 1).success
    with trace:
        assert trace.set_attributes({"during": {"a": 1}}).success
        assert trace.add_event("half", {"n": 1}).success
    assert trace.set_attribute("late", 1).error == "Trace already ended"
    assert trace.add_event("late").error == "Trace already ended"
    flush()
    seen = server.span("load")
    assert seen.attributes["before"] == 1
    assert seen.attributes["during"] == {"a": 1}
    assert "late" not in seen.attributes
    assert seen.event("half").attributes == {"n": 1}
    assert len(seen.events) == 1


@pytest.mark.parametrize("how", ["refcount", "cycle", "copy", "store"])
def test_dropped_trace(server: Collector, how: str) -> None:
    """A trace that nobody holds any more ends by itself."""
    if how == "store":
        service = fo.FlextTracingService(fo.FlextContainer())
        first = service.start_trace("load").unwrap()
        for _ in range(1000):
            service.start_trace("other").unwrap()
        assert service.get_trace_info(first).error == f"Trace '{first}' not found"
    else:
        trace = fo.flext_create_trace("load").unwrap()
        if how == "cycle":
            trace.context["self"] = trace
        if how == "copy":
            copied = trace.model_copy()
            del trace
            gc.collect()
            flush()
            assert not server.spans("load")
            del copied
        else:
            del trace
        gc.collect()
    flush()
    seen = server.spans("load")[0]
    assert seen.attributes["flext.trace.end"] == "dropped"
    assert seen.status == "unset"
    assert seen.end_ns >= seen.start_ns


def test_traces_that_run_at_exit(http_collector: Collector) -> None:
    """They end as dropped, while there is still a way out for them."""
    program = f"""
        import weakref
        import flext_observability as fo
        weakref.finalize(fo.setup, print)  # its exit hook stands before ours
        address = {{"endpoint": {http_collector.endpoint!r}}}
        fo.setup("shop", protocol="http/protobuf", **address).unwrap()
        held = fo.flext_create_trace("held").unwrap()
    """
    run_program(program).ok()
    assert http_collector.span("held").attributes["flext.trace.end"] == "dropped"


def test_ended_trace_is_not_dropped(server: Collector) -> None:
    """A trace ends once."""
    trace = fo.flext_create_trace("load").unwrap()
    trace.complete().unwrap()
    del trace
    gc.collect()
    flush()
    assert "flext.trace.end" not in server.span("load").attributes


def test_current_inside_the_block_only(server: Collector) -> None:
    """A creation function makes nothing current, the block does."""
    trace = fo.flext_create_trace("outer").unwrap()
    with fo.flext_span("beside"):
        pass

    @fo.flext_monitor_function("call")
    def call() -> None:
        fo.flext_create_log_entry("info", "inside").unwrap()

    with trace:
        call()
        child = fo.flext_create_trace("inner").unwrap()
        headers = fo.flext_inject_headers().unwrap()
    assert headers["traceparent"] == trace.id
    child.complete().unwrap()
    with fo.flext_span("after"):
        pass
    flush()
    assert server.span("call").parent_span_id == trace.span_id
    assert server.span("inner").parent_span_id == trace.span_id
    assert server.log("inside").trace_id == trace.trace_id
    for name in ("beside", "after"):
        assert server.span(name).parent_span_id == ""
        assert server.span(name).trace_id != trace.trace_id


def test_start_inside_a_span(server: Collector) -> None:
    """Without a parent of its own, a trace hangs under the current span."""
    service = fo.FlextTracingService(fo.FlextContainer())
    with fo.flext_span("outer") as outer:
        trace = fo.FlextTrace(operation_name="made in outer")
        with fo.flext_span("inner") as inner:
            service.start_trace(trace).unwrap().complete().unwrap()
            created = fo.flext_create_trace("created").unwrap()
            created.complete().unwrap()
    assert created.trace_id == trace.trace_id == outer.trace_id
    flush()
    assert server.span("made in outer").parent_span_id == inner.span_id
    assert server.span("created").parent_span_id == inner.span_id


# --- parents ---


def test_parent_by_id(server: Collector) -> None:
    """The id of an entity leads to exactly its span, running or ended, or foreign."""
    with fo.flext_create_trace("first").unwrap():
        parent = fo.flext_create_trace("parent").unwrap()
    for number in range(2):
        child = fo.flext_create_trace(f"child {number}", parent_trace_id=parent.id)
        assert child.unwrap().trace_id == parent.trace_id
        child.unwrap().complete().unwrap()
        parent.complete()
    caller = (secrets.token_hex(16), secrets.token_hex(8))
    foreign = f"00-{caller[0]}-{caller[1]}-01"
    remote = fo.flext_create_trace("remote", context={"parent_trace_id": foreign})
    remote.unwrap().complete().unwrap()
    flush()
    for number in range(2):
        assert server.span(f"child {number}").parent_span_id == parent.span_id
    seen = server.span("remote")
    assert (seen.trace_id, seen.parent_span_id) == caller
    assert "parent_trace_id" not in seen.attributes
    assert "flext.parent_trace_id" not in seen.attributes


def test_parent_in_another_process(collector: Collector) -> None:
    """The id is the whole handle: a child process hangs its spans under it."""
    start(collector)
    program = f"""
        import sys
        import flext_observability as fo
        address = {{"endpoint": {collector.endpoint!r}}}
        fo.setup("pay", protocol={collector.protocol!r}, **address).unwrap()
        with fo.flext_create_trace("by id", parent_trace_id=sys.argv[1]).unwrap():
            with fo.flext_span("inside"):
                pass
        with fo.flext_extract_headers({{"traceparent": sys.argv[1]}}):
            fo.flext_create_trace("by header").unwrap().complete().unwrap()
    """
    trace = fo.flext_create_trace("parent").unwrap()
    run_program(program, trace.id).ok()
    trace.complete().unwrap()
    flush()
    for name in ("by id", "by header"):
        seen = collector.span(name)
        assert (seen.trace_id, seen.parent_span_id) == (trace.trace_id, trace.span_id)
    assert collector.span("inside").parent_span_id == collector.span("by id").span_id
    assert collector.span("parent").span_id == trace.span_id


def test_parent_by_trace_id(server: Collector) -> None:
    """A trace id leads to the first local span of a known trace."""
    first = fo.flext_create_trace("first").unwrap()
    with first:
        fo.flext_create_trace("second").unwrap().complete().unwrap()
    with fo.flext_span("span") as span, fo.flext_span("inner"):
        pass
    unknown = secrets.token_hex(16)
    for name, trace_id in (
        ("under first", first.trace_id),
        ("under span", span.trace_id),
        ("joins", unknown),
        ("under joined", unknown),
    ):
        with fo.flext_span("elsewhere"):
            made = fo.flext_create_trace(name, parent_trace_id=trace_id).unwrap()
        assert made.trace_id == trace_id
        made.complete().unwrap()
    flush()
    assert server.span("under first").parent_span_id == first.span_id
    assert server.span("under span").parent_span_id == span.span_id
    joined = server.span("joins")
    assert (joined.trace_id, joined.parent_span_id) == (unknown, "")
    assert server.span("under joined").parent_span_id == joined.span_id


def test_a_thousand_traces_are_remembered(server: Collector) -> None:
    """Further ones are forgotten, unless somebody still holds them."""
    held = fo.flext_create_trace("held").unwrap()
    old = fo.flext_create_trace("old").unwrap().trace_id
    recent = fo.flext_create_trace("recent").unwrap().trace_id
    for _ in range(999):
        fo.flext_create_trace("more").unwrap()
    gc.collect()
    for name, trace_id in (("a", held.trace_id), ("c", recent), ("b", old)):
        fo.flext_create_trace(name, parent_trace_id=trace_id).unwrap().complete()
    flush()
    assert server.span("a").parent_span_id == held.span_id
    assert (server.span("b").trace_id, server.span("b").parent_span_id) == (old, "")
    assert server.span("c").parent_span_id == server.span("recent").span_id


@pytest.mark.parametrize(
    "text", ["order-17", "0" * 32, f"00-{'0' * 32}-{'1' * 16}-01", "00-xyz", "é" * 99]
)
def test_parent_of_other_text(server: Collector, text: str) -> None:
    """Other text is kept and shown, and no parent is taken from it."""
    trace = fo.flext_create_trace("load", parent_trace_id=text).unwrap()
    assert trace.parent_trace_id == text
    trace.complete().unwrap()
    flush()
    seen = server.span("load")
    assert seen.attributes["flext.parent_trace_id"] == text
    assert seen.parent_span_id == ""


# --- sampling ---


@pytest.mark.parametrize("path", ["function", "constructor"])
def test_trace_left_out_by_the_sampler(http_collector: Collector, path: str) -> None:
    """The entity is valid and says so; its children are left out too."""
    fo.setup(
        "shop",
        sampler=ALWAYS_OFF,
        endpoint=http_collector.endpoint,
        protocol="http/protobuf",
    ).unwrap()
    service = fo.FlextTracingService(fo.FlextContainer())
    if path == "function":
        trace = fo.flext_create_trace("load").unwrap()
    else:
        trace = fo.FlextTrace(operation_name="load")
    before = trace.id
    assert before.endswith("-00")
    assert service.start_trace(trace).unwrap().id == before
    with trace:
        assert fo.flext_inject_headers().unwrap()["traceparent"] == trace.id
        child = fo.flext_create_trace("child", parent_trace_id=trace.id).unwrap()
    assert (child.trace_id, child.id[-2:]) == (trace.trace_id, "00")
    assert trace.validate_business_rules().success
    flush()
    assert not http_collector.spans()


def test_unsampled_parent_from_elsewhere(server: Collector) -> None:
    """The decision of the caller holds."""
    foreign = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    trace = fo.flext_create_trace("load", parent_trace_id=foreign).unwrap()
    assert trace.id == f"{foreign[:36]}{trace.span_id}-00"
    built = fo.FlextTrace(operation_name="load", parent_trace_id=foreign)
    assert built.id.endswith("-00")
    trace.complete().unwrap()
    flush()
    assert not server.spans()


# --- rebuilt traces ---


def test_rebuilt_trace(server: Collector) -> None:
    """An entity from a dump counts as new and keeps its ids."""
    trace = fo.flext_create_trace("load", "etl", {"n": 1}).unwrap()
    rebuilt = fo.FlextTrace.model_validate(trace.model_dump())
    assert rebuilt == trace
    assert fo.FlextTrace.model_validate_json(trace.model_dump_json()) == trace
    trace.complete().unwrap()
    service = fo.FlextTracingService(fo.FlextContainer())
    service.start_trace(rebuilt).unwrap()
    service.complete_trace(rebuilt).unwrap()
    flush()
    first, second = server.spans("load")
    assert (first.trace_id, first.span_id) == (second.trace_id, second.span_id)


# --- never ---


def test_constructors_emit_nothing(server: Collector) -> None:
    """A value is a value."""
    fo.FlextMetric(name="m", value=1)
    fo.FlextTrace(operation_name="t")
    fo.FlextAlert(name="a", severity="error", message="m")
    fo.FlextHealthCheck(name="h", status="unhealthy")
    fo.FlextLogEntry(level="error", message="l")
    flush()
    assert not server.requests()


def test_invalid_entities_are_not_emitted(server: Collector) -> None:
    """What breaks a rule goes nowhere."""
    container = fo.FlextContainer()
    assert fo.flext_create_metric("", 1).is_failure
    assert fo.flext_create_trace(" ").is_failure
    assert fo.flext_create_alert("a", "loud", "m").is_failure
    assert fo.flext_create_health_check("h", "fine").is_failure
    assert fo.flext_create_log_entry("error", "").is_failure
    assert fo.FlextTracingService(container).start_trace("").is_failure
    assert (
        fo.FlextTracingService(container)
        .start_trace(fo.FlextTrace(operation_name=""))
        .is_failure
    )
    assert (
        fo.FlextAlertService(container)
        .process_alert(fo.FlextAlert(name="a", severity="x", message="m"))
        .is_failure
    )
    flush()
    assert not server.requests()


@pytest.mark.parametrize("signal", list(NOTHING))
def test_signal_switched_off(http_collector: Collector, signal: str) -> None:
    """Without a signal every call still works, and nothing of it leaves."""
    field = "tracing_enabled" if signal == "traces" else f"{signal}_enabled"
    switched_off: dict[str, Any] = {field: False}
    start(http_collector, **switched_off)
    with fo.flext_create_trace("load").unwrap() as trace:
        assert fo.flext_create_trace("child").unwrap().trace_id == trace.trace_id
        fo.flext_create_alert("a", "error", "m").unwrap()
        fo.flext_create_health_check("h", "unhealthy").unwrap()
    flush()
    assert trace.validate_business_rules().success
    assert not http_collector.requests(signal)
    for other in set(NOTHING) - {signal}:
        assert http_collector.requests(other)


def test_trace_across_an_exchange(http_collector: Collector) -> None:
    """A trace that runs while setup is called again arrives all the same."""
    start(http_collector)
    trace = fo.flext_create_trace("load").unwrap()
    start(http_collector, "other shop")
    child = fo.flext_create_trace("child", parent_trace_id=trace.id).unwrap()
    child.complete().unwrap()
    trace.complete().unwrap()
    flush()
    assert http_collector.span("child").parent_span_id == trace.span_id
    assert http_collector.span("load").status == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork(server: Collector) -> None:
    """A child's copies of running traces end nothing; its own traces arrive."""
    trace = fo.flext_create_trace("parent's").unwrap()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            own = fo.flext_create_trace("child's", parent_trace_id=trace.id).unwrap()
            del trace
            gc.collect()
            own.complete().unwrap()
            status = 0 if fo.flush().success else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    trace.complete().unwrap()
    flush()
    assert server.span("child's").parent_span_id == trace.span_id
    seen = server.span("parent's")
    assert seen.status == "ok"
    assert "flext.trace.end" not in seen.attributes


def test_hooks_see_the_ids(http_collector: Collector) -> None:
    """A processor may start spans of its own; they do not take our ids."""

    class Nosy(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            if span.name == "load":
                get_tracer("nosy").start_span("inside", Context()).end()

    fo.setup(
        "shop",
        endpoint=http_collector.endpoint,
        protocol="http/protobuf",
        span_processors=[Nosy()],
    ).unwrap()
    trace = fo.flext_create_trace("load").unwrap()
    trace.complete().unwrap()
    flush()
    inside = http_collector.span("inside")
    assert http_collector.span("load").span_id == trace.span_id != inside.span_id
    assert inside.trace_id != trace.trace_id


def test_broken_sampler(http_collector: Collector) -> None:
    """A sampler that raises costs the span, not the entity."""

    class Broken(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError

        def get_description(self) -> str:
            return "broken"

    fo.setup(
        "shop",
        sampler=Broken(),
        endpoint=http_collector.endpoint,
        protocol="http/protobuf",
    ).unwrap()
    service = fo.FlextTracingService(fo.FlextContainer())
    for trace in (
        fo.FlextTrace(operation_name="built"),
        fo.flext_create_trace("created").unwrap(),
    ):
        before = trace.id
        assert service.start_trace(trace).unwrap().id == before
        assert trace.validate_business_rules().success
        assert service.complete_trace(before).unwrap() is trace
    flush()
    assert not http_collector.spans()


def test_before_setup_nothing_is_owed(http_collector: Collector) -> None:
    """What was made before setup is not sent after it, but can be a parent."""
    parent = fo.flext_create_trace("early").unwrap()
    fo.flext_create_alert("early", "error", "early").unwrap()
    start(http_collector)
    child = fo.flext_create_trace("child", parent_trace_id=parent.id).unwrap()
    child.complete().unwrap()
    parent.complete().unwrap()
    flush()
    assert not http_collector.logs()
    assert [span.name for span in http_collector.spans()] == ["child"]
    assert http_collector.span("child").parent_span_id == parent.span_id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_fork_while_a_trace_starts() -> None:
    """A child can ask for a trace that another thread of the parent is starting."""
    program = """
        import os, signal, threading
        from opentelemetry.sdk.trace import SpanProcessor
        import flext_observability as fo

        class Slow(SpanProcessor):
            began, end = threading.Event(), threading.Event()

            def on_start(self, span, parent_context=None):
                self.began.set()
                self.end.wait()

        fo.setup("shop", exporters=["none"], span_processors=[Slow()]).unwrap()
        tracing = fo.FlextTracingService(fo.FlextContainer())
        trace = fo.FlextTrace(operation_name="slow")
        thread = threading.Thread(target=tracing.start_trace, args=(trace,))
        thread.start()
        Slow.began.wait()
        if child := os.fork():
            print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            Slow.end.set()
            thread.join()
        else:
            signal.alarm(10)
            tracing.start_trace(trace)
            os._exit(0)
        """
    assert run_program(program).ok().lines == ["child 0"]
