"""The embedded receiver, as a program: what it takes, what it refuses, what it prints.

It is fed by the stock exporters and by raw sockets, so that nothing of the library
stands on both ends.
"""

import contextlib
import gzip
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetricExporter,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpMetricExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from tests.fixtures.programs import clean_environment

MIB = 1024 * 1024
PROTOBUF = "application/x-protobuf"
ENCODED = {"Content-Encoding": "gzip"}
HEAD = b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\n%s"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
COMMAND = [sys.executable, "-m", "flext_observability"]


@dataclass
class Answer:
    """What the receiver said over HTTP."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class RunningReceiver:
    """A receiver in a process of its own."""

    process: subprocess.Popen[bytes]
    printed: Path
    http: str
    grpc: str

    @property
    def http_address(self) -> tuple[str, int]:
        parts = urlsplit(self.http)
        return str(parts.hostname), int(parts.port or 0)

    def text(self) -> str:
        return self.printed.read_text(encoding="utf-8")

    def requests(self) -> list[dict[str, Any]]:
        """What was printed after the announcement."""
        return [json.loads(line) for line in self.text().splitlines()[1:]]

    def post(
        self,
        path: str,
        body: bytes | Iterator[bytes] = b"",
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        connection = http.client.HTTPConnection(*self.http_address, timeout=15)
        with contextlib.closing(connection):
            return exchange(connection, path, body, headers, method)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def exchange(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes | Iterator[bytes] = b"",
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Answer:
    sent = {"Content-Type": PROTOBUF} | (headers or {})
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    return Answer(response.status, response.msg, response.read())


def end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, as it must; never leave it behind."""
    process.terminate()
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()


Start = Callable[..., RunningReceiver]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a receiver on free ports; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*options: str) -> RunningReceiver:
            printed = tmp_path / "printed"
            output = stack.enter_context(printed.open("wb"))
            process = stack.enter_context(
                subprocess.Popen(
                    [*COMMAND, "receive", "--http-port=0", "--grpc-port=0", *options],
                    stdout=output,
                    env=clean_environment(PYTHONIOENCODING="utf-8"),
                )
            )
            stack.callback(end, process)
            deadline = time.monotonic() + 40
            while not printed.read_bytes().endswith(b"\n"):
                assert process.poll() is None, "the receiver ended at once"
                assert time.monotonic() < deadline, "it never announced itself"
                time.sleep(0.02)
            first = printed.read_text(encoding="utf-8").splitlines()[0]
            if "--json" in options:
                at = json.loads(first)["listening"]
            else:
                words = first.replace(",", "").split()
                urls = [word for word in words if word.startswith("http://")]
                at = dict(zip(("http", "grpc"), urls, strict=True))
            return RunningReceiver(process, printed, at["http"], at["grpc"])

        yield begin


@pytest.fixture
def receiver(start: Start) -> RunningReceiver:
    """A receiver that prints JSON."""
    return start("--json")


def exporters(
    receiver: RunningReceiver, protocol: str, compression: str
) -> tuple[SpanExporter, MetricExporter]:
    if protocol == "grpc":
        packing = {
            "none": grpc.Compression.NoCompression,
            "gzip": grpc.Compression.Gzip,
            "deflate": grpc.Compression.Deflate,
        }[compression]
        options: dict[str, Any] = {"insecure": True, "compression": packing}
        return (
            GrpcSpanExporter(receiver.grpc, **options),
            GrpcMetricExporter(receiver.grpc, **options),
        )
    how = Compression(compression)
    return (
        HttpSpanExporter(f"{receiver.http}/v1/traces", compression=how),
        HttpMetricExporter(f"{receiver.http}/v1/metrics", compression=how),
    )


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_stock_exporters_deliver(
    receiver: RunningReceiver, protocol: str, compression: str
) -> None:
    """What the stock exporters send is printed as OTLP JSON, ids in hex."""
    span_exporter, metric_exporter = exporters(receiver, protocol, compression)
    resource = Resource({"service.name": "sender"})
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(span_exporter))
    reader = PeriodicExportingMetricReader(metric_exporter, 60_000)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    with spans.get_tracer("test").start_as_current_span("checkout") as span:
        context = span.get_span_context()
    meters.get_meter("test").create_counter("sold").add(3)
    meters.shutdown()
    spans.shutdown()
    assert receiver.stop() == 0

    traces, metrics = receiver.requests()
    assert (traces["signal"], metrics["signal"]) == ("traces", "metrics")
    (group,) = traces["request"]["resourceSpans"]
    (sent,) = group["scopeSpans"][0]["spans"]
    assert sent["name"] == "checkout"
    assert sent["traceId"] == f"{context.trace_id:032x}"
    assert sent["spanId"] == f"{context.span_id:016x}"
    assert sent["kind"] == 1
    (group,) = metrics["request"]["resourceMetrics"]
    (metric,) = group["scopeMetrics"][0]["metrics"]
    assert (metric["name"], metric["sum"]["dataPoints"][0]["asInt"]) == ("sold", "3")


def test_json_in_is_json_out(receiver: RunningReceiver) -> None:
    """OTLP JSON is taken, unknown fields are ignored, the ids stay what they are."""
    span: dict[str, Any] = {
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "EEE19B7EC3C1B174",
        "name": "from a browser",
        "fieldOfTheFuture": {"deep": [1, 2]},
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    answer = receiver.post(
        "/v1/traces", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Content-Type"] == "application/json"
    (taken,) = receiver.requests()
    (found,) = taken["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert found["traceId"] == span["traceId"].lower()
    assert found["spanId"] == span["spanId"].lower()


def one_span(name: str = "one") -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id = name, b"t" * 16, b"s" * 8
    return bytes(request.SerializeToString())


def test_one_connection_carries_many_requests(receiver: RunningReceiver) -> None:
    """Keep-alive: also a malformed message does not cost the connection."""
    connection = http.client.HTTPConnection(*receiver.http_address, timeout=15)
    with contextlib.closing(connection):
        assert exchange(connection, "/v1/traces", one_span()).status == 200
        assert exchange(connection, "/v1/traces", b"\xff\xff").status == 400
        connection.auto_open = 0  # a new connection would be an error from here on
        answer = exchange(connection, "/v1/traces", one_span())
    assert answer.status == 200
    assert answer.headers["Content-Type"] == PROTOBUF
    ExportTraceServiceResponse.FromString(answer.body)
    assert len(receiver.requests()) == 2


def test_chunked_body(receiver: RunningReceiver) -> None:
    """A body without a length arrives whole, compressed or not."""
    body = one_span("chunked")
    assert receiver.post("/v1/traces", iter([body[:3], body[3:]])).status == 200
    packed = gzip.compress(body[:9]) + gzip.compress(body[9:])  # two gzip members
    answer = receiver.post(
        "/v1/traces", (packed[i : i + 1] for i in range(len(packed))), ENCODED
    )
    assert answer.status == 200
    assert receiver.text().count('"chunked"') == 2


@pytest.mark.parametrize(
    ("status", "path", "body", "headers", "method"),
    [
        (404, "/v1/profiles", b"", {}, "POST"),
        (404, "/", b"", {}, "GET"),
        (405, "/v1/traces", b"", {}, "GET"),
        (405, "/v1/traces", b"", {}, "OPTIONS"),
        (415, "/v1/traces", b"", {"Content-Type": "text/plain"}, "POST"),
        (415, "/v1/traces", b"", {"Content-Encoding": "br"}, "POST"),
        (400, "/v1/traces", b"\xff\xff\xff", {}, "POST"),
        (400, "/v1/traces", b"{", {"Content-Type": "application/json"}, "POST"),
        (400, "/v1/traces", b"[]", {"Content-Type": "application/json"}, "POST"),
        (400, "/v1/traces", b"not gzip", ENCODED, "POST"),
        (400, "/v1/traces", gzip.compress(b"cut off")[:-9], ENCODED, "POST"),
        (400, "/v1/traces", b"", {"Content-Length": "-1"}, "POST"),
        (400, "/v1/traces", b"", {"Transfer-Encoding": "gzip"}, "POST"),
        (413, "/v1/traces", b"", {"Content-Length": str(21 * MIB)}, "POST"),
        (403, "/v1/traces", b"", {"Host": "attacker.example"}, "POST"),
        (403, "/v1/traces", b"", {"Host": "127.0.0.1.attacker.example"}, "POST"),
        (403, "/v1/traces", b"", {"Origin": "https://attacker.example"}, "POST"),
        (403, "/v1/traces", b"", {"Origin": "null"}, "POST"),
        (403, "/v1/traces", b"", {"Host": "attacker.example"}, "GET"),
        (403, "/v1/traces", b"", {"Host": "[127.0.0.1"}, "POST"),
        (501, "/v1/traces", b"", {}, "BREW"),
        (405, "/v1/traces", b"", {}, "DELETE"),
    ],
)
def test_refusals(
    receiver: RunningReceiver,
    status: int,
    path: str,
    body: bytes,
    headers: dict[str, str],
    method: str,
) -> None:
    """Each wrong request gets its status, nothing is taken, and service goes on."""
    answer = receiver.post(path, body, headers, method)
    assert answer.status == status
    if answer.headers["Content-Type"] == PROTOBUF:
        assert Status.FromString(answer.body).message
    else:
        assert json.loads(answer.body)["message"]
    assert (answer.headers["Allow"] == "POST") == (status == 405)
    assert receiver.requests() == []
    assert receiver.post("/v1/traces", one_span()).status == 200


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        (411, HEAD + b"\r\n"),
        (400, b"POST /v1/logs HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n"),
        (400, b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nHost: a\r\n%s\r\n"),
        (400, b"rubbish\r\n\r\n%s"),
        (400, CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"),
        (400, CHUNKED + b"2\r\nhello\r\n0\r\n\r\n"),
        (400, CHUNKED + b"5" + b";" * 2000),
        (400, CHUNKED + b"0\r\n" + b"a: b\r\n" * 200),
        (413, CHUNKED + b"ffffffff\r\n"),
        (400, HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
    ],
    ids=[
        *("no length", "no host", "two hosts", "no http", "signed chunk"),
        *("long chunk", "endless line", "many trailers", "huge chunk", "smuggling"),
    ],
)
def test_malformed_http(
    receiver: RunningReceiver, status: int, request_bytes: bytes
) -> None:
    """What no HTTP library sends is refused and the connection closed."""
    content_type = b"Content-Type: application/x-protobuf\r\n"
    with socket.create_connection(receiver.http_address, timeout=15) as connection:
        connection.sendall(request_bytes.replace(b"%s", content_type))
        received = b""
        while part := connection.recv(4096):
            received += part
    head = received.partition(b"\r\n")[0]
    assert f" {status} ".encode() in head
    assert receiver.requests() == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompression_bomb(receiver: RunningReceiver, encoding: str) -> None:
    """A small body that would inflate beyond the limit is refused half-way."""
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    block = b"\0" * MIB
    bomb = b"".join([*(packer.compress(block) for _ in range(256)), packer.flush()])
    before = peak_memory_kib(receiver)
    answer = receiver.post("/v1/logs", bomb, {"Content-Encoding": encoding})
    assert answer.status == 413
    assert peak_memory_kib(receiver) - before < 64 * 1024
    assert receiver.post("/v1/traces", one_span()).status == 200


def test_large_bodies(receiver: RunningReceiver) -> None:
    """The limit holds for honest compression, too: 19 MiB pass and 21 do not."""
    for size, status in ((19 * MIB, 200), (21 * MIB, 413)):
        # Hex digits without a pattern compress to about half their size.
        digits = os.urandom(size // 2).hex()
        body = gzip.compress(log_request(digits), 1)
        answer = receiver.post("/v1/logs", body, {"Content-Encoding": "gzip"})
        assert answer.status == status


def peak_memory_kib(receiver: RunningReceiver) -> int:
    """Peak resident memory of the receiver's process; 0 where it cannot be known."""
    status = Path(f"/proc/{receiver.process.pid}/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0])


def test_deep_json(receiver: RunningReceiver) -> None:
    """JSON nested a hundred thousand times is malformed, not a crash."""
    kind = {"Content-Type": "application/json"}
    deep = b'{"a":' * 100_000
    assert receiver.post("/v1/logs", deep + b"1" + b"}" * 100_000, kind).status == 400
    value = '{"arrayValue":{"values":[' * 60 + '{"intValue":1}' + "]}}" * 60
    body = (
        f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}'
    )
    assert receiver.post("/v1/logs", body.encode(), kind).status == 400
    assert receiver.post("/v1/traces", one_span()).status == 200


def test_slow_clients_do_not_keep_others_out(receiver: RunningReceiver) -> None:
    """Two hundred connections that send nothing more leave room for the others."""
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            slow = socket.create_connection(receiver.http_address, timeout=15)
            stack.enter_context(slow).sendall(head)
        began = time.monotonic()
        assert receiver.post("/v1/traces", one_span()).status == 200
        assert time.monotonic() - began < 5


def test_bodies_under_way_are_bounded(receiver: RunningReceiver) -> None:
    """64 MiB of unfinished bodies are held together; who brings more is told so."""
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
    ) % (18 * MIB)
    with contextlib.ExitStack() as stack:
        slow: list[socket.socket] = []
        for _ in range(4):
            client = socket.create_connection(receiver.http_address, timeout=15)
            slow.append(stack.enter_context(client))
            with contextlib.suppress(ConnectionError):  # it need not read all
                client.sendall(head + b"\n" * (17 * MIB))
        refused, _, _ = select.select(slow, [], [], 10)
        assert refused
        for client in refused:
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"Retry-After: 1" in answer
    assert receiver.post("/v1/traces", one_span()).status == 200


def grpc_call(receiver: RunningReceiver, body: bytes, **options: Any) -> bytes:
    with grpc.insecure_channel(urlsplit(receiver.grpc).netloc, **options) as channel:
        call = channel.unary_unary(
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        )
        return bytes(call(body, timeout=15))


def test_grpc_refusals(receiver: RunningReceiver) -> None:
    """A malformed message is INVALID_ARGUMENT; an inflated one RESOURCE_EXHAUSTED."""
    with pytest.raises(grpc.RpcError) as malformed:
        grpc_call(receiver, b"\xff\xff\xff")
    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as inflated:
        grpc_call(receiver, b"\0" * (64 * MIB), compression=grpc.Compression.Gzip)
    assert inflated.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert grpc_call(receiver, b"") == b""
    assert receiver.requests() == [{"signal": "logs", "request": {}}]


def log_request(message: str) -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    service = group.resource.attributes.add(key="service.name")
    service.value.string_value = "sender"
    record = group.scope_logs.add().log_records.add(severity_number=17)
    record.body.string_value = message
    record.time_unix_nano = 1_700_000_000_123_000_000
    record.trace_id = bytes(range(16))
    return bytes(request.SerializeToString())


def test_readable_output_cannot_drive_the_terminal(start: Start) -> None:
    """Without --json a person reads lines; control characters come out as escapes."""
    receiver = start()
    hostile = "\x1b[2J\x1b]0;owned\x07 first\r\nsecond \u202e\x9b31m"
    assert receiver.post("/v1/logs", log_request(hostile)).status == 200
    assert receiver.post("/v1/traces", one_span("\x1b[31mred")).status == 200
    assert receiver.stop() == 0
    _, *lines = receiver.text().splitlines()
    assert lines[0].startswith("22:13:20.123Z  ERROR")
    assert r"\x1b[2J\x1b]0;owned\x07 first\r\nsecond \u202e\x9b31m" in lines[0]
    assert lines[0].endswith("trace=00010203")
    assert lines[1].startswith(f"trace {b't'.hex() * 16} · 1 span")
    assert r"\x1b[31mred" in lines[2]
    assert lines[3:] == ["received: spans 1, data points 0, log records 1"]


def post_json(receiver: RunningReceiver, path: str, content: object) -> None:
    body = json.dumps(content).encode()
    kind = {"Content-Type": "application/json"}
    assert receiver.post(path, body, kind).status == 200


def sums(time: int, value: int) -> dict[str, Any]:
    """One export of a delta counter and of a delta histogram."""
    point = {"timeUnixNano": str(time), "attributes": []}
    spread = {"count": 2, "sum": value, "min": 1, "max": value}
    buckets = {"explicitBounds": [1, 10], "bucketCounts": [1, 1, 0]}
    return {
        "resource": {},
        "scopeMetrics": [
            {
                "metrics": [
                    {
                        "name": "sold",
                        "sum": {
                            "aggregationTemporality": 1,
                            "isMonotonic": True,
                            "dataPoints": [point | {"asInt": value}],
                        },
                    },
                    {
                        "name": "size",
                        "histogram": {
                            "aggregationTemporality": 1,
                            "dataPoints": [point | spread | buckets],
                        },
                    },
                    {"name": "old", "summary": {"dataPoints": [point | {"count": 1}]}},
                    {"name": "no data"},
                ]
            }
        ],
    }


def test_deltas_are_added_up(start: Start) -> None:
    """Several deltas of one series are shown as their sum, in whatever order."""
    receiver = start()
    content = {"resourceMetrics": [sums(2, 5), sums(1, 7)]}
    post_json(receiver, "/v1/metrics", content)
    assert receiver.stop() == 0
    _, heading, *rows, total = receiver.text().splitlines()
    assert heading == "metrics of unknown_service"
    assert [row.split() for row in rows] == [
        ["old", "histogram", "count=1", "sum=0", "mean=0"],
        [
            *[
                "size",
                "histogram",
                "count=4",
                "sum=12",
                "mean=3",
                "p50≤1",
                "min=1",
                "max=7",
            ]
        ],
        ["sold", "counter", "12"],
    ]
    assert total == "received: spans 0, data points 6, log records 0"


def test_any_value_is_shown(start: Start) -> None:
    """Nested values, bytes, unknown levels and impossible times are shown somehow."""
    receiver = start()
    deep: dict[str, Any] = {"intValue": 1}
    for _ in range(6):
        deep = {"arrayValue": {"values": [deep]}}
    pairs = [
        {
            "key": "map",
            "value": {"kvlistValue": {"values": [{"key": "a", "value": {}}]}},
        },
        {"key": "raw", "value": {"bytesValue": "AAEC"}},
        {"key": "deep", "value": deep},
    ]
    records = [
        {"attributes": pairs, "severityText": "notice", "timeUnixNano": str(2**64 - 1)},
        {"eventName": "restart", "severityNumber": 24, "observedTimeUnixNano": "1"},
    ]
    group = {"scopeLogs": [{"logRecords": records}]}
    post_json(receiver, "/v1/logs", {"resourceLogs": [group]})
    assert receiver.stop() == 0
    _, restart, odd, _ = receiver.text().splitlines()
    assert restart == "00:00:00.000Z  FATAL  restart"
    assert "notice" in odd
    assert odd.endswith('deep=[[[[…]]]] map="{a: }" raw="<3 bytes>"')


def test_spans_that_name_each_other_as_parent(start: Start) -> None:
    """A cycle of parents shows every span once instead of looping or hiding it."""
    receiver = start()
    ids = {"traceId": "0" * 31 + "1"}
    spans = [
        ids
        | {"name": f"span {number}", "spanId": f"{number:016x}"}
        | {"parentSpanId": f"{(number + 1) % 3:016x}"}
        for number in range(3)
    ]
    group = {"scopeSpans": [{"spans": spans}]}
    post_json(receiver, "/v1/traces", {"resourceSpans": [group]})
    assert receiver.stop() == 0
    for number in range(3):
        assert receiver.text().count(f"span {number}") == 1


def test_ipv6_loopback(start: Start) -> None:
    """The other loopback address serves as well, where there is IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    receiver = start("--json", "--host=::1")
    assert receiver.http.startswith("http://[::1]:")
    assert receiver.post("/v1/traces", one_span()).status == 200
    assert grpc_call(receiver, b"") == b""
    assert [each["signal"] for each in receiver.requests()] == ["traces", "logs"]


def test_nobody_reads_the_output() -> None:
    """A closed pipe ends the command quietly instead of with a traceback."""
    command = [*COMMAND, "receive", "--json", "--http-port=0", "--grpc-port=0"]
    with subprocess.Popen(
        command,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        at = urlsplit(json.loads(process.stdout.readline())["listening"]["http"])
        process.stdout.close()
        connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=15)
        with contextlib.closing(connection):
            assert exchange(connection, "/v1/traces", one_span()).status == 200
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_ends_by_itself() -> None:
    """--seconds bounds the run, and an interrupt ends it with exit code 0 as well."""
    done = run_receive("--http-port=0", "--grpc-port=0", "--seconds=0.2")
    assert (done.returncode, done.stderr) == (0, "")


def test_port_in_use() -> None:
    """A taken port is one line on stderr and exit code 2, whichever door it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (
            (f"--http-port={port}", "--grpc-port=0"),
            ("--http-port=0", f"--grpc-port={port}"),
        ):
            done = run_receive(*options)
            assert (done.returncode, done.stdout) == (2, "")
            (line,) = done.stderr.splitlines()
            assert f"127.0.0.1:{port}" in line
            assert "in use" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "::", "example.com"])
def test_listens_on_loopback_only(host: str) -> None:
    """An address that others could reach is refused with the reason."""
    done = run_receive("--host", host, "--http-port=0", "--grpc-port=0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "loopback" in line
    assert host in line


def run_receive(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "receive", *options],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_broken_connections_are_survived(receiver: RunningReceiver) -> None:
    """Clients that break off in the middle leave no trace, neither data nor words."""
    reset = struct.pack("ii", 1, 0)
    for sent in (
        b"",
        b"POST /v1/tra",
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n",
    ):
        with socket.create_connection(receiver.http_address, timeout=15) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            connection.sendall(sent)
    assert receiver.post("/v1/traces", one_span()).status == 200
    assert receiver.stop() == 0
    assert len(receiver.requests()) == 1
