"""Run the unit tests on every supported Python found besides the running one.

Each interpreter gets a virtual environment of its own under .venvs/, kept between runs
until pyproject.toml changes. An interpreter that is not there is skipped and named.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
ROOT = Path(__file__).resolve().parent.parent
PROBE = (
    "import ensurepip, sys, venv; "
    "print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
)


def candidates(version: str) -> Iterator[Path]:
    """Yield the places where this version may be: PATH, then pyenv's folder."""
    name = f"python{version}"
    for folder in os.get_exec_path():
        if found := shutil.which(name, path=folder):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"))


def find(version: str) -> Path | None:
    """Return the first candidate that really runs: a name on PATH may be a shim."""
    for candidate in candidates(version):
        try:
            answer = subprocess.run(
                [candidate, "-c", PROBE],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.stdout.split() == [version, "cpython"]:
            return candidate
    return None


def prepare(version: str, interpreter: Path) -> Path:
    """Return the Python of this version's environment, made or renewed if needed."""
    folder = ROOT / ".venvs" / version
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == state:
        return python
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run([*pip, "--editable", ".", "--group", "test"], check=True, cwd=ROOT)
    stamp.write_text(state)
    return python


def main() -> int:
    """Return 0 when the unit tests pass on every other interpreter there is."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    failed: list[str] = []
    for version in SUPPORTED:
        if version == running:
            continue
        interpreter = find(version)
        if interpreter is None:
            print(f"Python {version}: skipped, no working python{version} found")
            continue
        print(f"Python {version}: unit tests", flush=True)
        try:
            python = prepare(version, interpreter)
            subprocess.run(
                [python, "-m", "pytest", "tests/unit", "-p", "no:cacheprovider"],
                check=True,
                cwd=ROOT,
            )
        except subprocess.CalledProcessError as error:
            step = "pytest" if "pytest" in error.cmd else "pip or venv"
            print(f"Python {version}: {step} failed", file=sys.stderr)
            failed.append(version)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
