"""The REST API under ``/api/v1``: what the services of a container hold."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from ..container import FlextContainer
from ..entities import FlextAlert, FlextEntity
from ..result import FlextResult
from ..services.alerts import FlextAlertService
from ..services.logging import FlextLoggingService
from ..services.membership import shelf_of
from ..services.metrics import FlextMetricsService
from ..services.outcome import made
from ..services.tracing import FlextTracingService
from . import schemas
from .guard import access_of
from .health import HealthReport
from .page import current_redactor
from .plain import plain_entity
from .recent import View, logs_seen, spans_seen

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Any]

# Every stored entity: the stores are bounded.
_ALL: Final = 1_000_001
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of the answer.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="Entries to leave out.")]
Since = Annotated[
    schemas.Moment | None, Query(description="Not before this time (ISO 8601).")
]
Until = Annotated[
    schemas.Moment | None, Query(description="Before this time (ISO 8601).")
]
Tags = Annotated[
    list[Annotated[str, Query(pattern=r"^[^:]+:")]],
    Query(description="`key:value`; all of them must match."),
]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for the OpenAPI document."""
    return {code: {"model": schemas.Problem} for code in codes}


def require_access(request: Request) -> None:
    """Let nobody in who may not see everything."""
    refusal = access_of(request.scope).refusal
    if refusal is None:
        return
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None  # noqa: PLR2004 - HTTP
    raise HTTPException(int(refusal.status), refusal.message, headers)


def refuse_repeats(request: Request) -> None:
    """Let no parameter that takes one value come with several."""
    names = [name for name, _ in request.query_params.multi_items() if name != "tag"]
    for name in names:
        if names.count(name) > 1:
            message = f"{name[:100]}: given more than once. Give it one value."
            raise HTTPException(_BAD_REQUEST, message)


def make_router(
    container: FlextContainer | None, in_thread: InThread[Any]
) -> APIRouter:
    """Make the API.

    Args:
        container: Whose services answer; the one of the process when not given.
        in_thread: Runs a function where it stops nobody.
    """
    router = APIRouter(
        prefix="/api/v1",
        dependencies=[Depends(require_access), Depends(refuse_repeats)],
        responses=problems(_BAD_REQUEST, 401, 403),
    )
    api = _Api(container)
    _add_queries(router, api, in_thread)
    _add_alerts(router, api, in_thread)
    return router


class _Api:
    """What the routes do; none of it knows of HTTP but for what it raises."""

    def __init__(self, container: FlextContainer | None) -> None:
        self._container = container
        self.health = HealthReport(container)

    @property
    def container(self) -> FlextContainer:
        return self._container or FlextContainer.get_global()

    @property
    def alerts(self) -> FlextAlertService:
        return FlextAlertService(self.container)

    def alert(self, alert_id: str) -> FlextAlert:
        """Give a stored alert."""
        found: FlextAlert | None = shelf_of(self.container, "alerts").get(alert_id)
        if found is None:
            raise HTTPException(_NOT_FOUND, f"Alert '{alert_id[:100]}' not found")
        return found

    def create_alert(self, new: schemas.NewAlert) -> dict[str, Any]:
        """Raise an alert."""
        service = self.alerts
        alert = made(FlextAlert, new.model_dump()).flat_map(
            lambda entity: entity.validate_business_rules().map(lambda _: entity)
        )
        return alert_view(accepted(alert.flat_map(service.process_alert)))

    def escalate_alert(
        self, alert_id: str, given: schemas.Escalation
    ) -> dict[str, Any]:
        """Escalate an alert."""
        original = self.alert(alert_id)
        config = given.model_dump(exclude_none=True)
        return alert_view(accepted(self.alerts.escalate_alert(original, config)))


def accepted(result: FlextResult[T]) -> T:
    """Give the value of a result; a failure is the caller's bad request."""
    if result.is_failure:
        text = current_redactor().text(result.error or "")
        raise HTTPException(_BAD_REQUEST, text[:1000])
    return result.data


def alert_view(alert: FlextAlert) -> dict[str, Any]:
    """Show an alert."""
    fields = schemas.AlertView.model_fields
    return plain_entity(alert, fields, current_redactor())


def listing(
    name: str,
    shape: type[Any],
    found: Sequence[FlextEntity],
    page: tuple[int, int],
) -> dict[str, Any]:
    """Show a part of the entities that were found."""
    limit, offset = page
    part = found[offset : offset + limit]
    shown = views(part, shape)
    return {name: shown, "total": len(found), "limit": limit, "offset": offset}


def views(entities: Iterable[FlextEntity], shape: type[Any]) -> list[View]:
    """Show entities."""
    redactor = current_redactor()
    return [plain_entity(each, shape.model_fields, redactor) for each in entities]


def newest(
    name: str, found: list[View], place: str, page: tuple[int, int]
) -> dict[str, Any]:
    """Show a part of what was found, by time, the newest first."""
    limit, offset = page
    found.sort(key=lambda view: datetime.fromisoformat(view[place]), reverse=True)
    part = found[offset : offset + limit]
    return {name: part, "total": len(found), "limit": limit, "offset": offset}


def matches(view: View, wanted: Mapping[str, str | None]) -> bool:
    """Whether all fields have the values that are wanted; ``None`` is any."""
    return all(text is None or view[name] == text for name, text in wanted.items())


def within(moment: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Whether a moment lies in a range, its end not included."""
    return (since is None or moment >= since) and (until is None or moment < until)


def shown_within(
    view: View, place: str, since: datetime | None, until: datetime | None
) -> bool:
    """Whether the time in a field lies in a range."""
    return within(datetime.fromisoformat(view[place]), since, until)


def _pairs(tags: Sequence[str]) -> Mapping[str, str]:
    return {name: text for name, _, text in (tag.partition(":") for tag in tags)}


def _add_queries(router: APIRouter, api: _Api, in_thread: InThread[Any]) -> None:
    bad = problems(_BAD_REQUEST)

    @router.get("/metrics", response_model=schemas.MetricList, responses=bad)
    async def list_metrics(
        name: str | None = None,
        type: schemas.MetricType | None = None,  # noqa: A002 - a name of the API
        tag: Tags = [],  # noqa: B006 - FastAPI copies it
        since: Since = None,
        until: Until = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> JSONResponse:
        """Give recorded metrics, the newest first."""

        def query() -> dict[str, Any]:
            found = accepted(
                FlextMetricsService(api.container).get_metrics(
                    name, metric_type=type, tags=_pairs(tag), limit=_ALL
                )
            )
            wanted = [each for each in found if within(each.timestamp, since, until)]
            return listing("metrics", schemas.MetricView, wanted, (limit, offset))

        return JSONResponse(await in_thread(query))

    @router.get("/traces", response_model=schemas.TraceList, responses=bad)
    async def list_traces(
        service: str | None = None,
        operation: str | None = None,
        status: schemas.TraceStatus | None = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> JSONResponse:
        """Give traces of the services and the last exported spans, the newest first."""
        wanted = {
            "service_name": service,
            "operation_name": operation,
            "status": status,
        }

        def query() -> dict[str, Any]:
            service = FlextTracingService(api.container)
            stored = accepted(service.search_traces(limit=_ALL))
            found = views(stored, schemas.TraceView)
            found += spans_seen(stored, current_redactor())
            part = [
                view
                for view in found
                if matches(view, wanted)
                and shown_within(view, "start_time", since, until)
            ]
            return newest("traces", part, "start_time", (limit, offset))

        return JSONResponse(await in_thread(query))

    @router.get("/logs", response_model=schemas.LogList, responses=bad)
    async def list_logs(
        level: schemas.LogLevel | None = None,
        correlation_id: str | None = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> JSONResponse:
        """Give entries of the services and the last exported, the newest first."""
        wanted = {"level": level, "correlation_id": correlation_id}

        def query() -> dict[str, Any]:
            stored = accepted(FlextLoggingService(api.container).get_logs(limit=_ALL))
            found = views(stored, schemas.LogView)
            found += logs_seen(stored, current_redactor())
            part = [
                view
                for view in found
                if matches(view, wanted)
                and shown_within(view, "timestamp", since, until)
            ]
            return newest("logs", part, "timestamp", (limit, offset))

        return JSONResponse(await in_thread(query))

    @router.get(
        "/health",
        response_model=schemas.HealthView,
        responses={503: {"model": schemas.HealthView}},
    )
    async def detailed_health() -> JSONResponse:
        """Give the state of components, telemetry and machine."""

        def ask() -> JSONResponse:
            api.health.refresh()
            answer = api.health.everything()
            return JSONResponse(answer.body, int(answer.code))

        answer: JSONResponse = await in_thread(ask)
        return answer


def _add_alerts(router: APIRouter, api: _Api, in_thread: InThread[Any]) -> None:
    bodies = problems(_BAD_REQUEST, 408, 413, 415, 422)
    one = {**bodies, **problems(_NOT_FOUND)}

    @router.get(
        "/alerts", response_model=schemas.AlertList, responses=problems(_BAD_REQUEST)
    )
    async def list_alerts(
        severity: schemas.Severity | None = None,
        status: schemas.AlertStatus | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> JSONResponse:
        """Give alerts, the newest first."""

        def query() -> dict[str, Any]:
            found = accepted(
                api.alerts.get_alerts(severity=severity, status=status, limit=_ALL)
            )
            return listing("alerts", schemas.AlertView, found, (limit, offset))

        return JSONResponse(await in_thread(query))

    @router.post(
        "/alerts", response_model=schemas.AlertView, status_code=201, responses=bodies
    )
    async def create_alert(new: schemas.NewAlert) -> JSONResponse:
        """Raise an alert.

        400 when a value breaks a rule (a blank name, an unknown severity), 422 when the
        body is no such object.
        """
        return JSONResponse(await in_thread(lambda: api.create_alert(new)), 201)

    @router.post(
        "/alerts/{alert_id}/acknowledge",
        response_model=schemas.AlertView,
        responses=one,
    )
    async def acknowledge_alert(alert_id: str) -> JSONResponse:
        """Say that somebody takes care of an alert."""
        api.alert(alert_id)
        return JSONResponse(
            alert_view(accepted(api.alerts.acknowledge_alert(alert_id)))
        )

    @router.post(
        "/alerts/{alert_id}/resolve", response_model=schemas.AlertView, responses=one
    )
    async def resolve_alert(alert_id: str) -> JSONResponse:
        """Say that the reason for an alert is gone."""
        api.alert(alert_id)
        changed = accepted(api.alerts.resolve_alert(alert_id))
        return JSONResponse(alert_view(changed))

    @router.post(
        "/alerts/{alert_id}/escalate", response_model=schemas.AlertView, responses=one
    )
    async def escalate_alert(
        alert_id: str, escalation: schemas.Escalation | None = None
    ) -> JSONResponse:
        """Raise an alert again, higher, unless it is too young for that."""
        given = escalation or schemas.Escalation()
        return JSONResponse(
            await in_thread(lambda: api.escalate_alert(alert_id, given))
        )
