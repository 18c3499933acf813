"""R22: any value in any telemetry call raises nothing and costs no record.

Each arrives with the value made legal and marked, and its neighbours with it, through
our own calls and through plain OpenTelemetry objects. What arrives is decoded by
protobuf, which takes no text that is no UTF-8. (tests/integration/
test_hostile_values.py has every value in every one of our calls.)
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.hostile import ENDLESS
from tests.fixtures.hostile import VALUES as ENDING
from tests.fixtures.library import assert_balanced, flush, start

VALUES = ENDING | ENDLESS
MARK = "… [truncated]"
LIMIT = 16 * 1024


@pytest.fixture
def server(http_collector: Collector) -> Collector:
    """A collector with the library already set up against it."""
    start(http_collector)
    return http_collector


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The SDK's own warnings about the values are not the matter."""
    with caplog.at_level(logging.CRITICAL, logger="opentelemetry"):
        yield


def assert_nothing_lost() -> None:
    """Every record was delivered, and the books say so."""
    assert_balanced()
    for name, ledger in fo.status().signals.items():
        assert not ledger.dropped, name
        assert ledger.rejected == 0, name


LEGAL: dict[str, Callable[[Any], bool]] = {
    "none": lambda v: v is None,
    "surrogate": lambda v: v == "a?b",
    "pair of surrogates": lambda v: v == "??",
    "nul": lambda v: v == "a\x00b",
    "huge int": lambda v: v == str(10**400),
    "enormous int": lambda v: v == "<integer of 16610 bits>",
    "over 64 bits": lambda v: v == str(2**64),
    "under 64 bits": lambda v: v == str(-(2**63) - 1),
    "nan": math.isnan,
    "infinity": lambda v: v == math.inf,
    "negative zero": lambda v: v == 0 and math.copysign(1, v) == -1,
    "megabyte": lambda v: v == "x" * (LIMIT - len(MARK.encode())) + MARK,
    "megabyte of emoji": lambda v: v.endswith(MARK) and len(v.encode()) <= LIMIT,
    "bytes": lambda v: v == b"\xff\x00",
    "bytearray": lambda v: v == b"\xff\x00",
    "megabyte of bytes": lambda v: v == b"x" * LIMIT,
    "many": lambda v: v == [*range(127), "… [99873 more]"],
    "mixed": lambda v: v == [1, "a", None, 2.5, b"x"],
    "cycle": lambda v: v == [1, [1, [1, [1, [1, [1, [1, [1, "<too deep>"]]]]]]]],
    "cyclic dict": lambda v: v["self"]["self"]["a"] == 1,
    "wide cycle": lambda v: len(v) <= 128,
    "deep": lambda v: v == [[[[[[[["<too deep>"]]]]]]]],
    "keys": lambda v: v == {"1": 2, "None": 3, "(1, 2)": 4},
    "keys with surrogates": lambda v: v == {"?": 1},
    "10^5 keys": lambda v: len(v) == 128 and v["…"] == "… [99873 more]",
    "inside": lambda v: v == [{"a": ["?", str(2**70), {"b": [1]}]}],
    "raises": lambda v: v == "<unprintable>",
    "raises inside": lambda v: v == [1, "<unprintable>", {"k": "<unprintable>"}],
    "long error": lambda v: v == "<unprintable>",
    "lies": lambda v: v == "abc",
    "returns": lambda v: v == "abc",
    "mutters": lambda v: v == "<unprintable>",
    "endless": lambda v: v == {f"key {n}": 1 for n in range(1, 4)},
    "read-only mapping": lambda v: v == {"a": 1},
    "class": lambda v: "Raises" in v,
    "function": lambda v: "len" in v,
    "set": lambda v: v == [1, 2],
    "enum": lambda v: v == "red",
    "int enum": lambda v: v == 1,
    "moment": lambda v: v == "2026-01-02 03:04:05+00:00",
    "duration": lambda v: v == "0:00:01.500000",
    "decimal": lambda v: v == "1.5",
    "decimal nan": lambda v: v == "sNaN",
    "fraction": lambda v: v == "1/3",
    "complex": lambda v: v == "1j",
    "uuid": lambda v: v == "00000000-0000-0000-0000-000000000001",
    "path": lambda v: v == "/x",
    "exception": lambda v: v == "x",
    "generator": lambda v: "generator" in v,
    "coroutine function": lambda v: "sleep" in v,
}


def test_every_value_is_made_legal_and_marked(
    server: Collector, figure: Callable[..., None]
) -> None:
    """One batch of every hostile value: each arrives in its legal form."""
    assert LEGAL.keys() == VALUES.keys()
    log, tracer = fo.get_logger("shop"), start(server).tracer
    for name, value in VALUES.items():
        with fo.flext_span(name, {"bad": value, "good": 1}) as span:
            span.add_event("event", {"bad": value, "good": 1})
        log.warning(name, bad=value, good=1)
        with tracer.start_as_current_span(f"plain {name}") as plain:
            plain.set_attributes({"bad": value, "good": 1})
            plain.add_event("event", {"bad": value, "good": 1})
        with fo.flext_span("neighbour"):
            pass
    flush()
    for name, is_legal in LEGAL.items():
        spans = (server.span(name), server.span(f"plain {name}"))
        (record,) = server.logs(name)
        for found in (
            *(span.attributes for span in spans),
            *(span.event("event").attributes for span in spans),
            record.attributes,
        ):
            assert found["good"] == 1
            assert is_legal(found["bad"]), (name, found["bad"])
    assert len(server.spans("neighbour")) == len(VALUES)
    assert_nothing_lost()
    figure("R22", values=len(VALUES), records=len(server.spans()), lost=0)


def _plain_spans(handle: fo.FlextObservability, value: Any) -> None:
    """Everything a plain tracer and span can be given."""
    tracer = handle.tracer
    calls: list[Callable[[], Any]] = [
        lambda: tracer.start_span(value).end(),
        lambda: tracer.start_span("plain", attributes={"bad": value}).end(),
        lambda: tracer.start_span("plain", attributes=value).end(),
        lambda: tracer.start_span("plain", kind=value).end(),
        lambda: tracer.start_span("plain", start_time=value).end(end_time=value),
        lambda: tracer.start_span("plain", links=value).end(),
        lambda: tracer.start_span("plain", links=[value]).end(),
        lambda: tracer.start_span("plain", links=[Link(value, {"bad": value})]).end(),
        lambda: tracer.start_span(
            "plain", links=[Link(SpanContext(2**200, -1, is_remote=False), {"a": 1})]
        ).end(),
        lambda: _use(tracer.start_as_current_span("plain", attributes={"bad": value})),
    ]
    for call in calls:
        call()
    span: Any = tracer.start_span("plain")
    for each in (
        lambda: span.set_attribute("bad", value),
        lambda: span.set_attribute(value, 1),
        lambda: span.set_attributes({"bad": value, "other": 1}),
        lambda: span.set_attributes(value),
        lambda: span.add_event("event", {"bad": value}),
        lambda: span.add_event(value, value, value),
        lambda: span.add_link(value),
        lambda: span.add_link(SpanContext(5, 2**70, is_remote=True), {"bad": value}),
        lambda: span.record_exception(ValueError(value)),
        lambda: span.record_exception(value),
        lambda: span.set_status(StatusCode.ERROR, value),
        lambda: span.set_status(value),
        lambda: span.update_name(value),
        lambda: span.set_attribute("good", 1),
        span.end,
        span.end,
    ):
        each()


def _use(block: Any) -> None:
    with block as span:
        span.set_attribute("inside", 1)


def _plain_logs(handle: fo.FlextObservability, value: Any) -> None:
    """Everything a plain logger can be given."""
    logger: Any = handle.logger
    for options in (
        {"body": value},
        {"body": {"key": [value]}},
        {"attributes": {"bad": value}},
        {"attributes": value},
        {"severity_text": value},
        {"severity_number": value},
        {"event_name": value},
        {"timestamp": value},
        {"observed_timestamp": value},
        {"exception": value},
    ):
        logger.emit(**options)
    logger.emit(LogRecord(body=value, attributes={"bad": value}))
    logger.emit(value)


@pytest.mark.parametrize("name", VALUES)
def test_plain_opentelemetry_calls(server: Collector, name: str) -> None:
    """Nothing raises, nothing is lost, and what stood beside it arrives."""
    plain = start(server)
    with plain.tracer.start_as_current_span("before"):
        plain.logger.emit(body="before", severity_number=SeverityNumber.INFO)
    _plain_spans(plain, VALUES[name])
    _plain_logs(plain, VALUES[name])
    with plain.tracer.start_as_current_span("after"):
        plain.logger.emit(body="after", severity_number=SeverityNumber.INFO)
    flush()
    for neighbour in ("before", "after"):
        assert server.span(neighbour)
        assert server.log(neighbour)
    assert len(server.spans()) >= 12
    assert len(server.logs()) >= 12
    assert_nothing_lost()


@pytest.mark.parametrize("name", VALUES)
def test_plain_names(server: Collector, name: str) -> None:
    """A tracer, meter, logger or instrument of any name works."""
    from opentelemetry import _logs, metrics, trace

    value = VALUES[name]
    tracer = trace.get_tracer(value, value, None, value, {"bad": value})
    tracer.start_span("named").end()
    logger = _logs.get_logger(value, value, None, value, {"bad": value})
    logger.emit(body="named")
    meter = metrics.get_meter(value, value, None, value, {"bad": value})
    meter.create_counter("named").add(1)
    meter.create_counter(value, unit=value, description=value).add(1)
    meter.create_histogram(value).record(1)
    flush()
    assert server.span("named")
    assert server.log("named")
    assert server.metric("named").value == 1
    assert not fo.status().signals["traces"].dropped
    assert not fo.status().signals["logs"].dropped
    assert_balanced()


def test_exceptions_without_a_text(server: Collector) -> None:
    """The program's exception leaves a plain span unchanged, text or none."""
    plain = start(server).tracer

    class NastyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = NastyError()
    with pytest.raises(NastyError) as first, plain.start_as_current_span("one"):
        raise error
    with pytest.raises(NastyError) as second, plain.start_span("two"):
        raise error
    assert first.value is second.value is error
    flush()
    for name in ("one", "two"):
        span = server.span(name)
        assert (span.status, span.status_message) == (
            "error",
            "NastyError: <unprintable>",
        )
        told = span.event("exception").attributes
        assert told["exception.message"] == "<unprintable>"
        assert told["exception.type"].endswith("NastyError")


def test_a_dict_changed_by_another_thread(server: Collector) -> None:
    """A dict that another thread keeps changing arrives, in one of its states."""
    shared: dict[str, Any] = {f"key {n}": n for n in range(60)}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared[f"more {number % 50}"] = number
            shared.pop(f"more {(number + 7) % 50}", None)

    thread = threading.Thread(target=change)
    thread.start()
    plain = start(server)
    logger = plain.logger
    try:
        for _ in range(300):
            with fo.flext_span("shared", {"bad": shared}) as span:
                span.set_attributes(shared)
            logger.emit(body=shared)
    finally:
        stop.set()
        thread.join()
    flush()
    assert len(server.spans("shared")) == 300
    assert all(s.attributes["bad"]["key 59"] == 59 for s in server.spans("shared"))
    assert all(log.body["key 59"] == 59 for log in server.logs())
    assert_nothing_lost()


def test_a_body_changed_after_the_call(server: Collector) -> None:
    """What was emitted is what the body held at that moment."""
    plain = start(server)
    body: dict[str, Any] = {"state": "then"}
    plain.logger.emit(body=body)
    body["state"] = "later"
    flush()
    (log,) = server.logs()
    assert log.body == {"state": "then"}


def test_a_hundred_megabytes(server: Collector) -> None:
    """A text of 100 MB costs what is kept of it, not the batch."""
    text = "x" * 100_000_000
    plain = start(server)
    with fo.flext_span("ours", {"bad": text}):
        plain.logger.emit(body=text)
    span = plain.tracer.start_span("plain", attributes={"bad": text})
    span.set_status(Status(StatusCode.ERROR, text))
    span.end()
    flush()
    for name in ("ours", "plain"):
        kept = server.span(name).attributes["bad"]
        assert kept.endswith(MARK)
        assert len(kept.encode()) == LIMIT
    assert server.span("plain").status_message.endswith(MARK)
    assert str(server.logs()[0].body).endswith(MARK)


def test_a_hundred_thousand_attributes(
    server: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """As many are kept as a span holds, the others are counted, in few log lines."""
    many = {f"key {n}": n for n in range(100_000)}
    plain = start(server)
    with caplog.at_level(logging.WARNING, logger="opentelemetry"):
        with fo.flext_span("ours", many):
            pass
        plain.tracer.start_span("plain", attributes=many).end()
        plain.logger.emit(body="log", attributes=many)
    flush()
    for found in (
        server.span("ours").attributes,
        server.span("plain").attributes,
        server.log("log").attributes,
    ):
        assert len(found) == 128
        assert found["flext.attributes.dropped"] == 100_000 - 127
    assert len(caplog.records) < 10


def test_more_attributes_when_asked_for(http_collector: Collector) -> None:
    """A higher limit of attributes holds for our calls as for plain ones."""
    start(http_collector, max_span_attributes=500)
    with fo.flext_span("ours", {f"key {n}": n for n in range(500)}):
        pass
    flush()
    assert len(http_collector.span("ours").attributes) == 500


def test_what_a_log_record_left_out_is_counted(http_collector: Collector) -> None:
    """The correlation id takes a place like any other, and the count is right."""
    plain = start(http_collector, max_log_attributes=4)
    with (
        pytest.warns(UserWarning, match="dropped"),
        fo.flext_correlation_scope("req-7"),
    ):
        plain.logger.emit(body="log", attributes={f"k{n}": n for n in range(10)})
    flush()
    (request,) = http_collector.requests("logs")
    (sent,) = request.message.resource_logs[0].scope_logs[0].log_records
    assert sent.dropped_attributes_count == 7
    assert http_collector.log("log").attributes == {
        **{f"k{n}": n for n in (7, 8, 9)},
        "correlation.id": "req-7",
    }


def test_longer_texts_when_asked_for(http_collector: Collector) -> None:
    """A stated length of attributes rules: longer texts pass, in our calls too."""
    start(http_collector, max_attribute_length=50_000)
    with fo.flext_span("ours", {"text": "x" * 60_000}):
        pass
    flush()
    assert http_collector.span("ours").attributes["text"] == "x" * 50_000


def test_the_end_of_a_stack_is_kept(server: Collector) -> None:
    """A stack trace beyond the limit keeps its end, where it broke."""
    plain = start(server)

    def deep(depth: int) -> None:
        if depth:
            deep_too(depth - 1)
        message = "the very end"
        raise ValueError(message)

    def deep_too(depth: int) -> None:
        deep(depth)

    with (
        pytest.raises(ValueError, match="end"),
        plain.tracer.start_as_current_span("plain"),
    ):
        deep(200)
    flush()
    stack = server.span("plain").event("exception").attributes["exception.stacktrace"]
    assert stack.startswith(MARK)
    assert stack.rstrip().endswith("ValueError: the very end")
    assert len(stack.encode()) <= LIMIT


# -- anything at all

TEXTS = st.text(st.characters(codec=None), max_size=30)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.binary(max_size=30)
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.complex_numbers()
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(SCALARS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(SCALARS, max_size=3)
    ),
    max_leaves=12,
)
LEGAL_TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | LEGAL_TEXTS
    | st.binary(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(LEGAL_TEXTS.filter(bool), inner, max_size=4)
    ),
    max_leaves=12,
)
MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MANY
@given(value=ANYTHING, name=TEXTS, number=st.integers(-5, 2**65))
def test_anything(server: Collector, value: Any, name: str, number: int) -> None:
    """Whatever the program hands over, every record of it arrives."""
    server.clear()
    plain = start(server)
    tracer, logger = plain.tracer, plain.logger
    link = Link(
        SpanContext(number, number, is_remote=True, trace_flags=TraceFlags(1)),
        {name: value},
    )
    span = tracer.start_span(name, attributes={name: value, "good": 1}, links=[link])
    span.add_event(name, {"k": value}, timestamp=number)
    span.set_status(StatusCode.ERROR, name)
    span.end()
    logger.emit(body=value, attributes={name: value}, event_name=name, timestamp=number)
    with fo.flext_span(name, {name: value, "good": 1}):
        fo.get_logger("shop").warning(name, value=value)
    flush()
    spans = server.spans()
    assert len(spans) == 2
    assert all(span.attributes["good"] == 1 for span in spans)
    assert len(server.logs()) == 2
    assert_nothing_lost()


@MANY
@given(value=PLAIN)
def test_what_is_legal_stays_as_it_is(http_collector: Collector, value: Any) -> None:
    """A legal value arrives as it was given, while secrets are not looked for."""
    http_collector.clear()
    plain = start(http_collector, redaction=False)
    plain.tracer.start_span("plain", attributes={"value": value}).end()
    plain.logger.emit(body=value, attributes={"value": value})
    with fo.flext_span("ours", {"value": value}):
        pass
    flush()
    assert http_collector.span("plain").attributes["value"] == value
    assert http_collector.span("ours").attributes["value"] == value
    (log,) = http_collector.logs()
    assert log.body == value
    assert log.attributes["value"] == value
