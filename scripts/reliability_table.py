"""Bring the figures of the fault tests into the table of docs/reliability.md.

Usage: reliability_table.py FILE [--date YYYY-MM-DD]

FILE is what the tests wrote where FLEXT_FIGURES told them, lines such as
``FIGURE R11 finished=20000 lost=0``. A suffix of the row, ``R11-batch``, names a case.
Rows without a figure in FILE stay as they are.
"""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Iterable
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"

_FIGURE = re.compile(r"FIGURE (?P<row>[RS]\d+)(?:-(?P<case>\S+))? (?P<values>.+)")
_PASSED = re.compile(r"passed=(\d+)/(\d+)")
_NUMBER = re.compile(r"(?P<name>\w+)=(?P<value>[+-]?\d+(?:\.\d+)?)(?!\S)")
# More figures than that are shown as ranges, by mode.
_MANY = 12
_MODE = re.compile(r"(?<![a-z])(memory|batch|record)(?![a-z])")
# The id and everything up to the last column, then that column.
_ROW = re.compile(r"(\| (?P<id>[RS]\d+) \|.*\| ).*( \|)")


def read_figures(lines: Iterable[str]) -> dict[str, list[str]]:
    """Give what each row measured, sorted, since tests run in any order.

    How many tests passed comes first; of several counts the last one is true.
    """
    passed: dict[str, str] = {}
    told: dict[str, list[str]] = {}
    for line in lines:
        found = _FIGURE.fullmatch(line.strip())
        if found is None:
            continue
        row, case, values = found["row"], found["case"], found["values"].strip()
        figures = told.setdefault(row, [])
        if count := _PASSED.fullmatch(values):
            passed[row] = f"{count[1]} of {count[2]} tests passed"
            continue
        figure = f"{case}: {values}" if case else values
        if figure not in figures:
            figures.append(figure)
    shown = {row: condensed(sorted(figures)) for row, figures in told.items()}
    return {
        row: [passed[row], *figures] if row in passed else figures
        for row, figures in shown.items()
    }


def condensed(figures: list[str]) -> list[str]:
    """Give many figures as the least and the greatest of each number, by mode."""
    if len(figures) <= _MANY:
        return figures
    modes: dict[str, list[str]] = {}
    for figure in figures:
        found = _MODE.search(figure)
        modes.setdefault(found[1] if found else "", []).append(figure)
    return [
        (f"{mode}, " if mode else "") + f"{len(group)} figures: {ranges(group)}"
        for mode, group in sorted(modes.items())
    ]


def ranges(figures: list[str]) -> str:
    """Give the least and the greatest of each number in these figures."""
    values: dict[str, list[str]] = {}
    for name, value in _NUMBER.findall(" ".join(figures)):
        values.setdefault(name, []).append(value)
    return " ".join(
        f"{name}={least}"
        if float(least) == float(greatest)
        else f"{name}={least}…{greatest}"
        for name, found in sorted(values.items())
        for least, greatest in [(min(found, key=float), max(found, key=float))]
    )


def with_figures(table: str, figures: dict[str, list[str]], date: str) -> str:
    """Give the text with the last column of these rows replaced."""

    def replaced(row: re.Match[str]) -> str:
        told = figures.get(row["id"])
        if not told:
            return row[0]
        cell = "; ".join(told).replace("|", r"\|")
        return f"{row[1]}{cell} ({date}){row[3]}"

    return "".join(_ROW.sub(replaced, line) for line in table.splitlines(keepends=True))


def main() -> int:
    """Return 0 when every figure found its row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="what FLEXT_FIGURES named")
    parser.add_argument(
        "--date",
        default=dt.datetime.now(dt.UTC).date(),
        type=dt.date.fromisoformat,
        help="of the run, YYYY-MM-DD (today)",
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="another document")
    words = parser.parse_args()
    figures = read_figures(words.file.read_text("utf-8").splitlines())
    table = words.table.read_text("utf-8")
    words.table.write_text(with_figures(table, figures, str(words.date)), "utf-8")
    rows = {row["id"] for row in map(_ROW.match, table.splitlines()) if row}
    if homeless := sorted(figures.keys() - rows):
        print(f"no such row in {words.table}: {', '.join(homeless)}", file=sys.stderr)
        return 1
    print(f"{len(figures)} rows have new figures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
