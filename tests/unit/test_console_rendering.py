"""The console exporter: what a person reads, from the front door to the terminal."""

import re
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics.view import (
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

import flext_observability as fo

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MS = 1_000_000
Printed = Callable[[], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Printed]:
    """Set up the console exporter; call it to get the lines printed since."""
    fo.setup(service_name="orders", exporters=["console"]).unwrap()

    def lines() -> list[str]:
        fo.flush().unwrap()
        return capsys.readouterr().out.splitlines()

    yield lines
    fo.shutdown()


@pytest.fixture
def tracer(printed: Printed) -> Tracer:
    """A plain OTel tracer, for spans with chosen times."""
    del printed
    handle = fo.setup(service_name="orders", exporters=["console"]).unwrap()
    return handle.tracer


def lines_with(lines: list[str], *words: str) -> list[str]:
    return [line for line in lines if all(word in line for word in words)]


def test_trace_is_a_tree(printed: Printed) -> None:
    """Children stand below their parent, in the order of their start."""
    with fo.flext_span("checkout", {"order": 7}) as root:
        with fo.flext_span("reserve"), fo.flext_span("lock"):
            pass
        with fo.flext_span("charge card", kind="client"):
            pass
    heading, *tree = printed()
    assert heading.startswith(f"trace {root.trace_id} · 4 spans · orders · ")
    assert [re.sub(r" +[\d.]+ (µs|ms).*", "", line) for line in tree] == [
        "└─ orders · checkout",
        "   ├─ orders · reserve",
        "   │  └─ orders · lock",
        "   └─ orders · charge card [client]",
    ]
    assert tree[0].endswith("  order=7")
    assert len({re.search(r"[\d.]+ (µs|ms)", line).end() for line in tree}) == 1  # type: ignore[union-attr]


def test_failure_is_marked(printed: Printed) -> None:
    """A failed span shows the type and the message of its error, once."""
    with pytest.raises(ValueError, match="declined"), fo.flext_span("charge"):
        raise ValueError("declined")
    (line,) = lines_with(printed(), "orders · charge")
    assert line.count("✗ ValueError: declined") == 1
    assert line.count("declined") == 1


def test_status_without_exception(printed: Printed, tracer: Tracer) -> None:
    """An error status set by hand shows its description, or just the mark."""
    for description in ("out of stock", None):
        span = tracer.start_span("reserve")
        span.set_status(Status(StatusCode.ERROR, description))
        span.end()
    described, bare = lines_with(printed(), "reserve")
    assert described.endswith("✗ out of stock")
    assert bare.endswith("✗")


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0 µs"),
        (850_000, "850 µs"),
        (2_500_000, "2.50 ms"),
        (42 * MS, "42.0 ms"),
        (420 * MS, "420 ms"),
        (1_500 * MS, "1.50 s"),
        (125_000 * MS, "2 min 5 s"),
        (-5, "0 µs"),  # a clock was set back
    ],
)
def test_durations(
    printed: Printed, tracer: Tracer, nanoseconds: int, shown: str
) -> None:
    """A duration is shown in the unit a person would choose."""
    start = 1_700_000_000 * 1_000 * MS
    tracer.start_span("work", start_time=start).end(start + nanoseconds)
    (line,) = lines_with(printed(), "orders · work")
    assert line.endswith(f" {shown}")


@pytest.mark.parametrize("kind", ["SERVER", "CLIENT", "PRODUCER", "CONSUMER"])
def test_kinds(printed: Printed, tracer: Tracer, kind: str) -> None:
    """Every kind but internal is named."""
    tracer.start_span("call", kind=SpanKind[kind]).end()
    assert lines_with(printed(), f"orders · call [{kind.lower()}]")


def test_events_stand_below_their_span(printed: Printed) -> None:
    """Events show their name, their time and their attributes; no more than ten."""
    with fo.flext_span("call") as span:
        for attempt in range(12):
            span.add_event("retry", {"attempt": attempt})
    lines = printed()
    assert len(lines_with(lines, "• retry  at ")) == 10
    assert lines_with(lines, "• retry", "attempt=9")
    assert lines_with(lines, "• … 2 more events")


def test_parent_of_another_process(printed: Printed) -> None:
    """A span whose parent is not here stands at root level and names the parent."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with fo.flext_extract_headers({"traceparent": parent}), fo.flext_span("handle"):
        pass
    heading, line = printed()
    assert "0af7651916cd43dd8448eb211c80319c" in heading
    assert line.startswith("└─ orders · handle")
    assert line.endswith("(parent b7ad6b7169203331 is elsewhere)")


def test_correlation_id_stands_in_the_heading(printed: Printed) -> None:
    """The correlation id is said once for the trace, not on every line."""
    with (
        fo.flext_correlation_scope("order-7"),
        fo.flext_span("a"),
        fo.flext_span("b"),
    ):
        pass
    heading, *tree = printed()
    assert heading.endswith("correlation order-7")
    assert lines_with(tree, "order-7") == []


def test_deep_traces_stay_readable(printed: Printed, tracer: Tracer) -> None:
    """A chain of a hundred spans shows each once and does not run off to the right."""
    span = first = tracer.start_span("step 0")
    spans = [first]
    for step in range(1, 100):
        span = tracer.start_span(f"step {step}", context=set_span_in_context(span))
        spans.append(span)
    for each in reversed(spans):
        each.end()
    lines = [line for line in printed() if "step" in line]
    assert len(lines) == 100
    assert max(map(len, lines)) < 120


HOSTILE = "a\x1b[31m\r\nb\t\x07\u202ec\x9b2J"
ESCAPED = r"a\x1b[31m\r\nb\t\x07\u202ec\x9b2J"


def test_no_text_reaches_the_terminal_unescaped(
    printed: Printed, tracer: Tracer
) -> None:
    """Control characters in any name, value or message come out as escapes."""
    span = tracer.start_span(HOSTILE, attributes={HOSTILE: HOSTILE})
    span.add_event(HOSTILE, {HOSTILE: [HOSTILE]})
    span.set_status(Status(StatusCode.ERROR, HOSTILE))
    span.end()
    fo.get_logger("audit").warning(HOSTILE, evil=HOSTILE)
    fo.flext_counter("sold").add(1, {"evil": HOSTILE})
    lines = printed()
    text = "\n".join(lines)
    assert not CONTROL.search(text)
    assert len(lines_with(lines, f"orders · {ESCAPED}", f"✗ {ESCAPED}")) == 1
    assert len(lines_with(lines, f"• {ESCAPED}")) == 1
    assert len(lines_with(lines, "WARN", ESCAPED)) == 1
    assert len(lines_with(lines, "sold counter", ESCAPED)) == 1


def test_values_are_kept_short(printed: Printed, tracer: Tracer) -> None:
    """Long values, many attributes and nested values stay on one bounded line."""
    attributes = {f"key{number:02}": number for number in range(20)}
    tracer.start_span("many", attributes=attributes).end()
    tracer.start_span(
        "odd",
        attributes={
            "long": "x" * 5_000,
            "blank": "two words",
            "empty": "",
            "list": [1, 2],
            "flag": True,
            "part": 0.25,
        },
    ).end()
    lines = printed()
    (many,) = lines_with(lines, "orders · many")
    assert many.endswith("key07=7 … 12 more")
    (odd,) = lines_with(lines, "orders · odd")
    assert 'blank="two words" empty="" flag=true list="[1, 2]" long=xxx' in odd
    assert odd.endswith("… part=0.25")
    assert len(odd) < 200


def test_log_lines(printed: Printed) -> None:
    """A log record is one line: time, level, logger, message, fields, trace id."""
    log = fo.get_logger("shop.cart")
    with fo.flext_span("checkout") as span:
        log.warning("stock is low: %d", 2, item="teapot")
    lines = printed()
    (line,) = lines_with(lines, "shop.cart")
    assert re.match(
        r"\d\d:\d\d:\d\d\.\d{3}Z  WARN   shop\.cart  stock is low: 2  ", line
    )
    assert "item=teapot" in line
    assert line.endswith(f"trace={span.trace_id[:8]}")


def test_logged_exception(printed: Printed) -> None:
    """An exception in a log record shows type and message, not the whole stack."""
    try:
        dict[str, int]()["sku"]
    except KeyError:
        fo.get_logger("shop").exception("not found")
    (line,) = lines_with(printed(), "not found")
    assert "ERROR" in line
    assert "KeyError: 'sku'" in line
    assert "Traceback" not in line


def test_metric_lines(printed: Printed) -> None:
    """Counter: sum. Gauge: last value. Histogram: count, sum, mean, median bound."""
    orders = fo.flext_counter("orders.placed", unit="{order}")
    orders.add(2, {"region": "eu"})
    orders.add(3, {"region": "eu"})
    orders.add(1, {"region": "us"})
    queue = fo.flext_gauge("queue.length")
    queue.set(9)
    queue.set(4)
    waits = fo.flext_histogram("wait", unit="s")
    for seconds in (0.003, 0.004, 2.0):
        waits.record(seconds)
    heading, *rows = printed()
    assert heading == "metrics of orders"
    assert [row.split() for row in rows if "orders.placed" in row] == [
        ["orders.placed", "({order})", "counter", "5", "region=eu"],
        ["orders.placed", "({order})", "counter", "1", "region=us"],
    ]
    (gauge,) = lines_with(rows, "queue.length gauge")
    assert gauge.split()[-1] == "4"
    (histogram,) = lines_with(rows, "wait (s) histogram")
    assert "count=3 sum=2.01 s mean=669 ms p50≤5.00 ms" in histogram
    assert "min=3.00 ms max=2.00 s" in histogram


def test_median_above_all_bounds(printed: Printed) -> None:
    """When most values exceed the last bound, the median is said to lie above it."""
    waits = fo.flext_histogram("wait", unit="s")
    waits.record(30.0)
    (line,) = lines_with(printed(), "wait (s) histogram")
    assert "p50>10.0 s" in line


def test_other_instruments(capsys: pytest.CaptureFixture[str]) -> None:
    """Up/down counters and exponential histograms are shown as well."""
    view = View(
        instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation()
    )
    handle = fo.setup(service_name="x", exporters=["console"], views=[view]).unwrap()
    handle.meter.create_up_down_counter("balance").add(-4)
    sizes = handle.meter.create_histogram("sizes", unit="By")
    sizes.record(100)
    sizes.record(300)
    fo.flush().unwrap()
    lines = capsys.readouterr().out.splitlines()
    (balance,) = lines_with(lines, "balance up/down")
    assert balance.split()[-1] == "-4"
    (size,) = lines_with(lines, "sizes (By) histogram")
    assert "count=2 sum=400 mean=200 min=100 max=300" in size


def test_no_colours_into_a_pipe(printed: Printed) -> None:
    """Standard output that is no terminal gets plain text."""
    with pytest.raises(OSError, match="x"), fo.flext_span("a"):
        raise OSError("x")
    assert "\x1b" not in "\n".join(printed())
