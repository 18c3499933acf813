"""An ASGI application, otherwise like that of `wsgi.py`.

With ``SERVER_LIFESPAN`` it ends telemetry when the server says that it shuts down: what
a program under uvicorn should do, whose workers end by the signal itself.
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import flext_observability as fo

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

fo.setup("web", **json.loads(os.environ["SERVER_SETUP"])).unwrap()


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the pid of the worker."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    query = parse_qs(scope["query_string"].decode())
    with fo.flext_span("request", {"n": int(query["n"][0])}):
        body = str(os.getpid()).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def live(receive: Receive, send: Send) -> None:
    """Follow the server's life."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown" and "SERVER_LIFESPAN" in os.environ:
            fo.shutdown()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
