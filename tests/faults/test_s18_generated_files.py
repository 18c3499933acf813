"""S18: no name breaks out of its place in a generated rule, dashboard or target."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import flext_observability as fo
from tests.faults.figures import figure
from tests.fixtures import operators
from tests.fixtures.programs import clean_environment

HOSTILE = [
    'shop"} or vector(1) #',
    "shop', severity: critical",
    "{{ $labels.job }}{{ printf `x` }}",
    "$job ${datasource} [[job]] $__rate_interval",
    "a: b # c",
    "- &a [*a, *a]",
    "!!python/object/apply:os.system ['true']",
    "\\",
    "ünï — ✓",
    "<script>alert(1)</script>",
]


def command(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flext_observability", *args],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def written(kind: str, folder: Path, *args: str) -> dict[str, Any]:
    """The files of one kind, parsed."""
    done = command(kind, "--output", str(folder), *args)
    assert done.returncode == 0, done.stderr
    return {
        path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in folder.iterdir()
    }


def leaves(value: Any) -> list[Any]:
    """Every scalar, in order."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *leaves(value[key]))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a harmless name gives."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        kind: written(kind, folder / kind, "--service", "shop")
        for kind in ("rules", "dashboards")
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_rules(name: str, plain: dict[str, Any], tmp_path: Path) -> None:
    """Parsed back, only the value of `job` differs; promtool accepts the rest."""
    hostile = written("rules", tmp_path / "hostile", f"--service={name}")
    quoted = json.dumps(name, ensure_ascii=False)
    expected = [
        str(leaf).replace('job="shop"', f"job={quoted}")
        for leaf in leaves(plain["rules"])
    ]
    assert [str(leaf) for leaf in leaves(hostile)] == expected
    operators.run("promtool", "check", "rules", *(tmp_path / "hostile").iterdir())
    figure("S18", kind="rules", leaves=len(expected))


@pytest.mark.parametrize("name", HOSTILE)
def test_dashboards(name: str, plain: dict[str, Any], tmp_path: Path) -> None:
    """Parsed back, the name stands in titles and as value of `job`, nowhere else."""
    hostile = written("dashboards", tmp_path / "hostile", f"--service={name}")
    quoted = json.dumps(name, ensure_ascii=False)
    expected = [
        str(leaf).replace('job="shop"', f"job={quoted}").replace("· shop", f"· {name}")
        for leaf in leaves(plain["dashboards"])
    ]
    assert [str(leaf) for leaf in leaves(hostile)] == expected
    for path in (tmp_path / "hostile").iterdir():
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[31m", "x" * 256, "\u2028"])
def test_refused(name: str, tmp_path: Path) -> None:
    """Control characters, nothing, and novels are no name of a service."""
    for kind in ("rules", "dashboards"):
        done = command(kind, "--output", str(tmp_path), f"--service={name}")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "printable characters" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*HOSTILE, "../../etc/passwd", "a/b"])
def test_targets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of a process stays in its folder, and its label is the name."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    folder = tmp_path / "targets"
    fo.setup(
        name, exporters=["prometheus"], service_discovery_dir=folder, redaction=False
    ).unwrap()
    (path,) = folder.iterdir()
    (entry,) = json.loads(path.read_text(encoding="utf-8"))
    assert entry["labels"]["job"] == name
    assert sorted(entry) == ["labels", "targets"]
    fo.shutdown(20.0).unwrap()
    assert list(tmp_path.rglob("*.json")) == []
