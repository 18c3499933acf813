"""Make any value legal and bounded for OTLP; never raise.

Bounds and replacements are those of ``FlextObservabilityConstants``: depth 8, 128
items, 16 KiB of text, integers of 64 bits.
"""

import enum
import re
from collections.abc import Collection, Mapping
from itertools import islice
from operator import is_
from typing import cast

from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C

UNPRINTABLE = "<unprintable>"
TRUNCATED = "… [truncated]"
"""Ends a text that was cut; begins a stack trace, whose end is kept."""
_TOO_DEEP = "<too deep>"
_REST = "…"
_INT64 = 1 << 63
_MARK_BYTES = len(TRUNCATED.encode())
DROPPED_ATTRIBUTES = "flext.attributes.dropped"
"""Says how many attributes there were beyond those that a record can hold."""
# Items inside one value, and how much text counts as another one: half a megabyte.
_WALK_LIMIT = 8192
_TEXT_PER_ITEM = 64


class _Limits:
    """What the pipeline in force keeps; a value need not be cut to less than that."""

    def __init__(self) -> None:
        self.attributes = C.VALUE_ITEMS_LIMIT
        self.text = C.VALUE_TEXT_LIMIT


_limits = _Limits()


def set_limits(attributes: int, text: int) -> None:
    """Say what the records of this process hold from now on.

    Args:
        attributes: Most attributes of any kind of record.
        text: Longest text of an attribute, bytes.
    """
    _limits.attributes = attributes
    _limits.text = text


def clean_text(value: object) -> str:
    """Give legal, bounded text for anything, ``<unprintable>`` when ``str`` fails."""
    try:
        # An exact copy: a subclass of str may do anything in its methods.
        text = str.__str__(value if isinstance(value, str) else str(value))
        return legal_text(text, _limits.text)
    except Exception:  # noqa: BLE001 - whatever __str__ raises
        return UNPRINTABLE


def legal_text(
    text: str, limit: int = C.VALUE_TEXT_LIMIT, *, keep_end: bool = False
) -> str:
    """Give text that UTF-8 can express, cut and marked when it is too long.

    Args:
        text: Exactly a ``str``; given back as it is when nothing has to change.
        limit: Longest result, bytes.
        keep_end: Whether the end is kept instead of the beginning.
    """
    if text.isascii():
        if len(text) <= limit:
            return text
        kept = max(0, limit - _MARK_BYTES)
        return _marked(text[len(text) - kept :] if keep_end else text[:kept], keep_end)
    # A character takes a byte at least: what is beyond the limit need not be encoded.
    near = text[-limit - 1 :] if keep_end else text[: limit + 1]
    # Lone surrogates cannot be encoded; each becomes a question mark.
    data = near.encode("utf-8", "replace")
    if len(data) <= limit:
        legal = data.decode("utf-8")
        return text if legal == text else legal
    kept = max(0, limit - _MARK_BYTES)
    # A character that was cut in two is left out.
    part = data[len(data) - kept :] if keep_end else data[:kept]
    return _marked(part.decode("utf-8", "ignore"), keep_end)


def _marked(text: str, keep_end: bool) -> str:  # noqa: FBT001 - private
    return f"{TRUNCATED}{text}" if keep_end else f"{text}{TRUNCATED}"


_CONTROLS = re.compile(
    # Control characters, separators of lines, marks that reverse the reading direction.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def one_line(text: str) -> str:
    r"""Give text that starts no new line and drives no terminal.

    Args:
        text: What it must not hold becomes ``\uXXXX``, which JSON reads back.
    """
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def clean_value(value: object, depth: int = 0) -> AnyValue:
    """Give a legal OTLP value for anything.

    Args:
        value: Kept when it is a bool, number, text, bytes, or a sequence or mapping of
            such; everything else becomes text.
        depth: How deep inside the attribute the value stands.
    """
    kind = type(value)
    if kind is str:
        return legal_text(cast("str", value), _limits.text)
    if kind is bool or kind is float or value is None:
        return cast("bool | float | None", value)
    try:
        return _Walk(_limits.text).value(value, depth)
    except Exception:  # noqa: BLE001 - hostile __len__, __iter__, __eq__, …
        return UNPRINTABLE


def legal_value(value: object, limit: int = C.VALUE_TEXT_LIMIT) -> AnyValue:
    """Give a legal OTLP value; the same object when it is one already.

    Args:
        value: What the SDK holds, or anything.
        limit: Longest text inside, bytes.
    """
    kind = type(value)
    if kind is str:
        return legal_text(cast("str", value), limit)
    if kind is bool or kind is float or value is None:
        return cast("bool | float | None", value)
    try:
        return _Walk(limit, keeps=True).value(value, 0)
    except Exception:  # noqa: BLE001 - hostile __len__, __iter__, __eq__, …
        return UNPRINTABLE


class _Walk:
    """One way through a value, of bounded depth, breadth and, all in all, length.

    The last bound is against a list that holds itself a hundred times: depth and
    breadth alone would let it become 100**8 items.
    """

    __slots__ = ("_keeps", "_left", "_limit")

    def __init__(self, limit: int, *, keeps: bool = False) -> None:
        """Prepare.

        Args:
            limit: Longest text, bytes.
            keeps: Whether a list or dict that is legal may stay the object it is,
                because nobody will change it any more.
        """
        self._limit = limit
        self._keeps = keeps
        self._left = _WALK_LIMIT

    def value(self, value: object, depth: int) -> AnyValue:
        kind = type(value)
        if kind is str:
            return self._text(cast("str", value))
        if kind is bool or kind is float or value is None:
            return cast("bool | float | None", value)
        if kind is int:
            number = cast("int", value)
            return number if -_INT64 <= number < _INT64 else _huge(number)
        return self._rare(value, depth)

    def _text(self, text: str) -> str:
        self._left -= len(text) // _TEXT_PER_ITEM
        return legal_text(text, self._limit)

    def _rare(self, value: object, depth: int) -> AnyValue:
        if isinstance(value, enum.Enum):
            return self.value(cast("object", value.value), depth + 1)
        if isinstance(value, bytes | bytearray | memoryview):
            return _legal_bytes(cast("bytes", value), self._limit)
        if isinstance(value, int | float) and not isinstance(value, bool):
            plain = float(value) if isinstance(value, float) else int(value)
            return self.value(plain, depth)
        return self._container(value, depth)

    def _container(self, value: object, depth: int) -> AnyValue:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if depth >= C.VALUE_DEPTH_LIMIT:
            return _TOO_DEEP
        if isinstance(value, Mapping):
            return self._mapping(cast("Mapping[object, object]", value), depth + 1)
        if isinstance(value, list | tuple | set | frozenset | range):
            return self._items(cast("Collection[object]", value), depth + 1)
        return self._text(clean_text(value))

    def _items(self, items: Collection[object], depth: int) -> AnyValue:
        count = len(items)
        kept = count if count <= C.VALUE_ITEMS_LIMIT else C.VALUE_ITEMS_LIMIT - 1
        found = list(islice(items, kept))
        made: list[AnyValue] = []
        for item in found:
            if self._left <= 0:
                break
            self._left -= 1
            made.append(_guarded(self, item, depth))
        if len(made) < count:
            made.append(left_out(count - len(made)))
            return tuple(made)
        may_keep = type(items) is tuple or (self._keeps and type(items) is list)
        same = may_keep and all(map(is_, found, made))
        return cast("AnyValue", items) if same else tuple(made)

    def _mapping(self, mapping: Mapping[object, object], depth: int) -> AnyValue:
        made = self.pairs(mapping, depth, C.VALUE_ITEMS_LIMIT)
        if not self._keeps or len(made) != len(mapping) or not _is_dict(mapping):
            return made
        same = all(map(is_, mapping, made)) and all(
            map(is_, mapping.values(), made.values())
        )
        return cast("AnyValue", mapping) if same else made

    def pairs(
        self, mapping: Mapping[object, object], depth: int, limit: int
    ) -> dict[str, AnyValue]:
        """Make the pairs of a mapping legal, up to a number of them."""
        if _is_dict(mapping):  # in one step: another thread may be changing it
            mapping = cast("dict[object, object]", mapping).copy()
        count = len(mapping)
        kept = count if count <= limit else limit - 1
        made: dict[str, AnyValue] = {}
        for place, (key, value) in enumerate(list(islice(mapping.items(), kept))):
            if self._left <= 0:
                kept = place
                break
            self._left -= 1
            name = clean_text(key)
            if name:
                made[name] = _guarded(self, value, depth)
        if kept < count:
            made[_REST] = left_out(count - kept)
        return made


def _guarded(walk: _Walk, value: object, depth: int) -> AnyValue:
    """Give one item's legal value; a hostile one spoils no neighbour."""
    try:
        return walk.value(value, depth)
    except Exception:  # noqa: BLE001 - hostile __len__, __iter__, __eq__, …
        return UNPRINTABLE


def _is_dict(mapping: object) -> bool:
    return type(mapping) is dict


def _legal_bytes(value: bytes, limit: int) -> bytes:
    # Not always bytes: the buffer of somebody else may change, and is copied.
    return (
        value if type(value) is bytes and len(value) <= limit else bytes(value[:limit])
    )


def _huge(number: int) -> str:
    """Show an integer beyond 64 bits; Python refuses to print very long ones."""
    try:
        return clean_text(str(number))
    except ValueError:
        return f"<integer of {number.bit_length()} bits>"


def left_out(count: int) -> str:
    """Say how many items a collection had beyond those that were kept."""
    return f"… [{count} more]"


def clean_attributes(attributes: object, depth: int = 0) -> dict[str, AnyValue]:
    """Give legal attributes for any mapping; anything else gives none.

    Args:
        attributes: Keys become text, empty ones are left out; values as in
            :func:`clean_value`. The first 128 of a nested mapping are kept; of a
            record's own, as many as records hold, and the number of the others.
        depth: How deep the mapping stands.
    """
    if not isinstance(attributes, Mapping):
        return {}
    found = cast("Mapping[object, object]", attributes)
    limit = C.VALUE_ITEMS_LIMIT if depth else _limits.attributes
    try:
        if _is_dict(found) and len(found) <= limit:
            return _clean_pairs(cast("dict[object, object]", found).copy(), depth)
        made = _Attributes(_limits.text).pairs(found, depth, limit)
    except Exception:  # noqa: BLE001 - hostile or changing mapping
        return {}
    if not depth and _REST in made:
        made[DROPPED_ATTRIBUTES] = len(found) - len(made) + 1
        del made[_REST]
    return made


def _clean_pairs(pairs: Mapping[object, object], depth: int) -> dict[str, AnyValue]:
    """Do the usual case, which is on the program's time, in few steps."""
    made: dict[str, AnyValue] = {}
    for key, value in pairs.items():
        name = legal_text(key, _limits.text) if type(key) is str else clean_text(key)
        if name:
            made[name] = clean_value(value, depth)
    return made


class _Attributes(_Walk):
    """The top of several values: each has its own bound on its length."""

    __slots__ = ()

    def value(self, value: object, depth: int) -> AnyValue:
        return _Walk(self._limit).value(value, depth)


def clean_labels(attributes: object) -> dict[str, str | bool | int | float]:
    """Give attributes fit for metrics: a label is a plain word or number."""
    return {
        name: value
        if isinstance(value, str | bool | int | float)
        else clean_text(value)
        for name, value in clean_attributes(attributes, 1).items()
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


def legal_stack(text: str) -> str:
    """Give a stack trace within its bound; the end says where it broke and how."""
    return legal_text(text, _limits.text, keep_end=True)


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
