"""A WSGI and an ASGI application with several workers: every request is counted.

``SERVER_SETUP`` holds the arguments of ``fo.setup`` as JSON. ``/hit`` counts and gives
the pid of the worker, ``/level?value=3`` sets a gauge, ``/metrics`` and ``/health`` are
answered by the operations application.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import flext_observability as fo
from flext_observability import server

fo.setup("web", **json.loads(os.environ["SERVER_SETUP"])).unwrap()
hits = fo.flext_counter("hits")
sizes = fo.flext_histogram("sizes", unit="By")
level = fo.flext_gauge("level")
metrics = fo.FlextMetricsService()
operations = server.create_wsgi_app()


@fo.flext_monitor_function("work")
def work() -> None:
    """Count one request in every way there is."""
    hits.add(1, {"kind": "plain"})
    sizes.record(40)
    metrics.record_metric("orders", 2, "count", {"region": "eu"}, "counter")


def answer(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Answer with the pid of the worker."""
    if environ["PATH_INFO"] not in {"/hit", "/level"}:
        return operations(environ, start_response)
    if environ["PATH_INFO"] == "/hit":
        work()
    else:
        level.set(float(parse_qs(environ["QUERY_STRING"])["value"][0]))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


application = fo.FlextWSGIMiddleware(answer)


async def answer_async(scope: Any, receive: Any, send: Any) -> None:
    """Do the same as :func:`answer` for ``/hit``."""
    if scope["type"] != "http" or scope["path"] != "/hit":
        await operations_async(scope, receive, send)
        return
    work()
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


operations_async = server.create_app()
asgi_application = fo.FlextASGIMiddleware(answer_async)
