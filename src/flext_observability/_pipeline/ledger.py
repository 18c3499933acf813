"""The equation: ``accepted = delivered + rejected + dropped{reason} + pending``."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from opentelemetry.metrics import Observation

from ..constants import DropReason, Signal
from ..constants import FlextObservabilityConstants as C
from ..own_log import WARNING, say


@dataclass(frozen=True)
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
    """Records queued, spooled or in flight."""
    adopted: int = 0
    """Of the accepted ones, those that a dead process left on disk."""
    retransmitted: int = 0
    """Records sent again although they may have arrived: possible duplicates."""


# How long a drop counts as a problem of now.
_RECENT_S = 60.0
_SLICE_S = 0.05
# Shorter texts of ours are words, not secrets.
_SECRET_LENGTH = 6


class Ledger:
    """Counts the records of one signal towards one destination; thread-safe."""

    def __init__(self) -> None:
        # Taken as it is where a record comes in: `with` on a Condition calls Python
        # code, which at the recursion limit fails between taking and releasing it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queued: Callable[[], int] = lambda: 0
        self._accepted_here = 0
        self._delivered = 0
        self._rejected = 0
        self._dropped: dict[DropReason, int] = {}
        self._refused = 0  # dropped at the door: they never stood in the queue
        self._adopted = 0
        self._retransmitted = 0
        self._is_closed = False
        self._dropped_at = -math.inf
        self._dropped_why = ""

    def count_queued(self, queued: Callable[[], int]) -> None:
        """Let a queue count by itself what it takes in, which costs no call.

        Args:
            queued: Gives how many records the queue ever took in.
        """
        self._queued = queued

    @property
    def _accepted(self) -> int:
        return self._accepted_here + self._queued()

    def accept(self, count: int) -> None:
        """Take records in."""
        with self._lock:
            self._accepted_here += count

    def refuse(self, reason: DropReason, count: int) -> None:
        """Take records in and give them up at once."""
        with self._lock:
            self._accepted_here += count
            self._refused += count
            self._count_drop(reason, count)

    def adopt(self, count: int) -> None:
        """Take in records that a dead process left on disk."""
        with self._lock:
            self._accepted_here += count
            self._adopted += count

    def retransmit(self, count: int) -> None:
        """Count records that are sent again although they may have arrived."""
        with self._changed:
            self._retransmitted += count

    def deliver(self, count: int, rejected: int = 0) -> None:
        """Count an answered request, less what the server rejected in it."""
        rejected = min(rejected, count)
        with self._changed:
            if self._is_closed:
                return  # these records were counted when it closed
            self._delivered += count - rejected
            self._rejected += rejected
            self._changed.notify_all()

    def reject(self, count: int) -> None:
        """Count records that were refused for good."""
        self.deliver(count, count)

    def drop(self, reason: DropReason, count: int) -> None:
        """Count records given up here."""
        with self._changed:
            if self._is_closed:
                return  # these records were counted when it closed
            self._count_drop(reason, count)
            self._changed.notify_all()

    def drop_unsent(self, reason: DropReason, count: int) -> None:
        """Count records given up before they came to wait for delivery."""
        with self._changed:
            if not self._is_closed:
                self._refused += count
                self._count_drop(reason, count)
                self._changed.notify_all()

    def close(self, lost: int) -> None:
        """Settle no more; what waits on disk for the next process stays pending.

        Args:
            lost: Pending records that end with this process.
        """
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            lost = max(0, min(lost, self._accepted - self._settled()))
            if lost:
                self._dropped[DropReason.EXIT] = (
                    self._dropped.get(DropReason.EXIT, 0) + lost
                )
            self._changed.notify_all()

    @property
    def problem(self) -> str | None:
        """What was given up within the last minute; ``None`` when nothing was."""
        if time.monotonic() - self._dropped_at > _RECENT_S:
            return None
        return f"records are being dropped ({self._dropped_why})"

    def _count_drop(self, reason: DropReason, count: int) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + count
        self._dropped_at = time.monotonic()
        self._dropped_why = reason.value

    def snapshot(self) -> SignalLedger:
        """Give the counts of one moment."""
        with self._changed:
            return SignalLedger(
                self._accepted,
                self._delivered,
                self._rejected,
                {reason.value: count for reason, count in self._dropped.items()},
                # Threads that go on while we close may be counted a moment too early.
                max(0, self._accepted - self._settled()),
                self._adopted,
                self._retransmitted,
            )

    def wait_settled(self, deadline: float) -> bool:
        """Wait until all that stands in the queue now is settled, first in, first out.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Whether it is.
        """
        with self._changed:
            # Later records that are refused, and adopted ones that are damaged, must
            # not count for earlier ones: what was adopted must be settled too.
            target = self._accepted - self._refused - self._adopted
            return self._wait_for(
                lambda: self._settled() - self._refused - self._adopted >= target,
                max(0.0, deadline - time.monotonic()),
            )

    def _wait_for(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a change; by slices, so that a clock that stands ends it too."""
        deadline = time.monotonic() + timeout_s
        slices = int(timeout_s / _SLICE_S) + 1
        while not is_so() and slices and time.monotonic() < deadline:
            if not self._changed.wait(min(_SLICE_S, timeout_s)):
                slices -= 1
        return is_so()

    def _settled(self) -> int:
        return self._delivered + self._rejected + sum(self._dropped.values())


def observe(ledgers: Mapping[Signal, Ledger]) -> list[Observation]:
    """Give the counts as measurements; signals without records give none."""
    found: list[Observation] = []
    for signal, ledger in ledgers.items():
        counts = ledger.snapshot()
        outcomes = {
            (C.OUTCOME_ACCEPTED, ""): counts.accepted,
            (C.OUTCOME_DELIVERED, ""): counts.delivered,
            (C.OUTCOME_REJECTED, ""): counts.rejected,
            **{(C.OUTCOME_DROPPED, why): n for why, n in counts.dropped.items()},
        }
        for (outcome, reason), count in outcomes.items():
            if not counts.accepted:
                continue
            attributes = {C.ATTR_SIGNAL: signal.value, C.ATTR_OUTCOME: outcome}
            if reason:
                attributes[C.ATTR_REASON] = reason
            found.append(Observation(count, attributes))
    return found


class Notices:
    """What we tell the user on his own log: a line per reason and minute at most."""

    INTERVAL_S = 60.0

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._said: dict[str, float] = {}
        self._secrets: tuple[str, ...] = ()
        self._redact: Callable[[str], str] = str
        self.last_error: str | None = None

    def hide(self, secrets: Iterable[str], redact: Callable[[str], str]) -> None:
        """Never show these: a server may answer with what we sent it.

        Args:
            secrets: Texts that are ours, such as values of headers.
            redact: Takes out of a text what looks like a secret.
        """
        parts = {part for text in secrets for part in (text, *text.split())}
        long_enough = (part for part in parts if len(part) >= _SECRET_LENGTH)
        self._secrets = tuple(sorted(long_enough, key=len, reverse=True))
        self._redact = redact

    def shown(self, message: str) -> str:
        """Give a message as it may be shown."""
        for secret in self._secrets:
            message = message.replace(secret, "[redacted]")
        return self._redact(message)

    def error(self, reason: str, message: str) -> None:
        """Remember a trouble, and say it unless that was done within the minute.

        Args:
            reason: What counts as the same trouble.
            message: One line: what is wrong, where, what to do.
        """
        message = self.shown(message)
        self.last_error = message
        now = time.monotonic()
        with self._lock:
            last = self._said.get(reason)
            if last is not None and now - last < self.INTERVAL_S:
                return
            self._said[reason] = now
        say(WARNING, "%s", message)
