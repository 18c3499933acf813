"""What flext_monitor_function sends about functions, methods and coroutines."""

import asyncio
import contextlib
import functools
import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace

import flext_observability as fo
from tests.fixtures.collector import Collector, Log, Point
from tests.fixtures.library import flush, start

SECONDS_LADDER = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)


def duration_of(server: Collector, operation: str, **more: object) -> Point:
    return server.metric(
        "flext.operation.duration", flext_operation_name=operation, **more
    )


def error_logs(server: Collector) -> list[Log]:
    return [log for log in server.logs() if log.severity_number == 17]


def test_function(collector: Collector) -> None:
    """A monitored function is a span with its place in the code, and a duration."""
    start(collector)

    @fo.flext_monitor_function("place_order")
    def place(number: int) -> int:
        time.sleep(0.02)
        return number * 2

    assert place(21) == 42
    flush()

    span = collector.span("place_order")
    assert span.kind == "internal"
    assert span.status in ("unset", "ok")
    assert span.parent_span_id == ""
    assert span.attributes["code.function.name"] == f"{__name__}.{place.__qualname__}"
    assert span.attributes["code.file.path"] == __file__
    line = inspect.unwrap(place).__code__.co_firstlineno
    assert span.attributes["code.line.number"] == line
    assert "correlation.id" not in span.attributes
    assert span.end_ns - span.start_ns >= 20_000_000
    point = duration_of(collector, "place_order")
    assert point.kind == "histogram"
    assert point.unit == "s"
    assert point.count == 1
    assert 0.02 <= point.value < 1
    assert point.bounds == SECONDS_LADDER
    assert "error.type" not in point.attributes
    assert not error_logs(collector)


@pytest.mark.parametrize("form", ["bare", "called", "keyword"])
def test_name_of_the_function(server: Collector, form: str) -> None:
    """Without a name the operation is the qualified name, less ``<locals>``."""

    def work() -> None: ...

    monitored = {
        "bare": lambda: fo.flext_monitor_function(work),
        "called": lambda: fo.flext_monitor_function()(work),
        "keyword": lambda: fo.flext_monitor_function(kind="server")(work),
    }[form]()
    monitored()
    flush()
    span = server.span("test_name_of_the_function.work")
    assert span.kind == ("server" if form == "keyword" else "internal")


@pytest.mark.parametrize(
    "kind", ["internal", "server", "client", "producer", "consumer"]
)
def test_kinds(server: Collector, kind: str) -> None:
    """The span has the kind that was asked for."""

    @fo.flext_monitor_function("work", kind=kind)
    def work() -> None: ...

    work()
    flush()
    assert server.span("work").kind == kind


def test_coroutine(server: Collector) -> None:
    """The span of a coroutine lasts until it has been awaited to its end."""

    @fo.flext_monitor_function("fetch")
    async def fetch(delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return "done"

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(fetch(0.03)) == "done"
    flush()
    span = server.span("fetch")
    assert span.end_ns - span.start_ns >= 30_000_000
    assert duration_of(server, "fetch").value >= 0.03


def test_methods(server: Collector) -> None:
    """Methods of every kind keep their nature and know their qualified name."""

    class Shop:
        @fo.flext_monitor_function
        def plain(self) -> str:
            return type(self).__name__

        @classmethod
        @fo.flext_monitor_function
        def of_class(cls) -> str:
            return cls.__name__

        @staticmethod
        @fo.flext_monitor_function
        def static() -> str:
            return "static"

        @fo.flext_monitor_function
        @classmethod
        def class_inside(cls) -> str:
            return cls.__name__

        @fo.flext_monitor_function
        @staticmethod
        def static_inside() -> str:
            return "static"

        @fo.flext_monitor_function
        async def later(self) -> str:
            return type(self).__name__

    shop = Shop()
    assert shop.plain() == Shop.plain(shop) == "Shop"
    assert Shop.of_class() == shop.of_class() == "Shop"
    assert Shop.static() == shop.static() == "static"
    assert Shop.class_inside() == shop.class_inside() == "Shop"
    assert Shop.static_inside() == shop.static_inside() == "static"
    assert asyncio.run(shop.later()) == "Shop"
    flush()
    names = sorted({span.name for span in server.spans()})
    prefix = "test_methods.Shop."
    assert names == [
        prefix + name
        for name in (
            *("class_inside", "later", "of_class", "plain", "static"),
            "static_inside",
        )
    ]
    assert len(server.spans()) == 11


def test_looks_like_the_original() -> None:
    """Signature, name, documentation, module and the function inside stay visible."""

    def original(a: int, *, b: str = "x") -> float:
        """Doc."""
        return len(b) / a

    original.mark = 1  # type: ignore[attr-defined]
    monitored = fo.flext_monitor_function("m")(original)
    assert inspect.signature(monitored) == inspect.signature(original)
    assert monitored.__wrapped__ is original  # type: ignore[attr-defined]
    assert monitored.__name__ == "original"
    assert monitored.__doc__ == "Doc."
    assert monitored.__module__ == __name__
    assert monitored.__qualname__ == original.__qualname__
    assert monitored.mark == 1  # type: ignore[attr-defined]
    assert inspect.isfunction(monitored)
    assert monitored(2, b="abc") == 1.5


def test_arguments_pass_as_they_are() -> None:
    """Positional, keyword, starred arguments and defaults reach the function."""

    @fo.flext_monitor_function(capture_args=("a", "missing"))
    def work(
        a: int, /, b: int = 2, *args: int, operation_name: str = "o", **kwargs: int
    ) -> Any:
        return a, b, args, operation_name, kwargs

    assert work(1) == (1, 2, (), "o", {})
    assert work(1, 3, 4, operation_name="p", func=5, self=6) == (
        1,
        3,
        (4,),
        "p",
        {"func": 5, "self": 6},
    )
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        work()  # type: ignore[call-arg]


def test_failure(server: Collector) -> None:
    """A failure is on the span, in the histogram and in one log record, joined."""
    error = ValueError("no stock")

    @fo.flext_monitor_function("reserve")
    def reserve() -> None:
        raise error

    with pytest.raises(ValueError, match="no stock") as caught:
        reserve()
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    flush()

    span = server.span("reserve")
    assert span.status == "error"
    assert "no stock" in span.status_message
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["flext.error.category"] == "validation"
    event = span.event("exception")
    assert event.attributes["exception.type"].endswith("ValueError")
    assert event.attributes["exception.message"] == "no stock"
    trace_text = event.attributes["exception.stacktrace"]
    assert "raise error" in trace_text
    assert trace_text.rstrip().endswith("ValueError: no stock")

    failed = duration_of(server, "reserve", error_type="ValueError")
    assert failed.count == 1
    (log,) = error_logs(server)
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    assert log.attributes["flext.operation.name"] == "reserve"
    assert log.attributes["error.type"] == "ValueError"
    assert log.attributes["flext.error.category"] == "validation"


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (TimeoutError("t"), "timeout"),
        (ConnectionResetError("c"), "connection"),
        (PermissionError("p"), "permission"),
        (ValueError("v"), "validation"),
        (TypeError("v"), "validation"),
        (RuntimeError("r"), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_error_categories(server: Collector, error: Exception, category: str) -> None:
    """Failures are sorted into coarse categories."""

    @fo.flext_monitor_function("work")
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        work()
    flush()
    assert server.span("work").attributes["flext.error.category"] == category


def test_failing_coroutine(server: Collector) -> None:
    """A coroutine's exception comes through as the same object."""
    error = KeyError("k")

    @fo.flext_monitor_function("fetch")
    async def fetch() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(KeyError) as caught:
        asyncio.run(fetch())
    assert caught.value is error
    flush()
    assert server.span("fetch").status == "error"
    assert server.span("fetch").attributes["error.type"] == "KeyError"
    assert len(error_logs(server)) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_base_exceptions_pass(server: Collector, error: BaseException) -> None:
    """Exit and interrupt pass unchanged and end the span as failed."""

    @fo.flext_monitor_function("work")
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    flush()
    assert server.span("work").attributes["error.type"] == type(error).__name__


def test_cancellation(server: Collector) -> None:
    """A cancelled coroutine is recorded as cancelled, and is cancelled."""

    @fo.flext_monitor_function("wait")
    async def wait() -> None:
        await asyncio.sleep(30)

    async def main() -> bool:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(main())
    flush()
    span = server.span("wait")
    assert span.attributes["error.type"] == "CancelledError"
    assert span.attributes["flext.error.category"] == "cancelled"
    assert duration_of(server, "wait", error_type="CancelledError").count == 1


def test_returned_failure(server: Collector) -> None:
    """A failed FlextResult that is returned counts as an error, and is returned."""
    failure = fo.FlextResult[int].fail("card declined")

    @fo.flext_monitor_function("charge")
    def charge() -> fo.FlextResult[int]:
        return failure

    @fo.flext_monitor_function("charge later")
    async def charge_later() -> fo.FlextResult[int]:
        return failure

    assert charge() is failure
    assert asyncio.run(charge_later()) is failure
    flush()
    for name in ("charge", "charge later"):
        span = server.span(name)
        assert span.status == "error"
        assert "card declined" in span.status_message
        assert span.attributes["error.type"]
        assert duration_of(server, name).attributes["error.type"]
    assert len(error_logs(server)) == 2


def test_returned_success(server: Collector) -> None:
    """A successful FlextResult is no error."""

    @fo.flext_monitor_function("charge")
    def charge() -> fo.FlextResult[int]:
        return fo.FlextResult[int].ok(1)

    assert charge().unwrap() == 1
    flush()
    assert server.span("charge").status != "error"
    assert "error.type" not in duration_of(server, "charge").attributes


def test_record_exception_off(server: Collector) -> None:
    """Without record_exception neither message nor stack is on the span."""

    @fo.flext_monitor_function("work", record_exception=False)
    def work() -> None:
        secret = "card 4111"  # noqa: S105
        raise ValueError(secret)

    with pytest.raises(ValueError, match="4111"):
        work()
    flush()
    span = server.span("work")
    assert span.status == "error"
    assert span.attributes["error.type"] == "ValueError"
    assert span.events == ()
    assert "4111" not in repr(span)


def test_captured_arguments(server: Collector) -> None:
    """Only the arguments on the allow-list are on the span."""

    @fo.flext_monitor_function("pay", capture_args=("amount", "currency"))
    def pay(amount: float, card: str, currency: str = "EUR") -> str:
        return f"{amount}{card}{currency}"

    pay(9.5, card="4111")
    pay(card="4111", amount=3, currency="USD")
    flush()
    first, second = server.spans("pay")
    assert first.attributes["arg.amount"] == 9.5
    assert first.attributes["arg.currency"] == "EUR"
    assert second.attributes["arg.amount"] == 3
    assert second.attributes["arg.currency"] == "USD"
    assert "4111" not in repr((first, second))


def test_no_arguments_by_default(server: Collector) -> None:
    """Nothing of a call is captured unless asked for."""

    @fo.flext_monitor_function("pay")
    def pay(card: str) -> str:
        return card

    pay("4111")
    flush()
    assert not [key for key in server.span("pay").attributes if key.startswith("arg.")]


def test_attributes(server: Collector) -> None:
    """Fixed attributes are on the span and never on metrics."""

    @fo.flext_monitor_function("work", attributes={"tier": "gold", "n": 3})
    def work() -> None:
        fo.flext_add_attributes(order_id="A-1", items=[1, 2])

    work()
    flush()
    attributes = server.span("work").attributes
    assert (attributes["tier"], attributes["n"]) == ("gold", 3)
    assert (attributes["order_id"], attributes["items"]) == ("A-1", [1, 2])
    assert duration_of(server, "work").attributes == {"flext.operation.name": "work"}


def test_metric_name(server: Collector) -> None:
    """The histogram of a function can have a name of its own."""

    @fo.flext_monitor_function("work", metric_name="shop.work.duration")
    def work() -> None: ...

    work()
    flush()
    assert server.metric("shop.work.duration", flext_operation_name="work").count == 1
    assert not server.metrics("flext.operation.duration", flext_operation_name="work")


def test_nested_calls(server: Collector) -> None:
    """Monitored calls inside each other are one trace."""

    @fo.flext_monitor_function("inner")
    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @fo.flext_monitor_function("outer")
    async def outer() -> list[int]:
        return list(await asyncio.gather(*(inner(n) for n in range(5))))

    assert asyncio.run(outer()) == list(range(5))
    flush()
    parent = server.span("outer")
    assert {(span.trace_id, span.parent_span_id) for span in server.spans("inner")} == {
        (parent.trace_id, parent.span_id)
    }
    assert duration_of(server, "inner").count == 5


def test_span_is_current_inside(server: Collector) -> None:
    """Inside the body the span is OTel's current one, and no longer after it."""

    @fo.flext_monitor_function("work")
    def work() -> int:
        trace.get_current_span().set_attribute("by", "api")
        return trace.get_current_span().get_span_context().span_id

    span_id = work()
    assert not trace.get_current_span().get_span_context().is_valid
    flush()
    assert server.span("work").span_id == f"{span_id:016x}"
    assert server.span("work").attributes["by"] == "api"


def test_recursion(server: Collector) -> None:
    """Every level of a recursive function is its own span."""

    @fo.flext_monitor_function("down")
    def down(n: int) -> int:
        return n if n == 0 else down(n - 1)

    down(4)
    flush()
    spans = server.spans("down")
    assert len(spans) == 5
    parents = {span.parent_span_id for span in spans}
    assert parents == {"", *(span.span_id for span in spans)} - {
        max(spans, key=lambda span: span.start_ns).span_id
    }


def test_success_is_logged_at_debug_only(http_collector: Collector) -> None:
    """With log level DEBUG successes leave a debug record too."""
    start(http_collector, log_level="DEBUG")

    @fo.flext_monitor_function("work")
    def work() -> None: ...

    work()
    flush()
    (log,) = [
        log
        for log in http_collector.logs()
        if log.attributes.get("flext.operation.name") == "work"
    ]
    assert log.severity_number == 5
    assert log.span_id == http_collector.span("work").span_id


def test_custom_buckets(http_collector: Collector) -> None:
    """The bounds of the duration histogram can be configured, in seconds."""
    start(http_collector, histogram_buckets_s=[0.5, 1, 30])

    @fo.flext_monitor_function("work")
    def work() -> None: ...

    work()
    flush()
    point = duration_of(http_collector, "work")
    assert point.bounds == (0.5, 1, 30)
    assert point.buckets == (1, 0, 0, 0)


def test_other_callables(server: Collector) -> None:
    """A partial and a builtin can be monitored by name."""
    partial = functools.partial(int, base=2)
    monitored = fo.flext_monitor_function("parse")(partial)
    length = fo.flext_monitor_function("length")(len)
    assert monitored("101") == 5
    assert length([1, 2]) == 2
    flush()
    assert server.span("parse")
    assert server.span("length")


def test_decorated_before_setup(http_collector: Collector) -> None:
    """Functions decorated before setup, and even called, report after it."""

    @fo.flext_monitor_function("early")
    def early() -> None: ...

    early()
    start(http_collector)
    early()
    flush()
    assert http_collector.span("early")
    assert duration_of(http_collector, "early").count == 1


def test_exact_counts_from_many_threads(server: Collector) -> None:
    """Durations are counted exactly, whatever the threads do."""

    @fo.flext_monitor_function("work")
    def work(n: int) -> int:
        if n % 4 == 0:
            raise LookupError(n)
        return n

    def call(n: int) -> None:
        with contextlib.suppress(LookupError):
            work(n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(400)))
    flush()
    good = [
        point
        for point in server.metrics("flext.operation.duration")
        if "error.type" not in point.attributes
    ][-1]
    assert good.count == 300
    assert duration_of(server, "work", error_type="LookupError").count == 100
    assert len(server.spans("work")) == 400


def test_bad_options_never_break_the_function(server: Collector) -> None:
    """Even senseless options leave a function that works."""
    senseless: Any = {
        "operation_name": 123,
        "kind": "sideways",
        "attributes": {1: object()},
        "capture_args": 7,
        "metric_name": object(),
    }

    def work() -> int:
        return 5

    work = fo.flext_monitor_function(**senseless)(work)
    assert work() == 5
    flush()
