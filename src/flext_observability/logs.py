"""Loggers that write a line on stderr and emit the same as an OTel log record."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from logging import getLevelNamesMapping
from math import isfinite
from typing import Any, Self, cast

from opentelemetry import trace
from opentelemetry.util.types import AnyValue

from . import runtime
from ._pipeline.exceptions import exception_attributes
from ._pipeline.log_lines import severity_of
from ._pipeline.redaction import Redactor
from ._pipeline.values import (
    clean_attributes,
    clean_text,
    one_line,
)
from .correlation import flext_get_correlation_id
from .result import FlextResult

_LEVELS = getLevelNamesMapping()
# Before setup the usual secrets are kept off the line all the same.
_USUAL = Redactor()


def _redactor() -> Redactor:
    pipeline = runtime.state.pipeline or runtime.state.inherited()
    return _USUAL if pipeline is None else pipeline.cleaner.redactor


def _is_wanted(level: str) -> bool:
    config = runtime.current_config()
    lowest = "INFO" if config is None else config.log_level
    return _LEVELS[level] >= _LEVELS[lowest]


def _log(
    level: str, logger: str, message: str, data: dict[str, Any], *, has_exception: bool
) -> FlextResult[None]:
    """Write and emit one line; a failure of either is the result, never raised."""
    try:
        if not _is_wanted(level):
            return FlextResult[None].ok(None)
        if not message and "message" in data:  # called as info(message="…")
            message = data.pop("message")
        attributes = clean_attributes(data)
        error = sys.exc_info()[1] if has_exception else None
        if error is not None:
            attributes |= exception_attributes(error)
        text = clean_text(message)
        _emit(level, logger, text, attributes)
        # What is emitted is redacted behind the queue; the line leaves here and now.
        redactor = _redactor()
        shown = redactor.attributes(attributes)
        said = clean_text(redactor.value("body", text))
        _write(_line(level, logger, said, shown))
    except Exception as error:  # noqa: BLE001 - logging must not raise into the host
        return FlextResult[None].fail(
            f"log line lost: {type(error).__name__}: {error}", exception=error
        )
    return FlextResult[None].ok(None)


def _emit(level: str, logger: str, text: str, attributes: dict[str, AnyValue]) -> None:
    if not runtime.is_running():
        return
    number, severity = severity_of(_LEVELS[level])
    runtime.kept(
        f"logger {logger}", lambda: runtime.logger_provider().get_logger(logger)
    ).emit(
        timestamp=int(datetime.now(UTC).timestamp() * 1e9),
        severity_number=number,
        severity_text=severity,
        body=text,
        attributes=attributes,
    )


def _line(level: str, logger: str, text: str, attributes: dict[str, AnyValue]) -> str:
    config = runtime.current_config()
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if config is not None and not config.structured_logging:
        pairs = " ".join(f"{one_line(k)}={_json(v)}" for k, v in attributes.items())
        # A line break in the message must not look like a second line.
        shown = f"{now} {level:<8} {one_line(logger)}: {one_line(text)} {pairs}"
        return shown.rstrip()
    line: dict[str, Any] = {
        "time": now,
        "level": level.lower(),
        "logger": logger,
        "message": text,
    }
    correlation_id = flext_get_correlation_id()
    if correlation_id:
        line["correlation_id"] = correlation_id
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"] = f"{context.trace_id:032x}"
        line["span_id"] = f"{context.span_id:016x}"
    # The line's own keys win: given data of the same name must not forge them.
    return _json({**line, **{k: v for k, v in attributes.items() if k not in line}})


def _json(value: object) -> str:
    try:
        line = json.dumps(
            value, default=clean_text, ensure_ascii=False, allow_nan=False
        )
    except ValueError:
        line = json.dumps(_finite(value), default=clean_text, ensure_ascii=False)
    return one_line(line)


def _finite(value: object) -> object:
    """Write NaN and the infinities as text: JSON has no such numbers."""
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value).items()
        return {name: _finite(item) for name, item in pairs}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast("Sequence[object]", value)]
    return value


def _write(line: str) -> None:
    stream = sys.stderr
    if stream is not None:  # pythonw and some servers have none
        # One write, no lock: a lock would hang a forked child or a signal handler.
        stream.write(f"{line}\n")
        stream.flush()


class FlextLogger:
    """A logger with keyword context; no method ever raises."""

    def __init__(self, name: str) -> None:
        """Use :func:`get_logger`.

        Args:
            name: What the lines are marked with.
        """
        self.name = clean_text(name)

    def _log(
        self,
        level: str,
        message: object,
        args: tuple[object, ...],
        context: dict[str, Any],
        *,
        has_exception: bool = False,
    ) -> None:
        text = clean_text(message)
        if args:
            try:
                # One mapping fills `%(name)s`, as in standard logging.
                only = args[0] if len(args) == 1 else None
                text = str(message) % (only if isinstance(only, Mapping) else args)
            except Exception:  # noqa: BLE001 - a wrong template still says something
                text = f"{text} {clean_text(args)}"
        _log(level, self.name, text, context, has_exception=has_exception)

    def debug(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at DEBUG: ``%`` arguments for the message, keywords as data."""
        self._log("DEBUG", message, args, context)

    def info(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at INFO: ``%`` arguments for the message, keywords as data."""
        self._log("INFO", message, args, context)

    def warning(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at WARNING: ``%`` arguments for the message, keywords as data."""
        self._log("WARNING", message, args, context)

    def error(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at ERROR: ``%`` arguments for the message, keywords as data."""
        self._log("ERROR", message, args, context)

    def critical(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at CRITICAL: ``%`` arguments for the message, keywords as data."""
        self._log("CRITICAL", message, args, context)

    def exception(self, message: object = "", /, *args: object, **context: Any) -> None:
        """Log at ERROR with the exception that is being handled."""
        self._log("ERROR", message, args, context, has_exception=True)

    def __repr__(self) -> str:
        """Show the name."""
        return f"FlextLogger({self.name!r})"


def get_logger(name: str) -> FlextLogger:
    """Give the logger of a name; the same object for the same name.

    Args:
        name: Usually ``__name__``.
    """
    text = clean_text(name)
    return runtime.kept(f"FlextLogger {text}", lambda: FlextLogger(text))


class FlextStructuredLogger:
    """A logger whose lines carry data, and that says whether a line was written."""

    def __init__(self, name: str) -> None:
        """Make a logger.

        Args:
            name: What the lines are marked with.
        """
        self.name = clean_text(name)
        self._bound: dict[str, Any] = {}

    def bind(self, /, **data: Any) -> Self:
        """Give a logger that adds data to every line; this one stays as it is."""
        bound = type(self)(self.name)
        bound._bound = {**self._bound, **data}  # noqa: SLF001 - same class
        return bound

    def _log(
        self,
        level: str,
        message: str,
        data: dict[str, Any],
        *,
        has_exception: bool = False,
    ) -> FlextResult[None]:
        merged = {**self._bound, **data}
        return _log(level, self.name, message, merged, has_exception=has_exception)

    def debug(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at DEBUG."""
        return self._log("DEBUG", message, data)

    def info(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at INFO."""
        return self._log("INFO", message, data)

    def warning(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at WARNING."""
        return self._log("WARNING", message, data)

    def error(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at ERROR."""
        return self._log("ERROR", message, data)

    def critical(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at CRITICAL."""
        return self._log("CRITICAL", message, data)

    def exception(self, message: str = "", /, **data: Any) -> FlextResult[None]:
        """Log at ERROR with the exception that is being handled."""
        return self._log("ERROR", message, data, has_exception=True)

    def __repr__(self) -> str:
        """Show the name."""
        return f"FlextStructuredLogger({self.name!r})"
