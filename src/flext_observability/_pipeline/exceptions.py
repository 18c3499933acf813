"""Exceptions, captured where they are caught and put into words where nobody waits."""

import linecache
import traceback
from collections import deque
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from types import CodeType, TracebackType
from typing import Any

from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .values import TRUNCATED, UNPRINTABLE, clean_text, legal_stack

# The last frames say where it broke; a runaway recursion has thousands. So many fill
# what an attribute may hold.
_FRAMES = 300


_HEADER = "Traceback (most recent call last):\n"
# Python has more to say about these than type and message.
_ELABORATE = (
    *(NameError, AttributeError, ImportError, SyntaxError, BaseExceptionGroup),
)
# Of one level of a stack: its code, and where in it the program was. The file too: code
# is equal to a copy of it in another file.
_Level = tuple[CodeType, str, int, int]
# Stands where levels were left out.
_CUT: _Level = compile("", "", "exec"), "", 0, 0


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
            if not isinstance(error, NameError):
                self._levels = _levels(error.__traceback__)
            if not self._levels or not _is_plain(error, self.message):
                self._told = traceback.TracebackException(
                    kind,
                    error,
                    None if self._levels else error.__traceback__,
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
            text = ""
            with suppress(Exception):  # notes and groups may be anything
                text = self._formatted()
            self._stack, self._told, self._levels = legal_stack(text), None, ()
        return self._stack

    def _formatted(self) -> str:
        told = self._told
        if told is None:
            # As Python's own module, which leaves these two out.
            name = self.type_name.removeprefix("__main__.")
            return _text(
                self._levels, f"{name}: {self.message}" if self.message else name
            )
        if self._levels:
            told.stack = _Summaries(self._levels)
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
    count = 0
    while stack is not None:
        code = stack.tb_frame.f_code
        file = code.co_filename
        if file not in linecache.cache:
            # Where sources are not files, the module's loader must be known later.
            linecache.lazycache(file, stack.tb_frame.f_globals)
        found.append((code, file, stack.tb_lineno, stack.tb_lasti))
        stack = stack.tb_next
        count += 1
    return (_CUT, *found) if count > _FRAMES else tuple(found)


def _is_plain(error: BaseException, message: str) -> bool:
    """Whether there is nothing to tell but stack, type and message."""
    return (
        error.__cause__ is None
        and error.__context__ is None
        and message is not UNPRINTABLE
        and not isinstance(error, _ELABORATE)
        and not hasattr(error, "__notes__")
    )


@lru_cache(maxsize=64)
def _text(levels: tuple[_Level, ...], last_line: str) -> str:
    """Put a stack and what was raised together; the same text is the same object."""
    return f"{_HEADER}{_stack(levels)}{last_line}\n"


@lru_cache(maxsize=256)
def _stack(levels: tuple[_Level, ...]) -> str:
    """Format a stack; the text is kept, since exceptions come again and again."""
    cut = f"  {TRUNCATED}\n" if levels[0] is _CUT else ""
    return cut + "".join(_Summaries(levels).format())


class _Summaries(traceback.StackSummary):
    """A stack in which equal levels are put into words once.

    A runaway recursion has hundreds of them, in every one of its hundreds of stacks.
    """

    def __init__(self, levels: tuple[_Level, ...]) -> None:
        made = {level: _summary(level) for level in set(levels) - {_CUT}}
        super().__init__(made[level] for level in levels if level is not _CUT)
        self._texts: dict[int, str] = {}

    def format_frame_summary(
        self, frame_summary: traceback.FrameSummary, **options: Any
    ) -> str:
        text = self._texts.get(id(frame_summary))
        if text is None:
            text = super().format_frame_summary(frame_summary, **options)
            self._texts[id(frame_summary)] = text
        return text


def _summary(level: _Level) -> traceback.FrameSummary:
    """Work out what Python shows of a level, as its own module does from frames."""
    code, file, line, instruction = level
    positions = islice(code.co_positions(), max(0, instruction) // 2, None)
    first, last, column, end_column = next(positions)
    linecache.checkcache(file)
    return traceback.FrameSummary(
        file,
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
