"""A request while it is served: its SERVER span, its correlation id, its duration.

Names and values are those of the stable HTTP conventions
(https://opentelemetry.io/docs/specs/semconv/http/). Nothing here raises: what cannot
be told about a request is left out, and the request is served.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from . import runtime
from ._pipeline.ids import random_bits
from ._pipeline.values import clean_text
from .constants import FlextObservabilityConstants as C
from .correlation import (
    enter_correlation,
    flext_get_correlation_id,
    new_correlation_id,
    restore,
)
from .failures import Failure, mark_failed
from .instruments import FlextHistogram
from .propagation import CorrelationScope, correlation_header, flext_extract_headers

Headers = Iterable[tuple[str, str]]

# Headers that no propagator reads; without them, reading the others costs half.
UNREAD_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "authorization"),
        *("cache-control", "connection", "content-length", "content-type", "cookie"),
        *("host", "if-modified-since", "if-none-match", "keep-alive", "origin"),
        *("pragma", "referer", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"),
        *("transfer-encoding", "upgrade-insecure-requests", "user-agent"),
    }
)
# Addresses that the internet does not lead to. Not `is_private`: that counts networks
# for documentation, and every IPv4 address inside of IPv6.
_OWN_NETWORKS = tuple(
    map(
        ip_network,
        (
            *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
            *("169.254.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7", "fe80::/10"),
        ),
    )
)
_SERVER_ERROR = 500
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What is known of a request when it comes in."""

    method: str
    path: str
    query: str
    scheme: str
    host: str
    """The ``Host`` header."""
    client: str
    """Address of the peer."""
    version: str
    """Of HTTP: ``1.1``, ``2``."""
    agent: str
    """The ``User-Agent`` header."""

    def label_method(self) -> str:
        """Give the method as a label: one of few."""
        return self.method if self.method in C.HTTP_METHODS else "_OTHER"

    def attributes(self) -> dict[str, Any]:
        """Give the attributes of the span."""
        method = self.label_method()
        address, _, port = self.host.rpartition(":")
        if not (port.isascii() and port.isdigit()):
            address, port = self.host, ""
        found: dict[str, Any] = {
            C.ATTR_HTTP_METHOD: method,
            C.ATTR_URL_SCHEME: self.scheme,
            C.ATTR_URL_PATH: clean_text(self.path),
        }
        told = (
            (C.ATTR_URL_QUERY, self.query),
            (C.ATTR_SERVER_ADDRESS, address),
            (C.ATTR_CLIENT_ADDRESS, self.client),
            (C.ATTR_PROTOCOL_VERSION, self.version),
            (C.ATTR_USER_AGENT, self.agent),
            (C.ATTR_HTTP_METHOD_ORIGINAL, "" if method == self.method else self.method),
        )
        found.update((name, clean_text(value)) for name, value in told if value)
        if port and len(port) <= len(str(_HIGHEST_PORT)):
            found[C.ATTR_SERVER_PORT] = int(port)
        return found


class Part(Enum):
    """What is told of a request; its correlation id is answered in any case."""

    ALL = auto()
    """A span and a measurement."""
    SPAN = auto()
    """A span: the connection of a websocket says nothing about durations."""
    ID = auto()
    """Nothing more: somebody else makes a span of it, which is current."""
    NOTHING = auto()
    """It, and all that happens inside, is no part of any trace."""


class ServedRequest:
    """One request, from its head to the last byte of its response.

    Args:
        head: What is known of it.
        headers: All that may matter to propagators, or more.
        trusts_caller: Whether the caller's trace is continued and his correlation id
            taken. If not, the request begins a trace of its own with a link to his.
            ``None`` trusts whoever :func:`is_near`.
        part: What of it is told.
    """

    __slots__ = (
        *("_began_s", "_context", "_head", "_part", "_scope", "_span", "_tokens"),
        *("correlation_id", "is_over", "route", "status"),
    )

    def __init__(
        self,
        head: RequestHead,
        headers: object,
        *,
        trusts_caller: bool | None = None,
        part: Part,
    ) -> None:
        self._head = head
        self._part = part
        self._span: Span = trace.INVALID_SPAN
        self._context: Context | None = None
        self._tokens: list[object] = []
        self._scope: CorrelationScope | None = None
        self.correlation_id = ""
        self.is_over = False
        self.status: int | None = None
        """Of the response, once it has begun."""
        self.route = ""
        """Template of the path, where the framework tells it."""
        self._began_s = time.perf_counter()
        with suppress(Exception):  # telemetry never stops a request
            if trusts_caller is None:
                trusts_caller = is_near(head.client)
            self._begin(headers, trusts_caller)
        if not self.correlation_id:
            self.correlation_id = new_correlation_id()

    def _begin(
        self,
        headers: object,
        trusts_caller: bool,  # noqa: FBT001 - private
    ) -> None:
        links: list[Link] = []
        if not trusts_caller:
            links, headers = _links_to(headers), ()
        above = trace.get_current_span()
        self._scope = flext_extract_headers(headers)
        self._scope.__enter__()
        if self._part is Part.ID:
            self._make_current(above)
        elif self._part is Part.NOTHING:
            self._make_current(_unsampled())
        elif runtime.is_running():
            name = self._head.label_method()
            span = runtime.tracer().start_span(
                "HTTP" if name == "_OTHER" else name,
                kind=SpanKind.SERVER,
                attributes=self._head.attributes(),
                links=links,
            )
            self._span = span
            self._make_current(span)
        self.correlation_id = flext_get_correlation_id()
        if not self.correlation_id:  # nobody traces: the logs still have one id
            self.correlation_id = new_correlation_id()
            self._tokens.append(enter_correlation(self.correlation_id))

    def _make_current(self, span: Span) -> None:
        self._context = trace.set_span_in_context(span)
        self._tokens.append(attach(self._context))

    def fail(self, error: BaseException) -> None:
        """Note an exception that left the application; its server answers 500.

        Args:
            error: The exception. One that is no ``Exception``, a cancellation, say, is
                answered by nobody.
        """
        if self.is_over:
            return
        if self.status is None and isinstance(error, Exception):
            self.status = _SERVER_ERROR
        with suppress(Exception):
            if not isinstance(error, GeneratorExit):
                mark_failed(self._span, Failure(error, None), record_exception=True)
        self.end(error_type=type(error).__name__)

    def end(self, error_type: str = "") -> None:
        """End span and measurement; the response is out. Harmless when repeated.

        Args:
            error_type: Of the exception that ended it.
        """
        if self.is_over:
            return
        self.is_over = True
        with suppress(Exception):  # telemetry never stops a request
            self._end(error_type)
        with suppress(Exception):
            self._span.end()

    def _end(self, error_type: str) -> None:
        duration_s = time.perf_counter() - self._began_s
        status, head, span = self.status, self._head, self._span
        if not error_type and status is not None and status >= _SERVER_ERROR:
            error_type = str(status)
            span.set_attribute(C.ATTR_ERROR_TYPE, error_type)
            span.set_status(Status(StatusCode.ERROR))
        labels: dict[str, Any] = {
            C.ATTR_HTTP_METHOD: head.label_method(),
            C.ATTR_URL_SCHEME: head.scheme,
        }
        if head.version:
            labels[C.ATTR_PROTOCOL_VERSION] = head.version
        if status is not None:
            span.set_attribute(C.ATTR_HTTP_STATUS_CODE, status)
            labels[C.ATTR_HTTP_STATUS_CODE] = status
        if self.route:
            span.set_attribute(C.ATTR_HTTP_ROUTE, self.route)
            span.update_name(f"{head.label_method()} {self.route}")
            labels[C.ATTR_HTTP_ROUTE] = self.route
        if error_type:
            labels[C.ATTR_ERROR_TYPE] = error_type
        if self._part is Part.ALL and runtime.is_running():
            _record(duration_s, labels, self._context)

    def leave(self) -> None:
        """Restore the context that was there before."""
        with suppress(Exception):
            while self._tokens:
                restore(self._tokens.pop(), self._context)
            if self._scope is not None:
                self._scope.__exit__(None, None, None)

    def response_header(self) -> tuple[str, str]:
        """Give the header that tells the caller his correlation id."""
        return correlation_header(), self.correlation_id


def _record(duration_s: float, labels: dict[str, Any], context: Context | None) -> None:
    histogram: FlextHistogram = runtime.kept(C.METRIC_SERVER_DURATION, _make_histogram)
    # Within the span's context: an exemplar leads to it.
    token = attach(context or Context())
    try:
        histogram.record(duration_s, labels)
    finally:
        restore(token)


def _make_histogram() -> FlextHistogram:
    return FlextHistogram(
        C.METRIC_SERVER_DURATION, "s", "Duration of HTTP server requests."
    )


def _links_to(headers: object) -> list[Link]:
    """Give a link to the caller's span, whose word on anything else is not taken."""
    with flext_extract_headers(headers):
        context = trace.get_current_span().get_span_context()
    return [Link(context)] if context.is_valid else []


@lru_cache(maxsize=4096)  # callers come again
def is_near(client: str) -> bool:
    """Whether a peer is on this machine or in a private network, not in the internet.

    Args:
        client: Its address. A peer without one comes by a socket of this machine, or is
            a client of tests; their names have no digits.
    """
    try:
        address = ip_address(client)
    except ValueError:
        return client.startswith("unix:") or not any(map(str.isdigit, client))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in _OWN_NETWORKS)


def _unsampled() -> Span:
    """Make a parent that keeps what happens below it out of every trace."""
    above = trace.get_current_span().get_span_context()
    trace_id = above.trace_id if above.is_valid else random_bits(128) or 1
    context = SpanContext(
        trace_id,
        random_bits(64) or 1,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.DEFAULT),
    )
    return NonRecordingSpan(context)


def left_out(paths: Iterable[str]) -> Callable[[str], bool]:
    """Make the test whether a path is left out of traces and measurements.

    Args:
        paths: Whole paths, or their beginnings with a ``*`` at the end.
    """
    whole = frozenset(path.rstrip("/") or "/" for path in paths if path[-1:] != "*")
    beginnings = tuple(path[:-1] for path in paths if path[-1:] == "*")

    def is_left_out(path: str) -> bool:
        return (path.rstrip("/") or "/") in whole or path.startswith(beginnings)

    return is_left_out
