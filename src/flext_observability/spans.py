"""Spans around blocks."""

from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from . import runtime
from ._pipeline.exceptions import exception_attributes
from ._pipeline.values import (
    clean_attributes,
    clean_text,
    clean_value,
)
from .correlation import restore
from .failures import Failure, mark_failed
from .operation import span_kind


class FlextSpan:
    """A span around a block; its methods take any value and never raise.

    Made by :func:`flext_span`; a context manager, plain and async. Before setup, and
    where the sampler leaves the span out, all of it does nothing.
    """

    def __init__(
        self, name: str, attributes: Mapping[str, Any] | None, kind: str
    ) -> None:
        self._name = clean_text(name) or "span"
        self._attributes = clean_attributes(attributes)
        self._kind = span_kind(kind, self._name)
        self._span: Span = trace.INVALID_SPAN
        # Entered and not left yet: the span, and how to leave its context.
        self._entered: list[tuple[Span, Context, object]] = []

    def __enter__(self) -> Self:
        """Start the span and make it current."""
        self._span = trace.INVALID_SPAN
        if runtime.is_running():
            with suppress(Exception):  # telemetry never stops the host's block
                span = runtime.tracer().start_span(
                    self._name, kind=self._kind, attributes=self._attributes
                )
                context = trace.set_span_in_context(span)
                self._entered.append((span, context, attach(context)))
                self._span = span
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if not self._entered:
            return
        span, context, token = self._entered.pop()
        with suppress(Exception):  # telemetry never stops the host's block
            if error is not None and not isinstance(error, GeneratorExit):
                failure = Failure(error, None)
                mark_failed(span, failure, record_exception=True)
        with suppress(Exception):
            span.end()
        restore(token, context)

    async def __aenter__(self) -> Self:
        """Start the span and make it current."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        self.__exit__(kind, error, stack)

    @property
    def trace_id(self) -> str:
        """32 hex digits; all zero before setup."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits; all zero before setup."""
        return f"{self._span.get_span_context().span_id:016x}"

    def get_span_context(self) -> SpanContext:
        """Give the OTel span context."""
        return self._span.get_span_context()

    def is_recording(self) -> bool:
        """Whether anybody will see what is set here."""
        return self._span.is_recording()

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; any value is made legal."""
        if self._span.is_recording():
            self._span.set_attribute(clean_text(key), clean_value(value))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; any value is made legal."""
        _set_attributes(self._span, attributes)

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a moment to the span."""
        if self._span.is_recording():
            self._span.add_event(clean_text(name), clean_attributes(attributes))

    def record_exception(self, error: BaseException) -> None:
        """Add an exception that was handled inside; the status stays as it is."""
        if self._span.is_recording():
            self._span.add_event("exception", exception_attributes(error))

    def set_status(
        self, status: str | Status | StatusCode, description: str | None = None
    ) -> None:
        """Say how the block went; an exception that leaves it does so by itself.

        Args:
            status: ``"ok"`` or ``"error"``; OTel's own types work too.
            description: What went wrong; only kept with an error.
        """
        if isinstance(status, str):
            words = {"ok": StatusCode.OK, "error": StatusCode.ERROR}
            status = words.get(status.lower(), StatusCode.UNSET)
        if isinstance(status, StatusCode):
            is_error = status is StatusCode.ERROR and description is not None
            status = Status(status, clean_text(description) if is_error else None)
        if isinstance(status, Status):
            self._span.set_status(status)

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if self._span.is_recording():
            self._span.update_name(clean_text(name))


def _set_attributes(span: Span, attributes: object) -> None:
    if not span.is_recording():
        return
    for name, value in clean_attributes(attributes).items():
        span.set_attribute(name, value)


def flext_span(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: str = "internal",
) -> FlextSpan:
    """Make a span around a block: ``with`` or ``async with``.

    Args:
        name: Of the span.
        attributes: Any values.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.

    Example:
        >>> with flext_span("load", attributes={"rows": 3}) as span:
        ...     span.set_attribute("source", "cache")
    """
    return FlextSpan(name, attributes, kind)


def flext_add_attributes(**attributes: Any) -> None:
    """Put attributes on the current span; does nothing outside of one.

    Args:
        **attributes: Any values. For names that are no identifiers, use
            ``flext_add_attributes(**{"http.route": "/orders"})``.
    """
    _set_attributes(trace.get_current_span(), attributes)
