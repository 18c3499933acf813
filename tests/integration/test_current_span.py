"""The current span: restored whatever happens, and nothing of ours stays alive."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """OpenTelemetry has nothing to say, such as that it failed to detach."""
    yield
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert not [line for line in said if "detach" in line], said


def current() -> str:
    """Name of the current span, ``""`` for none."""
    span: Any = trace.get_current_span()
    return str(getattr(span, "name", ""))


@fo.flext_monitor_function("leaf")
async def leaf(turns: int) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
        assert current() == "leaf"
    with fo.flext_span("inside"):
        await asyncio.sleep(0)
        assert current() == "inside"
    return current()


@fo.flext_monitor_function("threaded")
def threaded() -> str:
    return current()


def test_gather(server: Collector) -> None:
    """Coroutines that take turns each have their own current span."""

    @fo.flext_monitor_function("parent")
    async def parent() -> None:
        assert set(await asyncio.gather(*(leaf(n) for n in range(8)))) == {"leaf"}
        assert current() == "parent"

    asyncio.run(parent())
    assert current() == ""
    flush()
    ids = {span.parent_span_id for span in server.spans("leaf")}
    assert ids == {server.span("parent").span_id}
    assert len(server.spans("inside")) == 8


def test_task_group_and_threads(server: Collector) -> None:
    """Task groups and ``to_thread``: children of who began them, also on failure."""

    @fo.flext_monitor_function("failing")
    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("x")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(50))
            group.create_task(failing())

    @fo.flext_monitor_function("parent")
    async def parent() -> None:
        with pytest.raises(ExceptionGroup):
            await both()
        assert await asyncio.to_thread(threaded) == "threaded"
        assert current() == "parent"

    asyncio.run(parent())
    flush()
    root = server.span("parent").span_id
    for name in ("leaf", "failing", "threaded"):
        assert server.span(name).parent_span_id == root
    assert server.span("leaf").attributes["error.type"] == "CancelledError"


def test_handed_to_a_bare_thread(server: Collector) -> None:
    """A thread starts without a span, and leaves that of its starter alone."""
    seen: list[str] = []
    with fo.flext_span("outer"):
        thread = threading.Thread(target=lambda: seen.append(current() + threaded()))
        thread.start()
        thread.join()
        assert current() == "outer"
    flush()
    # Python 3.14 can hand the context on; here it is not asked for.
    assert seen == ["threaded"]


@fo.flext_monitor_function("numbers")
def numbers() -> Generator[int, None, None]:
    for number in range(3):
        assert current() == "numbers"
        yield number


@fo.flext_monitor_function("rows")
async def rows() -> AsyncIterator[int]:
    for number in range(3):
        assert current() == "rows"
        yield number


def test_generator_closed_in_another_context(server: Collector) -> None:
    """A generator ends its span where another context closes it, or the collector."""
    with fo.flext_span("outer"):
        left = numbers()
        assert next(left) == 0
        assert current() == "outer"
        contextvars.copy_context().run(left.close)
        assert current() == "outer"
        dropped = numbers()
        next(dropped)
        thread = threading.Thread(target=dropped.close)
        thread.start()
        thread.join()
        forgotten = numbers()
        next(forgotten)
        del forgotten
        gc.collect()
        assert current() == "outer"
    assert current() == ""
    flush()
    assert len(server.spans("numbers")) == 3
    assert {span.status for span in server.spans("numbers")} == {"unset"}


def test_block_left_in_another_context(server: Collector) -> None:
    """A block inside a generator that is closed elsewhere harms no current span."""

    def steps(make: Callable[[], Any]) -> Generator[int, None, None]:
        with make():
            yield 1
            yield 2

    tracer = trace.get_tracer("lib")
    for make in (
        lambda: fo.flext_span("block"),
        lambda: tracer.start_as_current_span("block"),
    ):
        with fo.flext_span("outer"):
            generator = steps(make)
            contextvars.copy_context().run(next, generator)
            assert current() == "outer"
            generator.close()
            assert current() == "outer"
        assert current() == ""
    flush()
    assert len(server.spans("block")) == 2


def test_async_generator_left_behind(server: Collector) -> None:
    """An async generator that nobody ends is ended by the loop, without a word."""

    async def main() -> None:
        with fo.flext_span("outer"):
            async for number in rows():
                assert number == 0
                assert current() == "outer"
                break
            assert current() == "outer"

    asyncio.run(main())
    gc.collect()
    flush()
    assert server.span("rows").parent_span_id == server.span("outer").span_id
    assert_balanced("traces")


def test_closed_coroutine(server: Collector) -> None:
    """A coroutine that is closed half-way ends its span."""
    coroutine = leaf(5)
    with fo.flext_span("outer"):
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
        assert current() == "outer"
    flush()
    assert len(server.spans("leaf")) == 1


class Thing:
    """Something whose life can be watched."""


class ThingError(Exception):
    """An exception whose life can be watched."""


@fo.flext_monitor_function("holds")
def holds(thing: Thing) -> Thing:
    return thing


@fo.flext_monitor_function("captures", capture_args=["thing"])
def captures(thing: Thing) -> Thing:
    return thing


@fo.flext_monitor_function("fails")
def fails(thing: Thing) -> None:
    local = thing
    raise ThingError(type(local).__name__)


@fo.flext_monitor_function("fails async")
async def fails_async(thing: Thing) -> None:
    await asyncio.sleep(0)
    raise ThingError(type(thing).__name__)


def _survivors(work: Callable[[Thing], object]) -> list[str]:
    """Call it; say what of it is still alive when it is over."""
    thing = Thing()
    watched: dict[str, weakref.ref[Any]] = {"argument": weakref.ref(thing)}

    try:
        work(thing)
    except ThingError as error:
        watched["exception"] = weakref.ref(error)
    del thing
    return [name for name, what in watched.items() if what() is not None]


def _in_span(thing: Thing) -> None:
    with fo.flext_span("block"):
        holds(thing)


def _failing_block(thing: Thing) -> None:
    with fo.flext_span("block"):
        fails(thing)


def _failing_plain_block(thing: Thing) -> None:
    with trace.get_tracer("lib").start_as_current_span("block"):
        fails(thing)


def _in_coroutine(thing: Thing) -> None:
    asyncio.run(fails_async(thing))


@pytest.mark.parametrize(
    "work",
    [
        *(holds, captures, fails, _in_span, _failing_block, _failing_plain_block),
        _in_coroutine,
    ],
)
def test_nothing_is_held(server: Collector, work: Callable[[Thing], object]) -> None:
    """After a call nothing of ours keeps its arguments or its exception alive.

    Not even before the records are written, and without the garbage collector.
    """
    gc.collect()
    gc.disable()
    try:
        survivors = _survivors(work)
    finally:
        gc.enable()
    if work is _in_coroutine and survivors:  # the loop's own cycles
        gc.collect()
        survivors = _survivors(lambda _: None)
    assert not survivors
    flush()
    assert server.spans()


def test_spans_are_let_go(server: Collector) -> None:
    """A span that was sent is no longer held, nor one that nobody ends."""
    tracer = trace.get_tracer("lib")
    with tracer.start_as_current_span("op") as span:
        sent = weakref.ref(span)
    never = weakref.ref(tracer.start_span("never ended"))
    del span
    flush()
    gc.collect()
    assert sent() is None
    assert never() is None
    assert len(server.spans()) == 1


def test_context_is_the_same_object(server: Collector) -> None:
    """What was current before a call is current after it, and not a copy."""
    before = get_current()
    holds(Thing())
    with fo.flext_span("block"):
        pass
    with pytest.raises(ThingError):
        fails(Thing())
    assert get_current() is before
    flush()
    assert len(server.spans()) == 3
