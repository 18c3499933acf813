"""Prometheus text of the metrics service before Prometheus's own tool."""

import shutil
import subprocess

import pytest

from tests.fixtures.programs import run_program
from tests.fixtures.web import free_port

PROMTOOL = shutil.which("promtool") or ""
PROGRAM = """
    import sys
    import flext_observability as fo

    service = fo.FlextMetricsService()
    service.record_metric("shop.queue-length", 3)
    service.record_metric("shop.queue-length", 4, "", {"lane": 'a"b\\\\c\\nd'})
    for value in (2, 3):
        service.record_metric("shop.orders", value, "", {"région": "eu"}, "counter")
        service.record_metric("shop.request.seconds", value, "s", None, "histogram")
    CLASH

    @fo.flext_monitor_function("price")
    def price(amount):
        return 1 / amount

    price(1)
    try:
        price(0)
    except ZeroDivisionError:
        pass
    sys.stdout.reconfigure(encoding="utf-8")
    print(service.export_prometheus_format().unwrap(), end="")
    """

pytestmark = pytest.mark.skipif(
    not PROMTOOL, reason="promtool (Debian: package prometheus) is not installed"
)


def check(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_promtool_finds_nothing() -> None:
    """Every kind of metric and label, and monitored calls, pass its checks."""
    text = run_program(PROGRAM.replace("CLASH", "")).ok().stdout
    assert "flext_operation_duration_count" in text
    done = check(text)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_a_name_with_two_types() -> None:
    """It parses the text, and remarks only on the suffix that the contract asks for."""
    clash = 'service.record_metric("shop.orders", 1)'
    done = check(run_program(PROGRAM.replace("CLASH", clash)).ok().stdout)
    assert done.stderr.splitlines() == [
        "shop_orders_gauge metric name should not include type 'gauge'"
    ]
    assert done.returncode == 3


def test_promtool_finds_nothing_on_the_page_of_the_server() -> None:
    """Instruments, recorded metrics, health, ledger and target info pass its checks."""
    port = free_port()
    page = run_program(
        f"""
        import urllib.request
        import flext_observability as fo

        fo.setup("shop", exporters=["memory"], server_port={port}).unwrap()
        with fo.flext_span("work"):
            fo.flext_counter("shop.hits").add(1, {{"a b": "c"}})
            fo.flext_histogram("shop.wait.seconds", unit="s").record(0.1)
        fo.flext_gauge("shop.level").set(2)
        fo.FlextMetricsService().record_metric("shop.orders", 1, "", None, "counter")
        check = fo.FlextHealthCheck(name="db", status="degraded")
        fo.FlextHealthService().execute_health_check(check)
        with urllib.request.urlopen("http://127.0.0.1:{port}/metrics") as answer:
            print(answer.read().decode(), end="")
        """
    )
    done = check(page.ok().stdout)
    assert done.returncode == 0, done.stdout + done.stderr
