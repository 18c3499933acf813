"""The benchmarks still run: their figures are nobody's assertion, their rows are."""

import re
from pathlib import Path

import pytest

from tests.fixtures.programs import run_program

ROOT = Path(__file__).resolve().parents[2]

# One row per line of the table that the benchmarks are for.
ROWS = (
    "monitored call",
    "monitored call, child of a span of the SDK",
    "monitored call, child of a span of ours",
    "monitored coroutine",
    "monitored call that raises",
    "monitored call, not set up",
    "monitored call, sampled out by ratio",
    "flext_span context manager",
    "bound counter, 2 attributes",
    "bound histogram, 2 attributes",
    "one stdlib log line through the bridge, to a NullHandler's",
    "encoder, 5 attributes, own spans",
    "encoder, 5 attributes, SDK spans",
    "total CPU per delivered span, OTLP/HTTP, durability memory",
    "total CPU per delivered span, OTLP/HTTP, durability batch",
    "tight loop, as fast as it goes, lost, durability memory",
    "tight loop, 150,000 spans/s, lost, durability memory",
    "memory per queued span, just made",
    "memory per queued span, encoded",
    "`import flext_observability`, to `import opentelemetry.trace`",
    "`setup()` with HTTP exporter, imports included",
)
HEADS = ("what", "target", "plain", "ours", "ratio", "verdict", "note")
# A few calls each, but some thirty processes that start.
LIMIT_S = 150
REPORT = """
import runpy, sys
sys.path.insert(0, {root!r})
sys.argv = ["report", "--quick", "--output", {output!r}]
runpy.run_module("benchmarks.report", run_name="__main__")
"""


def rows_with_a_target(report: str) -> dict[str, dict[str, str]]:
    """The rows of the first kind of table, by what they measure."""
    rows: dict[str, dict[str, str]] = {}
    for line in report.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(HEADS) and cells != list(HEADS) and cells[0] != "---":
            rows[cells[0]] = dict(zip(HEADS, cells, strict=True))
    return rows


@pytest.mark.timeout(LIMIT_S + 10)
def test_a_quick_run_measures_every_row(tmp_path: Path) -> None:
    """Every row is measured, says where it stands, and lost nothing on the way."""
    output = tmp_path / "results.md"
    program = REPORT.format(root=str(ROOT), output=str(output))
    run_program(program, timeout_s=LIMIT_S).ok()
    report = output.read_text(encoding="utf-8")
    assert "\n- interpreter: " in report
    rows = rows_with_a_target(report)
    assert set(ROWS) <= set(rows)
    measured = {n: r for n, r in rows.items() if not n.startswith("encoder")}
    assert {row["verdict"] for row in measured.values()} <= {"pass", "OVER"}
    assert "LOSS" not in report
    sampled_out = rows["monitored call, sampled out by ratio"]["note"]
    assert re.fullmatch(r"(\d+) of \1 calls are in the metrics", sampled_out)
    assert str(ROOT) not in report
