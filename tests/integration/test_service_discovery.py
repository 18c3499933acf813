"""The files in which Prometheus finds running processes."""

import json
import os
import stat
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.programs import clean_environment, run_program

SERVING = """
    import sys
    import flext_observability as fo

    fo.setup("shop", exporters=["prometheus"])
    print("up", flush=True)
    sys.stdin.read()
    """


@pytest.fixture(autouse=True)
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def start(folder: Path, name: str = "shop", **more: Any) -> None:
    fo.setup(
        name, exporters=["prometheus"], service_discovery_dir=folder, **more
    ).unwrap()


def test_there_while_it_serves(tmp_path: Path) -> None:
    """The entry names an address that answers, and goes when the page does."""
    folder = tmp_path / "made" / "here"
    start(folder, environment="test")
    (path,) = entries(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    (entry,) = json.loads(path.read_text())
    assert entry["labels"] == {"job": "shop", "environment": "test"}
    (target,) = entry["targets"]
    fo.flext_counter("orders").add(1)
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
        assert b"target_info" in answer.read()
    fo.shutdown(20.0).unwrap()
    assert list(folder.iterdir()) == []


def test_only_who_serves_is_entered(tmp_path: Path) -> None:
    """A process without a page has no entry."""
    fo.setup("shop", exporters=["none"], service_discovery_dir=tmp_path).unwrap()
    assert entries(tmp_path) == []


def test_other_settings_have_another_entry(tmp_path: Path) -> None:
    """A second setup() leaves one entry: its own."""
    start(tmp_path)
    start(tmp_path, environment="other")
    (path,) = entries(tmp_path)
    assert json.loads(path.read_text())[0]["labels"]["environment"] == "other"


def test_the_dead_are_cleaned_the_living_stay(tmp_path: Path) -> None:
    """A killed process's entry goes with the next start, that of a living one stays."""
    env = clean_environment(
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
        FLEXT_OBSERVABILITY_SERVICE_DISCOVERY_DIR=str(tmp_path),
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVING)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
        assert len(entries(tmp_path)) == 2
        children[0].kill()
        children[0].wait(10)
        assert len(entries(tmp_path)) == 2, "Prometheus sees that it is down"
        foreign = tmp_path / "mine.json"
        foreign.write_text("[]")
        start(tmp_path)
        owners = {path.name.rpartition("-")[0] for path in entries(tmp_path)}
        assert any(name.endswith(f"-{children[1].pid}") for name in owners)
        assert not any(name.endswith(f"-{children[0].pid}") for name in owners)
        assert foreign.exists(), "files of others are not ours to remove"
    finally:
        for child in children:
            child.communicate(timeout=10)
    fo.shutdown(20.0).unwrap()
    assert entries(tmp_path) == [foreign]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_no_entry(tmp_path: Path) -> None:
    """The page is the parent's, and so is the entry, also after the child's end."""
    program = """
        import os, sys
        from pathlib import Path
        import flext_observability as fo

        fo.setup("shop", exporters=["prometheus"])
        folder = Path(os.environ["FLEXT_OBSERVABILITY_SERVICE_DISCOVERY_DIR"])
        if os.fork() == 0:
            fo.flext_counter("orders").add(1)
            sys.exit(0)
        os.wait()
        print(len(list(folder.glob("*.json"))))
        """
    env = {
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        "FLEXT_OBSERVABILITY_SERVICE_DISCOVERY_DIR": str(tmp_path),
    }
    assert run_program(program, env=env).ok().lines == ["1"]
    assert entries(tmp_path) == []


def test_what_a_dead_process_left_half_written(tmp_path: Path) -> None:
    """Hidden files of the killed go with the next start; links are not followed."""
    (tmp_path / ".flext-x-1-9464.json").write_text("[")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "flext-link-1-1.json").symlink_to(victim)
    start(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert ".flext-x-1-9464.json" not in names
    assert victim.read_text() == "mine"
    assert len(entries(tmp_path)) == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Something in the way of the entry: one line, and the page is served anyway."""
    start(tmp_path)
    (path,) = entries(tmp_path)
    fo.shutdown(20.0).unwrap()
    port = path.stem.rpartition("-")[2]
    path.mkdir()
    (path / "in the way").write_text("")
    os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] = port
    start(tmp_path)
    assert "service_discovery_dir" in str(fo.status().last_error)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The program runs on; one line says that Prometheus will not find it."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    start(blocked / "below")
    assert "service_discovery_dir" in str(fo.status().last_error)
