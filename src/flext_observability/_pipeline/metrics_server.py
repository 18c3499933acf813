"""The metrics page over HTTP, for those who may scrape it."""

import json
import os
import socket
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, exposition

from ..access import AccessRules, Refusal, wsgi_header

_Environ = dict[str, Any]
_Application = Callable[[_Environ, Callable[..., Any]], Iterable[bytes]]


class MetricsServer:
    """Answers scrapes from a daemon thread.

    Args:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        registry: What is shown.
        rules: Who may ask.

    Raises:
        OSError: The address cannot be taken.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, rules: AccessRules
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]

        class Server(exposition.ThreadingWSGIServer):
            address_family = family

        self._server = make_server(
            str(address[0]), port, _guarded(registry, rules), Server, _QuietHandler
        )
        self._thread = Thread(
            target=self._server.serve_forever, name="flext-metrics-page", daemon=True
        )
        self._pid = os.getpid()
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def stop(self, timeout_s: float) -> None:
        """Free the port.

        Args:
            timeout_s: Seconds to wait for the thread.
        """
        # A forked child inherits the socket, not the thread that would stop the loop.
        if self._pid == os.getpid():
            self._server.shutdown()
            self._thread.join(timeout_s)
        self._server.server_close()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no line per scrape."""


def _guarded(registry: CollectorRegistry, rules: AccessRules) -> _Application:
    page = cast("_Application", exposition.make_wsgi_app(registry))  # pyright: ignore[reportUnknownMemberType]

    def application(
        environ: _Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        access = rules.judge(
            str(environ.get("REMOTE_ADDR", "")), lambda name: wsgi_header(environ, name)
        )
        if access.refusal is not None:
            status, headers, body = _refused(access.refusal)
        else:
            status, headers, body = _asked(page, environ)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _refused(refusal: Refusal) -> tuple[str, list[tuple[str, str]], bytes]:
    headers = [("Content-Type", "application/json")]
    if refusal.status == 401:  # noqa: PLR2004 - HTTP
        headers.append(("WWW-Authenticate", "Bearer"))
    body = json.dumps({"detail": refusal.message}).encode()
    return f"{refusal.status.value} {refusal.status.phrase}", headers, body


def _asked(
    page: _Application, environ: _Environ
) -> tuple[str, list[tuple[str, str]], bytes]:
    """Ask the page; it knows no HEAD, which is a GET without its body."""
    told: list[Any] = []
    if environ["REQUEST_METHOD"] == "HEAD":
        environ = {**environ, "REQUEST_METHOD": "GET"}
    body = b"".join(page(environ, lambda *answer: told.extend(answer)))
    return told[0], told[1], body
