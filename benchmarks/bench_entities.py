"""The figures of the contract: entities, services, the decorator, memory.

Each row says what was measured, its mean, and the figure it must stay under. Every
group runs in a process of its own, after `setup()`, with no collector listening and the
exporters that ship: what is sent is tried, fails, and waits, as in an outage.

- Creation: mean of N `flext_create_*` calls, validation and emission included.
- Service operations: mean per method; the store is full, so cleanups are included.
- Decorator: added time on an empty function, sync and async.
- Base memory: resident growth by our import and `setup()` over a process that has the
  SDK, its OTLP exporter and Pydantic loaded; the median of several processes.
- Bytes per metric: resident growth by 1000 stored metrics with two tags. Allocators
  take memory from the system in steps, so the allocated bytes stand beside it.

    python benchmarks/bench_entities.py [--calls N]
"""

import argparse
import asyncio
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path

GROUPS = ("creation", "services", "decorator", "base", "stored")
Row = tuple[str, float, str, float]
"""What, how much, its unit, and the figure to stay under."""


def start() -> None:
    """Set up with the exporters that ship and nobody at the other end."""
    import flext_observability as fo

    fo.setup("bench", endpoint="http://127.0.0.1:9").unwrap()


def mean_s(run: Callable[[], object], calls: int) -> float:
    """Give the mean duration of a call, after a tenth of them to warm up."""
    for _ in range(max(1, calls // 10)):
        run()
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - began) / calls


def creation(calls: int) -> Iterator[Row]:
    """Measure the five creation functions."""
    import flext_observability as fo

    start()
    tags = {"region": "eu", "tier": "gold"}
    for run, name in (
        (lambda: fo.flext_create_metric("m", 1, "ms", tags), "metric"),
        (lambda: fo.flext_create_trace("work", "shop", {"items": 3}), "trace"),
        (lambda: fo.flext_create_alert("disk", "warning", "full"), "alert"),
        (lambda: fo.flext_create_health_check("db", "healthy"), "health_check"),
        (lambda: fo.flext_create_log_entry("info", "hello", {"n": 1}), "log_entry"),
    ):
        run().unwrap()
        yield f"flext_create_{name}", mean_s(run, calls) * 1e3, "ms", 1.0


def services(calls: int) -> Iterator[Row]:
    """Measure the methods of the services on full stores."""
    import flext_observability as fo

    start()
    shop = fo.FlextObservabilityServices(fo.FlextContainer())
    numbers = count()
    for number in range(1000):
        shop.metrics.record_metric(f"m{number}", 1, "", {"k": number})
        shop.health.execute_health_check(
            fo.FlextHealthCheck(name=f"c{number}", status="healthy")
        )
        shop.logging.log_entry("info", "hello")
        shop.alerts.process_alert(
            fo.FlextAlert(name="disk", severity="info", message="x")
        )
    handles = [shop.tracing.start_trace("work").unwrap() for _ in range(1000)]
    metric = fo.FlextMetric(name="m1", value=90)
    alert = fo.FlextAlert(name="disk", severity="error", message="x")
    shop.alerts.process_alert(alert).unwrap()

    def trace() -> fo.FlextResult[fo.FlextTrace]:
        return shop.tracing.complete_trace(shop.tracing.start_trace("work").unwrap())

    usual = fo.FlextMetricsService(fo.FlextContainer())
    for number in range(1000):
        usual.record_metric(f"m{number % 20}", 1, "", {"k": number % 5})

    def page(service: fo.FlextMetricsService) -> fo.FlextResult[str]:
        service.record_metric("m1", 1).unwrap()
        return service.export_prometheus_format()

    few = max(20, calls // 50)  # these read the whole store
    operations: list[tuple[str, int, Callable[[], fo.FlextResult[object]]]] = [
        (
            "record_metric",
            calls,
            lambda: shop.metrics.record_metric(f"m{next(numbers) % 1000}", 1),
        ),
        ("collect_metrics", calls, lambda: shop.metrics.collect_metrics("s", {"a": 1})),
        ("get_metric_value", few, lambda: shop.metrics.get_metric_value("m7")),
        ("get_metrics", few, lambda: shop.metrics.get_metrics("m7")),
        ("get_metrics_summary", few, shop.metrics.get_metrics_summary),
        ("get_trace_info", few, lambda: shop.tracing.get_trace_info(handles[-1])),
        ("search_traces", few, lambda: shop.tracing.search_traces(status="running")),
        ("get_tracing_summary", few, shop.tracing.get_tracing_summary),
        ("start_trace + complete_trace", calls, trace),
        (
            "process_alert",
            calls,
            lambda: shop.alerts.process_alert(
                fo.FlextAlert(name="disk", severity="info", message="x")
            ),
        ),
        ("escalate_alert", calls, lambda: shop.alerts.escalate_alert(alert, {})),
        (
            "evaluate_alert_thresholds",
            calls,
            lambda: shop.alerts.evaluate_alert_thresholds([metric], {"m1": 80}),
        ),
        ("get_alerts", few, lambda: shop.alerts.get_alerts(severity="error")),
        (
            "execute_health_check",
            calls,
            lambda: shop.health.execute_health_check(
                fo.FlextHealthCheck(name="c1", status="healthy")
            ),
        ),
        (
            "get_component_health_history",
            few,
            lambda: shop.health.get_component_health_history("c1"),
        ),
        ("log_entry", calls, lambda: shop.logging.log_entry("info", "hello")),
        ("get_logs", few, lambda: shop.logging.get_logs(level="error")),
        ("perform_system_health_check", few, shop.health.perform_system_health_check),
        ("get_overall_health (1000 components)", few, shop.health.get_overall_health),
        (
            "export_prometheus_format, nothing new",
            few,
            shop.metrics.export_prometheus_format,
        ),
        (
            "export_prometheus_format, 1000 metrics in 100 series",
            few,
            lambda: page(usual),
        ),
    ]
    for name, times, run in operations:
        run().unwrap()
        yield name, mean_s(run, times) * 1e3, "ms", 5.0
    # The most there can be; a third of the time is prometheus_client's own rendering.
    took_s = mean_s(lambda: page(shop.metrics), few)
    yield "export_prometheus_format, 2000 series", took_s * 1e3, "ms", math.inf


def decorator(calls: int) -> Iterator[Row]:
    """Measure what the decorator adds, before and after setup."""
    import flext_observability as fo

    def plain() -> None: ...

    async def plain_async() -> None: ...

    monitored = fo.flext_monitor_function("sync")(plain)
    monitored_async = fo.flext_monitor_function("async")(plain_async)

    async def mean_async_s(run: Callable[[], object]) -> float:
        function: Callable[[], asyncio.Future[None]] = run  # type: ignore[assignment]
        for _ in range(calls // 10):
            await function()
        began = time.perf_counter()
        for _ in range(calls):
            await function()
        return (time.perf_counter() - began) / calls

    for when in ("before setup", "after setup"):
        if when == "after setup":
            start()
        added = mean_s(monitored, calls) - mean_s(plain, calls)
        yield f"sync function, {when}", added * 1e3, "ms", 2.0
        added = asyncio.run(mean_async_s(monitored_async)) - asyncio.run(
            mean_async_s(plain_async)
        )
        yield f"async function, {when}", added * 1e3, "ms", 2.0


def resident_bytes() -> int:
    """Give the memory of this process that is in RAM."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def base(_: int) -> Iterator[Row]:
    """Measure what import and setup add to a process with SDK and Pydantic."""
    for module in (
        "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
        "opentelemetry.sdk._logs",
        "opentelemetry.sdk.metrics",
        "opentelemetry.sdk.trace",
        "pydantic",
        "pydantic_settings",
    ):
        import_module(module)
    gc.collect()
    before = resident_bytes()
    import flext_observability as fo

    fo.setup("bench", endpoint="http://127.0.0.1:9").unwrap()
    with fo.flext_span("first"):
        pass
    gc.collect()
    yield "import and setup", (resident_bytes() - before) / 2**20, "MiB", 10.0


def stored(_: int) -> Iterator[Row]:
    """Measure what a stored metric with two tags takes."""
    import flext_observability as fo

    def record(service: fo.FlextMetricsService, times: int = 1000) -> None:
        for number in range(times):
            tags = {"region": "eu-west-1", "path": f"/users/{number % 10}"}
            service.record_metric("api_requests", number, "count", tags, "counter")

    # What is made once; few, for what they leave behind would be used again.
    record(fo.FlextMetricsService(fo.FlextContainer()), 20)
    service = fo.FlextMetricsService(fo.FlextContainer())
    gc.collect()
    before = resident_bytes()
    record(service)
    gc.collect()
    grown = (resident_bytes() - before) / 1000
    yield "stored metric, two tags, resident", grown, "B", 1024.0

    alone = fo.FlextMetricsService(fo.FlextContainer())
    before = resident_bytes()
    for number in range(1000):
        tags = {"region": "eu-west-1", "user": f"{number}"}
        alone.record_metric("logins", number, "count", tags)
    gc.collect()
    grown = (resident_bytes() - before) / 1000
    yield "the same, each a series of its own, resident", grown, "B", 1024.0

    tracemalloc.start()
    other = fo.FlextMetricsService(fo.FlextContainer())
    record(other)
    gc.collect()
    yield (
        "stored metric, two tags, allocated",
        tracemalloc.get_traced_memory()[0] / 1000,
        "B",
        1024.0,
    )
    for _ in range(3):
        record(other)
    gc.collect()
    yield (
        "the same after 3000 more, per metric of the first 1000",
        tracemalloc.get_traced_memory()[0] / 1000,
        "B",
        1024.0,
    )


def run_group(group: str, calls: int) -> list[Row]:
    """Run a group in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--group", group, "--calls", str(calls)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return [
        (str(n), float(v), str(u), float(b)) for n, v, u, b in json.loads(done.stdout)
    ]


def measured(calls: int) -> Iterator[tuple[str, Row]]:
    """Yield every row with its group."""
    for group in GROUPS:
        repeats = 5 if group in {"base", "stored"} else 1
        rounds = [run_group(group, calls) for _ in range(repeats)]
        for row in zip(*rounds, strict=True):
            name, _, unit, bound = row[0]
            yield group, (name, statistics.median(each[1] for each in row), unit, bound)


def main() -> None:
    """Measure and print a table; exit 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000, help="calls per mean")
    parser.add_argument("--group", choices=GROUPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.group:
        rows = list(globals()[options.group](options.calls))
        print(json.dumps(rows), flush=True)
        os._exit(0)  # what nobody collects need not be waited for
    missed = 0
    print(f"{'':10} {'':54} {'measured':>12} {'under':>10}")
    for group, (name, value, unit, bound) in measured(options.calls):
        is_missed = value >= bound
        missed += is_missed
        mark = "  MISSED" if is_missed else ""
        print(f"{group:10} {name:54} {value:9.4g} {unit:3} {bound:6.4g} {unit}{mark}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
