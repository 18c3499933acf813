"""S6: without a token only this machine is served, and the token is asked of all."""

import socket
from typing import Any

import pytest
from fastapi import FastAPI

import flext_observability as fo
from flext_observability import server as operations
from tests.fixtures.web import asgi_server, ask, free_port

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - no secret of anybody
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what needs a token

pytestmark = pytest.mark.usefixtures("empty_store")


def report(status: str, name: str = "db") -> None:
    check = fo.FlextHealthCheck(name=name, status=status)
    assert fo.FlextHealthService().execute_health_check(check).success


def other_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no network address")
        return str(probe.getsockname()[0])


def test_a_token_is_asked_of_everybody() -> None:
    """Without it no metrics, no API and no details; probes get their one word."""
    port = free_port()
    fo.setup("shop", exporters=["none"], server_port=port, server_token=TOKEN).unwrap()
    report("degraded")
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        for path in ("/metrics", "/api/v1/alerts", "/api/v1/openapi.json"):
            reply = ask(port, path, **given)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
        assert ask(port, "/health", **given).json == {"status": "degraded"}
        assert (
            ask(port, "/api/v1/alerts", method="POST", body={}, **given).status == 401
        )
    good = {"Authorization": f"bearer {TOKEN}"}
    assert ask(port, "/metrics", **good).status == 200
    assert "paths" in ask(port, "/api/v1/openapi.json", **good).json
    assert "telemetry" in ask(port, "/health", **good).json
    assert TOKEN not in repr(fo.FlextObservabilityConfig.get_global_instance())


@pytest.mark.parametrize("make", [operations.create_app, operations.create_wsgi_app])
def test_an_empty_token_is_none(make: Any) -> None:
    """A variable that was not set must not open everything to everybody."""
    for token in ("", "  "):
        with pytest.raises(fo.FlextObservabilityConfigurationError, match="token"):
            make(token=token)


def test_an_open_address_needs_a_token() -> None:
    """Setup fails and says what to set; nothing listens, telemetry is off."""
    port = free_port()
    result = fo.setup(
        "shop", exporters=["none"], server_host=EVERYWHERE, server_port=port
    )
    assert result.is_failure
    assert "Invalid configuration: server_host: 0.0.0.0" in str(result.error)
    assert "FLEXT_OBSERVABILITY_SERVER_TOKEN" in str(result.error)
    with pytest.raises(OSError, match="refused"):
        ask(port, "/health")
    assert not fo.status().running


def test_with_a_token_other_machines_are_served() -> None:
    """By any name: a rebound one opens nothing without the token."""
    port, address = free_port(), other_address()
    fo.setup(
        "shop",
        exporters=["none"],
        server_host=EVERYWHERE,
        server_port=port,
        server_token=TOKEN,
    ).unwrap()
    assert ask(port, "/metrics", host=address).status == 401
    bearer = f"Bearer {TOKEN}"
    reply = ask(
        port, "/metrics", host=address, Authorization=bearer, Host="shop.internal"
    )
    assert reply.status == 200


def test_other_machines_get_nothing_from_a_mounted_application() -> None:
    """Its server may listen anywhere; without a token only this machine is answered."""
    app = FastAPI()
    app.mount("/ops", operations.create_app())
    report("degraded")
    address = other_address()
    with asgi_server(app, address) as port:
        for path in ("/ops/metrics", "/ops/api/v1/alerts", "/ops/api/v1/openapi.json"):
            reply = ask(port, path, host=address)
            assert reply.status == 403
            assert "server_token" in reply.json["detail"]
        assert ask(port, "/ops/health", host=address).json == {"status": "degraded"}


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_a_forwarded_request_is_not_of_this_machine(port: int, name: str) -> None:
    """A proxy on this machine must not make loopback callers of the whole world."""
    reply = ask(port, "/metrics", **{name: "127.0.0.1"})
    assert reply.status == 403
    assert ask(port, "/health", **{name: "127.0.0.1"}).json == {"status": "healthy"}


# --- the page of the exporter `prometheus` --------------------------------------------


@pytest.fixture
def page_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where the page of the next setup() is."""
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    return port


def test_the_metrics_page_asks_for_the_token(
    page_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From other machines and from this one, on all addresses."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", EVERYWHERE)
    fo.setup("shop", exporters=["prometheus"], server_token=TOKEN).unwrap()
    fo.flext_counter("orders").add(1)
    for host in ("127.0.0.1", other_address()):
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            for method in ("GET", "HEAD", "OPTIONS"):
                reply = ask(page_port, "/metrics", host=host, method=method, **given)
                assert reply.status == 401
                assert reply.headers["www-authenticate"] == "Bearer"
                assert b"orders" not in reply.body
        good = {"Authorization": f"Bearer {TOKEN}"}
        reply = ask(page_port, "/metrics", host=host, **good)
        assert reply.status == 200
        assert "orders_total 1.0" in reply.text


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "shop.internal"])
def test_an_open_metrics_page_needs_a_token(
    page_port: int, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Setup fails, names the variable and says what to set; nothing listens."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", host)
    result = fo.setup("shop", exporters=["prometheus"])
    assert result.is_failure
    told = str(result.error)
    assert told.startswith("Invalid configuration: OTEL_EXPORTER_PROMETHEUS_HOST: ")
    assert f"{host} can be reached" in told
    assert "Set FLEXT_OBSERVABILITY_SERVER_TOKEN, or listen on 127.0.0.1" in told
    with pytest.raises(OSError, match="refused"):
        ask(page_port, "/metrics")
    assert not fo.status().running


def test_the_metrics_page_of_this_machine_is_for_who_came_on_purpose(
    page_port: int,
) -> None:
    """A rebound name, a foreign page and a proxy get nothing; a further name may be."""
    fo.setup("shop", exporters=["prometheus"], server_allowed_hosts=["shop"]).unwrap()
    assert ask(page_port, "/metrics", Host=f"localhost:{page_port}").status == 200
    assert ask(page_port, "/metrics", Host="shop").status == 200
    for forged in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"X-Forwarded-For": "127.0.0.1"},
    ):
        reply = ask(page_port, "/metrics", **forged)
        assert reply.status == 403
        assert b"target_info" not in reply.body
