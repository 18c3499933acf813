"""Every concept once, in one process and without a collector.

    python examples/01_functional.py

The telemetry is printed (``console``) and kept (``memory``) instead of being sent.
Leave ``exporters`` out to send it to a collector.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import flext_observability as fo

# --- 1. One call. It gives a result and never raises: a wrong setting is a failure that
# names field, value and fix, and the program runs on.
started = fo.setup(
    service_name="tour",
    service_version="1.0.0",
    environment="demo",
    exporters=["console", "memory"],
)
assert started.success
assert "protocol" in (fo.setup(protocol="pigeon").error or "")


# --- 2. One decorator, for everything that can be called: a span, a duration histogram
# and, on failure, an error record.
@fo.flext_monitor_function("add", capture_args=["left", "right"])
def add(left: int, right: int) -> int:
    return left + right


@fo.flext_monitor_function("fetch")
async def fetch(page: int) -> str:
    await asyncio.sleep(0.001)
    return f"page {page}"


@fo.flext_monitor_function("count")  # the span lasts until the generator ends
def count(limit: int) -> Iterator[int]:
    yield from range(limit)


@fo.flext_monitor_function("stream")
async def stream(limit: int) -> AsyncIterator[str]:
    for page in range(limit):
        yield await fetch(page)


@fo.flext_monitor_function("divide")
def divide(left: int, right: int) -> float:
    return left / right


# --- 3. Instruments are made once, anywhere, and used often.
jobs = fo.flext_counter("tour.jobs", unit="{job}", description="Jobs done, by kind")
sizes = fo.flext_histogram("tour.size", unit="By", description="Size of a page")
queue = fo.flext_gauge("tour.queue", unit="{job}", description="Jobs that wait")

# --- 4. Loggers: %-arguments and fields. Each line knows its trace.
log = fo.get_logger("tour")
structured = fo.FlextStructuredLogger("tour.audit").bind(user="ada")


async def visit() -> None:
    # --- 5. A span by hand, with attributes, also later and from below.
    async with fo.flext_span("visit", attributes={"guide": "ada"}) as span:
        span.set_attribute("visitors", 3)
        fo.flext_add_attributes(weather="fine")

        assert add(-1, 2) == 1
        assert list(count(3)) == [0, 1, 2]
        assert [page async for page in stream(2)] == ["page 0", "page 1"]

        try:
            divide(1, 0)
        except ZeroDivisionError:  # passes through unchanged; the span has noted it
            log.warning("could not divide %d", 1, hint="by zero")

        jobs.add(1, {"kind": "visit"})
        sizes.record(2048)
        queue.set(0)
        assert structured.info("visit recorded", rooms=4).success

        # --- 6. Into another process: the headers carry trace and correlation id.
        headers = fo.flext_inject_headers({"Accept": "application/json"}).unwrap()
        assert "traceparent" in headers

    # The other process would do this with the headers of its request.
    with fo.flext_extract_headers(headers), fo.flext_span("far away") as remote:
        assert fo.flext_get_correlation_id() == "tour-1"
        assert remote.trace_id == span.trace_id


# --- 7. One id for everything that belongs together.
with fo.flext_correlation_scope("tour-1"):
    asyncio.run(visit())

# --- 8. Entities: values that are checked, then emitted. A result tells.
made = fo.flext_create_metric("tour.rating", 4.5, "{star}", tags={"by": "visitors"})
assert made.unwrap().unit == "{star}"
assert fo.flext_create_metric("", 1).error == "Invalid metric name"
assert fo.flext_create_log_entry("info", "the tour is over", {"rooms": 4}).success

# --- 9. What became of it: accepted = delivered + rejected + dropped + pending.
assert fo.flush().success
kept = started.unwrap().memory
assert kept is not None
assert {"visit", "add", "fetch", "far away"} <= {each.name for each in kept.spans}
for signal, ledger in fo.status().signals.items():
    assert ledger.pending == 0
    print(f"{signal}: delivered {ledger.delivered} of {ledger.accepted}")

# --- 10. At the end; without it, the same happens at exit.
assert fo.shutdown().success
