"""The library as these tests use it: set up in this process against any server."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import flext_observability as fo
from tests.fixtures.library import assert_balanced


class Server(Protocol):
    """What listens: a `Collector`, a `FaultServer` or a `Peer`."""

    protocol: Any
    endpoint: str


def start(server: Server, **fields: Any) -> None:
    """Set the library up against a server, traces alone unless told otherwise."""
    defaults: dict[str, Any] = {
        "endpoint": server.endpoint,
        "protocol": server.protocol,
        "metrics_enabled": False,
        "logs_enabled": False,
    }
    fo.setup(**({"service_name": "shop"} | defaults | fields)).unwrap()


def make(numbers: Iterable[int], **attributes: Any) -> None:
    """Make a span for each number, which is its attribute ``n``."""
    for number in numbers:
        with fo.flext_span("op", {"n": number, **attributes}):
            pass


def ledger(signal: str = "traces") -> Any:
    """The ledger of a signal, which balances."""
    assert_balanced(signal)
    return fo.status().signals[signal]


def rejected_files(tmp_path: Path) -> list[Path]:
    """Dead letters, in the spool that `tests.conftest` gives every test."""
    return sorted(
        path for path in (tmp_path / "spool").rglob("rejected/*") if path.is_file()
    )


def span_numbers(request: Any) -> list[int]:
    """The numbers in an export request of traces."""
    return [
        pair.value.int_value
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
        for pair in span.attributes
        if pair.key == "n"
    ]
