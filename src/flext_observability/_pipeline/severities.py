"""Severities of OpenTelemetry for the levels of standard logging."""

from functools import lru_cache

from opentelemetry._logs import SeverityNumber

_SEVERITIES = (
    (10, SeverityNumber.TRACE, "TRACE"),
    (20, SeverityNumber.DEBUG, "DEBUG"),
    (30, SeverityNumber.INFO, "INFO"),
    (40, SeverityNumber.WARN, "WARN"),
    (50, SeverityNumber.ERROR, "ERROR"),
)


@lru_cache(maxsize=128)
def severity_of(level: int) -> tuple[SeverityNumber, str]:
    """Give severity number and text of a standard logging level.

    Levels between the named ones keep the severity of the named one below, as the
    mapping of the OTel log data model asks for.
    """
    for bound, number, text in _SEVERITIES:
        if level < bound:
            return number, text
    return SeverityNumber.FATAL, "FATAL"
