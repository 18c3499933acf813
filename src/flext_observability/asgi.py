"""Traces, durations and correlation ids of an ASGI application's requests."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, cast

from . import runtime
from .constants import FlextObservabilityConstants as C
from .served_requests import (
    UNREAD_HEADERS,
    Part,
    RequestHead,
    ServedRequest,
    left_out,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where FastAPI keeps the span that recent versions make by themselves; what stands here
# already, they leave alone.
_FASTAPI = "fastapi.telemetry"
_UNREAD = frozenset(name.encode() for name in UNREAD_HEADERS)
_SWITCHING_PROTOCOLS = 101
_FORBIDDEN = 403
_SERVER_ERROR = 500
_DEFAULT_SCHEMES = {"http": "http", "websocket": "ws"}


class FlextASGIMiddleware:
    """Makes a SERVER span of every request and measures it.

    The span continues the caller's trace, if he is trusted, and is current while the
    application runs; it ends with the last byte of the response, background tasks not
    included. Its name and ``http.route`` are the route's where the framework tells it
    (Starlette, FastAPI, Litestar). The correlation id of the request, or else a new
    one, is answered in the correlation header. A websocket is one span from handshake
    to close, not measured.

    Recent versions of FastAPI make a span of each request themselves. There is one all
    the same: around the whole application ours takes its place, and inside of it, by
    ``add_middleware``, theirs stays and the correlation id is all that is added.

    The application sees what it would see without it, and its exceptions pass.

    Example:
        >>> app = FlextASGIMiddleware(app)  # doctest: +SKIP
    """

    def __init__(
        self,
        app: Any,
        *,
        excluded_paths: Iterable[str] = C.PROBE_PATHS,
        trusts_callers: bool | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            excluded_paths: Whole paths, or beginnings that end in ``*``. These requests
                are served without a span and are not measured, and what the application
                does meanwhile is in no trace; the correlation id is answered.
            trusts_callers: Whether a request continues its caller's trace and keeps
                his correlation id. If not, it begins a trace of its own, with a link to
                the caller's span, and has a new id. By default callers on this machine
                and in private networks are trusted, those from the internet are not.
                Behind a proxy everybody comes from the proxy: ``False`` at a public
                edge that has one.
        """
        self.app = cast("Application", app)
        self._is_left_out = left_out(excluded_paths)
        self._trusts_callers = trusts_callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the lifespan passes as it is."""
        kind = scope["type"]
        if kind not in _DEFAULT_SCHEMES:
            await self.app(scope, receive, send)
            return
        headers: Iterable[tuple[bytes, bytes]] = scope.get("headers") or ()
        request = ServedRequest(
            _head(scope, headers),
            [pair for pair in headers if pair[0] not in _UNREAD],
            trusts_caller=self._trusts_callers,
            part=self._part(scope, kind),
        )
        sender = _Sender(request, scope, send)
        try:
            await self.app(scope, receive, sender)
        except BaseException as error:
            sender.note_route()
            request.fail(error)
            raise
        finally:
            sender.end()
            request.leave()

    def _part(self, scope: Scope, kind: str) -> Part:
        if getattr(scope.get(_FASTAPI), "span", None) is not None:
            return Part.ID  # we stand inside, where FastAPI has begun its own span
        if runtime.is_running():
            scope.setdefault(_FASTAPI, None)  # ours will do
        if self._is_left_out(str(scope.get("path", ""))):
            return Part.NOTHING
        return Part.ALL if kind == "http" else Part.SPAN


class _Sender:
    """Passes messages on; reads the status from them and adds the correlation id."""

    __slots__ = ("_has_trailers", "_request", "_scope", "_send")

    def __init__(self, request: ServedRequest, scope: Scope, send: Send) -> None:
        self._request = request
        self._scope = scope
        self._send = send
        self._has_trailers = False

    async def __call__(self, message: Message) -> None:
        begin = _BEGINNINGS.get(message["type"])
        if begin is not None:
            with suppress(Exception):  # telemetry never stops a response
                message = self._begun(message, begin)
        await self._send(message)
        # Behind a 500 an exception may follow: frameworks answer it, then raise it.
        if self._is_last(message) and (self._request.status or 0) < _SERVER_ERROR:
            self.end()

    def _begun(self, message: Message, status: int) -> Message:
        if self._request.status is None:
            self._request.status = int(message.get("status", status))
        self._has_trailers = bool(message.get("trailers"))
        if message["type"] == "websocket.close":  # a refusal has no headers of ours
            return message
        return _with_header(message, self._request.response_header())

    def _is_last(self, message: Message) -> bool:
        kind: str = message["type"]
        if kind == "http.response.body":
            return not message.get("more_body") and not self._has_trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "http.response.pathsend"

    def note_route(self) -> None:
        """Read the route, which the framework finds while it runs."""
        with suppress(Exception):  # any framework, any version of it
            self._request.route = self._request.route or _route(self._scope)

    def end(self) -> None:
        """End the request, unless that was done."""
        if not self._request.is_over:
            self.note_route()
            self._request.end()


# Messages that begin a response, and the status they stand for where they name none.
_BEGINNINGS = {
    "http.response.start": 200,
    "websocket.accept": _SWITCHING_PROTOCOLS,
    "websocket.close": _FORBIDDEN,  # before it was accepted; later it changes nothing
    "websocket.http.response.start": _FORBIDDEN,
}


def _with_header(message: Message, header: tuple[str, str]) -> Message:
    """Add a header to a copy, unless the application set it."""
    name = header[0].lower().encode("latin-1")
    headers = list(message.get("headers") or ())
    if any(bytes(given[0]).lower() == name for given in headers):
        return {**message, "headers": headers}  # it may have been an iterator
    return {**message, "headers": [*headers, (name, header[1].encode("latin-1"))]}


def _head(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    host = agent = ""
    for name, value in headers:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"user-agent":
            agent = value.decode("latin-1")
    client = scope.get("client")
    query: bytes = scope.get("query_string") or b""
    return RequestHead(
        method=str(scope.get("method") or "GET"),  # a handshake is a GET
        path=str(scope.get("path", "")),
        query=query.decode("latin-1"),
        scheme=str(scope.get("scheme") or _DEFAULT_SCHEMES[scope["type"]]),
        host=host,
        client=str(client[0]) if client else "",
        version=str(scope.get("http_version") or ""),
        agent=agent,
    )


def _route(scope: Scope) -> str:
    """Give the template of the path: ``/orders/{number}``."""
    template = scope.get("path_template")  # Litestar
    if not isinstance(template, str):
        found = scope.get("route")
        root = str(scope.get("root_path", ""))
        if found is not None and getattr(found, "endpoint", None) is None:
            return f"{root}/*"  # mounted, and without routes of its own
        template = getattr(found, "path_format", None) or getattr(found, "path", None)
        if not isinstance(template, str):
            return ""
        # What a mounted application is mounted at stands before its own routes.
        template = root + template
    return template
