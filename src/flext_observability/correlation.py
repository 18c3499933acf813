"""The correlation id of the current context, and headers that cross processes.

The only module that reads untrusted headers. It knows neither configuration nor the
running pipeline: header name and propagator are arguments.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextvars import Context as VariableContext
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import ParamSpec, TypeVar, cast
from uuid import uuid4

from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.util.types import AnyValue

from .constants import FlextObservabilityConstants

P = ParamSpec("P")
R = TypeVar("R")

# "" means unset. A default keeps `get` free of exceptions on the hot path.
correlation_id_variable: ContextVar[str] = ContextVar(
    "flext_correlation_id", default=""
)

# What a monitor's context says about everything begun inside; never changed in place.
attributes_variable: ContextVar[Mapping[str, AnyValue] | None] = ContextVar(
    "flext_context_attributes", default=None
)
_NO_ATTRIBUTES: Mapping[str, AnyValue] = MappingProxyType({})

# What a peer may send at most; longer headers are not looked at.
_HEADER_LENGTH_LIMIT = 16 * 1024


def new_correlation_id() -> str:
    """Make a fresh id: a random UUID as 32 hex digits."""
    return uuid4().hex


def valid_correlation_id(candidate: object) -> str:
    """Give the candidate when it is a legal id, else a fresh one.

    Args:
        candidate: Anything; legal is text of 1 to 128 characters out of
            ``A-Z a-z 0-9 . _ -``.
    """
    pattern = FlextObservabilityConstants.CORRELATION_ID_PATTERN
    if isinstance(candidate, str) and pattern.fullmatch(candidate):
        return str(candidate)
    return new_correlation_id()


def explicit_correlation_id() -> str:
    """Give the id that somebody set in this context, ``""`` when nobody did."""
    return correlation_id_variable.get()


def context_attributes() -> Mapping[str, AnyValue]:
    """Give the attributes of everything that begins in this context."""
    return attributes_variable.get() or _NO_ATTRIBUTES


def enter_attributes(attributes: Mapping[str, AnyValue]) -> object:
    """Add to the attributes of this context; give the token for :func:`restore`."""
    return attributes_variable.set({**context_attributes(), **attributes})


def flext_get_correlation_id() -> str:
    """Give the correlation id of the current context.

    Returns:
        The id that was set; inside a span without one, the trace id as 32 hex digits;
        ``""`` outside any span.
    """
    explicit = correlation_id_variable.get()
    if explicit:
        return explicit
    span_context = trace.get_current_span().get_span_context()
    return f"{span_context.trace_id:032x}" if span_context.is_valid else ""


def flext_set_correlation_id(correlation_id: str) -> None:
    """Set the correlation id of the current context.

    Tasks created from here inherit it; it never leaks back into the creator of this
    task or into other threads. To restore the former id, use
    ``flext_correlation_scope``.

    Args:
        correlation_id: Text of 1 to 128 characters out of ``A-Z a-z 0-9 . _ -``.
            Anything else is replaced by a fresh id.
    """
    correlation_id_variable.set(valid_correlation_id(correlation_id))


def enter_correlation(correlation_id: str) -> Token[str]:
    """Set an id already validated, or ``""``; give the token for :func:`restore`."""
    return correlation_id_variable.set(correlation_id)


def restore(token: object, set_here: object = None) -> None:
    """Undo a context switch, quietly when it happened in another context.

    A generator that is closed by the garbage collector or by another task ends in a
    context that the switch never touched. There is nothing to undo there, and the
    OTel API would log an error with a traceback. A copy of the context, though, holds
    what was switched to, and must let go of it.

    Args:
        token: Of the switch.
        set_here: What was switched to, if that is known.
    """
    if not isinstance(token, Token):
        detach(cast("Token[Context]", token))  # a foreign runtime context
        return
    switch = cast("Token[object]", token)
    try:
        switch.var.reset(switch)
    except (ValueError, RuntimeError):
        is_ours = set_here is not None and switch.var.get(None) is set_here
        if is_ours and switch.old_value is not Token.MISSING:
            switch.var.set(switch.old_value)
        elif is_ours:  # it was never set before: what it is where nothing is set
            switch.var.set(VariableContext().run(switch.var.get))


class OwnContext:
    """Our part of the current context, to run something with it elsewhere or later.

    That is the current span and baggage, the correlation id and a monitor's attributes.
    A copy of the whole context would bring the program's variables along, and keep
    from everybody else what is set inside.
    """

    __slots__ = ("_attributes", "_context", "_correlation_id")

    def __init__(self) -> None:
        self._take()

    def _take(self) -> None:
        self._context = get_current()
        self._correlation_id = correlation_id_variable.get()
        self._attributes = attributes_variable.get()

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function with it, as ``contextvars.Context.run`` does.

        What the function changes of it is there again in the next run, and never seen
        outside.
        """
        tokens = (
            attach(self._context),
            correlation_id_variable.set(self._correlation_id),
            attributes_variable.set(self._attributes),
        )
        try:
            return function(*args, **kwargs)
        finally:
            self._take()
            for token in tokens:
                restore(token)


def read_headers(headers: object) -> dict[str, str]:
    """Make lower-case text headers of whatever a framework hands over.

    Args:
        headers: A mapping or pairs; names and values text or bytes. What is neither,
            or longer than 16 KiB, is left out.
    """
    if isinstance(headers, Mapping):
        pairs: Iterable[object] = cast("Mapping[object, object]", headers).items()
    elif isinstance(headers, Iterable) and not isinstance(headers, str | bytes):
        pairs = cast("Iterable[object]", headers)
    else:
        return {}
    found: dict[str, str] = {}
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(cast("list[object]", pair)) != 2:  # noqa: PLR2004 - a pair
            continue
        name, value = (_header_text(part) for part in cast("list[object]", pair))
        if name and value is not None:
            _add_header(found, name.lower(), value)
    return found


def _add_header(found: dict[str, str], name: str, value: str) -> None:
    """Keep a header; W3C lets these two come in several parts."""
    if name in {"tracestate", "baggage"} and name in found:
        value = f"{found[name]},{value}"[:_HEADER_LENGTH_LIMIT]
    found[name] = value


def _header_text(part: object) -> str | None:
    if isinstance(part, bytes | bytearray):
        text = bytes(part[: _HEADER_LENGTH_LIMIT + 1]).decode("latin-1")
    elif isinstance(part, str):
        text = part
    elif isinstance(part, list | tuple) and part:
        return _header_text(cast("list[object]", part)[0])
    else:
        return None
    return text if len(text) <= _HEADER_LENGTH_LIMIT else None


def extract(
    headers: object, header_name: str, propagator: TextMapPropagator
) -> tuple[Context, str]:
    """Read the remote parent, baggage and correlation id of an incoming request.

    Args:
        headers: As for :func:`read_headers`.
        header_name: The correlation header, in any case.
        propagator: Reads the trace context.

    Returns:
        The context, to be made current, and the correlation id: a fresh one when the
        header holds no legal id, ``""`` when there is no such header.
    """
    found = {k: v for k, v in read_headers(headers).items() if _is_plain(v)}
    # A server span starts from its caller alone, not from what the thread did before.
    context = propagator.extract(found, context=_without_span(get_current()))
    context = _with_clean_baggage(context)
    sent = found.get(header_name.lower())
    return context, "" if sent is None else valid_correlation_id(sent)


def _without_span(context: Context) -> Context:
    return trace.set_span_in_context(trace.INVALID_SPAN, context)


def _is_plain(value: str) -> bool:
    """Whether a header value is printable ASCII; propagators log what they refuse."""
    return value.isascii() and value.replace("\t", " ").isprintable()


def _with_clean_baggage(context: Context) -> Context:
    """Take control characters out: percent-decoding lets line breaks through."""
    for key, value in baggage.get_all(context).items():
        text = str(value)
        if text.isprintable() and key.isprintable():
            continue
        context = baggage.remove_baggage(key, context)
        name = _printable(key)
        if name:
            context = baggage.set_baggage(name, _printable(text), context)
    return context


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


class CleanBaggage(TextMapPropagator):
    """Cleans what the propagators before it took from a carrier; sends nothing."""

    def extract(
        self,
        carrier: CarrierT,  # noqa: ARG002 - signature of the base
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,  # noqa: ARG002 - same
    ) -> Context:
        """Clean the baggage of the context."""
        return _with_clean_baggage(get_current() if context is None else context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Send nothing."""

    @property
    def fields(self) -> set[str]:
        """No header is ours."""
        return set()


def inject(
    headers: Mapping[str, str], header_name: str, propagator: TextMapPropagator
) -> dict[str, str]:
    """Copy headers and add the trace context and the correlation id to the copy.

    Args:
        headers: Left as they are.
        header_name: The correlation header; one of the same name in another case is
            replaced.
        propagator: Writes the trace context.
    """
    carrier: MutableMapping[str, str] = {}
    propagator.inject(carrier, setter=default_setter)
    correlation_id = flext_get_correlation_id()
    if correlation_id:
        carrier[header_name] = correlation_id
    ours = {name.lower() for name in carrier}
    kept = {name: text for name, text in headers.items() if name.lower() not in ours}
    return {**kept, **carrier}
