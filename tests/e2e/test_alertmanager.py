"""Alerts before the real Alertmanager: firing, renewed, resolved, and forgotten."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import flext_observability as fo
from tests.fixtures import operators
from tests.fixtures.operators import alerts_of, wait_for
from tests.fixtures.programs import clean_environment


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with operators.alertmanager(tmp_path) as running:
        yield running
        fo.shutdown(timeout_s=1.0)


def test_firing_then_resolved(address: str) -> None:
    """An alert raised in Python is seen firing, then resolved, with every label."""
    fo.setup("shop", exporters=["none"], alertmanager_url=address).unwrap()
    alerts = fo.FlextAlertService(fo.FlextContainer())
    raised = alerts.process_alert(
        fo.FlextAlert(
            name="disk full",
            severity="critical",
            message="3 % left",
            tags={"région": "eu", "mount": '/data"{{ }}\n'},
            details={"free": 3},
        )
    ).unwrap()
    fo.flush().unwrap()
    (found,) = alerts_of(address, alertname="disk full")
    assert found["status"]["state"] == "active"
    assert found["labels"] == {
        "alertname": "disk full",
        "severity": "critical",
        "service": "shop",
        "r_gion": "eu",
        "mount": '/data"{{ }}\n',
    }
    assert found["annotations"]["summary"] == "3 % left"
    assert found["annotations"]["free"] == "3"
    alerts.resolve_alert(raised.id).unwrap()
    fo.flush().unwrap()
    assert alerts_of(address) == []


def test_renewed_and_forgotten(address: str) -> None:
    """An alert lasts as long as its program; five missed renewals end it."""
    program = """
        import time
        import flext_observability as fo

        fo.setup("shop", exporters=["none"], alert_resend_s=1)
        fo.FlextAlertService().process_alert(
            fo.FlextAlert(name="stuck", severity="error", message="it is")
        )
        time.sleep(60)
        """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=clean_environment(ALERTMANAGER_URL=address),
    )
    try:
        first = wait_for(lambda: alerts_of(address, alertname="stuck"), 15.0)
        wait_for(
            lambda: (
                alerts_of(address, alertname="stuck")[0]["updatedAt"]
                > first[0]["updatedAt"]
            ),
            15.0,
        )
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    (last,) = alerts_of(address, alertname="stuck")
    told, ends = (datetime.fromisoformat(last[key]) for key in ("updatedAt", "endsAt"))
    # Five seconds, less what the last renewal took on its way.
    assert timedelta(seconds=1) < ends - told <= timedelta(seconds=5)
    wait_for(lambda: not alerts_of(address), 15.0)
    assert datetime.now(UTC) >= ends
