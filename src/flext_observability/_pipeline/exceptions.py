"""Exceptions, captured where they are caught and put into words where nobody waits."""

import linecache
import traceback
from collections import deque
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from types import CodeType, TracebackType

from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .values import clean_text, legal_stack

# The last frames say where it broke; a runaway recursion has thousands.
_FRAMES = 100


_HEADER = "Traceback (most recent call last):\n"
_last_lines = traceback.TracebackException.format_exception_only
# Of one level of a stack: its code, and where in it the program was.
_Level = tuple[CodeType, int, int]


class CapturedException:
    """Type, message and stack of an exception, without its frames and their values.

    Capturing costs a fraction of formatting, which reads source files and works out
    columns; that happens where nobody waits for it, at the first look at the text.
    """

    __slots__ = ("_levels", "_stack", "_told", "message", "type_name")

    def __init__(self, error: BaseException) -> None:
        """Capture; never raises."""
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.type_name = f"{module}{kind.__qualname__}"
        self.message = clean_text(error)
        self._stack: str | None = None
        self._levels: tuple[_Level, ...] = ()
        self._told: traceback.TracebackException | None = None
        try:
            # Suggestions for a wrong name are made of what the frames hold.
            is_whole = isinstance(error, NameError)
            stack = error.__traceback__
            self._told = traceback.TracebackException(
                kind,
                error,
                stack if is_whole else None,
                limit=-_FRAMES,
                lookup_lines=False,
                compact=True,
            )
            if not is_whole:
                self._levels = _levels(stack)
        except Exception:  # noqa: BLE001 - an exception whose __str__ fails
            self._stack = ""

    @property
    def stack(self) -> str:
        """The stack trace as Python prints it."""
        if self._stack is None:
            text = ""
            with suppress(Exception):  # notes and groups may be anything
                text = self._formatted()
            self._stack, self._told, self._levels = legal_stack(text), None, ()
        return self._stack

    def _formatted(self) -> str:
        told = self._told
        if told is None:
            return ""
        if not self._levels:
            return "".join(told.format())
        if told.exceptions is None and not (told.__cause__ or told.__context__):
            # Exceptions of one place have one stack.
            return _text(self._levels, "".join(_last_lines(told)))
        told.stack = _summaries(self._levels)
        return "".join(told.format())

    def attributes(self) -> dict[str, AnyValue]:
        """Give the ``exception.*`` attributes of the semantic conventions."""
        return {
            C.ATTR_EXCEPTION_TYPE: self.type_name,
            C.ATTR_EXCEPTION_MESSAGE: self.message,
            C.ATTR_EXCEPTION_STACKTRACE: self.stack,
        }


def _levels(stack: TracebackType | None) -> tuple[_Level, ...]:
    """Take down where the program was, outermost first, the last levels only."""
    found: deque[_Level] = deque(maxlen=_FRAMES)
    while stack is not None:
        code = stack.tb_frame.f_code
        # Where sources are not files, the module's loader must be known later.
        linecache.lazycache(code.co_filename, stack.tb_frame.f_globals)
        found.append((code, stack.tb_lineno, stack.tb_lasti))
        stack = stack.tb_next
    return tuple(found)


@lru_cache(maxsize=64)
def _text(levels: tuple[_Level, ...], last_lines: str) -> str:
    """Put a stack and what was raised together; the same text is the same object."""
    return f"{_HEADER}{_stack(levels)}{last_lines}"


@lru_cache(maxsize=256)
def _stack(levels: tuple[_Level, ...]) -> str:
    """Format a stack; the text is kept, since exceptions come again and again."""
    return "".join(_summaries(levels).format())


def _summaries(levels: tuple[_Level, ...]) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([_summary(level) for level in levels])


def _summary(level: _Level) -> traceback.FrameSummary:
    """Work out what Python shows of a level, as its own module does from frames."""
    code, line, instruction = level
    positions = islice(code.co_positions(), max(0, instruction) // 2, None)
    first, last, column, end_column = next(positions)
    linecache.checkcache(code.co_filename)
    return traceback.FrameSummary(
        code.co_filename,
        line if first is None else first,
        code.co_name,
        lookup_line=False,
        end_lineno=last,
        colno=column,
        end_colno=end_column,
    )


def exception_attributes(error: BaseException) -> dict[str, AnyValue]:
    """Give the ``exception.*`` attributes of an exception."""
    return CapturedException(error).attributes()
