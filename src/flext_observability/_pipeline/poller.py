"""Asks what produces records by itself, such as a metric reader, in our thread."""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress


class Poller:
    """Polls every interval, and once more when somebody asks and waits for it."""

    def __init__(self, poll: Callable[[], None] | None, interval_s: float) -> None:
        """Prepare.

        Args:
            poll: Produces records; may call the host's code, which may take its time.
            interval_s: Seconds between two polls.
        """
        self._poll = poll
        self._interval_s = interval_s if poll else math.inf
        self._due = time.monotonic() + self._interval_s
        self._is_asked = False
        self._done = threading.Event()

    def left_s(self) -> float:
        """Seconds until the next poll is due; infinite when nothing is polled."""
        return max(0.0, self._due - time.monotonic())

    def run_due(self, *, is_closing: bool) -> None:
        """Poll if it is time or somebody asked; while closing, only if asked."""
        is_due = self.left_s() <= 0
        if is_due:
            self._due = time.monotonic() + self._interval_s
        if self._is_asked or (is_due and not is_closing):
            self._is_asked = False
            self._run()
            self._done.set()

    def collect(
        self,
        deadline: float,
        thread: threading.Thread | None,
        hurry: Callable[[], None],
    ) -> bool:
        """Poll now, in the thread if it runs, and wait for it until the deadline.

        Returns:
            Whether the poll was over by then.
        """
        if self._poll is None:
            return True
        if thread is None or not thread.is_alive():
            self._run()
            return True
        self._done.clear()
        self._is_asked = True
        hurry()
        return self._done.wait(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        if self._poll is not None:
            with suppress(Exception):  # a user's callback failed
                self._poll()
