"""Exceptions of the package.

Nothing here is raised by an operation: operations return a ``FlextResult``. These
types are what ``result.unwrap()`` raises and what ``result.exception`` may hold.
"""


class FlextObservabilityError(Exception):
    """A failed result that was unwrapped; the base of all our exceptions."""


class FlextObservabilityConfigurationError(FlextObservabilityError):
    """A setting is unknown, malformed or out of bounds."""


class FlextObservabilityValidationError(FlextObservabilityError):
    """A value breaks a rule of an entity."""


class FlextObservabilityConnectionError(FlextObservabilityError):
    """A collector or another remote end could not be reached."""


class FlextObservabilityProcessingError(FlextObservabilityError):
    """A record could not be processed."""


class FlextObservabilityTimeoutError(FlextObservabilityError):
    """A deadline passed before the work was done."""


class FlextObservabilityMetricsError(FlextObservabilityError):
    """A metrics operation failed."""


class FlextObservabilityHealthError(FlextObservabilityError):
    """A health operation failed."""


class FlextObservabilityTracingError(FlextObservabilityError):
    """A tracing operation failed."""


class FlextObservabilityLoggingError(FlextObservabilityError):
    """A logging operation failed."""
