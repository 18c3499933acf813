"""The operations server inside a program and as one of its own, over real sockets."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

import flext_observability as fo
from flext_observability import server as operations
from tests.conftest import library_threads
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import start, wait_until
from tests.fixtures.programs import clean_environment, run_program
from tests.fixtures.web import Reply, asgi_server, ask, free_port, value_of, wsgi_server

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - no secret of anybody
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what needs a token
parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

pytestmark = pytest.mark.usefixtures("empty_store")


# -- metrics


def test_metrics_show_what_instruments_and_services_hold(port: int) -> None:
    """Instruments, recorded metrics, monitored calls, health, target info: one page."""

    @fo.flext_monitor_function("price")
    def price() -> None: ...

    price()
    fo.flext_counter("hits", unit="{hit}", description="Hits.").add(3, {"a": "b"})
    metrics = fo.FlextMetricsService()
    metrics.record_metric("shop.orders", 2, "count", {"region": "eu"}, "counter")
    metrics.record_metric("queue", 7)
    fo.FlextHealthService().execute_health_check(
        fo.FlextHealthCheck(name="db", status="degraded")
    )
    reply = ask(port, "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family.type for family in parse_text(reply.text)}
    assert families.items() >= {
        ("hits", "counter"),
        ("shop_orders", "counter"),
        ("queue", "gauge"),
        ("flext_operation_duration", "histogram"),
        ("flext_health_status", "gauge"),
        ("target_info", "gauge"),
    }
    assert value_of(reply.text, 'hits_total{a="b"}') == 3
    assert value_of(reply.text, 'shop_orders_total{region="eu"}') == 2
    assert value_of(reply.text, 'flext_health_status{component="db"}') == 0.5
    assert 'service_name="shop"' in reply.text


def test_nothing_is_shown_twice(port: int) -> None:
    """A recorded metric is on its instrument too; the page has it once."""
    metrics = fo.FlextMetricsService()
    for value in (1, 2):
        metrics.record_metric("orders", value, "count", {}, "counter")
        fo.flext_create_metric("orders", value, "count", {}, "counter").unwrap()
        metrics.record_metric("wait", value / 10, "s", {}, "histogram")
    text = ask(port, "/metrics").text
    assert text.count("# TYPE orders_total counter") == 1
    assert value_of(text, "orders_total") == 6  # the instrument saw all of them
    assert value_of(text, "wait_count") == 2
    # The value stands last; labels may hold spaces.
    names = [line.rpartition(" ")[0] for line in text.splitlines() if line[0] != "#"]
    assert len(names) == len(set(names))


def test_what_was_recorded_before_setup_counts() -> None:
    """The store is older than the instruments; the page has the larger sum."""
    metrics = fo.FlextMetricsService()
    metrics.record_metric("orders", 5, "count", {}, "counter")
    port = free_port()
    fo.setup("shop", exporters=["none"], server_port=port).unwrap()
    metrics.record_metric("orders", 1, "count", {}, "counter")
    assert value_of(ask(port, "/metrics").text, "orders_total") == 6


def test_two_kinds_of_one_name_are_both_shown() -> None:
    """The instrument keeps the name; what came before it has its type behind."""
    fo.FlextMetricsService().record_metric("clash", 7)
    port = free_port()
    fo.setup("shop", exporters=["none"], server_port=port).unwrap()
    fo.flext_counter("clash").add(2)
    text = ask(port, "/metrics").text
    list(parse_text(text))
    assert value_of(text, "clash_total") == 2
    assert value_of(text, "clash_gauge") == 7
    list(parse_openmetrics(ask(port, "/metrics", Accept=OPENMETRICS).text))


def test_openmetrics_by_negotiation(port: int) -> None:
    """Whoever asks for it gets exemplars with trace ids, and the parser agrees."""
    histogram = fo.flext_histogram("wait", unit="s")
    with fo.flext_span("work") as span:
        histogram.record(0.2)
    for _ in range(3):  # also after somebody else has scraped
        reply = ask(port, "/metrics", Accept=f"{OPENMETRICS},text/plain;q=0.5")
        assert reply.headers["content-type"].startswith("application/openmetrics-text")
        assert f'trace_id="{span.trace_id}"' in reply.text
        assert reply.text.endswith("# EOF\n")
        families = {family.name: family for family in parse_openmetrics(reply.text)}
        assert families["target"].type == "info"
        assert "# {" not in ask(port, "/metrics").text


def test_the_ledger_is_on_the_page(http_collector: Collector) -> None:
    """What became of telemetry can be scraped where no collector can be reached."""
    port = free_port()
    start(http_collector, server_port=port)
    with fo.flext_span("work"):
        pass
    fo.flush()
    text = ask(port, "/metrics").text
    series = 'flext_telemetry_records_total{{flext_outcome="{}",flext_signal="traces"}}'
    assert value_of(text, series.format("accepted")) == 1
    assert value_of(text, series.format("delivered")) == 1
    assert value_of(text, 'flext_telemetry_pending{flext_signal="traces"}') == 0


@pytest.mark.parametrize("metrics_enabled", [True, False])
def test_a_fresh_page_says_who_it_is_and_counts_from_zero(
    metrics_enabled: bool,  # noqa: FBT001
) -> None:
    """Target info and the ledger of every signal, before anything was recorded."""
    port = free_port()
    fo.setup(
        "shop",
        exporters=["none"],
        server_port=port,
        metrics_enabled=metrics_enabled,
    ).unwrap()
    text = ask(port, "/metrics").text
    assert text.count("\ntarget_info{") == 1
    assert 'service_name="shop"' in text
    for signal_name in ("traces", "metrics", "logs"):
        label = f'flext_signal="{signal_name}"'
        for outcome in ("accepted", "delivered", "rejected"):
            series = (
                f'flext_telemetry_records_total{{flext_outcome="{outcome}",{label}}}'
            )
            assert value_of(text, series) == 0
        assert value_of(text, f"flext_telemetry_pending{{{label}}}") == 0
    found = parse_openmetrics(ask(port, "/metrics", Accept=OPENMETRICS).text)
    names = {family.name for family in found}
    assert names >= {"target", "flext_telemetry_records"}


def test_hostile_names_and_tags_stay_legal(port: int) -> None:
    """Whatever was recorded, both parsers read the page."""
    metrics = fo.FlextMetricsService()
    for name, tags in (
        ("a b", {"x y": 'quote " and \\ and \n'}),
        ("orders", {"le": "1"}),
        ("orders_total", {}),
        ("orders.total", {"\ud800": "\ud800"}),
        ("target_info", {"pid": "1"}),
        ("0", {"": ""}),
    ):
        for kind in ("gauge", "counter", "histogram"):
            metrics.record_metric(name, 1, "", tags, kind)
    text = ask(port, "/metrics").text
    assert len(list(parse_text(text))) >= 10
    list(parse_openmetrics(ask(port, "/metrics", Accept=OPENMETRICS).text))


def test_secrets_are_on_no_page(port: int) -> None:
    """Not in labels, details, messages, contexts; neither metrics, health nor API."""
    canary = "canary-5eb63bbbe01eeed093cb22bb8f5acdc3"
    secret = {"password": canary, "note": f"postgres://u:{canary}@db/x"}
    services = fo.FlextObservabilityServices()
    services.metrics.record_metric("orders", 1, "count", secret, "counter")
    fo.flext_counter("hits").add(1, secret)
    services.health.execute_health_check(
        fo.FlextHealthCheck(
            name="db", status="degraded", message=f"token={canary}", details=secret
        )
    )
    services.alerts.process_alert(
        fo.FlextAlert(
            name="a", severity="error", message=f"password={canary}", details=secret
        )
    )
    services.tracing.start_trace("load", context=secret)
    services.logging.log_entry("info", f"Authorization: Bearer {canary}", secret)
    for path in (
        *("/metrics", "/health", "/health/ready", "/api/v1/metrics", "/api/v1/health"),
        *("/api/v1/alerts", "/api/v1/traces", "/api/v1/logs"),
    ):
        reply = ask(port, path)
        assert reply.status == 200
        assert canary not in reply.text, path
    assert "[redacted]" in ask(port, "/api/v1/logs").text


# -- health


def report(status: str, name: str = "db") -> None:
    check = fo.FlextHealthCheck(name=name, status=status)
    assert fo.FlextHealthService().execute_health_check(check).success


def test_health_status_codes(port: int) -> None:
    """Healthy and degraded are 200, unhealthy 503; liveness is green throughout."""
    for status, code in (("healthy", 200), ("degraded", 200), ("unhealthy", 503)):
        report(status)
        for path in ("/health", "/health/ready"):
            reply = ask(port, path)
            assert (reply.status, reply.json["status"]) == (code, status)
            assert reply.json["overall_status"] == status
            assert reply.json["components"]["db"]["status"] == status
        assert ask(port, "/health/live").json == {"status": "alive"}


def test_health_without_components(port: int) -> None:
    """Nobody reported anything: the process answers, which is as good as it gets."""
    reply = ask(port, "/health")
    assert (reply.status, reply.json["status"]) == (200, "healthy")
    assert reply.json["overall_status"] == "unknown"


def test_registered_checks_run_when_somebody_asks(port: int) -> None:
    """A probe sees the state of now, but many probes do not make many checks."""
    calls: list[str] = []
    health = fo.FlextHealthService()

    def check() -> bool:
        calls.append(fo.flext_get_correlation_id())
        return False

    health.register_check("db", check).unwrap()
    for _ in range(5):
        assert ask(port, "/health/ready", X_Correlation_ID="probe").status == 503
    assert calls == [""]  # the application's own work, not the prober's


def test_a_lost_collector_degrades_readiness() -> None:
    """Within 10 s readiness names the reason; the application still gets requests."""
    port = free_port()
    fo.setup(
        "shop",
        endpoint=f"http://127.0.0.1:{closed_port()}",
        protocol="http/protobuf",
        server_port=port,
    ).unwrap()
    with fo.flext_span("work"):
        pass
    deadline = time.monotonic() + 10
    while (reply := ask(port, "/health/ready")).json["status"] == "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (reply.status, reply.json["status"]) == (200, "degraded")
    assert "cannot deliver" in " ".join(reply.json["telemetry"]["problems"])
    assert ask(port, "/health/live").status == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/health", "/health/live", "/health/ready", "/api/v1/alerts"]
)
def test_head_is_answered_as_get_without_the_body(port: int, path: str) -> None:
    """Load balancers probe like that; status and headers are those of GET."""
    whole, head = ask(port, path), ask(port, path, method="HEAD")
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    report("unhealthy")
    assert ask(port, "/health", method="HEAD").status == 503
    assert ask(port, "/metrics", method="HEAD", Host="evil.example").status == 403
    assert ask(port, "/nothing", method="HEAD").status == 404


def test_a_mounted_application_sends_no_body_to_head() -> None:
    """The application itself leaves it out: not every server would."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "HEAD",
        "path": "/health/live",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(operations.create_app()(scope, receive, send))
    assert sent[0]["status"] == 200
    assert [message.get("body") for message in sent[1:]] == [b""]


def test_answers_carry_safe_headers(port: int) -> None:
    """Nothing is cached, sniffed or run; the caller's id comes back, cleaned."""
    reply = ask(port, "/health", X_Correlation_ID="req-7")
    assert reply.headers["x-correlation-id"] == "req-7"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "server" not in reply.headers
    assert ask(port, "/health", X_Correlation_ID="a b").headers[
        "x-correlation-id"
    ] not in {"", "a b"}


def test_requests_to_us_are_no_telemetry(http_collector: Collector) -> None:
    """No span, no log record, no measurement of a scrape; alerts leave all the same."""
    port = free_port()
    start(http_collector, server_port=port)
    for path in ("/metrics", "/health", "/api/v1/alerts", "/nothing"):
        ask(port, path)
    alert = {"name": "a", "severity": "error", "message": "m"}
    reply = ask(
        port, "/api/v1/alerts", method="POST", body=alert, X_Correlation_ID="req-9"
    )
    assert reply.status == 201
    assert reply.json["correlation_id"] == "req-9"
    fo.flush()
    assert not http_collector.spans()
    (log,) = http_collector.logs()
    assert (log.event_name, log.body) == ("flext.alert", "m")
    names = {point.name for point in http_collector.metrics()}
    assert names <= {"flext.alerts", "flext.telemetry.records"} | {
        name for name in names if name.startswith("flext.telemetry.")
    }


# -- life


def test_shutdown_frees_the_port(port: int) -> None:
    """Nothing listens any more, no thread is left, and setup may come again."""
    assert ask(port, "/health").status == 200
    assert fo.shutdown(20.0).success
    wait_until(lambda: not library_threads())
    with pytest.raises(OSError, match="refused"):
        ask(port, "/health")
    fo.setup("shop", exporters=["none"], server_port=port).unwrap()
    assert ask(port, "/health").status == 200


def test_a_port_in_use_is_a_failure_that_says_so() -> None:
    """With what to do; what was in force stays."""
    first = free_port()
    fo.setup("shop", exporters=["none"], server_port=first).unwrap()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = fo.setup("shop", exporters=["none"], server_port=port)
    assert result.is_failure
    assert f"server_port: cannot listen on 127.0.0.1:{port}" in str(result.error)
    assert "Free the port" in str(result.error)
    assert ask(first, "/health").status == 200
    assert fo.status().running


def test_a_second_setup_moves_the_server() -> None:
    """To another port, to another token; with other settings it stays as it is."""
    first, second = free_port(), free_port()
    fo.setup("shop", exporters=["none"], server_port=first).unwrap()
    fo.setup("shop", exporters=["none"], server_port=first, log_level="DEBUG").unwrap()
    assert ask(first, "/health").status == 200
    fo.setup("shop", exporters=["none"], server_port=second).unwrap()
    assert ask(second, "/health").status == 200
    with pytest.raises(OSError, match="refused"):
        ask(first, "/health")
    fo.setup("shop", exporters=["none"], server_port=second, server_token=TOKEN)
    assert ask(second, "/metrics").status == 401
    fo.setup("shop", exporters=["none"]).unwrap()
    with pytest.raises(OSError, match="refused"):
        ask(second, "/health")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_port": 0}, "server_port"),
        ({"server_port": 70_000}, "server_port"),
        ({"server_port": "http"}, "server_port"),
        ({"server_port": 9464, "server_host": "shop.invalid"}, "server_host"),
        ({"server_token": "two words"}, "server_token"),
        ({"server_token": ""}, "server_token"),
        ({"server_metrics_dir": "/dev/null/x"}, "server_metrics_dir"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, Any], message: str) -> None:
    """Field, reason and fix; never the token itself."""
    result = fo.setup("shop", exporters=["none"], **fields)
    assert result.is_failure
    assert str(result.error).startswith(f"Invalid configuration: {message}: ")
    assert "two words" not in str(result.error)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields are variables like all others."""
    port = free_port()
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SERVER_PORT", str(port))
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SERVER_TOKEN", TOKEN)
    fo.setup("shop", exporters=["none"]).unwrap()
    assert ask(port, "/metrics").status == 401


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_does_not_hold_the_port() -> None:
    """The parent serves on, and its port is free after it although a child lives."""
    port = free_port()
    done = run_program(
        f"""
        import os, socket, time
        import flext_observability as fo
        fo.setup("shop", exporters=["none"], server_port={port}).unwrap()
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(writing)
            with fo.flext_span("child"):
                pass
            os.read(reading, 1)  # until the parent is done
            fo.shutdown()
            os._exit(0)
        fo.shutdown()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", {port}))
        listener.listen()
        print("free")
        """
    ).ok()
    assert done.lines == ["free"]


def test_an_address_of_the_other_family() -> None:
    """IPv6 loopback is as good as any."""
    port = free_port()
    result = fo.setup("shop", exporters=["none"], server_host="::1", server_port=port)
    if result.is_failure:
        assert "cannot listen on ::1" in str(result.error)
        pytest.skip("this machine has no IPv6")
    assert ask(port, "/metrics", host="::1").status == 200


def test_websockets_are_closed() -> None:
    """There is none here; who tries is told."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": []}
    asyncio.run(operations.create_app()(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_prometheus_finds_the_server(tmp_path: Path) -> None:
    """With `service_discovery_dir` its address is there while it serves."""
    port = free_port()
    fo.setup(
        "shop", exporters=["none"], server_port=port, service_discovery_dir=tmp_path
    ).unwrap()
    (entry,) = tmp_path.glob("*.json")
    assert f"127.0.0.1:{port}" in entry.read_text("utf-8")
    fo.shutdown()
    assert not list(tmp_path.glob("*.json"))


def test_without_the_extra_setup_says_what_to_install(tmp_path: Path) -> None:
    """FastAPI is asked for only where a port is; its absence is a failure, no crash."""
    done = run_program(
        f"""
        import sys
        sys.modules["fastapi"] = None
        import flext_observability as fo
        from flext_observability import server
        print(fo.setup("shop", exporters=["none"]).success)
        print(fo.setup("shop", exporters=["none"], server_port={free_port()}).error)
        print(callable(server.create_wsgi_app()))
        try:
            server.create_app()
        except ImportError as error:
            print(error)
        """
    ).ok()
    assert done.lines[0] == "True"
    assert "pip install 'flext-observability[server]'" in done.lines[1]
    assert done.lines[2] == "True"
    assert "pip install 'flext-observability[server]'" in done.lines[3]


# -- the application, mounted


def test_mounted_into_an_application() -> None:
    """Below a prefix everything works, and its host is not disturbed."""
    app = FastAPI()
    app.mount("/ops", operations.create_app(metrics_path="/m"))

    @app.get("/own")
    async def own() -> dict[str, str]:
        return {"a": "b"}

    fo.setup("shop", exporters=["none"])
    fo.flext_counter("hits").add(2)
    with asgi_server(app) as port:
        assert value_of(ask(port, "/ops/m").text, "hits_total") == 2
        assert ask(port, "/ops/health").json["status"] == "healthy"
        assert ask(port, "/ops/api/v1/alerts").json["total"] == 0
        assert "paths" in ask(port, "/ops/api/v1/openapi.json").json
        assert ask(port, "/own").json == {"a": "b"}


def test_an_application_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before setup too; what is wrong there is told by name."""
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SERVER_TOKEN", TOKEN)
    with wsgi_server(operations.create_wsgi_app()) as port:
        assert ask(port, "/metrics").status == 401
        assert ask(port, "/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SERVER_TOKEN", "two words")
    with pytest.raises(fo.FlextObservabilityConfigurationError, match="server_token"):
        operations.create_app()


def test_an_application_made_before_setup_shows_what_comes() -> None:
    """Also after a second setup; counts of an instrument begin with each of them."""
    app = operations.create_app()
    with asgi_server(app) as port:
        assert ask(port, "/metrics").status == 200
        fo.setup("shop", exporters=["none"]).unwrap()
        fo.flext_counter("hits").add(2)
        assert value_of(ask(port, "/metrics").text, "hits_total") == 2
        fo.setup("bakery", exporters=["none"]).unwrap()
        fo.flext_counter("hits").add(1)
        assert value_of(ask(port, "/metrics").text, "hits_total") == 1


def test_containers_stay_apart() -> None:
    """An application for one container shows nothing of another one."""
    shop, other = fo.FlextContainer(), fo.FlextContainer()
    fo.FlextMetricsService(shop).record_metric("mine", 1)
    fo.FlextMetricsService(other).record_metric("theirs", 1)
    with asgi_server(operations.create_app(shop)) as port:
        text = ask(port, "/metrics").text
        found = ask(port, "/api/v1/metrics").json["metrics"]
    assert "mine 1.0" in text
    assert "theirs" not in text
    assert [metric["name"] for metric in found] == ["mine"]


# -- the WSGI twin


def test_the_wsgi_twin_answers_the_same() -> None:
    """Metrics and health as the other one gives them, with the same rules."""
    fo.setup("shop", exporters=["none"]).unwrap()
    fo.flext_counter("hits").add(2)
    report("unhealthy")
    with wsgi_server(operations.create_wsgi_app()) as port:
        page = ask(port, "/metrics")
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert value_of(page.text, "hits_total") == 2
        found = ask(port, "/metrics", Accept=OPENMETRICS)
        assert found.text.endswith("# EOF\n")
        assert ask(port, "/health").status == 503
        assert ask(port, "/health/ready").json["overall_status"] == "unhealthy"
        live = ask(port, "/health/live", X_Correlation_ID="req-7")
        assert live.json == {"status": "alive"}
        assert live.headers["x-correlation-id"] == "req-7"
        assert live.headers["x-content-type-options"] == "nosniff"
        assert ask(port, "/nothing").status == 404
        posted = ask(port, "/metrics", method="POST", body={})
        assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
        for path in ("/metrics", "/health", "/health/live", "/health/ready"):
            whole, head = ask(port, path), ask(port, path, method="HEAD")
            assert (head.status, head.body) == (whole.status, b"")
        assert ask(port, "/metrics", Host="evil.example").status == 403
        assert ask(port, "/health", Host="evil.example").status == 403


def test_the_wsgi_twin_asks_for_the_token() -> None:
    """As the other one does."""
    report("degraded")
    with wsgi_server(operations.create_wsgi_app(token=TOKEN)) as port:
        reply = ask(port, "/metrics")
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert ask(port, "/health").json == {"status": "degraded"}
        assert ask(port, "/metrics", Authorization=f"Bearer {TOKEN}").status == 200


# -- the program


@contextlib.contextmanager
def program(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """``python -m flext_observability.server`` while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flext_observability.server", *arguments],
        env=clean_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(process: "subprocess.Popen[str]", port: int, path: str) -> Reply:
    """What the program answers, once it does."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return ask(port, path)
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_program_serves_and_ends() -> None:
    """Where arguments or variables say; SIGTERM ends it with success."""
    port = free_port()
    with program("--host", "127.0.0.1", "--port", str(port)) as process:
        page = answers(process, port, "/metrics")
        assert page.status == 200
        assert "target_info{" in page.text
        assert "flext_telemetry_records_total{" in page.text
        assert ask(port, "/health").json["status"] == "healthy"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    port = free_port()
    with program(HOST="127.0.0.1", PORT=str(port), PROMETHEUS_PATH="/prom") as process:
        assert answers(process, port, "/prom").status == 200
        assert ask(port, "/metrics").status == 404
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_program_checks_itself() -> None:
    """``--check`` is the health check of a container, token included."""
    port = free_port()
    variables = {
        "HOST": EVERYWHERE,
        "PORT": str(port),
        "FLEXT_OBSERVABILITY_SERVER_TOKEN": TOKEN,
    }
    with program(**variables) as process:
        assert answers(process, port, "/metrics").status == 401

        def check(**changed: str) -> int:
            return subprocess.run(
                [sys.executable, "-m", "flext_observability.server", "--check"],
                env=clean_environment(**(variables | changed)),
                capture_output=True,
                check=False,
            ).returncode

        assert check() == 0
        assert check(FLEXT_OBSERVABILITY_SERVER_TOKEN=TOKEN[::-1]) == 1
        assert check(PORT=str(closed_port())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", EVERYWHERE], "FLEXT_OBSERVABILITY_SERVER_TOKEN"),
        (["--port", "x"], "no port"),
        (["--metrics-path", "metrics"], "no path"),
    ],
)
def test_the_program_refuses(arguments: list[str], message: str) -> None:
    """With exit code 2 and what to do."""
    with program(*arguments, PORT=str(free_port())) as process:
        said, _ = process.communicate(timeout=40)
    assert process.returncode == 2
    assert message in said


def test_the_program_tells_of_a_port_in_use() -> None:
    """With exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with program("--port", str(port)) as process:
            said, _ = process.communicate(timeout=40)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert not re.search("Traceback", said)
