"""How many machine instructions a call takes, counted by callgrind.

Unlike times, counts do not depend on what else the machine does. N and 3N calls are
made in two processes; the difference, per call, is free of start-up. Only the calling
thread is counted.

    python -m benchmarks.instructions [--quick]

Needs valgrind on PATH.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench_durability import ours
from benchmarks.figures import Figure
from benchmarks.harness import REQUEST_ID, ROOT, Run, Turn, environment, loop, run, same
from benchmarks.plain import discarding_meters, discarding_tracers, monitored_by_hand
from benchmarks.plain import spanned as spanned_by
from benchmarks.server import Server

BASE = "plain"
NAMES = {
    "monitored": "instructions of a monitored call",
    "by_hand": "instructions of plain OTel, histogram, counter, correlation id by hand",
    "span": "instructions of flext_span",
    "bare": "instructions of a bare function",
}
WARM_UP_CALLS = 300
"""The interpreter specialises code that has run a few times."""
_THREAD = re.compile(r"^thread: (\d+)$", re.MULTILINE)
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def variant(name: str, url: str) -> Run:
    """Give what makes calls of a variant."""
    import flext_observability as fo

    if name in {"monitored", "span"}:
        monitored, _ = ours("memory", url)

        def spanned_by_us(value: int) -> int:
            with fo.flext_span("call"):
                return same(value)

        return loop(monitored if name == "monitored" else spanned_by_us)
    tracer = discarding_tracers().get_tracer("bench")
    if name == "by_hand":
        return loop(monitored_by_hand(tracer, discarding_meters(), lambda: REQUEST_ID))
    return loop(same if name == "bare" else spanned_by(tracer))


def count(valgrind: str, name: str, url: str, calls: int) -> int:
    """Give the instructions of the main thread of a process that makes calls."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "callgrind"
        subprocess.run(
            [
                valgrind,
                "--tool=callgrind",
                "--separate-threads=yes",
                f"--callgrind-out-file={out}",
                sys.executable,
                "-m",
                "benchmarks.instructions",
                "--child",
                name,
                url,
                str(calls),
            ],
            cwd=ROOT,
            env=environment(folder),
            input="turn\n",
            capture_output=True,
            text=True,
            check=True,
        )
        for path in Path(folder).glob("callgrind*"):
            text = path.read_text(encoding="utf-8", errors="replace")
            thread, total = _THREAD.search(text), _TOTAL.search(text)
            if thread and total and int(thread[1]) == 1:
                return int(total[1])
    raise SystemExit("callgrind has told nothing about the main thread")


def start(arguments: list[str]) -> Turn:
    """Prepare a child: its variant, the server, how many calls."""
    name, url, calls = arguments
    make = variant(name, url)
    make(WARM_UP_CALLS)

    def turn() -> None:
        make(int(calls))

    return turn


def figures(quick: bool) -> list[Figure]:  # noqa: FBT001 - what every benchmark is told
    """Count every variant twice."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        note = "skipped: valgrind is not on PATH"
        return [Figure(NAMES["monitored"], "-", "-", note=note)]
    per_call: dict[str, float] = {}
    with Server() as server:
        for name in (BASE, *NAMES):
            # Start-up takes billions, and not always the same: cheap calls need to be
            # many to stand out.
            calls = 1000 if name in {BASE, "by_hand"} else 20_000
            calls = calls // 10 if quick else calls
            once = count(valgrind, name, server.url, calls)
            thrice = count(valgrind, name, server.url, 3 * calls)
            per_call[name] = (thrice - once) / (2 * calls)
    base = per_call.pop(BASE)
    return [
        Figure(NAMES[name], f"{base:,.0f}", f"{each:,.0f}", each / base)
        for name, each in per_call.items()
    ]


if __name__ == "__main__":
    run(__doc__, figures, start)
