"""What a process shows of itself: the operations server, and its shared metrics.

Cheap to import: ``setup()`` loads it, and most programs ask for neither.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import runtime
from ..errors import FlextObservabilityConfigurationError
from ..locks import ForkSafeLock

if TYPE_CHECKING:
    from ..settings import Settings
    from .hosting import HostedServer
    from .shared_metrics import SharedMetrics


class OperationsSurface:
    """Serves what the settings in force say; one per process."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._server: HostedServer | None = None
        self._sharing: SharedMetrics | None = None
        # In a forked child: the parent's, kept so that nothing of them is torn down.
        self._inherited: list[Any] = []

    def apply(self, config: "Settings | None") -> None:
        """Serve what the settings say; ``None`` ends it.

        Raises:
            FlextObservabilityConfigurationError: Something stands in the way; what was
                served before is served on.
        """
        with self._lock:
            if config is None:
                self._stop_server()
                self._stop_sharing()
                return
            self.share(config)
            self._serve(config)

    def awake(self, config: "Settings") -> None:
        """Share metrics in a forked child; the port is the parent's."""
        with suppress(FlextObservabilityConfigurationError):
            self.share(config)

    def resume(self) -> None:
        """Begin what had to wait until this process may have threads."""
        if self._sharing is not None:
            self._sharing.resume()

    def after_fork(self) -> None:
        """Let go of what is the parent's."""
        for part in (self._server, self._sharing):
            if part is not None:
                part.abandon()
                self._inherited.append(part)
        self._server = self._sharing = None

    # -- metrics that several processes share

    def share(self, config: "Settings") -> None:
        """Share metrics with sibling processes, if a directory is set.

        Raises:
            FlextObservabilityConfigurationError: The directory cannot be used.
        """
        with self._lock:
            directory = config.server_metrics_dir
            if self._sharing is not None and self._sharing.directory == directory:
                return
            self._stop_sharing()
            if directory is None:
                return
            from ..container import FlextContainer
            from .page import page_of
            from .shared_metrics import SharedMetrics

            try:
                sharing = SharedMetrics(
                    directory, lambda: page_of(FlextContainer.get_global())
                )
                runtime.state.open_page(sharing)
                sharing.start()
            except (OSError, RuntimeError) as error:
                message = (
                    f"server_metrics_dir: metrics cannot be shared in {directory}: "
                    f"{error}. Give the path of a directory of your own."
                )
                raise FlextObservabilityConfigurationError(message) from error
            self._sharing = sharing

    def shared(self) -> "SharedMetrics | None":
        """Give the metrics that are shared with siblings, ``None`` when none are."""
        return self._sharing

    def _stop_sharing(self) -> None:
        sharing, self._sharing = self._sharing, None
        if sharing is not None:
            sharing.close()

    # -- the server inside this process

    def _serve(self, config: "Settings") -> None:
        if config.server_port is None:
            self._stop_server()
            return
        from .hosting import HostedServer, HostingPlan

        plan = HostingPlan.of(config)
        if self._server is not None and self._server.plan == plan:
            return
        if self._server is not None and self._server.plan.address == plan.address:
            self._stop_server()  # the same port under another token
        server = HostedServer(plan)
        server.start()
        self._stop_server()
        self._server = server

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


def install() -> runtime.Surface:
    """Give this process a surface, unless it has one."""
    if runtime.state.surface is None:
        runtime.state.surface = OperationsSurface()
    return runtime.state.surface
