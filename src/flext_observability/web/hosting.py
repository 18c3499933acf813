"""uvicorn as we run it: inside a program, or as one of its own."""

import asyncio
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from .._pipeline.own_work import own_work
from ..access import AccessRules, check_reach
from ..container import FlextContainer
from ..errors import FlextObservabilityConfigurationError
from ..own_log import INFO, say
from ..settings import Settings

_CONNECTION_LIMIT: Final = 512
_BACKLOG: Final = 128
_START_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 1.8
MISSING: Final = (
    "the operations server needs FastAPI and uvicorn: "
    "pip install 'flext-observability[server]'"
)


@dataclass(frozen=True, slots=True)
class HostingPlan:
    """Where and for whom to serve."""

    host: str
    port: int
    token: str | None
    allowed_hosts: tuple[str, ...]
    metrics_path: str = "/metrics"

    @classmethod
    def of(
        cls,
        config: Settings,
        host: str | None = None,
        port: int | None = None,
        metrics_path: str = "/metrics",
    ) -> "HostingPlan":
        """Take what the settings say, and what was given instead.

        Raises:
            FlextObservabilityConfigurationError: Anybody could reach it, and no token
                is set.
        """
        plan = cls(
            host or config.server_host,
            port or config.server_port or 0,
            config.server_token,
            tuple(config.server_allowed_hosts),
            metrics_path,
        )
        check_reach("server_host", plan.host, plan.token)
        return plan

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    def rules(self) -> AccessRules:
        """Give who may ask what."""
        return AccessRules.at(self.host, self.token, self.allowed_hosts)


def listen(plan: HostingPlan) -> socket.socket:
    """Open the port.

    Raises:
        FlextObservabilityConfigurationError: It cannot be had; the message says why.
    """
    host = "127.0.0.1" if plan.host == "localhost" else plan.host
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, plan.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            if os.name == "posix":  # elsewhere it would let two have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = (
            f"server_port: cannot listen on {plan.host}:{plan.port}: {reason}. "
            "Free the port, or choose another one; workers that all want it share "
            "server_metrics_dir instead."
        )
        raise FlextObservabilityConfigurationError(message) from error
    return listener


def make_server(plan: HostingPlan, container: FlextContainer | None = None) -> Any:
    """Make a uvicorn server of the operations application.

    Raises:
        FlextObservabilityConfigurationError: The extra is not installed.
    """
    try:
        from uvicorn import Config, Server

        from .connections import DeadlineProtocol
        from .operations import make_operations
    except ImportError as error:
        message = f"server_port: {MISSING}."
        raise FlextObservabilityConfigurationError(message) from error

    class QuietConfig(Config):
        """uvicorn's loggers are those of the program's own server too."""

        def configure_logging(self) -> None:
            """Change nothing."""

    app = make_operations(container, plan.rules(), plan.metrics_path)
    config = QuietConfig(
        app,
        http=DeadlineProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        # Who forwards a request is no more trusted than anybody else.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTION_LIMIT,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


class HostedServer:
    """The operations server in a daemon thread of the program.

    Args:
        plan: Where and for whom to serve.

    Raises:
        FlextObservabilityConfigurationError: The port or the extra cannot be had.
    """

    def __init__(self, plan: HostingPlan) -> None:
        self.plan = plan
        self._server = make_server(plan)
        self._listener = listen(plan)
        self._thread = threading.Thread(
            target=self._run, name="flext-operations", daemon=True
        )

    def start(self) -> None:
        """Begin to serve.

        Raises:
            FlextObservabilityConfigurationError: It does not begin.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            self._listener.close()
            message = f"server_port: no thread can be started: {error}."
            raise FlextObservabilityConfigurationError(message) from error
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() >= deadline:
                break
            time.sleep(0.005)
        if not self._server.started:
            self.stop()
            message = "server_port: the operations server did not begin to serve."
            raise FlextObservabilityConfigurationError(message)
        say(INFO, "operations at http://%s:%d", self.plan.host, self.plan.port)

    def _run(self) -> None:
        with own_work():
            asyncio.run(self._server.serve(sockets=[self._listener]))

    def stop(self) -> None:
        """Free the port; running requests have a second to end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)
        self._listener.close()

    def abandon(self) -> None:
        """Let go of the port in a forked child, which has no thread that serves."""
        self._listener.close()


def serve_forever(plan: HostingPlan) -> None:
    """Serve until a signal ends it, in the thread that calls.

    Raises:
        FlextObservabilityConfigurationError: The port or the extra cannot be had.
    """
    server = make_server(plan)
    listener = listen(plan)
    say(INFO, "operations at http://%s:%d", *plan.address)
    with own_work():
        asyncio.run(server.serve(sockets=[listener]))
