"""The table of promises names the tests there are, and takes their figures."""

import re
import shutil
from pathlib import Path

from tests.fixtures.programs import Ended, run_program

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "reliability.md"
SCRIPT = ROOT / "scripts" / "reliability_table.py"
ROW = re.compile(r"^\| ([RS]\d+) \| .* \|$", re.MULTILINE)
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./([^)]+)\)")


def rows(path: Path = TABLE) -> dict[str, str]:
    """The rows of the table by id."""
    return {row[1]: row[0] for row in ROW.finditer(path.read_text("utf-8"))}


def bring(tmp_path: Path, *lines: str) -> tuple[Ended, dict[str, str]]:
    """Bring figures into a copy of the document; its rows then."""
    copy, figures = tmp_path / "reliability.md", tmp_path / "figures.txt"
    if not copy.exists():
        shutil.copy(TABLE, copy)
    figures.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    words = (str(figures), "--date", "2026-02-03", "--table", str(copy))
    return run_program(SCRIPT, *words), rows(copy)


def test_every_row_names_an_existing_test() -> None:
    """A promise without its test says so instead of naming a file."""
    missing = {
        row: path
        for row, text in rows().items()
        for _, path in LINK.findall(text)
        if not (ROOT / path).is_file()
    }
    assert not missing


def test_every_fault_test_has_its_row() -> None:
    """The file is called after the row that links it."""
    named = {
        path: row for row, text in rows().items() for _, path in LINK.findall(text)
    }
    for file in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        letter, number = file.name[5], int(file.name[6:8])
        row = named.get(f"tests/faults/{file.name}")
        assert row == f"{letter.upper()}{number}", file.name


def test_many_figures_of_a_row_become_ranges(tmp_path: Path) -> None:
    """A cell stays readable: the extremes of each mode, which nobody mixes up."""
    told, after = bring(
        tmp_path,
        *(f"FIGURE R2-batch_{n} lost=0 left={n} took_s={n / 8}" for n in range(1, 10)),
        *(f"FIGURE R2 mode=memory lost={n}" for n in range(4)),
    )
    assert told.ok()
    assert (
        "| batch, 9 figures: left=1…9 lost=0 took_s=0.125…1.125; "
        "memory, 4 figures: lost=0…3 (2026-02-03) |" in after["R2"]
    )


def test_figures_replace_the_last_column(tmp_path: Path) -> None:
    """Figures of one row are joined, other rows stay; a second time replaces them."""
    before = rows()
    told, _ = bring(tmp_path, "FIGURE R1 lost=99")
    assert told.ok()
    told, after = bring(
        tmp_path,
        "noise",
        "FIGURE R1-batch kills=25 lost=511",
        "FIGURE R1-batch kills=25 lost=511",
        "FIGURE R1 a|b=1",
        "FIGURE R1 passed=1/2",
        "FIGURE R1 passed=6/6",
    )
    assert told.ok()
    changed = {row for row in before if before[row] != after[row]}
    assert changed == {"R1"}
    promise = before["R1"].split(" | ")[:3]
    assert after["R1"].split(" | ")[:3] == promise
    assert after["R1"].endswith(
        r"| 6 of 6 tests passed; a\|b=1; batch: kills=25 lost=511 (2026-02-03) |"
    )


def test_figures_without_a_row_are_told(tmp_path: Path) -> None:
    """Nothing measured is left out of the table unnoticed."""
    told, after = bring(tmp_path, "FIGURE R99 lost=0")
    assert told.code == 1
    assert "R99" in told.stderr
    assert after == rows()
