"""S13: nobody but the collector gets the telemetry; nothing turns that off quietly."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

import flext_observability as fo
from tests.faults.client import ledger, make, start
from tests.fixtures.collector import (
    UNAUTHENTICATED,
    Collector,
    Protocol,
    closed_port,
)
from tests.fixtures.library import flush_in_vain

Identity = tuple[Path, Path]


class Authority:
    """A certificate authority that writes what it issues into files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ca = trustme.CA()
        self._stem = folder / name
        self.path = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    def issue(self, host: str, *, is_expired: bool = False) -> Identity:
        """Issue a private key and a certificate."""
        over = datetime(2021, 1, 1, tzinfo=UTC) if is_expired else None
        begun = datetime(2020, 1, 1, tzinfo=UTC) if is_expired else None
        issued = self._ca.issue_cert(host, not_before=begun, not_after=over)
        stem = f"{self._stem}-{host.replace('@', '-')}-{is_expired}"
        key, chain = Path(f"{stem}.key"), Path(f"{stem}.crt")
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(chain))
        return key, chain


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


@pytest.fixture(autouse=True)
def no_authority_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serving(
    protocol: Protocol,
    identity: Identity | None,
    *,
    client_ca: Path | None = None,
    port: int = 0,
) -> Iterator[Collector]:
    with Collector(
        protocol, identity=identity, client_ca=client_ca, port=port
    ) as server:
        if identity:  # not localhost: gRPC may tell about ::1, where nobody listens
            server.endpoint = f"https://127.0.0.1:{server.port}"
        yield server
        fo.shutdown(timeout_s=0.2)


def assert_held(server: Collector, *words: str) -> None:
    """Nothing went out, nothing was burnt, and status says why."""
    make(range(5))
    status = flush_in_vain(0.8)
    assert not server.requests()
    assert (ledger().pending, ledger().rejected) == (5, 0)
    assert not status.ready
    problem = " ".join(status.problems)
    for word in words:
        assert word in problem.lower(), problem


def test_good(protocol: Protocol, ours: Authority) -> None:
    """A server that our authority vouches for, under its name, gets everything."""
    with serving(protocol, ours.issue("127.0.0.1")) as server:
        start(server, certificate=str(ours.path))
        make(range(5))
        fo.flush(timeout_s=20.0).unwrap()
        assert ledger().delivered == len(server.spans()) == 5


def test_wrong_host(protocol: Protocol, ours: Authority) -> None:
    """A certificate for another host is not good enough."""
    with serving(protocol, ours.issue("other.example")) as server:
        start(server, certificate=str(ours.path))
        assert_held(server, "tls failed")


def test_unknown_authority(
    protocol: Protocol, ours: Authority, theirs: Authority
) -> None:
    """A certificate of another authority, or of none the machine knows, is not."""
    with serving(protocol, theirs.issue("127.0.0.1")) as server:
        start(server, certificate=str(ours.path))
        assert_held(server, "certificate", "tls failed")
        fo.shutdown(timeout_s=0.2)
        start(server, service_name="other")
        assert_held(server, "certificate", "tls failed")


def test_expired(protocol: Protocol, ours: Authority) -> None:
    """Neither is one whose time is over."""
    with serving(protocol, ours.issue("127.0.0.1", is_expired=True)) as server:
        start(server, certificate=str(ours.path))
        assert_held(server, "certificate", "tls failed")


def test_corrected(protocol: Protocol, ours: Authority, theirs: Authority) -> None:
    """Once the server shows a good certificate, what was held arrives."""
    port = closed_port()
    endpoint = f"https://127.0.0.1:{port}"
    with Collector(protocol, identity=theirs.issue("127.0.0.1"), port=port) as wrong:
        start(wrong, endpoint=endpoint, certificate=str(ours.path))
        assert_held(wrong, "certificate")
    with serving(protocol, ours.issue("127.0.0.1"), port=port) as server:
        fo.flush(timeout_s=20.0).unwrap()
        assert ledger().delivered == len(server.spans()) == 5


def test_mutual(protocol: Protocol, ours: Authority, theirs: Authority) -> None:
    """A server that wants a client certificate gets ours, and nobody else gets in."""
    identity = ours.issue("127.0.0.1")
    with serving(protocol, identity, client_ca=ours.path) as server:
        key, chain = theirs.issue("client@example.org")
        files = {"client_certificate": str(chain), "client_key": str(key)}
        start(server, certificate=str(ours.path), **files)
        assert_held(server)
        fo.shutdown(timeout_s=0.2)

        start(server, certificate=str(ours.path), service_name="none")
        assert_held(server)
        fo.shutdown(timeout_s=0.2)

        key, chain = ours.issue("client@example.org")
        files = {"client_certificate": str(chain), "client_key": str(key)}
        start(server, certificate=str(ours.path), service_name="good", **files)
        make(range(5))
        fo.flush(timeout_s=20.0).unwrap()
        assert ledger().delivered == 5


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_INSECURE": "true"},
        {"OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true"},
        {"PYTHONHTTPSVERIFY": "0", "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
    ],
    ids=["insecure", "insecure_of_signal", "habits"],
)
def test_no_quiet_switch(
    protocol: Protocol,
    ours: Authority,
    theirs: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    """No variable makes https:// mean less than that."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serving(protocol, theirs.issue("127.0.0.1")) as server:
        start(server, certificate=str(ours.path))
        assert_held(server, "tls failed")


def test_never_downgraded(protocol: Protocol, ours: Authority) -> None:
    """A server that does not speak TLS is not talked to without."""
    with serving(protocol, None) as server:
        start(
            server,
            endpoint=f"https://127.0.0.1:{server.port}",
            certificate=str(ours.path),
        )
        assert_held(server, "tls")


def test_plain_to_a_tls_port(protocol: Protocol, ours: Authority) -> None:
    """http:// to a port that speaks TLS delivers nothing and burns nothing."""
    with serving(protocol, ours.issue("127.0.0.1")) as server:
        start(server, endpoint=f"http://127.0.0.1:{server.port}")
        assert_held(server)


@pytest.mark.parametrize(
    ("spoken", "port_speaks"), [("grpc", "http/protobuf"), ("http/protobuf", "grpc")]
)
def test_wrong_protocol(spoken: Protocol, port_speaks: Protocol) -> None:
    """The wrong protocol for a port burns nothing; the line names the other one."""
    with serving(port_speaks, None) as server:
        start(server, protocol=spoken)
        assert_held(server, "protocol=", "port 431")


def test_file_that_is_gone(protocol: Protocol, ours: Authority) -> None:
    """A certificate file that vanishes while the program runs holds the records."""
    with serving(protocol, ours.issue("127.0.0.1")) as server:
        start(server, certificate=str(ours.path))
        ours.path.rename(ours.path.with_suffix(".away"))
        assert_held(server, "certificate")
        ours.path.with_suffix(".away").rename(ours.path)
        fo.flush(timeout_s=20.0).unwrap()
        assert ledger().delivered == 5


def test_renewed(protocol: Protocol, ours: Authority, theirs: Authority) -> None:
    """A client certificate that is replaced in its file is used at the next try."""
    identity = ours.issue("127.0.0.1")
    good = ours.issue("client@example.org")
    key, chain = theirs.issue("client@example.org")
    with serving(protocol, identity, client_ca=ours.path) as server:
        start(
            server,
            certificate=str(ours.path),
            client_certificate=str(chain),
            client_key=str(key),
        )
        assert_held(server)
        good[0].replace(key)
        good[1].replace(chain)
        fo.flush(timeout_s=20.0).unwrap()
        assert ledger().delivered == 5


# Credentials without TLS

CREDENTIALS = {"authorization": "Bearer s3cr3t-value"}


def insecure_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "without TLS" in record.getMessage()
    ]


@pytest.mark.parametrize("header", ["authorization", "X-Api-Key", "some-token"])
def test_credentials_in_the_clear(
    protocol: Protocol, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    """Credentials over http:// beyond loopback are warned about once, never shown."""
    fo.setup(
        "shop",
        endpoint="http://collector.invalid:4318",
        protocol=protocol,
        headers={header: "s3cr3t-value"},
    ).unwrap()
    (line,) = insecure_lines(caplog)
    assert header.lower() in line
    assert "s3cr3t" not in caplog.text
    assert "https://" in line


@pytest.mark.parametrize(
    ("endpoint", "headers"),
    [
        ("http://localhost:4318", CREDENTIALS),
        ("http://127.0.0.1:4318", CREDENTIALS),
        ("http://127.9.9.9:4318", CREDENTIALS),
        ("http://[::1]:4318", CREDENTIALS),
        ("https://collector.invalid:4318", CREDENTIALS),
        ("http://collector.invalid:4318", {}),
        ("http://collector.invalid:4318", {"x-scope-orgid": "team"}),
    ],
)
def test_no_false_alarm(
    caplog: pytest.LogCaptureFixture, endpoint: str, headers: dict[str, str]
) -> None:
    """Loopback, TLS and headers that are no secret are nothing to warn about."""
    fo.setup("shop", endpoint=endpoint, headers=headers).unwrap()
    assert not insecure_lines(caplog)


def test_credentials_in_the_address(
    http_collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """User and password of the address are sent, and shown nowhere."""
    endpoint = f"http://user:s3cr3t@127.0.0.1:{http_collector.port}"
    start(http_collector, endpoint=endpoint)
    http_collector.answer_next(UNAUTHENTICATED)
    make([1])
    fo.flush(timeout_s=20.0).unwrap()
    (_, request) = http_collector.requests()
    assert request.headers["authorization"] == "Basic dXNlcjpzM2NyM3Q="
    assert "s3cr3t" not in caplog.text + str(fo.status())
