"""Dashboards and data sources as a Grafana gets them, by a stand-in."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fixtures.collector import closed_port
from tests.fixtures.programs import clean_environment
from tests.fixtures.web_service import Reply, WebService

TOKEN = "glsa_made_up_token"  # noqa: S105 - made up


@pytest.fixture
def grafana() -> Iterator[WebService]:
    with WebService() as running:
        yield running


def upload(
    address: str, *args: str, token: str = TOKEN
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flext_observability", "dashboards", "--upload", *args],
        env=clean_environment(GRAFANA_URL=address, GRAFANA_API_KEY=token),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_dashboards_are_loaded(grafana: WebService) -> None:
    """Each is posted with the token, over the former one of its uid."""
    done = upload(grafana.address)
    assert done.returncode == 0, done.stderr
    assert {asked.path for asked in grafana.asked} == {"/api/dashboards/db"}
    bodies = [asked.json for asked in grafana.asked]
    assert [body["dashboard"]["uid"] for body in bodies] == [
        "flext-overview",
        "flext-operations",
        "flext-telemetry",
    ]
    assert all(body["overwrite"] for body in bodies)
    for asked in grafana.asked:
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert done.stdout.splitlines()[0] == "loaded dashboard Services"


def test_data_sources_that_exist_are_replaced(grafana: WebService) -> None:
    """A conflict is no failure: the source is put under its uid."""
    grafana.replies.extend([Reply(409), Reply(200), Reply(200)])
    done = upload(grafana.address, "--with-sources")
    assert done.returncode == 0, done.stderr
    places = [(asked.method, asked.path) for asked in grafana.asked]
    assert places[:3] == [
        ("POST", "/api/datasources"),
        ("PUT", "/api/datasources/uid/flext-prometheus"),
        ("POST", "/api/datasources"),
    ]
    assert len(places) == 6


@pytest.mark.parametrize("status", [401, 302, 500])
def test_a_refusal_is_told(grafana: WebService, status: int) -> None:
    """One line that says what is wrong, without the token; nothing is followed."""
    with WebService() as elsewhere:
        location = {"Location": elsewhere.address}
        grafana.usual = Reply(status, location, b'{"message": "no"}')
        done = upload(grafana.address)
        assert elsewhere.asked == []
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(status) in line
    assert TOKEN not in done.stderr


def test_no_grafana() -> None:
    """Nobody listening, no address, no token: each is named in one line."""
    for address, token, word in (
        (f"http://127.0.0.1:{closed_port()}", TOKEN, "connection refused"),
        ("", TOKEN, "GRAFANA_URL is not set"),
        ("http://localhost:3000", "", "GRAFANA_API_KEY is not set"),
        ("localhost:3000", TOKEN, "GRAFANA_URL: must be a URL"),
    ):
        done = upload(address, token=token)
        assert done.returncode > 0
        (line,) = done.stderr.splitlines()
        assert word in line
