"""What all spans of one operation share."""

from typing import Any, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import Attributes

from ..constants import FlextObservabilityConstants as C
from .guards import is_plain
from .tracing import Tracing


class SpanShape:
    """What all spans of one operation share."""

    __slots__ = (
        "__weakref__",
        "attributes",
        "dropped",
        "encoded",
        "has_room",
        "is_clean",
        "is_special",
        "kind",
        "limits",
        "name",
        "scope",
        "takes_all",
        "tracing",
    )

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        scope: InstrumentationScope,
        tracing: Tracing,
    ) -> None:
        """Prepare.

        Args:
            name: Of the spans.
            kind: Of the spans.
            attributes: That every span has; legal ones.
            scope: Of the tracer.
            tracing: Of the pipeline.
        """
        self.name = name
        self.kind = kind
        self.scope = scope
        self.tracing = tracing
        self.takes_all = tracing.takes_all
        tracing.shapes.add(self)
        self.limits = tracing.limits
        self.attributes, self.dropped = within_limits(attributes, self.limits)
        most = self.limits.max_span_attributes
        # A correlation id goes beside the attributes, where the limit allows one more.
        self.has_room = (
            (most is None or len(self.attributes) < most)
            and self.limits.max_span_attribute_length is None
            and C.ATTR_CORRELATION_ID not in self.attributes
        )
        # Processors of others are known by then, or are told of by the tracing.
        self.is_special = tracing.has_processors or not self.has_room
        """Whether starting a span takes more than the usual steps."""
        self.is_clean: bool | None = None
        """Whether name and attributes are legal and no secret; unknown at first."""
        self.encoded: tuple[bytes, bytes] | None = None
        """Name and kind, and the attributes, as the encoder laid them out."""


def within_limits(
    attributes: Attributes, limits: SpanLimits
) -> tuple[dict[str, Any], int]:
    """Give attributes as the SDK would keep them, and how many it would not.

    Args:
        attributes: Legal ones.
        limits: Number of attributes and length of texts.
    """
    if not attributes:
        return {}, 0
    most, length = limits.max_span_attributes, limits.max_span_attribute_length
    if length is None and is_plain(attributes):
        plain = cast("dict[str, Any]", attributes).copy()
        if most is None or len(plain) <= most:
            return plain, 0
    bounded = BoundedAttributes(most, attributes, max_value_len=length)
    return dict(bounded), bounded.dropped
