"""Middleware around real servers: spans, durations and correlation ids that arrived."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from flask import Flask, request, stream_with_context
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

import flext_observability as fo
from tests.fixtures.collector import Collector, Point, Span
from tests.fixtures.library import assert_balanced, flush
from tests.fixtures.web import Reply, asgi_server, ask, wsgi_server

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_TRACE = CALLER.split("-")[1]
CALLER_SPAN = CALLER.split("-")[2]
DURATION = "http.server.request.duration"
SERVER = "server"


class OrderError(Exception):
    """What the applications raise."""


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{number}")
    async def read_order(number: int) -> dict[str, str]:
        with fo.flext_span("read"):
            return {"id": fo.flext_get_correlation_id(), "number": str(number)}

    @app.get("/boom")
    async def boom() -> None:
        raise OrderError("no such order")

    @app.get("/health")
    async def health() -> dict[str, str]:
        with fo.flext_span("probe"):
            return {}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(3):
                with fo.flext_span(f"part {number}"):
                    yield b"x"
                await asyncio.sleep(0.05)

        return StreamingResponse(parts())

    @app.get("/cut")
    async def cut() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"x"
            raise OrderError("half way")

        return StreamingResponse(parts())

    @app.get("/later")
    async def later(background: BackgroundTasks) -> dict[str, str]:
        background.add_task(asyncio.sleep, 3)
        return {}

    return app


def flask_app() -> Any:
    app = Flask("shop")

    @app.get("/orders/<int:number>")
    def read_order(number: int) -> dict[str, str]:
        with fo.flext_span("read"):
            return {"id": fo.flext_get_correlation_id(), "number": str(number)}

    @app.get("/health")
    def health() -> dict[str, str]:
        with fo.flext_span("probe"):
            return {}

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[bytes]:
            for number in range(3):
                with fo.flext_span(f"part {number}"):
                    yield b"x"
                time.sleep(0.05)

        return app.response_class(parts())

    return app


@pytest.fixture(params=["asgi", "wsgi"])
def port(request: pytest.FixtureRequest, server: Collector) -> Iterator[int]:
    """The same application behind uvicorn and behind a WSGI server."""
    if request.param == "asgi":
        with asgi_server(fo.FlextASGIMiddleware(fastapi_app())) as port:
            yield port
    else:
        with wsgi_server(fo.FlextWSGIMiddleware(flask_app())) as port:
            yield port


@pytest.fixture
def asgi_port(server: Collector) -> Iterator[int]:
    with asgi_server(fo.FlextASGIMiddleware(fastapi_app())) as port:
        yield port


def arrived(server: Collector, count: int = 1) -> list[Span]:
    """The SERVER spans, once all have arrived: they end after their response."""

    def found() -> list[Span]:
        flush()
        spans = [span for span in server.spans() if span.kind == SERVER]
        return spans if len(spans) >= count else []

    spans = server.wait_for(found)
    assert len(spans) == count
    flush()  # metrics were collected before the spans were looked at
    return spans


def served(server: Collector, name: str) -> Span:
    """The one SERVER span, once it has arrived."""
    (span,) = arrived(server)
    assert span.name == name
    return span


def duration(server: Collector, **attributes: object) -> Point:
    dotted = {name.replace("__", "."): value for name, value in attributes.items()}
    return server.metric(DURATION, **dotted)


def test_a_request_is_a_span_and_a_duration(server: Collector, port: int) -> None:
    """Name, kind, attributes, unit and bounds are those of the conventions."""
    reply = ask(port, "/orders/7?page=2&token=hunter2hunter2", User_Agent="probe/1")
    assert reply.status == 200
    (span,) = arrived(server)
    route = span.attributes["http.route"]
    assert route in {"/orders/{number}", "/orders/<int:number>"}
    assert span.name == f"GET {route}"
    version = span.attributes.pop("network.protocol.version")
    assert version in {"1.1", "1.0"}
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": route,
        "url.scheme": "http",
        "url.path": "/orders/7",
        "url.query": "page=2&token=[redacted]",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "user_agent.original": "probe/1",
    }
    assert span.status == "unset"
    point = server.metric(DURATION)
    assert point.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": route,
        "url.scheme": "http",
        "network.protocol.version": version,
    }
    assert (point.unit, point.count) == ("s", 1)
    assert point.bounds[0] == 0.005
    assert point.bounds[-1] == 10
    inner = server.span("read")
    assert (inner.trace_id, inner.parent_span_id) == (span.trace_id, span.span_id)
    assert_balanced()


def test_the_trace_of_the_caller_goes_on(server: Collector, port: int) -> None:
    """The span is a child of the caller's, and his correlation id comes back."""
    reply = ask(port, "/orders/7", traceparent=CALLER, X_Correlation_ID="req-7")
    assert reply.headers["x-correlation-id"] == "req-7" == reply.json["id"]
    (span,) = arrived(server)
    assert (span.trace_id, span.parent_span_id) == (CALLER_TRACE, CALLER_SPAN)
    assert span.attributes["correlation.id"] == "req-7"


def test_a_request_without_an_id_gets_one(server: Collector, port: int) -> None:
    """It is the trace's id: whoever reads it in a response finds the trace with it."""
    reply = ask(port, "/orders/7")
    (span,) = arrived(server)
    assert reply.headers["x-correlation-id"] == span.trace_id == reply.json["id"]


@pytest.mark.parametrize("sent", ["two words", "x" * 129, "a\tb", "\xe9", ""])
def test_an_illegal_id_is_replaced(server: Collector, port: int, sent: str) -> None:
    """What comes back is never what an attacker wrote."""
    reply = ask(port, "/orders/7", X_Correlation_ID=sent)
    assert reply.status == 200
    assert reply.headers["x-correlation-id"] not in {"", sent}


def test_probes_are_in_no_trace(server: Collector, port: int) -> None:
    """No span of the request or of what it does, no duration; the id is answered."""
    reply = ask(port, "/health", traceparent=CALLER, X_Correlation_ID="probe-1")
    assert reply.status == 200
    assert reply.headers["x-correlation-id"] == "probe-1"
    flush()
    assert not server.spans()
    assert not server.metrics(DURATION)


def test_a_stream_lasts_to_its_last_part(server: Collector, port: int) -> None:
    """The span is current for every part and ends after the last one."""
    assert ask(port, "/stream").body == b"xxx"
    (span,) = arrived(server)
    assert server.metric(DURATION).value >= 0.1
    for number in range(3):
        assert server.span(f"part {number}").parent_span_id == span.span_id


def test_before_setup_only_the_id_is_answered(
    http_collector: Collector,
) -> None:
    """Without setup, and after shutdown, applications answer as ever."""
    for serving, wrapped in (
        (asgi_server, fo.FlextASGIMiddleware(fastapi_app())),
        (wsgi_server, fo.FlextWSGIMiddleware(flask_app())),
    ):
        with serving(wrapped) as port:
            reply = ask(port, "/orders/7")
        assert reply.status == 200
        assert len(reply.headers["x-correlation-id"]) == 32
        assert reply.json["id"] == reply.headers["x-correlation-id"]


# -- ASGI


def test_an_exception_is_on_the_span(server: Collector, asgi_port: int) -> None:
    """Type, message and stack are there; the client gets what it would get anyway."""
    assert ask(asgi_port, "/boom").status == 500
    span = served(server, "GET /boom")
    assert span.status == "error"
    assert span.attributes["error.type"] == "OrderError"
    assert span.attributes["http.response.status_code"] == 500
    assert span.event("exception").attributes["exception.message"] == "no such order"
    assert server.metric(DURATION).attributes["error.type"] == "OrderError"


def test_an_exception_in_a_stream_is_on_the_span(
    server: Collector, asgi_port: int
) -> None:
    """The status was sent already; what went wrong afterwards is told all the same."""
    with pytest.raises((OSError, httpx.HTTPError)):
        httpx.get(f"http://127.0.0.1:{asgi_port}/cut")
    span = served(server, "GET /cut")
    assert span.status == "error"
    assert span.attributes["http.response.status_code"] == 200
    assert span.event("exception").attributes["exception.type"].endswith("OrderError")


def test_background_tasks_are_no_part_of_the_duration(
    server: Collector, asgi_port: int
) -> None:
    """The client has its answer by then."""
    assert ask(asgi_port, "/later").status == 200
    served(server, "GET /later")
    assert server.metric(DURATION).value < 2.9


def test_an_unknown_path_makes_no_label(server: Collector, asgi_port: int) -> None:
    """Paths that no route matches would make a series each."""
    for number in range(3):
        assert ask(asgi_port, f"/nothing/{number}").status == 404
    arrived(server, 3)
    point = server.metric(DURATION)
    assert point.count == 3
    assert "http.route" not in point.attributes
    assert {span.name for span in server.spans()} == {"GET"}
    assert all(span.status == "unset" for span in server.spans())


def test_an_unknown_method_makes_no_label(server: Collector, asgi_port: int) -> None:
    """It is `_OTHER`, and the original stands on the span alone."""
    assert ask(asgi_port, "/orders/7", method="BREW").status == 405
    (span,) = arrived(server)
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"
    assert server.metric(DURATION).attributes["http.request.method"] == "_OTHER"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/plain/3", "/plain/{key}"),
        ("/below/deep/3", "/below/deep/{key}"),
        ("/sub/orders/7", "/sub/orders/{number}"),
    ],
)
def test_routes_of_starlette(server: Collector, path: str, route: str) -> None:
    """Also below mounts, and of applications inside of applications."""

    async def answer(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(
        routes=[
            Route("/plain/{key}", answer),
            Mount("/below", routes=[Mount("/deep", routes=[Route("/{key}", answer)])]),
            Mount("/sub", app=fastapi_app()),
        ]
    )
    with asgi_server(fo.FlextASGIMiddleware(app)) as port:
        assert ask(port, path).status == 200
    assert served(server, f"GET {route}").attributes["http.route"] == route


def test_inside_of_fastapi_there_is_one_span_too(server: Collector) -> None:
    """Where FastAPI makes a SERVER span of its own, ours does not come on top."""
    app = fastapi_app()
    app.add_middleware(fo.FlextASGIMiddleware)
    with asgi_server(app) as port:
        reply = ask(port, "/orders/7", traceparent=CALLER)
    (span,) = arrived(server)
    assert span.name == "GET /orders/{number}"
    assert reply.headers["x-correlation-id"] == CALLER_TRACE
    assert span.parent_span_id == CALLER_SPAN


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_at_a_public_edge_nobody_is_trusted(server: Collector, kind: str) -> None:
    """A trace of its own with a link to the caller's span, and a new id."""
    if kind == "asgi":
        asgi = fo.FlextASGIMiddleware(fastapi_app(), trusts_callers=False)
        serving: Any = asgi_server(asgi)
    else:
        serving = wsgi_server(fo.FlextWSGIMiddleware(flask_app(), trusts_callers=False))
    with serving as port:
        reply = ask(
            port,
            "/orders/7",
            traceparent=CALLER,
            X_Correlation_ID="evil",
            baggage="a=b",
        )
    (span,) = arrived(server)
    assert span.trace_id != CALLER_TRACE
    assert not span.parent_span_id
    assert [link.trace_id for link in span.links] == [CALLER_TRACE]
    assert reply.headers["x-correlation-id"] == span.trace_id


def test_excluded_paths_are_the_callers_choice(server: Collector) -> None:
    """Whole paths and beginnings; what is not named is traced, probes too."""
    wrapped = fo.FlextASGIMiddleware(
        fastapi_app(), excluded_paths=["/boom/", "/orders/*"]
    )
    with asgi_server(wrapped) as port:
        for path in ("/boom", "/orders/7", "/health"):
            ask(port, path)
    assert served(server, "GET /health")


def test_the_header_of_the_application_stays(server: Collector) -> None:
    """What an application answers is its own affair."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = iter([(b"X-Correlation-ID", b"mine"), (b"Set-Cookie", b"a=b")])
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    with asgi_server(fo.FlextASGIMiddleware(app), lifespan="off") as port:
        reply = ask(port, "/")
    assert reply.headers["x-correlation-id"] == "mine"
    assert reply.headers["set-cookie"] == "a=b"


async def talk(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    """Run an ASGI application on scripted messages; give what it sent."""
    waiting, sent = list(messages), list[Any]()

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    base = {"asgi": {"version": "3.0"}, "headers": [(b"host", b"shop")], "path": "/ws"}
    await app({**base, **scope}, receive, send)
    return sent


def test_a_websocket_is_one_span(server: Collector) -> None:
    """From handshake to close; it is no HTTP request to measure."""

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        with fo.flext_span("turn"):
            await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", echo)])
    sent = asyncio.run(
        talk(
            fo.FlextASGIMiddleware(app),
            {"type": "websocket", "scheme": "ws", "subprotocols": []},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "hi"},
            {"type": "websocket.disconnect", "code": 1000},
        )
    )
    assert sent[1]["text"] == "hi"
    span = served(server, "GET /ws")
    assert span.attributes["http.response.status_code"] == 101
    assert span.attributes["url.scheme"] == "ws"
    assert server.span("turn").parent_span_id == span.span_id
    assert (b"x-correlation-id", span.trace_id.encode()) in sent[0]["headers"]
    assert not server.metrics(DURATION)


def test_a_refused_websocket(server: Collector) -> None:
    """A close instead of an accept is answered with 403 by every server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    asyncio.run(
        talk(
            fo.FlextASGIMiddleware(app),
            {"type": "websocket"},
            {"type": "websocket.connect"},
        )
    )
    assert served(server, "GET").attributes["http.response.status_code"] == 403


def test_lifespan_passes(server: Collector) -> None:
    """Nothing is read from it, nothing added."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    receive, send = object(), object()
    asyncio.run(fo.FlextASGIMiddleware(app)(scope, receive, send))  # type: ignore[arg-type]  # never called
    assert seen == [(scope, receive, send)]
    assert seen[0][0] is scope


def test_a_cancelled_request_is_told(server: Collector) -> None:
    """The server gave up; the cancellation goes on, the span says so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(
            talk(fo.FlextASGIMiddleware(app), {"type": "http", "method": "GET"})
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    span = served(server, "GET")
    assert span.attributes["error.type"] == "CancelledError"
    assert "http.response.status_code" not in span.attributes  # nobody answered


def test_requests_do_not_mix(server: Collector, asgi_port: int) -> None:
    """Of many at once, each has its own id and its own trace."""
    replies: dict[int, Reply] = {}

    def one(number: int) -> None:
        replies[number] = ask(
            asgi_port, f"/orders/{number}", X_Correlation_ID=f"req-{number}"
        )

    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, reply in replies.items():
        assert reply.json == {"id": f"req-{number}", "number": str(number)}
        assert reply.headers["x-correlation-id"] == f"req-{number}"
    spans = arrived(server, 20)
    assert len({span.trace_id for span in spans}) == 20
    assert fo.flext_get_correlation_id() == ""


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "http"},
        {"type": "http", "method": 7, "path": None, "query_string": None},
        {"type": "http", "method": "GET", "client": None, "headers": None},
        {"type": "http", "method": "GET", "path": "/\ud800\x00", "route": object()},
        {"type": "http", "method": "GET", "headers": [(b"host", b"\xff:99999999")]},
        {"type": "http", "method": "GET", "fastapi.telemetry": 7},
    ],
)
def test_whatever_a_server_hands_over(server: Collector, scope: dict[str, Any]) -> None:
    """No scope makes the middleware raise; the application is called."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    sent = asyncio.run(talk(fo.FlextASGIMiddleware(app), scope))
    assert sent[-1]["body"] == b"x"
    flush()
    assert_balanced()


# -- WSGI

Start = Callable[..., Callable[[bytes], object]]


def call(
    app: Callable[[dict[str, Any], Start], Iterable[bytes]],
    environ: dict[str, Any] | None = None,
) -> tuple[list[Any], Any]:
    """Call a WSGI application; give what it started with and its body as it is."""
    started: list[Any] = []

    def start_response(*given: Any) -> Callable[[bytes], object]:
        started.append(given)
        return list[bytes]().append

    base = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "wsgi.url_scheme": "http"}
    return started, app({**base, **(environ or {})}, start_response)


def test_wsgi_lists_and_files_stay_what_they_are(server: Collector) -> None:
    """Servers look at them: a length, or a file to send without copying."""

    class Wrapper:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

    file = Wrapper(None)
    parts = [b"a", b"b"]
    for body, environ in ((parts, {}), (file, {"wsgi.file_wrapper": Wrapper})):

        def app(_: Any, start: Start, body: Any = body) -> Any:
            start("200 OK", [])
            return body

        _, found = call(fo.FlextWSGIMiddleware(app), environ)
        assert found is body
    flush()
    assert server.metric(DURATION).count == 2


def test_wsgi_exceptions_pass(server: Collector) -> None:
    """From the call, from a part, from the close: the same object, and on the span."""
    error = OrderError("no such order")

    def at_once(_: Any, start: Start) -> Any:
        raise error

    def half_way(_: Any, start: Start) -> Any:
        start("200 OK", [])
        yield b"x"
        raise error

    for app in (at_once, half_way):
        with pytest.raises(OrderError) as raised:
            b"".join(call(fo.FlextWSGIMiddleware(app))[1])
        assert raised.value is error
    flush()
    assert len(server.spans()) == 2
    for span in server.spans():
        assert span.attributes["error.type"] == "OrderError"
        assert span.event("exception")


def test_wsgi_bodies_are_closed(server: Collector) -> None:
    """The application's close runs once, in the context of the request."""
    seen: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"

        def close(self) -> None:
            seen.append(fo.flext_get_correlation_id())

    def app(_: Any, start: Start) -> Any:
        start("200 OK", [])
        return Body()

    started, body = call(fo.FlextWSGIMiddleware(app), {"HTTP_X_CORRELATION_ID": "r-1"})
    assert list(body) == [b"x"]
    body.close()
    assert seen == ["r-1"]
    assert ("X-Correlation-ID", "r-1") in started[0][1]
    assert fo.flext_get_correlation_id() == ""
    assert served(server, "GET")


def test_flasks_test_client_works_on_streams(server: Collector) -> None:
    """It keeps the request's context after the answer, and so it can behind us."""
    app: Flask = flask_app()

    @app.get("/rows")
    def rows() -> Any:
        def parts() -> Iterator[str]:
            for number in range(2):
                with fo.flext_span(f"part {number}"):
                    yield request.path

        return app.response_class(stream_with_context(parts()))

    app.wsgi_app = fo.FlextWSGIMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation has it
    with app.test_client() as client:
        assert client.get("/rows").text == "/rows" * 2
        assert '"7"' in client.get("/orders/7").text
        assert client.get("/rows").text == "/rows" * 2
        assert request.path == "/rows"
    spans = arrived(server, 3)
    rows_spans = {span.span_id for span in spans if span.name == "GET /rows"}
    for number in range(2):
        parts = server.spans(f"part {number}")
        assert {part.parent_span_id for part in parts} == rows_spans


user: ContextVar[str] = ContextVar("user", default="")


def seen_here() -> tuple[str, object, bool]:
    """What of ours is current: id, baggage, whether there is a span."""
    is_in_span = trace.get_current_span().get_span_context().is_valid
    return fo.flext_get_correlation_id(), baggage.get_baggage("tenant"), is_in_span


def test_wsgi_variables_of_the_application_reach_its_server(server: Collector) -> None:
    """What it binds is seen outside, as without us; of ours nothing is."""
    app: Flask = flask_app()

    @app.get("/login")
    def login() -> str:
        fo.flext_set_correlation_id("of-the-view")
        attach(baggage.set_baggage("tenant", "acme"))
        user.set("ada")
        return "welcome"

    token = attach(baggage.set_baggage("tenant", "outer"))
    with fo.flext_correlation_scope("outer"):
        _, body = call(fo.FlextWSGIMiddleware(app.wsgi_app), {"PATH_INFO": "/login"})
        assert b"".join(body) == b"welcome"
        body.close()
        assert seen_here() == ("outer", "outer", False)
    detach(token)
    assert user.get() == "ada"
    assert served(server, "GET /login")


def test_wsgi_parts_go_on_where_the_last_one_stopped(
    server: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What a body attaches stays for its next part, and never meets the server."""
    inside: list[object] = []

    def app(_: Any, start: Start) -> Any:
        start("200 OK", [])
        inside.append(seen_here())
        fo.flext_set_correlation_id("of-the-body")
        token = attach(baggage.set_baggage("tenant", "acme"))
        try:
            for _ in range(2):
                inside.append(seen_here())
                fo.get_logger("shop").warning("a part")
                yield b"x"
        finally:
            detach(token)
            inside.append(seen_here())

    environ = {"HTTP_X_CORRELATION_ID": "r-1"}
    for _ in range(2):  # the second request on this thread finds nothing of the first
        inside.clear()
        _, body = call(fo.FlextWSGIMiddleware(app), environ)
        assert next(body) == b"x"
        assert seen_here() == ("", None, False)
        assert next(body) == b"x"
        thread = threading.Thread(target=body.close)  # servers may do that
        thread.start()
        thread.join()
        assert seen_here() == ("", None, False)
        assert inside[0] == ("r-1", None, True)
        assert inside[1:3] == [("of-the-body", "acme", True)] * 2
    spans = arrived(server, 2)
    lines = [log for log in server.logs() if log.body == "a part"]
    assert [line.span_id for line in lines] == [
        span.span_id for span in spans for _ in range(2)
    ]
    # The application's own token, which another thread cannot use, and nothing more.
    assert len([r for r in caplog.records if "detach" in r.getMessage()]) == 2


def test_wsgi_write_callable_and_exc_info_work(server: Collector) -> None:
    """The old ways of start_response go through untouched."""
    written: list[bytes] = []

    def app(_: Any, start: Any) -> Any:
        start("200 OK", [("A", "b")])(b"early")
        start("500 Oops", [], (OrderError, OrderError(), None))
        return []

    calls: list[Any] = []

    def start_response(*given: Any) -> Callable[[bytes], object]:
        calls.append(given)
        return written.append

    wrapped: Any = fo.FlextWSGIMiddleware(app)
    assert list(wrapped({"REQUEST_METHOD": "GET"}, start_response)) == []
    assert written == [b"early"]
    assert calls[1][2][0] is OrderError
    assert served(server, "GET").attributes["http.response.status_code"] == 500


def test_exemplars_lead_to_the_trace() -> None:
    """A bucket of the duration histogram names the trace of a request in it."""
    from flext_observability import server as operations

    fo.setup("shop", exporters=["none"])
    page = operations.create_wsgi_app()
    wrapped: Any = fo.FlextWSGIMiddleware(flask_app())
    with wsgi_server(wrapped) as port, wsgi_server(page) as page_port:
        reply = ask(port, "/orders/7")
        for _ in range(3):  # they stay for the next scrape
            time.sleep(0.1)  # the span ends after its response
            text = ask(
                page_port, "/metrics", Accept="application/openmetrics-text"
            ).text
            assert f'trace_id="{reply.headers["x-correlation-id"]}"' in text
