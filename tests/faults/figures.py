"""Figures that a fault test measured, for the table in docs/reliability.md."""


def figure(row: str, **values: object) -> None:
    """Tell a figure of a row: ``figure("R1", kills=25, lost=0)``.

    It is printed; `tests.faults.conftest` takes such lines from what passing tests
    printed and brings them to the file that FLEXT_FIGURES names.
    """
    told = " ".join(f"{name}={_short(value)}" for name, value in values.items())
    print(f"FIGURE {row} {told}")  # noqa: T201 - read by the report


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
