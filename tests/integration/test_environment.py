"""Variables of the environment, and which one wins."""

import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import baggage, context, trace

import flext_observability as fo
from tests.conftest import library_threads
from tests.fixtures.collector import Collector, Protocol
from tests.fixtures.library import assert_balanced, emit_all, flush, start
from tests.fixtures.programs import run_program

SetVariables = Callable[..., None]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> SetVariables:
    """Set variables of the environment for one test."""

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


SERVICE_NAMES = [
    ("FLEXT_OBSERVABILITY_SERVICE_NAME", "ours"),
    ("OBSERVABILITY_SERVICE_NAME", "short"),
    ("OTEL_SERVICE_NAME", "otel"),
    ("OTEL_RESOURCE_ATTRIBUTES", "service.name=resource"),
]
ENVIRONMENTS = [
    ("FLEXT_OBSERVABILITY_ENVIRONMENT", "ours"),
    ("OBSERVABILITY_ENVIRONMENT", "short"),
    ("FLEXT_ENVIRONMENT", "flext"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=resource"),
]


@pytest.mark.parametrize("strongest", range(5))
@pytest.mark.parametrize(
    ("field", "attribute", "sources", "default"),
    [
        ("service_name", "service.name", SERVICE_NAMES, "flext-service"),
        ("environment", "deployment.environment.name", ENVIRONMENTS, "development"),
    ],
    ids=["service_name", "environment"],
)
def test_precedence(
    http_collector: Collector,
    variables: SetVariables,
    strongest: int,
    field: str,
    attribute: str,
    sources: list[tuple[str, str]],
    default: str,
) -> None:
    """The strongest source that names a setting wins, whatever the weaker ones say."""
    variables(**dict(sources[strongest:]))
    expected = [value.rpartition("=")[2] for _, value in sources] + [default]

    start(http_collector, None)
    emit_all("x")
    flush()
    resource = http_collector.span("x").resource
    assert resource[attribute] == expected[strongest]

    start(http_collector, **{"service_name": None, field: "argument"})
    emit_all("y")
    flush()
    assert http_collector.span("y").resource[attribute] == "argument"


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"FLEXT_LOG_LEVEL": "ERROR"}, ["error"]),
        (
            {"FLEXT_LOG_LEVEL": "ERROR", "OBSERVABILITY_LOG_LEVEL": "WARNING"},
            ["warning", "error"],
        ),
        (
            {
                "FLEXT_LOG_LEVEL": "ERROR",
                "OBSERVABILITY_LOG_LEVEL": "WARNING",
                "FLEXT_OBSERVABILITY_LOG_LEVEL": "DEBUG",
            },
            ["debug", "info", "warning", "error"],
        ),
        ({}, ["info", "warning", "error"]),
    ],
)
def test_log_level(
    http_collector: Collector,
    variables: SetVariables,
    values: dict[str, str],
    seen: list[str],
) -> None:
    """The log level decides which records leave the process."""
    variables(**values)
    start(http_collector)
    for level in ("debug", "info", "warning", "error"):
        fo.flext_create_log_entry(level, level).unwrap()
    flush()
    assert [log.body for log in http_collector.logs()] == seen


def test_endpoint_and_protocol(
    collector: Collector, protocol: Protocol, variables: SetVariables
) -> None:
    """The collector for all signals comes from OTel's own variables."""
    variables(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )
    fo.setup("shop").unwrap()
    emit_all("x")
    flush()
    assert {request.signal for request in collector.requests()} == {
        "traces",
        "metrics",
        "logs",
    }
    assert fo.status().protocol == protocol


def test_endpoint_with_a_path(
    http_collector: Collector, variables: SetVariables
) -> None:
    """Over HTTP the signal's path is appended to the base path of the endpoint."""
    variables(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"{http_collector.endpoint}/base/",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    fo.setup("shop").unwrap()
    emit_all("x")
    flush()
    assert {request.path for request in http_collector.requests()} == {
        "/base/v1/traces",
        "/base/v1/metrics",
        "/base/v1/logs",
    }


def test_endpoint_of_each_signal(protocol: Protocol, variables: SetVariables) -> None:
    """A signal's own endpoint is used as it stands, and only for that signal."""
    with (
        Collector(protocol) as traces,
        Collector(protocol) as metrics,
        Collector(protocol) as logs,
    ):
        variables(
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=logs.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=traces.signal_endpoint("traces"),
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=metrics.signal_endpoint("metrics"),
        )
        fo.setup("shop").unwrap()
        emit_all("x")
        flush()
        fo.shutdown()
        assert {request.signal for request in traces.requests()} == {"traces"}
        assert {request.signal for request in metrics.requests()} == {"metrics"}
        assert {request.signal for request in logs.requests()} == {"logs"}


def test_endpoint_of_a_signal_as_it_stands(
    http_collector: Collector, variables: SetVariables
) -> None:
    """No path is appended to the endpoint of one signal."""
    variables(
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=http_collector.endpoint,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{http_collector.endpoint}/my/traces",
    )
    fo.setup("shop").unwrap()
    emit_all("x")
    flush()
    assert {request.path for request in http_collector.requests()} == {
        "/my/traces",
        "/v1/metrics",
        "/v1/logs",
    }


def test_protocol_of_one_signal(variables: SetVariables) -> None:
    """Signals may speak different protocols."""
    with Collector("grpc") as rpc, Collector("http/protobuf") as web:
        variables(
            OTEL_EXPORTER_OTLP_ENDPOINT=web.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=rpc.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        )
        fo.setup("shop").unwrap()
        emit_all("x")
        flush()
        fo.shutdown()
        assert {request.signal for request in rpc.requests()} == {"traces"}
        assert {request.signal for request in web.requests()} == {"metrics", "logs"}


def test_argument_beats_the_endpoint_of_a_signal(
    http_collector: Collector, second_collector: Collector, variables: SetVariables
) -> None:
    """An explicit endpoint wins over every variable, per-signal ones too."""
    variables(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=second_collector.signal_endpoint("traces"),
        OTEL_EXPORTER_OTLP_ENDPOINT=second_collector.endpoint,
    )
    start(http_collector)
    emit_all("x")
    flush()
    assert http_collector.span("x")
    assert not second_collector.requests()


def test_headers(collector: Collector, variables: SetVariables) -> None:
    """Header variables are percent-decoded; a signal's own ones win."""
    variables(
        OTEL_EXPORTER_OTLP_HEADERS="api-key=a%20b,tenant=t1",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="api-key=logs",
    )
    start(collector)
    emit_all("x")
    flush()
    assert collector.requests("traces")[0].headers["api-key"] == "a b"
    assert collector.requests("traces")[0].headers["tenant"] == "t1"
    assert collector.requests("logs")[0].headers["api-key"] == "logs"


def test_compression(http_collector: Collector, variables: SetVariables) -> None:
    """Compression may be set for all signals, and otherwise for one."""
    variables(
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_EXPORTER_OTLP_LOGS_COMPRESSION="deflate",
    )
    start(http_collector)
    emit_all("x")
    flush()
    assert http_collector.requests("traces")[0].encoding == "gzip"
    assert http_collector.requests("metrics")[0].encoding == "gzip"
    assert http_collector.requests("logs")[0].encoding == "deflate"


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED", "OTEL_ENABLED"])
def test_disabled(
    http_collector: Collector, variables: SetVariables, variable: str
) -> None:
    """Switched off, everything works and nothing is emitted."""
    variables(**{variable: "true" if variable == "OTEL_SDK_DISABLED" else "false"})

    @fo.flext_monitor_function
    def work() -> int:
        emit_all("x")
        return 7

    start(http_collector)
    assert work() == 7
    assert fo.flext_create_metric("m", 1).success
    assert fo.flush().success
    assert not http_collector.requests()
    assert fo.status().signals["traces"].accepted == 0


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_exporter_none_for_one_signal(
    http_collector: Collector, variables: SetVariables, signal: str
) -> None:
    """A signal without exporter sends nothing."""
    variables(**{f"OTEL_{signal}_EXPORTER": "none"})
    start(http_collector)
    emit_all("x")
    flush()
    assert {request.signal.upper() for request in http_collector.requests()} == {
        "TRACES",
        "METRICS",
        "LOGS",
    } - {signal}


def test_several_exporters_for_one_signal(
    http_collector: Collector, variables: SetVariables
) -> None:
    """A signal may go to several places at once."""
    variables(OTEL_TRACES_EXPORTER="otlp,memory")
    handle = start(http_collector)
    emit_all("x")
    flush()
    assert http_collector.span("x")
    assert handle.memory is not None
    assert [span.name for span in handle.memory.spans] == ["x"]


@pytest.mark.parametrize(
    ("sampler", "argument", "sampled"),
    [
        ("always_on", "", True),
        ("always_off", "", False),
        ("traceidratio", "0", False),
        ("traceidratio", "1", True),
        ("parentbased_always_off", "", False),
        ("parentbased_traceidratio", "0", False),
    ],
)
def test_sampler(
    http_collector: Collector,
    variables: SetVariables,
    sampler: str,
    argument: str,
    sampled: bool,  # noqa: FBT001
) -> None:
    """Head sampling follows OTel's variables; durations are counted all the same."""
    variables(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)

    @fo.flext_monitor_function("work")
    def work() -> None: ...

    start(http_collector)
    work()
    flush()
    assert bool(http_collector.spans("work")) is sampled
    point = http_collector.metric(
        "flext.operation.duration", flext_operation_name="work"
    )
    assert point.count == 1


def test_sample_ratio_beats_the_sampler_variable(
    http_collector: Collector, variables: SetVariables
) -> None:
    """An explicit ratio wins over OTEL_TRACES_SAMPLER."""
    variables(OTEL_TRACES_SAMPLER="always_off")
    start(http_collector, sample_ratio=1.0)
    emit_all("x")
    flush()
    assert http_collector.span("x")


def test_sampled_remote_parent_is_respected(http_collector: Collector) -> None:
    """With a ratio of 0, a trace that the caller samples is still recorded."""
    start(http_collector, sample_ratio=0)
    emit_all("local")
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    with fo.flext_extract_headers({"traceparent": parent}):
        emit_all("remote")
    flush()
    assert [span.name for span in http_collector.spans()] == ["remote"]


def test_resource_attributes(
    http_collector: Collector, variables: SetVariables
) -> None:
    """OTEL_RESOURCE_ATTRIBUTES joins the resource, percent-decoded."""
    variables(OTEL_RESOURCE_ATTRIBUTES="team=check%20out,service.version=9")
    start(http_collector, resource_attributes={"region": "eu"})
    emit_all("x")
    flush()
    resource = http_collector.span("x").resource
    assert resource["team"] == "check out"
    assert resource["service.version"] == "9"
    assert resource["region"] == "eu"


def test_argument_joins_resource_attributes(
    http_collector: Collector, variables: SetVariables
) -> None:
    """The same key from an argument wins; other keys of the variable stay."""
    variables(OTEL_RESOURCE_ATTRIBUTES="team=a,zone=z")
    start(http_collector, resource_attributes={"team": "b"})
    emit_all("x")
    flush()
    resource = http_collector.span("x").resource
    assert (resource["team"], resource["zone"]) == ("b", "z")


def injected() -> dict[str, str]:
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        with fo.flext_span("x"):
            return fo.flext_inject_headers({}).unwrap()
    finally:
        context.detach(token)


def test_default_propagators(http_collector: Collector) -> None:
    """By default W3C trace context and baggage travel."""
    start(http_collector)
    headers = injected()
    assert headers["traceparent"].startswith("00-")
    assert headers["baggage"] == "tenant=t1"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("tracecontext", {"traceparent"}),
        ("baggage", {"baggage"}),
        ("none", set[str]()),
    ],
)
def test_propagators(
    http_collector: Collector, variables: SetVariables, value: str, names: set[str]
) -> None:
    """OTEL_PROPAGATORS says what travels; the correlation header always does."""
    variables(OTEL_PROPAGATORS=value)
    start(http_collector)
    headers = injected()
    assert {"traceparent", "baggage"} & set(headers) == names
    assert "X-Correlation-ID" in headers


def test_propagator_that_is_not_installed(variables: SetVariables) -> None:
    """A known propagator without its package is a failure that says what to install."""
    variables(OTEL_PROPAGATORS="b3")
    result = fo.setup("shop")
    assert result.is_failure
    assert "opentelemetry-propagator-b3" in str(result.error)


def test_span_limits(http_collector: Collector, variables: SetVariables) -> None:
    """The SDK's span limits hold for spans of the decorator's kind."""
    variables(
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="3",
        OTEL_SPAN_EVENT_COUNT_LIMIT="1",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="5",
    )
    start(http_collector)
    with fo.flext_span("x", attributes={"a": "1234567890"}) as span:
        for name in "bcdef":
            span.set_attribute(name, 1)
        span.add_event("one")
        span.add_event("two")
    flush()
    seen = http_collector.span("x")
    assert len(seen.attributes) == 3
    assert seen.dropped_attributes > 0
    assert [event.name for event in seen.events] == ["two"]
    assert all(
        len(value) <= 5 for value in seen.attributes.values() if isinstance(value, str)
    )


def test_span_attribute_limit_as_argument(http_collector: Collector) -> None:
    """max_span_attributes bounds a span."""
    start(http_collector, max_span_attributes=2)
    with trace.get_tracer("x").start_as_current_span("x") as span:
        span.set_attributes(dict.fromkeys("abcd", 1))
    flush()
    assert len(http_collector.span("x").attributes) == 2


def test_metric_interval(http_collector: Collector, variables: SetVariables) -> None:
    """Metrics come by themselves every OTEL_METRIC_EXPORT_INTERVAL milliseconds."""
    variables(OTEL_METRIC_EXPORT_INTERVAL="200")
    start(http_collector)
    fo.flext_counter("ticks").add(1)
    http_collector.wait_for(lambda: len(http_collector.metrics("ticks")) >= 2)


def test_metric_interval_as_argument(
    http_collector: Collector, variables: SetVariables
) -> None:
    """Our field, in seconds, wins over the variable in milliseconds."""
    variables(OTEL_METRIC_EXPORT_INTERVAL="60000")
    start(http_collector, metrics_export_interval_s=1)
    fo.flext_counter("ticks").add(1)
    http_collector.wait_for(lambda: http_collector.metrics("ticks"))


def test_metric_temporality(http_collector: Collector, variables: SetVariables) -> None:
    """Counters are cumulative, or deltas when the variable asks for them."""
    variables(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")
    start(http_collector)
    counter = fo.flext_counter("ticks")
    for amount in (2, 3):
        counter.add(amount)
        flush()
    points = http_collector.metrics("ticks")
    assert [(point.value, point.cumulative) for point in points] == [
        (2, False),
        (3, False),
    ]


def test_batch_delay(http_collector: Collector, variables: SetVariables) -> None:
    """Spans and logs leave by themselves after their schedule delay."""
    variables(OTEL_BSP_SCHEDULE_DELAY="100", OTEL_BLRP_SCHEDULE_DELAY="100")
    start(http_collector)
    # The machine is shared: the best counts. By default they gather for a second.
    assert min(seconds_to_arrive(http_collector, f"x{n}") for n in range(5)) < 0.9


def seconds_to_arrive(collector: Collector, name: str) -> float:
    """How long a span and a log record are on their way."""
    began = time.monotonic()
    emit_all(name)
    collector.wait_for(lambda: collector.spans(name) and collector.logs(name))
    return time.monotonic() - began


def test_batch_size(http_collector: Collector, variables: SetVariables) -> None:
    """No request holds more spans than OTEL_BSP_MAX_EXPORT_BATCH_SIZE."""
    variables(OTEL_BSP_MAX_EXPORT_BATCH_SIZE="7")
    start(http_collector)
    for _ in range(20):
        with fo.flext_span("x"):
            pass
    flush()
    sizes = [
        sum(
            len(scope.spans)
            for group in request.message.resource_spans
            for scope in group.scope_spans
        )
        for request in http_collector.requests("traces")
    ]
    assert sum(sizes) == 20
    assert max(sizes) <= 7


def test_queue_size(http_collector: Collector, variables: SetVariables) -> None:
    """What a full queue cannot take is counted, never lost silently."""
    variables(OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10")
    start(http_collector)
    for _ in range(2000):
        with fo.flext_span("x"):
            pass
    flush()
    ledger = fo.status().signals["traces"]
    assert ledger.accepted == 2000
    assert ledger.delivered == len(http_collector.spans("x"))
    assert ledger.dropped.get("queue_full", 0) == 2000 - ledger.delivered
    assert_balanced("traces")


def test_obsolete_jaeger_variables(
    http_collector: Collector,
    variables: SetVariables,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The old agent's variables cause one warning that names the replacement."""
    variables(JAEGER_AGENT_HOST="localhost", JAEGER_AGENT_PORT="6831")
    start(http_collector)
    warned = [
        record.getMessage()
        for record in caplog.records
        if "JAEGER_AGENT" in record.getMessage()
    ]
    assert len(warned) == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warned[0]


def test_setup_by_environment_alone(collector: Collector) -> None:
    """A program that says nothing but setup() is steered by its environment."""
    run_program(
        """
        import flext_observability as fo
        fo.setup().unwrap()
        with fo.flext_span("hello"):
            pass
        """,
        env={
            "OTEL_SERVICE_NAME": "from-env",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
        },
    ).ok()
    assert collector.span("hello").resource["service.name"] == "from-env"


@pytest.mark.parametrize("prefix", ["FLEXT_OBSERVABILITY", "OBSERVABILITY"])
@pytest.mark.parametrize(
    "field",
    [
        *("SERVICE_NAME", "ENVIRONMENT", "ENDPOINT", "PROTOCOL", "HEADERS"),
        *("COMPRESSION", "TIMEOUT_S", "CERTIFICATE", "EXPORTERS", "SAMPLE_RATIO"),
        *("PROPAGATORS", "LOG_LEVEL", "TRACING_ENABLED", "HISTOGRAM_BUCKETS_S"),
        *("METRICS_EXPORT_INTERVAL_S", "RESOURCE_ATTRIBUTES", "EXIT_BUDGET_S"),
    ],
)
def test_empty_variable_counts_as_unset(
    variables: SetVariables, prefix: str, field: str
) -> None:
    """An empty variable of ours is as good as none."""
    expected = fo.FlextObservabilityConfig()
    variables(**{f"{prefix}_{field}": ""})
    handle = fo.setup().unwrap()
    assert handle.config.model_dump() == expected.model_dump()


def test_empty_otel_variables_count_as_unset(
    http_collector: Collector, variables: SetVariables
) -> None:
    """Empty ``OTEL_*`` variables, of all and of one signal, are as good as none."""
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "CERTIFICATE"):
        for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
            variables(**{f"OTEL_EXPORTER_OTLP_{signal}{name}": ""})
    variables(OTEL_SERVICE_NAME="", OTEL_PROPAGATORS="", OTEL_SDK_DISABLED="")
    start(http_collector)
    emit_all("x")
    flush()
    http_collector.span("x")
    assert_balanced()


def test_timeout_as_other_sdks_mean_it(
    http_collector: Collector, variables: SetVariables
) -> None:
    """A timeout written in milliseconds, as in other languages, does not stop setup."""
    variables(OTEL_EXPORTER_OTLP_TIMEOUT="10000")
    handle = start(http_collector)
    assert handle.config.timeout_s == 10_000
    emit_all("x")
    flush()
    http_collector.span("x")


@pytest.mark.parametrize("signal", ["", "TRACES_"])
def test_malformed_header_is_skipped(
    http_collector: Collector, variables: SetVariables, signal: str
) -> None:
    """A piece of the header list that is none is skipped; its neighbours are sent."""
    text = "x-first=1,junk,,x-second=two%20words,"
    variables(**{f"OTEL_EXPORTER_OTLP_{signal}HEADERS": text})
    start(http_collector)
    with fo.flext_span("x"):
        pass
    flush()
    (request,) = http_collector.requests("traces")
    assert request.headers["x-first"] == "1"
    assert request.headers["x-second"] == "two words"


@pytest.mark.parametrize("interval", ["inf", "1e300", "0", "-1", "nonsense"])
def test_odd_metric_interval(
    http_collector: Collector, variables: SetVariables, interval: str
) -> None:
    """An interval nobody can wait for, or none at all, still sends at a flush."""
    variables(OTEL_METRIC_EXPORT_INTERVAL=interval)
    start(http_collector)
    fo.flext_counter("hits").add(1)
    flush()
    assert http_collector.metric("hits").value == 1
    assert "flext-metrics" in library_threads()


def test_config_file_is_not_read(
    http_collector: Collector,
    variables: SetVariables,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """``OTEL_CONFIG_FILE``, which is not read, is said to be; setup goes on."""
    variables(OTEL_CONFIG_FILE="otel.yaml")
    start(http_collector)
    said = [r for r in caplog.records if "OTEL_CONFIG_FILE" in r.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"]
    with fo.flext_span("x"):
        pass
    flush()
    http_collector.span("x")


def test_config_object_keeps_the_endpoints_of_signals(
    http_collector: Collector, variables: SetVariables
) -> None:
    """A config object made under ``OTEL_*`` variables states none of them again."""
    with Collector("http/protobuf") as traces:
        variables(
            OTEL_EXPORTER_OTLP_ENDPOINT=http_collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_HEADERS="x-key=all",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{traces.endpoint}/v1/traces",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-key=traces",
        )
        fo.setup(config=fo.FlextObservabilityConfig()).unwrap()
        emit_all("x")
        flush()
        traces.span("x")
        http_collector.log("x")
        http_collector.metric("x")
        assert http_collector.spans() == []
        assert {r.headers["x-key"] for r in traces.requests()} == {"traces"}
        assert {r.headers["x-key"] for r in http_collector.requests()} == {"all"}
        fo.shutdown(0.5)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder as of an installed package that registers parts for OTEL_PYTHON_*."""
    module = """
        import requests
        from opentelemetry.sdk.trace import _TracerConfig
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        def only_mine(scope):
            return _TracerConfig(is_enabled=scope.name != "noisy")

        class CountedIds(RandomIdGenerator):
            def generate_trace_id(self):
                return 0xC0FFEE

        def session():
            made = requests.Session()
            made.headers["authorization"] = "Bearer from-provider"
            return made

        def session_of_traces():
            made = requests.Session()
            made.headers["authorization"] = "Bearer of-traces"
            return made
    """
    (tmp_path / "plugins.py").write_text(textwrap.dedent(module), "utf-8")
    metadata = tmp_path / "plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n", "utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        textwrap.dedent(
            """
            [_opentelemetry_tracer_configurator]
            mine = plugins:only_mine
            [opentelemetry_id_generator]
            counted = plugins:CountedIds
            [opentelemetry_otlp_credential_provider]
            keys = plugins:session
            keys_of_traces = plugins:session_of_traces
            """
        ),
        "utf-8",
    )
    return tmp_path


WITH_PLUGINS = """
import logging, sys
sys.path.insert(0, sys.argv[1])
import flext_observability as fo
from opentelemetry import trace
handle = fo.setup("shop", endpoint=sys.argv[2], protocol="http/protobuf").unwrap()
with trace.get_tracer("noisy").start_as_current_span("noise"):
    with fo.flext_span("x"):
        logging.getLogger("shop").warning("x")
fo.flush(20.0).unwrap()
"""


def test_tracer_configurator(http_collector: Collector, plugins: Path) -> None:
    """``OTEL_PYTHON_TRACER_CONFIGURATOR`` switches single tracers off."""
    run_program(
        WITH_PLUGINS,
        str(plugins),
        http_collector.endpoint,
        env={"OTEL_PYTHON_TRACER_CONFIGURATOR": "mine"},
    ).ok()
    assert [span.name for span in http_collector.spans()] == ["x"]


def test_id_generator(http_collector: Collector, plugins: Path) -> None:
    """``OTEL_PYTHON_ID_GENERATOR`` makes the trace ids."""
    run_program(
        WITH_PLUGINS,
        str(plugins),
        http_collector.endpoint,
        env={"OTEL_PYTHON_ID_GENERATOR": "counted"},
    ).ok()
    assert http_collector.span("x").trace_id == f"{0xC0FFEE:032x}"


def test_credential_provider(http_collector: Collector, plugins: Path) -> None:
    """A credential provider makes the sessions: of all signals, or of one."""
    prefix = "OTEL_PYTHON_EXPORTER_OTLP_HTTP"
    found = {}
    for variable, name in (
        (f"{prefix}_CREDENTIAL_PROVIDER", "keys"),
        (f"{prefix}_TRACES_CREDENTIAL_PROVIDER", "keys_of_traces"),
    ):
        http_collector.clear()
        run_program(
            WITH_PLUGINS,
            str(plugins),
            http_collector.endpoint,
            env={variable: name},
        ).ok()
        found[name] = {
            request.signal: request.headers.get("authorization")
            for request in http_collector.requests()
        }
    assert found["keys"]["traces"] == found["keys"]["logs"] == "Bearer from-provider"
    assert found["keys_of_traces"]["traces"] == "Bearer of-traces"
    assert found["keys_of_traces"]["logs"] is None


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_PYTHON_TRACER_CONFIGURATOR",
        "OTEL_PYTHON_ID_GENERATOR",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    ],
)
def test_part_that_is_not_installed(variables: SetVariables, variable: str) -> None:
    """A part that no installed package offers is a failure that names its variable."""
    variables(**{variable: "missing"})
    result = fo.setup("shop", protocol="http/protobuf")
    assert result.is_failure
    assert variable in str(result.error)
    assert "'missing'" in str(result.error)
