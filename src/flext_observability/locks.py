"""Locks that a forked child can take, whoever held them in the parent."""

import os
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


class _All:
    """The locks of this process, and whether a fork hook has freed them already."""

    def __init__(self) -> None:
        self._locks: WeakSet[ForkSafeLock] = WeakSet()
        self._are_free = False

    def add(self, lock: ForkSafeLock) -> None:
        self._locks.add(lock)

    def renew(self) -> None:
        for lock in list(self._locks):
            lock.renew()
        self._are_free = True

    def after_fork(self) -> None:
        # Once freed they may be held again, by a thread that an earlier hook started:
        # whoever got another lock then would not wait for what that thread does.
        if not self._are_free:
            self.renew()
        self._are_free = False  # for the next generation


# The one piece of state beside `runtime`: a lock cannot ask anybody for its process.
_locks = _All()


def renew_all() -> None:
    """Free all locks, in a forked child, before the hook of this module does."""
    _locks.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.after_fork)
