"""Texts, values and attributes made legal, without secrets and bounded, in one go."""

import re
from collections.abc import Mapping
from operator import is_
from types import MappingProxyType
from typing import cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from ..secret_text import REDACTED
from .redaction import Redactor
from .values import clean_text, legal_text, legal_value

Attributes = Mapping[str, AnyValue]

# Looked at beyond the limit, so that a secret across the cut is seen for what it is.
_SLACK = 4096
# What was found clean is remembered: most texts of a program come again and again.
_TEXTS_KEPT = 8192
_LENGTH_KEPT = 64
_STACKS_KEPT = 64
_SHARED_KEPT = 4096
_INT64 = 1 << 63
# The password of a URL whose rest was cut off.
_CUT_CREDENTIALS = re.compile(r"(?<=://)[^\s/:@]*:[^\s/@]+$")
_COPIED = frozenset({BoundedAttributes, MappingProxyType, dict})


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
        self._stated_limit = attribute_limit
        self.limit = C.VALUE_TEXT_LIMIT
        """Longest text of an attribute, bytes."""
        if attribute_limit is not None:
            # A character takes four bytes at most.
            self.limit = max(self.limit, 4 * attribute_limit)
        self._stacks: dict[str, AnyValue] = {}
        self._texts: set[str] = set()  # legal, short, without a secret
        # Names whose value is no secret by the name, themselves clean. None is when a
        # callback must be asked about every value.
        self._names: set[str] = set()
        # By identity, which is theirs as long as they are kept here.
        self._shared: dict[int, tuple[Attributes, Attributes | None]] = {}

    def text(self, value: object) -> str:
        """Clean a name, a description, a message: anything that must be text."""
        if type(value) is not str:
            value = clean_text(value)
        elif value in self._texts:
            return value
        limit = C.VALUE_TEXT_LIMIT
        legal = legal_text(value, limit + _SLACK)
        clean = legal_text(self._redactor.text(legal), limit)
        if clean != value:
            return clean
        _keep(self._texts, value)
        return value

    def optional_text(self, value: object) -> str | None:
        """Clean a text that may be missing."""
        return None if value is None else self.text(value)

    def body(self, value: object) -> AnyValue:
        """Clean the body of a log record."""
        return self.value("body", value)

    def line(self, text: str) -> AnyValue:
        """Clean the text of a log line, of which hardly two are the same."""
        redactor = self._redactor
        if redactor.has_callback or redactor.secrecy_of("body"):
            return self.value("body", text)
        legal = legal_text(text, self.limit + _SLACK)
        return legal_text(redactor.text(legal, recurs=False), self.limit)

    def value(self, name: str, value: object) -> AnyValue:
        """Clean the value of an attribute, by its name."""
        if type(value) is not str:
            return self._redactor.value(name, legal_value(value, self.limit))
        if name in self._names and value in self._texts:
            return value
        if name == C.ATTR_EXCEPTION_STACKTRACE:
            return self._stack(value)
        return self._text_value(name, value)

    def _stack(self, text: str) -> AnyValue:
        """Clean a stack trace: long, but exceptions come again, and on logs too."""
        if self._redactor.has_callback:
            return self._text_value(C.ATTR_EXCEPTION_STACKTRACE, text)
        known = self._stacks.get(text)
        if known is None:
            known = self._text_value(C.ATTR_EXCEPTION_STACKTRACE, text)
            if len(self._stacks) >= _STACKS_KEPT:
                self._stacks.clear()
            self._stacks[text] = known
        return known

    def _text_value(self, name: str, value: str) -> AnyValue:
        if len(value) == self._stated_limit:
            # Cut where it was set: the end of what says "credentials" may be missing.
            value = _CUT_CREDENTIALS.sub(REDACTED, value)
        keep_end = name.endswith("stacktrace")
        legal = legal_text(value, self.limit + _SLACK, keep_end=keep_end)
        clean = self._redactor.value(name, legal)
        if isinstance(clean, str):
            clean = legal_text(clean, self.limit, keep_end=keep_end)
            if clean == value:
                if self._is_harmless(name):
                    _keep(self._texts, value)
                return value
        return clean

    def shared(self, attributes: Attributes) -> Attributes | None:
        """Clean attributes that many records share, and that nobody changes."""
        known = self._shared.get(id(attributes))
        if known is not None and known[0] is attributes:
            return known[1]
        clean = self.attributes(attributes)
        if not self._redactor.has_callback:  # it wants to be asked about every record
            if len(self._shared) >= _SHARED_KEPT:
                self._shared.clear()
            self._shared[id(attributes)] = attributes, clean
        return clean

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
        if self._are_known(plain):
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

    def _are_known(self, attributes: Mapping[str, AnyValue]) -> bool:
        """Whether all of it is known to be clean, or plainly is: the usual case."""
        names, texts = self._names, self._texts
        for name, value in attributes.items():
            if name not in names:
                return False
            kind = type(value)
            if kind is str and value in texts:
                continue
            if kind is bool or kind is float:
                continue
            if self.value(name, value) is not value:
                return False
        return True

    def _name(self, name: object) -> str:
        clean = self.text(name)
        if clean is name and self._is_harmless(clean):
            _keep(self._names, clean)
        return clean

    def _is_harmless(self, name: str) -> bool:
        redactor = self._redactor
        return not redactor.has_callback and not redactor.secrecy_of(name)


def _keep(known: set[str], text: str) -> None:
    if len(text) <= _LENGTH_KEPT:
        if len(known) >= _TEXTS_KEPT:
            known.clear()
        known.add(text)


def _plain(attributes: Attributes) -> Mapping[str, AnyValue]:
    """Give a mapping that is quick to read and that nobody else changes."""
    if type(attributes) in _COPIED:
        return cast("dict[str, AnyValue]", attributes).copy()
    return dict(attributes)


def bounded(attributes: Attributes | None, dropped: int) -> BoundedAttributes:
    """Make attributes that carry the number of those that limits left out."""
    plain = dict(attributes) if attributes else None
    made = BoundedAttributes(attributes=plain, immutable=True)
    made.dropped = dropped
    return made
