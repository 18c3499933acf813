"""A measured figure beside its base, and tables of them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Cells = Sequence[str]
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))
_TARGET_HEADS = ("what", "target", "plain", "ours", "ratio", "verdict", "note")
_OTHER_HEADS = ("for orientation", "base", "measured", "ratio", "note")


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured."""

    what: str
    base: str
    """The figure of plain OpenTelemetry, or what the note says."""
    measured: str
    ratio: float | None = None
    target: str = ""
    """What was asked for; empty for figures that only give orientation."""
    passed: bool | None = None
    """Whether the target is met; ``None`` without a target or a measurement."""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say whether the target is met."""
        return {True: "pass", False: "OVER", None: "-"}[self.passed]


def seconds_text(value_s: float) -> str:
    """Show a duration in its unit."""
    scale, unit = next(pair for pair in _UNITS if abs(value_s) >= pair[0])
    value = value_s / (scale or 1e-9)
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"  # noqa: PLR2004 - three digits either way


def compared(
    what: str,
    measured_s: Sequence[float],
    base_s: Sequence[float],
    *,
    at_most: float | None = None,
    note: str = "",
) -> Figure:
    """Make the figure of a duration beside its base, turn by turn."""
    pairs = zip(measured_s, base_s, strict=True)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    return Figure(
        what,
        seconds_text(statistics.median(base_s)),
        seconds_text(statistics.median(measured_s)),
        ratio,
        "" if at_most is None else f"≤ {at_most:g}",
        None if at_most is None else ratio <= at_most,
        note,
    )


def missing(what: str, target: str, note: str) -> Figure:
    """Make the figure of what could not be measured; the note says why."""
    return Figure(what, "-", "-", None, target, None, note)


def loss(arrived: float, wanted: float, what: str) -> str:
    """Say in a note that something did not arrive: who skips has less to do."""
    if arrived == wanted:
        return ""
    return f"LOSS: {arrived:,.0f} of {wanted:,.0f} {what} arrived"


def rows_of(figures: Iterable[Figure]) -> tuple[list[Cells], list[Cells]]:
    """Give the cells of the figures with a target, and of those without one."""
    with_target: list[Cells] = []
    others: list[Cells] = []
    for each in figures:
        ratio = "-" if each.ratio is None else f"{each.ratio:.3g}"
        if each.target:
            cells = (each.what, each.target, each.base, each.measured, ratio)
            with_target.append((*cells, each.verdict, each.note))
        else:
            others.append((each.what, each.base, each.measured, ratio, each.note))
    return with_target, others


def plain_table(heads: Cells, rows: Sequence[Cells]) -> str:
    """Lay a table out for a terminal."""
    lines = [heads, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown_table(heads: Cells, rows: Sequence[Cells]) -> str:
    """Lay a table out in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def print_tables(figures: Iterable[Figure]) -> None:
    """Print figures for a person."""
    with_target, others = rows_of(figures)
    if with_target:
        print(plain_table(_TARGET_HEADS, with_target), flush=True)
    if others:
        print(plain_table(_OTHER_HEADS, others), flush=True)


def markdown_tables(figures: Iterable[Figure]) -> str:
    """Give figures in Markdown."""
    with_target, others = rows_of(figures)
    return "\n\n".join(
        markdown_table(heads, rows)
        for heads, rows in ((_TARGET_HEADS, with_target), (_OTHER_HEADS, others))
        if rows
    )
