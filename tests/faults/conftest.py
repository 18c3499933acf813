"""Fixtures of the fault tests, and the figures that they measure."""

import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.faults import figures
from tests.faults.rig import Run
from tests.faults.server import FaultServer

_ROW = re.compile(r"/test_([rs])(\d\d)_\w+\.py::")
# Read here: during a test the variables of the library's prefix are away.
_FIGURES = os.environ.get("FLEXT_FIGURES")
_SEED = os.environ.get("FLEXT_FAULT_SEED")
_passed: Counter[str] = Counter()
_other: Counter[str] = Counter()


@pytest.fixture
def faults() -> Iterator[FaultServer]:
    """A server that misbehaves on demand."""
    with FaultServer() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, faults: FaultServer) -> Iterator[Run]:
    """Children against `faults`; none outlives the test."""
    made = Run(tmp_path, faults)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def seeded() -> random.Random:
    """Random numbers; a failed test shows how to get the same ones again."""
    fresh = str(random.SystemRandom().getrandbits(32))
    seed = _SEED or fresh
    sys.stdout.write(f"FLEXT_FAULT_SEED={seed}\n")
    return random.Random(seed)  # noqa: S311 - must repeat, is no secret


@pytest.fixture
def figure() -> Callable[..., None]:
    """Tell what was measured: ``figure("R1", lost=0)``."""
    return figures.figure


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the FIGURE lines of a test that passed; count it for its row."""
    found = _ROW.search(f"/{report.nodeid}")
    if found is None:
        return
    row = f"{found[1].upper()}{int(found[2])}"
    if report.passed and report.when == "call":
        _passed[row] += 1
        _append(
            line for line in report.capstdout.splitlines() if line.startswith("FIGURE ")
        )
    elif not report.passed:
        _other[row] += 1


def pytest_sessionfinish() -> None:
    """Say of every row how many of its tests passed, whatever they measured."""
    _append(
        f"FIGURE {row} passed={_passed[row]}/{_passed[row] + _other[row]}"
        for row in sorted(_passed | _other, key=lambda row: (row[0], int(row[1:])))
    )


def _append(lines: Iterable[str]) -> None:
    """Write to the file that FLEXT_FIGURES names."""
    if not _FIGURES:
        return
    path = Path(_FIGURES)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
