"""The REST API over a socket: what it lists, what it changes, what it refuses."""

import gc
import json
import logging as std_logging
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.web import Reply, ask

ALERT = {"name": "disk", "severity": "warning", "message": "disk is filling"}


def get(port: int, path: str) -> Any:
    reply = ask(port, f"/api/v1{path}")
    assert reply.status == 200, reply.text
    return reply.json


def post(port: int, path: str, body: Any = None, **headers: str) -> Reply:
    return ask(port, f"/api/v1{path}", method="POST", body=body, **headers)


# -- metrics, traces, logs


def test_metrics_by_name_type_and_tags(port: int) -> None:
    """Every filter narrows the answer; the newest come first."""
    service = fo.FlextMetricsService()
    for number in range(5):
        tags = {"region": "eu" if number % 2 else "us", "n": str(number)}
        service.record_metric("orders", number, "count", tags, "counter")
    service.record_metric("queue", 2.5, "items")
    found = get(port, "/metrics")
    assert found["total"] == 6
    newest = found["metrics"][0]
    assert newest["name"] == "queue"
    assert (newest["value"], newest["unit"], newest["metric_type"]) == (
        2.5,
        "items",
        "gauge",
    )
    assert [m["value"] for m in get(port, "/metrics?name=orders")["metrics"]] == [
        *(4.0, 3.0, 2.0, 1.0, 0.0)
    ]
    assert get(port, "/metrics?type=GAUGE")["total"] == 1
    assert get(port, "/metrics?tag=region:eu")["total"] == 2
    assert get(port, "/metrics?tag=region:eu&tag=n:3")["total"] == 1
    assert get(port, "/metrics?name=nothing")["metrics"] == []


def test_metrics_by_time(port: int) -> None:
    """A range includes its beginning and not its end; a naive time is UTC."""
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    service = fo.FlextMetricsService()
    for minutes in range(5):
        made = fo.FlextMetric(
            name="n", value=minutes, timestamp=moment + timedelta(minutes=minutes)
        )
        service.record_metric(made)
    query = "since=2026-05-01T12:01:00Z&until=2026-05-01T12:03:00"
    values = [m["value"] for m in get(port, f"/metrics?{query}")["metrics"]]
    assert values == [2.0, 1.0]


def test_pages_are_parts_of_the_whole(port: int) -> None:
    """Limit and offset walk through it; the total says how much there is."""
    service = fo.FlextMetricsService()
    for number in range(25):
        service.record_metric("n", number)
    seen: list[float] = []
    for offset in range(0, 30, 10):
        found = get(port, f"/metrics?limit=10&offset={offset}")
        assert (found["total"], found["limit"], found["offset"]) == (25, 10, offset)
        seen += [metric["value"] for metric in found["metrics"]]
    assert seen == [float(number) for number in reversed(range(25))]


def test_traces_recently_seen(port: int) -> None:
    """With ids that lead to the tracing back end, parents and durations."""
    tracing = fo.FlextTracingService()
    trace = fo.flext_create_trace("checkout", "shop", {"items": 3}).unwrap()
    tracing.start_trace(trace)
    child = tracing.start_trace("charge", parent_trace_id=trace.id).unwrap()
    tracing.error_trace(child, "card refused")
    tracing.complete_trace(trace)
    found = get(port, "/traces")
    assert [t["operation_name"] for t in found["traces"]] == ["charge", "checkout"]
    failed, done = found["traces"]
    assert (failed["status"], failed["error"]) == ("failed", "card refused")
    assert failed["trace_id"] == done["trace_id"] == trace.trace_id
    assert done["context"] == {"items": 3}
    assert done["duration"] > 0
    assert get(port, "/traces?status=failed")["total"] == 1
    assert get(port, "/traces?operation=checkout&service=shop")["total"] == 1


def test_logs_recently_seen(port: int) -> None:
    """By level and by the id that joins them to a request."""
    logging = fo.FlextLoggingService()
    with fo.flext_correlation_scope("req-7"):
        logging.log_entry("error", "no stock", {"order": 7})
    logging.log_entry("info", "started")
    assert get(port, "/logs?level=ERROR")["logs"][0]["context"] == {"order": 7}
    (entry,) = get(port, "/logs?correlation_id=req-7")["logs"]
    assert (entry["message"], entry["level"]) == ("no stock", "error")
    assert get(port, "/logs")["total"] == 2


def test_what_happened_in_one_millisecond_keeps_its_order(port: int) -> None:
    """The newest first, also where many share the millisecond."""
    fo.setup("shop", exporters=["memory"], server_port=port).unwrap()
    names = [f"step {number}" for number in range(50)]
    for name in names:
        with fo.flext_span(name):
            std_logging.getLogger("shop").warning(name)
    traces = get(port, "/traces")["traces"]
    assert [t["operation_name"] for t in traces] == names[::-1]
    assert [log["message"] for log in get(port, "/logs")["logs"]] == names[::-1]


def test_all_spans_and_logs_of_a_program_that_keeps_them(port: int) -> None:
    """The exporter `memory` has those of monitored functions and of `logging`."""
    fo.setup("shop", exporters=["memory"], server_port=port).unwrap()

    @fo.flext_monitor_function("price")
    def price(amount: int) -> float:
        std_logging.getLogger("shop").warning("pricing %d", amount)
        return 100 / amount

    price(2)
    with pytest.raises(ZeroDivisionError):
        price(0)
    with fo.flext_create_trace("checkout", "shop").unwrap() as trace:
        fo.FlextTracingService().start_trace(trace)
        fo.FlextLoggingService().log_entry("info", "one of both")
    names = [t["operation_name"] for t in get(port, "/traces")["traces"]]
    assert names == ["checkout", "price", "price"]
    (failed,) = get(port, "/traces?status=failed&operation=price")["traces"]
    assert failed["error"] == "ZeroDivisionError: division by zero"
    assert failed["parent_trace_id"] is None
    assert failed["duration"] >= 0
    logs = get(port, "/logs?level=warning")["logs"]
    assert [log["message"] for log in logs] == ["pricing 0", "pricing 2"]
    assert logs[0]["trace_id"] == failed["trace_id"] == logs[0]["correlation_id"]
    assert failed["id"].startswith(f"00-{failed['trace_id']}-{failed['span_id']}-")
    messages = [log["message"] for log in get(port, "/logs")["logs"]]
    assert messages.count("one of both") == 1
    for name in ("traces", "logs"):
        found = get(port, f"/{name}?limit=1&offset=1")
        assert len(found[name]) == 1
        assert found["total"] >= 3


def test_what_is_exported_was_recently_seen(
    port: int, http_collector: Collector
) -> None:
    """No exporter of its own is needed for spans and lines to be shown."""
    fo.setup(
        "shop",
        endpoint=http_collector.endpoint,
        protocol="http/protobuf",
        server_port=port,
    ).unwrap()

    @fo.flext_monitor_function("price")
    def price() -> None:
        std_logging.getLogger("shop").warning("token=%s", "s3cr3t")

    for _ in range(1_100):
        price()
    fo.flush(20.0).unwrap()
    traces = get(port, "/traces?operation=price&limit=1000")
    assert traces["total"] == len(traces["traces"]) == 1_000
    assert traces["traces"][0]["duration"] >= 0
    (newest,) = get(port, "/logs?level=warning&limit=1")["logs"]
    assert newest["message"] == "token=[redacted]"
    assert newest["trace_id"] == traces["traces"][0]["trace_id"]


def test_nothing_is_kept_where_nobody_looks(http_collector: Collector) -> None:
    """A program without the server holds no record longer than it waits."""
    fo.setup(
        "shop", endpoint=http_collector.endpoint, protocol="http/protobuf"
    ).unwrap()
    with fo.flext_span("x") as span:
        gone = weakref.ref(span)
    fo.flush(20.0).unwrap()
    del span
    gc.collect()
    assert gone() is None


def test_values_that_json_has_no_form_for(port: int) -> None:
    """Whatever a context holds, the answer is JSON."""
    loop: list[Any] = []
    loop.append(loop)
    context = {
        "nan": float("nan"),
        "inf": float("inf"),
        "bytes": b"\xff",
        "loop": loop,
        "surrogate": "\ud800",
        "object": object(),
        "big": 10**400,
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "many": list(range(1000)),
        "\ud800": 1,
    }
    fo.FlextLoggingService().log_entry("info", "hostile \ud800", context)
    fo.FlextMetricsService().record_metric("huge", 1e308)
    (entry,) = get(port, "/logs")["logs"]
    assert entry["context"]["nan"] == "nan"
    assert len(entry["context"]["many"]) < 1000
    assert get(port, "/metrics")["metrics"][0]["value"] == 1e308


@pytest.mark.parametrize(
    "path",
    [
        "/metrics?limit=0",
        "/metrics?limit=1001",
        "/metrics?limit=many",
        "/metrics?offset=-1",
        "/metrics?type=summary",
        "/metrics?tag=region",
        "/metrics?since=yesterday",
        "/traces?status=lost",
        "/logs?level=loud",
        "/alerts?severity=bad",
        "/alerts?status=gone",
        "/alerts?limit=1e3",
    ],
)
def test_bad_parameters_are_400(port: int, path: str) -> None:
    """With a message that names the parameter."""
    reply = ask(port, f"/api/v1{path}")
    assert reply.status == 400
    name = path.partition("?")[2].partition("=")[0]
    assert name in reply.json["detail"]


def test_detailed_health(port: int) -> None:
    """Components, telemetry and machine; 503 when unhealthy."""
    health = fo.FlextHealthService()
    health.execute_health_check(fo.FlextHealthCheck(name="db", status="healthy"))
    found = get(port, "/health")
    assert found["status"] == "healthy"
    assert {"disk", "threads", "observability_service"} <= set(found["system"])
    assert found["telemetry"]["signals"]["traces"]["accepted"] == 0
    health.execute_health_check(fo.FlextHealthCheck(name="db", status="unhealthy"))
    assert ask(port, "/api/v1/health").status == 503


def test_health_of_many_components_is_whole(port: int) -> None:
    """Bounds are for values, not for the list of components."""
    health = fo.FlextHealthService()
    for number in range(200):
        name = f"part-{number}"
        health.execute_health_check(fo.FlextHealthCheck(name=name, status="healthy"))
    assert len(get(port, "/health")["components"]) == 200


# -- alerts


def test_an_alert_from_raised_to_resolved(port: int) -> None:
    """Each step answers with the alert, and the list shows it."""
    body = {**ALERT, "details": {"free": 3}, "source": "cron", "tags": {"host": "a"}}
    created = post(port, "/alerts", body)
    assert created.status == 201
    alert = created.json
    assert alert.items() >= {**body, "status": "active"}.items()
    for step, status in (("acknowledge", "acknowledged"), ("resolve", "resolved")):
        reply = post(port, f"/alerts/{alert['id']}/{step}")
        assert (reply.status, reply.json["status"]) == (200, status)
        (listed,) = get(port, f"/alerts?status={status}&severity=Warning")["alerts"]
        assert listed["id"] == alert["id"]
    stored = fo.FlextAlertService().get_alerts().unwrap()
    assert [each.id for each in stored] == [alert["id"]]


def test_an_alert_is_escalated(port: int) -> None:
    """The answer is the new alert; the old one says so; a young one stays."""
    alert = post(port, "/alerts", ALERT).json
    young = post(port, f"/alerts/{alert['id']}/escalate", {"duration_minutes": 1})
    assert young.json["id"] == alert["id"]
    higher = post(port, f"/alerts/{alert['id']}/escalate", {"level": 2})
    assert higher.status == 200
    assert higher.json["name"] == "disk_escalated"
    assert higher.json["severity"] == "critical"
    assert higher.json["details"]["original_alert_id"] == alert["id"]
    assert get(port, "/alerts?status=escalated")["alerts"][0]["id"] == alert["id"]
    again = post(port, f"/alerts/{higher.json['id']}/escalate")
    assert again.json["name"] == "disk_escalated_escalated"


@pytest.mark.parametrize("step", ["acknowledge", "resolve", "escalate"])
@pytest.mark.parametrize("id_", ["unknown", "%00", "%F0%9F%92%A5", "a" * 5000])
def test_unknown_alerts_are_404(port: int, step: str, id_: str) -> None:
    """With a message that names the id."""
    reply = post(port, f"/alerts/{id_}/{step}")
    assert reply.status == 404
    assert "not found" in reply.json["detail"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": " "}, "Invalid alert name"),
        ({"severity": "loud"}, "Invalid severity level"),
        ({"message": ""}, "Invalid alert message"),
    ],
)
def test_broken_rules_are_400(port: int, changed: dict[str, str], message: str) -> None:
    """The rule's own message, as everywhere else; nothing is stored."""
    reply = post(port, "/alerts", {**ALERT, **changed})
    assert (reply.status, reply.json["detail"]) == (400, message)
    assert get(port, "/alerts")["total"] == 0


def test_a_bad_escalation_is_400(port: int) -> None:
    """The rule's own message."""
    alert = post(port, "/alerts", ALERT).json
    reply = post(port, f"/alerts/{alert['id']}/escalate", {"level": 0})
    assert (reply.status, reply.json["detail"]) == (400, "Invalid escalation level")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        {**ALERT, "name": 7},
        {**ALERT, "tags": {"a": 1}},
        {**ALERT, "details": []},
        {**ALERT, "id": "mine"},
        b"{",
        b"\xff",
        b'{"name": "\\ud800',
    ],
)
def test_what_is_no_alert_is_422(port: int, body: Any) -> None:
    """Fields that are missing, of a wrong type or unknown, and what is no JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    reply = post(port, "/alerts", body, Content_Type="application/json")
    assert reply.status == 422
    assert reply.json["detail"]


def test_hostile_texts_in_alerts(port: int) -> None:
    """Surrogates, NaN, huge numbers: taken and shown in a legal form, never a 500."""
    text = (
        b'{"name": "a\\ud800", "severity": "ERROR", "message": "\\u0000m", '
        b'"details": {"n": NaN, "i": 1e999, "\\ud800": "\\ud800"}}'
    )
    reply = post(port, "/alerts", text, Content_Type="application/json; charset=utf-8")
    assert reply.status == 201
    assert reply.json["details"]["n"] == "nan"
    assert get(port, "/alerts")["total"] == 1


def test_methods_and_paths_that_do_not_exist(port: int) -> None:
    """405 with what is allowed, 404."""
    reply = ask(port, "/api/v1/alerts", method="DELETE")
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) <= {"GET", "POST", "HEAD"}
    assert ask(port, "/api/v1/nothing").status == 404
    assert ask(port, "/docs").status == 404


def test_the_openapi_document_tells_all_answers(port: int) -> None:
    """400 for parameters, 422 for bodies, and who is refused."""
    paths = ask(port, "/api/v1/openapi.json").json["paths"]
    create = paths["/api/v1/alerts"]["post"]["responses"]
    assert set(create) == {"201", "400", "401", "403", "408", "413", "415", "422"}
    query = paths["/api/v1/metrics"]["get"]["responses"]
    assert set(query) == {"200", "400", "401", "403"}
    assert set(paths["/health"]["get"]["responses"]) == {"200", "403", "503"}
