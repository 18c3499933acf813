"""Where encoded batches wait for delivery: the contract of both spools, and memory."""

import math
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..constants import DropReason, Signal
from .segments import NUMBERS

if TYPE_CHECKING:
    from .spool_counter import Cells

ACCEPTED_CELLS = {signal: 3 * number for signal, number in NUMBERS.items()}
"""Where the records of a signal are counted that entered the queue in front."""


class Lease:
    """Batches of one signal, handed out to be delivered."""

    __slots__ = ("body", "count", "is_adopted", "place", "signal")

    def __init__(
        self,
        signal: Signal,
        body: bytes,
        count: int,
        place: Any,
        *,
        is_adopted: bool = False,
    ) -> None:
        """Hand out.

        Args:
            signal: Whose records these are.
            body: An OTLP export request: the batches joined, as repeated fields
                concatenate.
            count: Records in it, in ledger units.
            place: Where it stands; the spool's own.
            is_adopted: Whether a dead process left them.
        """
        self.signal = signal
        self.body = body
        self.count = count
        self.place = place
        self.is_adopted = is_adopted


class Accounts(Protocol):
    """Who is told what a spool did by itself, apart from put, lease and ack."""

    def adopted(self, signal: Signal, count: int) -> None:
        """Records of a dead process wait here now."""
        ...

    def dropped(self, signal: Signal, reason: DropReason, count: int) -> None:
        """Records that waited, or were adopted, are given up."""
        ...

    def trouble(self, reason: str, message: str) -> None:
        """Something is wrong with the disk; one line that says what and where."""
        ...


class CrashCounter(Protocol):
    """Figures that tell whoever comes after a crash how much it took."""

    cells: "Cells | None"
    """One per signal is raised by each record, by its own index; ``None`` at first."""

    def count(self, cell: int, count: int) -> None:
        """Raise a figure where that cannot be done in place."""
        ...


class Spool(Protocol):
    """Keeps encoded batches until they are settled. Thread-safe; never raises.

    One lease per signal is out at a time. A batch whose lease was not acked is handed
    out again: by this spool after ``close`` never, by whoever adopts it.
    """

    durability: str
    """``memory``, ``batch`` or ``record``."""
    directory: Path | None
    """Where the records of this service wait; ``None`` in memory."""

    @property
    def counter(self) -> "CrashCounter | None":
        """Notes what entered the queues in front; ``None`` where nothing survives."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes on disk that wait; 0 in memory."""
        ...

    @property
    def occupancy(self) -> tuple[int, int]:
        """Bytes that are taken and bytes that may be, the whole service's on disk."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people; empty when all is well."""
        ...

    def settle(self, signal: Signal, count: int) -> None:
        """Note records of that queue that were settled without ``put``."""
        ...

    def put(self, signal: Signal, body: bytes, count: int) -> bool:
        """Take a batch.

        Args:
            signal: What the records are.
            body: An OTLP export request, at most ``REQUEST_LIMIT_BYTES``.
            count: Records in it.

        Returns:
            Whether it was taken; if not, there is no room now.
        """
        ...

    def note_observed(self) -> None:
        """Note that metrics are made of the ledgers now.

        Once they are put, a crash need not hand on the losses that they tell of.
        """
        ...

    def taken(self, signal: Signal) -> int:
        """Count the batches that ``put`` ever took of a signal.

        Whoever was interrupted in ``put`` learns by it whether his batch was taken.
        """
        ...

    def full_reason(self) -> DropReason:
        """Why records are lost when ``put`` takes no more and the queue is full."""
        ...

    def lease(self, signal: Signal, limit_bytes: int, limit_count: int) -> Lease | None:
        """Hand out the oldest batches of a signal, joined up to the limits.

        At least one batch is given, whatever its size; ``None`` when none waits.
        """
        ...

    def ack(self, lease: Lease) -> None:
        """Forget the batches of a lease: they are settled."""
        ...

    def reject(self, signal: Signal, body: bytes, reason: str) -> None:
        """Keep refused records for a person to look at; the lease is acked apart."""
        ...

    def waits(self, signal: Signal) -> bool:
        """Whether a batch of that signal waits, as far as is known without looking."""
        ...

    def rescue(self, signal: Signal) -> None:
        """Bring to disk what only memory holds, after the last delivery."""
        ...

    def volatile(self, signal: Signal) -> int:
        """Count the records that wait here and end with this process."""
        ...

    def adopt(self) -> bool:
        """Take over what dead processes left, and keep house; cheap when not due.

        Returns:
            Whether something was taken over.
        """
        ...

    def has_orphans(self) -> bool:
        """Whether another process, dead or alive, has records here; a cheap look."""
        ...

    @property
    def is_searching(self) -> bool:
        """Whether the first look for what dead processes left is still to be done."""
        ...

    def close(self) -> None:
        """Let go of files; what waits on disk stays for the next process."""
        ...

    def abandon(self) -> None:
        """In a forked child: close what was inherited, touch nothing of the parent."""
        ...


# Go's gRPC servers, most collectors among them, refuse more by default.
REQUEST_LIMIT_BYTES = 4 * 1024 * 1024 - 4096
_MEMORY_LIMIT_BYTES = 64 * 1024 * 1024


class _Batch(NamedTuple):
    body: bytes
    records: int


class MemorySpool:
    """Batches in memory, bounded by bytes; a crash loses them."""

    durability = "memory"
    directory: Path | None = None
    counter: CrashCounter | None = None
    size_bytes = 0
    problems: tuple[str, ...] = ()
    is_searching = False

    def __init__(
        self,
        limits: Mapping[Signal, int] = MappingProxyType({}),
        limit_bytes: int = _MEMORY_LIMIT_BYTES,
    ) -> None:
        """Start empty.

        Args:
            limits: Records held at most, for signals that have such a limit.
            limit_bytes: Bytes held at most, all signals together.
        """
        self._limits = limits
        self._limit_bytes = limit_bytes
        self._lock = threading.RLock()  # a finalizer may emit while we hold it
        self._held_bytes = 0
        self._acked = dict.fromkeys(Signal, 0)
        self._batches: dict[Signal, deque[_Batch]] = {
            signal: deque() for signal in Signal
        }

    @property
    def occupancy(self) -> tuple[int, int]:
        """Bytes that are taken and bytes that may be."""
        return self._held_bytes, self._limit_bytes

    def settle(self, signal: Signal, count: int) -> None:
        """Nothing was noted."""

    def put(self, signal: Signal, body: bytes, count: int) -> bool:
        """Take a batch unless a limit is reached; an empty spool takes any."""
        with self._lock:
            if self._held_bytes and self._held_bytes + len(body) > self._limit_bytes:
                return False
            limit = self._limits.get(signal, math.inf)
            batches, batch, size = self._batches[signal], _Batch(body, count), len(body)
            if batches and self.volatile(signal) + count > limit:
                return False
            # Nothing is called in between: they happen together.
            self._held_bytes += size
            batches.append(batch)
        return True

    def note_observed(self) -> None:
        """A crash hands nothing on."""

    def taken(self, signal: Signal) -> int:
        """Count the batches that were ever taken of a signal."""
        with self._lock:
            return self._acked[signal] + len(self._batches[signal])

    def full_reason(self) -> DropReason:
        """Delivery is too slow for what comes."""
        return DropReason.QUEUE_FULL

    def lease(self, signal: Signal, limit_bytes: int, limit_count: int) -> Lease | None:
        """Join the oldest batches; they stay until they are acked."""
        with self._lock:
            chosen: list[_Batch] = []
            size = count = 0
            for batch in self._batches[signal]:
                size, count = size + len(batch.body), count + batch.records
                if chosen and (size > limit_bytes or count > limit_count):
                    break
                chosen.append(batch)
        if not chosen:
            return None
        body = b"".join(batch.body for batch in chosen)
        return Lease(signal, body, sum(b.records for b in chosen), len(chosen))

    def ack(self, lease: Lease) -> None:
        """Forget the oldest batches, which are those of the lease."""
        with self._lock:
            for _ in range(lease.place):
                batch = self._batches[lease.signal].popleft()
                self._held_bytes -= len(batch.body)
                self._acked[lease.signal] += 1

    def reject(self, signal: Signal, body: bytes, reason: str) -> None:
        """Refused records are counted, not kept: memory is for those that wait."""

    def waits(self, signal: Signal) -> bool:
        """Whether a batch of that signal waits."""
        return bool(self._batches[signal])

    def rescue(self, signal: Signal) -> None:
        """There is no disk."""

    def volatile(self, signal: Signal) -> int:
        """Count all that wait."""
        with self._lock:
            return sum(batch.records for batch in self._batches[signal])

    def adopt(self) -> bool:
        """There is nobody to adopt from."""
        return False

    def has_orphans(self) -> bool:
        """There is nobody to adopt from."""
        return False

    def close(self) -> None:
        """There is nothing to let go of."""

    def abandon(self) -> None:
        """The memory is a copy already."""
