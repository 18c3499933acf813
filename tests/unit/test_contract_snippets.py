"""The snippets of the contract, verbatim, each alone in a fresh process."""

import re
from pathlib import Path

import pytest
from tests.fixtures.programs import run_program

SNIPPETS = Path(__file__).parents[1] / "fixtures" / "contract_snippets.md"
BLOCK = re.compile(
    r"^```python\n(?P<code># (?P<title>[^\n]+)\n.*?)^```$", re.DOTALL | re.MULTILINE
)
CODE = {
    found["title"]: found["code"]
    for found in BLOCK.finditer(SNIPPETS.read_text(encoding="utf-8"))
}


def test_all_are_here() -> None:
    """There are twelve."""
    assert len(CODE) == 12


@pytest.mark.parametrize("title", CODE, ids=lambda title: title.partition(" ")[0])
def test_snippet(title: str, tmp_path: Path) -> None:
    """It runs, ends by itself without a collector, and says nothing on stdout."""
    program = tmp_path / "snippet.py"
    program.write_text(CODE[title], encoding="utf-8")
    done = run_program(program).ok()
    assert "Traceback" not in done.stderr
    assert not done.stdout
