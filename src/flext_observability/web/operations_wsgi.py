"""Metrics and health as a WSGI application, without any framework."""

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from .._pipeline.own_work import own_work, suppressor
from ..access import Access, AccessRules, wsgi_header
from ..container import FlextContainer
from ..propagation import correlation_header, flext_correlation_scope
from .guard import SECURITY_HEADERS
from .health import HealthAnswer, HealthReport
from .page import MetricsPage, PageUnavailableError

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
_Answer = tuple[HTTPStatus, bytes, str]

_MORE_HEADERS = {
    HTTPStatus.UNAUTHORIZED: (("WWW-Authenticate", "Bearer"),),
    HTTPStatus.METHOD_NOT_ALLOWED: (("Allow", "GET, HEAD"),),
}


class WsgiOperations:
    """Answers ``/metrics`` and the health endpoints.

    Args:
        container: Whose services answer; the one of the process when not given.
        rules: Who may ask what.
        metrics_path: Of the metrics page.
    """

    def __init__(
        self, container: FlextContainer | None, rules: AccessRules, metrics_path: str
    ) -> None:
        self._page = MetricsPage(container)
        self._report = HealthReport(container)
        self._rules = rules
        self._suppressed = suppressor()
        self._routes: dict[str, Callable[[Environ, Access], _Answer]] = {
            metrics_path: self._metrics,
            "/health": self._health,
            "/health/ready": self._health,
            "/health/live": self._live,
        }

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        header = correlation_header()
        given = wsgi_header(environ, header.lower())
        headers = {header: given} if given else {}
        # Requests to us are no telemetry of the application.
        scoped = flext_correlation_scope(headers=headers)
        with own_work(self._suppressed), scoped as id_:
            status, body, content_type = self._answer(environ)
        told = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            (header, id_),
            *SECURITY_HEADERS,
            *_MORE_HEADERS.get(status, ()),
        ]
        start_response(f"{status.value} {status.phrase}", told)
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    def _answer(self, environ: Environ) -> _Answer:
        access = self._rules.judge(
            str(environ.get("REMOTE_ADDR", "")), lambda name: wsgi_header(environ, name)
        )
        if access.is_forged and access.refusal is not None:
            return _problem(access.refusal.status, access.refusal.message)
        route = self._routes.get(environ.get("PATH_INFO", ""))
        if route is None:
            return _problem(HTTPStatus.NOT_FOUND, "Not Found")
        if environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        return route(environ, access)

    def _metrics(self, environ: Environ, access: Access) -> _Answer:
        if access.refusal is not None:
            return _problem(access.refusal.status, access.refusal.message)
        try:
            text, content_type = self._page.answer(environ.get("HTTP_ACCEPT", ""))
        except PageUnavailableError as error:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return HTTPStatus.OK, text, content_type

    def _health(self, _: Environ, access: Access) -> _Answer:
        self._report.refresh()
        return _shown(self._report.overall(has_details=access.is_full))

    def _live(self, _environ: Environ, _access: Access) -> _Answer:
        return _shown(self._report.live())


def _shown(found: HealthAnswer) -> _Answer:
    return found.code, json.dumps(found.body).encode(), "application/json"


def _problem(status: HTTPStatus, message: str) -> _Answer:
    return status, json.dumps({"detail": message}).encode(), "application/json"
