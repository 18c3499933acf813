"""Spans around blocks."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from . import runtime
from ._pipeline.current import leave
from ._pipeline.exceptions import exception_attributes
from ._pipeline.interrupts import is_of_host
from ._pipeline.values import (
    clean_attributes,
    clean_text,
    clean_value,
)
from .constants import FlextObservabilityConstants as C
from .failures import Failure, mark_failed
from .operation import span_kind

if TYPE_CHECKING:
    from ._pipeline.pipeline import Pipeline
    from ._pipeline.span_shape import SpanShape
    from ._pipeline.tracing import Tracing


class _OwnSpans:
    """What ``flext_span`` needs where the pipeline makes spans our own way."""

    def __init__(self) -> None:
        self._tracing: Tracing | None = None
        self.shapes: dict[tuple[str, str], SpanShape] = {}
        """By name and kind as they were given."""
        self.start: Callable[[SpanShape], tuple[Any, Any]] | None = None
        """Starts a span and makes it current; ``None`` where that is not our way."""
        self.start_with: Callable[..., tuple[Any, Any]] | None = None
        """The same, with attributes."""

    def follow(self, pipeline: "Pipeline | None") -> None:
        """Take the pipeline of the moment, or none."""
        self.start = None
        tracing = self._tracing = None if pipeline is None else pipeline.tracing
        # After that of what they are made for: see `shape`.
        self.shapes = {}
        if tracing is not None:
            from ._pipeline.span_start import start_current, start_current_with

            self.start_with = start_current_with
            self.start = start_current

    def shape(self, name: str, kind: str) -> "SpanShape":
        """Make what spans of one name share; not too many are kept."""
        from ._pipeline.span_start import own_shape

        # The other way round, one of a former pipeline might stay for good.
        shapes, tracing = self.shapes, self._tracing
        if tracing is None:
            raise RuntimeError("the pipeline went away")
        text = clean_text(name) or "span"
        shape = own_shape(text, span_kind(kind, text), None, tracing)
        if len(name) <= C.SPAN_NAME_KEPT:  # others are made at run time
            if len(shapes) >= C.SPAN_NAMES_KEPT:
                shapes.clear()
            shapes[name, kind] = shape
        return shape


_own = _OwnSpans()
runtime.follow(_own)


class FlextSpan:
    """A span around a block; its methods take any value and never raise.

    Made by :func:`flext_span`; a context manager, plain and async. Before setup, and
    where the sampler leaves the span out, all of it does nothing.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_depth",
        "_kind",
        "_name",
        "_outer",
        "_span",
        "_token",
    )

    def __init__(
        self, name: str, attributes: Mapping[str, Any] | None, kind: str
    ) -> None:
        self._name = name if type(name) is str else clean_text(name)
        self._kind = kind if type(kind) is str else clean_text(kind)
        self._attributes = clean_attributes(attributes) if attributes else None
        self._span: Span = trace.INVALID_SPAN
        self._token: Any = None
        self._depth = 0  # entered and not left
        # Where it was entered again before it was left.
        self._outer: list[tuple[Span, Any]] = []

    def __enter__(self) -> Self:
        """Start the span and make it current."""
        if self._depth:
            self._outer.append((self._span, self._token))
        self._depth += 1
        try:
            start = _own.start
            if start is None:
                self._span, self._token = self._started_otherwise()
                return self
            key = (self._name, self._kind)
            shape = _own.shapes.get(key) or _own.shape(*key)
            if self._attributes and _own.start_with:
                self._span, self._token = _own.start_with(shape, self._attributes)
            else:
                self._span, self._token = start(shape)
        except Exception as trouble:  # telemetry never stops the host's block
            self._span, self._token = trace.INVALID_SPAN, None
            if is_of_host(trouble):
                self._depth -= 1
                raise
        return self

    def _started_otherwise(self) -> tuple[Span, Any]:
        """Start a span where there is no pipeline, or where it is the SDK's."""
        if not runtime.is_running():
            return trace.INVALID_SPAN, None
        name = self._name or "span"
        span = runtime.tracer().start_span(
            name, kind=span_kind(self._kind, name), attributes=self._attributes
        )
        return span, attach(trace.set_span_in_context(span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if not self._depth:
            return
        self._depth -= 1
        span, token = self._span, self._token
        if self._outer:
            self._span, self._token = self._outer.pop()
        if token is None:
            return
        if error is not None and not isinstance(error, GeneratorExit):
            with suppress(Exception):  # telemetry never stops the host's block
                mark_failed(span, Failure(error, None), record_exception=True)
        try:
            span.end()
        except Exception as trouble:
            if error is None and is_of_host(trouble):
                raise
        finally:
            leave(token, span)

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
