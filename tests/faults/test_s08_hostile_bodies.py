"""S8: bodies that are huge, deep or slow hurt nobody else."""

import contextlib
import json
import socket
import time
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.web import Reply, ask

ALERT = {"name": "disk", "severity": "warning", "message": "disk is filling"}

pytestmark = pytest.mark.usefixtures("empty_store")


def post(port: int, path: str, body: Any = None, **headers: str) -> Reply:
    return ask(port, f"/api/v1{path}", method="POST", body=body, **headers)


def test_long_bodies_are_413(port: int) -> None:
    """Told before they are read when the length is stated, else on the way."""
    body = json.dumps({**ALERT, "message": "m" * 70_000}).encode()
    assert post(port, "/alerts", body).status == 413
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(
            b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"1000\r\n" + b" " * 4096 + b"\r\n"
        for _ in range(17):
            client.sendall(piece)
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_deep_json_is_refused(port: int) -> None:
    """64 levels are read; brackets inside of texts are none."""
    deep = b'{"name": "a", "severity": "info", "message": "m", "details": {"x": %s}}'
    for depth, status in ((60, 201), (64, 422), (30_000, 422)):
        body = deep % (b"[" * depth + b"]" * depth)
        reply = post(port, "/alerts", body, Content_Type="application/json")
        assert reply.status == status, depth
    text = json.dumps({**ALERT, "message": '[{"\\' * 500})
    assert post(port, "/alerts", json.loads(text)).status == 201


def test_slow_clients_stop_nobody(port: int) -> None:
    """200 that send a byte now and then, or nothing: others are answered at once."""
    slow: list[socket.socket] = []
    try:
        for number in range(200):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            slow.append(client)
            if number % 2:
                client.sendall(
                    b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
                )
            else:
                client.sendall(b"GET /metr")
        began = time.monotonic()
        for path in ("/health", "/metrics", "/api/v1/alerts"):
            assert ask(port, path).status == 200
        assert time.monotonic() - began < 8  # the slow ones have ten seconds
    finally:
        for client in slow:
            client.close()


@pytest.mark.timeout(90)
def test_slow_requests_end(port: int) -> None:
    """After ten seconds: a body is told so, a head and a reader are cut off."""
    fo.FlextMetricsService().record_metric("pad", 1)
    for number in range(900):
        tags = {"n": str(number), "pad": "x" * 4000}
        fo.FlextMetricsService().record_metric("pad", 1, "", tags)
    began = time.monotonic()
    body = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = socket.create_connection(("127.0.0.1", port), timeout=20)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(20)
    reader.connect(("127.0.0.1", port))
    with body, head, reader:
        body.sendall(
            b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
        )
        head.sendall(b"GET /metr")
        reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert body.recv(4096).startswith(b"HTTP/1.1 408")
        with contextlib.suppress(ConnectionResetError):
            assert head.recv(4096) == b""
        assert 8 < time.monotonic() - began < 19
        time.sleep(max(0.0, 12.5 - (time.monotonic() - began)))
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := reader.recv(65_536):
                received += len(part)
        assert 0 < received < 3_600_000
    assert ask(port, "/health").status == 200
