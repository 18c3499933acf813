"""S16: a server can neither fill our memory, nor the log, nor keep us for ever."""

import gzip
import itertools
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

import flext_observability as fo
from tests.faults.client import ledger, make, start
from tests.faults.figures import figure
from tests.faults.peer import Peer, read_request
from tests.faults.server import FaultServer, Reply
from tests.fixtures.collector import Answer, Collector
from tests.fixtures.programs import run_program

MIB = 1024 * 1024
TIMEOUT_S = 1.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


def flood(head: bytes, part: bytes) -> Peer:
    """A server that begins its answer and never ends it, as fast as it can."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while not peer.closing.is_set():
            connection.sendall(part)

    peer = Peer(handle)  # `handle` looks at it once somebody connects
    return peer


# Prints how much memory the answer cost at most, in KiB, and what became of the span.
MEASURED = """
    import sys
    import flext_observability as fo

    def peak():
        # Not getrusage: its figure begins with that of the process that started us.
        with open("/proc/self/status") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM"))

    fo.setup(
        "shop", endpoint=sys.argv[1], protocol=sys.argv[2], timeout_s=1,
        metrics_enabled=False, logs_enabled=False, exit_budget_s=0.1,
    ).unwrap()
    # What is settled at last is waited for; what never is gets the time of a request.
    patience_s = float(sys.argv[3])
    if sys.argv[4:] == ["warm"]:
        with fo.flext_span("op"):
            pass
        fo.flush(timeout_s=patience_s)
    before = peak()
    for _ in range(2):
        with fo.flext_span("op"):
            pass
        fo.flush(timeout_s=patience_s)
    counts = fo.status().signals["traces"]
    print(peak() - before, counts.delivered, counts.pending)
"""

on_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc to read memory from"
)

OK = b"HTTP/1.1 200 OK\r\n"
FLOODS = {
    "length": (OK + b"Content-Length: 1000000000\r\n\r\n", b"\0" * 65536),
    "until_closed": (OK + b"\r\n", b"\0" * 65536),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n%65535d\r\n" % 1),
    "one_chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", b"x" * 9),
    "refusal": (
        b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n",
        b"\0" * 65536,
    ),
    "headers": (OK, b"X: y\r\n" * 1000),
    "one_header": (OK + b"X: ", b"y" * 65536),
    "status": (b"", b"H" * 65536),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    "extension": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
}


@on_linux
@pytest.mark.parametrize("kind", FLOODS)
def test_endless_answer(kind: str) -> None:
    """An answer without end costs at most its time and a few MiB."""
    is_accepted = kind in {"length", "until_closed", "chunks", "one_chunk", "trailers"}
    is_accepted |= kind == "extension"
    patience_s = "10" if is_accepted else "1.3"
    with flood(*FLOODS[kind]) as peer:
        done = run_program(MEASURED, peer.endpoint, "http/protobuf", patience_s).ok()
    peak_kib, delivered, pending = map(int, done.stdout.split())
    figure("S16", answer=kind, memory_mib=peak_kib / 1024)
    assert peak_kib <= 32 * 1024
    if is_accepted:
        assert (delivered, pending) == (2, 0)
    elif kind != "refusal":
        assert delivered == 0
        assert pending == 2


@on_linux
def test_compressed_flood(server: FaultServer) -> None:
    """A gigabyte of zeros in a megabyte is not unpacked beyond 4 MiB."""
    packer = gzip.compress(b"\0" * 16 * MIB, 9)
    # gzip allows streams in a row; a reader that follows them would unpack 1 GB.
    body = packer * 64
    server.reply_always(Reply(body=body, headers={"Content-Encoding": "gzip"}))
    done = run_program(MEASURED, server.endpoint, "http/protobuf", "9", "warm").ok()
    peak_kib, delivered, pending = map(int, done.stdout.split())
    figure("S16", answer="gzip", memory_mib=peak_kib / 1024)
    assert peak_kib <= 32 * 1024
    assert (delivered, pending) == (3, 0)


@on_linux
def test_large_reply_over_grpc(grpc_collector: Collector) -> None:
    """Over gRPC the library refuses what is beyond 4 MiB as well."""
    grpc_collector.answer_always(Answer(message="x" * 60 * MIB))
    done = run_program(MEASURED, grpc_collector.endpoint, "grpc", "10").ok()
    peak_kib, delivered, pending = map(int, done.stdout.split())
    figure("S16", answer="grpc", memory_mib=peak_kib / 1024)
    assert peak_kib <= 32 * 1024
    assert (delivered, pending) == (2, 0)


def own_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_log_is_not_flooded(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However much a server says, the log gets a bounded line per reason and minute."""
    numbers = itertools.count()
    server.reply_with(
        lambda _: Reply(500, message=f"{next(numbers)}\n\x1b[2J" + "x" * 50_000)
    )
    start(server)
    for number in range(20):
        make([number])
        fo.flush(timeout_s=20.0).unwrap()
    assert ledger().rejected == 20
    (line,) = own_lines(caplog)
    assert line.isprintable()
    assert len(line) < 1000


def test_odd_headers_are_not_logged(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Headers that cannot be parsed do not make the HTTP library complain for us."""
    odd = OK + b"Content-Length: 0\r\nodd: 1\r\n : x\r\nno colon\r\n\r\n"
    server.reply_always(Reply(raw=odd, accepts=True))
    start(server)
    for number in range(5):
        make([number])
        fo.flush(timeout_s=5.0)
    assert len(own_lines(caplog)) <= 1


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"Content-Length: x\r\n\r\n",
        b"Transfer-Encoding: odd\r\n\r\n",
    ],
    ids=["both", "twice", "word", "encoding"],
)
def test_contradictions(
    server: FaultServer, caplog: pytest.LogCaptureFixture, headers: bytes
) -> None:
    """Headers that contradict each other are the server's fault, not our headers'."""
    server.reply_always(Reply(raw=OK + headers, accepts=True))
    start(server, timeout_s=1.0)
    for number in range(3):
        make([number])
        fo.flush(timeout_s=0.5)
    ledger()
    assert len(own_lines(caplog)) <= 1
    assert not any("`headers`" in line for line in own_lines(caplog))


def test_log_is_not_flooded_over_grpc(
    grpc_collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """The same over gRPC."""
    numbers = itertools.count()
    grpc_collector.answer_with(
        lambda *_: Answer(
            500, StatusCode.INTERNAL, message=f"{next(numbers)} " + "x" * 5000
        )
    )
    start(grpc_collector)
    for number in range(20):
        make([number])
        fo.flush(timeout_s=20.0).unwrap()
    assert ledger().rejected == 20
    (line,) = own_lines(caplog)
    assert len(line) < 1000


def test_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Random bytes for an answer: no exception, no loss, and the next one counts."""
    seed = random.randrange(2**32)  # noqa: S311 - noise, no secret
    print("seed", seed)  # noqa: T201 - shown when the test fails
    dice = random.Random(seed)  # noqa: S311 - noise, no secret
    pieces: list[Callable[[], bytes]] = [
        lambda: dice.randbytes(dice.randrange(200)),
        lambda: b"HTTP/1.1 200 OK\r\n",
        lambda: b"HTTP/9.9 ",
        lambda: str(dice.randrange(-5, 1000)).encode(),
        lambda: b"Content-Length: -1\r\n",
        lambda: b"Content-Length: 99999999999999999999\r\n",
        lambda: b"Transfer-Encoding: chunked\r\n",
        lambda: b"Content-Encoding: gzip\r\n",
        lambda: b"Retry-After: \xff\r\n",
        lambda: b"\r\n\r\n",
        lambda: b"\x00\x00\x00\x04\x00",
    ]
    rounds = 0

    def handle(connection: socket.socket) -> None:
        nonlocal rounds
        read_request(connection)
        rounds += 1
        for _ in range(dice.randrange(1, 8)):
            connection.sendall(dice.choice(pieces)())

    with Peer(handle) as peer:
        start(peer, timeout_s=0.5)
        for number in range(60):
            make([number])
            fo.flush(timeout_s=0.1)
        counts = ledger()
        assert counts.accepted == 60
        assert rounds > 10
        said = own_lines(caplog)
        assert not any("internal" in line or "header" in line for line in said)
        assert {r.name for r in caplog.records} <= {"flext_observability"}
        port = peer.port
        fo.shutdown(timeout_s=0.2)
    with FaultServer(port=port) as server:
        start(server)
        make([1000])
        fo.flush(timeout_s=20.0).unwrap()
        server.wait_for(lambda: 1000 in server.numbers())


@pytest.mark.parametrize("kind", ["continue", "headers", "until_closed"])
def test_time(kind: str) -> None:
    """A server that talks without end has the time of one request, no more."""
    with flood(*FLOODS[kind]) as peer:
        start(peer, timeout_s=TIMEOUT_S)
        make([1])
        began = time.monotonic()
        fo.flush(timeout_s=0.05)
        while peer.connections < 2 and ledger().pending:
            assert time.monotonic() - began <= TIMEOUT_S + 8.0  # no end, else
            time.sleep(0.01)
        fo.shutdown(timeout_s=0.2)
