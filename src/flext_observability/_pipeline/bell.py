"""Wakes a thread, from anywhere."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Wakes a thread; may be rung anywhere.

    An ``Event`` cannot be set by a signal handler or a finalizer that interrupts its
    own ``set``; putting into a ``SimpleQueue`` is documented to be reentrant.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who will wait next."""
        # The queue itself says whether it rang: a flag beside it would be wrong for
        # ever when a signal handler raises between the two.
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a ring since the last wait, at most for a time; ``None`` for ever.

        What is waited for is looked at after it: a ring that comes in between is not
        lost, its cause is seen.

        Returns:
            Whether it rang.
        """
        with suppress(Empty):
            self._rings.get(timeout=timeout_s)
            return True
        return False
