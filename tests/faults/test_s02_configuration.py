"""S2: the library's own credentials show nowhere and are never written down.

Headers and credentials in URLs: in repr, text, JSON, messages, tracebacks, status, log
lines and the spool.
"""

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import UNAUTHENTICATED, Answer, Collector, closed_port
from tests.fixtures.library import emit_all, flush, flush_in_vain, start
from tests.fixtures.programs import run_program

CANARY = "k4n4ry-9f8e7d6c5b4a"
HEADERS = {"authorization": f"Bearer {CANARY}", "x-tenant-key": CANARY}
# The other settings that can hold a secret.
SECRETS: dict[str, Any] = {
    "headers": HEADERS,
    "server_token": CANARY,
    "endpoint": f"http://bob:{CANARY}@127.0.0.1:4318/?token={CANARY}",
    "alertmanager_url": f"http://{CANARY[:8]}@127.0.0.1:9093",
    "push_gateway_url": f"http://bob:{CANARY}@127.0.0.1:9091",
    "resource_attributes": {
        "api_key": CANARY,
        "note": f"password={CANARY}",
        "customer.iban": CANARY,
        "team": "shop",
    },
    "redact_keys": ["iban"],
}


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


def forms(config: fo.FlextObservabilityConfig) -> list[str]:
    """The settings in every form that Pydantic and Python offer."""
    return [
        repr(config),
        str(config),
        f"{config!r:>10}",
        config.model_dump_json(),
        json.dumps(config.model_dump(mode="json")),
        str(config.model_dump()),
        repr(vars(config)),
        repr(list(config)),
        str(config.model_copy()),
    ]


def test_every_secret_setting(seen: Callable[..., str]) -> None:
    """Neither credentials in URLs nor secrets of the resource show, the rest does."""
    config = fo.FlextObservabilityConfig(**SECRETS)
    handle = fo.setup("shop", config=config, exporters=["none"]).unwrap()
    for settings in (config, handle.config):
        shown = [
            *(repr(settings), str(settings), f"{settings!r:>10}"),
            *(settings.model_dump_json(), repr(settings.model_dump())),
            json.dumps(settings.model_dump(mode="json")),
            str(settings.model_copy()),
        ]
        for form in (*shown, seen(handle, handle.status())):
            assert CANARY[:8] not in form
        assert "http://[redacted]@127.0.0.1:9091" in repr(settings)
        assert "'team': 'shop'" in repr(settings)
        assert settings.endpoint == SECRETS["endpoint"]


@pytest.mark.parametrize("endpoint", [f"bob:{CANARY}@127.0.0.1:4317", "127.0.0.1:4317"])
def test_an_address_without_scheme(endpoint: str) -> None:
    """Credentials are seen before host and port, too."""
    shown = repr(fo.FlextObservabilityConfig(endpoint=endpoint))
    assert CANARY not in shown
    assert "127.0.0.1:4317'" in shown


def test_a_dump_makes_the_same_settings_again() -> None:
    """What `model_dump()` hides is there for `model_validate()`."""
    config = fo.FlextObservabilityConfig(**SECRETS)
    again = fo.FlextObservabilityConfig.model_validate(config.model_dump())
    assert vars(again) == vars(config)
    plain = fo.FlextObservabilityConfig(endpoint="http://127.0.0.1:4318")
    assert plain.model_dump()["endpoint"] == "http://127.0.0.1:4318"


def test_settings_in_every_form(seen: Callable[..., str]) -> None:
    """No form of the settings shows a header."""
    config = fo.FlextObservabilityConfig(headers=HEADERS)
    handle = fo.setup("shop", config=config, exporters=["none"]).unwrap()
    for form in (*forms(config), *forms(handle.config)):
        assert CANARY not in form
    assert CANARY not in seen(handle, config, handle.config, handle.status())
    assert "x-tenant-key" in repr(config)


def test_headers_arrive_all_the_same(collector: Collector) -> None:
    """What is shown nowhere is sent."""
    start(collector, headers=HEADERS)
    emit_all("x")
    flush()
    for request in collector.requests():
        assert HEADERS.items() <= request.headers.items()


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": HEADERS, "protocol": "carrier pigeon"},
        {"headers": HEADERS, "endpoint": f"https://bob:{CANARY}@:x/"},
        {"headers": {**HEADERS, "bad name": CANARY}},
        {"headers": {**HEADERS, "x": f"{CANARY}\n"}, "sample_ratio": 7},
        {"headers": f"authorization={CANARY},{CANARY}"},
        {"headers": [CANARY]},
        {"headers": CANARY},
        {"headers": {CANARY: object()}},
        {"headers": HEADERS, "no_such_setting": CANARY[:3]},
        {"endpoint": f"https://bob:{CANARY}@localhost:99999"},
        {"endpoint": f"https://localhost:99999/?token={CANARY}"},
        {"resource_attributes": {"api_key": CANARY, "team": object()}},
        {"resource_attributes": f"api_key={CANARY},team"},
        {"config": {"headers": HEADERS}},
        {"server_token": f"{CANARY} and more"},
    ],
)
def test_messages_of_a_failed_setup(
    seen: Callable[..., str], fields: dict[str, Any]
) -> None:
    """Neither the failure nor its exception, cause or traceback shows a secret."""
    result = fo.setup("shop", **fields)
    assert result.is_failure
    error = result.exception
    assert error is not None
    shown = [*map(str, error.args), *traceback.format_exception(error)]
    assert CANARY not in seen(result, error, *shown)
    with pytest.raises(fo.FlextObservabilityError) as caught:
        result.unwrap()
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_direct_construction(seen: Callable[..., str]) -> None:
    """Pydantic's own error of bad settings shows no header."""
    with pytest.raises(ValueError, match="protocol") as caught:
        fo.FlextObservabilityConfig(headers=HEADERS, protocol="pigeon")
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in seen(caught.value, shown)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_notices_of_trouble(
    seen: Callable[..., str], tmp_path: Path, protocol: str
) -> None:
    """A dead collector's notices and a failed flush show no header."""
    endpoint = f"http://bob:{CANARY}@127.0.0.1:{closed_port()}"
    handle = fo.setup(
        "shop",
        endpoint=endpoint,
        protocol=protocol,
        headers=HEADERS,
        spool_dir=tmp_path / "state",
    ).unwrap()
    emit_all("x")
    flushed = fo.flush(0.5)
    assert flushed.is_failure
    stopped = fo.shutdown(0.2)
    assert CANARY not in seen(handle, flushed, flushed.exception, stopped)


def test_refused_credentials(collector: Collector, seen: Callable[..., str]) -> None:
    """A collector that refuses the credentials is named, they are not."""
    collector.answer_always(UNAUTHENTICATED)
    start(collector, headers=HEADERS)
    emit_all("x")
    flush_in_vain(1.0)
    shown = seen()
    assert "401" in shown or "UNAUTHENTICATED" in shown
    assert CANARY not in shown


@pytest.mark.parametrize("durability", ["record", "batch"])
def test_spool(tmp_path: Path, durability: str) -> None:
    """Neither file names nor bytes of the spool hold a credential."""
    endpoint = f"http://bob:{CANARY}@127.0.0.1:{closed_port()}"
    fo.setup(
        "shop",
        endpoint=endpoint,
        protocol="http/protobuf",
        headers=HEADERS,
        durability=durability,
        spool_dir=tmp_path / "state",
    ).unwrap()
    emit_all("in the spool")
    fo.flush(0.5)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"in the spool" in content
    assert CANARY.encode() not in content
    assert not [path for path in (tmp_path / "state").rglob("*") if CANARY in str(path)]


def test_rejected_records(collector: Collector, tmp_path: Path) -> None:
    """What a collector refused for good is kept without credentials."""
    collector.answer_always(Answer(404, message="no such path"))
    start(collector, headers=HEADERS, spool_dir=tmp_path / "state")
    emit_all("x")
    fo.flush(2.0)
    content = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
    assert CANARY.encode() not in content


def test_variables() -> None:
    """Credentials in variables show in no output of a program, whatever fails."""
    program = """
        import faulthandler, json, sys
        import flext_observability as fo
        handle = fo.setup("shop", log_level="DEBUG").unwrap()
        with fo.flext_span("x"):
            fo.get_logger("shop").warning("x")
        print(handle, handle.config, fo.status(), fo.flush(0.3), fo.shutdown(0.2))
        print(fo.setup("shop", sample_ratio=9))
        raise RuntimeError(repr(handle.config))
    """
    secret = CANARY.replace("-", "%2D")
    ended = run_program(
        program,
        env={
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{secret}",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"x-key={CANARY}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://bob:{CANARY}@127.0.0.1:"
            f"{closed_port()}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
    )
    assert "RuntimeError" in ended.stderr
    for said in (ended.stdout, ended.stderr):
        assert CANARY not in said
        assert secret not in said


def test_locals_of_a_traceback() -> None:
    """Tracebacks that show the values of locals show the settings without secrets."""
    config = fo.FlextObservabilityConfig(headers=HEADERS)
    with pytest.raises(RuntimeError) as caught:
        _boom(config)
    shown = "".join(
        traceback.TracebackException.from_exception(
            caught.value, capture_locals=True
        ).format()
    )
    assert "x-tenant-key" in shown
    own = [line for line in shown.splitlines() if "HEADERS" not in line]
    assert CANARY not in "\n".join(own)


def _boom(config: fo.FlextObservabilityConfig) -> None:
    settings = config
    raise RuntimeError(len(settings.headers))
