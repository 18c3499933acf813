"""Log records become the bytes that the stock encoder makes of them."""

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags
from tests.fixtures.encoders import LOGS, calls_of_stock
from tests.fixtures.hostile import VALUES as HOSTILE
from tests.fixtures.records import (
    ATTRIBUTES,
    EXAMPLES,
    NAMES,
    ODDITIES,
    RESOURCES,
    SCOPES,
    SPAN_IDS,
    TIMES,
    TRACE_IDS,
    VALUES,
    Fields,
    spoilt,
)

SOURCE = {"resource", "instrumentation_scope"}
FIELDS: Fields = st.fixed_dictionaries(
    {
        "timestamp": TIMES,
        "observed_timestamp": TIMES,
        "trace_id": TRACE_IDS,
        "span_id": SPAN_IDS,
        "trace_flags": st.integers(0, 255).map(TraceFlags),
        "severity_text": st.none() | NAMES,
        "severity_number": st.none() | st.sampled_from(SeverityNumber),
        "body": VALUES,
        "event_name": st.none() | NAMES,
        "attributes": ATTRIBUTES,
        "resource": RESOURCES,
        "instrumentation_scope": st.none() | SCOPES,
    }
)


def log(fields: dict[str, Any]) -> ReadableLogRecord:
    record = LogRecord()
    for name in fields.keys() - SOURCE:
        setattr(record, name, fields[name])
    return ReadableLogRecord(record, **{name: fields[name] for name in SOURCE})


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What the stock encoder says about odd values is not the matter."""
    with caplog.at_level(logging.CRITICAL, logger="opentelemetry"):
        yield


@EXAMPLES
@given(st.lists(FIELDS.map(log), max_size=5))
def test_any_records(records: list[ReadableLogRecord]) -> None:
    """Records of every shape, with any body, give the same bytes, or none."""
    LOGS.assert_same(records)


@EXAMPLES
@given(st.lists(FIELDS.map(log), max_size=2), spoilt(FIELDS).map(log))
def test_anything_in_a_field(
    records: list[ReadableLogRecord], odd: ReadableLogRecord
) -> None:
    """With anything in a field: the same bytes, or none from either encoder."""
    LOGS.assert_same([*records, odd])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies(name: str) -> None:
    """Bodies that break what touches them give what the stock encoder gives."""
    record = LogRecord(body=HOSTILE[name], attributes={"value": HOSTILE[name]})
    resource = LoggerProvider().resource
    LOGS.assert_same([ReadableLogRecord(record, resource)])


USUAL: dict[str, Any] = {
    "timestamp": 1,
    "observed_timestamp": 2,
    "trace_id": 3,
    "span_id": 4,
    "trace_flags": TraceFlags(1),
    "severity_text": "INFO",
    "severity_number": SeverityNumber.INFO,
    "body": "placed",
    "event_name": "order",
    "attributes": {"a": 1},
    "resource": Resource({"service.name": "shop"}),
    "instrumentation_scope": InstrumentationScope("lib"),
}


@pytest.mark.parametrize("field", USUAL)
def test_odd_fields(field: str) -> None:
    """Each field in turn with odd contents: the same bytes, or none from either."""
    taken = [LOGS.assert_same([log(USUAL | {field: odd})]) for odd in ODDITIES]
    assert any(taken) or field == "resource"


def test_records_of_the_sdk() -> None:
    """What the SDK's own loggers emit is encoded without the stock encoder's help."""
    memory = cast("Any", InMemoryLogRecordExporter)()  # it has no types
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    for number in range(3):
        logger = provider.get_logger(f"lib {number % 2}", "1")
        logger.emit(body=f"line {number}", attributes={"number": number})
        logger.emit(
            timestamp=1,
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            event_name="failed",
            exception=ValueError("boom"),
        )
    records = memory.get_finished_logs()
    assert len(records) == 6
    assert LOGS.assert_same(records)
    assert calls_of_stock(lambda: LOGS.ours(records)) == 0


def test_no_records() -> None:
    """Nothing makes an empty request."""
    assert LOGS.assert_same([]) == b""
