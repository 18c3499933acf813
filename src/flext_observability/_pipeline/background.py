"""Threads of ours: daemons that are started when there is work for them."""

import os
import sys
import threading
from collections.abc import Callable


class _Hold:
    """Whether this process may have threads of ours; one, for every such thread."""

    pid = 0
    """The process that may not; its forked children may, whatever runs in them."""


def hold_threads() -> None:
    """Start no thread from here on: this process is about to be forked behind Python.

    Whoever needs one gets none, as from an interpreter that shuts down.
    """
    _Hold.pid = os.getpid()


def release_threads() -> None:
    """Start threads again."""
    _Hold.pid = 0


def may_start() -> bool:
    """Whether threads may be started."""
    return not _Hold.pid or _Hold.pid != os.getpid()


def defer_endings() -> Callable[[], object]:
    """In a process of uWSGI, keep signals that end it away from this thread.

    uWSGI ends a process in its signal handler, in whatever thread that comes to run. A
    second signal while exit handlers run, or in one of our threads, cuts them short.
    Programs that a callback of the host starts there inherit that.

    Returns:
        What lets them come again; a thread of ours never does, not even as it ends.
    """
    # Elsewhere handlers run between bytecodes. There is no uWSGI on Windows.
    if "uwsgi" not in sys.modules or sys.platform == "win32":
        return lambda: None
    import signal

    endings = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
    former = signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    return lambda: signal.pthread_sigmask(signal.SIG_SETMASK, former)


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
        # The signal handler of a program may raise out of `start`, or start us while
        # we wait there, when nobody can tell yet whether the thread will come. So one
        # too many may be asked for, and only the one that holds this does the work.
        self._turn = threading.Lock()
        self._asked: threading.Thread | None = None
        self._working: threading.Thread | None = None

    def start(self) -> bool:
        """Start it unless it runs; say whether it does.

        An interpreter that shuts down refuses threads; so does :func:`hold_threads`.
        """
        if self.is_running():
            return True
        if not may_start():
            return False
        with self._lock:
            if not self.is_running():
                thread = threading.Thread(
                    target=self._work, name=self._name, daemon=True
                )
                self._asked = thread
                _start(thread)
        return self.is_running()

    def is_running(self) -> bool:
        """Whether it was started and lives."""
        return self._living() is not None

    def join(self, timeout_s: float) -> None:
        """Wait for its end, unless we are it.

        Args:
            timeout_s: Seconds it may take.
        """
        thread = self._living()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _living(self) -> threading.Thread | None:
        for thread in (self._working, self._asked):
            if thread is not None and thread.is_alive():
                return thread
        return None

    def _work(self) -> None:
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._working = threading.current_thread()
            defer_endings()
            self._run()
        finally:
            self._turn.release()


def _start(thread: threading.Thread) -> None:
    """Start a thread, unless the interpreter refuses it.

    After an exception of a signal handler, ``Thread.start`` tidies up as if the thread
    had not come, and fails where it has: the exception is the host's all the same.
    """
    try:
        thread.start()
    except RuntimeError:
        pass
    except KeyError as error:
        if error.args != (thread,) or error.__context__ is None:
            raise
        raise error.__context__ from None
