"""The example programs run as they are, alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.programs import clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
ALONE = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.name)
def test_runs_alone(path: Path, tmp_path: Path) -> None:
    """Exit code 0, no traceback, from any directory, without a collector."""
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=clean_environment(PYTHONIOENCODING="utf-8", PYTHONWARNINGS="error"),
        capture_output=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # leaves nothing behind


def test_uses_the_front_door_only() -> None:
    """Examples show what users write: one import, no OpenTelemetry, no sub-module."""
    programs = list(EXAMPLES.rglob("*.py"))
    assert len(programs) >= 3
    for path in programs:
        source = path.read_text(encoding="utf-8")
        assert "import flext_observability as fo" in source
        assert "opentelemetry" not in source
        assert "flext_observability." not in source
