"""Any value in any telemetry call: nothing raises, and the neighbours arrive."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.hostile import VALUES
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import run_program

HOSTILE = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


def settle(collector: Collector) -> None:
    """After the hostile call, a plain record of each signal still arrives."""
    with fo.flext_span("neighbour"):
        fo.get_logger("shop").warning("neighbour")
    fo.flext_counter("neighbour").add(1)
    flush()
    assert collector.span("neighbour")
    assert collector.log("neighbour")
    assert collector.metric("neighbour").value == 1
    assert_balanced()


@HOSTILE
def test_attributes_of_spans(server: Collector, value: Any) -> None:
    """As attribute of a span, event or monitored call."""
    with fo.flext_span("hostile", attributes={"bad": value, "good": 1}) as span:
        span.set_attribute("later", value)
        span.set_attributes({"more": value, "fine": 2})
        span.add_event("event", {"bad": value})
        fo.flext_add_attributes(added=value, plain=3)

    @fo.flext_monitor_function(
        "monitored", attributes={"bad": value}, capture_args=("argument",)
    )
    def monitored(argument: Any) -> Any:
        return argument

    assert monitored(value) is value
    settle(server)
    attributes = server.span("hostile").attributes
    assert (attributes["good"], attributes["fine"], attributes["plain"]) == (1, 2, 3)
    assert server.span("monitored")


@HOSTILE
def test_names(server: Collector, value: Any) -> None:
    """As name of a span, instrument, logger or operation, and as key."""
    with fo.flext_span(value):
        pass
    with fo.flext_span("keys", attributes={"good": 1}) as span:
        span.set_attribute(value, 1)

    if not callable(value):  # Something callable would be the decorated function.

        def monitored() -> int:
            return 3

        assert fo.flext_monitor_function(value)(monitored)() == 3
    fo.flext_counter(value).add(1)
    fo.flext_histogram(value, unit=value, description=value).record(1)
    fo.flext_gauge(value).set(1)
    fo.get_logger(value).warning("from a hostile logger")
    fo.FlextStructuredLogger(value).warning("from a hostile logger")
    settle(server)
    assert server.span("keys").attributes["good"] == 1


@HOSTILE
def test_metrics(server: Collector, value: Any) -> None:
    """As amount, label, unit or tag of a metric."""
    fo.flext_counter("a").add(value)
    fo.flext_counter("a").add(1, {"bad": value})
    fo.flext_counter("a").add(1, value)
    fo.flext_histogram("b").record(value, {"bad": value})
    fo.flext_gauge("c").set(value, {"bad": value})
    for made in (
        fo.flext_create_metric("d", value),
        fo.flext_create_metric(value, 1),
        fo.flext_create_metric("e", 1, value),
        fo.flext_create_metric("f", 1, tags={"bad": value}),
        fo.flext_create_metric("g", 1, tags=value),
        fo.flext_create_metric("h", 1, metric_type=value),
    ):
        assert isinstance(made, fo.FlextResult)
        assert made.success or made.error
    settle(server)


@HOSTILE
def test_logs(server: Collector, value: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """As message, argument or context of a log line or entry."""
    log = fo.get_logger("x")
    log.warning(value)
    log.warning("%s", value)
    log.warning("context", bad=value)
    structured = fo.FlextStructuredLogger("x")
    assert isinstance(structured.warning(value), fo.FlextResult)
    assert isinstance(structured.bind(bad=value).error("bound"), fo.FlextResult)
    logging.getLogger("std").warning("extra", extra={"bad": value})
    for made in (
        fo.flext_create_log_entry("info", value),
        fo.flext_create_log_entry(value, "x"),
        fo.flext_create_log_entry("info", "entry", {"bad": value, "good": 1}),
        fo.flext_create_log_entry("info", "entry", value),
        fo.flext_create_log_entry("info", "entry", None, value),
    ):
        assert isinstance(made, fo.FlextResult)
    capfd.readouterr()
    settle(server)
    assert server.log("context")
    assert server.log("bound")
    assert server.log("extra")


@HOSTILE
def test_correlation(server: Collector, value: Any) -> None:
    """As correlation id or header."""
    fo.flext_set_correlation_id(value)
    assert fo.flext_get_correlation_id()
    with fo.flext_correlation_scope(value):
        pass
    with fo.flext_extract_headers(value):
        pass
    with fo.flext_extract_headers({"traceparent": value, "x-correlation-id": value}):
        pass
    assert isinstance(fo.flext_inject_headers(value), fo.FlextResult)
    assert isinstance(fo.flext_inject_headers({"a": value}), fo.FlextResult)
    settle(server)


@HOSTILE
@pytest.mark.parametrize(
    "call",
    [fo.flush, fo.shutdown, fo.setup],
    ids=["flush", "shutdown", "setup"],
)
def test_life(
    http_collector: Collector, call: Callable[[Any], Any], value: Any
) -> None:
    """As argument of setup, flush and shutdown."""
    start(http_collector)
    if isinstance(value, float | int) and call is fo.flush:
        value = -abs(value)
    assert isinstance(call(value), fo.FlextResult)


@pytest.mark.parametrize(
    "field", ["endpoint", "headers", "resource_attributes", "sample_ratio", "views"]
)
@HOSTILE
def test_settings(field: str, value: Any) -> None:
    """As any setting."""
    fields: dict[str, Any] = {field: value, "exporters": ["none"]}
    assert isinstance(fo.setup("shop", **fields), fo.FlextResult)


def test_exceptions_with_a_hostile_text(server: Collector) -> None:
    """An exception whose text raises is still recorded and re-raised unchanged."""

    class NastyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    error = NastyError()

    @fo.flext_monitor_function("work")
    def work() -> None:
        raise error

    with pytest.raises(NastyError) as caught:
        work()
    assert caught.value is error
    with pytest.raises(NastyError), fo.flext_span("block"):
        raise error
    settle(server)
    assert server.span("work").attributes["error.type"] == "NastyError"
    assert server.span("block").attributes["error.type"] == "NastyError"


def test_deep_recursion(server: Collector) -> None:
    """A RecursionError of the user's comes through as such."""

    @fo.flext_monitor_function("down")
    def down() -> None:
        down()

    with pytest.raises(RecursionError):
        down()
    flush()
    assert server.spans("down")


def test_nothing_is_printed_at_the_recursion_limit() -> None:
    """Whatever of ours fails half-way there, nothing is printed about it."""
    ended = run_program(
        """
        import sys
        import flext_observability as fo

        fo.setup("shop", exporters=["memory"]).unwrap()
        sys.setrecursionlimit(200)

        def above(levels, call):
            above(levels - 1, call) if levels else call()

        for levels in range(12):  # the limit comes at another place each time

            @fo.flext_monitor_function(f"down{levels}")
            def down():
                down()

            try:
                above(levels, down)
            except RecursionError:
                pass
        """
    ).ok()
    assert ended.stderr == ""
