"""R8: one record the server cannot stand is found and rejected; the others arrive."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from grpc import StatusCode

import flext_observability as fo
from tests.faults.client import (
    ledger,
    make,
    rejected_files,
    span_numbers,
    start,
)
from tests.faults.figures import figure
from tests.fixtures.collector import ACCEPT, Answer, Collector
from tests.fixtures.library import wait_written

MALFORMED = Answer(400, StatusCode.INVALID_ARGUMENT, message="malformed")
BATCH = 512
FIRST = 400  # the batch is 400..911, so that 777 is in it
POISON = 777


WARM = 1  # the span that arrives before the batch, which is in order

Ask = Callable[[str, Any], Answer | None]


def poison(*numbers: int) -> Ask:
    """Refuse every request that holds one of these spans."""

    def ask(_signal: str, message: Any) -> Answer | None:
        return MALFORMED if set(numbers) & set(span_numbers(message)) else ACCEPT

    return ask


def send_as_one(collector: Collector, ask: Ask, numbers: Iterable[int]) -> None:
    """Send spans in one request to a destination that has accepted something before.

    That one is kept waiting until the spans of the batch wait together.
    """
    came, may_go = threading.Event(), threading.Event()

    def gated(signal: str, message: Any) -> Answer | None:
        if may_go.is_set():
            return ask(signal, message)
        came.set()
        may_go.wait(30)
        return ACCEPT

    collector.answer_with(gated)
    start(collector)
    make([WARM])
    fo.flush(timeout_s=0.1)
    assert came.wait(20)
    make(numbers)
    wait_written()
    may_go.set()
    fo.flush(timeout_s=20.0).unwrap()


def requests(collector: Collector) -> list[Any]:
    """The requests after the first one."""
    return collector.requests("traces")[1:]


def arrived(collector: Collector) -> list[int]:
    return [
        number
        for request in requests(collector)
        if request.answer == ACCEPT
        for number in span_numbers(request.message)
    ]


def test_one_poisonous_record(collector: Collector, tmp_path: Path) -> None:
    """Of 512 exactly the guilty one is rejected, within 18 further requests."""
    batch = range(FIRST, FIRST + BATCH)
    send_as_one(collector, poison(POISON), batch)
    assert arrived(collector) == [number for number in batch if number != POISON]
    counts = ledger()
    figure(
        "R8",
        batch=BATCH,
        delivered=counts.delivered - 1,
        rejected=counts.rejected,
        further_requests=len(requests(collector)) - 1,
    )
    assert (counts.delivered, counts.rejected) == (1 + BATCH - 1, 1)
    assert len(span_numbers(requests(collector)[0].message)) == BATCH
    assert len(requests(collector)) <= 1 + 18
    assert "malformed" in str(fo.status().last_error)
    refused = [r for r in requests(collector) if r.answer == MALFORMED][-1]
    assert span_numbers(refused.message) == [POISON]
    letters = b"".join(path.read_bytes() for path in rejected_files(tmp_path))
    assert refused.message.SerializeToString() in letters

    make([2, 3])
    fo.flush(timeout_s=20.0).unwrap()
    assert arrived(collector)[-2:] == [2, 3]


def test_two_of_them(collector: Collector) -> None:
    """Two guilty records, first and last of 128, are both found within the budget."""
    send_as_one(collector, poison(FIRST, FIRST + 127), range(FIRST, FIRST + 128))
    assert len(requests(collector)) <= 1 + 32
    assert ledger().rejected == 2
    assert arrived(collector) == [*range(FIRST + 1, FIRST + 127)]


def test_budget(collector: Collector) -> None:
    """When all is refused, the search ends after 32 requests; all of it is counted."""
    send_as_one(collector, lambda *_: MALFORMED, range(BATCH))
    assert 1 < len(requests(collector)) <= 1 + 32
    assert (ledger().delivered, ledger().rejected) == (1, BATCH)


def test_wrong_endpoint(collector: Collector) -> None:
    """A destination that never took anything costs one request per batch."""
    collector.answer_always(MALFORMED)
    start(collector)
    for _ in range(3):
        make(range(20))
        fo.flush(timeout_s=20.0).unwrap()
    assert len(collector.requests()) == 3
    assert (ledger().delivered, ledger().rejected) == (0, 60)


def test_trouble_during_the_search(collector: Collector) -> None:
    """A collector that goes away in the middle of the search loses nothing."""
    answers = iter([None, Answer(503, StatusCode.UNAVAILABLE), None, None])

    def ask(_signal: str, message: Any) -> Answer | None:
        answer = next(answers, None)
        if answer is not None:
            return answer
        return MALFORMED if POISON in span_numbers(message) else ACCEPT

    batch = range(POISON - 10, POISON + 10)
    send_as_one(collector, ask, batch)
    assert arrived(collector) == [number for number in batch if number != POISON]
    assert (ledger().delivered, ledger().rejected) == (20, 1)


def test_points_of_one_metric(collector: Collector) -> None:
    """The points of one metric are told apart too."""

    def ask(signal: str, message: Any) -> Answer | None:
        guilty = b"guilty" in message.SerializeToString()
        return MALFORMED if signal == "metrics" and guilty else ACCEPT

    start(collector, metrics_enabled=True)
    counter = fo.flext_counter("orders")
    counter.add(1, {"shop": "first"})
    fo.flush(timeout_s=20.0).unwrap()
    for name in ("second", "guilty", "third"):
        counter.add(1, {"shop": name})
    collector.answer_with(ask)
    fo.flush(timeout_s=20.0).unwrap()
    assert ledger("metrics").rejected == 1
    accepted = [r.message for r in collector.requests("metrics") if r.answer == ACCEPT]
    shops = {
        pair.value.string_value
        for message in accepted
        for group in message.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
        for pair in point.attributes
        if pair.key == "shop"
    }
    assert shops == {"first", "second", "third"}
