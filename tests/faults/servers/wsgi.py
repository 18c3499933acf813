"""A WSGI application: every request makes one span with the number it asks for.

``SERVER_SETUP`` holds the arguments of ``fo.setup`` as JSON. Requests: ``/?n=7`` makes
span 7; with ``&sleep=0.1`` it takes its time; ``/status`` gives the ledger. With
``SERVER_AT_LOAD`` it makes a span, a log line and a count while it is loaded, and does
what the words there say: ``flush``, ``shutdown``, ``decorators``.
"""

import atexit
import dataclasses
import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import flext_observability as fo

if os.environ.get("SERVER_GRPC_GEVENT"):
    import grpc.experimental.gevent

    grpc.experimental.gevent.init_gevent()

ended_at = [0.0]


@atexit.register
def say_how_long() -> None:
    """Say how long the exit functions registered later took: those of the library."""
    took_s = time.monotonic() - ended_at[0]
    os.write(2, f"EXIT of {os.getpid()} took {took_s:.3f} s\n".encode())


fo.setup("web", **json.loads(os.environ["SERVER_SETUP"])).unwrap()
at_load = os.environ.get("SERVER_AT_LOAD", "").split()
if at_load:
    with fo.flext_span("load", {"pid": os.getpid()}):
        logging.getLogger("web").warning("loaded by %s", os.getpid())
    fo.flext_counter("loads").add(1)
if "decorators" in at_load:
    importlib.import_module("uwsgidecorators")
if "flush" in at_load:
    os.write(2, f"FLUSHED {fo.flush(10).is_success}\n".encode())
if "shutdown" in at_load:
    fo.shutdown(10).unwrap()


@atexit.register
def note_end() -> None:
    """Note when the exit functions began."""
    ended_at[0] = time.monotonic()


def application(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Answer with the pid of the worker."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if environ["PATH_INFO"] == "/status":
        body = ledger()
    else:
        work(int(query["n"][0]), float(query.get("sleep", ["0"])[0]))
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def work(number: int, pause_s: float) -> None:
    """Make the span of one request."""
    with fo.flext_span("request", {"n": number, "thread": threading.get_ident()}):
        if pause_s:
            time.sleep(pause_s)


def ledger() -> bytes:
    """Give the worker's ledger as JSON."""
    signals = fo.status().signals
    plain = {
        name: {
            field.name: getattr(ledger, field.name)
            for field in dataclasses.fields(ledger)
        }
        for name, ledger in signals.items()
    }
    return json.dumps(plain, default=dict).encode()
