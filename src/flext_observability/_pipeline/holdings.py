"""The process directories that we hold, and the room they may take."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ..constants import DropReason, Signal
from .dead_letters import DeadLetters
from .process_directory import ProcessDirectory, Segment, Stock
from .segments import SIGNALS
from .spool import Accounts, Lease
from .spool_counter import FIGURE_CELLS, LOSS_CELLS, loss_place
from .spool_directory import ServiceFolder
from .spool_files import Descriptors

_AGE_LIMIT_S = 7 * 24 * 3600.0


class Place(NamedTuple):
    """Where a lease stands."""

    directory: ProcessDirectory | None
    """``None`` if it came from memory."""
    parts: list[tuple[Segment, int]]
    """Segments, and how many records of each."""
    end: int = 0
    """Offset behind the last frame."""
    inner: Lease | None = None


class Holdings:
    """State of a disk spool, guarded by one lock.

    A lease pins its segments: room is made elsewhere, so that a record is never both
    given up and delivered. What the accounts are told is told without the lock.
    """

    def __init__(
        self, folder: ServiceFolder, limit_bytes: int, accounts: Accounts
    ) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.descriptors = Descriptors()
        self.letters = DeadLetters(folder, self.descriptors)
        self.lock = threading.RLock()  # a finalizer may emit while we hold it
        self.own: ProcessDirectory | None = None
        self.others: list[ProcessDirectory] = []
        """Taken over, the oldest first; at the end our own that were removed."""
        self.out: dict[Signal, Place] = {}
        self.served: set[int] = set()
        """Signals that somebody delivers, as numbers."""
        self.spent: set[str] = set()
        """Names that are of no use to us."""
        self.foreign_bytes = 0
        self.is_closed = False
        self.untold = [0] * LOSS_CELLS
        """Losses that are counted here, and that no metric on disk tells of."""
        self._being_told = [0] * LOSS_CELLS
        self._accounts = accounts
        self._events: deque[tuple[Signal, DropReason | None, int]] = deque()
        self._troubles: deque[tuple[str, str]] = deque()

    @property
    def telling(self) -> "_Telling":
        """Tell what is to be told, after the lock was released.

        Used as ``with holdings.telling, holdings.lock``. The lock is taken as it is: an
        exception that a signal handler raises would leave it behind in Python code.
        """
        return _Telling(self)

    # -- all below expect the lock

    def held(self) -> list[ProcessDirectory]:
        """Give the directories in the order in which they are delivered."""
        return self.others if self.own is None else [*self.others, self.own]

    def total_bytes(self) -> int:
        """Bytes of the service on disk, as far as is known."""
        return self.foreign_bytes + sum(directory.size for directory in self.held())

    def enter(self, directory: ProcessDirectory, stocks: list[Stock]) -> None:
        """Hold a directory that was taken over."""
        for number, stock in enumerate(stocks):
            total = stock.found + stock.lost
            self._events.append((SIGNALS[number], None, total))
            for reason, count in stock.losses:
                self._lose(number, reason, count)
        # Only now: a crash in between has the losses counted twice, never not at all.
        directory.note_entered(stocks)
        self.foreign_bytes = max(0, self.foreign_bytes - directory.size)
        self.others.append(directory)
        self.sweep(directory)

    def shed(self, moment: float) -> bool:
        """Leave a directory to others whose records nobody delivers here.

        Args:
            moment: Only if it was taken over before, on the monotonic clock.

        Returns:
            Whether there was one.
        """
        for directory in self.others:
            is_wanted = any(directory.waits(number) for number in self.served)
            if not is_wanted and directory.held_since < moment:
                self.others.remove(directory)
                self.spent.add(directory.name)
                directory.release()
                return True
        return False

    def give_up(
        self,
        directory: ProcessDirectory,
        segment: Segment,
        number: int,
        count: int,
        reason: DropReason,
    ) -> None:
        """Count records that will not be delivered."""
        directory.settle(segment, number, count)
        self._lose(number, reason, count)
        self.save(directory, number)

    def note_observed(self) -> None:
        """Note that metrics are made of the ledgers now."""
        if not self._events:  # else the ledgers do not know all of it yet
            self._being_told = self.untold.copy()

    def note_told(self) -> None:
        """Note that the metrics made last are on disk: they outlive us."""
        if any(self._being_told):
            pairs = zip(self.untold, self._being_told, strict=True)
            self.untold = [all_ - told for all_, told in pairs]
            self._being_told = [0] * LOSS_CELLS
            self.write_untold()

    def write_untold(self) -> None:
        """Bring the losses to where they outlive us; before there is one, they wait."""
        if self.own is not None and self.own.counter is not None:
            cells = self.own.counter.cells
            for place, count in enumerate(self.untold, FIGURE_CELLS):
                cells[place] = count

    def save(self, directory: ProcessDirectory, number: int) -> None:
        """Write a cursor, or say what it means that it could not be written."""
        if directory.is_removed:
            return
        try:
            directory.cursors.save(number)
        except OSError as error:
            self.note(
                "ack",
                "delivered records cannot be marked, so a crash would repeat them: "
                f"{error.strerror} ({self.folder.path})",
            )

    def sweep(self, directory: ProcessDirectory) -> None:
        """Remove files that are settled, and a directory without files."""
        directory.sweep()
        if directory in self.others and not directory.segments:
            self.others.remove(directory)
            if not directory.remove():
                self.spent.add(directory.name)

    def make_room(self, size: int) -> None:
        """Give up the oldest records until a size fits below the limit."""
        for directory, segment in self._evictable():
            if self.total_bytes() + size <= self.limit_bytes:
                return
            if segment is not directory.current:
                self._evict(directory, segment, DropReason.SPOOL_FULL)

    def expire(self) -> None:
        """Give up records that are too old to be of use."""
        now = time.monotonic()
        for directory, segment in self._evictable():
            if now - segment.written_at > _AGE_LIMIT_S:
                self._evict(directory, segment, DropReason.TOO_OLD)

    def note(self, reason: str, message: str) -> None:
        """Have a trouble told."""
        self._troubles.append((f"spool_{reason}", message))

    def tell(self) -> None:
        """Tell the accounts what happened; called without the lock."""
        while self._events:
            signal, reason, count = self._events.popleft()
            if not count:
                continue
            if reason is None:
                self._accounts.adopted(signal, count)
            else:
                self._accounts.dropped(signal, reason, count)
        while self._troubles:
            self._accounts.trouble(*self._troubles.popleft())

    def _lose(self, number: int, reason: DropReason, count: int) -> None:
        if count:
            self._events.append((SIGNALS[number], reason, count))
            self.untold[loss_place(number, reason)] += count
            self.write_untold()

    def _evict(
        self, directory: ProcessDirectory, segment: Segment, reason: DropReason
    ) -> None:
        for number, count in enumerate(segment.waiting):
            if count:
                self.give_up(directory, segment, number, count, reason)
        directory.remove_segment(segment)
        self.sweep(directory)

    def _evictable(self) -> Iterator[tuple[ProcessDirectory, Segment]]:
        pinned = {segment for place in self.out.values() for segment, _ in place.parts}
        for directory in tuple(self.held()):
            for segment in tuple(directory.segments):
                if segment not in pinned:
                    yield directory, segment


class _Telling:
    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._holdings.tell()
