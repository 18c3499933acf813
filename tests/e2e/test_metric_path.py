"""One metric, from the call to the collector and to /metrics."""

import urllib.request

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import flush, start


def test_from_the_call_to_both_ends(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same figure arrives over OTLP, on the page, and in the service's text."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    start(collector, exporters=["otlp", "prometheus"])
    service = fo.FlextMetricsService(fo.FlextContainer())
    tags = {"region": "eu"}
    service.record_metric("shop.orders", 3, "count", tags, "counter").unwrap()
    flush()
    assert collector.metric("shop.orders", region="eu").value == 3
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert 'shop_orders_total{region="eu"} 3.0' in text
    own = service.export_prometheus_format().unwrap()
    assert 'shop_orders_total{region="eu"} 3.0' in own
