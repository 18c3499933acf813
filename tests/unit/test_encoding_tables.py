"""What the encoders remember: bounded, right in any thread, and no record's values."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from tests.fixtures.encoders import SPANS, groups, wire
from tests.fixtures.programs import run_program

SHARED = Resource({"service.name": "shop", "host.name": "a"})


def span(
    name: str, attributes: dict[str, Any], resource: Resource = SHARED
) -> ReadableSpan:
    return ReadableSpan(
        name,
        SpanContext(1, 2, is_remote=False),
        resource=resource,
        attributes=attributes,
        instrumentation_scope=InstrumentationScope(f"lib {name}"),
        start_time=1,
        end_time=2,
    )


def tables() -> Iterator[Any]:
    """Find every table of texts."""
    for name, module in list(sys.modules.items()):
        if name.startswith("flext_observability._pipeline.otlp_"):
            for value in vars(module).values():
                if isinstance(value, wire.TextFields):
                    yield value


def test_names_that_never_come_again() -> None:
    """Endless new names, keys, resources and scopes do not grow what is remembered."""
    longest = 0
    for turn in range(10):
        names = [f"name {turn} {number}" for number in range(600)]
        made = [span(n, {n: 1}, Resource({"turn": n})) for n in names]
        assert SPANS.assert_same(made)
        longest = max(longest, *map(len, tables()))
    assert 1000 < longest <= wire.TextFields.LIMIT
    assert len(groups._known) <= 512


def test_long_names_are_not_kept() -> None:
    """A table of few but enormous names would be as bad."""
    long = "x" * 100_000
    SPANS.ours([span(long, {long: 1})])
    assert not any(long in table for table in tables())


def test_values_are_not_kept() -> None:
    """A value, which may be unlike any other, is held no longer than its span."""
    SPANS.ours([span("op", {"order.id": "warm"})])
    before = [set(table) for table in tables()]
    SPANS.ours([span("op", {"order.id": f"id {n}"}) for n in range(100)])
    assert [set(table) for table in tables()] == before


def test_resources_are_hashed_once() -> None:
    """Hashing a resource dumps it to JSON: not again for each span or request."""
    spans = [span("op", {"n": 1}) for _ in range(10)]
    expected = SPANS.ours(spans)
    hashed = 0

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal hashed
        hashed += event == "call" and frame.f_code is Resource.__hash__.__code__

    sys.setprofile(watch)
    try:
        again = SPANS.ours(spans)
    finally:
        sys.setprofile(None)
    assert again == expected
    assert hashed == 0


def test_many_threads() -> None:
    """Threads that fill the tables over and over all make the right bytes."""
    batches = [
        [span(f"n{batch} {n}", {f"k{n}": n}, Resource({"n": n})) for n in range(300)]
        for batch in range(16)
    ]
    expected = [SPANS.stock(batch).SerializeToString() for batch in batches]
    barrier = threading.Barrier(4)

    def encode(start: int) -> bool:
        barrier.wait()
        turns = range(start, start + 16)
        return all(
            SPANS.ours(batches[turn % 16]) == expected[turn % 16] for turn in turns
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(encode, range(0, 16, 4)))


def test_signal_handlers_that_raise() -> None:
    """What a handler raises reaches the program; it never becomes a record's fault."""
    spans = [span("op", {"number": 1, "text": "x", "list": ["a"]})]
    expected = SPANS.ours(spans)
    calls = 0
    alarm_at = 0

    def handler(*_: object) -> None:
        raise TimeoutError

    def watch(_frame: FrameType, event: str, _: object) -> None:
        # A signal at each call of the encoder in turn.
        nonlocal calls
        calls += event == "call"
        if calls == alarm_at:
            calls += 1
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handler)
    raised = 0
    try:
        while calls >= alarm_at:
            alarm_at += 1
            calls = 0
            sys.setprofile(watch)
            try:
                assert SPANS.ours(spans) == expected
            except TimeoutError:
                raised += 1
            finally:
                sys.setprofile(None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised == alarm_at - 1 > 10


FORK = """
import os, sys, threading, warnings
from importlib import import_module
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
encoding = import_module("flext_observability._pipeline.encoding")
encode = encoding.request_encoder(encoding.Signal("traces"))
context = SpanContext(1, 2, is_remote=False)
resources = [Resource({"n": n}) for n in range(600)]
spans = [
    ReadableSpan(f"op {n}", context, resource=resources[n], attributes={f"k{n}": n})
    for n in range(600)
]
expected = encode(spans)
done = threading.Event()

def work():
    while not done.is_set():
        encode(spans)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if encode(spans) == expected else 1)
    codes.append(os.waitpid(pid, 0)[1])
done.set()
for thread in threads:
    thread.join()
sys.exit(any(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of Unix")
def test_forks() -> None:
    """A child forked while threads encode finds the tables whole."""
    run_program(FORK, timeout_s=90).ok()
