"""Parts that installed packages register, by the names that OTEL_* variables use."""

import os
from importlib.metadata import entry_points
from typing import Any

from ..errors import FlextObservabilityConfigurationError


def registered(group: str, name: str) -> Any:
    """Load what a package registers under a name, ``None`` when none does."""
    for entry in entry_points(group=group, name=name):
        return entry.load()
    return None


def named_by(variables: tuple[str, ...], group: str) -> Any:
    """Load the part that the first set variable names, ``None`` when none is set.

    Args:
        variables: In order of strength.
        group: Entry point group of the part.

    Raises:
        FlextObservabilityConfigurationError: No installed package offers the name.
    """
    for variable in variables:
        name = os.environ.get(variable, "").strip()
        if not name:
            continue
        found = registered(group, name)
        if found is None:
            message = (
                f"{variable}: nothing is registered as {name!r}. "
                "Install the package that offers it, or unset the variable."
            )
            raise FlextObservabilityConfigurationError(message)
        return found
    return None
