"""What the library itself says, on the application's standard logging."""

from contextlib import suppress
from logging import ERROR, INFO, WARNING, getLogger

__all__ = ["ERROR", "INFO", "WARNING", "say"]

_logger = getLogger("flext_observability")


def say(level: int, template: str, *args: object) -> None:
    """Write one line, whatever the host's filters and handlers do with it.

    Args:
        level: ``INFO``, ``WARNING`` or ``ERROR``.
        template: With ``%`` places for the arguments.
        *args: What fills them.
    """
    with suppress(Exception):
        _logger.log(level, template, *args)
