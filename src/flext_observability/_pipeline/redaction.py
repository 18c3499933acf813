"""Takes secrets out of telemetry, by names, by shapes and by the user's own rules."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from opentelemetry.util.types import AnyValue

from ..errors import FlextObservabilityConfigurationError
from ..secret_names import Secrecy, SecretNames, words_of
from ..secret_text import REDACTED, SecretText, is_user_option, without_password
from .values import clean_value

if TYPE_CHECKING:
    from ..settings import Settings

T = TypeVar("T")
Callback = Callable[[str, object], object]
"""Asked for every attribute: name and value in; ``None`` leaves it to the rules."""
Report = Callable[[str, str], None]
"""Takes a reason, once a minute at most, and a message."""

_NAMES_KEPT = 4096
_NAME_LENGTH_KEPT = 128
_TEXTS_KEPT = 8192
_TEXT_LENGTH_KEPT = 64
_PAIR = 2
# An id made by a machine: no rule of ours finds anything in these characters.
_HEX = re.compile(r"[0-9a-f\-]{1,64}")
_SCALARS = frozenset({bool, int, float, type(None)})


class Redactor:
    """Replaces secrets by ``[redacted]``; never raises, and is safe from any thread.

    The rules, in this order, for a name and its value:

    1. The callback, if the user gave one, is asked. Whatever it returns is taken as it
       is: another value redacts more, the value itself spares what a rule would take.
       ``None`` means that it has no opinion, and the rules decide.
    2. A name that says "secret" by its words takes the whole value.
    3. Secrets inside texts are taken out by their shape, then by the user's patterns.
    """

    def __init__(
        self,
        *,
        is_on: bool = True,
        names: Sequence[str] = (),
        patterns: Sequence[re.Pattern[str]] = (),
        callback: Callback | None = None,
        report: Report = lambda _reason, _message: None,
    ) -> None:
        """Prepare.

        Args:
            is_on: Whether our own rules apply; the user's always do.
            names: Further secret names, by their words.
            patterns: Further secret texts.
            callback: Asked first.
            report: Told when the callback or a pattern raises.
        """
        self._names = SecretNames(names, everyday=is_on)
        self._patterns = tuple(patterns)
        self._callback = callback
        self._report = report
        self._known: dict[str, Secrecy] = {}
        self._parameters: dict[str, bool] = {}
        self._clean: set[str] = set()  # short texts without a secret
        self._text = SecretText(
            lambda name: self.secrecy_of(name) is not Secrecy.NOTHING,
            self._is_secret_parameter,
            everyday=is_on,
            further=[words[0] for words in map(words_of, names) if words],
        )
        self._is_on = is_on
        self._has_texts = bool(is_on or names)
        self.is_idle = not (is_on or names or patterns or callback)
        """Whether there is no rule at all."""

    @classmethod
    def of(
        cls,
        config: "Settings",
        callback: Callback | None = None,
        report: Report = lambda _reason, _message: None,
    ) -> "Redactor":
        """Build what the settings say.

        Args:
            config: The settings.
            callback: ``setup(redact=...)``.
            report: Told when the callback or a pattern raises.

        Raises:
            FlextObservabilityConfigurationError: A pattern or the callback is none; the
                message is ``<field>: <reason>``.
        """
        if callback is not None and not callable(callback):
            message = (
                f"redact: must be a function of name and value, got {callback!r:.100}. "
                "Give a function that returns None where the rules shall decide."
            )
            raise FlextObservabilityConfigurationError(message)
        return cls(
            is_on=config.redaction,
            names=config.redact_keys,
            patterns=compiled_patterns(config.redact_patterns),
            callback=callback,
            report=report,
        )

    @property
    def has_callback(self) -> bool:
        """Whether every attribute must be shown to the user's function."""
        return self._callback is not None

    def spares(self, text: str) -> bool:
        """Whether a text is plainly no secret, under any harmless name."""
        has_rules = self._patterns or self._callback
        return not has_rules and _HEX.fullmatch(text) is not None

    def secrecy_of(self, name: str) -> Secrecy:
        """Say what of a value is secret, by the name it goes under."""
        known = self._known.get(name)
        if known is None:
            known = self._names.secrecy_of(name)
            _keep(self._known, name, known)
        return known

    def _is_secret_parameter(self, name: str) -> bool:
        known = self._parameters.get(name)
        if known is None:
            known = self._names.is_secret_parameter(name)
            _keep(self._parameters, name, known)
        return known

    def text(self, text: str, *, recurs: bool = True) -> str:
        """Take secrets out of a text; the same object when it holds none.

        Args:
            text: A legal one.
            recurs: Whether it may come again, so that it pays to remember it.
        """
        if text in self._clean:
            return text
        try:
            found = self._redacted(text)
        except Exception:  # noqa: BLE001 - a pattern's, or a signal handler's
            try:
                found = self._redacted(text)
            except Exception as error:  # noqa: BLE001 - again, so it is the pattern's
                self._say("redact_patterns", error)
                return REDACTED
        if recurs and found is text and len(text) <= _TEXT_LENGTH_KEPT:
            if len(self._clean) >= _TEXTS_KEPT:
                self._clean.clear()
            self._clean.add(text)
        return found

    def _redacted(self, text: str) -> str:
        if self._has_texts and not _HEX.fullmatch(text):
            text = self._text.redacted(text)
        for pattern in self._patterns:
            if pattern.search(text):
                text = pattern.sub(REDACTED, text)
        return text

    def value(self, name: str, value: AnyValue) -> AnyValue:
        """Take secrets out of a legal value; the same object when it holds none.

        Args:
            name: Of the attribute, or of the entry of a mapping.
            value: What :func:`~.values.clean_value` gives.
        """
        if self._callback is not None:
            answer = self._ask(name, value)
            if answer is not None:
                return value if answer is value else clean_value(answer)
        secrecy = self.secrecy_of(name)
        if secrecy and value is not None and not isinstance(value, bool):
            is_number = isinstance(value, int | float)
            if value == REDACTED or (is_number and secrecy is Secrecy.TEXT):
                return value
            return REDACTED
        return self._inside(value)

    def attributes(self, attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
        """Take secrets out of legal attributes, names included."""
        return {
            self.text(name): self.value(name, value)
            for name, value in attributes.items()
        }

    def _inside(self, value: AnyValue) -> AnyValue:
        if isinstance(value, str):
            return self.text(value)
        if type(value) in _SCALARS:
            return value
        if isinstance(value, bytes):
            plain = value.decode("latin-1")  # a character for every byte, and back
            found = self.text(plain)
            return value if found is plain else found.encode("latin-1", "replace")
        if isinstance(value, Mapping):
            return self._inside_mapping(value)
        if isinstance(value, Sequence):
            return self._inside_sequence(value)
        return value

    def _inside_mapping(self, value: Mapping[str, AnyValue]) -> AnyValue:
        made = self.attributes(value)
        same = len(made) == len(value) and all(
            name in value and value[name] is found for name, found in made.items()
        )
        return value if same else made

    def _inside_sequence(self, value: Sequence[AnyValue]) -> AnyValue:
        made = [self._inside(item) for item in value]
        for place in range(len(made) - 1):
            name = self._introduced(value[place], is_pair=len(value) == _PAIR)
            if name:
                made[place + 1] = self.value(name, value[place + 1])
            elif self._is_on:
                made[place + 1] = _of_option(made, place)
        same = all(old is new for old, new in zip(value, made, strict=True))
        return value if same else tuple(made)

    def _introduced(self, item: AnyValue, *, is_pair: bool) -> str:
        """Give the secret name in ``("cookie", …)`` or ``["--password", …]``."""
        if isinstance(item, bytes):
            item = item[:_NAME_LENGTH_KEPT].decode("latin-1")
        if not isinstance(item, str) or not (is_pair or item.startswith("-")):
            return ""
        if len(item) > _NAME_LENGTH_KEPT or self.secrecy_of(item) is Secrecy.NOTHING:
            return ""
        return item

    def _ask(self, name: str, value: object) -> object:
        try:
            return cast("Callback", self._callback)(name, value)
        except KeyboardInterrupt:
            raise  # in the main thread it is the user's
        except BaseException as error:  # noqa: BLE001 - the user's function
            self._say("redact", error)
            return REDACTED  # it may have wanted to

    def _say(self, what: str, error: BaseException) -> None:
        self._report(
            what,
            f"{what}: raised {type(error).__name__}; the values it was asked about are "
            f"sent as {REDACTED}",
        )


def _of_option(items: Sequence[AnyValue], place: int) -> AnyValue:
    """Give what follows an option, without its password: ``["curl", "-u", "a:b"]``."""
    option, following = items[place], items[place + 1]
    if not isinstance(option, str) or not isinstance(following, str):
        return following
    if not is_user_option(option):
        return following
    return without_password(following, option, is_curl="curl" in str(items[0]))


def _keep(known: dict[str, T], name: str, judgement: T) -> None:
    if len(name) <= _NAME_LENGTH_KEPT:
        if len(known) >= _NAMES_KEPT:
            known.clear()  # names may be made at run time
        known[name] = judgement


def compiled_patterns(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    """Compile the user's patterns.

    Raises:
        FlextObservabilityConfigurationError: One is no regular expression, or matches
            where nothing is.
    """
    made: list[re.Pattern[str]] = []
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            why = f"{pattern!r:.100} is no regular expression ({error})"
        else:
            made.append(compiled)
            if compiled.search("") is None:
                continue
            why = f"{pattern!r:.100} matches the empty text"
        message = f"redact_patterns: {why}. Give a list of legal regular expressions."
        raise FlextObservabilityConfigurationError(message)
    return made
