"""Monitored generators and async generators keep their whole protocol."""

import asyncio
import gc
import inspect
import random
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from threading import Thread
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """OpenTelemetry has nothing to say, such as that it failed to detach."""
    yield
    said = [r.getMessage() for r in caplog.records if "detach" in r.getMessage()]
    assert not said


def seen_here() -> tuple[object, str]:
    """Baggage and name of the current span, ``""`` for none."""
    span: Any = trace.get_current_span()
    return baggage.get_baggage("tenant"), str(getattr(span, "name", ""))


def current_span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


@fo.flext_monitor_function("echo")
def echo(log: list[str]) -> Generator[str, str, str]:
    """Answers what is sent, survives ValueError, counts its end."""
    answer = "ready"
    try:
        while answer != "stop":
            try:
                answer = (yield answer) or "none"
            except ValueError as error:
                answer = f"caught {error}"
    finally:
        log.append("finally")
    return "returned"


def test_generator_is_one_span(server: Collector) -> None:
    """The span of a generator lasts from its first step to its end."""

    @fo.flext_monitor_function("numbers")
    def numbers() -> Generator[int]:
        yield 1
        yield 2

    assert inspect.isgeneratorfunction(numbers)
    iterator = numbers()
    assert inspect.isgenerator(iterator)
    assert next(iterator) == 1
    flush()
    assert not server.spans("numbers"), "the span ended while the generator lives"
    assert list(iterator) == [2]
    flush()
    assert server.span("numbers").status != "error"
    point = server.metric("flext.operation.duration", flext_operation_name="numbers")
    assert point.count == 1


def test_send_throw_and_return(server: Collector) -> None:
    """Sent values, thrown exceptions and the return value all get through."""
    log: list[str] = []
    talk = echo(log)
    assert next(talk) == "ready"
    assert talk.send("hello") == "hello"
    assert talk.throw(ValueError("oops")) == "caught oops"
    assert next(talk) == "none"
    with pytest.raises(StopIteration) as ended:
        talk.send("stop")
    assert ended.value.value == "returned"
    assert log == ["finally"]
    with pytest.raises(StopIteration):
        next(talk)
    flush()
    assert server.span("echo").status != "error"


def test_thrown_exception_that_escapes(server: Collector) -> None:
    """An exception thrown in that nobody catches fails the span; it is the same."""
    error = KeyError("k")
    log: list[str] = []
    talk = echo(log)
    next(talk)
    with pytest.raises(KeyError) as caught:
        talk.throw(error)
    assert caught.value is error
    flush()
    span = server.span("echo")
    assert span.status == "error"
    assert span.attributes["error.type"] == "KeyError"
    assert log == ["finally"]


def test_close(server: Collector) -> None:
    """Closing runs the clean-up and ends the span, and is no error."""
    log: list[str] = []
    talk = echo(log)
    next(talk)
    talk.close()
    talk.close()
    assert log == ["finally"]
    flush()
    assert server.span("echo").status != "error"


def test_generator_that_ignores_close(server: Collector) -> None:
    """A generator that refuses to close still says so."""

    @fo.flext_monitor_function("stubborn")
    def stubborn() -> Generator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    iterator = stubborn()
    next(iterator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        iterator.close()


def test_forgotten_generator(server: Collector) -> None:
    """A generator that is dropped half-way ends its span."""
    log: list[str] = []
    talk = echo(log)
    next(talk)
    del talk
    gc.collect()
    assert log == ["finally"]
    flush()
    assert server.span("echo")


def test_generator_never_started(server: Collector) -> None:
    """A generator that never ran is no operation."""

    @fo.flext_monitor_function("never")
    def never() -> Generator[int]:
        yield 1

    never().close()
    del never
    gc.collect()
    flush()
    assert not server.spans("never")


def test_failing_generator(server: Collector) -> None:
    """An exception inside comes out as the same object and fails the span."""
    error = OSError("disk")

    @fo.flext_monitor_function("read")
    def read() -> Generator[int]:
        yield 1
        raise error

    with pytest.raises(OSError, match="disk") as caught:
        list(read())
    assert caught.value is error
    flush()
    span = server.span("read")
    assert span.status == "error"
    assert span.event("exception").attributes["exception.message"] == "disk"
    assert [log.span_id for log in server.logs()] == [span.span_id]


def test_context_only_while_running(server: Collector) -> None:
    """The span is current while the generator runs, never in its consumer."""
    inside: list[int] = []

    @fo.flext_monitor_function("gen")
    def gen() -> Generator[int]:
        for number in range(3):
            inside.append(current_span_id())
            with fo.flext_span(f"step {number}"):
                pass
            yield number
            inside.append(current_span_id())

    with fo.flext_span("consumer"):
        consumer = current_span_id()
        for number in gen():
            assert current_span_id() == consumer
            with fo.flext_span(f"use {number}"):
                pass
        assert current_span_id() == consumer
    flush()

    span = server.span("gen")
    assert {f"{each:016x}" for each in inside} == {span.span_id}
    assert span.parent_span_id == server.span("consumer").span_id
    for number in range(3):
        assert server.span(f"step {number}").parent_span_id == span.span_id
        assert server.span(f"use {number}").parent_span_id == f"{consumer:016x}"


def test_interleaved_generators(server: Collector) -> None:
    """Two generators in step never see each other's span."""

    @fo.flext_monitor_function("gen")
    def gen(name: str) -> Generator[None]:
        for number in range(3):
            with fo.flext_span(f"{name} {number}"):
                pass
            yield

    for _ in zip(gen("a"), gen("b"), strict=True):
        assert not trace.get_current_span().get_span_context().is_valid
    flush()
    owners = {span.span_id for span in server.spans("gen")}
    assert len(owners) == 2
    for name in "ab":
        parents = {server.span(f"{name} {n}").parent_span_id for n in range(3)}
        assert len(parents) == 1
        assert parents < owners


@pytest.mark.parametrize("has_span", [True, False])
def test_the_block_of_a_context_manager(server: Collector, has_span: bool) -> None:  # noqa: FBT001 - a case
    """What a generator sets up around its block is there, as without the decorator."""

    def tenant(seen: list[tuple[object, str]]) -> Generator[None]:
        token = attach(baggage.set_baggage("tenant", "acme"))
        try:
            if has_span:
                with trace.get_tracer("lib").start_as_current_span("unit"):
                    yield
            else:
                yield
            seen.append(seen_here())
        finally:
            detach(token)

    found: list[list[tuple[object, str]]] = []
    for function in (tenant, fo.flext_monitor_function("tenant")(tenant)):
        seen: list[tuple[object, str]] = []
        with fo.flext_span("outer"):
            with contextmanager(function)(seen):
                seen.append(seen_here())
                with fo.flext_span("work"):
                    pass
            with suppress(LookupError), contextmanager(function)(seen):
                raise LookupError
            seen.append(seen_here())
        assert seen_here() == (None, "")
        found.append(seen)
    block = ("acme", "unit" if has_span else "outer")
    assert found[0] == [block, ("acme", "outer"), (None, "outer")]
    assert found[1] == [block, ("acme", "tenant"), (None, "outer")]
    flush()
    parents = {span.span_id: span.name for span in server.spans()}
    works = {parents[span.parent_span_id] for span in server.spans("work")}
    assert works == {block[1]}
    if has_span:
        units = [parents[span.parent_span_id] for span in server.spans("unit")]
        assert sorted(units) == ["outer", "outer", "tenant", "tenant"]


def test_the_block_of_an_async_context_manager(server: Collector) -> None:
    """The asynchronous twin: its block has what was set up around it."""

    @asynccontextmanager
    @fo.flext_monitor_function("tenant")
    async def tenant() -> AsyncGenerator[None]:
        token = attach(baggage.set_baggage("tenant", "acme"))
        async with fo.flext_span("unit"):
            await asyncio.sleep(0)
            yield
        assert seen_here() == ("acme", "tenant")
        detach(token)

    async def main() -> None:
        async with fo.flext_span("outer"), tenant():
            await asyncio.sleep(0)
            assert seen_here() == ("acme", "unit")
        assert seen_here() == (None, "")

    run(main)
    flush()
    assert server.span("unit").parent_span_id == server.span("tenant").span_id
    assert server.span("tenant").status != "error"


def test_generators_inside_generators_take_out_their_own(server: Collector) -> None:
    """Baggage of the inner one goes through the outer one; neither span does."""

    @fo.flext_monitor_function("inner")
    def inner() -> Generator[str]:
        token = attach(baggage.set_baggage("tenant", "acme"))
        yield "set"
        assert seen_here() == ("acme", "inner")
        detach(token)
        yield "unset"
        assert seen_here() == (None, "inner")

    @fo.flext_monitor_function("outer")
    def outer() -> Generator[str]:
        for word in inner():
            assert seen_here() == ("acme" if word == "set" else None, "outer")
            yield word
        yield from inner()

    seen: list[tuple[object, str]] = []
    with fo.flext_span("caller"):
        for _ in outer():
            seen.append(seen_here())
            attach(baggage.set_baggage("other", "of the caller"))
        assert seen_here() == (None, "caller")
    assert seen == [("acme", "caller"), (None, "caller")] * 2
    assert seen_here() == (None, "")
    flush()
    outer_id = server.span("outer").span_id
    assert {span.parent_span_id for span in server.spans("inner")} == {outer_id}


Seen = list[tuple[str, tuple[object, str]]]


@contextmanager
def with_baggage(value: str) -> Iterator[None]:
    token = attach(baggage.set_baggage("tenant", value))
    try:
        yield
    finally:
        detach(token)


def seen_in_a_random_program(seed: int, *, is_monitored: bool) -> Seen:
    """What a generator and its caller see who both attach and detach at random."""
    chance, seen = random.Random(seed), Seen()  # noqa: S311 - repeatable on purpose
    tracer = trace.get_tracer("lib")
    opened: list[Callable[[str], Any]] = [
        *(with_baggage, tracer.start_as_current_span, fo.flext_span)
    ]

    def act(stack: ExitStack, who: str) -> None:
        for number in range(chance.randrange(3)):
            stack.enter_context(chance.choice(opened)(f"{who} {len(seen)} {number}"))
        seen.append((who, seen_here()))

    make: Callable[[int], Generator[None]]

    def steps(depth: int) -> Generator[None]:
        with ExitStack() as outer:
            for _ in range(chance.randrange(1, 4)):
                with ExitStack() as inner:
                    act(chance.choice([inner, outer]), "generator")
                    yield
                    act(inner, "generator")
                if depth < 2 and chance.random() < 0.3:
                    yield from make(depth + 1)
                act(outer, "generator")
                yield

    make = fo.flext_monitor_function("ours")(steps) if is_monitored else steps
    last = chance.choice([1, 3, 100])
    with ExitStack() as whole:
        act(whole, "caller")
        generator = make(0)
        for number, _ in enumerate(generator, 1):
            with ExitStack() as stack:
                act(stack, "caller")
            seen.append(("caller", seen_here()))
            if number == last:
                break
        generator.close()
        seen.append(("caller", seen_here()))
    seen.append(("caller", seen_here()))
    return seen


def test_the_decorator_changes_no_context(server: Collector) -> None:
    """Caller and generator see what they would without it, and inside the span too."""
    for seed in range(300):
        plain, monitored = (
            copy_context().run(seen_in_a_random_program, seed, is_monitored=each)
            for each in (False, True)
        )
        assert len(plain) == len(monitored)
        for (who, (tenant, span)), (_, found) in zip(plain, monitored, strict=True):
            is_ours = who == "generator" and found[1] == "ours"
            assert found == (tenant, "ours" if is_ours else span), (seed, who)


def test_left_early_or_elsewhere_it_changes_no_context(server: Collector) -> None:
    """Whoever ends a generator, wherever, has the current span he had before."""

    @fo.flext_monitor_function("gen")
    def gen() -> Generator[None]:
        with fo.flext_span("unit"):
            yield
        attach(baggage.set_baggage("tenant", "acme"))
        yield

    def take(generator: Generator[None], steps: int) -> None:
        for _ in range(steps):
            next(generator)

    def close(generator: Generator[None]) -> None:
        with fo.flext_span("closer"):
            generator.close()
            assert seen_here() == (None, "closer")
        assert seen_here() == (None, "")

    for steps in (1, 2):
        for elsewhere in (True, False):
            generator = gen()
            with fo.flext_span("outer"):
                copy_context().run(take, generator, steps)
                assert seen_here() == (None, "outer")
            if elsewhere:
                thread = Thread(target=close, args=[generator])
                thread.start()
                thread.join()
            else:
                close(generator)
    flush()
    assert [span.status for span in server.spans("gen")] == ["unset"] * 4


def test_a_failure_elsewhere_is_joined_to_its_span(server: Collector) -> None:
    """Whatever is current at the end, the log line is the generator's."""

    @fo.flext_monitor_function("gen", capture_args=["number"])
    def gen(number: int) -> Generator[int]:
        attach(trace.set_span_in_context(trace.INVALID_SPAN))
        yield number
        raise LookupError

    with fo.flext_span("caller"):
        generator = gen(3)
        next(generator)
        with pytest.raises(LookupError):
            next(generator)
    flush()
    assert [log.span_id for log in server.logs()] == [server.span("gen").span_id]


def test_yield_from(server: Collector) -> None:
    """A monitored generator delegates and is delegated to."""

    @fo.flext_monitor_function("inner")
    def inner() -> Generator[int, int, int]:
        got = yield 1
        return got * 10

    @fo.flext_monitor_function("outer")
    def outer() -> Generator[int, int, None]:
        result = yield from inner()
        yield result

    iterator = outer()
    assert next(iterator) == 1
    assert iterator.send(4) == 40
    assert list(iterator) == []
    flush()
    assert server.span("inner").parent_span_id == server.span("outer").span_id


def test_generator_finished_in_another_thread(server: Collector) -> None:
    """A generator may be driven by several threads, one after the other."""
    iterator = echo([])
    next(iterator)
    thread = Thread(target=iterator.close)
    thread.start()
    thread.join()
    flush()
    assert server.span("echo")


# Async generators


@fo.flext_monitor_function("aecho")
async def aecho(log: list[str]) -> AsyncGenerator[str, str]:
    """The asynchronous twin of ``echo``."""
    answer = "ready"
    try:
        while answer != "stop":
            try:
                await asyncio.sleep(0)
                answer = (yield answer) or "none"
            except ValueError as error:
                answer = f"caught {error}"
    finally:
        await asyncio.sleep(0)
        log.append("finally")


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def test_async_generator(collector: Collector) -> None:
    """asend, athrow and the end work as in plain async generators."""
    start(collector)
    assert inspect.isasyncgenfunction(aecho)
    log: list[str] = []

    async def main() -> None:
        talk = aecho(log)
        is_generator: bool = inspect.isasyncgen(talk)
        assert is_generator
        assert await anext(talk) == "ready"
        assert await talk.asend("hello") == "hello"
        assert await talk.athrow(ValueError("oops")) == "caught oops"
        with pytest.raises(StopAsyncIteration):
            await talk.asend("stop")
        with pytest.raises(StopAsyncIteration):
            await anext(talk)

    run(main)
    assert log == ["finally"]
    flush()
    assert collector.span("aecho").status != "error"


def test_aclose(server: Collector) -> None:
    """Closing runs the asynchronous clean-up and ends the span without error."""
    log: list[str] = []

    async def main() -> None:
        talk = aecho(log)
        await anext(talk)
        await talk.aclose()
        await talk.aclose()

    run(main)
    assert log == ["finally"]
    flush()
    assert server.span("aecho").status != "error"


def test_athrow_that_escapes(server: Collector) -> None:
    """An exception thrown into an async generator comes out as the same object."""
    error = KeyError("k")

    async def main() -> None:
        talk = aecho([])
        await anext(talk)
        with pytest.raises(KeyError) as caught:
            await talk.athrow(error)
        assert caught.value is error

    run(main)
    flush()
    assert server.span("aecho").attributes["error.type"] == "KeyError"


def test_forgotten_async_generator(server: Collector) -> None:
    """The event loop closes a dropped async generator, and its span ends."""
    log: list[str] = []

    async def main() -> None:
        async for _ in aecho(log):
            break
        gc.collect()
        await asyncio.sleep(0.01)

    run(main)
    assert log == ["finally"]
    flush()
    assert server.span("aecho")


@pytest.mark.parametrize("pause_s", [None, 0, 0.2])
def test_async_generator_left_at_the_very_end(
    server: Collector, pause_s: float | None
) -> None:
    """Left early as the last act of a program, it has not failed either."""

    @fo.flext_monitor_function("rows")
    async def rows() -> AsyncGenerator[int]:
        try:
            for number in range(3):
                yield number
        finally:
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    async def main() -> None:
        async for _ in rows():
            break

    async def main_and_more() -> None:
        await main()
        await asyncio.sleep(0.01)

    run(main)
    run(main_and_more)
    gc.collect()
    flush()
    assert [span.status for span in server.spans("rows")] == ["unset"] * 2
    assert not server.logs()


def test_async_context_manager_whose_block_was_cancelled(server: Collector) -> None:
    """A cancelled block is told as what it is: somebody stopped the work."""

    @asynccontextmanager
    @fo.flext_monitor_function("hold")
    async def hold() -> AsyncGenerator[None]:
        yield

    async def block() -> None:
        async with hold():
            await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    flush()
    assert server.span("hold").attributes["error.type"] == "CancelledError"


def test_async_context_only_while_running(server: Collector) -> None:
    """The span is current inside the async generator, never in its consumer."""

    @fo.flext_monitor_function("agen")
    async def agen() -> AsyncGenerator[int]:
        for number in range(3):
            with fo.flext_span(f"step {number}"):
                await asyncio.sleep(0)
            yield number

    async def main() -> None:
        with fo.flext_span("consumer"):
            consumer = current_span_id()
            async for number in agen():
                assert current_span_id() == consumer
                with fo.flext_span(f"use {number}"):
                    await asyncio.sleep(0)

    run(main)
    flush()
    span, consumer = server.span("agen"), server.span("consumer")
    assert span.parent_span_id == consumer.span_id
    for number in range(3):
        assert server.span(f"step {number}").parent_span_id == span.span_id
        assert server.span(f"use {number}").parent_span_id == consumer.span_id


def test_cancelled_async_generator(server: Collector) -> None:
    """Cancellation inside an async generator is recorded as what it is."""

    @fo.flext_monitor_function("slow")
    async def slow() -> AsyncGenerator[int]:
        yield 1
        await asyncio.sleep(30)

    async def consume() -> None:
        async for _ in slow():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    flush()
    assert server.span("slow").attributes["error.type"] == "CancelledError"


def test_concurrent_async_generators(server: Collector) -> None:
    """Async generators of concurrent tasks keep apart."""

    @fo.flext_monitor_function("agen")
    async def agen(name: str) -> AsyncGenerator[None]:
        for number in range(5):
            with fo.flext_span(f"{name} {number}"):
                await asyncio.sleep(0)
                yield

    async def consume(name: str) -> None:
        async for _ in agen(name):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(consume(name) for name in "abc"))

    run(main)
    flush()
    assert len(server.spans("agen")) == 3
    for name in "abc":
        assert len({server.span(f"{name} {n}").parent_span_id for n in range(5)}) == 1
