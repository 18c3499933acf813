"""One call to setup, another one, many at once; and what the handle gives."""

import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, propagate, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flext_observability as fo
from tests.conftest import Certificates, assert_no_new_threads, library_threads
from tests.fixtures.collector import Collector, Protocol, Relay
from tests.fixtures.library import (
    assert_balanced,
    emit_all,
    flush,
    start,
    wait_until,
)
from tests.fixtures.programs import run_program


def test_all_three_signals_arrive(collector: Collector) -> None:
    """After one call, a span, a metric and a log record reach the collector."""
    start(collector)
    emit_all("first")
    flush()

    span = collector.span("first")
    assert collector.log("first").trace_id == span.trace_id
    assert collector.log("first").span_id == span.span_id
    assert collector.metric("first").value == 1
    assert_balanced()


def test_resource_says_who_sends(collector: Collector) -> None:
    """Every signal carries the same resource: service, environment, process, host."""
    start(
        collector,
        "orders",
        service_version="1.4.0",
        service_namespace="retail",
        environment="staging",
        resource_attributes={"team": "checkout"},
    )
    emit_all("who")
    flush()

    resource = collector.span("who").resource
    assert resource["service.name"] == "orders"
    assert resource["service.version"] == "1.4.0"
    assert resource["service.namespace"] == "retail"
    assert resource["deployment.environment.name"] == "staging"
    assert resource["team"] == "checkout"
    assert resource["process.pid"] == os.getpid()
    assert resource["host.name"] == socket.gethostname()
    assert resource["telemetry.sdk.language"] == "python"
    assert resource["process.runtime.version"] == ".".join(
        map(str, sys.version_info[:3])
    )
    assert resource["service.instance.id"]
    assert collector.log("who").resource == resource
    assert collector.metric("who").resource == resource


def test_defaults_of_the_resource(http_collector: Collector) -> None:
    """A service nobody named is still a service in development."""
    start(http_collector, None)
    emit_all("x")
    flush()

    resource = http_collector.span("x").resource
    assert resource["service.name"] == "flext-service"
    assert resource["deployment.environment.name"] == "development"


def test_headers_travel_with_every_signal(collector: Collector) -> None:
    """Configured headers are HTTP headers or gRPC metadata of each request."""
    start(collector, headers={"api-key": "s3cret", "X-Tenant": "t1"})
    emit_all("x")
    flush()

    assert {request.signal for request in collector.requests()} == {
        "traces",
        "metrics",
        "logs",
    }
    for request in collector.requests():
        assert request.headers["api-key"] == "s3cret"
        assert request.headers["x-tenant"] == "t1"


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_compression_on_the_wire(protocol: Protocol, compression: str) -> None:
    """With gzip a compressible megabyte costs little on the wire; without it, all."""
    with Collector(protocol) as collector, Relay(collector.port) as relay:
        start(collector, endpoint=relay.endpoint, compression=compression)
        for _ in range(100):
            with fo.flext_span("big", attributes={"text": "a" * 12_000}):
                pass
        flush()
        # Before the relay closes, so that shutdown has somebody to talk to.
        fo.shutdown()

        assert len(collector.spans("big")) == 100
        if compression == "gzip":
            assert relay.sent_bytes < 100_000
        else:
            assert relay.sent_bytes > 1_000_000


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_http_names_its_encoding(http_collector: Collector, compression: str) -> None:
    """Compressed HTTP bodies say how they are compressed."""
    start(http_collector, compression=compression)
    emit_all("x")
    flush()

    assert {request.encoding for request in http_collector.requests()} == {compression}


def test_protocol_is_inferred_from_the_port() -> None:
    """Port 4318 means HTTP, port 4317 gRPC, when nobody says otherwise."""
    for port, expected in ((4318, "http/protobuf"), (4317, "grpc")):
        fo.setup("x", endpoint=f"http://localhost:{port}", exit_budget_s=0.1).unwrap()
        assert fo.status().protocol == expected
    fo.shutdown(timeout_s=0.1)


def test_same_settings_again_change_nothing(http_collector: Collector) -> None:
    """A second call with equal settings keeps the pipeline; nothing comes twice."""
    start(http_collector)
    emit_all("before")
    flush()
    threads = library_threads()
    instance = fo.status()
    start(http_collector)
    emit_all("once")
    flush()

    assert fo.status().endpoint == instance.endpoint
    assert library_threads() == threads
    assert len(http_collector.spans("once")) == 1
    assert len(http_collector.logs("once")) == 1
    assert http_collector.metric("once").value == 1


def test_second_setup_moves_everything_over(
    collector: Collector, second_collector: Collector
) -> None:
    """Handles, instruments, loggers and decorated functions follow a new setup."""
    handle = start(collector)
    counter = fo.flext_counter("orders")
    log = fo.get_logger("orders")
    tracer = handle.tracer
    plain_tracer = trace.get_tracer("app")
    plain_counter = metrics.get_meter("app").create_counter("plain")

    @fo.flext_monitor_function("work")
    def work() -> None:
        counter.add(1)
        plain_counter.add(1)
        log.warning("working")
        logging.getLogger("app").warning("std")
        with tracer.start_as_current_span("by handle"):
            plain_tracer.start_span("by api").end()

    work()
    start(second_collector, "moved")  # Flushes the old pipeline by itself.
    first = [span.name for span in collector.spans()]
    work()
    flush()

    names = ["by api", "by handle", "work"]
    assert sorted(first) == names
    assert [
        sorted(log.body for log in server.logs())
        for server in (collector, second_collector)
    ] == [["std", "working"]] * 2
    assert sorted(span.name for span in second_collector.spans()) == names
    assert collector.metric("orders").value == 1
    assert second_collector.metric("orders").value == 1
    assert collector.metric("plain").value == 1
    assert second_collector.metric("plain").value == 1
    assert second_collector.span("work").resource["service.name"] == "moved"
    assert len(collector.spans()) == 3, "the old server got something later"


def test_span_across_a_second_setup(
    http_collector: Collector, second_collector: Collector
) -> None:
    """A span that is open while the pipeline is exchanged is not lost."""
    start(http_collector)
    with fo.flext_span("long"):
        start(second_collector)
    flush()
    assert len(http_collector.spans("long") + second_collector.spans("long")) == 1


def test_fifty_threads_make_one_pipeline(http_collector: Collector) -> None:
    """Setup from many threads at once is one setup."""
    start(http_collector)
    emit_all("alone")
    flush()
    alone = library_threads()
    fo.shutdown()

    def call(_: int) -> bool:
        return fo.setup(
            "shop",
            endpoint=http_collector.endpoint,
            protocol="http/protobuf",
            timeout_s=9,
        ).success

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(call, range(50)))
    emit_all("one")
    flush()

    # Threads of the former pipeline may take a moment to end.
    wait_until(lambda: library_threads() == alone)
    assert len(http_collector.spans("one")) == 1
    assert len(http_collector.logs("one")) == 1


def test_before_setup_everything_is_quiet() -> None:
    """Without setup every call works, emits nothing and starts no thread."""

    @fo.flext_monitor_function
    def work() -> int:
        with fo.flext_span("x"):
            fo.flext_add_attributes(a=1)
        fo.flext_counter("c").add(1)
        fo.flext_histogram("h").record(1)
        fo.flext_gauge("g").set(1)
        return 3

    assert work() == 3
    assert fo.flush().success
    assert fo.shutdown(20.0).success
    assert not fo.status().running
    assert fo.flext_create_metric("m", 1).success
    assert fo.flext_create_log_entry("info", "hello").success
    assert not library_threads()


def test_after_shutdown_everything_is_quiet(http_collector: Collector) -> None:
    """After shutdown calls still work, and nothing leaves the process."""
    handle = start(http_collector)
    emit_all("before")
    assert handle.shutdown(20.0).success
    emit_all("after")
    fo.flext_create_metric("after", 1).unwrap()

    assert fo.flush().success
    assert not fo.status().running
    assert http_collector.span("before")
    assert http_collector.log("before")
    assert http_collector.metric("before").value == 1
    assert not http_collector.spans("after")
    assert not http_collector.logs("after")
    assert not http_collector.metrics("after")


def test_setup_after_shutdown_starts_again(http_collector: Collector) -> None:
    """Shutdown is no end: the next setup works like the first."""
    start(http_collector)
    fo.shutdown(20.0).unwrap()
    start(http_collector)
    emit_all("again")
    flush()
    assert http_collector.span("again")
    assert http_collector.log("again")
    assert http_collector.metric("again").value == 1


def test_handle_gives_plain_opentelemetry(collector: Collector) -> None:
    """Tracer and meter of the handle are OTel's own, on the same pipeline."""
    handle = start(collector)
    with handle.tracer.start_as_current_span("plain") as span:
        span.add_event("seen", {"n": 1})
    handle.meter.create_counter("plain.count").add(2)
    flush()

    assert collector.span("plain").event("seen").attributes == {"n": 1}
    assert collector.metric("plain.count").value == 2


def test_handle_knows_its_settings(http_collector: Collector) -> None:
    """The handle carries the settings in force; status agrees with them."""
    handle = start(http_collector, "orders", environment="test")
    status = handle.status()

    assert handle.config.service_name == "orders"
    assert handle.config.environment == "test"
    assert status.running
    assert status.service_name == "orders"
    assert status.protocol == "http/protobuf"
    assert str(http_collector.port) in str(status.endpoint)
    assert status.last_error is None
    assert set(status.signals) == {"traces", "metrics", "logs"}


def test_global_providers_are_ours(http_collector: Collector) -> None:
    """Instrumentations that ask OTel's globals send through the same pipeline."""
    start(http_collector)
    with trace.get_tracer("instrumentation").start_as_current_span("outer"):

        @fo.flext_monitor_function("inner")
        def inner() -> None: ...

        inner()
    flush()
    outer, inner_span = http_collector.span("outer"), http_collector.span("inner")
    assert inner_span.parent_span_id == outer.span_id
    assert outer.scope == "instrumentation"


PROVIDER_VARIABLES = {
    f"OTEL_PYTHON_{kind.upper()}_PROVIDER": f"sdk_{kind}_provider"
    for kind in ("tracer", "meter", "logger")
}
# Sends one record of every signal through plain OpenTelemetry.
PLAIN_PROGRAM = """
import sys
import flext_observability as fo
{before}
fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf", {fields}).unwrap()
from opentelemetry import _logs, metrics, trace
with trace.get_tracer("lib").start_as_current_span("plain"):
    print(*fo.flext_inject_headers({{}}).unwrap())
metrics.get_meter("lib").create_counter("plain").add(1)
_logs.get_logger("lib").emit(body="plain")
assert fo.flush().success
"""


def assert_plain_arrives(
    collector: Collector, env: dict[str, str], before: str = "", fields: str = ""
) -> str:
    """Run that program with these variables; give what it said."""
    source = PLAIN_PROGRAM.format(before=before, fields=fields)
    ended = run_program(source, collector.endpoint, env=env).ok()
    assert collector.span("plain").scope == "lib"
    assert collector.metric("plain").value == 1
    assert collector.log("plain")
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("value", ["", " ", "missing", "of the SDK"])
def test_variables_that_name_other_providers(
    http_collector: Collector, value: str
) -> None:
    """Whatever providers OTEL_PYTHON_*_PROVIDER name, ours are installed."""
    env = dict.fromkeys(PROVIDER_VARIABLES, value)
    env = PROVIDER_VARIABLES if value == "of the SDK" else env
    said = assert_plain_arrives(http_collector, env)
    assert said.split() == ["traceparent", "X-Correlation-ID"]


def test_provider_of_another(http_collector: Collector) -> None:
    """A provider that was installed before setup stays, and one line says so."""
    before = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""
    source = PLAIN_PROGRAM.format(before=before, fields="")
    ended = run_program(source, http_collector.endpoint).ok()
    assert ended.stderr.count("another TracerProvider was installed") == 1
    assert http_collector.metric("plain").value == 1
    assert http_collector.log("plain")
    assert not http_collector.spans()


@pytest.mark.parametrize("blank", ["", " "])
def test_blank_variables(http_collector: Collector, blank: str) -> None:
    """A variable that is blank counts as unset."""
    env = {"OTEL_PROPAGATORS": blank, "OTEL_METRICS_EXEMPLAR_FILTER": blank}
    assert "traceparent" in assert_plain_arrives(http_collector, env)


def test_argument_over_bad_variable(http_collector: Collector) -> None:
    """Propagators that are given count, whatever the variable names."""
    env = {"OTEL_PROPAGATORS": "pigeon"}
    fields = "propagators=['tracecontext']"
    said = assert_plain_arrives(http_collector, env, fields=fields)
    assert said.split() == ["traceparent", "X-Correlation-ID"]


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ("tracing_enabled", {"metrics", "logs"}),
        ("metrics_enabled", {"traces", "logs"}),
        ("logs_enabled", {"traces", "metrics"}),
    ],
)
def test_one_signal_switched_off(
    http_collector: Collector, field: str, kept: set[str]
) -> None:
    """A signal that is off sends nothing; the others go on."""
    switch: dict[str, Any] = {field: False}
    start(http_collector, **switch)
    emit_all("x")
    flush()
    assert {request.signal for request in http_collector.requests()} == kept


def test_config_object_counts_where_it_was_set(http_collector: Collector) -> None:
    """Of a config only the fields that were set count, and keywords win over it."""
    config = fo.FlextObservabilityConfig(
        service_name="from-config", environment="from-config"
    )
    start(http_collector, None, config=config, environment="from-keyword")
    emit_all("x")
    flush()
    resource = http_collector.span("x").resource
    assert resource["service.name"] == "from-config"
    assert resource["deployment.environment.name"] == "from-keyword"


def test_short_settings_as_config(http_collector: Collector) -> None:
    """ObservabilitySettings nests in a user's settings and steers setup."""
    settings = fo.ObservabilitySettings(tracing_enabled=False)
    start(http_collector, config=settings)
    emit_all("x")
    flush()
    assert {request.signal for request in http_collector.requests()} == {
        "metrics",
        "logs",
    }


def test_flush_says_what_remains() -> None:
    """Flush against a dead collector fails within its time and names what is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fo.setup(
        "shop",
        endpoint=f"http://127.0.0.1:{port}",
        protocol="http/protobuf",
        metrics_enabled=False,
        logs_enabled=False,
    ).unwrap()
    with fo.flext_span("stuck"):
        pass
    result = fo.flush(timeout_s=0.3)
    assert result.is_failure
    assert "1" in str(result.error)
    assert "traces" in str(result.error) or "span" in str(result.error)
    assert_balanced("traces")


ENDPOINT = "http://localhost:4317"

BAD_FIELDS: list[tuple[str, Any]] = [
    ("service_name", ""),
    ("service_name", 7),
    ("protocol", "thrift"),
    ("endpoint", "no url"),
    ("endpoint", "ftp://localhost:4317"),
    ("endpoint", "http://"),
    ("endpoint", "http://localhost:99999"),
    ("headers", "no pairs"),
    ("headers", {"bad name\n": "x"}),
    ("compression", "brotli"),
    ("timeout_s", -1),
    ("timeout_s", "soon"),
    ("timeout_s", float("nan")),
    ("certificate", "/nowhere/ca.pem"),
    ("client_certificate", "/nowhere/client.pem"),
    ("client_key", "/nowhere/client.key"),
    ("exporters", ["zipkin"]),
    ("exporters", 3),
    ("tracing_enabled", "perhaps"),
    ("metrics_enabled", "perhaps"),
    ("logs_enabled", "perhaps"),
    ("sample_ratio", 1.7),
    ("sample_ratio", -0.1),
    ("sample_ratio", "half"),
    ("propagators", ["pigeon"]),
    ("correlation_id_header", "bad header\r\n"),
    ("correlation_id_header", ""),
    ("log_level", "LOUD"),
    ("structured_logging", "perhaps"),
    ("metrics_export_interval_s", 0),
    ("metrics_export_interval_s", 4000),
    ("histogram_buckets_s", [3, 2, 1]),
    ("histogram_buckets_s", "wide"),
    ("max_span_attributes", 0),
    ("max_span_attributes", 5000),
    ("resource_attributes", 5),
    ("exit_budget_s", -1),
    ("sampler", "always"),
    ("span_processors", ["not a processor"]),
    ("log_record_processors", ["not a processor"]),
    ("metric_readers", ["not a reader"]),
    ("views", ["not a view"]),
    ("config", "not a config"),
]


@pytest.mark.parametrize(
    ("field", "value"), BAD_FIELDS, ids=[f"{f}={v!r}" for f, v in BAD_FIELDS]
)
def test_bad_value_is_a_failure(
    field: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad value fails with field, value and fix, and one ERROR log line."""
    fields: dict[str, Any] = {"service_name": "shop", field: value}
    result = fo.setup(**fields)

    assert result.is_failure
    error = str(result.error)
    assert error.startswith(f"Invalid configuration: {field}: ")
    if field != "headers":
        shown = value[0] if isinstance(value, list) else value
        assert str(shown).strip() in error or repr(shown) in error
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [error]
    assert not fo.status().running
    with pytest.raises(fo.FlextObservabilityError, match="Invalid configuration"):
        result.unwrap()


def test_unknown_field_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt field is named, and so is what it may have meant."""
    result = fo.setup("shop", sample_ration=0.5)  # type: ignore[call-arg]
    assert result.is_failure
    assert "Invalid configuration: sample_ration: " in str(result.error)
    assert "sample_ratio" in str(result.error).replace("sample_ration", "")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("FLEXT_OBSERVABILITY_SAMPLE_RATIO", "7", "sample_ratio"),
        ("OBSERVABILITY_PROTOCOL", "thrift", "protocol"),
        ("FLEXT_LOG_LEVEL", "LOUD", "log_level"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift", "protocol"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli", "compression"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "timeout_s"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "exporters"),
        ("OTEL_PROPAGATORS", "pigeon", "propagators"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "some", "always_off"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "many", "integer"),
    ],
)
def test_bad_variable_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    """A bad variable fails like a bad argument, and the variable is named."""
    monkeypatch.setenv(variable, value)
    result = fo.setup("shop")
    assert result.is_failure
    assert str(result.error).startswith("Invalid configuration: ")
    assert field in str(result.error)
    assert value in str(result.error)
    assert variable in str(result.error) or "for traces" in str(result.error)


def test_bad_setup_leaves_what_was_in_force(http_collector: Collector) -> None:
    """After a failed second setup the first one goes on as before."""
    start(http_collector, "kept")
    assert fo.setup("lost", sample_ratio=1.7).is_failure
    emit_all("x")
    flush()
    assert http_collector.span("x").resource["service.name"] == "kept"
    assert fo.status().service_name == "kept"


def setup_that_fails_late(**fields: Any) -> fo.FlextResult[Any]:
    """Set up where the last thing, handling signals, cannot be had."""

    def refuse(*_: object) -> None:
        raise RuntimeError("no signals here")

    with pytest.MonkeyPatch.context() as host:
        host.setattr(signal, "signal", refuse)
        return fo.setup("lost", handle_signals=True, **fields)


def test_late_failure_leaves_nothing(http_collector: Collector) -> None:
    """A first setup that fails at its very end leaves nothing of it in force."""
    before = fo.status()
    call_handlers, submit = logging.Logger.callHandlers, ThreadPoolExecutor.submit
    threads, propagator = set(threading.enumerate()), propagate.get_global_textmap()
    address = {"endpoint": http_collector.endpoint, "protocol": "http/protobuf"}
    result = setup_that_fails_late(**address)
    assert result.error == "setup failed: RuntimeError: no signals here"
    emit_all("lost")
    assert not fo.status().running
    assert fo.status().signals == before.signals
    assert_no_new_threads(threads)
    assert logging.Logger.callHandlers is call_handlers
    assert ThreadPoolExecutor.submit is submit
    assert propagate.get_global_textmap() is propagator

    start(http_collector, "found")
    emit_all("found")
    flush()
    assert http_collector.span("found").resource["service.name"] == "found"
    assert not http_collector.spans("lost")


def test_late_failure_leaves_what_was_in_force(
    http_collector: Collector, second_collector: Collector
) -> None:
    """A further setup that fails at its very end changes nothing."""
    reader, diary = InMemoryMetricReader(), InMemorySpanExporter()
    processor = SimpleSpanProcessor(diary)
    start(http_collector, "kept", metric_readers=[reader], span_processors=[processor])
    emit_all("before")
    flush()
    threads = set(threading.enumerate())
    result = setup_that_fails_late(
        endpoint=second_collector.endpoint,
        metric_readers=[reader],
        span_processors=[processor],
    )
    assert result.is_failure
    emit_all("x")
    flush()
    for arrived in (http_collector.span("x"), http_collector.log("x")):
        assert arrived.resource["service.name"] == "kept"
    assert http_collector.metric("x").value == 1
    assert fo.status().service_name == "kept"
    assert_no_new_threads(threads)
    assert [span.name for span in diary.get_finished_spans()] == ["before", "x"]
    assert reader.get_metrics_data() is not None
    assert not second_collector.requests()


CHILD_PROGRAM = """
import os, sys
import flext_observability as fo
from opentelemetry import _logs, metrics, trace

fo.setup("shop", exporters=["none"]).unwrap()
uses = [
    lambda: trace.get_tracer("lib").start_span("span").end(),
    lambda: metrics.get_meter("lib").create_counter("count").add(1),
    lambda: _logs.get_logger("lib").emit(body="record"),
    lambda: fo.get_logger("lib").warning("line"),
]
first = int(sys.argv[1])
child = os.fork()
if not child:
    os.environ["OTEL_METRICS_EXEMPLAR_FILTER"] = "some"
    for use in uses[first:] + uses:
        use()
    print(fo.status().running, fo.flush().success, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("first", range(4))
def test_forked_child_whose_setup_fails(first: int) -> None:
    """A child whose own pipeline cannot be built says so once, and runs without.

    Whatever it uses first does not raise.
    """
    ended = run_program(CHILD_PROGRAM, str(first)).ok()
    assert ended.lines == ["False True"]
    assert ended.stderr.count("a forked child runs without telemetry") == 1
    assert "OTEL_METRICS_EXEMPLAR_FILTER" in ended.stderr


def test_missing_half_of_a_client_identity(certificates: Certificates) -> None:
    """A client certificate without its key is refused, and the key is named."""
    _, chain = certificates.client
    result = fo.setup(
        "shop", endpoint="https://localhost:4317", client_certificate=str(chain)
    )
    assert result.is_failure
    assert "client_key" in str(result.error)


def test_certificate_that_is_none(tmp_path: Path) -> None:
    """A certificate file with something else inside is a failure naming the field."""
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    result = fo.setup("shop", endpoint="https://localhost:4318", certificate=str(path))
    assert result.is_failure
    assert "certificate" in str(result.error)


def test_secrets_stay_secret(
    http_collector: Collector, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """Header values appear in no repr, dump, status, error, log line or record."""
    caplog.set_level(logging.DEBUG)
    secret = "hunter2-hunter2"  # noqa: S105
    handle = start(http_collector, headers={"authorization": f"Bearer {secret}"})
    emit_all("x")
    flush()
    failed = fo.setup("shop", headers={"authorization": secret}, sample_ratio=9)
    refused = fo.setup("shop", headers={"authorization": f"{secret}\r\nX: y"})

    out, err = capfd.readouterr()
    shown = [
        repr(handle),
        repr(handle.config),
        str(handle.config),
        handle.config.model_dump_json(),
        str(handle.config.model_dump()),
        repr(fo.status()),
        str(failed.error),
        repr(failed.exception),
        repr(failed.exception.__cause__ if failed.exception else None),
        str(refused.error),
        caplog.text,
        out,
        err,
        repr(http_collector.spans() + http_collector.logs()),
    ]
    assert http_collector.requests()[0].headers["authorization"] == f"Bearer {secret}"
    assert refused.is_failure, "a header value with a line break is no header"
    assert [text for text in shown if secret in text] == []


def test_custom_header_name_for_correlation(http_collector: Collector) -> None:
    """The correlation header can have another name."""
    start(http_collector, correlation_id_header="X-Request-ID")
    with fo.flext_correlation_scope("req-1"):
        headers = fo.flext_inject_headers({}).unwrap()
    assert headers["X-Request-ID"] == "req-1"
    assert "X-Correlation-ID" not in headers
    with fo.flext_extract_headers({"x-request-id": "req-2"}):
        assert fo.flext_get_correlation_id() == "req-2"
