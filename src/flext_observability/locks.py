"""Locks that a forked child can take, whoever held them in the parent."""

import threading
from contextlib import suppress
from weakref import WeakSet


class ForkSafeLock:
    """A reentrant lock that is free again in a forked child.

    A fork copies a lock as it is; when another thread held it, nobody in the child ever
    releases it. Reentrant, because a finalizer or a signal handler may come in between.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        # Who forked inside the block leaves it in the child with a lock not taken.
        with suppress(RuntimeError):
            self._lock.release()

    def renew(self) -> None:
        """Be free, whoever held it."""
        self._lock = threading.RLock()


# The one piece of state beside `runtime`: a lock cannot ask anybody for its process.
_locks: WeakSet[ForkSafeLock] = WeakSet()


def renew_all() -> None:
    """Free all locks; the package's fork hook calls it first of all, and nobody else.

    Once freed they may be held again, by a thread that another fork hook started:
    whoever got a new lock then would not wait for what that thread does.
    """
    for lock in list(_locks):
        lock.renew()
