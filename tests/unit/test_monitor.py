"""The monitor and the collector of figures."""

import asyncio
import contextvars
import itertools
import sys
import threading
import time
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

import flext_observability as fo


@pytest.fixture
def monitor() -> fo.FlextObservabilityMonitor:
    """A monitor on a container of its own."""
    return fo.FlextObservabilityMonitor("billing", container=fo.FlextContainer())


def memory() -> Any:
    """Set up with everything kept in memory."""
    return fo.setup("shop", exporters=["memory"], log_level="DEBUG").unwrap().memory


def wait_for(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- in its name ----------------------------------------------------------------------


def test_function(monitor: fo.FlextObservabilityMonitor) -> None:
    """The span carries the service and the options; bare and called forms work."""
    kept = memory()

    @monitor.function("invoice", attributes={"team": "a", "service": "other"})
    def invoice(number: int) -> int:
        return number

    @monitor.function
    async def later() -> str:
        return "x"

    @monitor.function()
    def plain() -> None: ...

    assert invoice(3) == 3
    assert asyncio.run(later()) == "x"
    plain()
    spans = {span.name: dict(span.attributes or {}) for span in kept.spans}
    assert spans["invoice"]["service"] == "billing"
    assert spans["invoice"]["team"] == "a"
    assert all(span["service"] == "billing" for span in spans.values())
    assert len(spans) == 3
    figures = monitor.health_status().unwrap()["monitor_metrics"]
    assert figures["functions_monitored"] == 3


def test_context(monitor: fo.FlextObservabilityMonitor) -> None:
    """Spans and log records begun inside carry it; nothing outside does."""
    kept = memory()
    log = fo.get_logger("app")

    async def task() -> None:
        with fo.flext_span("task"):
            log.info("in task")

    def thread() -> None:
        with fo.flext_span("thread"):
            log.info("in thread")

    with monitor.context(tenant="t1", rows=3):
        asyncio.run(task())
        context = contextvars.copy_context()
        running = threading.Thread(target=context.run, args=(thread,))
        running.start()
        running.join()
        with monitor.context(tenant="t2"), fo.flext_span("inner", {"rows": 4}):
            pass
        with fo.flext_span("again"):
            pass
    with fo.flext_span("outside"):
        log.info("outside")

    spans = {span.name: dict(span.attributes or {}) for span in kept.spans}
    for name in ("task", "thread", "again"):
        assert spans[name]["tenant"] == "t1"
        assert spans[name]["service"] == "billing"
    assert (spans["inner"]["tenant"], spans["inner"]["rows"]) == ("t2", 4)
    assert not {"tenant", "service"} & set(spans["outside"])
    logs = {
        str(each.log_record.body): dict(each.log_record.attributes or {})
        for each in kept.logs
    }
    assert logs["in task"]["tenant"] == logs["in thread"]["tenant"] == "t1"
    assert "tenant" not in logs["outside"]


def test_context_takes_any_value(monitor: fo.FlextObservabilityMonitor) -> None:
    """Also before setup; an exception passes through and the context ends."""

    class OopsError(Exception):
        pass

    with pytest.raises(OopsError), monitor.context(any=object(), deep={"a": [1]}):
        raise OopsError
    kept = memory()
    with fo.flext_span("after"):
        pass
    assert "any" not in (kept.spans[-1].attributes or {})


class Keyless(UserDict[str, object]):
    """Tags that cannot be told one by one."""

    def keys(self) -> Any:
        raise RuntimeError


def test_record_metric(monitor: fo.FlextObservabilityMonitor) -> None:
    """The tag is the monitor's, whatever the caller says."""
    metric = monitor.record_metric(
        "invoices", 3, "count", {"service": "x", "region": "eu"}, "counter"
    ).unwrap()
    assert metric.tags == {"service": "billing", "region": "eu"}
    assert monitor.record_metric("load", 1).unwrap().tags == {"service": "billing"}
    wrong: Any = 3
    assert monitor.record_metric("load", 1, tags=wrong).is_failure
    assert monitor.record_metric("load", 1, tags=Keyless()).is_failure
    assert monitor.record_metric("", 1).is_failure
    assert monitor.metrics_summary().unwrap()["counters"] == {"invoices": 3}


def test_configured_name() -> None:
    """Without a name it is the service's; a wrong type is a validation error."""
    fo.setup("shop", exporters=["none"]).unwrap()
    assert fo.FlextObservabilityMonitor().service_name == "shop"
    wrong: Any = 3
    with pytest.raises(pydantic.ValidationError):
        fo.FlextObservabilityMonitor(wrong)
    with pytest.raises(pydantic.ValidationError):
        fo.FlextObservabilityMonitor("x", container=wrong)


# --- in the background ----------------------------------------------------------------


def test_rounds(monitor: fo.FlextObservabilityMonitor) -> None:
    """Started, it checks the machine and what is registered; stopped, it is gone."""
    health = fo.FlextHealthService(monitor.container)
    asked = threading.Event()
    health.register_check("db", asked.set).unwrap()
    assert not monitor.is_active
    assert monitor.stop().success
    with monitor as same:
        assert same is monitor
        assert monitor.is_active
        assert monitor.start().success
        names = [t.name for t in threading.enumerate()]
        assert names.count("flext-monitor") == 1
        assert asked.wait(20)
        wait_for(lambda: "db" in monitor.health_status().unwrap()["components"])
    found = monitor.health_status().unwrap()
    assert {"system.memory", "system.disk", "system.threads", "db"} <= set(
        found["components"]
    )
    assert found["monitor_metrics"]["monitoring_active"] is False
    assert found["monitor_metrics"]["monitor_uptime_seconds"] > 0
    assert not monitor.is_active
    assert monitor.stop().success
    assert monitor.start().success
    assert monitor.is_active
    monitor.stop().unwrap()


def test_interval(monitor: fo.FlextObservabilityMonitor) -> None:
    """The rounds come at the interval of the setting."""
    fo.setup("shop", exporters=["none"], health_check_interval_s=1).unwrap()
    rounds: list[float] = []
    health = fo.FlextHealthService(monitor.container)
    health.register_check("db", lambda: rounds.append(time.monotonic())).unwrap()
    with monitor:
        wait_for(lambda: len(rounds) >= 4)
    gaps = [later - before for before, later in itertools.pairwise(rounds)]
    # One that comes late is followed by a short one, and both by the usual ones.
    assert any(gap == pytest.approx(1, abs=0.5) for gap in gaps), gaps


def test_interval_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """HEALTH_CHECK_INTERVAL is one of its sources; bad ones are named."""
    monkeypatch.setenv("HEALTH_CHECK_INTERVAL", "7.5")
    handle = fo.setup("shop", exporters=["none"]).unwrap()
    assert handle.config.health_check_interval_s == 7.5
    monkeypatch.setenv("HEALTH_CHECK_INTERVAL", "never")
    error = str(fo.setup("shop", exporters=["none"]).error)
    assert "health_check_interval_s" in error
    assert "HEALTH_CHECK_INTERVAL" in error


# --- figures --------------------------------------------------------------------------


@pytest.fixture
def figures() -> fo.FlextMetricsCollector:
    """A collector on a container of its own."""
    return fo.FlextMetricsCollector(fo.FlextContainer())


def test_system_figures(figures: fo.FlextMetricsCollector) -> None:
    """Real ones, in their ranges, the same for a second; a busy process shows."""
    first = figures.collect_system_metrics().unwrap()
    assert set(first) == {
        *("cpu_percent", "memory_percent", "disk_usage_percent", "boot_time")
    }
    assert all(0 <= value <= 100 for name, value in first.items() if "percent" in name)
    assert first["memory_percent"] > 0
    assert 0 < first["boot_time"] < time.time()
    assert figures.collect_system_metrics().unwrap() == first
    busy_until = time.monotonic() + 1.1
    while time.monotonic() < busy_until:
        pass
    later = figures.collect_system_metrics().unwrap()
    assert later["cpu_percent"] > 1


def test_without_psutil(
    figures: fo.FlextMetricsCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made up."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert figures.collect_system_metrics().error == "psutil is not installed"
    alone = fo.FlextMetricsCollector(fo.FlextContainer())
    assert alone.collect_system_metrics().error == "psutil is not installed"


def test_application_figures(figures: fo.FlextMetricsCollector) -> None:
    """What was counted in this process."""
    kept = memory()
    before = figures.collect_application_metrics().unwrap()

    @fo.flext_monitor_function("figures")
    def call(amount: int) -> float:
        return 1 / amount

    call(1)
    with pytest.raises(ZeroDivisionError):
        call(0)
    trace = fo.FlextTracingService(figures.container).start_trace("t").unwrap()
    after = figures.collect_application_metrics().unwrap()
    assert after["monitored_calls"] - before["monitored_calls"] == 2
    assert 0 < after["error_ratio"] < 1
    assert after["mean_duration_seconds"] > 0
    assert (before["active_traces"], after["active_traces"]) == (0, 1)
    assert after["records_delivered"] > 0
    assert after["records_lost"] == 0
    assert len(kept.spans) == 2
    fo.FlextTracingService(figures.container).complete_trace(trace).unwrap()


def test_collected_gauges(figures: fo.FlextMetricsCollector) -> None:
    """The callback is read at every collection; what fails is left out."""
    kept = memory()
    values: Iterator[Any] = iter([3.5, "text", None, 4])
    name = "monitor test.queue"
    figures.collect(name, lambda: next(values), "By").unwrap()

    def read() -> list[float]:
        return [
            point.value
            for resource in getattr(kept.metrics, "resource_metrics", ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "monitor_test.queue"
            for point in metric.data.data_points
        ]

    # The iterator that has ended raises, and is left out like what is no number.
    assert [read() for _ in range(6)] == [[3.5], [], [], [4], [], []]
    assert "collected already" in str(figures.collect(name, lambda: 1).error)


@pytest.mark.parametrize("arguments", [("", len), (3, len), ("x", None), ()])
def test_bad_callbacks(figures: fo.FlextMetricsCollector, arguments: Any) -> None:
    """They are failures."""
    assert figures.collect(*arguments).is_failure


def test_metrics_summary(figures: fo.FlextMetricsCollector) -> None:
    """That of the container's metrics service."""
    fo.FlextMetricsService(figures.container).record_metric("load", 3)
    assert figures.metrics_summary().unwrap()["gauges"] == {"load": 3}


def test_context_of_a_generator_closed_elsewhere(
    monitor: fo.FlextObservabilityMonitor,
) -> None:
    """A copy of its context lets go of the attributes when it closes it."""
    kept = memory()

    def rows() -> Iterator[int]:
        with monitor.context(tenant="t"):
            yield 1

    def close(generator: Any) -> None:
        generator.close()
        with fo.flext_span("after"):
            pass

    opened = rows()
    next(opened)
    contextvars.copy_context().run(close, opened)
    assert "tenant" not in kept.spans[-1].attributes
    assert "service" not in kept.spans[-1].attributes
    del opened
