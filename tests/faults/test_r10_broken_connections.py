"""R10: whatever becomes of a connection, nothing is lost and little is sent twice."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

import flext_observability as fo
from tests.conftest import Certificates
from tests.faults.client import ledger, make, start
from tests.faults.figures import figure
from tests.faults.peer import OK, Peer, read_request
from tests.faults.server import CUT_AFTER_ACCEPTING, HANG, FaultServer, Reply
from tests.fixtures.collector import ACCEPT, Answer, Collector, Relay
from tests.fixtures.collector import HANG as HANG_OF_COLLECTOR
from tests.fixtures.library import emit_all
from tests.fixtures.programs import run_program

BATCH = 100
# Of one whole request; the default is 10 s.
TIMEOUT_S = 1.2
# Our own pause before the next try is at most one second; then a loaded machine, which
# may stall. Without a limit of ours these requests would take half a minute and more.
SLACK_S = 5.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


def test_reply_lost(server: FaultServer) -> None:
    """The reply is lost after the server accepted: one batch twice, none lost."""
    server.reply_next(CUT_AFTER_ACCEPTING)
    start(server)
    make(range(BATCH))
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(BATCH)}
    figure("R10", batch=BATCH, lost=0, duplicates=server.duplicates())
    assert server.duplicates() == BATCH
    assert (ledger().delivered, ledger().retransmitted) == (BATCH, BATCH)


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_reset(server: FaultServer, moment: str) -> None:
    """A reset before, during or after the upload: all arrives, once."""
    cut = Reply(cut=moment)  # type: ignore[arg-type]
    server.reply_next(cut, cut)
    start(server)
    make(range(BATCH), text="x" * 10_000)
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(BATCH)}
    assert server.duplicates() == 0
    counts = ledger()
    assert counts.delivered == BATCH
    assert counts.retransmitted in {0, BATCH, 2 * BATCH}


def test_every_second_reply_lost(server: FaultServer) -> None:
    """However often it happens, at most the batch under way is sent twice."""
    start(server)
    for round_ in range(6):
        if round_ % 2:
            server.reply_next(CUT_AFTER_ACCEPTING)
        make(range(round_ * 20, round_ * 20 + 20))
        fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(120)}
    assert server.duplicates() == 3 * 20
    assert ledger().delivered == 120


def test_refused_port(server: FaultServer) -> None:
    """A port that is closed for a moment: all arrives, nothing twice."""
    start(server)
    server.close_port()
    make(range(BATCH))
    assert fo.flush(timeout_s=0.5).is_failure
    server.open_port()
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(BATCH)}
    assert server.duplicates() == 0
    assert (ledger().delivered, ledger().retransmitted) == (BATCH, 0)


def test_restart_under_keep_alive(server: FaultServer) -> None:
    """The kept-alive connection dies between two requests: nobody notices."""
    start(server)
    for round_ in range(3):
        make([round_])
        fo.flush(timeout_s=20.0).unwrap()
        server.close_port()
        server.open_port()
    assert server.numbers() == {0, 1, 2}
    assert server.duplicates() == 0


def test_silence(server: FaultServer) -> None:
    """A server that takes the request and says nothing has its time, then it is new."""
    server.reply_next(HANG)
    start(server, timeout_s=TIMEOUT_S)
    began = time.monotonic()  # a busy server may see the request late
    make(range(BATCH))
    fo.flush(timeout_s=20.0).unwrap()
    _, second = server.arrivals()
    assert TIMEOUT_S <= second.at - began <= TIMEOUT_S + 1.0 + SLACK_S
    assert server.numbers() == {*range(BATCH)}
    assert ledger().retransmitted == BATCH


def test_silence_over_grpc(grpc_collector: Collector) -> None:
    """The same over gRPC."""
    grpc_collector.answer_next(HANG_OF_COLLECTOR)
    start(grpc_collector, timeout_s=TIMEOUT_S)
    began = time.monotonic()
    make(range(BATCH))
    fo.flush(timeout_s=20.0).unwrap()
    _, second = grpc_collector.requests()
    assert TIMEOUT_S <= second.at - began <= TIMEOUT_S + 1.0 + SLACK_S
    assert (ledger().delivered, ledger().retransmitted) == (BATCH, BATCH)


def test_half_open(collector: Collector) -> None:
    """The way dies without a word, as with a firewall: the next try takes a new one."""
    with _Mutable(collector.port) as relay:
        start(
            collector,
            endpoint=relay.endpoint,
            timeout_s=TIMEOUT_S,
            logs_enabled=True,
            metrics_enabled=True,
        )
        emit_all("before")
        fo.flush(timeout_s=20.0).unwrap()
        relay.mute()
        emit_all("after")
        began = time.monotonic()
        fo.flush(timeout_s=20.0).unwrap()
        assert time.monotonic() - began <= TIMEOUT_S + 1.0 + SLACK_S
        assert collector.span("after")
        assert collector.log("after")
        assert collector.metric("after")
        fo.shutdown(timeout_s=0.2)


def test_reply_lost_over_grpc(grpc_collector: Collector) -> None:
    """The reply is lost after the server accepted, over gRPC: one batch twice."""
    with _Mutable(grpc_collector.port) as relay:
        cuts = iter([relay.cut])

        def ask(*_: object) -> Answer:
            next(cuts, lambda: None)()
            return ACCEPT

        grpc_collector.answer_with(ask)
        start(grpc_collector, endpoint=relay.endpoint)
        make(range(BATCH))
        fo.flush(timeout_s=20.0).unwrap()
        assert len(grpc_collector.spans()) == 2 * BATCH
        assert (ledger().delivered, ledger().retransmitted) == (BATCH, BATCH)
        fo.shutdown(timeout_s=0.2)


OUT_OF_DESCRIPTORS = """
import os, resource, sys
import flext_observability as fo
endpoint, free, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
def start():
    fo.setup("shop", endpoint=endpoint, metrics_enabled=False).unwrap()
def make(number):
    with fo.flext_span("op", {"n": number}):
        pass
start()
if way != "first":
    make(1)
    fo.flush(20.0).unwrap()
if way == "again":  # the last channel is closed, so gRPC ends and starts again
    fo.shutdown(20.0).unwrap()
    start()
held = []
try:
    while True:
        held.append(os.dup(2))
except OSError:
    pass
for _ in range(free):
    os.close(held.pop())
make(2)
fo.flush(1)
for fd in held:
    os.close(fd)
fo.flush(20.0).unwrap()
print(fo.status().signals["traces"].dropped)
"""


@pytest.mark.parametrize("way", ["first", "connected", "again"])
@pytest.mark.parametrize("free", [0, 2])
def test_no_descriptors_over_grpc(
    grpc_collector: Collector, free: int, way: str
) -> None:
    """Without descriptors gRPC ends a process when it starts: so it does not start."""
    words = (grpc_collector.endpoint, str(free), way)
    done = run_program(OUT_OF_DESCRIPTORS, *words).ok()
    assert done.lines == ["{}"]
    expected = [2] if way == "first" else [1, 2]
    assert [span.attributes["n"] for span in grpc_collector.spans()] == expected
    if way != "connected":
        assert "Too many open files; the limit of open files" in done.stderr


def test_away_over_grpc(grpc_collector: Collector) -> None:
    """A server that is away for a moment, over gRPC: all arrives, nothing twice."""
    start(grpc_collector)
    make([0])
    fo.flush(timeout_s=20.0).unwrap()
    grpc_collector.close()
    make(range(BATCH))
    assert fo.flush(timeout_s=0.5).is_failure
    with Collector("grpc", port=grpc_collector.port) as again:
        fo.flush(timeout_s=20.0).unwrap()
        assert len(again.spans()) == BATCH
        assert (ledger().delivered, ledger().pending) == (1 + BATCH, 0)
        fo.shutdown(timeout_s=0.2)


class _Mutable(Relay):
    """A forwarder that can go silent on the connections it has."""

    def __init__(self, port: int) -> None:
        self._muted: set[socket.socket] = set()
        super().__init__(port)

    def mute(self) -> None:
        """Swallow what comes over existing connections, and keep them open."""
        self._muted = set(self._sockets)

    def cut(self) -> None:
        """Close the connections it has."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pump(self, source: socket.socket, sink: socket.socket, count: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._muted:
                    sink.sendall(data)


# One deadline for the whole request


def measured(peer: Peer, began_s: float) -> float:
    """Seconds until the second connection; the first one's request has timed out.

    Args:
        peer: The server.
        began_s: When there was no request yet. Whoever looked at its clock later, and
            was kept from it for a while, would find less.
    """
    while peer.connections < 2:
        assert time.monotonic() - began_s < 20
        time.sleep(0.005)
    return time.monotonic() - began_s


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "at_once", [b"", HEAD, HEAD + b"X-Long: "], ids=["status", "header", "value"]
)
def test_one_byte_at_a_time(at_once: bytes) -> None:
    """A server that is never silent, yet never done, has the time of one request."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(at_once)
        while not peer.closing.wait(0.1):
            connection.sendall(b"H" if at_once != HEAD else b"A: b\r\n")

    with Peer(handle) as peer:
        start(peer, timeout_s=TIMEOUT_S)
        began = time.monotonic()
        make([1])
        fo.flush(timeout_s=0.05)
        spent_s = measured(peer, began)
        figure("R10", limit_s=TIMEOUT_S, until_next_try_s=spent_s)
        assert TIMEOUT_S <= spent_s <= TIMEOUT_S + 1.0 + SLACK_S
        assert ledger().pending == 1
        fo.shutdown(timeout_s=0.2)


def test_body_one_byte_at_a_time() -> None:
    """Once the status says accepted, a body that drips costs time, not records."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not peer.closing.wait(0.1):
            connection.sendall(b"x")

    with Peer(handle) as peer:
        start(peer, timeout_s=TIMEOUT_S)
        began = time.monotonic()
        make([1])
        fo.flush(timeout_s=20.0).unwrap()
        assert TIMEOUT_S <= time.monotonic() - began <= TIMEOUT_S + SLACK_S
        assert (ledger().delivered, peer.connections) == (1, 1)


@pytest.mark.slow
def test_default_is_ten_seconds() -> None:
    """Without any setting a request has ten seconds, all of it together."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        while not peer.closing.wait(1.0):
            connection.sendall(b"H")

    with Peer(handle) as peer:
        start(peer)
        began = time.monotonic()
        make([1])
        fo.flush(timeout_s=0.05)
        assert 10.0 <= measured(peer, began) <= 11.0 + SLACK_S
        fo.shutdown(timeout_s=0.2)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_slow_reader(is_tls: bool, certificates: Certificates) -> None:  # noqa: FBT001
    """A server that takes the upload drop by drop has the same time."""

    def handle(connection: socket.socket) -> None:
        while not peer.closing.wait(0.05):
            if not connection.recv(512):
                return

    tls = None
    if is_tls:
        key, chain = certificates.server
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(chain, key)
    with Peer(handle, receive_bytes=4096, tls=tls) as peer:
        start(peer, timeout_s=TIMEOUT_S, certificate=str(certificates.authority))
        began = time.monotonic()
        make(range(220), text="x" * 16_000)  # 3.5 MB
        fo.flush(timeout_s=0.1)
        assert TIMEOUT_S <= measured(peer, began) <= TIMEOUT_S + 1.0 + SLACK_S
        assert ledger().pending == 220
        fo.shutdown(timeout_s=0.2)


def test_handshake_that_hangs(certificates: Certificates) -> None:
    """A server that accepts and never speaks TLS has the same time."""

    def handle(_: socket.socket) -> None:
        peer.closing.wait(30)

    with Peer(handle) as peer:
        start(
            peer,
            endpoint=f"https://localhost:{peer.port}",
            timeout_s=TIMEOUT_S,
            certificate=str(certificates.authority),
        )
        began = time.monotonic()
        make([1])
        fo.flush(timeout_s=0.05)
        assert TIMEOUT_S <= measured(peer, began) <= TIMEOUT_S + 1.0 + SLACK_S
        assert ledger().pending == 1
        fo.shutdown(timeout_s=0.2)


def test_answer_during_the_upload() -> None:
    """A refusal that comes before the upload is over is heard, not taken for a cut."""
    refusal = (
        b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    seen: list[int] = []

    def handle(connection: socket.socket) -> None:
        head = connection.recv(2000)
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        seen.append(length)
        if length > 100_000:
            connection.sendall(refusal)  # and never reads on
            peer.closing.wait(30)
        while True:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while connection.recv(65536):
                    pass
            connection.sendall(OK)
            peer.closing.wait(30)

    with Peer(handle, receive_bytes=4096) as peer:
        start(peer, timeout_s=5.0)
        make(range(200), text="x" * 16_000)
        fo.flush(timeout_s=0.2)
        began = time.monotonic()
        while not any(length < 100_000 for length in seen):
            assert time.monotonic() - began < 10, seen
            time.sleep(0.01)
        assert max(seen) > 500_000
        assert seen == sorted(seen, reverse=True)  # halved, never asked again
        assert ledger().retransmitted == 0
        fo.shutdown(timeout_s=0.2)


def test_threads_are_not_needed() -> None:
    """The deadline costs no thread of its own."""
    with FaultServer() as server:
        start(server)
        make([1])
        fo.flush(timeout_s=20.0).unwrap()
        before = threading.active_count()
        server.reply_next(Reply(delay_s=0.5))
        make([2])
        fo.flush(timeout_s=0.2)
        assert threading.active_count() == before
        fo.flush(timeout_s=20.0).unwrap()
