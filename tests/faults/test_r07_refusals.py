"""R7: what a refusal means for its batch; it means nothing for the next one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

import flext_observability as fo
from tests.faults.client import (
    ledger,
    make,
    rejected_files,
    span_numbers,
    start,
)
from tests.faults.server import FaultServer, Reply
from tests.fixtures.collector import ACCEPT, Answer, Collector
from tests.fixtures.library import flush_in_vain

FINAL = [
    (404, StatusCode.NOT_FOUND),
    (405, StatusCode.UNIMPLEMENTED),
    (415, StatusCode.FAILED_PRECONDITION),
    (500, StatusCode.INTERNAL),
    (501, StatusCode.UNKNOWN),
    (505, StatusCode.ALREADY_EXISTS),
]
CREDENTIALS = [
    (401, StatusCode.UNAUTHENTICATED),
    (403, StatusCode.PERMISSION_DENIED),
]


def arrived(collector: Collector) -> list[int]:
    """Numbers of the spans in accepted requests."""
    return [
        number
        for request in collector.requests("traces")
        if request.answer == ACCEPT
        for number in span_numbers(request.message)
    ]


@pytest.mark.parametrize(("status", "code"), FINAL)
def test_refused_for_good(
    collector: Collector, status: int, code: StatusCode, tmp_path: Path
) -> None:
    """A final refusal is not retried: counted, kept as a dead letter; others arrive."""
    start(collector)
    refusal = Answer(status, code, message="not that one")
    for batch in range(4):
        if batch == 2:
            collector.answer_next(refusal)
        make(range(batch * 10, batch * 10 + 10))
        fo.flush(timeout_s=20.0).unwrap()
    assert len(collector.requests()) == 4
    assert arrived(collector) == [*range(20), *range(30, 40)]
    assert (ledger().delivered, ledger().rejected) == (30, 10)
    letters = b"".join(path.read_bytes() for path in rejected_files(tmp_path))
    refused = collector.requests()[2].message.SerializeToString()
    assert refused in letters
    said = str(fo.status().last_error)
    assert "not that one" in said
    assert (str(status) if collector.protocol != "grpc" else code.name) in said


def test_other_signals_are_unaffected(collector: Collector) -> None:
    """A destination that refuses traces gets logs and metrics all the same."""
    collector.answer_always(Answer(500, StatusCode.INTERNAL), signals=["traces"])
    start(collector, logs_enabled=True, metrics_enabled=True)
    make(range(3))
    logging.getLogger("shop").warning("line")
    fo.flext_counter("made").add(1)
    fo.flush(timeout_s=20.0).unwrap()
    assert ledger("traces").rejected == 3
    assert collector.log("line")
    assert collector.metric("made")
    ledger("logs")
    ledger("metrics")


@pytest.mark.parametrize(("status", "code"), CREDENTIALS)
def test_credentials(collector: Collector, status: int, code: StatusCode) -> None:
    """Refused credentials burn nothing: the records wait, and arrive later."""
    collector.answer_always(Answer(status, code, message="who are you"))
    start(collector)
    make(range(5))
    status_now = flush_in_vain(1.0)
    assert len(collector.requests()) <= 2  # one, and one probe for the flush
    assert (ledger().pending, ledger().rejected) == (5, 0)
    assert not status_now.ready
    assert any("credentials" in problem for problem in status_now.problems)

    make(range(5, 8))
    collector.answer_always(ACCEPT)
    fo.flush(timeout_s=20.0).unwrap()
    assert sorted(arrived(collector)) == list(range(8))
    assert ledger().delivered == 8
    assert fo.status().ready


def count_limit(collector: Collector, limit: int) -> None:
    """Answer "too large" to requests of more spans than that."""
    refusal = Answer(413, StatusCode.RESOURCE_EXHAUSTED, message="too large")

    def ask(_signal: str, message: Any) -> Answer | None:
        return refusal if len(span_numbers(message)) > limit else ACCEPT

    collector.answer_with(ask)


def test_too_large(collector: Collector) -> None:
    """A request that is too large is sent in parts, in order, each record once."""
    count_limit(collector, 10)
    start(collector)
    make(range(100))
    fo.flush(timeout_s=20.0).unwrap()
    assert arrived(collector) == list(range(100))
    assert (ledger().delivered, ledger().rejected) == (100, 0)
    assert ledger().retransmitted == 0


def test_too_large_whatever_it_is(collector: Collector, tmp_path: Path) -> None:
    """A server that finds everything too large costs a bounded number of requests."""
    count_limit(collector, 0)
    start(collector)
    make(range(16))
    fo.flush(timeout_s=20.0).unwrap()
    assert ledger().rejected == 16
    assert len(collector.requests()) <= 2 * 31
    assert rejected_files(tmp_path)
    collector.answer_with(lambda *_: ACCEPT)
    make([100])
    fo.flush(timeout_s=20.0).unwrap()
    assert arrived(collector) == [100]


def test_timeout_of_the_server() -> None:
    """408 is retried: a deviation from the specification, which is silent about it."""
    with FaultServer() as server:
        server.reply_next(Reply(408))
        start(server)
        make([1, 2])
        fo.flush(timeout_s=20.0).unwrap()
        assert server.request_count == 2
        assert ledger().delivered == 2


RETRYABLE = [
    *("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE"),
    *("UNAVAILABLE", "DATA_LOSS"),
]


@pytest.mark.parametrize("code", [each for each in StatusCode if each.value[0]])
def test_table_of_grpc(grpc_collector: Collector, code: StatusCode) -> None:
    """Over gRPC exactly the codes of the OTLP specification are retried or held."""
    grpc_collector.answer_next(Answer(500, code, message="no"))
    start(grpc_collector)
    make(range(4))
    fo.flush(timeout_s=20.0).unwrap()
    held = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
    is_kept = code.name in {*RETRYABLE, *held, "RESOURCE_EXHAUSTED"}
    assert ledger().delivered == (4 if is_kept else 0)
    assert ledger().rejected == (0 if is_kept else 4)
    assert len(grpc_collector.requests()) == _requests(code.name, is_kept=is_kept)


def _requests(code: str, *, is_kept: bool) -> int:
    if code == "RESOURCE_EXHAUSTED":
        return 3  # refused, then in halves
    return 2 if is_kept else 1


STATUSES: Sequence[tuple[int, str]] = [
    *[(status, "delivered") for status in (200, 202, 204)],
    *[(status, "retried") for status in (408, 429, 502, 503, 504)],
    *[(status, "held") for status in (301, 302, 307, 308, 401, 403)],
    *[(status, "rejected") for status in (400, 404, 405, 409, 415, 422, 451)],
    *[(status, "rejected") for status in (500, 501, 505, 511, 599)],
]


@pytest.mark.parametrize(("status", "meaning"), STATUSES)
def test_table_of_http(status: int, meaning: str) -> None:
    """Over HTTP every status means what the verdict table says."""
    with FaultServer() as server:
        body = b"" if status < 300 else None
        server.reply_next(Reply(status, body=body))
        start(server)
        make(range(4))
        fo.flush(timeout_s=20.0).unwrap()
        counts = ledger()
        if meaning == "rejected":
            assert (counts.rejected, server.request_count) == (4, 1)
        else:
            expected = 1 if meaning == "delivered" else 2
            assert (counts.delivered, server.request_count) == (4, expected)
        fo.shutdown(timeout_s=0.2)


def test_codes_of_the_variable(
    grpc_collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES names what is retried."""
    variable = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"
    monkeypatch.setenv(variable, "internal, NOT_FOUND")
    start(grpc_collector)
    grpc_collector.answer_next(
        Answer(500, StatusCode.INTERNAL), Answer(404, StatusCode.NOT_FOUND)
    )
    make(range(3))
    fo.flush(timeout_s=20.0).unwrap()
    assert ledger().delivered == 3
    grpc_collector.answer_next(Answer(500, StatusCode.ABORTED))
    make(range(3))
    fo.flush(timeout_s=20.0).unwrap()
    assert (ledger().delivered, ledger().rejected) == (3, 3)
