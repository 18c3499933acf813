"""Secrets inside any text: taken out, the rest stays readable.

Every rule takes linear time: what a search consumed is not looked at again, and no
pattern holds a repetition inside a repetition. Rules run only where a word of theirs
occurs, so that an ordinary short text costs a few substring searches.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from functools import cache

from .secret_columns import without_secret_columns
from .secret_names import Secrecy, SecretNames

REDACTED = "[redacted]"

# Patterns are compiled when the first text comes that needs them: most programs have
# few of these texts, and all of them are to start soon.
_compiled = cache(re.compile)

# A name and what joins it to its value: `name=`, `"name": `, `name => `, `'name', b'`
# (a pair of a header list), `name%3D`.
_NAME = (
    r"(?<![\w.\-])(?P<name>[\w.\-]++)"
    r"(?:\\*+[\"']?\]?[ \t]{0,4}(?::=|:(?!//)|=>|==?|%3[dD])[ \t]{0,4}"
    r"|\\*+[\"'],[ \t]{0,2}(?=b?\\*+[\"']))"
)
# Letters of every word that makes a name secret; without any of them no name is. Few
# and short, since they are looked for in every text: `ss` stands for pass, sess, ssn.
_STEMS = (
    *("ss", "key", "secret", "token", "auth", "pw", "cred", "cookie", "sig", "card"),
    *("rf", "jwt", "cv", "social", "bearer", "hmac", "sid"),
)
# The second words of names that people write in two.
_SECOND_WORDS = frozenset({"key", "keys", "id", "number", "code", "card", "security"})
_FIRST_WORD = r"[A-Za-z]+ $"
_QUOTE = r"[bBrRuUfF]{0,2}(?P<slashes>\\*+)(?P<quote>[\"'])"
_PLAIN = r"(?:[^\s,;&\"'\\]|\\(?![\"'])|,(?![\s\"']|$|[\w.\-]{1,40}+[\"']?[:=]))++"
_SCHEME = r"(?i)[a-z][\w\-]{2,20}+[ \t]++(?=[^\s,;\"'])"
_SCHEMES_OF_MANY_PARTS = frozenset(
    {"digest", "oauth", "hawk", "hmac", "signature", "aws4-hmac-sha256"}
)
_LINE = r"[^\r\n]*+"
_COOKIES = r"[^\s;,\"']++(?:;[ \t]?[^\s;,=\"']++=[^\s;,\"']*+)*+"
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_NO_VALUES = frozenset({"", "none", "null", "nil", "true", "false", "undefined"})

_SQL = (
    r"(?i)(?P<before>\bidentified[ \t]{1,8}(?:with[ \t]{1,8}\S{1,64}+[ \t]{1,8})?"
    r"(?:by|as)[ \t]{1,8}(?:password[ \t]{1,8})?"
    r"|\bpassword(?:[ \t]{1,8}\(?[ \t]{0,8}|\([ \t]{0,8}|(?<=[ \t]password)(?='))"
    r"(?=[\"'])"
    r"|\bpassword[ \t]{1,8}for[ \t]{1,8}[^\s=]{1,256}[ \t]{0,8}=[ \t]{0,8}(?=[\"']))"
    r"(?P<secret>'(?:[^'\\]|\\.|'')*+'?|\"(?:[^\"\\]|\\.)*+\"?|[^\s,;]++)"
)
_ELEMENT = (
    r"<(?P<name>[\w.\-]++)(?:[ \t][^<>]{0,200}+)?>(?P<secret>[^<>\s][^<>]*+)(?=</)"
)
_OPTION = (
    r"(?<![\w\-])(?P<name>--?[A-Za-z][\w\-]*+)[ \t]{1,4}"
    r"(?P<secret>[^\s\-\"'][^\s\"']*+)"
)
# `curl -u bob:…`, also `-su`; of other programs `--user` alone.
_USER_OPTION = r"--(?:proxy-)?user|-[A-Za-z]{0,8}?[uU]"
_USER = (
    r"(?<![\w\-])(?P<before>(?P<option>--(?:proxy-)?user(?![\w\-])|-[A-Za-z]{0,8}?[uU])"
    r"(?:\\*+[\"'],)?[ \t=]{0,4}(?P<quote>\\*+[\"'])?)"
    r"(?P<user>[^\s:\"'\\]{0,128}+:(?(quote)(?:(?!(?P=quote)).)++|[^\s\"'\\]++))"
)
_BEARER = r"(?i)\b(?P<before>bearer[ \t]{1,4})(?P<secret>[\w.~+/=\-]{4,}+)"
_BASIC = r"(?i)\b(?P<before>basic[ \t]{1,4})(?P<secret>[\w+/\-]{6,}+={0,2})"
_LONG_WORD = r"[\w\-.]{16}"
_FIRST_PARAMETERS = frozenset({"sig", "signature"})
# What follows "bearer" in a sentence about it.
_PROSE = (
    r"(?i)(?:auth[a-z]{0,14}|tokens?|schemes?|headers?|credentials?|errors?|realms?"
    r"|formats?|challenges?)[.:]?"
)
_BEGIN_KEY = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"
_END_KEY = r"-----END [A-Z0-9 ]{0,60}-----"

# Tokens that say by their shape what they are. Each with a text it always holds.
_TOKENS = tuple(
    (marks.split(), pattern)
    for marks, pattern in (
        ("eyJ", r"\beyJ[\w\-]{8,}+\.[\w\-]++(?:\.[\w\-]*+)?"),
        ("AKIA ASIA", r"\bA(?:KI|SI)A[A-Z0-9]{12,}+"),
        ("ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{16,}+"),
        ("github_pat_", r"\bgithub_pat_\w{16,}+"),
        ("glpat-", r"\bglpat-[\w\-]{16,}+"),
        ("xox xapp-", r"\bx(?:ox[a-z]|app)-[A-Za-z0-9\-]{11,}+"),
        ("_live_ _test_", r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{8,}+"),
        ("whsec_", r"\bwhsec_[\w+/]{16,}+"),
        ("AIza", r"\bAIza[\w\-]{30,}+"),
        ("ya29.", r"\bya29\.[\w\-]{16,}+"),
        ("GOCSPX-", r"\bGOCSPX-[\w\-]{16,}+"),
        ("sk-", r"\bsk-[\w\-]{20,}+"),
        ("SG.", r"\bSG\.[\w\-]{16,}+\.[\w\-]{16,}+"),
        ("npm_", r"\bnpm_[A-Za-z0-9]{30,}+"),
        ("pypi-", r"\bpypi-[\w\-]{30,}+"),
        ("hf_", r"\bhf_[A-Za-z0-9]{20,}+"),
        ("dop_v1_", r"\bdop_v1_[a-f0-9]{40,}+"),
        ("hvs.", r"\bhvs\.[\w\-]{20,}+"),
        ("shp", r"\bshp(?:at|ss|ca|pa)_[A-Fa-f0-9]{20,}+"),
        ("hooks.slack.com/", r"(?<=hooks\.slack\.com/services/)[\w/]{8,}+"),
        ("/webhooks/", r"(?<=/webhooks/)\d{8,}+/[\w\-]{16,}+"),
    )
)
_SHORTEST = 5  # characters of `pwd=x`
_SHORTEST_TOKEN = 16
_SHORTEST_LONE_USER = 16  # in a URL without a password; a shorter one is a name

IsSecret = Callable[[str], bool]
"""Says of a name whether its value is secret."""


class SecretText:
    """Takes secrets out of text."""

    def __init__(
        self,
        is_secret: IsSecret,
        is_parameter: IsSecret,
        *,
        everyday: bool = True,
        further: Sequence[str] = (),
    ) -> None:
        """Prepare.

        Args:
            is_secret: Judges names in ``name=value`` and its like.
            is_parameter: Judges the names of a URL's query parameters.
            everyday: Whether secrets of everyday use are looked for.
            further: Parts of the user's own secret names, lower-case.
        """
        self._is_secret = is_secret
        self._is_parameter = is_parameter
        self._everyday = everyday
        self._stems = (*(_STEMS if everyday else ()), *further)

    def redacted(self, text: str) -> str:
        """Give the text without its secrets; the same object when it holds none."""
        if len(text) < _SHORTEST:
            return text
        found = text
        has_joint = "=" in text or ":" in text or '"' in text or "'" in text
        has_dash = "-" in text
        has_option = has_dash and (" -" in text or text[0] == "-")
        if self._everyday:
            found = self._by_shapes(found)
            if has_dash and ("curl" in text or "-user" in text):
                found = _without_options(found)
        has_name = has_joint or has_option or "%3" in text or "</" in text
        if has_name or (")" in text and _has_rows(text)):
            lowered = found.lower()
            for stem in self._stems:
                if stem in lowered:
                    found = self._by_names(found)
                    break
        return text if found == text else found

    def _by_names(self, text: str) -> str:
        """Take out what a name tells."""
        if not _has_rows(text):
            return self._without_named_values(text)
        pieces = without_secret_columns(text, self._is_secret, REDACTED)
        # Between them stand lists of columns: names alone are no secret.
        pieces[::2] = map(self._without_named_values, pieces[::2])
        return "".join(pieces)

    def _without_named_values(self, text: str) -> str:
        text = self._without_pairs(text)
        text = _compiled(_ELEMENT).sub(self._without_named, text)
        return (
            _compiled(_OPTION).sub(self._without_named, text) if "-" in text else text
        )

    def _by_shapes(self, text: str) -> str:
        """Take out what a sign or a word in front of it tells, or its own shape."""
        if "://" in text and "@" in text:
            text = _without_users(text)
        if " " in text or "'" in text:
            text = _by_words(text)
        if len(text) >= _SHORTEST_TOKEN and _compiled(_LONG_WORD).search(text):
            for marks, pattern in _TOKENS:
                for mark in marks:
                    if mark in text:
                        text = _compiled(pattern).sub(REDACTED, text)
                        break
        return text

    def _without_pairs(self, text: str) -> str:
        parts: list[str] = []
        done = position = 0
        while match := _compiled(_NAME).search(text, position):
            position = match.end()
            if not self._names_secret(text, match):
                continue
            start, end = _value_span(text, position, match["name"].lower())
            if end > start and text[start:end].lower() not in _NO_VALUES:
                parts += text[done:start], REDACTED
                done = end
            position = max(end, position)
        if not parts:
            return text
        return "".join((*parts, text[done:]))

    def _names_secret(self, text: str, match: re.Match[str]) -> bool:
        name, start = match["name"], match.start()
        if start > 0 and text[start - 1] in "?&":
            return self._is_parameter(name)
        if start == 0 and name.lower() in _FIRST_PARAMETERS:
            return self._everyday  # a query without its question mark
        if name.lower() in _SECOND_WORDS and text[start - 1] == " ":
            first = _compiled(_FIRST_WORD).search(text, max(0, start - 20), start)
            name = f"{first[0]}{name}" if first else name
        return self._is_secret(name)

    def _without_named(self, match: re.Match[str]) -> str:
        if not self._is_secret(match["name"]):
            return match[0]
        kept = match.start("secret") - match.start()
        return f"{match[0][:kept]}{REDACTED}"


@cache
def usual_text() -> SecretText:
    """Give the rules of everyday use, whatever the settings say."""
    names = SecretNames()
    return SecretText(
        lambda name: names.secrecy_of(name) is not Secrecy.NOTHING,
        names.is_secret_parameter,
    )


def _has_rows(text: str) -> bool:
    """Whether there may be rows of SQL, whose columns stand before them."""
    return "VALUE" in text or "value" in text


def _by_words(text: str) -> str:
    lowered = text.lower()
    if "-----begin" in lowered:
        text = _without_keys(text)
    if "identified" in lowered or "password" in lowered:
        text = _compiled(_SQL).sub(_without_sql, text)
    if "bearer" in lowered:
        text = _compiled(_BEARER).sub(_without_bearer, text)
    if "basic" in lowered:
        text = _compiled(_BASIC).sub(_without_basic, text)
    return text


def _without_options(text: str) -> str:
    """Take out passwords that ``-u user:password`` gives."""
    is_curl = "curl" in text

    def without(match: re.Match[str]) -> str:
        user = without_password(match["user"], match["option"], is_curl=is_curl)
        return f"{match['before']}{user}"

    return _compiled(_USER).sub(without, text)


def is_user_option(text: str) -> bool:
    """Whether a text is an option as ``--user`` of curl."""
    return _compiled(_USER_OPTION).fullmatch(text) is not None


def without_password(user: str, option: str, *, is_curl: bool) -> str:
    """Take the password out of ``user:password``.

    Args:
        user: What follows the option.
        option: ``-u`` or ``--user``.
        is_curl: Whether it is curl's. Of other programs ``-u`` may be anything, and
            ``--user 10:20`` is a user and a group.
    """
    name, _, password = user.partition(":")
    if not password or password.startswith("//"):
        return user
    if not is_curl and (option[:2] != "--" or password.isdigit()):
        return user
    return f"{name}:{REDACTED}"


def _value_span(text: str, start: int, name: str) -> tuple[int, int]:
    """Find where a value begins and ends, without the quotes around it."""
    quote = _compiled(_QUOTE).match(text, start)
    if quote:
        inside = quote.end()
        return inside, _closing_quote(text, inside, quote["quote"], quote["slashes"])
    if text.startswith(REDACTED, start):
        return start, start
    if text[start : start + 1] in _BRACKETS:
        return start, _closing_bracket(text, start)
    if name.endswith("authorization"):
        start, is_whole = _after_scheme(text, start)
        pattern = _LINE if is_whole else _PLAIN
    else:
        pattern = _COOKIES if name.endswith("cookie") else _PLAIN
    found = _compiled(pattern).match(text, start)
    if not found or text.startswith(REDACTED, start):
        return start, start
    return start, start + len(found[0].rstrip(")]}>"))


def _after_scheme(text: str, start: int) -> tuple[int, bool]:
    """Find what follows ``Bearer``, and whether it goes to the end of the line."""
    scheme = _compiled(_SCHEME).match(text, start)
    if not scheme:
        return start, False
    return scheme.end(), scheme[0].strip().lower() in _SCHEMES_OF_MANY_PARTS


def _closing_quote(text: str, start: int, quote: str, slashes: str) -> int:
    """Find the quote that closes; one behind more backslashes than ours is inside."""
    place = text.find(quote, start)
    while place >= 0:
        before = place
        while before > start and text[before - 1] == "\\":
            before -= 1
        if place - before <= len(slashes):
            return before if place - before == len(slashes) else place
        place = text.find(quote, place + 1)
    return len(text)


def _closing_bracket(text: str, start: int) -> int:
    opening = text[start]
    closing = _BRACKETS[opening]
    depth = 0
    for match in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start):
        depth += 1 if match[0] == opening else -1
        if not depth:
            return match.end()
    return len(text)


def _without_keys(text: str) -> str:
    """Take private keys out; one whose end was cut off goes to the end of the text."""
    parts: list[str] = []
    done = 0
    while begin := _compiled(_BEGIN_KEY).search(text, done):
        end = _compiled(_END_KEY).search(text, begin.end())
        parts += text[done : begin.start()], REDACTED
        done = end.end() if end else len(text)
    return "".join((*parts, text[done:])) if parts else text


_URL_END = r"[\s\"'<>\\]"
_PATH = r"[/?#]"


def _without_users(text: str) -> str:
    """Take ``user:password@`` out of every URL."""
    before, *rests = text.split("://")
    made = [before, *map(_without_user, rests)]
    return text if made[1:] == rests else "://".join(made)


def _without_user(rest: str) -> str:
    if "@" not in rest:
        return rest
    end = _compiled(_URL_END).search(rest)
    url = rest[: end.start()] if end else rest
    path = _compiled(_PATH).search(url)
    authority = url[: path.start()] if path else url
    user, at, _ = authority.rpartition("@")
    if not at:
        # A password with a slash in it; digits before the slash are a port.
        _, colon, word = authority.partition(":")
        if not colon or not word or word.isdigit():
            return rest
        user, at, _ = url.partition("@")
        if not at:
            return rest
    name, colon, password = user.partition(":")
    is_name = len(name) < _SHORTEST_LONE_USER
    if user == REDACTED or (not colon and is_name) or password == REDACTED:
        return rest
    shown = f"{name}:{REDACTED}" if colon and is_name else REDACTED
    return f"{shown}{rest[len(user) :]}"


def _without_sql(match: re.Match[str]) -> str:
    secret = match["secret"]
    if secret[1:-1] == REDACTED or secret == REDACTED or secret[1:2] in {":", "="}:
        return match[0]
    quote = secret[0] if secret[0] in "'\"" else ""
    return f"{match['before']}{quote}{REDACTED}{quote}"


def _without_bearer(match: re.Match[str]) -> str:
    is_prose = _compiled(_PROSE).fullmatch(match["secret"])
    return match[0] if is_prose else f"{match['before']}{REDACTED}"


def _without_basic(match: re.Match[str]) -> str:
    """Tell credentials, base64 of ``user:password``, from the word in a sentence."""
    secret = match["secret"].rstrip("=")
    try:
        plain = b64decode(f"{secret}{'=' * (-len(secret) % 4)}", altchars=b"-_")
    except (Base64Error, ValueError):
        return match[0]
    return f"{match['before']}{REDACTED}" if b":" in plain else match[0]
