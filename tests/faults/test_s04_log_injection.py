"""S4: no value forges a log line or drives the reader's terminal."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.hostile import VALUES
from tests.fixtures.library import flush

INJECTIONS = {
    "line feed": 'x\n{"level": "error", "message": "forged"}',
    "carriage return": "x\rforged",
    "both": "x\r\nforged",
    "form feed": "x\x0cforged",
    "vertical tab": "x\x0bforged",
    "file separator": "x\x1cforged",
    "next line": "x\x85forged",
    "line separator": "x\u2028forged",
    "paragraph separator": "x\u2029forged",
    "colours": "\x1b[31mred\x1b[0m",
    "clear screen": "\x1b[2J\x1b[H",
    "title": "\x1b]0;title\x07",
    "8-bit escape": "\x9b31m",
    "backspace": "good\b\b\b\bevil",
    "delete": "x\x7f",
    "right to left": "\u202etxt.exe",
    "isolates": "\u2066x\u2069",
    "byte order mark": "\ufeffx",
    "nul": "x\x00y",
    "quote": '", "level": "debug',
    "brace": '"}\n{"message": "forged"}',
    "surrogate": "x\ud800",
    "template": "%s %d {x} ${y}",
}
INJECTED = pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS.keys())
# Whatever ends a line for some reader, or moves its cursor.
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines on standard error since the last call."""

    def read() -> list[str]:
        text = capfd.readouterr().err
        assert UNSAFE.search(text) is None
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]

    return read


def say(text: Any) -> None:
    """A record with the value in every place that a caller fills: four lines."""
    fo.get_logger("shop").warning(text, data=text)
    fo.get_logger("shop").warning("%s", text, **{f"key {text!r:.50}": 1})
    fo.FlextStructuredLogger("shop").bind(bound=text).error(text)
    fo.get_logger(text).warning("named")


@INJECTED
def test_one_json_line_per_record(lines: Callable[[], list[str]], text: str) -> None:
    """Each record is one line of JSON, and reads back as what was said."""
    fo.setup("shop", exporters=["none"]).unwrap()
    lines()
    say(text)
    found = [json.loads(line) for line in lines()]
    legal = text.replace("\ud800", "?")
    assert [line["message"] for line in found] == [legal, legal, legal, "named"]
    assert found[0]["data"] == legal
    assert found[2]["bound"] == legal
    assert found[3]["logger"] == legal
    assert {line["level"] for line in found} == {"warning", "error"}


@INJECTED
def test_plain_lines(lines: Callable[[], list[str]], text: str) -> None:
    """Lines that are not JSON are one per record too."""
    fo.setup("shop", exporters=["none"], structured_logging=False).unwrap()
    lines()
    say(text)
    found = lines()
    assert len(found) == 4
    for line in found:
        assert re.match(r"\d{4}-\d\d-\d\dT\S+Z (WARNING |ERROR {3})", line), line


@INJECTED
def test_before_setup(lines: Callable[[], list[str]], text: str) -> None:
    """The same holds before any setup."""
    lines()
    say(text)
    assert len([json.loads(line) for line in lines()]) == 4


@pytest.mark.parametrize("name", VALUES)
def test_any_value(lines: Callable[[], list[str]], name: str) -> None:
    """Whatever is logged, a record is one line that a strict reader takes."""
    fo.setup("shop", exporters=["none"]).unwrap()
    lines()
    fo.get_logger("shop").warning("value", value=VALUES[name])
    fo.get_logger("shop").warning(VALUES[name])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = lines()
    assert len(found) == 2
    for line in found:
        json.loads(line, parse_constant=refuse)


@INJECTED
def test_console(capfd: pytest.CaptureFixture[str], text: str) -> None:
    """The console shows a record in the lines it takes, without driving it."""
    fo.setup("shop", exporters=["console"]).unwrap()
    with fo.flext_span(text, {"key": text}) as span:
        span.add_event(text)
        logging.getLogger("shop").error(text, extra={"data": text})
    fo.flext_counter("orders").add(1, {"label": text})
    flush()
    fo.shutdown()
    shown = capfd.readouterr().out
    assert "orders" in shown
    assert UNSAFE.search(shown) is None
    assert not [line for line in shown.split("\n") if line.startswith("forged")]


def test_own_notices(caplog: pytest.LogCaptureFixture) -> None:
    """What the library says about bad settings is one line."""
    result = fo.setup("shop\nforged", exporters=["x\nforged"], sample_ratio=9)
    assert result.is_failure
    assert "\n" not in str(result.error)
    for record in caplog.records:
        assert "\n" not in record.getMessage()
