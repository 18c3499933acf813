"""Run the files of tests/faults side by side, each in a pytest of its own.

These tests mostly wait: for processes to end, for delays to pass. One after the other
they take a quarter of an hour, three at a time a few minutes.

    python scripts/test_faults.py [--cov] [--jobs N] [PYTEST ARGUMENTS]
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# They need web servers of their own: `make test-servers`.
APART = {"test_r18_metrics.py", "test_r18_servers.py"}
NOTHING_COLLECTED = 5


def run(file: Path, arguments: list[str], *, covered: bool) -> bool:
    """Run one file; print its last line, and everything when it failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = dict(os.environ)
    if covered:
        command += ["--cov", "--cov-report=", "--cov-fail-under=0"]
        environment["COVERAGE_FILE"] = str(ROOT / f".coverage.faults-{file.stem}")
    started_s = time.monotonic()
    done = subprocess.run(
        [*command, str(file), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    succeeded = done.returncode in {0, NOTHING_COLLECTED}
    lines = done.stdout.splitlines() or [done.stderr]
    mark = "ok    " if succeeded else "FAILED"
    spent_s = time.monotonic() - started_s
    print(f"{mark} {spent_s:5.0f} s  {file.name}: {lines[-1]}", flush=True)
    if not succeeded:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return succeeded


def main() -> int:
    """Run all files; give 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cov", action="store_true", help="measure coverage")
    parser.add_argument("--jobs", type=int, default=3, help="files at a time (3)")
    options, arguments = parser.parse_known_args()
    files = [
        file
        for file in sorted((ROOT / "tests" / "faults").glob("test_*.py"))
        if file.name not in APART
    ]
    # The longest first, so that none is left alone at the end.
    files.sort(key=lambda file: file.stat().st_size, reverse=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(
            pool.map(lambda file: run(file, arguments, covered=options.cov), files)
        )
    print(f"{sum(results)} of {len(results)} files of tests/faults passed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
