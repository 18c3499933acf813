"""R24: requests stay within 4 MiB; what a server finds too large is made smaller."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

import flext_observability as fo
from tests.faults.client import ledger, make, rejected_files, start
from tests.faults.figures import figure
from tests.faults.server import Arrival, FaultServer, Reply
from tests.fixtures.collector import ACCEPT, Answer, Collector

MIB = 1024 * 1024
KIB = 1024


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
        fo.shutdown(timeout_s=0.2)


def limit(server: FaultServer, size: int) -> None:
    """Answer 413 to every request that decompresses to more."""

    def respond(arrival: Arrival) -> Reply | None:
        is_large = len(arrival.content) > size
        return Reply(413, accepts=False) if is_large else None

    server.reply_with(respond)


def accepted_spans(server: FaultServer) -> list[Any]:
    return [
        span
        for arrival, reply in server.exchanges("traces")
        if reply.is_accepting
        for span in arrival.records()
    ]


def size_of(arrival: Arrival) -> int:
    return len(arrival.content)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_large_batch(server: FaultServer, compression: str) -> None:
    """A batch beyond 4 MiB goes out in requests below it, before compression."""
    limit(server, 4 * MIB)
    start(server, compression=compression)
    make(range(500), text="x" * 16_000)  # 8 MB
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(500)}
    assert server.duplicates() == 0
    largest = max(map(size_of, server.arrivals()))
    figure("R24", requests=server.request_count, largest_mib=largest / MIB)
    assert largest <= 4 * MIB
    assert all(reply.is_accepting for _, reply in server.exchanges())
    assert ledger().delivered == 500


def test_server_with_a_lower_limit(server: FaultServer) -> None:
    """A server that takes less gets less; every record arrives once, unchanged."""
    limit(server, 64 * KIB)
    start(server)
    make(range(100), text="x" * 5000)
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {*range(100)}
    assert server.duplicates() == 0
    assert (ledger().delivered, ledger().rejected) == (100, 0)
    for span in accepted_spans(server):
        attributes = {pair.key: pair.value for pair in span.attributes}
        assert len(attributes["text"].string_value) == 5000
        assert "flext.truncated" not in attributes


def test_resource_and_scope_are_kept(server: FaultServer) -> None:
    """Every part of a request says whose records they are."""
    limit(server, 20 * KIB)
    start(server, resource_attributes={"team": "payments"})
    make(range(40), text="x" * 2000)
    fo.flush(timeout_s=20.0).unwrap()
    parts = [arrival for arrival, reply in server.exchanges() if reply.is_accepting]
    assert len(parts) > 3
    for part in parts:
        (group,) = part.message.resource_spans
        resource = {p.key: p.value.string_value for p in group.resource.attributes}
        assert resource["service.name"] == "shop"
        assert resource["team"] == "payments"
        (scope,) = group.scope_spans
        assert scope.scope.name == "flext_observability"


def make_large(number: int) -> None:
    """One span of about 6 MB: many events with texts of the greatest length."""
    with fo.flext_span("large", {"n": number}) as span:
        for event in range(100):
            texts = {f"text{i}": chr(97 + i) * 16_000 for i in range(4)}
            span.add_event(f"event {event}", texts)


def test_one_large_record(server: FaultServer) -> None:
    """A record above the limit by itself is shortened, marked, and arrives."""
    limit(server, 4 * MIB)
    start(server)
    make([1])
    make_large(2)
    make([3])
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {1, 2, 3}
    assert max(map(size_of, server.arrivals())) <= 4 * MIB
    (large,) = (span for span in accepted_spans(server) if span.name == "large")
    marks = [p for p in large.attributes if p.key == "flext.truncated"]
    assert [mark.value.bool_value for mark in marks] == [True]
    assert len(large.events) == 100
    lengths = {
        len(pair.value.string_value)
        for event in large.events
        for pair in event.attributes
    }
    assert 5_000 < min(lengths) <= max(lengths) < 16_000
    for span in accepted_spans(server):
        is_marked = any(p.key == "flext.truncated" for p in span.attributes)
        assert is_marked == (span.name == "large")
    assert (ledger().delivered, ledger().rejected) == (3, 0)


def test_one_record_above_a_lower_limit(server: FaultServer) -> None:
    """When the server's limit is lower still, the record is shortened further."""
    limit(server, 100 * KIB)
    start(server)
    make_large(1)
    make([2])
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {1, 2}
    (large,) = (span for span in accepted_spans(server) if span.name == "large")
    assert large.ByteSize() <= 100 * KIB
    assert any(pair.key == "flext.truncated" for pair in large.attributes)
    assert ledger().delivered == 2


def test_large_log_record(server: FaultServer) -> None:
    """A log record is shortened in its body."""
    limit(server, 8 * KIB)
    start(server, logs_enabled=True)
    fo.get_logger("shop").warning("y" * 15_000)
    fo.flush(timeout_s=20.0).unwrap()
    (record,) = (
        record
        for arrival, reply in server.exchanges("logs")
        if reply.is_accepting
        for record in arrival.records()
    )
    assert 1000 < len(record.body.string_value) <= 8 * KIB
    assert any(pair.key == "flext.truncated" for pair in record.attributes)
    assert ledger("logs").delivered == 1


def test_points_of_one_metric(server: FaultServer) -> None:
    """A metric with many points is cut within; each point arrives once."""
    limit(server, 16 * KIB)
    start(server, metrics_enabled=True)
    counter = fo.flext_counter("orders", unit="1", description="orders placed")
    for number in range(600):
        counter.add(number, {"shop": number})
    fo.flush(timeout_s=20.0).unwrap()
    metrics = [
        metric
        for arrival, reply in server.exchanges("metrics")
        if reply.is_accepting
        for group in arrival.message.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        if metric.name == "orders"
    ]
    points = [int(p.as_double or p.as_int) for m in metrics for p in m.sum.data_points]
    assert sorted(points) == list(range(600))
    assert len(metrics) > 1
    for metric in metrics:
        assert (metric.unit, metric.description) == ("1", "orders placed")
        assert metric.sum.is_monotonic
        assert metric.sum.aggregation_temporality == 2  # cumulative
    assert ledger("metrics").rejected == 0


def test_never_small_enough(server: FaultServer, tmp_path: Path) -> None:
    """A record that no server takes at any size is rejected, and stops nobody."""
    limit(server, 10)
    start(server)
    make_large(1)
    fo.flush(timeout_s=20.0).unwrap()
    assert (ledger().delivered, ledger().rejected) == (0, 1)
    assert server.request_count <= 15
    assert rejected_files(tmp_path)
    server.reply_with(lambda _: None)
    make([2])
    fo.flush(timeout_s=20.0).unwrap()
    assert server.numbers() == {2}


def test_over_grpc(grpc_collector: Collector) -> None:
    """Over gRPC a server's own limit on messages is the same refusal."""
    refusal = Answer(413, StatusCode.RESOURCE_EXHAUSTED, message="larger than max")

    def ask(_: str, message: Any) -> Answer:
        return refusal if message.ByteSize() > 100 * KIB else ACCEPT

    grpc_collector.answer_with(ask)
    start(grpc_collector)
    make(range(100), text="x" * 10_000)
    make_large(200)
    fo.flush(timeout_s=20.0).unwrap()
    assert (ledger().delivered, ledger().rejected) == (101, 0)
    sizes = [request.message.ByteSize() for request in grpc_collector.requests()]
    assert max(sizes) <= 4 * MIB
