"""Credentials reach the collector they are for and nobody else."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import flext_observability as fo
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import emit_all, flush, start

SECRET = "hunter2-hunter2"  # noqa: S105 - what must not be seen

SIGNALS = ("TRACES", "METRICS", "LOGS")


@pytest.fixture
def seen(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Everything a person could read by now, beside the given objects."""
    caplog.set_level(logging.DEBUG)

    def read(*shown: object) -> str:
        status = fo.status()
        texts = [*map(str, shown), *map(repr, shown), str(status), repr(status)]
        return "\n".join([*texts, caplog.text, *capfd.readouterr()])

    return read


@pytest.mark.parametrize(
    "value",
    [f"Bearer {SECRET}\n", f"{SECRET}\r\nX-Other: y", f"{SECRET}\x00", f"{SECRET}é"],
    ids=["line feed", "second header", "zero byte", "not ascii"],
)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_illegal_value(seen: Callable[..., str], value: str, protocol: str) -> None:
    """A header value that is none is refused by setup, which does not show it."""
    result = fo.setup(
        "shop", protocol=protocol, headers={"x-key": value}, exporters=["otlp"]
    )
    if result.is_failure:
        assert "headers" in str(result.error)
        assert "x-key" in str(result.error)
    else:  # space around a value is no part of it
        assert value.strip() == f"Bearer {SECRET}"
    assert SECRET not in seen(result, result.exception)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "text",
    [f"authorization=Bearer%20{SECRET}%0AX", f"bad name={SECRET}", f"={SECRET}"],
    ids=["value", "name", "no name"],
)
def test_illegal_header_of_one_signal(
    seen: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    signal: str,
    text: str,
) -> None:
    """The headers of one signal are checked as those of all, and as little shown."""
    variable = f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"
    monkeypatch.setenv(variable, text)
    result = fo.setup("shop", protocol="http/protobuf")
    assert result.is_failure
    assert variable in str(result.error)
    assert SECRET not in seen(result, result.exception)


def test_header_of_one_signal_arrives_there_only(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header of one signal goes with that signal."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x-key=Bearer%20{SECRET}")
    start(collector)
    emit_all("x")
    flush()
    found = {
        request.signal: request.headers.get("x-key") for request in collector.requests()
    }
    assert found == {"traces": f"Bearer {SECRET}", "metrics": None, "logs": None}


def test_space_around_a_value(collector: Collector, seen: Callable[..., str]) -> None:
    """Space around a header value is taken off; the value arrives."""
    start(collector, headers={"authorization": f" Bearer {SECRET}\t"})
    emit_all("x")
    flush()
    values = {request.headers["authorization"] for request in collector.requests()}
    assert values == {f"Bearer {SECRET}"}
    assert SECRET not in seen()


@pytest.mark.parametrize("name", ["x+key", "x!key", "x'key"])
def test_name_that_grpc_refuses(
    grpc_collector: Collector, seen: Callable[..., str], name: str
) -> None:
    """Where gRPC itself refuses a header, no notice quotes its value."""
    result = fo.setup(
        "shop",
        endpoint=grpc_collector.endpoint,
        protocol="grpc",
        headers={name: SECRET},
    )
    emit_all("x")
    fo.flush(0.5)
    assert SECRET not in seen(result)


def test_netrc_does_not_replace_headers(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials in a netrc file do not take the place of the configured header."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password from-netrc\n", "utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    start(http_collector, headers={"authorization": f"Bearer {SECRET}"})
    emit_all("x")
    flush()
    values = {r.headers["authorization"] for r in http_collector.requests()}
    assert values == {f"Bearer {SECRET}"}


def test_netrc_is_not_read(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a configured header none is sent, whatever a netrc file holds."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password from-netrc\n", "utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    start(http_collector)
    emit_all("x")
    flush()
    assert not [r for r in http_collector.requests() if "authorization" in r.headers]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_credentials_in_the_endpoint(seen: Callable[..., str], protocol: str) -> None:
    """Credentials in an endpoint's URL appear in no repr, status, notice or error."""
    endpoint = f"http://user:{SECRET}@127.0.0.1:{closed_port()}"
    handle = fo.setup("shop", endpoint=endpoint, protocol=protocol).unwrap()
    emit_all("x")
    flushed = fo.flush(0.5)
    assert flushed.is_failure
    shown = seen(
        handle,
        handle.config,
        fo.FlextObservabilityConfig(endpoint=endpoint),
        flushed,
        flushed.exception,
    )
    assert SECRET not in shown
    assert "127.0.0.1" in shown


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://user:{SECRET}@",
        f"ftp://user:{SECRET}@host",
        f"http://user:{SECRET}@host:99999",
        f"user:{SECRET}@host",
    ],
)
@pytest.mark.parametrize("by", ["argument", "variable", "traces"])
def test_credentials_in_a_bad_endpoint(
    seen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, endpoint: str, by: str
) -> None:
    """An endpoint that is refused is named without its credentials."""
    if by == "argument":
        result = fo.setup("shop", endpoint=endpoint)
    else:
        middle = "TRACES_" if by == "traces" else ""
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{middle}ENDPOINT", endpoint)
        result = fo.setup("shop")
    assert result.is_failure
    assert "endpoint" in str(result.error)
    assert SECRET not in seen(result, result.exception)


def test_settings_compared_by_headers(http_collector: Collector) -> None:
    """Another credential is another setting: the next request carries it."""
    start(http_collector, headers={"authorization": "first"})
    emit_all("x")
    flush()
    start(http_collector, headers={"authorization": "second"})
    http_collector.clear()
    emit_all("y")
    flush()
    values = {r.headers["authorization"] for r in http_collector.requests()}
    assert values == {"second"}
