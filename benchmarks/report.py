"""Run every benchmark, print the tables, and write them down.

    python -m benchmarks.report [--quick] [--only NAME ...] [--output FILE]

What is written says when, on what and with what it was measured. A quick run only shows
that the benchmarks work: it is written nowhere unless a file is named.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.figures import Figure, markdown_tables, missing, print_tables
from benchmarks.harness import ROOT, cores

RESULTS = ROOT / "benchmarks" / "results.md"
BENCHMARKS = (
    "bench_call",
    "bench_instruments",
    "bench_log",
    "bench_encoding",
    "bench_durability",
    "bench_overload",
    "bench_memory",
    "bench_start",
    "instructions",
    "bench_peers",
)
SLOW_EVEN_IF_QUICK = ("instructions", "bench_peers")
"""A simulated processor, and what is not installed with the rest."""
PACKAGES = (
    "flext-observability",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "protobuf",
    "grpcio",
    "requests",
    "pydantic",
)


def encoding_figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure the encoder, once its benchmark gives `figures` like the others."""
    measure = None
    if find_spec("benchmarks.bench_encoding"):
        module = import_module("benchmarks.bench_encoding")
        measure = getattr(module, "figures", None)
    if measure is not None:
        measured: list[Figure] = measure(quick)
        return measured
    note = "benchmarks/bench_encoding.py gives no figures yet"
    return [
        missing("encoder, 5 attributes, own spans", "≤ 0.15", note),
        missing("encoder, 5 attributes, SDK spans", "≤ 0.35", note),
    ]


def figures_of(name: str, quick: bool) -> list[Figure]:  # noqa: FBT001 - same
    """Run one benchmark."""
    if name == "bench_encoding":
        return encoding_figures(quick)
    measured: list[Figure] = import_module(f"benchmarks.{name}").figures(quick)
    return measured


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2] for line in lines if "model name" in line)
    return next(models, platform.machine()).strip()


def interpreter() -> str:
    """Say which Python this is, and how it was built."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    traits = [
        f"{'with' if flag in options else 'without'} {name}"
        for flag, name in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO"))
    ]
    if sysconfig.get_config_var("Py_DEBUG"):
        traits.append("debug build")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        traits.append("free-threaded")
    name = platform.python_implementation()
    return f"{name} {platform.python_version()}, " + ", ".join(traits)


def commit() -> str:
    """Name the commit that was measured, where git can say."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def circumstances() -> Iterator[tuple[str, str]]:
    """Say when, on what and with what this is measured."""
    yield "date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield "command", " ".join(["python -m benchmarks.report", *sys.argv[1:]])
    yield "commit", commit()
    yield "interpreter", interpreter()
    yield "processor", f"{processor()}, {os.cpu_count()} cores"
    yield "system", f"{platform.system()} {platform.release()}"
    known = cores()
    yield (
        "cores",
        "what is measured has one, its servers the others" if known else "not pinned",
    )
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        yield "load before the start", f"{load:.1f}"
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def write(path: Path, facts: list[tuple[str, str]], figures: list[Figure]) -> None:
    """Write a report in Markdown."""
    lines = [
        "# What it costs",
        "",
        "Written by `make bench`. Rows that are compared took turns in one run; a",
        "ratio is the median of the ratios within each turn, times are medians: CPU",
        "time of the process for calls, elapsed time for import and set-up.",
        "`plain` is plain OpenTelemetry: a bare span with the stock batch processor,",
        "unless the row or its note says what it is compared to.",
        "",
        *(f"- {name}: {value}" for name, value in facts),
        "",
        markdown_tables(figures),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few calls: does it run")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="just these")
    parser.add_argument("--output", type=Path, help=f"instead of {RESULTS.name}")
    options = parser.parse_args()
    facts = list(circumstances())
    for name, value in facts:
        print(f"{name}: {value}")
    names = [
        name
        for name in options.only or BENCHMARKS
        if options.only or not (options.quick and name in SLOW_EVEN_IF_QUICK)
    ]
    figures: list[Figure] = []
    for name in names:
        print(f"\n{name}", flush=True)
        measured = figures_of(name, options.quick)
        print_tables(measured)
        figures += measured
    output = options.output
    if output is None and not options.quick and not options.only:
        output = RESULTS
    if output is not None:
        write(output, facts, figures)


if __name__ == "__main__":
    main()
