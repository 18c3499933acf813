"""Names that say their value is a secret, matched by their words.

A name is read as words, whatever joins them: ``db.user-Password2`` is *db user
password*. Words, not substrings: an *author* is no *auth*, a *passenger* no *pass*, and
``gen_ai.usage.input_tokens`` counts tokens and holds none.
"""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum


class Secrecy(IntEnum):
    """What of a name's value is secret."""

    NOTHING = 0
    TEXT = 1
    """Text is, numbers are not: ``tokens``."""
    ALL = 2
    """Everything but ``None`` and a bool, which say whether there is a secret."""


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_LETTERS = re.compile(r"[\W\d_]+")

_SECRET = frozenset(
    [
        "password",
        "passwords",
        "passwd",
        "passphrase",
        "passcode",
        "pwd",
        "pw",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "authorization",
        "cookie",
        "cookies",
        "apikey",
        "apikeys",
        "jwt",
        "csrf",
        "xsrf",
        "bearer",
        "privatekey",
        "secretkey",
        "accesskey",
        "sessid",
        "sessionid",
        "ssn",
        "cvv",
        "cvc",
        "creditcard",
        "cardnumber",
        "dbpass",
        "dbpw",
        "userpass",
        "userpw",
        "token",
    ]
)
_SECRET_ENDS = (
    *("password", "passwd", "passphrase", "apikey", "secret", "sessid", "sessionid"),
    *("credential", "credentials", "privatekey", "secretkey", "accesskey", "token"),
)
_SECRET_PAIRS = frozenset(
    tuple(pair.split())
    for pair in [
        "api key",
        "api keys",
        "private key",
        "secret key",
        "access key",
        "signing key",
        "encryption key",
        "ssh key",
        "account key",
        "auth key",
        "master key",
        "shared key",
        "session key",
        "client key",
        "session id",
        "sess id",
        "connect sid",
        "credit card",
        "card number",
        "social security",
        "auth code",
        "amz signature",
        "goog signature",
        "amz credential",
        "goog credential",
        "db pass",
        "user pass",
        "smtp pass",
        "mysql pass",
        "ftp pass",
        "redis pass",
        "admin pass",
    ]
)
# What is told about a secret and is none itself: `token_type`, `password.length`.
_ABOUT = frozenset(
    [
        "count",
        "counts",
        "type",
        "types",
        "length",
        "len",
        "size",
        "limit",
        "limits",
        "budget",
        "usage",
        "policy",
        "strength",
        "expired",
        "expires",
        "expiry",
        "expiration",
        "ttl",
        "age",
        "lifetime",
        "changed",
        "enabled",
        "required",
        "present",
        "valid",
        "status",
        "state",
        "version",
        "name",
        "names",
        "arn",
        "uid",
        "at",
        "in",
        "url",
        "uri",
        "endpoint",
        "file",
        "path",
        "location",
        "provider",
        "source",
        "scheme",
        "method",
        "kind",
        "algorithm",
        "alg",
        "issuer",
        "bucket",
        "index",
        "position",
        "used",
        "remaining",
        "reset",
        "rotation",
        "rotations",
        "error",
        "errors",
        "ratio",
        "rate",
        "cost",
        "price",
        "attempts",
        "retries",
        "tries",
        "failures",
        "consent",
        "domain",
        "per",
    ]
)
# Tokens of a language model or a parser, and of a list that goes on.
_COUNTED = frozenset(
    [
        "max",
        "min",
        "input",
        "output",
        "prompt",
        "completion",
        "total",
        "num",
        "cached",
        "reasoning",
        "audio",
        "text",
        "image",
        "next",
        "page",
        "continuation",
        "cancellation",
        "stop",
        "eos",
        "bos",
        "pad",
        "special",
        "unexpected",
    ]
)
# Only as the name of a URL's query parameter: elsewhere they are ordinary words.
_SECRET_PARAMETERS = frozenset(
    ["sig", "signature", "key", "hmac", "sid", "auth", "pass"]
)


def words_of(name: str) -> list[str]:
    """Give the words of a name, lower-case; digits join nothing and count for nothing.

    Args:
        name: In snake, kebab, camel or dotted case.
    """
    spaced = _NO_LETTERS.split(_CAMEL.sub(" ", name).lower())
    return [word for word in spaced if word]


class SecretNames:
    """Says of a name what of its value is secret."""

    def __init__(self, further: Iterable[str] = (), *, everyday: bool = True) -> None:
        """Take the names of everyday use and some more.

        Args:
            further: Names of the user's: words that, in this order, make a name secret.
            everyday: Whether the names of everyday use count.
        """
        self._everyday = everyday
        self._further = [words for words in map(words_of, further) if words]

    def secrecy_of(self, name: str) -> Secrecy:
        """Say what of a value is secret, by the name it goes under."""
        words = words_of(name)
        if any(_holds(words, wanted) for wanted in self._further):
            return Secrecy.ALL
        return self._by_words(words, name) if self._everyday else Secrecy.NOTHING

    def _by_words(self, words: Sequence[str], name: str) -> Secrecy:
        found = Secrecy.NOTHING
        for place, word in enumerate(words):
            if _is_about(words, place):
                continue
            if _is_secret(words, place, word):
                return Secrecy.NOTHING if _is_session(words, name) else Secrecy.ALL
            if word.endswith("tokens") and not _is_counted(words, place):
                found = Secrecy.TEXT
        return found

    def is_secret_parameter(self, name: str) -> bool:
        """Whether a query parameter of a URL holds a secret."""
        words = words_of(name)
        if self._everyday and words and words[-1] in _SECRET_PARAMETERS:
            return True
        return self.secrecy_of(name) is not Secrecy.NOTHING


def _holds(words: Sequence[str], wanted: list[str]) -> bool:
    length = len(wanted)
    starts = range(len(words) - length + 1)
    return any(list(words[start : start + length]) == wanted for start in starts)


def _is_secret(words: Sequence[str], place: int, word: str) -> bool:
    if word in _SECRET or word.endswith(_SECRET_ENDS):
        return not (word.endswith("token") and _is_counted(words, place))
    following = words[place + 1] if place + 1 < len(words) else ""
    if (word, following) in _SECRET_PAIRS:
        return True
    return word == "auth" and not following


def _is_about(words: Sequence[str], place: int) -> bool:
    """Whether the name goes on to say that it only tells about the word."""
    after = words[place + 1 :]
    return bool(after) and (after[0] in _ABOUT or after[-1] in _ABOUT)


def _is_counted(words: Sequence[str], place: int) -> bool:
    return place > 0 and words[place - 1] in _COUNTED


def _is_session(words: Sequence[str], name: str) -> bool:
    """Whether it is ``session.id`` of the semantic conventions, which is no cookie."""
    return "session" in words and "session.id" in name and "token" not in words
