"""Make any value legal and bounded for OTLP; never raise.

Bounds and replacements are those of ``FlextObservabilityConstants``: depth 8, 128
items, 16 KiB of text, integers of 64 bits.
"""

import enum
import traceback
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import cast

from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C

UNPRINTABLE = "<unprintable>"
_TOO_DEEP = "<too deep>"
_INT64 = 1 << 63
_FRAMES = 100


def clean_text(value: object) -> str:
    """Give legal, bounded text for anything, ``<unprintable>`` when ``str`` fails."""
    try:
        # An exact copy: a subclass of str may do anything in its methods.
        text = str.__str__(value) if isinstance(value, str) else str(value)
        if len(text) > C.VALUE_TEXT_LIMIT:
            text = text[: C.VALUE_TEXT_LIMIT]
        if text.isascii():
            return text
        # Lone surrogates cannot be encoded; each becomes a question mark.
        return text.encode("utf-8", "replace").decode("utf-8")
    except Exception:  # noqa: BLE001 - whatever __str__ raises
        return UNPRINTABLE


def clean_value(value: object, depth: int = 0) -> AnyValue:
    """Give a legal OTLP value for anything.

    Args:
        value: Kept when it is a bool, number, text, bytes, or a sequence or mapping of
            such; everything else becomes text.
        depth: How deep inside the attribute the value stands.
    """
    try:
        return _clean(value, depth)
    except Exception:  # noqa: BLE001 - hostile __len__, __iter__, __eq__, …
        return UNPRINTABLE


def _clean(value: object, depth: int) -> AnyValue:
    kind = type(value)
    if kind is str:
        return clean_text(value)
    if kind is bool or kind is float:
        return cast("bool | float", value)
    if kind is int:
        number = cast("int", value)
        return number if -_INT64 <= number < _INT64 else _huge(number)
    if value is None:
        return None
    return _clean_rare(value, depth)


def _clean_rare(value: object, depth: int) -> AnyValue:
    if isinstance(value, enum.Enum):
        return _clean(cast("object", value.value), depth + 1)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(cast("bytes", value)[: C.VALUE_TEXT_LIMIT])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _clean(float(value) if isinstance(value, float) else int(value), depth)
    return _clean_container(value, depth)


def _clean_container(value: object, depth: int) -> AnyValue:
    if isinstance(value, str):
        return clean_text(value)
    if depth >= C.VALUE_DEPTH_LIMIT:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        return clean_attributes(cast("object", value), depth + 1)
    if isinstance(value, list | tuple | set | frozenset | range):
        items = islice(cast("Iterable[object]", value), C.VALUE_ITEMS_LIMIT)
        return tuple(clean_value(item, depth + 1) for item in items)
    return clean_text(value)


def _huge(number: int) -> str:
    """Show an integer beyond 64 bits; Python refuses to print very long ones."""
    try:
        return clean_text(str(number))
    except ValueError:
        return f"<integer of {number.bit_length()} bits>"


def clean_attributes(attributes: object, depth: int = 0) -> dict[str, AnyValue]:
    """Give legal attributes for any mapping; anything else gives none.

    Args:
        attributes: Keys become text, empty ones are left out; values as in
            :func:`clean_value`; the first 128 are kept.
        depth: How deep the mapping stands.
    """
    if not isinstance(attributes, Mapping):
        return {}
    found: dict[str, AnyValue] = {}
    try:
        # A copy first: another thread may be changing the mapping.
        pairs = list(
            islice(
                cast("Mapping[object, object]", attributes).items(), C.VALUE_ITEMS_LIMIT
            )
        )
    except Exception:  # noqa: BLE001 - hostile or changing mapping
        return {}
    for key, value in pairs:
        name = clean_text(key)
        if name:
            found[name] = clean_value(value, depth)
    return found


def clean_labels(attributes: object) -> dict[str, str | bool | int | float]:
    """Give attributes fit for metrics: a label is a plain word or number."""
    return {
        name: value
        if isinstance(value, str | bool | int | float)
        else clean_text(value)
        for name, value in clean_attributes(attributes).items()
    }


def clean_number(value: object) -> float | int | None:
    """Give a finite number for a measurement, ``None`` for anything else."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int) and -_INT64 <= value < _INT64:
            return int(value)
        number = float(cast("float", value))  # Decimal, numpy; TypeError for others
    except Exception:  # noqa: BLE001 - hostile __float__
        return None
    return number if number - number == 0 else None  # neither NaN nor infinite


def exception_attributes(error: BaseException) -> dict[str, AnyValue]:
    """Give the ``exception.*`` attributes of the semantic conventions."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        # The last frames say where it broke; a runaway recursion has thousands.
        stack = "".join(traceback.format_exception(error, limit=-_FRAMES))
    except Exception:  # noqa: BLE001 - an exception whose __str__ fails
        stack = ""
    return {
        C.ATTR_EXCEPTION_TYPE: f"{module}{kind.__qualname__}",
        C.ATTR_EXCEPTION_MESSAGE: clean_text(error),
        # The end says where it broke and how; it must survive the bound.
        C.ATTR_EXCEPTION_STACKTRACE: clean_text(stack[-C.VALUE_TEXT_LIMIT :]),
    }


def legal_metric_name(name: object) -> str:
    """Make a name OTel accepts: refused characters become ``_``, a letter comes first.

    https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
    """
    text = clean_text(name).strip()
    legal = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-./") else "_" for c in text
    )
    if not legal or not legal[0].isalpha():
        legal = f"m_{legal}"
    return legal[: C.METRIC_NAME_LENGTH_LIMIT]
