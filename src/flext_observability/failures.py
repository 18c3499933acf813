"""What a failed operation is, and how a span tells it."""

from typing import cast

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AnyValue

from ._pipeline.exceptions import exception_attributes
from ._pipeline.values import clean_text
from .constants import ErrorCategory
from .constants import FlextObservabilityConstants as C
from .result import FlextResult


def categorize(error: BaseException) -> ErrorCategory:
    """Give the coarse class of an exception, by type and, for libraries, by name."""
    for kinds, category in (
        (TimeoutError, ErrorCategory.TIMEOUT),
        (PermissionError, ErrorCategory.PERMISSION),
        (ConnectionError, ErrorCategory.CONNECTION),
    ):
        if isinstance(error, kinds):
            return category
    name = type(error).__name__
    for part, category in (
        ("Cancelled", ErrorCategory.CANCELLED),
        ("Timeout", ErrorCategory.TIMEOUT),
        ("Connect", ErrorCategory.CONNECTION),
        ("Permission", ErrorCategory.PERMISSION),
        ("Forbidden", ErrorCategory.PERMISSION),
        ("Unauthorized", ErrorCategory.PERMISSION),
    ):
        if part in name:
            return category
    is_validation = isinstance(error, ValueError | TypeError) or "Validation" in name
    return ErrorCategory.VALIDATION if is_validation else ErrorCategory.OTHER


class Failure:
    """How a call failed: by an exception, or by returning a failed result."""

    __slots__ = ("_exception", "category", "error", "error_type", "message")

    def __init__(self, error: BaseException | None, result_error: str | None) -> None:
        self.error = error
        self._exception: dict[str, AnyValue] | None = None
        self.error_type = error_type_of(error)
        self.category = ErrorCategory.OTHER if error is None else categorize(error)
        self.message = result_error or clean_text(error)

    def exception(self) -> dict[str, AnyValue]:
        """Give the ``exception.*`` attributes; a stack is formatted only once."""
        if self._exception is None:
            found = {} if self.error is None else exception_attributes(self.error)
            self._exception = found
        return self._exception


def failure_of_result(value: object) -> Failure | None:
    """Give the failure that a returned value stands for, if it does."""
    # By type: `isinstance` would ask a lazy or dead proxy for its `__class__`.
    if type(value) is not FlextResult:
        return None
    result = cast("FlextResult[object]", value)
    return Failure(result.exception, result.error) if result.is_failure else None


def result_error_type(value: object) -> str:
    """Give the ``error.type`` of a returned value, ``""`` when it is no failure."""
    if type(value) is not FlextResult:
        return ""
    result = cast("FlextResult[object]", value)
    return error_type_of(result.exception) if result.is_failure else ""


def error_type_of(error: BaseException | None) -> str:
    """Give the ``error.type`` of an exception, or of a failure without one."""
    return "FlextResult" if error is None else type(error).__name__


def mark_failed(span: Span, failure: Failure, *, record_exception: bool) -> None:
    """Put a failure on a span; message and stack only where they are wanted."""
    span.set_attribute(C.ATTR_ERROR_TYPE, failure.error_type)
    span.set_attribute(C.ATTR_ERROR_CATEGORY, failure.category.value)
    description = failure.error_type
    if record_exception:
        description = f"{failure.error_type}: {failure.message}"
        if failure.error is not None:
            span.add_event("exception", failure.exception())
    span.set_status(Status(StatusCode.ERROR, description))
