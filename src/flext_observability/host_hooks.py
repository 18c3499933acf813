"""Where the running system takes part in what its host does, up to its end."""

import atexit
import os
import sys
from collections.abc import Callable
from logging import getLevelNamesMapping
from typing import TYPE_CHECKING, Any
from weakref import finalize

from .constants import Signal
from .own_log import WARNING, say

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from ._pipeline.log_bridge import LogBridge
    from ._pipeline.log_lines import LineSink
    from .settings import Settings
    from .termination import TerminationHandler


class HostHooks:
    """The bridge from standard logging, context in thread pools, signal handlers."""

    def __init__(
        self,
        logger_provider: "Callable[[], LoggerProvider]",
        secure: Callable[[], bool],
    ) -> None:
        """Begin without any.

        Args:
            logger_provider: Gives the one that takes lines of standard logging.
            secure: Brings records to safety before a signal ends the program; says
                whether there is nothing to gain by trying again.
        """
        self._logger_provider = logger_provider
        self._secure = secure
        self._bridge: LogBridge | None = None
        self._undo_executors: Callable[[], None] | None = None
        self._termination: TerminationHandler | None = None

    def install(self, config: "Settings", lines: "LineSink | None") -> None:
        """Do what the settings say, and undo what they do not say any more.

        Args:
            config: The settings.
            lines: Takes lines of standard logging past the SDK, where that is possible.
        """
        if config.is_enabled(Signal.LOGS):
            self._install_bridge(config, lines)
        else:
            self.remove_bridge()
        if self._undo_executors is None:
            from ._pipeline.executors import install_executor_propagation

            self._undo_executors = install_executor_propagation()
        self._leave_signals()
        if config.handle_signals:
            self._handle_signals()

    def send_lines(self, lines: "LineSink | None") -> None:
        """Have lines of standard logging go there from now on; ``None``: to the SDK."""
        if self._bridge is not None:
            self._bridge.lines = lines

    def remove(self) -> None:
        """Undo all of it."""
        self.remove_bridge()
        if self._undo_executors is not None:
            self._undo_executors()
            self._undo_executors = None
        self._leave_signals()

    def remove_bridge(self) -> None:
        """Take no more lines of standard logging."""
        if self._bridge is not None:
            self._bridge.remove()
            self._bridge = None

    def _install_bridge(self, config: "Settings", lines: "LineSink | None") -> None:
        from ._pipeline.log_bridge import LogBridge

        level = getLevelNamesMapping()[config.log_level]
        if self._bridge is None:
            self._bridge = LogBridge(self._logger_provider(), level)
            self._bridge.lines = lines
            self._bridge.install()
        else:
            self._bridge.set_level(level)

    def _handle_signals(self) -> None:
        from .termination import TerminationHandler

        # Known before it is complete, so that half of it can be undone.
        self._termination = TerminationHandler(self._secure)
        if not self._termination.install():
            self._termination = None
            say(
                WARNING,
                "handle_signals has no effect: setup() must be called in the main "
                "thread for that",
            )

    def _leave_signals(self) -> None:
        if self._termination is not None:
            self._termination.remove()
            self._termination = None


class EndOfProcess:
    """Has a function called when this process ends, and each that is forked from it.

    Children of ``multiprocessing`` end in ``os._exit``, where ``atexit`` never runs:
    it is asked to call the function instead, but not before the program loads it.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        """Prepare.

        Args:
            function: To be called then.
        """
        self._function = function
        self._is_hooked = self._is_told = False

    def hook(self) -> None:
        """Have it called; once, however often this is."""
        if self._is_hooked:
            return
        self._is_hooked = True
        # Exit handlers run backwards. This makes weakref register its own now, so that
        # it runs after ours: the HTTP client closes its sockets by weak references.
        finalize(self, id, None).detach()
        atexit.register(self._function)
        self._tell_multiprocessing()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._tell_multiprocessing)

    def _tell_multiprocessing(self) -> None:
        util: Any = sys.modules.get("multiprocessing.util")
        if util is None or self._is_told:
            return
        self._is_told = True
        util.register_after_fork(self, EndOfProcess._register)
        from multiprocessing import parent_process

        if parent_process() is not None:  # a spawned child that calls setup itself
            self._register()

    def _register(self) -> None:
        from multiprocessing import util

        util.Finalize(None, self._function, exitpriority=100)
