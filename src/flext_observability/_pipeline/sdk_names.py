"""Private names of the SDK's spans, which processors of others read and write.

Vendors tell people to write ``span._name`` and ``span._attributes``, since the SDK has
no public way once a span has ended. Ours answers to these names as well.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

_READ = {
    f"_{name}": attrgetter(name)
    for name in (
        *("name", "context", "parent", "kind", "status", "start_time", "end_time"),
        *("events", "links", "resource", "instrumentation_scope"),
    )
}


def _write_name(span: Any, name: Any) -> None:
    span.detailed().name = name


def _write_status(span: Any, status: Any) -> None:
    span.detailed().status = status


def _write_start(span: Any, time_ns: Any) -> None:
    span.started_ns = time_ns


def _write_end(span: Any, time_ns: Any) -> None:
    span.ended_ns = time_ns


def _write_parent(span: Any, parent: Any) -> None:
    span.parent_context = parent
    span.parent_id = 0 if parent is None else parent.span_id
    span.detailed().is_parent_remote = parent is not None and parent.is_remote


_WRITE: dict[str, Callable[[Any, Any], None]] = {
    "_name": _write_name,
    "_status": _write_status,
    "_start_time": _write_start,
    "_end_time": _write_end,
    "_parent": _write_parent,
}


def add_sdk_names(kind: type) -> None:
    """Let spans of a class answer to the SDK's private names.

    Args:
        kind: The class. Properties: a ``__getattr__`` would slow every access down.
    """
    for name, read in _READ.items():
        setattr(kind, name, property(read, _WRITE.get(name)))
