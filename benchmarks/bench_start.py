"""What import and set-up cost, in fresh interpreters that time themselves.

The statements take turns, so that the drift of the machine hits all alike. Compiled
bytecode is there for all: a first, uncounted turn makes it.

    python -m benchmarks.bench_start [--quick]
"""

import json
import subprocess
import sys
import tempfile

from benchmarks.figures import Figure, compared, loss
from benchmarks.harness import ROOT, Answer, Turn, cores, environment, run
from benchmarks.server import Server

API = "import opentelemetry.trace"
OURS = "import flext_observability"
OTHERS = (
    "from flext_observability import flext_monitor_function",
    "from flext_observability import setup",
    "import opentelemetry.sdk.trace",
)
HEAVY = ("google.protobuf", "grpc", "opentelemetry.sdk", "pydantic")
AT_MOST_IMPORT = 1.2
AT_MOST_SETUP = 1.0
TIMED = """
import os, sys, time
if {core} >= 0: os.sched_setaffinity(0, {{ {core} }})
started = time.perf_counter()
{statement}
first = time.perf_counter() - started
{then}
second = time.perf_counter() - started
import json
print(json.dumps([first, second, sorted(sys.modules)]), flush=True)
os._exit(0)  # what nobody collects need not be waited for
"""


def once(statement: str, then: str = "") -> Answer:
    """Give seconds of a statement, of both, and the modules then loaded."""
    known = cores()
    core = known[0] if known else -1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                TIMED.format(core=core, statement=statement, then=then),
            ],
            cwd=ROOT,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(
    programs: dict[str, tuple[str, str]], repeats: int
) -> dict[str, list[Answer]]:
    """Run each program in turn; give the answers by program."""
    for statement, then in programs.values():
        once(statement, then)
    answers: dict[str, list[Answer]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (statement, then) in programs.items():
            answers[name].append(once(statement, then))
    return answers


def column(answers: list[Answer], at: int) -> list[float]:
    """Give one of the two times of every answer."""
    return [float(each[at]) for each in answers]


def imports(repeats: int) -> list[Figure]:
    """Measure imports."""
    answers = take_turns({name: (name, "") for name in (API, OURS, *OTHERS)}, repeats)
    loaded = [name for name in HEAVY if name in answers[OURS][0][2]]
    first = compared(
        f"`{OURS}`, to `{API}`",
        column(answers[OURS], 0),
        column(answers[API], 0),
        at_most=AT_MOST_IMPORT,
    )
    check = Figure(
        f"`{OURS}` loads " + ", ".join(HEAVY),
        "-",
        ", ".join(loaded) or "none of them",
        None,
        "none of them",
        not loaded,
    )
    rest = [
        compared(f"`{name}`", column(answers[name], 0), column(answers[API], 0))
        for name in OTHERS
    ]
    return [first, check, *rest]


def setups(repeats: int) -> list[Figure]:
    """Measure the set-up of all three signals, imports included."""
    with Server() as server:
        programs = {
            name: (
                f"from benchmarks.{name} import start, deliver; start('{server.url}')",
                "deliver()",
            )
            for name in ("start_plain", "start_ours")
        }
        answers = take_turns(programs, repeats)
        arrived = server.counts()
    plain, ours = answers["start_plain"], answers["start_ours"]
    wanted = 2 * (repeats + 1)
    counted = arrived["spans"] + arrived["log_records"]
    lost = loss(counted, 2 * wanted, "spans and lines")
    return [
        compared(
            "`setup()` with HTTP exporter, imports included",
            column(ours, 0),
            column(plain, 0),
            at_most=AT_MOST_SETUP,
        ),
        compared(
            "the same, until a span, a metric and a log line have arrived",
            column(ours, 1),
            column(plain, 1),
            note=lost,
        ),
    ]


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Measure imports, then set-ups."""
    repeats = 1 if quick else 25
    return imports(repeats) + setups(repeats)


def start(_: list[str]) -> Turn:
    """Have no child: the programs above are the children."""
    raise SystemExit("bench_start has no child")


if __name__ == "__main__":
    run(__doc__, figures, start)
