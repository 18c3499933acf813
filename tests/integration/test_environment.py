"""Variables of the environment, and which one wins."""

import time
from collections.abc import Callable

import pytest
from opentelemetry import baggage, context, trace

import flext_observability as fo
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
    http_collector.wait_for(lambda: http_collector.metrics("ticks"), timeout_s=3)


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
    began = time.monotonic()
    emit_all("x")
    http_collector.wait_for(
        lambda: http_collector.spans("x") and http_collector.logs("x")
    )
    assert time.monotonic() - began < 2


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
