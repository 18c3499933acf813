"""The shipped collector file: wired completely, and movable by environment alone."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FROM_ENVIRONMENT = re.compile(r"\$\{env:[A-Z][A-Z0-9_]*:-[^}]+\}")
ADDRESSES = {"endpoint", "host", "port", "directory"}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "otel-collector-config.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every scalar with its dotted path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path.lstrip("."), value


def test_every_component_is_defined_and_used(config: dict[str, Any]) -> None:
    """A pipeline names only what is defined, and nothing is defined in vain."""
    for kind in ("receivers", "processors", "exporters"):
        used = {
            name
            for pipeline in config["service"]["pipelines"].values()
            for name in pipeline[kind]
        }
        assert used == set(config[kind])
    assert set(config["service"]["extensions"]) == set(config["extensions"])


def test_all_three_signals_enter_by_otlp_and_leave(config: dict[str, Any]) -> None:
    """Traces, metrics and logs each have a pipeline from OTLP to an exporter."""
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    for pipeline in pipelines.values():
        assert pipeline["receivers"] == ["otlp"]
        assert pipeline["exporters"]
    assert set(config["receivers"]["otlp"]["protocols"]) == {"grpc", "http"}


def test_memory_limiter_comes_first(config: dict[str, Any]) -> None:
    """A full collector refuses at the door instead of dropping inside."""
    for pipeline in config["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"


def test_traces_wait_on_disk(config: dict[str, Any]) -> None:
    """The queue to Jaeger lives in a storage extension that is switched on."""
    queue = config["exporters"]["otlp_grpc/jaeger"]["sending_queue"]
    assert queue["storage"] in config["service"]["extensions"]


def test_every_address_comes_from_the_environment(config: dict[str, Any]) -> None:
    """Each endpoint, host, port and folder is a variable with a default."""
    found = {
        path: value
        for path, value in leaves(config)
        if path.rpartition(".")[2] in ADDRESSES
    }
    assert len(found) >= len(ADDRESSES)
    for path, value in found.items():
        assert FROM_ENVIRONMENT.fullmatch(str(value)), f"{path}: {value}"


def test_a_collector_accepts_it() -> None:
    """The real program reads the file without complaint, where it is installed."""
    collector = shutil.which("otelcol-contrib") or shutil.which("otelcol")
    if collector is None:
        pytest.skip("needs otelcol-contrib or otelcol on PATH")
    done = subprocess.run(
        [collector, "validate", "--config", ROOT / "otel-collector-config.yaml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
