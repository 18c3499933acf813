"""The plain reader of settings: it never says other than Pydantic does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from tests.fixtures.programs import run_program

import flext_observability as fo

SETTINGS: dict[str, Any] = import_module("flext_observability.setting_rules").SETTINGS
make_config: Any = import_module("flext_observability.config").make_config
plain: Any = import_module("flext_observability.settings")
read_settings: Any = import_module("flext_observability.settings_reader").read_settings

# A value of each setting as a program writes it, and as a variable holds it.
PLAIN: dict[str, tuple[object, str]] = {
    "service_name": ("orders", "orders"),
    "service_version": ("1.2.3", "1.2.3"),
    "service_namespace": ("shop", "shop"),
    "environment": ("production", "production"),
    "resource_attributes": ({"team": "a", "rank": 3}, "team=a,rank=3"),
    "endpoint": ("http://localhost:4318", "localhost:4317"),
    "protocol": ("http", "HTTP/protobuf"),
    "headers": ({"x-key": "abc"}, "x-key=a%20b"),
    "compression": ("gzip", "GZIP"),
    "timeout_s": (2, "2.5"),
    "exporters": (["otlp", "console"], "otlp, console"),
    "tracing_enabled": (False, "off"),
    "metrics_enabled": (False, "False"),
    "logs_enabled": (True, "yes"),
    "sample_ratio": (0.1, "0.1"),
    "propagators": (("b3",), "b3,baggage"),
    "correlation_id_header": ("X-Id", "X-Id"),
    "log_level": ("warning", "Error"),
    "structured_logging": (False, "0"),
    "metrics_export_interval_s": (5.0, "5"),
    "histogram_buckets_s": ([0.1, 1], "0.1,1"),
    "max_span_attributes": (64, "64"),
    "max_span_events": (64, "64"),
    "max_span_links": (64, "64"),
    "max_event_attributes": (64, "64"),
    "max_link_attributes": (64, "64"),
    "max_log_attributes": (64, "64"),
    "max_attribute_length": (200, "200"),
    "exit_budget_s": (0, "0"),
    "durability": ("record", "Memory"),
    "spool_dir": (Path("spool"), "~/spool"),
    "spool_limit_bytes": (1 << 20, "1048576"),
    "fsync": ("batch", "segment"),
    "handle_signals": (True, "1"),
    "redaction": (False, "n"),
    "redact_keys": (["iban"], "iban,bic"),
    "redact_patterns": (["a+"], "a+"),
    "alertmanager_url": ("http://localhost:9093/", "http://localhost:9093"),
    "alert_resend_s": (30, "30"),
    "push_gateway_url": ("http://localhost:9091", "http://localhost:9091/"),
    "service_discovery_dir": ("targets", "targets"),
    "metrics_store_limit": (10, "10"),
    "metrics_store_cleanup": (5, "5"),
    "health_check_interval_s": (1, "1"),
    "health_failure_threshold": (2, "2"),
    "health_alert_on_failure": (False, "no"),
    "server_host": ("::1", "::1"),
    "server_port": (9464, "9464"),
    "server_token": ("secret", "secret"),
    "server_allowed_hosts": (["a.example"], "a.example,b.example"),
    "server_metrics_dir": (Path("metrics"), "metrics"),
}
FILES = {"certificate", "client_certificate", "client_key"}

TEXTS = st.text(max_size=12)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.sampled_from(["", " 1 ", "1_0", "+5", "1e3", "0x10", "٣", "TRUE", "inf", "nan"]),
    st.sampled_from(["http", "a=b", "a=b,c", "x:1", "http://h:99999", "https://h/ a"]),
    st.decimals(),
    st.binary(max_size=4),
    st.lists(st.one_of(TEXTS, st.integers(), st.floats()), max_size=4),
    st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.none()), max_size=3),
    st.integers().map(str),
    st.floats().map(str),
    st.from_regex(r"\A[0-9.]{1,18}\Z"),
)
FIELDS = st.sampled_from(sorted(SETTINGS))


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for a moment; Hypothesis and function fixtures do not mix."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def is_plain(stated: dict[str, Any]) -> bool:
    """Whether the plain reader takes them, and then as Pydantic does."""
    try:
        settings = plain.plain_settings(stated)
    except Exception:  # noqa: BLE001 - it says by any exception that it is not sure
        return False
    same_as_pydantic(settings, stated)
    return True


def same_as_pydantic(settings: Any, stated: dict[str, Any]) -> None:
    full = make_config(stated).unwrap().settings()
    # As text: NaN is not equal to itself, True is to 1.
    assert repr(settings.values()) == repr(full.values())
    assert settings.fields_set() == full.fields_set()
    for field in SETTINGS:
        assert settings.is_stated(field) is full.is_stated(field), field
        assert settings.is_from_otel(field) is full.is_from_otel(field), field


def test_every_setting_has_an_example() -> None:
    """Whoever adds a setting is led here, and to every other list of them."""
    assert set(PLAIN) | FILES == set(SETTINGS)
    assert list(fo.FlextObservabilityConfig.model_fields) == list(SETTINGS)
    annotations = list(plain.Settings.__annotations__)
    assert annotations == list(SETTINGS)


@pytest.mark.parametrize("field", sorted(PLAIN))
def test_what_people_write_needs_no_pydantic(field: str) -> None:
    """As an argument, and in each of the two variables, in any case."""
    value, text = PLAIN[field]
    assert is_plain({field: value})
    for prefix in ("FLEXT_OBSERVABILITY_", "observability_"):
        with environment(**{f"{prefix}{field.upper()}": text}):
            assert is_plain({})
            assert is_plain({field: value})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FLEXT_LOG_LEVEL", "debug"),
        ("FLEXT_ENVIRONMENT", "staging"),
        ("HEALTH_CHECK_INTERVAL", "10"),
        ("ALERTMANAGER_URL", "http://localhost:9093"),
        ("PROMETHEUS_PUSH_GATEWAY", "http://localhost:9091"),
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.version=2,deployment.environment=x"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_PROPAGATORS", "b3"),
    ],
)
def test_shared_and_standard_variables_need_no_pydantic(
    variable: str, text: str
) -> None:
    """They are read as plainly, with their own meaning."""
    with environment(**{variable: text}):
        assert is_plain({})


@given(st.dictionaries(FIELDS, ODD, max_size=3))
def test_odd_arguments(stated: dict[str, Any]) -> None:
    """Whatever the plain reader takes, Pydantic takes as the same."""
    is_plain(stated)


@given(FIELDS, st.one_of(TEXTS, ODD.map(str)), st.booleans())
def test_odd_variables(field: str, text: str, is_short: bool) -> None:  # noqa: FBT001 - drawn
    """The same for what the environment says."""
    prefix = "OBSERVABILITY_" if is_short else "FLEXT_OBSERVABILITY_"
    if "\0" in text or not text.isprintable():
        return
    with environment(**{f"{prefix}{field.upper()}": text}):
        is_plain({})


@pytest.mark.parametrize("field", sorted(set(SETTINGS) - {"headers", "server_token"}))
def test_a_wrong_value_is_explained_by_pydantic(field: str) -> None:
    """The plain reader leaves it, and the failure names the field."""
    result = read_settings({field: object()})
    assert str(result.error).startswith(f"Invalid configuration: {field}: ")


def test_two_bounds_that_do_not_fit() -> None:
    """Rules over several settings hold here too."""
    stated = {"metrics_store_limit": 5, "metrics_store_cleanup": 5}
    assert not is_plain(stated)
    assert "must be below metrics_store_limit" in str(read_settings(stated).error)
    assert is_plain({"metrics_store_cleanup": 5_000})  # the other one is a default


def test_half_a_client_certificate(tmp_path: Path) -> None:
    """A certificate without its key is not taken."""
    pem = tmp_path / "cert.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----")
    assert not is_plain({"client_certificate": pem})
    assert is_plain({"certificate": str(pem)})


def test_setup_loads_no_pydantic() -> None:
    """A usual set-up in a fresh process; a look at its config loads Pydantic then."""
    done = run_program(
        """
        import sys
        import flext_observability as fo

        handle = fo.setup("orders", endpoint="http://127.0.0.1:9", protocol="http",
                          exit_budget_s=0, durability="memory").unwrap()
        heavy = ("pydantic", "pydantic_settings", "dotenv")
        print([name for name in heavy if name in sys.modules])
        print(handle.config.endpoint, handle.config.service_name)
        """
    ).ok()
    assert done.lines == ["[]", "http://127.0.0.1:9 orders"]


def test_lists_and_pairs_inside_an_application() -> None:
    """Nested in somebody's own settings, variables are written as ours are."""

    class Shop(fo.FlextBaseSettings):
        model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")
        telemetry: fo.FlextObservabilityConfig = Field(
            default_factory=fo.FlextObservabilityConfig
        )

    with environment(
        SHOP_TELEMETRY__EXPORTERS="otlp,console",
        SHOP_TELEMETRY__HEADERS="x-key=abc",
        SHOP_TELEMETRY__HISTOGRAM_BUCKETS_S="1,2",
    ):
        found = Shop().telemetry
    assert found.exporters == ["otlp", "console"]
    assert found.headers["x-key"].get_secret_value() == "abc"
    assert found.histogram_buckets_s == [1, 2]


def test_setup_wins_over_a_reader_that_began_before() -> None:
    """Who reads the environment while `setup()` runs does not undo it."""
    done = run_program(
        """
        import os, threading
        from importlib import import_module
        import flext_observability as fo

        setup = fo.setup
        reader = import_module("flext_observability.settings_reader")
        read = reader.read_settings
        reading, is_set_up = threading.Event(), threading.Event()

        def slowly(stated):
            reading.set()
            assert is_set_up.wait(10)
            return read(stated)

        reader.read_settings = slowly
        seen = []
        thread = threading.Thread(
            target=lambda: seen.append(reader.settings_in_force().service_name)
        )
        thread.start()
        assert reading.wait(10)
        handle = setup("mine", exporters=["none"]).unwrap()
        is_set_up.set()
        thread.join()
        print(seen, handle.config.service_name)
        """
    ).ok()
    assert done.lines == ["['mine'] mine"]
