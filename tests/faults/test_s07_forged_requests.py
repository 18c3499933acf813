"""S7: what a foreign page makes a browser send is refused."""

from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.web import Reply, ask, free_port

pytestmark = pytest.mark.usefixtures("empty_store")


def post(port: int, path: str, body: Any = None, **headers: str) -> Reply:
    return ask(port, f"/api/v1{path}", method="POST", body=body, **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example:80"},
    ],
)
def test_forged_requests_are_refused(port: int, headers: dict[str, str]) -> None:
    """A name bound to 127.0.0.1, a page of elsewhere: 403 everywhere, and no CORS."""
    for path in ("/metrics", "/health", "/api/v1/alerts"):
        reply = ask(port, path, **headers)
        assert reply.status == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]
    reply = ask(port, "/api/v1/alerts", method="POST", body={}, **headers)
    assert reply.status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:1", "LOCALHOST."])
def test_names_of_this_machine_are_served(port: int, host: str) -> None:
    """However they are written; pages of this server too."""
    assert ask(port, "/metrics", Host=host).status == 200
    origin = f"http://{host}"
    assert ask(port, "/metrics", Host=host, Origin=origin).status == 200


def test_allowed_hosts() -> None:
    """Names that are listed are served, others not."""
    port = free_port()
    fo.setup(
        "shop",
        exporters=["none"],
        server_port=port,
        server_allowed_hosts=["shop.internal"],
    ).unwrap()
    assert ask(port, "/metrics", Host="Shop.Internal:80").status == 200
    assert ask(port, "/metrics", Host="other.internal").status == 403


def test_allowed_hosts_beside_a_token() -> None:
    """Who has the token must come by a listed name too; probes come by any."""
    port = free_port()
    fo.setup(
        "shop",
        exporters=["none"],
        server_port=port,
        server_token="t0ken",  # noqa: S106 - no secret of anybody
        server_allowed_hosts=["shop.internal"],
    ).unwrap()
    bearer = {"Authorization": "Bearer t0ken"}
    assert ask(port, "/metrics", Host="shop.internal", **bearer).status == 200
    assert ask(port, "/metrics", Host="10.0.0.7:80", **bearer).status == 403
    assert ask(port, "/metrics", Host="10.0.0.7:80").status == 401
    assert ask(port, "/health", Host="10.0.0.7:80").json == {"status": "healthy"}


def test_bodies_of_other_kinds_are_415(port: int) -> None:
    """A form is what another site could make a browser send."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        reply = post(port, "/alerts", b"{}", Content_Type=kind)
        assert reply.status == 415
