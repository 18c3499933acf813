"""Asks what produces records by itself, such as a metric reader, in a thread."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from .background import BackgroundThread
from .bell import Bell
from .own_work import own_work


class Poller:
    """Polls every interval, and once more when somebody asks and waits for it.

    It has a thread of its own: what is polled calls the host's code, which may take its
    time, and a collector that is away must not keep figures from being taken.
    """

    def __init__(
        self,
        poll: Callable[[], None] | None,
        interval_s: float,
        suppressed: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Prepare; no thread yet.

        Args:
            poll: Produces records; ``None`` when nothing is to be polled.
            interval_s: Seconds between two polls.
            suppressed: Keeps what is polled from being traced.
        """
        self._poll = poll
        self._interval_s = interval_s
        self._suppressed = suppressed
        self._bell = Bell()
        self._is_asked = False
        self._is_stopped = False
        self._done = threading.Event()
        self._thread = BackgroundThread("flext-collect", self._run)

    def start(self) -> None:
        """Start the thread, if there is something to poll and a thread to be had."""
        if self._poll is not None and not self._is_stopped:
            self._thread.start()

    def is_running(self) -> bool:
        """Whether the thread was started and lives."""
        return self._thread.is_running()

    def collect(self, deadline: float) -> bool:
        """Poll now, in the thread if it runs, and wait for it until the deadline.

        Returns:
            Whether the poll was over by then.
        """
        if self._poll is None:
            return True
        if not self.is_running():
            self._poll_safely()
            return True
        self._done.clear()
        self._is_asked = True
        self._bell.ring()
        return self._done.wait(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Poll no more."""
        self._is_stopped = True
        self._bell.ring()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._is_stopped:
            left_s = max(0.0, due - time.monotonic())
            self._bell.wait(min(left_s, threading.TIMEOUT_MAX / 2))
            is_due = time.monotonic() >= due
            if is_due:
                due = time.monotonic() + self._interval_s
            if (is_due or self._is_asked) and not self._is_stopped:
                self._is_asked = False
                self._poll_safely()
                self._done.set()

    def _poll_safely(self) -> None:
        if self._poll is None:
            return
        try:
            with own_work(self._suppressed):
                self._poll()
        except KeyboardInterrupt:
            raise  # in the main thread it is the user's
        except BaseException:  # noqa: BLE001, S110 - the user's callback failed
            pass
