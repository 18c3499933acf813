"""R6: a server that says when to come back is asked neither sooner nor much later."""

import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

import flext_observability as fo
from tests.faults.client import ledger, make, start
from tests.faults.figures import figure
from tests.faults.server import FaultServer, Reply
from tests.fixtures.collector import Answer, Collector
from tests.fixtures.programs import run_program

# What a loaded machine may add to a wait, mostly.
SLACK_S = 0.5
TRIES = 6
# What it may add now and then, where the wait that would be wrong takes minutes.
STALL_S = 5.0


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


def gap_s(arrivals: list[Any]) -> float:
    """Between the first two requests."""
    return float(arrivals[1].at - arrivals[0].at)


def assert_waits(
    refuse: Callable[[], None],
    requests: Callable[[], list[Any]],
    at_least_s: float,
    at_most_s: float,
) -> float:
    """Hold the wait after a refusal to its bounds; give how long it was.

    It is never too short. Where it is too long, that may have been the machine: then
    another one has to do.
    """
    gaps: list[float] = []
    while not gaps or (gaps[-1] > at_most_s and len(gaps) < TRIES):
        before, number = len(requests()), len(gaps)
        refuse()
        make([number])
        fo.flush(timeout_s=20.0).unwrap()
        gaps.append(gap_s(requests()[before:]))
        assert len(requests()) == before + 2
        assert ledger().delivered == number + 1
    assert at_least_s <= min(gaps) <= at_most_s, gaps
    return min(gaps)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_seconds(server: FaultServer, status: int) -> None:
    """The next request comes not before the told seconds, at most 10 % after them."""
    refusal = Reply(status, headers={"Retry-After": "1"})
    start(server)
    waited_s = assert_waits(
        lambda: server.reply_next(refusal), server.arrivals, 1.0, 1.1 + SLACK_S
    )
    figure("R6", told_s=1, waited_s=waited_s)
    assert set(server.tally().values()) == {1}


def test_fractions(server: FaultServer) -> None:
    """A fraction of a second counts, though HTTP knows whole ones only."""
    refusal = Reply(503, headers={"Retry-After": "0.6"})
    start(server)
    assert_waits(
        lambda: server.reply_next(refusal), server.arrivals, 0.6, 0.66 + SLACK_S
    )


def test_date(server: FaultServer) -> None:
    """A date is waited for; HTTP dates have whole seconds."""
    told: list[float] = []

    def refuse_once(_: Any) -> Reply | None:
        if told:
            return None
        moment = float(int(time.time()) + 2)
        told.append(moment - time.time() + time.monotonic())
        return Reply(503, headers={"Retry-After": formatdate(moment, usegmt=True)})

    server.reply_with(refuse_once)
    start(server)
    make([1])
    fo.flush(timeout_s=20.0).unwrap()
    first, second = server.arrivals()
    assert -0.01 <= second.at - told[0] <= 0.1 * (told[0] - first.at) + STALL_S


@pytest.mark.parametrize(
    "text",
    ["soon", "-5", "nan", "1_0", "9" * 5000, "Fri, 99 Nov 2026", "0x10"],
    ids=["word", "negative", "nan", "underscore", "long", "date", "hex"],
)
def test_garbage(server: FaultServer, text: str) -> None:
    """What is no delay is not waited for: our own backoff holds, a second at first."""
    refusal = Reply(503, headers={"Retry-After": text})
    start(server)
    assert_waits(
        lambda: server.reply_next(refusal), server.arrivals, 0.0, 1.0 + SLACK_S
    )


def test_a_date_that_is_over(server: FaultServer) -> None:
    """A date in the past says "now"."""
    refusal = Reply(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    start(server)
    assert_waits(lambda: server.reply_next(refusal), server.arrivals, 0.0, SLACK_S)


def test_at_once_for_ever(server: FaultServer) -> None:
    """A server that always says "at once" does not get a storm of requests."""
    server.reply_always(Reply(503, headers={"Retry-After": "0"}))
    start(server)
    make([1])
    fo.flush(timeout_s=2.0)
    assert server.request_count <= 12
    assert ledger().pending == 1


# The clock of this program runs 200 times as fast, so that ten minutes pass in three
# seconds; sockets and locks keep their own.
FAST_CLOCK = """
    import sys, time

    FACTOR = 200
    monotonic, sleep, begun = time.monotonic, time.sleep, time.monotonic()
    time.monotonic = lambda: begun + (monotonic() - begun) * FACTOR
    time.sleep = lambda seconds: sleep(seconds / FACTOR)

    import flext_observability as fo

    fo.setup(
        "shop", endpoint=sys.argv[1], protocol=sys.argv[2], timeout_s=600,
        metrics_enabled=False, logs_enabled=False,
    ).unwrap()
    with fo.flext_span("op", {"n": 1}):
        pass
    fo.flush(timeout_s=3000.0).unwrap()
    print(fo.status().signals["traces"].delivered)
"""


@pytest.mark.parametrize("text", ["1000000000", "Sat, 21 Nov 2099 07:28:00 GMT"])
def test_cap(server: FaultServer, text: str) -> None:
    """Nobody can silence us for longer than ten minutes; those are kept."""
    server.reply_next(Reply(503, headers={"Retry-After": text}))
    done = run_program(FAST_CLOCK, server.endpoint, server.protocol).ok()
    assert done.lines == ["1"]
    waited_s = gap_s(server.arrivals()) * 200
    figure("R6", waited_at_most_s=waited_s)
    assert 600 <= waited_s <= 660 + 200 * STALL_S


def test_cap_of_retry_info(grpc_collector: Collector) -> None:
    """The same cap holds over gRPC."""
    grpc_collector.answer_next(unavailable(alone(10**9)))
    done = run_program(FAST_CLOCK, grpc_collector.endpoint, "grpc").ok()
    assert done.lines == ["1"]
    assert 600 <= gap_s(grpc_collector.requests()) * 200 <= 660 + 200 * STALL_S


def test_leaving_does_not_wait(server: FaultServer, tmp_path: Any) -> None:
    """The end does not wait for a told time; the records stay on disk."""
    server.reply_always(Reply(503, headers={"Retry-After": "600"}))
    start(server)
    make(range(5))
    fo.flush(timeout_s=0.5)
    began = time.monotonic()
    fo.shutdown()
    assert time.monotonic() - began <= 2.0 + STALL_S
    assert server.request_count == 1
    assert ledger().pending == 5
    assert list((tmp_path / "spool").rglob("*.seg"))


def test_one_signal_waits_alone(server: FaultServer) -> None:
    """A delay that was told for traces does not hold up the logs."""
    server.reply_always(Reply(429, headers={"Retry-After": "600"}), signals=["traces"])
    start(server, logs_enabled=True)
    make([1])
    fo.get_logger("shop").warning("line")
    server.wait_for(lambda: server.arrivals("logs"))
    server.wait_for(lambda: server.arrivals("traces"))
    fo.get_logger("shop").warning("another line")
    server.wait_for(lambda: len(server.arrivals("logs")) == 2)
    assert ledger("traces").pending == 1
    server.wait_for(lambda: ledger("logs").delivered == 2)


# gRPC


def info(seconds: float) -> RetryInfo:
    whole = int(seconds)
    nanos = round((seconds - whole) * 1e9)
    return RetryInfo(retry_delay=Duration(seconds=whole, nanos=nanos))


def alone(seconds: float) -> tuple[str, bytes]:
    """RetryInfo in a trailer of its own."""
    return "google.rpc.retryinfo-bin", info(seconds).SerializeToString()


def in_status(seconds: float) -> tuple[str, bytes]:
    """RetryInfo among the details of a status, as most servers send it."""
    status = Status(code=14, message="come back later")
    status.details.add().Pack(info(seconds))
    return "grpc-status-details-bin", status.SerializeToString()


def unavailable(trailer: tuple[str, bytes]) -> Answer:
    return Answer(503, grpc.StatusCode.UNAVAILABLE, trailers=(trailer,))


@pytest.mark.parametrize("trailer", [alone, in_status])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_retry_info(
    grpc_collector: Collector,
    code: grpc.StatusCode,
    trailer: Callable[[float], tuple[str, bytes]],
) -> None:
    """RetryInfo is kept; with it, an exhausted resource is one to come back to."""
    refusal = Answer(503, code, trailers=(trailer(0.7),))
    start(grpc_collector)
    assert_waits(
        lambda: grpc_collector.answer_next(refusal),
        grpc_collector.requests,
        0.7,
        0.77 + SLACK_S,
    )


@pytest.mark.parametrize(
    "trailer",
    [
        ("google.rpc.retryinfo-bin", b"\xff\xff"),
        ("grpc-status-details-bin", b"\xff\xff"),
        alone(-3),
    ],
    ids=["info", "status", "negative"],
)
def test_garbage_trailers(
    grpc_collector: Collector, trailer: tuple[str, bytes]
) -> None:
    """Trailers that cannot be read are as none: our own backoff holds."""
    start(grpc_collector)
    assert_waits(
        lambda: grpc_collector.answer_next(unavailable(trailer)),
        grpc_collector.requests,
        0.0,
        1.0 + SLACK_S,
    )


def test_told_time_is_shown(server: FaultServer) -> None:
    """While a collector keeps us away, status says so."""
    server.reply_always(Reply(503, headers={"Retry-After": "600"}))
    start(server)
    make([1])
    server.wait_for(lambda: fo.status().last_error)
    status = fo.status()
    assert not status.ready
    assert any("503" in problem for problem in status.problems), json.dumps(
        status.problems
    )
