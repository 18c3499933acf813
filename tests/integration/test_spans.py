"""Spans made by hand: flext_span and flext_add_attributes."""

import asyncio
import decimal
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start


def test_span(collector: Collector) -> None:
    """A block is a span with attributes, given at once or on the way."""
    start(collector)
    with fo.flext_span("load", attributes={"rows": 3, "ok": True}) as span:
        span.set_attribute("ratio", 0.5)
        span.add_event("half", {"n": 1})
        fo.flext_add_attributes(user_id="u1")
    flush()
    seen = collector.span("load")
    assert seen.attributes == {"rows": 3, "ok": True, "ratio": 0.5, "user_id": "u1"}
    assert seen.event("half").attributes == {"n": 1}
    assert seen.kind == "internal"
    assert seen.status == "unset"


def test_async_span(server: Collector) -> None:
    """``async with`` is the same span."""

    async def main() -> None:
        async with fo.flext_span("load", attributes={"a": 1}) as span:
            await asyncio.sleep(0)
            span.set_attribute("b", 2)

    asyncio.run(main())
    flush()
    assert server.span("load").attributes == {"a": 1, "b": 2}


def test_nesting(server: Collector) -> None:
    """Blocks and monitored calls nest into one tree, and end where they should."""

    @fo.flext_monitor_function("call")
    def call() -> None:
        with fo.flext_span("in call"):
            pass

    with fo.flext_span("root"), fo.flext_span("child"):
        call()
    assert not trace.get_current_span().get_span_context().is_valid
    flush()
    chain = [server.span(name) for name in ("root", "child", "call", "in call")]
    assert len({span.trace_id for span in chain}) == 1
    assert [span.parent_span_id for span in chain] == [
        "",
        *(span.span_id for span in chain[:3]),
    ]


def test_exception_passes(server: Collector) -> None:
    """An exception leaves the block unchanged and fails the span."""
    error = RuntimeError("boom")
    with pytest.raises(RuntimeError) as caught, fo.flext_span("bad"):
        raise error
    assert caught.value is error
    flush()
    span = server.span("bad")
    assert span.status == "error"
    assert span.attributes["error.type"] == "RuntimeError"
    assert span.event("exception").attributes["exception.message"] == "boom"


def test_cancelled_block(server: Collector) -> None:
    """Cancellation inside a block is recorded as what it is."""

    async def work() -> None:
        async with fo.flext_span("wait"):
            await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    flush()
    assert server.span("wait").attributes["error.type"] == "CancelledError"


def test_status_set_by_the_user_stays(server: Collector) -> None:
    """What the user says about the outcome is what arrives."""
    with fo.flext_span("fine") as span:
        span.set_status(trace.StatusCode.OK)
    with fo.flext_span("wrong") as span:
        span.set_status(trace.StatusCode.ERROR, "half done")
    flush()
    assert server.span("fine").status == "ok"
    assert server.span("wrong").status == "error"
    assert server.span("wrong").status_message == "half done"


def test_add_attributes_without_a_span(server: Collector) -> None:
    """Outside any span, attributes go nowhere, quietly."""
    fo.flext_add_attributes(a=1)
    flush()
    assert not server.requests("traces")


def test_tasks_keep_apart(server: Collector) -> None:
    """Concurrent tasks each have their own current span."""

    async def work(name: str) -> None:
        async with fo.flext_span(name):
            for _ in range(5):
                await asyncio.sleep(0)
            with fo.flext_span(f"{name} child"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work(name) for name in "abcd"))

    asyncio.run(main())
    flush()
    for name in "abcd":
        parent = server.span(name)
        assert parent.parent_span_id == ""
        assert server.span(f"{name} child").parent_span_id == parent.span_id


@pytest.mark.parametrize("way", ["pool", "to_thread", "run_in_executor"])
def test_context_crosses_threads(server: Collector, way: str) -> None:
    """A monitored call handed to a thread is a child of the call that handed it."""

    @fo.flext_monitor_function("work")
    def work(n: int) -> str:
        assert n == 1
        return fo.flext_get_correlation_id()

    @fo.flext_monitor_function("caller")
    async def caller() -> str:
        if way == "to_thread":
            return await asyncio.to_thread(work, 1)
        with ThreadPoolExecutor(1) as pool:
            if way == "pool":
                return pool.submit(work, 1).result()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, work, 1)

    with fo.flext_correlation_scope("req-1"):
        assert asyncio.run(caller()) == "req-1"
    flush()
    assert server.span("work").parent_span_id == server.span("caller").span_id
    assert server.span("work").attributes["correlation.id"] == "req-1"


def test_pool_map_carries_context(server: Collector) -> None:
    """``map`` of a pool carries the context like ``submit``, and nothing sticks."""

    @fo.flext_monitor_function("work")
    def work(n: int) -> int:
        return n

    with ThreadPoolExecutor(2) as pool:
        with fo.flext_span("caller"):
            assert list(pool.map(work, range(6))) == list(range(6))
        pool.submit(work, 7).result()
    flush()
    parents = [span.parent_span_id for span in server.spans("work")]
    assert sorted(parents) == ["", *[server.span("caller").span_id] * 6]


connection: ContextVar[str] = ContextVar("connection", default="none")
jobs_done: ContextVar[int] = ContextVar("jobs_done", default=0)


def prepare_worker() -> None:
    connection.set("of this worker")
    decimal.getcontext().prec = 5


def job() -> tuple[str, str, int]:
    jobs_done.set(jobs_done.get() + 1)
    return connection.get(), str(decimal.Decimal(2) / 3), jobs_done.get()


def test_a_worker_keeps_what_is_its_own(server: Collector) -> None:
    """What an initializer sets and what a job leaves is there, as without us."""

    def results(function: Callable[[], tuple[str, str, int]]) -> list[object]:
        with ThreadPoolExecutor(1, initializer=prepare_worker) as pool:
            return [pool.submit(function).result() for _ in range(2)]

    plain = results(job)
    connection.set("of the submitter")
    with fo.flext_span("caller"):
        assert results(fo.flext_monitor_function("job")(job)) == plain
    assert plain == [("of this worker", "0.66667", n) for n in (1, 2)]
    flush()
    caller = server.span("caller").span_id
    assert [span.parent_span_id for span in server.spans("job")] == [caller] * 2


def test_what_travels_into_a_pool_leaves_it_again(server: Collector) -> None:
    """A job has its submitter's baggage, id and attributes; the next one has none."""

    def seen() -> tuple[object, str, bool]:
        is_in_span = trace.get_current_span().get_span_context().is_valid
        return baggage.get_baggage("tenant"), fo.flext_get_correlation_id(), is_in_span

    @fo.flext_monitor_function("careless")
    def careless() -> None:
        assert seen() == ("acme", "req-1", True)
        fo.get_logger("shop").warning("inside")
        fo.flext_set_correlation_id("left-behind")
        attach(baggage.set_baggage("tenant", "left behind"))
        raise LookupError

    monitor = fo.FlextObservabilityMonitor()
    with ThreadPoolExecutor(1) as pool:
        with (
            monitor.context(region="eu"),
            fo.flext_correlation_scope("req-1"),
            fo.flext_span("caller"),
        ):
            attach(baggage.set_baggage("tenant", "acme"))
            with pytest.raises(LookupError):
                pool.submit(careless).result()
            assert seen() == ("acme", "req-1", True)
        assert pool.submit(seen).result() == (None, "", False)
    flush()
    span = server.span("careless")
    assert span.parent_span_id == server.span("caller").span_id
    assert span.attributes["region"] == "eu"
    assert span.attributes["correlation.id"] == "req-1"


def test_executor_behaves_as_ever() -> None:
    """Pools give the same results and errors as without the library."""

    def add(a: int, *, b: int) -> int:
        return a + b

    def fail() -> None:
        raise LookupError(3)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(add, 1, b=2).result() == 3
        with pytest.raises(LookupError):
            pool.submit(fail).result()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(fail)


def test_ids_do_not_depend_on_the_programs_random_numbers(server: Collector) -> None:
    """A program may seed them: ids stay apart, and what it draws stays the same."""
    drawn: list[float] = []
    for _ in range(2):
        random.seed(7)
        with (
            fo.flext_span("load"),
            trace.get_tracer("other").start_as_current_span("x"),
        ):
            drawn.append(random.random())  # noqa: S311 - what the program draws
    flush()
    assert drawn[0] == drawn[1] == random.Random(7).random()  # noqa: S311 - as above
    traces = {span.trace_id for span in server.spans()}
    ids = [span.span_id for span in server.spans()]
    assert len(traces) == 2
    assert len(set(ids)) == len(ids) == 4
