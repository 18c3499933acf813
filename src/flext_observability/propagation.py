"""Correlation scopes, and headers into and out of this process."""

from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import cast

from opentelemetry.context import attach

from . import runtime
from .constants import FlextObservabilityConstants as C
from .correlation import (
    enter_correlation,
    extract,
    flext_get_correlation_id,
    inject,
    new_correlation_id,
    restore,
    valid_correlation_id,
)
from .result import FlextResult


def correlation_header() -> str:
    """Give the name of the header that carries the correlation id."""
    config = runtime.current_config()
    return C.HEADER_CORRELATION_ID if config is None else config.correlation_id_header


class CorrelationScope:
    """A block with a correlation id of its own, and perhaps a remote parent.

    A context manager, plain and async; entering gives the id in force.
    """

    def __init__(
        self,
        correlation_id: str | None,
        headers: object = None,
        *,
        is_fresh: bool,
    ) -> None:
        self._correlation_id = correlation_id
        self._headers = headers
        self._is_fresh = is_fresh
        self._tokens: list[object] = []

    def __enter__(self) -> str:
        """Enter; give the correlation id."""
        correlation_id = ""
        if self._headers is not None:
            try:
                context, correlation_id = extract(
                    self._headers, correlation_header(), runtime.current_propagator()
                )
                self._tokens.append(attach(context))
            except Exception:  # noqa: BLE001 - whatever a caller sent, we serve him
                correlation_id = ""
        if self._correlation_id is not None:
            correlation_id = valid_correlation_id(self._correlation_id)
        if not correlation_id and self._is_fresh:
            correlation_id = new_correlation_id()
        self._tokens.append(enter_correlation(correlation_id))
        return flext_get_correlation_id()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Restore what was before."""
        while self._tokens:
            restore(cast("Token[object]", self._tokens.pop()))

    async def __aenter__(self) -> str:
        """Enter; give the correlation id."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Restore what was before."""
        self.__exit__(kind, error, stack)


def flext_correlation_scope(
    correlation_id: str | None = None, *, headers: object = None
) -> CorrelationScope:
    """Give a block a correlation id; the former one is restored after it.

    Args:
        correlation_id: Text of 1 to 128 characters out of ``A-Z a-z 0-9 . _ -``;
            anything else is replaced by a fresh id, and so is ``None``.
        headers: Of an incoming request, in any common form: the id is taken from the
            correlation header, and the remote span becomes the current parent.

    Example:
        >>> with flext_correlation_scope("req-7") as correlation_id:
        ...     print(correlation_id)
        req-7
    """
    return CorrelationScope(correlation_id, headers, is_fresh=True)


def flext_extract_headers(headers: object) -> CorrelationScope:
    """Continue the trace of an incoming request inside a block.

    Makes the caller's span the current parent and takes over his baggage and
    correlation id. Without a correlation header none is set, and the trace id stands
    in for it.

    Args:
        headers: A mapping or pairs, text or bytes, names in any case.
    """
    return CorrelationScope(None, {} if headers is None else headers, is_fresh=False)


def flext_inject_headers(
    headers: Mapping[str, str] | None = None,
) -> FlextResult[dict[str, str]]:
    """Make the headers of an outgoing request.

    Args:
        headers: The request's own headers; they are left as they are.

    Returns:
        A copy with ``traceparent``, ``tracestate``, ``baggage`` and the correlation
        header, as far as there is something to say.
    """
    own: Mapping[str, str] = {} if headers is None else headers
    if not isinstance(own, Mapping):
        kind = type(cast("object", own)).__name__
        return FlextResult[dict[str, str]].fail(
            f"headers must be a mapping of text, got {kind}"
        )
    try:
        made = inject(own, correlation_header(), runtime.current_propagator())
    except Exception as error:  # noqa: BLE001 - headers of any kind of values
        return FlextResult[dict[str, str]].fail(
            f"headers cannot be made: {type(error).__name__}: {error}", exception=error
        )
    return FlextResult[dict[str, str]].ok(made)
