"""The logger provider that OpenTelemetry is given once, and its loggers."""

from contextlib import suppress
from typing import Any

from opentelemetry import _logs
from opentelemetry.util.types import Attributes

from .exchange import Exchangeable
from .guards import legal_attributes, legal_log_record, legal_record, legal_scope
from .log_bridge import repeats_line
from .values import clean_value

_NO_LOGGER = _logs.NoOpLogger("none")


class LoggerProxy(_logs.Logger):
    """A logger that follows the pipeline of the moment."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        super().__init__(*arguments)
        self._arguments = arguments
        self._logger: _logs.Logger = _NO_LOGGER

    def follow(self, provider: _logs.LoggerProvider | None) -> None:
        """Take the logger of another provider, or none."""
        self._logger = (
            _NO_LOGGER if provider is None else provider.get_logger(*self._arguments)
        )

    def emit(self, record: Any = None, **kwargs: Any) -> None:
        """Emit with the logger of the moment; any values.

        A line of standard logging that the log bridge took is not taken again.
        """
        body = kwargs.get("body")
        if body is not None and type(body) is not str:
            kwargs["body"] = clean_value(body)  # a copy: the program may go on with it
        try:
            if "attributes" in kwargs:
                kwargs["attributes"] = legal_attributes(kwargs["attributes"])
            if isinstance(record, _logs.LogRecord):
                if repeats_line(self._arguments[0], record):
                    return
                record = legal_log_record(record)
            self._logger.emit(record, **kwargs)
        except Exception:  # noqa: BLE001 - whatever the values raise
            with suppress(Exception):
                self._logger.emit(*legal_record(record, kwargs), **kwargs)

    def enabled(self, **kwargs: Any) -> bool:
        """Whether the logger of the moment takes such records."""
        return self._logger.enabled(**kwargs)


class LoggerProviderProxy(Exchangeable[_logs.LoggerProvider], _logs.LoggerProvider):
    """The process's logger provider."""

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> _logs.Logger:
        """Give a logger that follows the pipeline of the moment."""
        logger = LoggerProxy(legal_scope(name, version, schema_url, attributes))
        self.add(logger)
        return logger
