"""Fixtures of the fault tests, and the figures that they measure."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Run
from tests.faults.server import FaultServer
from tests.fixtures.collector import Collector, Protocol

_FIGURES: list[str] = []


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
def both_protocols(protocol: Protocol) -> Iterator[FaultServer | Collector]:
    """A well-behaved server of each protocol in turn."""
    if protocol == "grpc":
        with Collector("grpc") as collector:
            yield collector
    else:
        with FaultServer() as server:
            yield server


@pytest.fixture
def seeded() -> random.Random:
    """Random numbers; a failed test shows how to get the same ones again."""
    fresh = str(random.SystemRandom().getrandbits(32))
    seed = os.environ.get("FLEXT_FAULT_SEED") or fresh
    sys.stdout.write(f"FLEXT_FAULT_SEED={seed}\n")
    return random.Random(seed)  # noqa: S311 - must repeat, is no secret


@pytest.fixture
def figure() -> Callable[..., None]:
    """Tell what was measured: ``figure("R1", lost=0)``."""

    def tell(promise: str, **values: Any) -> None:
        shown = " ".join(f"{name}={value}" for name, value in values.items())
        sys.stdout.write(f"\nFIGURE {promise} {shown}\n")

    return tell


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the lines of figures of every test."""
    if report.when == "call":
        name = report.nodeid.rpartition("/")[2]
        _FIGURES.extend(
            f"{line}  # {report.outcome}: {name}"
            for line in report.capstdout.splitlines()
            if line.startswith("FIGURE ")
        )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the figures, and write them to the file that FLEXT_FIGURES names."""
    if not _FIGURES:
        return
    terminalreporter.section("figures of the fault tests")
    for line in sorted(_FIGURES):
        terminalreporter.write_line(line)
    if path := os.environ.get("FLEXT_FIGURES"):
        Path(path).write_text("\n".join([*sorted(_FIGURES), ""]), "utf-8")
