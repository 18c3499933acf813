"""The equation: ``accepted = delivered + rejected + dropped{reason} + pending``."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..constants import DropReason
from ..own_log import WARNING, say


@dataclass(frozen=True, slots=True)
class SignalLedger:
    """What became of the records of one signal: spans, log records, metric points."""

    accepted: int = 0
    """Records the pipe took, before any queue check."""
    delivered: int = 0
    """Records the other end confirmed."""
    rejected: int = 0
    """Records the other end refused for good."""
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    """Records given up here, by reason."""
    pending: int = 0
    """Records queued or in flight."""


class Ledger:
    """Counts the records of one signal towards one destination; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._accepted = 0
        self._delivered = 0
        self._rejected = 0
        self._dropped: dict[DropReason, int] = {}
        self._refused = 0  # dropped at the door: they never stood in the queue

    def accept(self, count: int) -> None:
        """Take records in."""
        with self._changed:
            self._accepted += count

    def refuse(self, reason: DropReason, count: int) -> None:
        """Take records in and give them up at once."""
        with self._changed:
            self._accepted += count
            self._refused += count
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def deliver(self, count: int, rejected: int = 0) -> None:
        """Count an answered request, less what the server rejected in it."""
        rejected = min(rejected, count)
        with self._changed:
            self._delivered += count - rejected
            self._rejected += rejected
            self._changed.notify_all()

    def reject(self, count: int) -> None:
        """Count records that were refused for good."""
        self.deliver(count, count)

    def drop(self, reason: DropReason, count: int) -> None:
        """Count records given up here."""
        with self._changed:
            self._dropped[reason] = self._dropped.get(reason, 0) + count
            self._changed.notify_all()

    def snapshot(self) -> SignalLedger:
        """Give the counts of one moment."""
        with self._changed:
            return SignalLedger(
                self._accepted,
                self._delivered,
                self._rejected,
                {reason.value: count for reason, count in self._dropped.items()},
                self._accepted - self._settled(),
            )

    def wait_settled(self, deadline: float) -> bool:
        """Wait until all that stands in the queue now is settled, first in, first out.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Whether it is.
        """
        with self._changed:
            # Later records that are refused must not count for earlier ones.
            target = self._accepted - self._refused
            return self._changed.wait_for(
                lambda: self._settled() - self._refused >= target,
                max(0.0, deadline - time.monotonic()),
            )

    def _settled(self) -> int:
        return self._delivered + self._rejected + sum(self._dropped.values())


class Notices:
    """What we tell the user on his own log: a line per reason and minute at most."""

    INTERVAL_S = 60.0

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._said: dict[str, float] = {}
        self.last_error: str | None = None

    def error(self, reason: str, message: str) -> None:
        """Remember a trouble, and say it unless that was done within the minute.

        Args:
            reason: What counts as the same trouble.
            message: One line: what is wrong, where, what to do.
        """
        self.last_error = message
        now = time.monotonic()
        with self._lock:
            last = self._said.get(reason)
            if last is not None and now - last < self.INTERVAL_S:
                return
            self._said[reason] = now
        say(WARNING, "%s", message)
