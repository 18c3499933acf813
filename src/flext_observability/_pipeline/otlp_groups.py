"""Export requests: records grouped by resource, then by scope.

The requests of all three signals have one layout: groups of a resource hold groups of a
scope, which hold the records; both kinds of group end with a schema URL.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .otlp_wire import attributes_bytes, either, sized, text_field, varint


class Record(Protocol):
    """What spans and log records have in common."""

    @property
    def resource(self) -> Resource:
        """Where it comes from."""
        ...

    @property
    def instrumentation_scope(self) -> InstrumentationScope | None:
        """What made it."""
        ...


R = TypeVar("R", bound=Record)

# Both are few and live long; where they are not, a full table starts afresh.
_SOURCES_KEPT = 512


class Source:
    """A resource or a scope, with what is needed of it more than once.

    Hashing a resource means dumping it to JSON, so that is done once. Sources are equal
    when what they stand for is.
    """

    __slots__ = ("_hash", "_of", "_schema", "_start")

    def __init__(self, of: Any, body: bytes, schema_url: str | None) -> None:
        """Keep what a group starts and ends with.

        Args:
            of: The resource or the scope; ``None`` for no scope.
            body: Its message.
            schema_url: Of the records that come from it.
        """
        self._of = of
        self._start = b"\x0a" + sized(body)
        self._schema = text_field(b"\x1a", schema_url)
        self._hash = hash(of)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and bool(self._of == other._of)

    def group(self, tag: bytes, inner: Iterable[bytes]) -> bytes:
        """Lay out a group: the source, what is in it, the schema URL."""
        return tag + sized(b"".join((self._start, *inner, self._schema)))


# The bodies of records, by resource and by scope.
_Groups = dict[Source, dict[Source, list[bytes]]]

_NO_SCOPE = Source(None, b"", None)
# By identity: equal ones may differ in the order of attributes, or in 1 and True. Each
# holds what it stands for, so no other object takes over the identity.
_known: dict[int, Source] = {}


def resource_source(resource: Resource) -> Source:
    """Give the source that is a resource."""
    known = _known.get(id(resource))
    if known is not None:
        return known
    return _kept(resource, either(_resource, _stock_resource, resource))


def scope_source(scope: InstrumentationScope | None) -> Source:
    """Give the source that is a scope."""
    if scope is None:
        return _NO_SCOPE
    known = _known.get(id(scope))
    if known is not None:
        return known
    return _kept(scope, either(_scope, _stock_scope, scope))


def _kept(found: object, source: Source) -> Source:
    # What is kept must not change: other classes than the SDK's may.
    if type(found) in {Resource, InstrumentationScope}:
        if len(_known) >= _SOURCES_KEPT:
            _known.clear()
        _known[id(found)] = source
    return source


def _resource(resource: Resource) -> Source:
    body = attributes_bytes(b"\x0a", resource.attributes)
    return Source(resource, body, resource.schema_url)


def _stock_resource(resource: Resource) -> Source:
    group = _stock_group(ResourceMetrics(resource, [], ""))
    return Source(resource, group.resource.SerializeToString(), group.schema_url)


def _scope(scope: InstrumentationScope) -> Source:
    body = (
        text_field(b"\x0a", scope.name),
        text_field(b"\x12", scope.version),
        attributes_bytes(b"\x1a", scope.attributes),
    )
    return Source(scope, b"".join(body), scope.schema_url)


def _stock_scope(scope: InstrumentationScope) -> Source:
    scopes = [ScopeMetrics(scope, [], "")]
    (group,) = _stock_group(ResourceMetrics(Resource({}), scopes, "")).scope_metrics
    return Source(scope, group.scope.SerializeToString(), group.schema_url)


def _stock_group(metrics: ResourceMetrics) -> Any:
    # Resources and scopes are the same in the requests of all signals.
    (group,) = encode_metrics(MetricsData([metrics])).resource_metrics
    return group


class Groups:
    """An export request in the making: where the bodies of records are gathered."""

    def __init__(self) -> None:
        self._groups: _Groups = {}
        # By identity, as comparing resources is slow. What is kept beside a list stays
        # alive, and so its identity stays its own.
        self._lists: dict[tuple[int, int], tuple[list[bytes], object, object]] = {}

    def of(self, resource: Resource, scope: InstrumentationScope | None) -> list[bytes]:
        """Give the list for records of that origin: tag, length and body of each."""
        key = id(resource), id(scope)
        known = self._lists.get(key)
        if known is None:
            scopes = self._groups.setdefault(resource_source(resource), {})
            parts = scopes.setdefault(scope_source(scope or None), [])
            known = self._lists[key] = parts, resource, scope
        return known[0]

    def add(self, record: Record, body: bytes) -> None:
        """Take a record that is laid out."""
        parts = self.of(record.resource, record.instrumentation_scope)
        parts += (b"\x12", varint(len(body)), body)

    def request(self) -> bytes:
        """Lay out the request; groups stand in the order of their first records."""
        return b"".join(
            resource.group(
                b"\x0a",
                [scope.group(b"\x12", parts) for scope, parts in scopes.items()],
            )
            for resource, scopes in self._groups.items()
        )


def request_bytes(records: Iterable[R], body_of: Callable[[R], bytes]) -> bytes:
    """Lay out an export request of spans or of log records.

    Args:
        records: The groups stand in the order of their first records.
        body_of: Lays out one record.
    """
    groups = Groups()
    last: tuple[object, object] = (groups, groups)  # neither a resource nor a scope
    parts: list[bytes] = []
    for record in records:
        resource, scope = record.resource, record.instrumentation_scope
        if resource is not last[0] or scope is not last[1]:
            last = resource, scope
            parts = groups.of(resource, scope)
        body = body_of(record)
        parts += (b"\x12", varint(len(body)), body)
    return groups.request()
