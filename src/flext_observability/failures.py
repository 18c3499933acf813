"""What a failed operation is, and how a span tells it."""

from typing import cast

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AnyValue

from ._pipeline.exceptions import CapturedException
from .constants import ErrorCategory
from .constants import FlextObservabilityConstants as C
from .result import FlextResult

# By type, for as many types as a program has; more are made at run time.
_categories: dict[type[BaseException], ErrorCategory] = {}
_CATEGORIES_KEPT = 1000


def categorize(error: BaseException) -> ErrorCategory:
    """Give the coarse class of an exception, by type and, for libraries, by name."""
    kind = type(error)
    known = _categories.get(kind)
    if known is None:
        if len(_categories) >= _CATEGORIES_KEPT:
            _categories.clear()
        known = _categories[kind] = _category_of(kind)
    return known


def _category_of(error_type: type[BaseException]) -> ErrorCategory:
    for kinds, category in (
        (TimeoutError, ErrorCategory.TIMEOUT),
        (PermissionError, ErrorCategory.PERMISSION),
        (ConnectionError, ErrorCategory.CONNECTION),
    ):
        if issubclass(error_type, kinds):
            return category
    name = error_type.__name__
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
    is_invalid = issubclass(error_type, ValueError | TypeError)
    is_validation = is_invalid or "Validation" in name
    return ErrorCategory.VALIDATION if is_validation else ErrorCategory.OTHER


class Failure:
    """How a call failed: by an exception, or by returning a failed result."""

    __slots__ = ("captured", "category", "error_type", "message")

    def __init__(self, error: BaseException | None, result_error: str | None) -> None:
        self.captured = None if error is None else CapturedException(error)
        """The exception, whose stack is put into words by whoever sends it."""
        self.error_type = error_type_of(error)
        self.category = ErrorCategory.OTHER if error is None else categorize(error)
        message = "" if self.captured is None else self.captured.message
        self.message = result_error or message

    def exception(self) -> dict[str, AnyValue]:
        """Give the ``exception.*`` attributes; a stack is formatted only once."""
        return {} if self.captured is None else self.captured.attributes()


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


def mark_failed(
    span: Span,
    failure: Failure,
    *,
    record_exception: bool,
    moment_ns: int | None = None,
) -> None:
    """Put a failure on a span.

    Args:
        span: Of ours, or any other.
        failure: What happened.
        record_exception: Whether message and stack are told.
        moment_ns: When, nanoseconds since the epoch; now when not given.
    """
    captured = failure.captured if record_exception else None
    attributes = {
        C.ATTR_ERROR_TYPE: failure.error_type,
        C.ATTR_ERROR_CATEGORY: failure.category.value,
    }
    description = failure.error_type
    if record_exception:
        description = f"{failure.error_type}: {failure.message}"
    note = getattr(span, "note_failure", None)
    if note is not None:  # a span of ours
        note(captured, attributes, description, moment_ns)
        return
    span.set_attributes(attributes)
    if captured is not None:
        span.add_event("exception", captured.attributes())
    span.set_status(Status(StatusCode.ERROR, description))
