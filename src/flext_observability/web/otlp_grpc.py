"""OTLP/gRPC in: the three services on a loopback port."""

import errno
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

import grpc

from ..constants import Signal
from .otlp import (
    BODY_LIMIT_BYTES,
    PROTOBUF,
    SERVICES,
    ExportRequest,
    MalformedRequestError,
    Service,
    parse_request,
)

_CONCURRENCY: Final = 8
_WAITING: Final = 8
_STOP_GRACE_S: Final = 1.0

_OPTIONS: Final = (
    # Counts after decompression; gRPC stops inflating there.
    ("grpc.max_receive_message_length", BODY_LIMIT_BYTES),
    # Otherwise two receivers could share one port, each seeing half of the data.
    ("grpc.so_reuseport", 0),
)

Deliver = Callable[[Signal, ExportRequest], None]


class GrpcServer:
    """Takes export requests over gRPC and hands them to a callback.

    Args:
        host: loopback address.
        port: port, 0 for any free one.
        deliver: called with every request, from several threads.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, deliver: Deliver) -> None:
        self._workers = ThreadPoolExecutor(_CONCURRENCY, "flext-otlp-grpc")
        self._server = grpc.server(
            self._workers,
            options=_OPTIONS,
            maximum_concurrent_rpcs=_CONCURRENCY + _WAITING,
        )
        handlers = [_service_handler(service, deliver) for service in SERVICES]
        self._server.add_generic_rpc_handlers(handlers)
        literal = f"[{host}]" if ":" in host else host
        try:
            # gRPC would write its own words to stderr; a plain socket says it better.
            _check_free(host, port)
            self.port = int(self._server.add_insecure_port(f"{literal}:{port}"))
        except (OSError, RuntimeError) as error:
            number = getattr(error, "errno", None) or errno.EADDRINUSE
            reason = os.strerror(number)
            raise OSError(f"cannot listen on {literal}:{port}: {reason}") from error

    def start(self) -> None:
        """Begin to take requests."""
        self._server.start()

    def stop(self) -> None:
        """Let running requests end, for a second at most, and close the port."""
        self._server.stop(_STOP_GRACE_S).wait()
        self._workers.shutdown()


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port), family=family).close()


def _service_handler(service: Service, deliver: Deliver) -> grpc.GenericRpcHandler:
    def export(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            request = parse_request(service, body, PROTOBUF)
        except MalformedRequestError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise  # abort() never returns; type checkers cannot know
        deliver(service.signal, request)
        return service.response().SerializeToString()

    # Bytes in, bytes out: what cannot be parsed is our answer to give, not gRPC's.
    method = cast("Any", grpc.unary_unary_rpc_method_handler(export))
    return grpc.method_handlers_generic_handler(service.grpc_name, {"Export": method})
