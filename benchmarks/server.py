"""An OTLP/HTTP server in a process of its own that counts and forgets.

It answers before it counts, so that nobody waits for its decoding. `Server` starts it
on the cores that the measured processes do not use.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterable
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from benchmarks.harness import ROOT, cores
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

_HEAD_END = b"\r\n\r\n"


def labels_of(attributes: Iterable[KeyValue]) -> bytes:
    """Give something that is equal for equal labels."""
    return b"".join(sorted(pair.SerializeToString() for pair in attributes))


class Counts:
    """What has arrived."""

    def __init__(self) -> None:
        self._records: Counter[str] = Counter()
        self._series: dict[tuple[str, str, bytes], float] = {}

    def add(self, path: str, body: bytes) -> None:
        """Count the records of a request."""
        self._records["requests"] += 1
        self._records["bytes"] += len(body)
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self._records["spans"] += sum(
                len(scope.spans)
                for resource in traces.resource_spans
                for scope in resource.scope_spans
            )
        elif path == "/v1/logs":
            logs = ExportLogsServiceRequest.FromString(body)
            self._records["log_records"] += sum(
                len(scope.log_records)
                for resource in logs.resource_logs
                for scope in resource.scope_logs
            )
        elif path == "/v1/metrics":
            self._add_metrics(ExportMetricsServiceRequest.FromString(body))

    def _add_metrics(self, request: ExportMetricsServiceRequest) -> None:
        """Keep the last total of every cumulative series of every process."""
        for resource in request.resource_metrics:
            process = resource.resource.SerializeToString(deterministic=True).hex()
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._add_metric(process, metric)

    def _add_metric(self, process: str, metric: Metric) -> None:
        for point in metric.sum.data_points:
            labels = labels_of(point.attributes)
            total = point.as_double or point.as_int
            self._series[process, metric.name, labels] = total
        for values in metric.histogram.data_points:
            labels = labels_of(values.attributes)
            self._series[process, metric.name, labels] = values.count

    def as_dict(self) -> dict[str, Any]:
        """Give records by kind, and totals by metric name."""
        totals: dict[str, float] = {}
        for (_, name, _), total in self._series.items():
            totals[name] = totals.get(name, 0) + total
        kinds = ("spans", "log_records", "requests", "bytes")
        return {kind: self._records[kind] for kind in kinds} | {"totals": totals}


class Discard(asyncio.Protocol):
    """The least HTTP/1.1 that keeps a connection alive, by Content-Length only."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head = bytes(self._received[:end]).decode("latin-1")
            start, *lines = head.split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            length = int(headers.get("content-length", "0"))
            first = end + len(_HEAD_END)
            if len(self._received) < first + length:
                return
            body = bytes(self._received[first : first + length])
            del self._received[: first + length]
            if headers.get("content-encoding") == "gzip":
                body = zlib.decompress(body, wbits=31)
            method, path, _ = start.split(" ", maxsplit=2)
            self._answer(method, path, body)

    def _answer(self, method: str, path: str, body: bytes) -> None:
        kind, reply = "application/x-protobuf", b""
        if method == "GET":
            kind, reply = (
                "application/json",
                json.dumps(self._counts.as_dict()).encode(),
            )
        if self._transport is not None:
            self._transport.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(reply)}\r\n\r\n".encode()
                + reply
            )
        if method == "POST":
            self._counts.add(path, body)


def end_with_parent() -> None:
    """End when whoever started this process has ended, however that was."""
    sys.stdin.read()
    os._exit(0)


async def serve() -> None:
    """Say the port, then count and forget whatever comes."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    counts = Counts()
    running = asyncio.get_running_loop()
    server = await running.create_server(lambda: Discard(counts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The server's process; used in a `with` statement."""

    def __enter__(self) -> Self:
        """Start it and learn its port."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        known = cores()
        if known and sys.platform == "linux":
            os.sched_setaffinity(self._process.pid, known[1])
        if self._process.stdout is None:
            raise RuntimeError("no way to learn the port")
        self._port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self._port}"

    def counts(self) -> dict[str, Any]:
        """Give what has arrived since it started: see `Counts.as_dict`."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("GET", "/")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


if __name__ == "__main__":
    asyncio.run(serve())
