"""Our own loggers: JSON lines on stderr, and the same as records; log entries."""

import datetime as dt
import json
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start

Capture = pytest.CaptureFixture[str]


def json_lines(capfd: Capture) -> list[dict[str, Any]]:
    """What was written on stderr since the last look; every line is JSON."""
    return [json.loads(line) for line in capfd.readouterr().err.split("\n")[:-1]]


def test_logger_line_and_record(collector: Collector, capfd: Capture) -> None:
    """A call writes one JSON line and sends one record, with the same ids."""
    start(collector)
    log = fo.get_logger("shop.orders")
    with fo.flext_correlation_scope("req-1"), fo.flext_span("work"):
        log.info("order %s", "A-1", amount=12.5)
    flush()
    (line,) = json_lines(capfd)
    span, record = collector.span("work"), collector.log("order A-1")
    assert line["message"] == "order A-1"
    assert str(line["level"]).lower() == "info"
    assert line["logger"] == "shop.orders"
    assert line["amount"] == 12.5
    assert {"req-1", span.trace_id, span.span_id} <= {
        value for value in line.values() if isinstance(value, str)
    }
    (moment,) = [line[key] for key in line if key in ("time", "timestamp")]
    assert dt.datetime.fromisoformat(moment).tzinfo is not None
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert record.attributes["amount"] == 12.5
    assert record.attributes["correlation.id"] == "req-1"
    assert record.severity_number == 9


def test_same_name_same_logger() -> None:
    """A logger is known by its name."""
    assert fo.get_logger("a") is fo.get_logger("a")
    assert fo.get_logger("a") is not fo.get_logger("b")


def test_every_level(http_collector: Collector, capfd: Capture) -> None:
    """Each method has its level, and exception carries the exception."""
    start(http_collector, log_level="DEBUG")
    log = fo.get_logger("x")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)(level)
    try:
        _ = dict[str, int]()["missing"]
    except KeyError:
        log.exception("exception")
    flush()
    assert [record.severity_number for record in http_collector.logs()] == [
        *(5, 9, 13, 17, 21),
        17,
    ]
    record = http_collector.log("exception")
    assert record.attributes["exception.type"] == "KeyError"
    assert record.attributes["exception.message"] == "'missing'"
    lines = json_lines(capfd)
    assert len(lines) == 6
    assert "KeyError: 'missing'" in json.dumps(lines[-1])


def test_log_level_bounds_lines_and_records(
    http_collector: Collector, capfd: Capture
) -> None:
    """Below log_level neither a line nor a record is made."""
    start(http_collector, log_level="ERROR")
    fo.get_logger("x").warning("quiet")
    assert fo.FlextStructuredLogger("x").warning("quiet").is_success
    flush()
    assert json_lines(capfd) == []
    assert not http_collector.logs()


def test_before_setup_lines_only(capfd: Capture) -> None:
    """Without setup a logger still writes its line."""
    fo.get_logger("x").warning("hello", n=1)
    (line,) = json_lines(capfd)
    assert (line["message"], line["n"]) == ("hello", 1)


def test_plain_lines(http_collector: Collector, capfd: Capture) -> None:
    """Without structured_logging lines are plain text with the same content."""
    start(http_collector, structured_logging=False)
    fo.get_logger("shop").warning("hello %s", "you", n=1)
    (line,) = capfd.readouterr().err.splitlines()
    assert not line.startswith("{")
    for part in ("hello you", "shop", "WARNING", "n=1"):
        assert part in line


def test_one_line_per_call(server: Collector, capfd: Capture) -> None:
    """Line breaks and control characters never forge another line."""
    fo.get_logger("x").warning('a\nb\r\n{"forged": 1}\u2028\x1b[31m', key="x\ny")
    (line,) = json_lines(capfd)
    assert line["message"] == 'a\nb\r\n{"forged": 1}\u2028\x1b[31m'
    flush()
    assert len(server.logs()) == 1


def test_bad_arguments_never_raise(server: Collector, capfd: Capture) -> None:
    """Arguments that do not fit the message still give a line and a record."""
    log = fo.get_logger("x")
    log.warning("%d apples", "many")
    log.warning("100%", "odd")
    log.warning("%(name)s")
    log.warning("with clashing names", level="x", logger="z", time=0)
    assert len(json_lines(capfd)) == 4
    flush()
    assert len(server.logs()) == 4


def test_structured_logger(collector: Collector, capfd: Capture) -> None:
    """Bound data is on every line and record; the logger bound from stays as it was."""
    start(collector)
    log = fo.FlextStructuredLogger("billing")
    bound = log.bind(tenant="t1").bind(region="eu")
    assert bound.info("sent", amount=1.5).is_success
    assert log.error("alone").is_success
    flush()
    first, second = json_lines(capfd)
    assert (first["tenant"], first["region"], first["amount"]) == ("t1", "eu", 1.5)
    assert "tenant" not in second
    sent, alone = collector.log("sent"), collector.log("alone")
    assert sent.attributes["tenant"] == "t1"
    assert sent.attributes["amount"] == 1.5
    assert sent.severity_number == 9
    assert "tenant" not in alone.attributes
    assert alone.severity_number == 17
    assert sent.scope == "billing"


def test_log_entry(collector: Collector) -> None:
    """A log entry is a record with its context, ids and severity, exactly once."""
    start(collector)
    with fo.flext_correlation_scope("req-1"), fo.flext_span("work"):
        entry = fo.flext_create_log_entry(
            "warning", "low stock", {"item": "A-1", "left": 2}
        ).unwrap()
    flush()
    record, span = collector.log("low stock"), collector.span("work")
    assert record.severity_number == 13
    assert record.attributes["item"] == "A-1"
    assert record.attributes["left"] == 2
    assert record.attributes["correlation.id"] == "req-1" == entry.correlation_id
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert (entry.trace_id, entry.span_id) == (span.trace_id, span.span_id)


def test_log_entry_with_its_own_id(server: Collector) -> None:
    """An explicit correlation id wins over the current one."""
    with fo.flext_correlation_scope("current"):
        fo.flext_create_log_entry("info", "x", None, "explicit").unwrap()
    flush()
    assert server.log("x").attributes["correlation.id"] == "explicit"


@pytest.mark.parametrize(
    ("level", "message", "error"),
    [
        ("loud", "x", "Invalid log level"),
        ("", "x", "Invalid log level"),
        (None, "x", "Invalid log level"),
        ("info", "", "Invalid log message"),
        ("info", "  ", "Invalid log message"),
    ],
)
def test_invalid_log_entries(
    server: Collector, level: str, message: str, error: str
) -> None:
    """An invalid entry is a failure with the rule's message, and is not sent."""
    result = fo.flext_create_log_entry(level, message)
    assert result.is_failure
    assert result.error == error
    flush()
    assert not server.logs()


def test_level_words_in_any_case(server: Collector) -> None:
    """Level words are taken in any case and kept lower."""
    assert fo.flext_create_log_entry("ERROR", "x").unwrap().level == "error"
    flush()
    assert server.log("x").severity_number == 17
