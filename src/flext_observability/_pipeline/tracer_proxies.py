"""The tracer provider that OpenTelemetry is given once, and its tracers."""

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.util.types import Attributes

from ..constants import FlextObservabilityConstants as C
from ..correlation import restore
from ..own_log import WARNING, say
from .exchange import Exchangeable
from .guards import (
    guarded_span,
    legal_attributes,
    legal_links,
    legal_scope,
    note_error,
)
from .span_shape import SpanShape
from .span_start import start
from .spans import RecordingSpan
from .tracing import PipelineTracerProvider, Tracing
from .values import clean_attributes, clean_text

_NO_TRACER = trace.NoOpTracer()


class TracerProxy(trace.Tracer):
    """A tracer that follows the pipeline of the moment."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._arguments = arguments
        self._tracer: trace.Tracer = _NO_TRACER
        self._tracing: Tracing | None = None
        self._scope = _scope(*arguments)
        self._shapes: dict[tuple[str, SpanKind], SpanShape] = {}

    def follow(self, provider: trace.TracerProvider | None) -> None:
        """Take the tracer of another provider, or none."""
        self._tracing = None
        self._tracer = (
            _NO_TRACER if provider is None else provider.get_tracer(*self._arguments)
        )
        if isinstance(provider, PipelineTracerProvider):
            self._tracing = provider.tracing
        # After that of what they are made for: see `start_span`.
        self._shapes = {}

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - signature of the API
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - same
    ) -> Span:
        """Start a span with the tracer of the moment; any values."""
        # The other way round, a shape of a former pipeline might stay for good.
        shapes, tracing = self._shapes, self._tracing
        if tracing is None:
            return self._start_sdk_span(
                *(name, context, kind, attributes, links, start_time),
                *(record_exception, set_status_on_exception),
            )
        try:
            shape = shapes.get((name, kind))
            if shape is None:
                shape = self._shape(tracing, name, kind, shapes)
            legal = legal_attributes(attributes) if attributes else None
            led = legal_links(links) if links else ()
            span = start(shape, context, legal, led, start_time)
        except Exception:  # noqa: BLE001 - whatever the values raise
            shape = self._shape(tracing, name, kind, shapes)
            legal, led = clean_attributes(attributes), legal_links(links)
            try:
                span = start(shape, context, legal, led, start_time)
            except Exception:  # noqa: BLE001 - the context is none
                span = start(shape, None, legal, led, start_time)
        if type(span) is RecordingSpan:
            if not record_exception:
                span.detailed().records_errors = False
            if not set_status_on_exception:
                span.detailed().marks_errors = False
        return span

    def _shape(
        self,
        tracing: Tracing,
        name: str,
        kind: SpanKind,
        shapes: dict[tuple[str, SpanKind], SpanShape],
    ) -> SpanShape:
        """Make what spans of one name share; names made at run time are not kept."""
        found: object = kind  # whatever the types say
        legal_kind = found if isinstance(found, SpanKind) else SpanKind.INTERNAL
        text = name if type(name) is str else clean_text(name)
        shape = SpanShape(text, legal_kind, None, self._scope, tracing)
        if text is not name or legal_kind is not kind:
            return shape  # what is none may not be hashable, or equal another name
        if len(text) <= C.SPAN_NAME_KEPT:
            if len(shapes) >= C.SPAN_NAMES_KEPT:
                shapes.clear()
            shapes[name, kind] = shape
        return shape

    def _start_sdk_span(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link] | None,
        start_time: int | None,
        record_exception: bool,  # noqa: FBT001 - as in the API
        set_status_on_exception: bool,  # noqa: FBT001 - as in the API
    ) -> Span:
        start_span = partial(
            self._tracer.start_span,
            name,
            context,
            kind,
            start_time=start_time,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )
        try:
            led = legal_links(links) if links else ()
            return guarded_span(
                start_span(attributes=legal_attributes(attributes), links=led)
            )
        except Exception:  # noqa: BLE001 - whatever the values raise
            legal = clean_attributes(attributes)
        try:
            return guarded_span(start_span(attributes=legal, links=legal_links(links)))
        except Exception as error:  # noqa: BLE001 - a sampler of the caller's
            say(WARNING, "no span can be started: %s", type(error).__name__)
            return trace.INVALID_SPAN

    def start_as_current_span(  # type: ignore[override]  # ours is no generator
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - signature of the API
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - same
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - same
    ) -> "CurrentSpan":
        """Start a span and make it current with the tracer of the moment.

        As a decorator it asks for that tracer at every call, as OTel's own proxy does.
        """
        return CurrentSpan(
            self,
            (
                *(name, context, kind, attributes, links, start_time),
                *(record_exception, set_status_on_exception),
            ),
            is_ending=end_on_exit,
        )

    def __getattr__(self, name: str) -> Any:
        """Give what an SDK tracer has beyond the API."""
        return getattr(self.__dict__["_tracer"], name)


class CurrentSpan:
    """What ``start_as_current_span`` gives: a context manager, and a decorator."""

    __slots__ = ("_arguments", "_ends", "_span", "_token", "_tracer")

    def __init__(
        self,
        tracer: TracerProxy,
        arguments: tuple[Any, ...],
        *,
        is_ending: bool,
    ) -> None:
        """Prepare.

        Args:
            tracer: Starts the span.
            arguments: All those of ``start_span``.
            is_ending: Whether leaving the block ends it.
        """
        self._tracer = tracer
        self._arguments = arguments
        self._ends = is_ending
        self._span: Span = trace.INVALID_SPAN
        self._token: object = None

    def __enter__(self) -> Span:
        """Start the span and make it current."""
        self._span = self._tracer.start_span(*self._arguments)
        self._token = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End the span; an exception is recorded and passes through."""
        if isinstance(error, Exception):
            # The SDK's own would raise for an exception that has no text.
            is_recording, is_marking = self._arguments[-2:]
            note_error(self._span, error, record=is_recording, set_status=is_marking)
        restore(self._token)
        if self._ends:
            self._span.end()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: every call has a span of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    return await function(*args, **kwargs)

            return call_async

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                return function(*args, **kwargs)

        return call

    def _anew(self) -> "CurrentSpan":
        return CurrentSpan(self._tracer, self._arguments, is_ending=self._ends)


def _scope(
    name: str,
    version: str | None,
    schema_url: str | None,
    attributes: Attributes,
) -> InstrumentationScope:
    """Give the scope that the SDK makes of a tracer's arguments."""
    return InstrumentationScope(name or "", version or "", schema_url, attributes)


class TracerProviderProxy(Exchangeable[trace.TracerProvider], trace.TracerProvider):
    """The process's tracer provider."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Give a tracer that follows the pipeline of the moment."""
        tracer = TracerProxy(
            legal_scope(
                instrumenting_module_name,
                instrumenting_library_version,
                schema_url,
                attributes,
            )
        )
        self.add(tracer)
        return tracer
