"""An OTLP receiver inside the process: what arrives can be looked at, nothing leaves.

It stands in for a collector during development, in the demo and in tests. It listens on
loopback only; a mode for other addresses, protected by a token, is a later matter.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Self

from ..constants import Signal
from .otlp import ExportRequest
from .otlp_grpc import GrpcServer
from .otlp_http import HttpServer
from .store import TelemetryStore

_LOCALHOST: Final = "127.0.0.1"


class Receiver:
    """Receives OTLP over HTTP and gRPC into a bounded in-memory store.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        host: loopback address or ``localhost``.
        http_port: port of OTLP/HTTP, 0 for any free one.
        grpc_port: port of OTLP/gRPC, 0 for any free one.
        store: where the records go; a new store with the usual bounds by default.
        on_request: called with every request after it was stored, from several threads.

    Raises:
        ValueError: the host is not a loopback address.
    """

    def __init__(
        self,
        host: str = _LOCALHOST,
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        store: TelemetryStore | None = None,
        on_request: Callable[[Signal, ExportRequest], None] | None = None,
    ) -> None:
        self._host = _loopback_address(host)
        self._ports = http_port, grpc_port
        self._on_request = on_request
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self.store = store or TelemetryStore()

    @property
    def http_endpoint(self) -> str:
        """Base URL for OTLP/HTTP exporters, without the path of a signal."""
        return self._url(self._http)

    @property
    def grpc_endpoint(self) -> str:
        """URL for OTLP/gRPC exporters."""
        return self._url(self._grpc)

    def start(self) -> None:
        """Listen on both ports.

        Raises:
            OSError: a port is taken; then neither is open.
        """
        http_port, grpc_port = self._ports
        self._http = HttpServer(self._host, http_port, self._deliver)
        try:
            self._grpc = GrpcServer(self._host, grpc_port, self._deliver)
        except OSError:
            self.stop()
            raise
        self._http.start()
        self._grpc.start()

    def stop(self) -> None:
        """Let running requests end and close both ports; harmless when repeated."""
        http, self._http = self._http, None
        grpc, self._grpc = self._grpc, None
        if http:
            http.stop()
        if grpc:
            grpc.stop()

    def __enter__(self) -> Self:
        """Start listening."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop listening."""
        self.stop()

    def _deliver(self, signal: Signal, request: ExportRequest) -> None:
        self.store.add(signal, request)
        if self._on_request:
            self._on_request(signal, request)

    def _url(self, server: HttpServer | GrpcServer | None) -> str:
        if server is None:
            raise RuntimeError("the receiver is not running")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{server.port}"


def _loopback_address(host: str) -> str:
    if host == "localhost":
        return _LOCALHOST
    try:
        if ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(
        f"the receiver listens on loopback only, not on {host!r}: "
        "use 127.0.0.1, ::1 or localhost"
    )
