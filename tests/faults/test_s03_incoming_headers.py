"""S3: headers of strangers: they break no line, no header and no program."""

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import assert_balanced, flush, start

LEGAL_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
LEGAL_HEADER = re.compile(r"[\x20-\x7e\t]*")
SEED = 20261121
ROUNDS = 10_000

PIECES = (
    *("\r\n", "\n", "\r", "\x00", "\x1b[31m", "\x1b]0;title\x07", "\x7f", "\x85"),
    *("\u2028", "\u2029", "\u202e", "\ud800", "é", "\U0001f600", '"', "'", "\\", "%"),
    *("%0d%0a", "%00", "%1b[2J", "%e2%80%a8", "%c2%85", "%ff", "%ED%A0%80", "+", " "),
    *("=", ";", ",", ":", "{", "}", "<script>", "${jndi:ldap://x}", "a", "req-7", "-"),
    *("Set-Cookie: a=b", "X-Evil: 1", "00-", "0" * 32, "f" * 16, "-01", "x" * 300),
)
NAMES = ("x-correlation-id", "traceparent", "tracestate", "baggage", "X-Correlation-ID")


def hostile(random_: random.Random) -> str:
    """A header value that a stranger made up."""
    return "".join(random_.choices(PIECES, k=random_.randint(0, 8)))


def hostile_baggage(random_: random.Random) -> str:
    """One that gets as far as being decoded."""
    pairs = (
        f"k{number}{random_.choice(PIECES)}={hostile(random_)}" for number in range(3)
    )
    return ",".join(pairs)


def assert_clean_headers(headers: dict[str, str]) -> None:
    """What goes out is legal, whatever came in."""
    for name, value in headers.items():
        assert LEGAL_HEADER.fullmatch(value), (name, value)
    assert LEGAL_ID.fullmatch(headers["X-Correlation-ID"])


def test_ten_thousand_strangers(
    http_collector: Collector,
    capfd: pytest.CaptureFixture[str],
    figure: Callable[..., None],
) -> None:
    """One log line per record, a legal id, and clean headers out, 10,000 times."""
    start(http_collector)
    log = fo.get_logger("edge")
    random_ = random.Random(SEED)  # noqa: S311 - made up, and again the same
    capfd.readouterr()
    lines: list[str] = []
    for number in range(ROUNDS):
        value = hostile(random_)
        headers: dict[str, Any] = dict.fromkeys(NAMES[:3], value)
        headers["baggage"] = hostile_baggage(random_)
        scope = fo.flext_correlation_scope if number % 2 else fo.flext_extract_headers
        with scope(headers=headers) if number % 2 else scope(headers):  # type: ignore[arg-type]  # both take headers
            out = fo.flext_inject_headers({"Accept": "*/*"}).unwrap()
            context = baggage.get_all()
            log.warning("request", number=number, baggage=dict(context))
            for key, text in context.items():
                assert key.isprintable(), key
                assert str(text).isprintable(), text
        if "X-Correlation-ID" in out:
            assert_clean_headers(out)
        if number % 500 == 499:
            lines += capfd.readouterr().err.split("\n")[:-1]
            flush()
    assert len(lines) == ROUNDS
    assert [json.loads(line)["number"] for line in lines] == list(range(ROUNDS))
    found = http_collector.logs("request")
    assert len(found) == ROUNDS
    for record in found:
        sent = record.attributes.get("correlation.id")
        assert sent is None or LEGAL_ID.fullmatch(sent)
    assert_balanced("logs")
    figure("S3", headers=4 * ROUNDS, lines=len(lines), illegal=0)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Correlation-ID": "a" * 1_000_000},
        {"baggage": "k=" + "v" * 1_000_000},
        {"baggage": ",".join(f"k{n}=v" for n in range(10_000))},
        {"traceparent": "00-" + "a" * 1_000_000},
        {"tracestate": ",".join(f"k{n}=v" for n in range(10_000))},
        {f"x-{n}": "v" for n in range(100_000)},
        [("baggage", "k=v")] * 100_000,
        {b"baggage": b"k=\xff\xfe"},
        {"baggage": "k=%ED%A0%80"},
        {"baggage": "\ud800=\udfff"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"},
        {"traceparent": "\u0660" * 55},
    ],
    ids=range(13),
)
def test_too_much(http_collector: Collector, headers: Any) -> None:
    """A header of a megabyte, or ten thousand of them, is bounded, not followed."""
    start(http_collector)
    with fo.flext_correlation_scope(headers=headers) as correlation_id:
        with fo.flext_span("served"):
            out = fo.flext_inject_headers().unwrap()
        assert LEGAL_ID.fullmatch(correlation_id)
        total = sum(len(k) + len(str(v)) for k, v in baggage.get_all().items())
        assert total <= 8192
    assert_clean_headers(out)
    assert all(len(value) <= 8192 for value in out.values())
    flush()
    assert http_collector.span("served")


ILLEGAL = ["", " ", "a b", "a\r\nX-Evil: 1", "a\x00", "ü", "a" * 129, "\x1b[31m", 'a"b']


@pytest.mark.parametrize("value", ILLEGAL)
def test_an_illegal_id_is_replaced(http_collector: Collector, value: str) -> None:
    """An id that is none becomes a fresh one, everywhere it shows."""
    start(http_collector)
    headers = {"X-Correlation-ID": value}
    with (
        fo.flext_correlation_scope(headers=headers) as fresh,
        fo.flext_span("served"),
    ):
        out = fo.flext_inject_headers().unwrap()
    flush()
    assert re.fullmatch(r"[0-9a-f]{32}", fresh)
    assert out["X-Correlation-ID"] == fresh
    assert http_collector.span("served").attributes["correlation.id"] == fresh


def test_a_legal_id_is_kept(http_collector: Collector) -> None:
    """A legal id comes through in every place."""
    start(http_collector)
    with fo.flext_correlation_scope(headers={"x-correlation-id": "Req.7_a-b"}) as same:
        out = fo.flext_inject_headers().unwrap()
    assert same == out["X-Correlation-ID"] == "Req.7_a-b"


def _by_us(headers: dict[str, str]) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        with fo.flext_extract_headers(headers):
            return dict(baggage.get_all())

    return read


def _by_plain_opentelemetry(headers: dict[str, str]) -> Callable[[], dict[str, Any]]:
    return lambda: dict(baggage.get_all(propagate.extract(headers, context=Context())))


@pytest.mark.parametrize("way", [_by_us, _by_plain_opentelemetry])
def test_decoded_baggage(http_collector: Collector, way: Any) -> None:
    """Percent-decoding lets no line break, escape or NUL through, nor in names."""
    start(http_collector)
    headers = {
        "baggage": "k=v%0d%0aX-Evil:1,a%0ab=c,e=%1b%5B31mred,z=%00,ok=Gr%C3%BC%C3%9Fe"
    }
    assert way(headers)() == {
        "k": "vX-Evil:1",
        "ab": "c",
        "e": "[31mred",
        "z": "",
        "ok": "Grüße",
    }


def test_a_bad_neighbour_costs_no_trace(http_collector: Collector) -> None:
    """A broken baggage header does not cost the trace its parent."""
    start(http_collector)
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    with (
        fo.flext_extract_headers({"traceparent": parent, "baggage": "k=\ud800"}),
        fo.flext_span("served"),
    ):
        pass
    flush()
    assert http_collector.span("served").trace_id == "1" * 32


def test_baggage_is_sent_on_but_not_recorded(http_collector: Collector) -> None:
    """Baggage is the program's to read: it is sent on, and put on no record."""
    start(http_collector)
    with (
        fo.flext_extract_headers({"baggage": "user.token=k4n4ry"}),
        fo.flext_span("served"),
    ):
        fo.get_logger("edge").warning("served")
        out = fo.flext_inject_headers().unwrap()
    flush()
    assert out["baggage"] == "user.token=k4n4ry"
    assert "user.token" not in http_collector.span("served").attributes
    assert "user.token" not in http_collector.log("served").attributes


def test_warnings_quote_no_header(
    http_collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What the SDK says about a refused header starts no second line."""
    start(http_collector)
    with caplog.at_level(logging.DEBUG):
        for value in PIECES:
            with fo.flext_extract_headers(
                {
                    "baggage": f"no pair{value}",
                    "traceparent": value,
                    "tracestate": value,
                }
            ):
                pass
    for record in caplog.records:
        assert record.getMessage().replace("\t", " ").isprintable(), record


def test_headers_of_the_program_are_its_own(http_collector: Collector) -> None:
    """Injecting replaces our headers in any case and leaves the others as they are."""
    start(http_collector)
    with fo.flext_correlation_scope("req-7"), fo.flext_span("call"):
        given = {"x-correlation-id": "evil\r\nX: 1", "TraceParent": "x", "Accept": "a"}
        out = fo.flext_inject_headers(given).unwrap()
        current = trace.get_current_span().get_span_context()
    assert out["X-Correlation-ID"] == "req-7"
    assert f"{current.trace_id:032x}" in out["traceparent"]
    assert set(out) == {"Accept", "X-Correlation-ID", "traceparent"}


# -- at a public edge

CALLER_TRACE = "1" * 32
# Not sampled: who follows such a caller makes no span at all.
STRANGE = {
    "traceparent": f"00-{CALLER_TRACE}-{'2' * 16}-00",
    "X-Correlation-ID": "his-own",
    "baggage": "a=b",
}
FAR = ("203.0.113.9", "8.8.8.8", "::ffff:203.0.113.9", "2001:db8::1", "8.8.8.8:4711")
NEAR = (
    *(
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "100.64.0.1",
    ),
    *("::1", "fd00::1", "fe80::1%eth0", "::ffff:10.1.2.3"),
    *("", "unix:/run/shop1.sock", "testclient"),
)


def by_wsgi(client: str, **options: Any) -> dict[str, str]:
    """Serve a request of this caller; give the headers of the answer."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    told: list[tuple[str, str]] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": client}
    for name, value in STRANGE.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    served = fo.FlextWSGIMiddleware(app, **options)
    assert list(served(environ, lambda _, headers: told.extend(headers))) == [b""]  # type: ignore[arg-type, return-value]  # nobody writes
    return {name.lower(): value for name, value in told}


def by_asgi(client: str, **options: Any) -> dict[str, str]:
    """The same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = [(n.lower().encode(), v.encode()) for n, v in STRANGE.items()]
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": headers}
    scope["client"] = (client, 4711) if client else None
    asyncio.run(fo.FlextASGIMiddleware(app, **options)(scope, receive, send))
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


SERVERS = pytest.mark.parametrize("serve", [by_wsgi, by_asgi])


@SERVERS
@pytest.mark.parametrize(
    ("client", "options"),
    [*((far, {}) for far in FAR), ("127.0.0.1", {"trusts_callers": False})],
)
def test_strangers_are_not_followed(
    http_collector: Collector, serve: Any, client: str, options: Any
) -> None:
    """A request from the internet has a trace of its own, linked, and a new id."""
    start(http_collector)
    answer = serve(client, **options)
    flush()
    (span,) = http_collector.spans()
    assert span.trace_id != CALLER_TRACE
    assert not span.parent_span_id
    assert [link.trace_id for link in span.links] == [CALLER_TRACE]
    assert answer["x-correlation-id"] == span.trace_id


@SERVERS
@pytest.mark.parametrize(
    ("client", "options"),
    [*((near, {}) for near in NEAR), ("203.0.113.9", {"trusts_callers": True})],
)
def test_neighbours_are_followed(
    http_collector: Collector, serve: Any, client: str, options: Any
) -> None:
    """A request from this machine or a private network keeps what it came with."""
    start(http_collector)
    assert serve(client, **options)["x-correlation-id"] == "his-own"
    flush()
    assert http_collector.spans() == [], "his trace is not sampled"
