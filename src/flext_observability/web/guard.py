"""What every request to the operations server passes before it is looked at."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from .._pipeline.own_work import own_work, suppressor
from ..access import Access, AccessRules
from ..propagation import correlation_header, flext_correlation_scope

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ACCESS: Final = "flext.access"
"""Where a request's :class:`~.access.Access` stands in its scope."""
BODY_LIMIT_BYTES: Final = 64 * 1024
DEPTH_LIMIT: Final = 64
_DEADLINE_S: Final = 10.0
_POLICY_VIOLATION: Final = 1008

SECURITY_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
)


class RefusedError(Exception):
    """A body that is not read any further."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """Refuses forged requests and bodies beyond their limits; stamps every answer.

    Args:
        app: What answers.
        rules: Who may ask.
        deadline_s: Seconds for a whole body.
    """

    def __init__(
        self, app: Application, rules: AccessRules, deadline_s: float = _DEADLINE_S
    ) -> None:
        self._app = app
        self._rules = rules
        self._deadline_s = deadline_s
        self._suppressed = suppressor()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # a GET whose body nobody wants
            scope, send = {**scope, "method": "GET"}, _bodiless(send)
        headers = _text_headers(scope)
        # Requests to us are no telemetry of the application.
        scoped = flext_correlation_scope(headers=headers)
        with own_work(self._suppressed), scoped as id_:
            answer = _stamped(send, ((correlation_header(), id_), *SECURITY_HEADERS))
            await self._checked(scope, headers, receive, answer)

    async def _checked(
        self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send
    ) -> None:
        client = scope.get("client")
        access = self._rules.judge(
            str(client[0]) if client else "", lambda name: headers.get(name, "")
        )
        scope[ACCESS] = access
        if access.is_forged and access.refusal is not None:
            await refuse(send, access.refusal.status, access.refusal.message)
            return
        try:
            if scope["method"] != "GET":
                if not access.is_full:  # nobody's body is read for nothing
                    receive = _nothing
                else:
                    body = await self._body(headers, receive)
                    receive = _replayed(body, receive)
        except RefusedError as refusal:
            await refuse(send, refusal.status, str(refusal))
            return
        await self._app(scope, receive, send)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > BODY_LIMIT_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(self._deadline_s):
                body = await _read(receive)
        except TimeoutError as error:
            raise RefusedError(
                HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time"
            ) from error
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            message = "the content type must be application/json"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        if body:
            check_json(body)
        return body


def access_of(scope: Scope) -> Access:
    """Give what the caller of a request may."""
    access: Access = scope[ACCESS]
    return access


def check_json(body: bytes) -> None:
    """Refuse what cannot be read as JSON.

    Raises:
        RefusedError: It is none, or nested too deep.
    """
    message = f"JSON is nested deeper than {DEPTH_LIMIT}"
    if not is_too_deep(body):
        try:
            json.loads(body)
        except ValueError as error:  # no JSON, no UTF-8, a number of 5,000 digits
            message = f"the body is no JSON: {error}"[:200]
        else:
            return
    raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def is_too_deep(body: bytes) -> bool:
    """Whether JSON is nested deeper than is read; brackets in texts do not count."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    depth = 0
    is_text = is_escaped = False
    for character in body:
        if is_text:
            is_text = is_escaped or character != _QUOTE
            is_escaped = not is_escaped and character == _BACKSLASH
        elif character == _QUOTE:
            is_text = True
        elif character in _OPENING:
            depth += 1
            if depth > DEPTH_LIMIT:
                return True
        elif character in _CLOSING:
            depth -= 1
    return False


_QUOTE, _BACKSLASH = b'"\\'
_OPENING, _CLOSING = b"[{", b"]}"


async def refuse(send: Send, status: HTTPStatus, message: str) -> None:
    """Send an answer that is none, and close the connection: more may be coming."""
    body = json.dumps({"detail": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send(
        {"type": "http.response.start", "status": int(status), "headers": headers}
    )
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client is gone
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is not complete")
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already, then whatever else comes."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            part = waiting.pop()
            return {"type": "http.request", "body": part, "more_body": False}
        return await receive()

    return replay


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _text_headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope.get("headers") or ():
        # Of two that must not be repeated, the first counts.
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found


def _bodiless(send: Send) -> Send:
    async def strip(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return strip


def _stamped(send: Send, more: tuple[tuple[str, str], ...]) -> Send:
    ours = [(name.lower().encode(), value.encode("latin-1")) for name, value in more]

    async def stamp(message: Message) -> None:
        if message["type"] == "http.response.start":
            present: list[tuple[bytes, bytes]] = [*message.get("headers", ())]
            names = {name.lower() for name, _ in present}
            added = [pair for pair in ours if pair[0] not in names]
            message = {**message, "headers": [*present, *added]}
        await send(message)

    return stamp


def _too_large() -> RefusedError:
    message = f"the body is longer than {BODY_LIMIT_BYTES} bytes"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
