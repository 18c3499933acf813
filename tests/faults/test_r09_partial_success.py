"""R9: what a server says about a request it took is read, counted and said once."""

import gzip
import logging
from collections.abc import Iterator

import pytest

import flext_observability as fo
from tests.faults.client import ledger, make, start
from tests.faults.server import FaultServer, Reply
from tests.fixtures.collector import Answer, Collector

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


def said(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """Our own log lines that hold a text."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "flext_observability" and part in record.getMessage()
    ]


def send(*numbers: int) -> None:
    make(numbers)
    fo.flush(timeout_s=20.0).unwrap()


def test_some_rejected(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """Rejected records are counted and never sent again; the reason is said once."""
    collector.answer_always(Answer(rejected=2, message="too old"))
    start(collector)
    for number in range(3):
        send(number, number, number, number, number)
    assert len(collector.requests()) == 3
    assert (ledger().delivered, ledger().rejected) == (9, 6)
    (line,) = said(caplog, "too old")
    assert "2" in line
    assert not said(caplog, "unreadable")


def test_escaped(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """The message cannot forge log lines or steer a terminal, nor fill the log."""
    evil = "line\nERROR forged\r\x1b[31mred\u2028\x00" + "x" * 100_000
    collector.answer_next(Answer(rejected=1, message=evil))
    start(collector)
    send(1, 2)
    (line,) = said(caplog, "forged")
    assert line.isprintable()
    assert "\\n" in line
    assert "\\x1b" in line
    assert len(line) < 1000


def test_warning(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """A message without rejected records is logged once as a warning."""
    collector.answer_always(Answer(rejected=0, message="be careful"))
    start(collector)
    for _ in range(3):
        send(1, 2)
    assert (ledger().delivered, ledger().rejected) == (6, 0)
    assert len(said(caplog, "be careful")) == 1
    (level,) = {r.levelno for r in caplog.records if "be careful" in r.getMessage()}
    assert level == logging.WARNING


@pytest.mark.parametrize(("told", "rejected"), [(-3, 0), (10**12, 2)])
def test_impossible_counts(collector: Collector, told: int, rejected: int) -> None:
    """A count that cannot be does not unbalance the ledger."""
    collector.answer_next(Answer(rejected=told, message="odd"))
    start(collector)
    send(1, 2)
    assert (ledger().delivered, ledger().rejected) == (2 - rejected, rejected)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>fine</html>"),
        Reply(body=b"\xff\xff\xff"),
        Reply(body=b'{"partialSuccess":{}}'),
        Reply(body=b"\x0a\xff"),
        Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
        Reply(body=gzip.compress(b"x" * 99)[:20], headers={"Content-Encoding": "gzip"}),
        Reply(body=b"what", headers={"Content-Encoding": "br"}),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", accepts=True),
        Reply(
            raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            accepts=True,
        ),
    ],
    ids=[
        *("html", "bytes", "json", "truncated", "no_gzip", "half_gzip", "brotli"),
        *("short", "chunks"),
    ],
)
def test_unreadable_reply(
    server: FaultServer, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    """Accepted with a reply nobody can read is accepted: not sent again, said once."""
    server.reply_always(reply)
    start(server)
    for number in range(3):
        send(number)
    assert server.request_count == 3
    assert (ledger().delivered, ledger().rejected) == (3, 0)
    assert server.duplicates() == 0
    assert len(said(caplog, "reply")) == 1


def test_unreadable_reply_over_grpc(grpc_collector: Collector) -> None:
    """The same over gRPC, where a reply beyond 4 MiB looks like a refusal."""
    grpc_collector.answer_next(Answer(message="x" * 5 * MIB))
    start(grpc_collector)
    send(1, 2, 3)
    assert len(grpc_collector.requests()) == 1
    assert (ledger().delivered, ledger().rejected) == (3, 0)
    assert "reply" in str(fo.status().last_error)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_large_reply(server: FaultServer, encoding: str) -> None:
    """A reply beyond 4 MiB, measured after decompression, is not read to its end."""
    body = b"\0" * 5 * MIB
    packed = gzip.compress(body) if encoding == "gzip" else body
    server.reply_next(Reply(body=packed, headers={"Content-Encoding": encoding}))
    start(server)
    send(1)
    assert "too large" in str(fo.status().last_error)
    send(2)
    assert server.request_count == 2
    assert ledger().delivered == 2


def test_compressed_reply(server: FaultServer) -> None:
    """A compressed reply is read like any other."""
    # Partial success: one rejected span, in protobuf's wire format.
    body = gzip.compress(b"\x0a\x02\x08\x01")
    server.reply_next(Reply(body=body, headers={"Content-Encoding": "gzip"}))
    start(server)
    send(1, 2, 3)
    assert (ledger().delivered, ledger().rejected) == (2, 1)


def test_every_signal(collector: Collector) -> None:
    """Logs and metric points that were refused are counted as theirs."""
    collector.answer_always(Answer(rejected=1, message="too old"))
    start(collector, logs_enabled=True, metrics_enabled=True)
    make([1, 2])
    for _ in range(2):
        logging.getLogger("shop").warning("line")
    fo.flext_counter("one").add(1)
    fo.flext_counter("two").add(1)
    fo.flush(timeout_s=20.0).unwrap()
    for signal in ("traces", "logs", "metrics"):
        counts = ledger(signal)
        assert counts.rejected == len(collector.requests(signal))
        assert counts.delivered == counts.accepted - counts.rejected
