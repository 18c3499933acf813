"""Texts, values and attributes made legal, without secrets and bounded, in one go."""

from collections.abc import Mapping
from operator import is_
from types import MappingProxyType
from typing import cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .redaction import Redactor
from .values import clean_text, legal_text, legal_value

Attributes = Mapping[str, AnyValue]

# Looked at beyond the limit, so that a secret across the cut is seen for what it is.
_SLACK = 4096
_NAMES_KEPT = 4096
_NAME_LENGTH_KEPT = 128


class ValueCleaner:
    """Cleans what records are made of; gives back the same object when it is clean."""

    def __init__(self, redactor: Redactor, attribute_limit: int | None) -> None:
        """Prepare.

        Args:
            redactor: Takes secrets out.
            attribute_limit: Longest text of an attribute, if the user stated one; the
                SDK keeps to it, in characters.
        """
        self._redactor = redactor
        self._limit = C.VALUE_TEXT_LIMIT
        if attribute_limit is not None:
            # A character takes four bytes at most.
            self._limit = max(self._limit, 4 * attribute_limit)
        self._names: set[str] = set()  # legal ones without a secret in them

    def text(self, value: object) -> str:
        """Clean a name, a description, a message: anything that must be text."""
        return self._bounded(value, C.VALUE_TEXT_LIMIT, keep_end=False)

    def optional_text(self, value: object) -> str | None:
        """Clean a text that may be missing."""
        return None if value is None else self.text(value)

    def body(self, value: object) -> AnyValue:
        """Clean the body of a log record."""
        return self.value("body", value)

    def value(self, name: str, value: object) -> AnyValue:
        """Clean the value of an attribute, by its name."""
        redactor = self._redactor
        if type(value) is not str:
            return redactor.value(name, legal_value(value, self._limit))
        if value.isascii() and len(value) <= self._limit:
            return redactor.value(name, value)
        keep_end = name.endswith("stacktrace")
        legal = legal_text(value, self._limit + _SLACK, keep_end=keep_end)
        clean = redactor.value(name, legal)
        if not isinstance(clean, str):
            return clean
        clean = legal_text(clean, self._limit, keep_end=keep_end)
        return value if clean == value else clean

    def attributes(
        self, attributes: Attributes | None, dropped: int = 0
    ) -> Attributes | None:
        """Clean attributes.

        Args:
            attributes: Of the SDK; as many as its limits let through.
            dropped: How many its limits did not; a copy says so too.
        """
        if not attributes:
            return attributes
        plain = _plain(attributes)
        names = self._names
        for name, value in plain.items():
            if name not in names or self.value(name, value) is not value:
                break
        else:
            return attributes
        made: dict[str, AnyValue] = {}
        for name, value in plain.items():
            clean_name = self._name(name)
            if clean_name:
                made[clean_name] = self.value(clean_name, value)
        same = len(made) == len(plain) and all(map(is_, plain, made))
        if same and all(map(is_, plain.values(), made.values())):
            return attributes
        return bounded(made, dropped)

    def _name(self, name: object) -> str:
        if type(name) is str and name in self._names:
            return name
        clean = self.text(name)
        if clean is name and len(clean) <= _NAME_LENGTH_KEPT:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()  # names may be made at run time
            self._names.add(clean)
        return clean

    def _bounded(self, value: object, limit: int, *, keep_end: bool) -> str:
        if type(value) is not str:
            value = clean_text(value)
        legal = legal_text(value, limit + _SLACK, keep_end=keep_end)
        clean = legal_text(self._redactor.text(legal), limit, keep_end=keep_end)
        return value if clean == value else clean


def _plain(attributes: Attributes) -> Mapping[str, AnyValue]:
    """Give a mapping that is quick to read and that nobody else changes."""
    if isinstance(attributes, BoundedAttributes | MappingProxyType | dict):
        return cast("Mapping[str, AnyValue]", attributes.copy())
    return dict(attributes)


def bounded(attributes: Attributes | None, dropped: int) -> BoundedAttributes:
    """Make attributes that carry the number of those that limits left out."""
    plain = dict(attributes) if attributes else None
    made = BoundedAttributes(attributes=plain, immutable=True)
    made.dropped = dropped
    return made
