"""How one OTLP request is made.

A transport never retries and never decides: it reports a verdict, and the delivery
acts on it.
"""

from typing import Protocol

from .endpoint import Endpoint
from .verdict import Verdict


class Transport(Protocol):
    """Makes requests to one endpoint, one at a time."""

    def send(self, body: bytes, timeout_s: float) -> Verdict:
        """Send one serialized export request; the time holds for all of it."""
        ...

    def close(self) -> None:
        """Drop connections; a request under way may end early."""
        ...


def make_transport(endpoint: Endpoint) -> Transport:
    """Make the transport of an endpoint's protocol; nothing is connected yet."""
    # Each loads a client library of some weight, here, by whoever calls setup(): an
    # import in our thread while the program forks would leave the child a held lock.
    if endpoint.protocol == "grpc":
        from .grpc_transport import GrpcTransport

        return GrpcTransport(endpoint)
    from .http_transport import HttpTransport

    return HttpTransport(endpoint)
