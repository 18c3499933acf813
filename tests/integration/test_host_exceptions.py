"""Exceptions that the host's signal handlers raise while we work in its main thread."""

import logging
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import metrics

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.interruptions import Timeout, interrupted
from tests.fixtures.library import assert_balanced, flush, start


@fo.flext_monitor_function("work")
def work() -> None:
    """Do nothing."""


def start_recording(collector: Collector, **fields: Any) -> None:
    """Write each record before its call returns, once all is warm."""
    start(collector, durability="record", metrics_enabled=False, **fields)
    work()
    flush()
    collector.clear()


def assert_each_once(collector: Collector, count: int) -> None:
    """So many spans arrived, none of them twice, and all are accounted for."""
    flush()
    ids = Counter(span.span_id for span in collector.spans())
    assert (len(ids), sum(ids.values())) == (count, count)
    assert_balanced("traces")
    assert fo.status().signals["traces"].pending == 0


@pytest.mark.parametrize(
    ("event", "name", "file"),
    [
        ("c_return", "pwrite", "spool_files.py"),
        ("return", "append", "process_directory.py"),
        ("call", "tell", "holdings.py"),
        ("return", "put", "disk_spool.py"),
        ("call", "notify", "delivery.py"),
        ("return", "notify", "delivery.py"),
        ("c_return", "popleft", "intake.py"),
        ("call", "_forget_taken", "intake.py"),
        ("call", "_set_limit", "intake.py"),
    ],
)
def test_interrupted_write_is_made_once(
    http_collector: Collector, event: str, name: str, file: str
) -> None:
    """Wherever the exception comes in a write, each record is written once."""
    start_recording(http_collector)
    with interrupted(event, name, file) as raised:
        with suppress(Timeout):
            work()
        assert raised
    work()
    assert_each_once(http_collector, 2)


@pytest.mark.parametrize(
    ("event", "name", "file"),
    [
        ("call", "attributes", "value_cleaning.py"),
        ("call", "_event", "cleaning.py"),
        ("call", "_redacted", "redaction.py"),
        ("call", "_own_body", "otlp_spans.py"),
        ("call", "encode_spans", "otlp_spans.py"),
        ("return", "encode_spans", "otlp_spans.py"),
    ],
)
def test_interrupted_encoding_keeps_the_content(
    http_collector: Collector, event: str, name: str, file: str
) -> None:
    """One exception while a record is cleaned or encoded costs nothing of it."""
    start_recording(http_collector, logs_enabled=False)
    with interrupted(event, name, file) as raised:
        with suppress(Timeout), fo.flext_span("pay", attributes={"card": "a b"}) as pay:
            pay.add_event("paid")
        assert raised
    flush()
    sent = http_collector.span("pay")
    assert sent.attributes["card"] == "a b"
    assert [event.name for event in sent.events] == ["paid"]
    assert_each_once(http_collector, 1)


@pytest.mark.parametrize(
    ("event", "name", "file"),
    [
        ("call", "write_whole", "spool_files.py"),
        ("return", "append", "process_directory.py"),
        ("call", "create", "spool_directory.py"),
        ("return", "create", "spool_directory.py"),
    ],
)
def test_host_timeout_is_no_trouble_of_the_disk(
    http_collector: Collector, event: str, name: str, file: str
) -> None:
    """A handler's ``TimeoutError``, an ``OSError``, is not taken for a failing disk."""
    start(http_collector, durability="record", logs_enabled=False)

    def handler() -> None:
        raise TimeoutError("the host's")

    with interrupted(event, name, file, handler) as raised:
        with suppress(TimeoutError):
            work()
        assert raised
    assert not any("disk" in problem for problem in fo.status().problems)
    work()
    assert_each_once(http_collector, 2)


@pytest.mark.parametrize(
    ("event", "name", "file"),
    [
        ("c_return", "set", "own_work.py"),
        ("call", "encode_spans", "otlp_spans.py"),
        ("return", "__call__", "encoding.py"),
    ],
)
def test_interrupted_work_leaves_no_mark(
    http_collector: Collector, event: str, name: str, file: str
) -> None:
    """After an exception amid our work the lines of this thread are still taken."""
    start_recording(http_collector)
    with interrupted(event, name, file) as raised:
        with suppress(Timeout):
            work()
        assert raised
    for number in range(3):
        logging.getLogger("shop").warning("line %d", number)
    assert_each_once(http_collector, 1)
    assert len(http_collector.logs()) == 3


@pytest.mark.parametrize(
    ("event", "name", "file"),
    [
        ("call", "put", "intake.py"),
        ("call", "write", "intake.py"),
        ("c_return", "pwrite", "spool_files.py"),
    ],
)
def test_line_of_a_signal_handler_amid_a_write(
    http_collector: Collector, event: str, name: str, file: str
) -> None:
    """A handler may log while a line of this thread is written; both arrive, once."""
    start_recording(http_collector)
    log = logging.getLogger("shop")
    with interrupted(event, name, file, lambda: log.warning("handled")) as reached:
        log.warning("plain")
        assert reached
    flush()
    assert sorted(str(line.body) for line in http_collector.logs()) == [
        "handled",
        "plain",
    ]
    assert_balanced("logs")


@pytest.mark.parametrize("make", ["own", "otel"])
def test_interrupted_making_of_an_instrument(
    http_collector: Collector, make: str
) -> None:
    """An exception while an instrument is made costs one measurement at most."""
    start(http_collector, logs_enabled=False)
    name = f"interrupted.{make}"  # instruments outlive a test

    def add() -> None:
        if make == "own":
            fo.flext_counter(name).add(1)
        else:
            metrics.get_meter("shop").create_counter(name).add(1)

    with interrupted(
        "call", "create_counter", "sdk/metrics/_internal/__init__.py"
    ) as reached:
        with suppress(Timeout):
            add()
        assert reached
    for _ in range(3):
        add()
    flush()
    assert 3 <= http_collector.metric(name).value <= 4
