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
from typing import Any

from opentelemetry._logs import LoggerProvider, SeverityNumber
from opentelemetry.util.types import AnyValue

from ..constants import FlextObservabilityConstants as C
from .exceptions import exception_attributes
from .own_work import is_exporting
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

_SEVERITIES = (
    (10, SeverityNumber.TRACE, "TRACE"),
    (20, SeverityNumber.DEBUG, "DEBUG"),
    (30, SeverityNumber.INFO, "INFO"),
    (40, SeverityNumber.WARN, "WARN"),
    (50, SeverityNumber.ERROR, "ERROR"),
)


def severity_of(level: int) -> tuple[SeverityNumber, str]:
    """Give severity number and text of a standard logging level.

    Levels between the named ones keep the severity of the named one below, as the
    mapping of the OTel log data model asks for.
    """
    for bound, number, text in _SEVERITIES:
        if level < bound:
            return number, text
    return SeverityNumber.FATAL, "FATAL"


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
        self._busy = threading.local()
        self._installed: Callable[[Logger, LogRecord], None] | None = None
        self._original: Callable[[Logger, LogRecord], None] | None = None
        self._root_level: int | None = None  # what it was, when we lowered it

    def install(self) -> None:
        """Start listening, and let INFO through where nobody configured logging."""
        original = Logger.callHandlers
        bridge = self

        def callHandlers(self: Logger, record: LogRecord) -> None:  # noqa: N802 - its name there
            bridge.take(record)
            if not bridge.let_through(self, record):
                original(self, record)

        self._original = original
        self._installed = callHandlers
        Logger.callHandlers = callHandlers  # type: ignore[method-assign]  # see the module's text
        if root_logger.level == WARNING and not root_logger.handlers:
            # Untouched logging drops INFO before anybody sees it. One below ours, so
            # that it can be told from a level the program sets later.
            self._root_level = root_logger.level
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
        self.level = 1 << 30  # when somebody wrapped ours meanwhile, it stays silent

    def take(self, record: LogRecord) -> None:
        """Emit a record; never raises, never recurses."""
        if record.levelno < self.level or getattr(self._busy, "now", False):
            return
        name = record.name
        if name in _OWN_NAMES or name.startswith(_OWN_PREFIXES) or is_exporting():
            return
        self._busy.now = True
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001, S110 - logging must not raise into the host
            pass
        finally:
            self._busy.now = False

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


def _body(record: LogRecord) -> AnyValue:
    if not record.args and not isinstance(record.msg, str):
        return clean_value(record.msg)
    try:
        return clean_text(record.getMessage())
    except Exception:  # noqa: BLE001 - wrong number of % arguments, failing __str__
        return clean_text(record.msg)


def _attributes(record: LogRecord) -> dict[str, AnyValue]:
    extra = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    attributes = clean_attributes(extra)
    attributes[C.ATTR_CODE_FILE_PATH] = clean_text(record.pathname)
    attributes[C.ATTR_CODE_FUNCTION_NAME] = clean_text(record.funcName)
    attributes[C.ATTR_CODE_LINE_NUMBER] = record.lineno
    if record.stack_info:
        attributes[C.ATTR_CODE_STACKTRACE] = clean_text(record.stack_info)
    if record.exc_info and record.exc_info[1] is not None:
        attributes |= exception_attributes(record.exc_info[1])
    return attributes
