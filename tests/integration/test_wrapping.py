"""What stays as it was when a function, block or value passes through the library."""

import asyncio
import contextvars
import functools
import json
import pickle
import time
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

import flext_observability as fo

Handle = fo.FlextObservability


@pytest.fixture
def handle() -> Handle:
    """The library, with everything kept in memory."""
    return fo.setup("shop", exporters=["memory"], log_level="DEBUG").unwrap()


def spans(handle: Handle) -> list[ReadableSpan]:
    """The finished spans in order."""
    assert handle.memory is not None
    return list(handle.memory.spans)


def only(handle: Handle) -> ReadableSpan:
    """The only finished span."""
    (span,) = spans(handle)
    return span


def names(handle: Handle) -> list[str]:
    """Names of the finished spans in order."""
    return [span.name for span in spans(handle)]


def assert_nothing_current() -> None:
    """No span stays current when all calls are over."""
    assert trace.get_current_span() is trace.INVALID_SPAN


class Basket:
    """A class with monitored properties."""

    def __init__(self) -> None:
        self.items = [1, 2]

    @fo.flext_monitor_function  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        """How many."""
        return len(self.items)

    @fo.flext_monitor_function("total")  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return sum(self.items)

    @total.setter
    def total(self, value: int) -> None:
        self.items = [value]

    @fo.flext_monitor_function  # type: ignore[prop-decorator]
    @functools.cached_property
    def dear(self) -> list[int]:
        return [item for item in self.items if item > 1]


def test_property(handle: Handle) -> None:
    """A monitored property reads as before, with its text, one span for each read."""
    basket: Any = Basket()
    assert (basket.size, basket.total) == (2, 3)
    assert names(handle) == ["Basket.size", "total"]
    size: Any = vars(Basket)["size"]
    assert size.__doc__ == "How many."
    basket.total = 7
    assert basket.total == 7
    with pytest.raises(AttributeError):
        basket.size = 3


def test_cached_property(handle: Handle) -> None:
    """A monitored cached property is computed, and recorded, once."""
    basket: Any = Basket()
    assert basket.dear == [2]
    assert basket.dear is basket.dear
    assert names(handle) == ["Basket.dear"]


def test_awaitable_generator(handle: Handle) -> None:
    """A generator that may be awaited may be awaited still."""

    @fo.flext_monitor_function("answer")
    @types.coroutine
    def answer() -> Generator[None, None, int]:
        yield
        return 42

    async def main() -> int:
        value: int = await answer()
        return value

    assert asyncio.run(main()) == 42
    assert only(handle).name == "answer"
    assert_nothing_current()


def price(amount: int, rate: int = 2) -> int:
    """Stand in the module as it is, so that pickle finds it."""
    return amount * rate


def sent_by_value(function: Any) -> Any:
    """Give what joblib makes of a function of a main module in another process.

    The code is taken as it is, and all that stands in the closure is pickled.
    """
    kept = [cell.cell_contents for cell in function.__closure__]
    loaded = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own
    closure = tuple(types.CellType(found) for found in loaded)
    return types.FunctionType(function.__code__, function.__globals__, closure=closure)


@pytest.mark.parametrize("is_running", [True, False])
def test_function_sent_by_value(*, is_running: bool) -> None:
    """A monitored function can be pickled by value; the copy records its calls."""
    if is_running:
        fo.setup("shop", exporters=["memory"])
    metric = f"price_{is_running}"
    monitored = fo.flext_monitor_function(
        "price",
        metric_name=metric,
        capture_args=["amount", "rate"],
        attributes={"currency": "EUR"},
        kind="client",
    )(price)
    copied = sent_by_value(monitored)
    fo.shutdown()
    assert copied(2) == 4  # only counted
    handle = fo.setup("shop", exporters=["memory"]).unwrap()
    assert copied(3) == 6
    assert monitored(4) == 8
    first, second = spans(handle)
    assert dict(first.attributes or {}) == {
        **dict(second.attributes or {}),
        "arg.amount": 3,
    }
    assert (first.attributes or {})["currency"] == "EUR"
    assert (first.name, first.kind) == ("price", trace.SpanKind.CLIENT)
    text = fo.FlextMetricsService().export_prometheus_format().unwrap()
    assert f'{metric}_count{{flext_operation_name="price"}} 3.0' in text


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator"])
def test_kinds_sent_by_value(handle: Handle, kind: str) -> None:
    """So can coroutine functions and generators, with calls that were counted."""
    functions: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "function": (price, lambda call: call),
        "coroutine": (price_later, asyncio.run),
        "generator": (prices, list),
    }
    function, run = functions[kind]
    monitored = fo.flext_monitor_function("price")(function)
    run(monitored(1))
    copied = sent_by_value(monitored)
    run(copied(1))
    assert names(handle) == ["price", "price"]


async def price_later(amount: int) -> int:
    """Stand in the module as it is, so that pickle finds it."""
    return amount


def prices(amount: int) -> Iterator[int]:
    """Stand in the module as it is, so that pickle finds it."""
    yield amount


class Greeter:
    """An object whose calls are coroutines."""

    async def __call__(self, name: str) -> str:
        await asyncio.sleep(0.05)
        if not name:
            raise ValueError("nobody")
        return f"hello {name}"


def test_async_call(handle: Handle) -> None:
    """The span of an object with ``async def __call__`` lasts until it is awaited."""
    greet: Any = fo.flext_monitor_function("greet")(Greeter())
    assert asyncio.run(greet("Ann")) == "hello Ann"
    span = only(handle)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= 45e6
    with pytest.raises(ValueError, match="nobody"):
        asyncio.run(greet(""))
    assert spans(handle)[-1].status.status_code.name == "ERROR"


class Thing:
    """Something to refer to."""


class Lazy:
    """Says it is of another class and loads for it, as lazy objects of Django do."""

    loaded = 0

    @property
    def __class__(self) -> Any:
        type(self).loaded += 1
        return Thing

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


def test_lazy_value(handle: Handle) -> None:
    """A lazy value that is returned is handed on unloaded."""
    lazy = Lazy()

    @fo.flext_monitor_function("get")
    def get() -> object:
        return lazy

    assert get() is lazy
    assert Lazy.loaded == 0
    assert only(handle).name == "get"


@pytest.mark.parametrize("is_running", [True, False])
def test_dead_reference(handle: Handle, *, is_running: bool) -> None:
    """A proxy of what is gone is a value like any other."""
    if not is_running:
        fo.shutdown()

    @fo.flext_monitor_function("dead")
    def dead() -> Any:
        return weakref.proxy(Thing())

    assert type(dead()) is weakref.ProxyType
    assert_nothing_current()
    if is_running:
        assert only(handle).status.status_code.name == "UNSET"


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Let the loop, or the test, have the next step."""
    yield


def test_closed_coroutine(handle: Handle) -> None:
    """A coroutine that is closed early is no failure: no error, no log line."""

    @fo.flext_monitor_function("work")
    async def work() -> None:
        with fo.flext_span("inside"):
            await pause()

    work().close()  # never started: nothing to record
    running = work()
    running.send(None)
    running.close()
    assert names(handle) == ["inside", "work"]
    assert {span.status.status_code.name for span in spans(handle)} == {"UNSET"}
    assert [span.events for span in spans(handle)] == [(), ()]
    assert handle.memory is not None
    assert not [r for r in handle.memory.logs if "failed" in str(r.log_record.body)]
    assert_nothing_current()


def test_async_generators_at_the_end_of_a_loop(handle: Handle) -> None:
    """A loop that ends closes monitored async generators as plain ones: quietly."""
    done: list[int] = []
    said: list[Any] = []

    @fo.flext_monitor_function("ticks")
    async def ticks(number: int) -> AsyncGenerator[int]:
        try:
            while True:
                yield number
        finally:
            await asyncio.sleep(0.01)
            done.append(number)

    kept: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: said.append(context))
        for number in range(6):
            iterator = ticks(number)
            assert await anext(iterator) == number
            kept.append(iterator)

    asyncio.run(main())
    assert said == []
    assert sorted(done) == list(range(6))
    assert names(handle) == ["ticks"] * 6
    assert {span.status.status_code.name for span in spans(handle)} == {"UNSET"}


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_wrong_arguments_of_a_generator(handle: Handle, kind: str) -> None:
    """Wrong arguments raise the function's own TypeError; nothing is recorded."""

    @fo.flext_monitor_function
    def plain(a: int) -> Iterator[int]:
        yield a

    @fo.flext_monitor_function
    async def other(a: int) -> AsyncGenerator[int]:
        yield a

    async def first() -> None:
        await anext(wrong_async())

    wrong: Any = plain
    wrong_async: Any = other
    first_step: dict[str, Callable[[], object]] = {
        "generator": lambda: next(wrong()),
        "async generator": lambda: asyncio.run(first()),
    }
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        first_step[kind]()
    assert spans(handle) == []
    assert_nothing_current()


def test_reentered_span(handle: Handle) -> None:
    """A span object entered inside itself makes two spans, one within the other."""
    block = fo.flext_span("block")
    with block, block:
        inner = trace.get_current_span().get_span_context().span_id
    first, second = spans(handle)
    assert first.context is not None
    assert first.parent is not None
    assert second.context is not None
    assert first.context.span_id == inner
    assert first.parent.span_id == second.context.span_id
    assert_nothing_current()


def test_span_object_used_again(handle: Handle) -> None:
    """A span object used twice, one after the other, makes two spans."""
    block = fo.flext_span("block", {"n": 1})
    for _ in range(2):
        with block as span:
            assert span.is_recording()
    assert names(handle) == ["block", "block"]
    assert [dict(span.attributes or {}) for span in spans(handle)] == [{"n": 1}] * 2


def test_generator_stepped_in_many_contexts(handle: Handle) -> None:
    """Each step in a context of its own, as thread pools take them: the tree holds."""

    @fo.flext_monitor_function("rows")
    def rows() -> Iterator[int]:
        for number in range(3):
            with fo.flext_span(f"row {number}"):
                yield number

    iterator = rows()
    for _ in range(4):
        contextvars.copy_context().run(next, iterator, None)
    *inner, outer = spans(handle)
    assert [span.name for span in inner] == ["row 0", "row 1", "row 2"]
    assert outer.name == "rows"
    assert outer.context is not None
    assert {span.parent and span.parent.span_id for span in inner} == {
        outer.context.span_id
    }
    assert_nothing_current()


def deep(level: int) -> None:
    """Raise far down, with different lines so that Python's text folds no frames."""
    steps: list[Callable[[], None]] = [
        lambda: deep(level - 1),
        lambda: deep(level - 1),
    ]
    if not level:
        raise ValueError("the reason at the very end")
    steps[level % 2]()


@pytest.mark.parametrize("is_chained", [False, True])
def test_long_stack(handle: Handle, *, is_chained: bool) -> None:
    """The recorded stack of a deep failure keeps its end: where and what it was."""

    @fo.flext_monitor_function
    def top() -> None:
        try:
            deep(200)
        except ValueError as error:
            if is_chained:
                raise RuntimeError("the final one") from error
            raise

    with pytest.raises((ValueError, RuntimeError)):
        top()
    (event,) = only(handle).events
    stack = str((event.attributes or {})["exception.stacktrace"])
    last = "the final one" if is_chained else "the reason at the very end"
    assert last in stack.splitlines()[-1]


def test_loggers_take_a_message_keyword(
    handle: Handle, capfd: pytest.CaptureFixture[str]
) -> None:
    """``message`` and ``self`` are names for data like any other."""
    fo.get_logger("shop").error("failed", message="boom", self=1)
    bound = fo.FlextStructuredLogger("shop").bind(self=1, message="bound")
    assert bound.error("failed too").success
    fo.get_logger("shop").info("%(n)s items", {"n": 3})
    assert handle.memory is not None
    records = [record.log_record for record in handle.memory.logs]
    assert [r.body for r in records] == ["failed", "failed too", "3 items"]
    assert dict(records[0].attributes or {})["message"] == "boom"
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["failed", "failed too", "3 items"]
    assert "self" in lines[0]


def test_overhead_of_a_stack_is_bounded(handle: Handle) -> None:
    """A failure out of the deepest recursion is recorded soon."""

    @fo.flext_monitor_function
    def top() -> None:
        deep(300)

    started = time.monotonic()
    with pytest.raises(ValueError, match="the reason"):
        top()
    assert time.monotonic() - started < 5
    (event,) = only(handle).events
    assert len(str((event.attributes or {})["exception.stacktrace"])) < 40_000
