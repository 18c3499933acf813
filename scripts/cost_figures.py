"""Bring the figures of benchmarks/results.md to where documents quote them.

usage: cost_figures.py [--check]

`make bench` calls it; `--check` changes nothing and fails when a document says
something else.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.md"
README = ROOT / "README.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
PERFORMANCE = ROOT / "docs" / "performance.md"

# First cell of a row of the README's table -> rows of the results whose ratio it shows.
QUOTED = {
    "`@flext_monitor_function`: span, histogram, outcome, correlation id": [
        "monitored call"
    ],
    "the same, child of a span of ours": ["monitored call, child of a span of ours"],
    "the same, child of a span of the SDK": [
        "monitored call, child of a span of the SDK"
    ],
    "the same, on a coroutine": ["monitored coroutine"],
    "a call that raises, to a plain span that raises": ["monitored call that raises"],
    "`flext_span`": ["flext_span context manager"],
    "a monitored call that is sampled out": ["monitored call, sampled out by ratio"],
    "a monitored call without `setup()`": ["monitored call, not set up"],
    "the decorators of Logfire, ddtrace and Sentry": [
        "Logfire @instrument",
        "ddtrace @tracer.wrap",
        "Sentry @trace in a transaction",
    ],
    'all CPU until it is delivered, `durability="memory"`': [
        "total CPU per delivered span, OTLP/HTTP, durability memory"
    ],
    "the same, `batch`": ["total CPU per delivered span, OTLP/HTTP, durability batch"],
    "a counter or histogram with bound attributes, to plain ones": [
        "bound counter, 2 attributes",
        "bound histogram, 2 attributes",
    ],
    "a line of `logging`, to one that a `NullHandler` takes": [
        "one stdlib log line through the bridge, to a NullHandler's"
    ],
    "`import flext_observability`, to `import opentelemetry.trace`": [
        "`import flext_observability`, to `import opentelemetry.trace`"
    ],
    "`setup()` with its imports, to a set-up of the SDK by hand": [
        "`setup()` with HTTP exporter, imports included"
    ],
}
PLAIN = "`with tracer.start_as_current_span()`, plain"
MEMORY = "memory of a queued span"
LOST = "150,000 spans a second, lost"


def read() -> tuple[str, dict[str, dict[str, str]]]:
    """Give the date of the results, and their rows by name and column."""
    date, columns = "", list[str]()
    rows: dict[str, dict[str, str]] = {}
    for line in RESULTS.read_text("utf-8").splitlines():
        if line.startswith("- date: "):
            date = line.removeprefix("- date: ").split()[0]
        if not line.startswith("| ") or line.startswith("| ---"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "ratio" in cells:
            columns = cells
        else:
            rows[cells[0]] = dict(zip(columns, cells, strict=True))
    return date, rows


class Quotes:
    """The documents with the figures of the results in them."""

    def __init__(self) -> None:
        self._date, self._rows = read()

    def _ratio(self, name: str) -> str:
        return self._rows[name]["ratio"]

    def readme(self, text: str) -> str:
        """Give the README with the section on costs renewed."""
        shown = {
            label: ", ".join(map(self._ratio, names))
            for label, names in QUOTED.items()
            if self._rows.keys() >= set(names)  # the peers may not be installed
        }
        memory = self._rows["memory per queued span, encoded"]
        lost = self._rows["tight loop, 150,000 spans/s, lost, durability batch"]
        plain_lost, our_lost = (lost[key].split()[0] for key in ("plain", "ours"))
        shown[PLAIN] = f"1 ({self._rows['monitored call']['plain']})"
        shown[MEMORY] = f"{memory['ours']} (plain: {memory['plain']})"
        shown[LOST] = f"{our_lost} % (plain: {plain_lost} %)"
        for label, figure in shown.items():
            row = re.compile(rf"(?m)^(\| {re.escape(label)} \| [^|]+ \| ).*( \|)$")
            text = replaced(row, figure, text)
        by_hand = "plain OTel, histogram, counter, correlation id by hand"
        row_of_many = (
            "monitored call, many in a row: what the writer does meanwhile, too"
        )
        for pattern, figure in (
            (r"(Measured on )\S+( with `make bench`)", self._date),
            (r"(correlation id\) costs )[\d.]+(\.\n)", self._ratio(by_hand)),
            (r"(a monitored call costs )[\d.]+(\. All)", self._ratio(row_of_many)),
        ):
            text = replaced(re.compile(pattern), figure, text)
        return text

    def reliability(self, text: str) -> str:
        """Give the table of promises with the row on overhead renewed."""
        modes: list[str] = []
        for mode in ("memory", "batch", "record"):
            call = f"calling thread's CPU per monitored call, durability {mode} (R27)"
            whole = f"total CPU per delivered span, OTLP/HTTP, durability {mode}"
            over = f"the same, {mode} over memory"
            beside = f" over_memory={self._ratio(over)}" if over in self._rows else ""
            figures = f"call={self._ratio(call)} delivered={self._ratio(whole)}"
            modes.append(f"{mode}: {figures}{beside}")
        told = f"CPU as a ratio to plain OpenTelemetry: {'; '.join(modes)}"
        row = re.compile(r"(bench_durability\.py\) \| ).*( \|)")
        return replaced(row, f"{told} ({self._date})", text)

    def performance(self, text: str) -> str:
        """Give the text on costs with its counts of instructions renewed."""
        counted = self._rows["instructions of a monitored call"]
        for pattern, column in (
            (r"(A monitored call is )[\d,]+( instructions)", "measured"),
            (r"(a bare OpenTelemetry span )[\d,]+( \()", "base"),
        ):
            text = replaced(re.compile(pattern), counted[column], text)
        return text


def replaced(pattern: re.Pattern[str], figure: str, text: str) -> str:
    """Give a text with the figure between the two groups of a pattern.

    Raises:
        ValueError: The text has no such place, or several.
    """
    text, count = pattern.subn(lambda found: found[1] + figure + found[2], text)
    if count != 1:
        message = f"{count} places for {pattern.pattern}"
        raise ValueError(message)
    return text


def main() -> int:
    """Write the documents, or say which are not as they should be."""
    quotes = Quotes()
    stale: list[str] = []
    for path, renew in (
        (README, quotes.readme),
        (RELIABILITY, quotes.reliability),
        (PERFORMANCE, quotes.performance),
    ):
        text = path.read_text("utf-8")
        renewed = renew(text)
        if renewed == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in sys.argv[1:]:
            path.write_text(renewed, "utf-8")
    for name in stale:
        print(f"{name}: other figures than benchmarks/results.md")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
