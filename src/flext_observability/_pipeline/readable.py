"""Foreign values as words for a terminal: safe, short, in a person's units.

Every text that was written by somebody else passes through :func:`printable`: a span
name must not be able to drive the reader's terminal.
"""

import math
import re
from collections.abc import Iterable
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

MAX_VALUE: Final = 80  # characters of one name or attribute value
_MAX_MESSAGE: Final = 2_000  # characters of one log message or error message
_MAX_ATTRIBUTES: Final = 8  # attributes shown on one line
_MAX_NESTING: Final = 4  # levels of arrays and maps inside one value

_MICROSECOND: Final = 1_000
_MILLISECOND: Final = 1_000_000
_SECOND: Final = 1_000_000_000
_MINUTE_S: Final = 60

# Control characters, line and paragraph separators, the marks that reverse the reading
# direction, and lone surrogates (which no terminal encoding can write).
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_ESCAPES: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Attributes that repeat what the line already says, or that fill a line by themselves.
_HIDDEN: Final = ("code.", "correlation.id", "error.type", "exception.", "thread.")


def printable(text: str, limit: int = _MAX_MESSAGE) -> str:
    r"""Return text that cannot move the cursor, change colours or start a new line.

    Control characters become their escapes (``\n``, ``\x1b``, ``\u202e``).

    Args:
        text: anything at all.
        limit: characters to keep; the rest becomes an ellipsis.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    short = rf"\x{code:02x}" if code <= 0xFF else rf"\u{code:04x}"  # noqa: PLR2004
    return _ESCAPES.get(char, short)


class Paint:
    """Writes text in a colour, or plainly when colours are off."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, style: str, text: str) -> str:
        """Return the text in a style of ANSI's `Select Graphic Rendition`."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._enabled and text else text


def value_text(value: AnyValue, nesting: int = 0) -> str:
    """Write any OTLP value on one line (not yet safe to print)."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return ""
        case "bool_value":
            return str(value.bool_value).lower()
        case "double_value":
            return f"{value.double_value:.6g}"
        case "bytes_value":
            return f"<{len(value.bytes_value)} bytes>"
        case "array_value" | "kvlist_value":
            return _container_text(value, nesting + 1)
        case _:
            return str(getattr(value, kind))


def _container_text(value: AnyValue, nesting: int) -> str:
    if nesting > _MAX_NESTING:
        return "…"
    if value.WhichOneof("value") == "array_value":
        parts = [value_text(item, nesting) for item in value.array_value.values]
        return f"[{', '.join(parts)}]"
    pairs = value.kvlist_value.values
    parts = [f"{pair.key}: {value_text(pair.value, nesting)}" for pair in pairs]
    return f"{{{', '.join(parts)}}}"


def attributes_text(attributes: Iterable[KeyValue], *, hide: bool = True) -> str:
    """Write attributes as ``key=value`` pairs, sorted, without the noisy ones."""
    pairs = sorted(
        f"{printable(pair.key, MAX_VALUE)}={_quoted(value_text(pair.value))}"
        for pair in attributes
        if not (hide and pair.key.startswith(_HIDDEN))
    )
    if hide and len(pairs) > _MAX_ATTRIBUTES:
        pairs[_MAX_ATTRIBUTES:] = [f"… {len(pairs) - _MAX_ATTRIBUTES} more"]
    return " ".join(pairs)


def _quoted(text: str) -> str:
    """Quote a value that would otherwise be hard to tell from its neighbours."""
    text = printable(text, MAX_VALUE)
    return f'"{text}"' if not text or " " in text else text


def attribute(attributes: Iterable[KeyValue], key: str) -> str:
    """Return the text of one attribute, empty when it is not there."""
    return next((value_text(a.value) for a in attributes if a.key == key), "")


def service_name(resource: Resource) -> str:
    """Return the name of the service, as safe text."""
    name = attribute(resource.attributes, "service.name")
    return printable(name, MAX_VALUE) or "unknown_service"


def duration_text(nanoseconds: float) -> str:
    """Write a duration in the unit a person would choose."""
    if not 0 <= nanoseconds < math.inf:  # also false for NaN
        return "?"
    if nanoseconds < _MILLISECOND:
        return f"{nanoseconds / _MICROSECOND:.0f} µs"
    for unit, size in (("ms", _MILLISECOND), ("s", _SECOND)):
        amount = nanoseconds / size
        if amount < (1_000 if unit == "ms" else _MINUTE_S):
            return f"{_three_digits(amount)} {unit}"
    minutes, seconds = divmod(round(nanoseconds / _SECOND), _MINUTE_S)
    return f"{minutes} min {seconds} s"


def _three_digits(amount: float) -> str:
    decimals = 2 if amount < 10 else 1 if amount < 100 else 0  # noqa: PLR2004
    return f"{amount:.{decimals}f}"


def number_text(number: float) -> str:
    """Write whole numbers in full, others with six digits."""
    return str(number) if isinstance(number, int) else f"{number:.6g}"
