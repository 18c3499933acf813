"""The documents keep their word: every block runs, every command in them exists."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fixtures.programs import run_program

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))
# ```python blocks, each with the `<!-- requires: package -->` line right above, if any.
BLOCK = re.compile(
    r"(?:<!-- requires: (?P<requires>[\w, .]+) -->\n)?"
    r"^```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
CONSOLE = re.compile(
    r"^```(?:console|sh|shell|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
TARGET = re.compile(r"^([a-z][a-z0-9-]*):(?!=)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One Python block of a document."""

    document: str
    line: int
    code: str
    requires: tuple[str, ...]


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            document=document.stem,
            line=text.count("\n", 0, match.start("code")),
            code=match["code"],
            requires=tuple(re.findall(r"[\w.]+", match["requires"] or "")),
        )
        for match in BLOCK.finditer(text)
    ]


def commands(program: str) -> set[str]:
    """Return the words that follow a program's name, in blocks and inline."""
    text = "\n".join(each.read_text(encoding="utf-8") for each in DOCUMENTS)
    places = [*CONSOLE.findall(text), *re.findall(r"`([^`\n]+)`", text)]
    word = re.compile(rf"(?:^|[\s/]){program} +([a-z][a-z0-9-]*)", re.MULTILINE)
    return {found for place in places for found in word.findall(place)}


@pytest.mark.parametrize(
    "block",
    [block for document in DOCUMENTS for block in blocks(document)],
    ids=lambda block: f"{block.document}-line-{block.line}",
)
def test_python_block_runs(block: Block, tmp_path: Path) -> None:
    """Each block runs alone in a fresh process, without a collector, quickly."""
    for package in block.requires:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    script = tmp_path / "block.py"
    script.write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_no_block_is_overlooked(document: Path) -> None:
    """The pattern finds all code: nothing passes by being overlooked."""
    text = document.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```python", text, re.MULTILINE)
    assert len(blocks(document)) == len(fences)
    assert fences or document != README


def test_make_verbs_exist() -> None:
    """Every `make X` the README names is a target."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    named = commands("make")
    assert {"demo", "test"} <= named
    assert named <= targets


def test_commands_exist() -> None:
    """Every `flext-observability X` the README names is a command."""
    for command in commands("flext-observability"):
        done = subprocess.run(
            [sys.executable, "-m", "flext_observability", command, "--help"],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_figures_are_those_of_the_results() -> None:
    """What README and docs quote of the costs stands in `benchmarks/results.md`."""
    run_program(ROOT / "scripts" / "cost_figures.py", "--check").ok()
