"""S14: no answer of a server leads our requests anywhere else."""

import socket
from collections.abc import Iterator

import pytest

import flext_observability as fo
from tests.faults.client import ledger, make, start
from tests.faults.figures import figure
from tests.faults.peer import Peer, read_request
from tests.faults.server import FaultServer, Reply
from tests.fixtures.library import flush_in_vain, wait_until


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


@pytest.fixture
def elsewhere() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_not_followed(server: FaultServer, elsewhere: FaultServer, status: int) -> None:
    """A redirect reaches nobody, burns nothing, and names what to correct."""
    location = f"{elsewhere.endpoint}/v1/traces"
    server.reply_always(Reply(status, headers={"Location": location}))
    start(server, headers={"authorization": "Bearer secret"})
    make(range(5))
    status_now = flush_in_vain(0.7)
    assert elsewhere.request_count == 0
    assert server.request_count <= 4  # the flush may probe
    assert (ledger().pending, ledger().rejected) == (5, 0)
    problem = " ".join(status_now.problems)
    assert "redirect" in problem
    assert str(status) in problem
    assert "endpoint" in problem

    server.reply_always(Reply())
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(5)}
    figure("S14", status=status, followed=elsewhere.request_count)
    assert elsewhere.request_count == 0


@pytest.mark.parametrize(
    "location",
    ["http://[::", "//", "file:///etc/passwd", "\x00", "http://169.254.169.254/", "/"],
)
def test_odd_targets(server: FaultServer, location: str) -> None:
    """Whatever a Location header says, it is not looked at."""
    server.reply_next(Reply(302, headers={"Location": location}))
    start(server)
    make([1])
    server.wait_for(lambda: "redirect" in str(fo.status().last_error))
    fo.flush(timeout_s=20.0).unwrap()
    assert server.request_count == 2
    assert server.numbers() == {1}
    assert ledger().delivered == 1


def test_body_of_a_redirect() -> None:
    """The body of a redirect is read as little as any other."""
    sent: list[int] = []

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 1000000000\r\n\r\n"
        )
        total = 0
        try:
            while total < 1_000_000_000:
                total += connection.send(b"\0" * 65536)
        finally:
            sent.append(total)

    with Peer(handle) as peer:
        start(peer)
        make([1])
        fo.flush(timeout_s=2.0)
        # What is read, and what the buffers of both sides of the socket hold.
        wait_until(lambda: sent)
        assert sent[0] <= 24 * 1024 * 1024
        assert ledger().pending == 1
        fo.shutdown(timeout_s=0.2)


def test_cookies_are_not_kept(server: FaultServer) -> None:
    """A server cannot make us carry anything around."""
    server.reply_always(Reply(headers={"Set-Cookie": "id=1; Path=/"}))
    start(server)
    for number in range(3):
        make([number])
        fo.flush(timeout_s=20.0).unwrap()
    assert not any("cookie" in arrival.headers for arrival in server.arrivals())


def test_proxy_variables(
    server: FaultServer, elsewhere: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is followed, since the user set it, unless NO_PROXY names the host."""
    monkeypatch.setenv("http_proxy", elsewhere.endpoint)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    start(server)
    make([1])
    fo.flush(timeout_s=20.0).unwrap()
    assert (server.request_count, elsewhere.request_count) == (1, 0)

    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    fo.shutdown(timeout_s=0.5)
    start(server, endpoint="http://collector.invalid:4318")
    make([2])
    fo.flush(timeout_s=20.0).unwrap()
    assert elsewhere.numbers() == {2}
    assert ledger().delivered == 1
