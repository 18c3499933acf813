"""Traces, durations and correlation ids of a WSGI application's requests."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

from .constants import FlextObservabilityConstants as C
from .correlation import OwnContext
from .served_requests import (
    UNREAD_HEADERS,
    Part,
    RequestHead,
    ServedRequest,
    left_out,
)

Environ = dict[str, Any]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


_UNREAD = frozenset(f"HTTP_{name.upper().replace('-', '_')}" for name in UNREAD_HEADERS)


class FlextWSGIMiddleware:
    """Makes a SERVER span of every request and measures it.

    The span continues the caller's trace, if he is trusted, and is current while the
    application runs and while its response is iterated; it ends when the server closes
    the response. Its name and ``http.route`` are the route's where the framework tells
    it (Flask, other users of Werkzeug). The correlation id of the request, or else a
    new one, is answered in the correlation header.

    The application sees what it would see without it, and its exceptions pass.

    Example:
        >>> app.wsgi_app = FlextWSGIMiddleware(app.wsgi_app)  # doctest: +SKIP
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
            app: The WSGI application.
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

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve one request."""
        # The span is current in each run of this context, which the response keeps
        # while the server iterates it; in between, the thread has what was its own.
        context = OwnContext()
        return context.run(self._serve, context, environ, start_response)

    def _serve(
        self, context: OwnContext, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = _path(environ)
        request = ServedRequest(
            _head(environ, path),
            _headers(environ),
            trusts_caller=self._trusts_callers,
            part=Part.NOTHING if self._is_left_out(path) else Part.ALL,
        )

        def start(status: str, headers: Any, *more: Any) -> Write:
            with suppress(Exception):  # telemetry never stops a response
                request.status = int(status[:3])
                request.route = _route(environ)  # Flask forgets it soon after
                headers = _with_header(headers, request.response_header())
            return start_response(status, headers, *more)

        try:
            body = self.app(environ, start)
        except BaseException as error:
            request.fail(error)
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        is_file = isinstance(wrapper, type) and isinstance(body, wrapper)
        if is_file or isinstance(body, list | tuple):
            # Servers treat these in ways of their own, which a wrapper would prevent.
            request.end()
            return body
        return _Body(body, request, context)


class _Body:
    """The response while it is iterated; the span ends with it."""

    def __init__(
        self,
        body: Iterable[bytes],
        request: ServedRequest,
        context: OwnContext,
    ) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._request = request
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        """Iterate."""
        return self

    def __next__(self) -> bytes:
        """Give the next part."""
        try:
            return self._context.run(self._next)
        except StopIteration:
            self._request.end()
            raise
        except BaseException as error:
            self._request.fail(error)
            raise

    def _next(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._body)
        return next(self._parts)

    def close(self) -> None:
        """End the response, as the server does in any case."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._context.run(close)
        except BaseException as error:
            self._request.fail(error)
            raise
        finally:
            self._request.end()


def _with_header(
    headers: Iterable[tuple[str, str]], header: tuple[str, str]
) -> list[tuple[str, str]]:
    """Add a header to a copy, unless the application set it."""
    given = list(headers)
    if any(name.lower() == header[0].lower() for name, _ in given):
        return given
    return [*given, header]


def _path(environ: Environ) -> str:
    return f"{environ.get('SCRIPT_NAME') or ''}{environ.get('PATH_INFO') or ''}"


def _headers(environ: Environ) -> list[tuple[str, str]]:
    return [
        (name[5:].replace("_", "-"), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") and name not in _UNREAD and isinstance(value, str)
    ]


def _head(environ: Environ, path: str) -> RequestHead:
    return RequestHead(
        method=str(environ.get("REQUEST_METHOD") or ""),
        path=path,
        query=str(environ.get("QUERY_STRING") or ""),
        scheme=str(environ.get("wsgi.url_scheme") or "http"),
        host=str(environ.get("HTTP_HOST") or ""),
        client=str(environ.get("REMOTE_ADDR") or ""),
        version=str(environ.get("SERVER_PROTOCOL") or "").removeprefix("HTTP/"),
        agent=str(environ.get("HTTP_USER_AGENT") or ""),
    )


def _route(environ: Environ) -> str:
    """Give the template of the path: ``/orders/<int:number>``."""
    with suppress(Exception):  # any framework, any version of it
        rule = getattr(environ["werkzeug.request"], "url_rule", None)
        template: object = getattr(rule, "rule", None)
        if isinstance(template, str):
            return f"{environ.get('SCRIPT_NAME') or ''}{template}"
    return ""
