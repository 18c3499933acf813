"""Threads of ours: daemons that are started when there is work for them."""

import threading
from collections.abc import Callable
from contextlib import suppress


class BackgroundThread:
    """One thread, started unless it runs, and again should it have died."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        """Prepare; nothing runs yet.

        Args:
            name: Of the thread.
            run: What it does until it ends.
        """
        self._name = name
        self._run = run
        self._lock = threading.RLock()  # a signal handler may start it, too
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Start it unless it runs; say whether it does.

        An interpreter that shuts down refuses threads.
        """
        if self.is_running():
            return True
        with self._lock:
            if not self.is_running():
                thread = threading.Thread(
                    target=self._run, name=self._name, daemon=True
                )
                # Known before it runs: a signal handler may raise out of `start`.
                self._thread = thread
                with suppress(RuntimeError):
                    thread.start()
        return self.is_running()

    def is_running(self) -> bool:
        """Whether it was started and lives."""
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, unless we are it.

        Args:
            timeout_s: Seconds it may take.
        """
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        if thread is not threading.current_thread():
            thread.join(timeout_s)
