"""What `import flext_observability` costs, against `import opentelemetry.trace`.

Every import happens in a fresh process, which times itself; the statements take turns,
so that the drift of the machine hits all alike. The ratio is taken per repeat, then the
median. Compiled bytecode is there for all (a first, uncounted turn makes it).

    python benchmarks/bench_import.py [--repeats N]
"""

import argparse
import statistics
import subprocess
import sys

STATEMENTS = (
    "import opentelemetry.trace",
    "import flext_observability",
    "from flext_observability import flext_monitor_function",
    "from flext_observability import setup",
    "import opentelemetry.sdk.trace",
)
PROGRAM = """
import sys, time
before = len(sys.modules)
started = time.perf_counter()
{statement}
print(time.perf_counter() - started, len(sys.modules) - before)
"""


def once(statement: str) -> tuple[float, int]:
    """Return seconds and newly loaded modules of one import in a fresh process."""
    program = PROGRAM.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def main() -> None:
    """Print one line per statement; the first is the base."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="processes each")
    repeats = parser.parse_args().repeats
    modules = {statement: once(statement)[1] for statement in STATEMENTS}
    seconds: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(repeats):
        for statement in STATEMENTS:
            seconds[statement].append(once(statement)[0])
    base = seconds[STATEMENTS[0]]
    print(f"{'statement':<56} {'median ms':>10} {'x base':>8} {'modules':>8}")
    for statement, kept in seconds.items():
        ratios = [mine / other for mine, other in zip(kept, base, strict=True)]
        print(
            f"{statement:<56} {statistics.median(kept) * 1000:>10.1f}"
            f" {statistics.median(ratios):>8.2f} {modules[statement]:>8}"
        )


if __name__ == "__main__":
    main()
