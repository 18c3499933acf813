"""The correlation id, and headers that carry context between processes."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest
from opentelemetry import baggage, trace

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start

FRESH = re.compile(r"[0-9a-f]{32}")


def test_on_spans_and_logs(collector: Collector) -> None:
    """Inside a scope, spans and log records carry the id; outside they do not."""
    start(collector)

    @fo.flext_monitor_function("work")
    def work() -> None:
        fo.get_logger("shop").warning("inside")

    with fo.flext_correlation_scope("req-7") as given:
        assert given == "req-7"
        work()
        with fo.flext_span("block"):
            fo.flext_create_log_entry("info", "entry").unwrap()
    with fo.flext_span("outside"):
        fo.get_logger("shop").warning("later")
    flush()
    for item in (
        collector.span("work"),
        collector.span("block"),
        collector.log("inside"),
        collector.log("entry"),
    ):
        assert item.attributes["correlation.id"] == "req-7"
    assert "correlation.id" not in collector.span("outside").attributes
    assert "correlation.id" not in collector.log("later").attributes


def test_on_spans_of_plain_opentelemetry(server: Collector) -> None:
    """Spans that an instrumentation makes carry the id too."""
    with fo.flext_correlation_scope("req-7"):
        trace.get_tracer("x").start_span("plain").end()
    flush()
    assert server.span("plain").attributes["correlation.id"] == "req-7"


def test_scope_restores(server: Collector) -> None:
    """Scopes nest and give back what was before, also on an exception."""
    inside: list[str] = []

    def fail() -> None:
        with fo.flext_correlation_scope("inner"):
            inside.append(fo.flext_get_correlation_id())
            raise KeyError

    assert fo.flext_get_correlation_id() == ""
    with fo.flext_correlation_scope("outer"):
        with pytest.raises(KeyError):
            fail()
        assert fo.flext_get_correlation_id() == "outer"
    assert inside == ["inner"]
    assert fo.flext_get_correlation_id() == ""
    assert not server.requests()


def test_scope_without_id_is_fresh() -> None:
    """A scope nobody named has a fresh id, another one each time."""
    with fo.flext_correlation_scope() as first:
        assert FRESH.fullmatch(first)
        assert fo.flext_get_correlation_id() == first
    with fo.flext_correlation_scope() as second:
        assert second != first


def test_trace_id_stands_in(server: Collector) -> None:
    """Inside a span without id the trace id stands in."""
    with fo.flext_span("x"):
        shown = fo.flext_get_correlation_id()
        sent = fo.flext_inject_headers({}).unwrap()["X-Correlation-ID"]
    assert fo.flext_get_correlation_id() == ""
    flush()
    assert shown == sent == server.span("x").trace_id


@pytest.mark.parametrize(
    "bad",
    ["", " ", "a b", "a\n", "ä", "x" * 129, "a;b", "\x00", None, 7, b"bytes"],
    ids=repr,
)
def test_illegal_ids_are_replaced(bad: Any) -> None:
    """What is no legal id is replaced by a fresh one, in every way to set it."""
    fo.flext_set_correlation_id(bad)
    assert FRESH.fullmatch(fo.flext_get_correlation_id())
    if bad is not None:
        with fo.flext_correlation_scope(bad) as replaced:
            assert FRESH.fullmatch(replaced)
    if not isinstance(bad, bytes):  # Frameworks give headers as bytes.
        with fo.flext_correlation_scope(headers={"X-Correlation-ID": bad}) as replaced:
            assert FRESH.fullmatch(replaced)


@pytest.mark.parametrize("good", ["a", "A-1_2.3", "x" * 128])
def test_legal_ids_stay(good: str) -> None:
    """Legal ids are taken as they are."""
    fo.flext_set_correlation_id(good)
    assert fo.flext_get_correlation_id() == good


def test_tasks_inherit_and_never_leak() -> None:
    """A task starts with its creator's id; what it sets stays inside it."""
    seen: list[str] = []

    async def child() -> None:
        seen.append(fo.flext_get_correlation_id())
        fo.flext_set_correlation_id("child")
        await asyncio.sleep(0)
        assert fo.flext_get_correlation_id() == "child"

    async def main() -> None:
        fo.flext_set_correlation_id("main")
        await asyncio.gather(*(asyncio.create_task(child()) for _ in range(3)))
        assert fo.flext_get_correlation_id() == "main"

    asyncio.run(main())
    assert seen == ["main"] * 3
    assert fo.flext_get_correlation_id() == ""


def test_new_threads_start_unset() -> None:
    """A new thread starts without id and gives none back."""
    seen: list[str] = []

    def work() -> None:
        seen.append(fo.flext_get_correlation_id())
        fo.flext_set_correlation_id("thread")

    fo.flext_set_correlation_id("main")
    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [""]
    assert fo.flext_get_correlation_id() == "main"


def test_requests_on_a_pool_never_mix(server: Collector) -> None:
    """Ids of requests that share worker threads stay with their own request."""

    @fo.flext_monitor_function("handle")
    def handle(number: int) -> None:
        with fo.flext_correlation_scope(f"req-{number}"), fo.flext_span(f"{number}"):
            pass
        assert fo.flext_get_correlation_id() not in {f"req-{n}" for n in range(50)}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(handle, range(50)))
    flush()
    for number in range(50):
        attributes = server.span(f"{number}").attributes
        assert attributes["correlation.id"] == f"req-{number}"


def test_round_trip(server: Collector) -> None:
    """Injected headers, extracted elsewhere, continue trace, baggage and id."""
    with fo.flext_correlation_scope("req-9"), fo.flext_span("client"):
        headers = fo.flext_inject_headers({"Accept": "*/*"}).unwrap()
    assert headers["Accept"] == "*/*"
    assert headers["X-Correlation-ID"] == "req-9"

    with fo.flext_extract_headers({**headers, "baggage": "tenant=t1"}):
        assert fo.flext_get_correlation_id() == "req-9"
        assert baggage.get_baggage("tenant") == "t1"
        with fo.flext_span("server"):
            pass
    assert fo.flext_get_correlation_id() == ""
    assert not trace.get_current_span().get_span_context().is_valid
    assert baggage.get_baggage("tenant") is None
    flush()
    client, remote = server.span("client"), server.span("server")
    assert remote.trace_id == client.trace_id
    assert remote.parent_span_id == client.span_id
    assert remote.attributes["correlation.id"] == "req-9"


def test_scope_with_headers(server: Collector) -> None:
    """A scope can take id and parent from headers."""
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    headers = {"TraceParent": parent, "x-CORRELATION-id": "req-3"}
    with fo.flext_correlation_scope(headers=headers) as given, fo.flext_span("x"):
        assert given == "req-3"
    flush()
    assert server.span("x").trace_id == "1" * 32
    assert server.span("x").parent_span_id == "2" * 16


def test_tracestate_travels(server: Collector) -> None:
    """Vendor state of the caller is kept on spans and passed on."""
    headers = {
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "tracestate": "vendor=abc",
    }
    with fo.flext_extract_headers(headers), fo.flext_span("x"):
        assert fo.flext_inject_headers({}).unwrap()["tracestate"] == "vendor=abc"
    flush()
    assert server.span("x").trace_state == "vendor=abc"


def test_inject_replaces_in_any_case(server: Collector) -> None:
    """Headers that are already there are replaced whatever their case; input stays."""
    given = {"TRACEPARENT": "old", "x-correlation-id": "old"}
    with fo.flext_correlation_scope("new"), fo.flext_span("x"):
        headers = fo.flext_inject_headers(given).unwrap()
    assert given == {"TRACEPARENT": "old", "x-correlation-id": "old"}
    lowered = {name.lower(): value for name, value in headers.items()}
    assert len(lowered) == len(headers)
    assert lowered["x-correlation-id"] == "new"
    assert lowered["traceparent"].startswith("00-")
    assert not server.requests()


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"traceparent": ""},
        {"traceparent": "garbage"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "00-" + "g" * 32 + "-" + "1" * 16 + "-01"},
        {"traceparent": "ff-" + "1" * 32 + "-" + "2" * 16 + "-01"},
        {"traceparent": "x" * 1_000_000},
        {"traceparent": None},
        {"traceparent": b"\xff\xfe"},
        {"traceparent": ["a", "b"]},
        {7: 8, None: None},
        {"baggage": "a=%0d%0aSet-Cookie:x", "tracestate": "=,=,="},
        {"baggage": ",".join(f"k{n}=v" for n in range(10_000))},
        {"X-Correlation-ID": "evil\r\nSet-Cookie: x=1"},
        {"X-Correlation-ID": "x" * 1_000_000},
        [("traceparent", "x")],
        "not headers",
        7,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_headers(server: Collector, headers: Any) -> None:
    """Whatever a caller sends, the block runs and what goes out is harmless."""
    with fo.flext_extract_headers(headers), fo.flext_span("x"):
        sent = fo.flext_inject_headers({}).unwrap()
    with fo.flext_correlation_scope(headers=headers):
        pass
    injected = fo.flext_inject_headers(headers)
    assert injected.success or injected.error
    for name, value in sent.items():
        assert value.isprintable(), name
        assert len(value) <= 16_384
        assert "\r" not in value
        assert "\n" not in value
    flush()
    assert server.span("x").parent_span_id == ""


def test_no_parent_from_an_earlier_request(server: Collector) -> None:
    """Headers without a parent start a new trace, whatever is current."""
    with fo.flext_span("before"), fo.flext_extract_headers({}), fo.flext_span("x"):
        pass
    flush()
    assert server.span("x").parent_span_id == ""
    assert server.span("x").trace_id != server.span("before").trace_id
