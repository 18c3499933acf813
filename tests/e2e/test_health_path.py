"""Health, from the report to the gauge on the page and at the collector."""

import urllib.request

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import flush, start


def test_from_the_report_to_the_gauge(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded is 0.5 everywhere; the change is told as a log record."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    start(collector, exporters=["otlp", "prometheus"])
    health = fo.FlextHealthService(fo.FlextContainer())
    check = fo.FlextHealthCheck(name="db", status="degraded", message="slow")
    health.execute_health_check(check).unwrap()
    flush()
    assert collector.metric("flext.health.status", component="db").value == 0.5
    assert collector.log("slow").attributes["flext.health.status"] == "degraded"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert 'flext_health_status{component="db"} 0.5' in text
