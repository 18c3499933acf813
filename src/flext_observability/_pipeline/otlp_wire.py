"""What OTLP messages are made of, laid out by hand as the bytes of protobuf.

A field is its tag, ``number << 3 | wire type``, and then a value. As everywhere in
proto3, a plain field that holds nothing is left out.

Only common shapes are laid out: exact types, legal texts, numbers that fit. Anything
else raises, and :func:`either` has the stock encoder decide what becomes of the record
that holds it. So the bytes are those of the stock encoder, whatever comes.
"""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Any, TypeVar, cast

from opentelemetry.attributes import BoundedAttributes

T = TypeVar("T")
R = TypeVar("R")
Attributes = Mapping[str, Any]

# Most lengths and many numbers are below this.
_SMALL_END = 1024
_UINT32_END = 1 << 32
_UINT64_END = 1 << 64
_INT64 = 1 << 63
# A text of so many bytes and the value around it have lengths of one byte.
_SHORT_TEXT_END = 126
# Protobuf refuses some fifty levels; the cleaner leaves eight.
_DEPTH_LIMIT = 16
# A walk over these is slow; they are quickly copied into a dict.
_WRAPPERS = frozenset({BoundedAttributes, MappingProxyType})
_PLAIN = frozenset({dict})

_pack_double = Struct("<d").pack
_pack_fixed32 = Struct("<I").pack
_pack_fixed64 = Struct("<Q").pack


class UnusualError(TypeError):
    """A value that is not laid out here."""


def either(usual: Callable[[T], R], stock: Callable[[T], R], record: T) -> R:
    """Encode a record the usual way or, if it is unusual, as the stock encoder does.

    Args:
        usual: Raises when the record holds anything unusual.
        stock: Encodes any record, and raises when OTLP cannot express it.
        record: What to encode.
    """
    try:
        return usual(record)
    except Exception as error:  # noqa: BLE001 - whatever a record holds
        found = error
    try:
        usual(record)
    except Exception:  # noqa: BLE001 - again, so it is the record's
        return stock(record)
    # The handler of a signal raised meanwhile: that is for whoever called.
    raise found


# -- numbers, lengths


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = tuple(map(_varint, range(_SMALL_END)))


def varint(number: int) -> bytes:
    """Lay out an integer that is not negative, seven bits a byte, the lowest first."""
    return _VARINTS[number] if number < _SMALL_END else _varint(number)


def sized(body: bytes) -> bytes:
    """Lay out the value of a text, bytes, a message, packed numbers: length first."""
    size = len(body)
    return (_VARINTS[size] if size < _SMALL_END else _varint(size)) + body


def count_field(tag: bytes, count: int | None) -> bytes:
    """Lay out a plain uint32."""
    if type(count) is int and 0 <= count < _UINT32_END:
        return tag + varint(count) if count else b""
    return _nothing(count)


def fixed32_field(tag: bytes, number: int | None) -> bytes:
    """Lay out a plain fixed32, such as flags."""
    if type(number) is int:
        return tag + _pack_fixed32(number) if number else b""
    return _nothing(number)


def fixed64_field(tag: bytes, number: int | None) -> bytes:
    """Lay out a plain fixed64, such as a time or a count."""
    if type(number) is int:
        return tag + _pack_fixed64(number) if number else b""
    return _nothing(number)


def _nothing(number: object) -> bytes:
    if number is not None:
        raise UnusualError
    return b""


# -- texts


def text_field(tag: bytes, text: str | None) -> bytes:
    """Lay out a plain string."""
    if text is None:
        return b""
    if type(text) is not str:
        raise UnusualError
    return tag + sized(text.encode()) if text else b""


class TextFields(dict[str | None, bytes]):
    """The fields of texts that come again and again, such as names and keys.

    Bounded: what is long is not kept, and a full table starts afresh. Every step is one
    operation on a dict, so threads and forks find it whole.
    """

    LIMIT = 4096
    LENGTH_LIMIT = 128

    def __init__(self, tag: bytes, suffix: bytes = b"") -> None:
        """Prepare.

        Args:
            tag: Of the string.
            suffix: What always follows the field.
        """
        super().__init__()
        self._tag = tag
        self._suffix = suffix

    def __missing__(self, text: str | None) -> bytes:
        field = text_field(self._tag, text) + self._suffix
        if text is not None and len(text) <= self.LENGTH_LIMIT:
            if len(self) >= self.LIMIT:
                self.clear()
            self[text] = field
        return field


# -- values, attributes

_BOOLS = {False: b"\x02\x10\x00", True: b"\x02\x10\x01"}
_INTS = tuple(sized(b"\x18" + number) for number in _VARINTS)


def any_value(value: object, depth: int = 0) -> bytes:
    """Lay out an ``AnyValue`` with its length.

    Args:
        value: Text, number, bytes, ``None``, or sequences and mappings of them.
        depth: How many sequences and mappings hold it.

    Raises:
        Exception: The value is unusual, see :func:`either`.
    """
    if type(value) is str:
        return sized(b"\x0a" + sized(value.encode()))
    if type(value) is bool:
        return _BOOLS[value]
    if type(value) is int:
        return _int_value(value)
    if type(value) is float:
        return b"\x09\x21" + _pack_double(value)
    return sized(_rare_value(value, depth))


def _int_value(number: int) -> bytes:
    if 0 <= number < _SMALL_END:
        return _INTS[number]
    if not -_INT64 <= number < _INT64:
        raise UnusualError
    return sized(b"\x18" + _varint(number % _UINT64_END))


def _rare_value(value: object, depth: int) -> bytes:
    if value is None:
        return b""
    if type(value) is bytes:
        return b"\x3a" + sized(value)
    if depth >= _DEPTH_LIMIT:
        raise UnusualError
    if type(value) is tuple or type(value) is list:
        items = cast("Sequence[object]", value)
        parts = [b"\x0a" + any_value(item, depth + 1) for item in items]
        return b"\x2a" + sized(b"".join(parts))
    if type(value) is dict:
        pairs = cast("dict[str, object]", value).items()
        parts = [_pair(key, item, depth + 1) for key, item in pairs]
        return b"\x32" + sized(b"".join(parts))
    raise UnusualError


# KeyValue.key, and the tag of KeyValue.value.
_KEYS = TextFields(b"\x0a", suffix=b"\x12")


def _pair(key: str, value: object, depth: int) -> bytes:
    return b"\x0a" + sized(_KEYS[key] + any_value(value, depth))


def attribute_field(tag: bytes, key: str, value: object) -> bytes:
    """Lay out one ``KeyValue`` of a repeated field.

    Args:
        tag: Of the field.
        key: The attribute's name.
        value: As for :func:`any_value`.

    Raises:
        Exception: The value is unusual, see :func:`either`; or the name is, being
            longer than some two thousand bytes.
    """
    head = _KEYS[key]
    if type(value) is str:
        text = value.encode()
        size = len(text)
        if size < _SHORT_TEXT_END:
            whole = _VARINTS[len(head) + size + 3]
            parts = (
                tag,
                whole,
                head,
                _VARINTS[size + 2],
                b"\x0a",
                _VARINTS[size],
                text,
            )
            return b"".join(parts)
    return tag + sized(head + any_value(value))


def attributes_bytes(tag: bytes, attributes: Attributes | None) -> bytes:
    """Lay out all attributes as one repeated field of ``KeyValue``.

    Raises:
        Exception: A value is unusual, see :func:`either`.
    """
    if type(attributes) in _WRAPPERS:
        attributes = _unwrapped(attributes)
    if not attributes:
        return b""
    pairs = attributes.items()
    return b"".join([attribute_field(tag, key, value) for key, value in pairs])


def _unwrapped(wrapper: Any) -> Attributes:
    copied: Attributes = wrapper.copy()
    # A wrapper can hold anything, and so its copy can be anything.
    return copied if type(copied) in _PLAIN else wrapper
