"""The operations application: metrics, health and REST, as one ASGI application."""

from collections.abc import Callable, MutableMapping
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from ..access import AccessRules
from ..constants import VERSION
from ..container import FlextContainer
from . import schemas
from .api import make_router, problems, require_access
from .guard import Guard, access_of
from .health import HealthAnswer, HealthReport
from .page import MetricsPage, PageUnavailableError

# Of our own: what a mounted application of ours does never takes the host's threads.
_THREADS: Final = 8
_BAD_REQUEST: Final = 400
_UNPROCESSABLE: Final = 422
_UNAVAILABLE: Final = 503
_TITLE: Final = "flext-observability operations"
_DESCRIPTION: Final = (
    'Refusals are `{"detail": "..."}`. 400: a bad parameter, or a value that breaks a '
    "rule. 401: no or a wrong bearer token. 403: a caller who may not ask. 404: an "
    "unknown id. 408, 413, 415: a body that is late, too long, of another type. 422: a "
    "body that is no such object."
)
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class OperationsApp(FastAPI):
    """FastAPI behind a guard; it is no part of anybody's telemetry."""

    guard: Guard | None = None

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Any
    ) -> None:
        """Answer one request."""
        if self.guard is None:
            await super().__call__(scope, receive, send)
            return
        # What recent versions of FastAPI make spans of, unless something stands there.
        scope.setdefault("fastapi.telemetry", None)
        await self.guard(scope, receive, send)

    async def answer(
        self, scope: MutableMapping[str, Any], receive: Any, send: Any
    ) -> None:
        """Answer a request that the guard let through."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Give the document, without answers that we never give."""
        document = super().openapi()
        for path in document["paths"].values():
            for method, operation in path.items():
                if method == "get":  # a bad parameter is a bad request here
                    operation["responses"].pop(str(_UNPROCESSABLE), None)
        return document


def make_operations(
    container: FlextContainer | None,
    rules: AccessRules,
    metrics_path: str,
) -> OperationsApp:
    """Make the application.

    Args:
        container: Whose services answer; the one of the process when not given.
        rules: Who may ask what.
        metrics_path: Of the metrics page.
    """
    app = OperationsApp(
        title=_TITLE,
        description=_DESCRIPTION,
        version=VERSION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # its route would ask nobody for a token
        exception_handlers={RequestValidationError: _bad_input},
    )
    limiter = _Threads()
    app.include_router(make_router(container, limiter.run))
    _add_document(app)
    _add_metrics(app, MetricsPage(container), metrics_path, limiter.run)
    _add_health(app, HealthReport(container), limiter.run)
    app.guard = Guard(app.answer, rules)
    return app


class _Threads:
    """A few threads for what takes longer than a moment."""

    def __init__(self) -> None:
        self._limiter: CapacityLimiter | None = None

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in one of them."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(_THREADS)
        return await to_thread.run_sync(function, limiter=self._limiter)


def _add_document(app: FastAPI) -> None:
    @app.get(
        "/api/v1/openapi.json",
        include_in_schema=False,
        dependencies=[Depends(require_access)],
    )
    async def document(request: Request) -> JSONResponse:
        """Give the OpenAPI document, for where the application is mounted."""
        place = request.scope.get("root_path", "")
        servers = {"servers": [{"url": place}]} if place else {}
        return JSONResponse({**app.openapi(), **servers})


def _add_metrics(
    app: FastAPI, page: MetricsPage, path: str, in_thread: Callable[..., Any]
) -> None:
    shapes: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Prometheus text, or OpenMetrics when it is asked for.",
            "content": {
                kind: {"schema": {"type": "string"}} for kind in (_TEXT, _OPENMETRICS)
            },
        }
    }

    @app.get(
        path,
        response_class=Response,
        responses={**shapes, **problems(401, 403, _UNAVAILABLE)},
        dependencies=[Depends(require_access)],
    )
    async def metrics(request: Request) -> Response:
        """Give all metrics for Prometheus."""
        accept = request.headers.get("accept", "")
        try:
            text, content_type = await in_thread(lambda: page.answer(accept))
        except PageUnavailableError as error:
            raise HTTPException(_UNAVAILABLE, str(error)) from error
        return Response(text, headers={"content-type": content_type})


def _add_health(
    app: FastAPI, report: HealthReport, in_thread: Callable[..., Any]
) -> None:
    shape: dict[int | str, dict[str, Any]] = {503: {"model": schemas.HealthView}}
    answers = {**shape, **problems(403)}

    @app.get("/health", response_model=schemas.HealthView, responses=answers)
    async def health(request: Request) -> JSONResponse:
        """Give the state of the whole; details for callers who may see them."""
        if report.is_stale:
            await in_thread(report.refresh)
        access = access_of(request.scope)
        return _answer(report.overall(has_details=access.is_full))

    @app.get("/health/ready", response_model=schemas.HealthView, responses=answers)
    async def ready(request: Request) -> JSONResponse:
        """Say whether requests should come here: 503 when not."""
        return await health(request)

    @app.get("/health/live", response_model=schemas.LiveView, responses=problems(403))
    async def live() -> JSONResponse:
        """Say that the process answers."""
        return _answer(report.live())


def _answer(found: HealthAnswer) -> JSONResponse:
    return JSONResponse(found.body, int(found.code))


async def _bad_input(_: Request, error: Exception) -> JSONResponse:
    """Tell what is wrong: 400 for the address, 422 for the body."""
    found: list[dict[str, Any]] = []
    if isinstance(error, RequestValidationError):
        found += error.errors()
    place = found[0]["loc"][0] if found else ""
    code = _UNPROCESSABLE if place == "body" else _BAD_REQUEST
    told = [
        f"{'.'.join(str(part) for part in each['loc'][1:]) or place}: {each['msg']}"
        for each in found[:10]
    ]
    detail = "; ".join(told).encode("utf-8", "replace").decode()
    return JSONResponse({"detail": detail}, code)
