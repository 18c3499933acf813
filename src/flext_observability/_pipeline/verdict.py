"""What became of one OTLP request, and what that means for its records."""

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

_TOLD_LIMIT_S = 600.0
_SECONDS = re.compile(r"[0-9]{1,40}(\.[0-9]{0,40})?")
_TOLD_LIMIT_CHARACTERS = 64


class Outcome(Enum):
    """What to do with the records of a request."""

    DELIVERED = "delivered"
    """The server has them, less those it rejected inside the request."""
    RETRY = "retry"
    """Send the same request again, later."""
    SPLIT = "split"
    """The request was too large: send it in parts."""
    BISECT = "bisect"
    """A record in it is malformed for the server: find it, send the others."""
    HOLD = "hold"
    """No request to this destination can succeed until a person corrects something."""
    REJECTED = "rejected"
    """Refused for good."""


class Verdict(NamedTuple):
    """What became of one request."""

    outcome: Outcome
    reason: str = ""
    """Short and stable: what counts as the same trouble."""
    message: str = ""
    """For the user: what is wrong and what to do; one line."""
    rejected: int = 0
    """Records the server refused inside a request it accepted."""
    retry_after_s: float | None = None
    """When the server told us to come back, seconds from now, at most 600.

    0 says "at once", which a broken server says again and again.
    """
    may_have_arrived: bool = False
    """Whether the server may hold the records though it gave no answer."""


DELIVERED = Verdict(Outcome.DELIVERED)


def one_line(text: object, limit: int = 200) -> str:
    """Bound and escape what a server or a library said."""
    shown = str(text)
    if len(shown) > limit:
        shown = f"{shown[:limit]}…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


def bounded_delay_s(delay_s: float) -> float | None:
    """Cap a told delay at ten minutes; ``None`` when it is no delay."""
    return min(delay_s, _TOLD_LIMIT_S) if delay_s >= 0 else None


def retry_after_s(header: str | None) -> float | None:
    """Read Retry-After: seconds or a date; ``None`` if it is neither.

    A date that is over says "at once".
    """
    text = (header or "").strip()[: _TOLD_LIMIT_CHARACTERS + 1]
    if not text or len(text) > _TOLD_LIMIT_CHARACTERS:
        return None
    if _SECONDS.fullmatch(text):
        return bounded_delay_s(float(text))
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # RFC 9110: always UTC
            moment = moment.replace(tzinfo=UTC)
        return bounded_delay_s(max(0.0, moment.timestamp() - time.time()))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
