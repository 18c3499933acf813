"""Events of exceptions, whose attributes are made when somebody reads them."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, SpanLimits

from ..constants import FlextObservabilityConstants as C
from .exceptions import CapturedException


class ExceptionEvent(Event):
    """The event ``exception`` of a span."""

    def __init__(
        self,
        error: BaseException | CapturedException,
        limits: SpanLimits,
        more: Mapping[str, Any],
        *,
        escaped: bool | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Capture.

        Args:
            error: What happened.
            limits: Of the span.
            more: Further attributes; legal ones, and never changed.
            escaped: Value of ``exception.escaped``; none is sent when not given.
            timestamp: When it happened, nanoseconds since the epoch; now by default.
        """
        super().__init__("exception", timestamp=timestamp)
        self._error = (
            error if isinstance(error, CapturedException) else CapturedException(error)
        )
        self._limits = limits
        self._more = more
        if escaped is not None:
            self._more = {C.ATTR_EXCEPTION_ESCAPED: str(escaped), **self._more}
        self._made: BoundedAttributes | None = None

    def _attributes_made(self) -> BoundedAttributes:
        if self._made is None:
            self._made = BoundedAttributes(
                self._limits.max_event_attributes,
                {**self._error.attributes(), **self._more},
                max_value_len=self._limits.max_attribute_length,
            )
        return self._made

    @property
    def attributes(self) -> BoundedAttributes:
        """Type, message and stack."""
        return self._attributes_made()

    @property
    def dropped_attributes(self) -> int:
        """How many the limits left out."""
        return self._attributes_made().dropped
