"""Exceptions, captured where they are caught and put into words where nobody waits."""

import traceback
from contextlib import suppress

from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .values import clean_text, legal_stack

# The last frames say where it broke; a runaway recursion has thousands.
_FRAMES = 100


class CapturedException:
    """Type, message and stack of an exception, without its frames and their values.

    Capturing costs a fraction of formatting, which reads source files; that happens
    where nobody waits for it, at the first look at the text.
    """

    __slots__ = ("_captured", "_stack", "message", "type_name")

    def __init__(self, error: BaseException) -> None:
        """Capture; never raises."""
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.type_name = f"{module}{kind.__qualname__}"
        self.message = clean_text(error)
        self._stack: str | None = None
        self._captured: traceback.TracebackException | None = None
        try:
            self._captured = traceback.TracebackException(
                kind,
                error,
                error.__traceback__,
                limit=-_FRAMES,
                lookup_lines=False,
                compact=True,
            )
        except Exception:  # noqa: BLE001 - an exception whose __str__ fails
            self._stack = ""

    @property
    def stack(self) -> str:
        """The stack trace as Python prints it."""
        if self._stack is None:
            captured, text = self._captured, ""
            with suppress(Exception):  # notes and groups may be anything
                text = "" if captured is None else "".join(captured.format())
            self._stack, self._captured = legal_stack(text), None
        return self._stack

    def attributes(self) -> dict[str, AnyValue]:
        """Give the ``exception.*`` attributes of the semantic conventions."""
        return {
            C.ATTR_EXCEPTION_TYPE: self.type_name,
            C.ATTR_EXCEPTION_MESSAGE: self.message,
            C.ATTR_EXCEPTION_STACKTRACE: self.stack,
        }


def exception_attributes(error: BaseException) -> dict[str, AnyValue]:
    """Give the ``exception.*`` attributes of an exception."""
    return CapturedException(error).attributes()
