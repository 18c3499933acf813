"""Who makes the HTTP requests of a transport, and what comes back."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .otlp_reply import REPLY_LIMIT_BYTES

_CHUNK_BYTES = 64 * 1024
# zlib: 32 + 15 tells gzip and zlib apart by their first bytes.
_GZIP_OR_ZLIB = 47


class HttpReply(NamedTuple):  # a dataclass takes five times as long to load
    """The answer to one request."""

    status: int
    body: bytes | None
    """Decompressed; ``None`` when it was cut, late, too large, or garbage."""
    retry_after: str | None = None
    """The header of that name."""


class HttpClient(Protocol):
    """Makes POST requests to one address over one kept-alive connection.

    What goes wrong before the status of the answer is known is raised, as the libraries
    below raise it.
    """

    def post(self, body: bytes, timeout_s: float) -> HttpReply:
        """Make one request; never follows a redirect.

        The deadline is that of the exchange around it. The time is the same, for what
        knows no exchange.
        """
        ...

    def close(self) -> None:
        """Drop the connection; a request under way may end early."""
        ...


def read_reply(status: int, headers: Any, read: Callable[[int], bytes]) -> HttpReply:
    """Read a bounded body.

    Args:
        status: Of the answer.
        headers: Of the answer; a mapping that takes names in any case.
        read: Gives up to so many bytes as they came, none at the end.
    """
    encoding = str(headers.get("Content-Encoding", "")).strip().lower()
    body = None
    try:
        body = _bounded(read, encoding)
    except Exception:  # noqa: BLE001 - cut, late, too large, garbage: all the same
        body = None
    return HttpReply(status, body, headers.get("Retry-After"))


def _bounded(read: Callable[[int], bytes], encoding: str) -> bytes:
    """Read and decompress up to the limit.

    Not left to urllib3, some releases of which decompress without bound.

    Raises:
        ValueError: There is more, or the encoding is unknown or broken.
    """
    inflater = None
    if encoding in {"gzip", "deflate"}:
        inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    elif encoding not in {"", "identity"}:
        raise ValueError(encoding)
    reply = bytearray()
    received = 0
    while chunk := read(_CHUNK_BYTES):
        received += len(chunk)
        if inflater:
            chunk = inflater.decompress(chunk, REPLY_LIMIT_BYTES + 1 - len(reply))
        reply += chunk
        if max(received, len(reply)) > REPLY_LIMIT_BYTES:
            raise ValueError(received)
    if inflater and received and not inflater.eof:
        raise ValueError(received)
    return bytes(reply)
