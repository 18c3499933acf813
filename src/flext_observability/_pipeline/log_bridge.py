"""From the application's standard logging to OTel log records.

The bridge stands where every record of every logger passes exactly once, behind the
levels and filters of its logger and in front of its handlers. A handler on the root
logger would be thrown out by ``dictConfig``, would turn ``basicConfig`` into a no-op,
would silence the last-resort output of programs that configure no logging, and would
miss loggers that do not propagate.
"""

import threading
from collections.abc import Callable
from logging import WARNING, Logger, LogRecord
from logging import root as root_logger
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry._logs import LogRecord as OtelRecord
from opentelemetry.context import Context
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from ..correlation import attributes_variable, correlation_id_variable
from .current import SPAN_KEY, read_current
from .exceptions import exception_attributes
from .log_lines import Line, LineSink, site_attributes
from .own_work import in_delivery, is_exporting
from .severities import severity_of
from .values import (
    clean_attributes,
    clean_text,
    clean_value,
)

# Loggers of the pipe itself: their records must not feed the pipe.
_OWN_PREFIXES = ("opentelemetry.", "flext_observability.")
_OWN_NAMES = frozenset({"opentelemetry", "flext_observability"})

# What a LogRecord has of its own; anything else came with `extra`.
_STANDARD = frozenset(vars(LogRecord("", 0, "", 0, "", (), None))) | {
    *("message", "asctime", "taskName"),
}

# A record without `extra` holds these and no others, in the order they are set.
_USUAL = vars(LogRecord("", 0, "", 0, "", (), None))
_USUAL_SIZE = len(_USUAL)
_USUAL_LAST = next(reversed(_USUAL))
_NAMES_KEPT = 1000
_SHORT_TEXT = 1024


class _Here:
    """What goes on in one thread."""

    __slots__ = ("is_busy", "line")

    def __init__(self) -> None:
        self.is_busy = False
        """Whether it is within the bridge."""
        self.line: LogRecord | None = None
        """What the bridge took last, while the handlers of that line run."""


class _Threads(threading.local):
    """Every thread's own; reached once a line, as that costs more than the rest."""

    def __init__(self) -> None:
        self.here = _Here()


_threads = _Threads()


def repeats_line(logger_name: str, record: OtelRecord) -> bool:
    """Whether a log record is the line again whose handlers run in this thread.

    OpenTelemetry has handlers of its own, in the SDK and in an instrumentation, and
    others make their own of them. They keep the logger's name and the very moment.
    """
    line = _threads.here.line
    return (
        line is not None
        and record.timestamp == int(line.created * 1e9)
        and logger_name == line.name
    )


class LogBridge:
    """Emits an OTel log record for every standard one, until it is removed."""

    def __init__(self, provider: LoggerProvider, level: int) -> None:
        """Prepare; nothing is installed yet.

        Args:
            provider: Where log records go.
            level: The lowest standard level that is emitted.
        """
        self.level = level
        self._provider = provider
        self._loggers: dict[str, Any] = {}
        self.lines: LineSink | None = None
        """Where lines go instead, if the pipeline of the moment takes lines."""
        self._is_ours: dict[str, bool] = {}
        self._installed: Callable[[Logger, LogRecord], None] | None = None
        self._original: Callable[[Logger, LogRecord], None] | None = None
        self._root_level: int | None = None  # what it was, when we lowered it
        self.is_root_as_it_was = True

    def install(self) -> None:
        """Start listening, and let INFO through where nobody configured logging."""
        original = Logger.callHandlers
        bridge, take, threads = self, self.take, _threads

        def callHandlers(self: Logger, record: LogRecord) -> None:  # noqa: N802 - its name there
            here = threads.here
            outer = here.line  # a handler may log, too
            try:
                take(record, here)
                if bridge.is_root_as_it_was or not bridge.let_through(self, record):
                    original(self, record)
            finally:
                here.line = outer

        self._original = original
        self._installed = callHandlers
        Logger.callHandlers = callHandlers  # type: ignore[method-assign]  # see the module's text
        if root_logger.level == WARNING and not root_logger.handlers:
            # Untouched logging drops INFO before anybody sees it. One below ours, so
            # that it can be told from a level the program sets later.
            self._root_level = root_logger.level
            self.is_root_as_it_was = False
            root_logger.setLevel(self.level - 1)

    def _is_root_lowered(self) -> bool:
        return self._root_level is not None and root_logger.level == self.level - 1

    def let_through(self, logger: Logger, record: LogRecord) -> bool:
        """Whether a record exists only because we lowered the root logger's level.

        The program's handlers, which may come later, never see such a record.
        """
        if self._root_level is None or record.levelno >= self._root_level:
            return False
        if not self._is_root_lowered():
            return False
        above: Logger | None = logger
        while above is not None and above is not root_logger:
            if above.level:
                return False  # the program asked for this level itself
            above = above.parent
        return True

    def set_level(self, level: int) -> None:
        """Take another lowest level."""
        if self._is_root_lowered():
            root_logger.setLevel(level - 1)
        self.level = level

    def remove(self) -> None:
        """Stop listening and put back what was changed."""
        if self._installed is not None and Logger.callHandlers is self._installed:
            Logger.callHandlers = self._original  # type: ignore[method-assign,assignment]  # put back
        if self._root_level is not None and self._is_root_lowered():
            root_logger.setLevel(self._root_level)
        self._root_level = None
        self.is_root_as_it_was = True
        self.level = 1 << 30  # when somebody wrapped ours meanwhile, it stays silent

    def take(self, record: LogRecord, here: _Here) -> None:
        """Emit a record; never raises, never recurses.

        Args:
            record: The line.
            here: Of this thread.
        """
        if record.levelno < self.level or here.is_busy:
            return
        here.is_busy = True
        try:
            is_ours = self._is_ours.get(record.name)
            if is_ours is None:
                is_ours = self._judge(record.name)
            context = read_current()
            # The usual case is told without a call.
            if is_ours or ((context or in_delivery.get()) and is_exporting(context)):
                return
            lines = self.lines
            line = None
            if lines is not None and lines.is_open:
                line = _line_of(lines, record, context)
            if lines is None or line is None:
                self._emit(record)
                here.line = record
                return
            # From here on nothing of the host runs that could log about this record,
            # but a signal handler may, while the line is written.
            here.is_busy = False
            lines.put(line)
            here.line = record
        except Exception:  # noqa: BLE001, S110 - logging must not raise into the host
            pass
        finally:
            here.is_busy = False

    def _judge(self, name: str) -> bool:
        """Say whether a logger belongs to the pipe itself."""
        if len(self._is_ours) >= _NAMES_KEPT:  # names may be made at run time
            self._is_ours.clear()
        is_ours = name in _OWN_NAMES or name.startswith(_OWN_PREFIXES)
        self._is_ours[name] = is_ours
        return is_ours

    def _emit(self, record: LogRecord) -> None:
        number, text = severity_of(record.levelno)
        self._logger(record.name).emit(
            timestamp=int(record.created * 1e9),
            severity_number=number,
            severity_text=text,
            body=_body(record),
            attributes=_attributes(record),
        )

    def _logger(self, name: str) -> Any:
        logger = self._loggers.get(name)
        if logger is None:
            if len(self._loggers) >= 1000:  # noqa: PLR2004 - names may be made at run time
                self._loggers.clear()
            logger = self._loggers[name] = self._provider.get_logger(name or "root")
        return logger


def _line_of(lines: LineSink, record: LogRecord, context: Context) -> Line | None:
    """Catch a line in its fields; ``None`` when there is more to it."""
    message = record.msg
    if record.exc_info or record.stack_info or type(message) is not str:
        return None
    if record.args or type(record) is not LogRecord:
        try:
            if type(record) is LogRecord:
                message = message % record.args  # as its method does
            else:
                message = record.getMessage()
        except Exception:  # noqa: BLE001 - wrong number of % arguments, failing __str__
            return None
    # A text of another class may do anything in its methods.
    is_usual = type(message) is str and message.isascii()
    if not is_usual or len(message) > _SHORT_TEXT:
        message = clean_text(message)
    extra = None
    fields = record.__dict__
    if len(fields) != _USUAL_SIZE or next(reversed(fields)) != _USUAL_LAST:
        extra = _extra(record)
    stated = attributes_variable.get()
    if (extra or stated) and not lines.fits({**(extra or {}), **(stated or {})}):
        return None
    return (
        record.created,
        time_ns(),
        record.levelno,
        message,
        record.name,
        record.pathname,
        record.funcName,
        record.lineno,
        None
        if SPAN_KEY and SPAN_KEY not in context
        else trace.get_current_span(context).get_span_context(),
        extra,
        stated,
        correlation_id_variable.get(),
    )


def _body(record: LogRecord) -> AnyValue:
    if not record.args and not isinstance(record.msg, str):
        return clean_value(record.msg)
    try:
        return clean_text(record.getMessage())
    except Exception:  # noqa: BLE001 - wrong number of % arguments, failing __str__
        return clean_text(record.msg)


def _extra(record: LogRecord) -> dict[str, AnyValue]:
    return clean_attributes(
        {k: v for k, v in vars(record).items() if k not in _STANDARD}
    )


def _attributes(record: LogRecord) -> dict[str, AnyValue]:
    attributes = _extra(record)
    attributes |= site_attributes(record.pathname, record.funcName, record.lineno)
    if record.stack_info:
        attributes[C.ATTR_CODE_STACKTRACE] = clean_text(record.stack_info)
    if record.exc_info and record.exc_info[1] is not None:
        attributes |= exception_attributes(record.exc_info[1])
    return attributes
