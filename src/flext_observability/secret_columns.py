"""Values of secret columns: ``INSERT INTO users (name, password) VALUES ('ada', …)``.

Which value belongs to a column only their order tells, so the rows are read. A
backslash in a text is read in two ways: MySQL's, where it escapes a quote, and that of
the standard, where it is a character as any other. Where neither makes sense, or both
do and differ, all values of the statement are taken for secret.

Everything takes linear time: what was read is read once more at most.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

_compiled = cache(re.compile)

# A line break may be written out: the statement may stand in JSON or in a repr.
_GAP = r"(?:\s|\\[nrt])*+"
# From the end of the columns to the first row.
_VALUES = (
    rf"(?i)\){_GAP}(?:(?:overriding|output|settings|format)\b[^()'\";]{{1,200}}?)??"
    rf"(?:\b|(?<=\\[nrt]))values?{_GAP}(?:row{_GAP})?(?=\()"
)
_NEXT_ROW = rf"(?i){_GAP},{_GAP}(?:row{_GAP})?(?=\()"
_COLUMNS = r"[\w\s.,$#@\-\"'`\[\]\\]++"
_AROUND_NAMES = " \t\r\n\"'`[]\\"
# A quote that closes is followed by no word: else it was none that closes.
_PIECE = (
    r"(?s)'(?:{0}|[^'{1}]|'')*+'(?!\w)|\"(?:{0}|[^\"{1}]|\"\")*+\"(?!\w)"
    r"|[^'\"()\[\]{{}},]++|[()\[\]{{}},]"
)
_ESCAPING = _PIECE.format(r"\\.", r"\\")
_STANDARD = _PIECE.format(r"\\", "")
# A placeholder of any driver, a word that stands for a value, an ellipsis.
_HARMLESS = (
    r"(?i)(?:[^\w'\"]*+|null|default|true|false"
    rf"|(?:%s|%\(\w++\)s|[:@$?]\w*+|\{{\w*+\}})(?:::[\w \[\]]++)?){_GAP}"
)
_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
_QUOTED = rf"(?s)(?P<quote>\\*+['\"]).*(?P=quote)(?P<after>{_GAP})"


class _Reading(NamedTuple):
    """What one way to read the rows finds."""

    rows: list[list[tuple[int, int]]]
    """Where each value begins and ends."""
    end: int


def without_secret_columns(
    text: str, is_secret: Callable[[str], bool], replacement: str
) -> list[str]:
    """Replace the values of secret columns.

    Args:
        text: Any text.
        is_secret: Judges the name of a column.
        replacement: What is put in place of a value.

    Returns:
        The text in pieces; every second one is a list of columns.
    """
    pieces: list[str] = []
    rest = ""
    done = position = 0
    while match := _compiled(_VALUES).search(text, position):
        opening = text.rfind("(", position, match.start()) + 1
        position = match.end()
        columns = text[opening : match.start()] if opening else ""
        if not _compiled(_COLUMNS).fullmatch(columns):
            continue
        marks = [is_secret(name.strip(_AROUND_NAMES)) for name in columns.split(",")]
        if True not in marks:
            continue
        pieces += f"{rest}{text[done:opening]}", columns
        rows, done = _without_values(text, position, marks, replacement)
        rest = f"{match[0]}{rows}"
        position = done
    return [*pieces, f"{rest}{text[done:]}"]


def _without_values(
    text: str, start: int, marks: list[bool], replacement: str
) -> tuple[str, int]:
    """Give the rows without the values that are marked, and where they end."""
    readings = _readings(text, start)
    fitting = [
        reading
        for reading in readings
        if reading and all(len(row) == len(marks) for row in reading.rows)
    ]
    if fitting and fitting[0] == fitting[-1]:
        return _with_replaced(text, start, fitting[0], marks, replacement)
    end = max(len(text) if reading is None else reading.end for reading in readings)
    if _compiled(_HARMLESS).fullmatch(text, start, end):
        return text[start:end], end
    return f"({replacement})", end


def _with_replaced(
    text: str, start: int, reading: _Reading, marks: list[bool], replacement: str
) -> tuple[str, int]:
    parts: list[str] = []
    done = start
    for row in reading.rows:
        for (begin, end), is_marked in zip(row, marks, strict=True):
            if is_marked:
                parts += text[done:begin], _replaced(text[begin:end], replacement)
                done = end
    return "".join((*parts, text[done : reading.end])), reading.end


def _replaced(value: str, replacement: str) -> str:
    gap = _compiled(_GAP).match(value)
    start = gap.end() if gap else 0
    if _compiled(_HARMLESS).fullmatch(value, start):
        return value
    quoted = _compiled(_QUOTED).fullmatch(value, start)
    if quoted:
        quote = quoted["quote"]
        replacement = f"{quote}{replacement}{quote}{quoted['after']}"
    return f"{value[:start]}{replacement}"


def _readings(text: str, start: int) -> list[_Reading | None]:
    """Read the rows in both ways, where they can differ."""
    first = _read(text, start, _ESCAPING)
    if first and text.find("\\", start, first.end) < 0:
        return [first]
    return [first, _read(text, start, _STANDARD)]


def _read(text: str, start: int, piece: str) -> _Reading | None:
    """Read rows; ``None`` when a quote or a bracket does not close."""
    rows: list[list[tuple[int, int]]] = []
    row: list[tuple[int, int]] = []
    place = begin = start
    depth = 0
    for match in _compiled(piece).finditer(text, start):
        if match.start() != place:
            return None
        place, sign = match.end(), match[0]
        if sign in _OPENING:
            depth += 1
            if depth == 1:
                row, begin = [], place
        elif sign == "," and depth == 1:
            row.append((begin, match.start()))
            begin = place
        elif sign in _CLOSING:
            depth -= 1
            if depth:
                continue
            rows.append([*row, (begin, match.start())])
            if not _compiled(_NEXT_ROW).match(text, place):
                return _Reading(rows, place)
    return None
