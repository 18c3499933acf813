"""TLS and mutual TLS with real certificates."""

import pytest

import flext_observability as fo
from tests.conftest import Certificates
from tests.fixtures.collector import Collector
from tests.fixtures.library import (
    assert_balanced,
    emit_all,
    flush,
    flush_in_vain,
    start,
)


@pytest.fixture(autouse=True)
def other_authorities(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    """Machines often name an authority of their own; an explicit one must win."""
    _, chain = certificates.stranger
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(chain))


def test_tls(tls_collector: Collector, certificates: Certificates) -> None:
    """Over TLS, the server checked against our authority, all signals arrive."""
    start(tls_collector, certificate=str(certificates.authority))
    emit_all("x")
    flush()
    assert tls_collector.span("x")
    assert tls_collector.log("x")
    assert tls_collector.metric("x")


def test_tls_by_variable(
    tls_collector: Collector,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The authority's file may come from OTEL_EXPORTER_OTLP_CERTIFICATE."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates.authority))
    start(tls_collector)
    emit_all("x")
    flush()
    assert tls_collector.span("x")


def test_mutual_tls(mtls_collector: Collector, certificates: Certificates) -> None:
    """With a client certificate the server lets us in."""
    key, chain = certificates.client
    start(
        mtls_collector,
        certificate=str(certificates.authority),
        client_certificate=str(chain),
        client_key=str(key),
    )
    emit_all("x")
    flush()
    assert mtls_collector.span("x")
    assert mtls_collector.log("x")
    assert mtls_collector.metric("x")


def test_unknown_authority(tls_collector: Collector) -> None:
    """A server that nobody vouches for gets nothing; status says why."""
    start(tls_collector, metrics_enabled=False, logs_enabled=False, exit_budget_s=0.2)
    with fo.flext_span("x"):
        pass
    status = flush_in_vain(1.0)
    assert not tls_collector.requests()
    assert "certificate" in str(status.last_error).lower()
    assert_balanced("traces")


def test_stranger_as_client(
    mtls_collector: Collector, certificates: Certificates
) -> None:
    """A client certificate of another authority is refused by the server."""
    key, chain = certificates.stranger
    start(
        mtls_collector,
        certificate=str(certificates.authority),
        client_certificate=str(chain),
        client_key=str(key),
        metrics_enabled=False,
        logs_enabled=False,
        exit_budget_s=0.2,
    )
    with fo.flext_span("x"):
        pass
    flush_in_vain(1.0)
    assert not mtls_collector.requests()
    assert_balanced("traces")
