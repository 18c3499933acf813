"""What one process wrote: segments that wait, and how far they are settled."""

import errno
import math
import os
import time
from contextlib import suppress
from typing import NamedTuple

from ..constants import DropReason
from .dead_letters import DeadLetters
from .segments import SIGNALS, Damage, read_frames
from .spool_counter import (
    LOSS_REASONS,
    Counted,
    Counter,
    Figures,
    read_counted,
    write_figures,
)
from .spool_cursors import Cursors
from .spool_directory import (
    LockedDirectory,
    ServiceFolder,
    list_segments,
    segment_name,
)
from .spool_files import PASSING, Descriptors, raise_passing, sync, write_whole

# Segments of our own that stay open, so that they can be read when they are unlinked.
_HELD_OPEN = 16
# A current segment that is settled is only worth removing from that size on.
_WORTH_REMOVING_BYTES = 256 * 1024
# Damaged bytes kept of one segment.
_KEPT_BYTES = 1024 * 1024
# What stands in the place of a segment is no file of ours, or gone.
_NOT_OURS = frozenset(
    {errno.ENOENT, errno.EPERM, errno.ELOOP, errno.EMLINK, errno.ENXIO}
)
# A disk that fails to read may recover; a bad sector does not.
_PATIENCE_S = 30.0


class Segment:
    """A file of frames."""

    def __init__(self, number: int, size: int, written_at: float, fd: int = -1) -> None:
        self.number = number
        self.size = size
        self.written_at = written_at
        """On the monotonic clock; before its zero for files of the past."""
        self.waiting = [0] * len(SIGNALS)
        """Records per signal that are not settled."""
        self.fd = fd
        self.is_damage_kept = False

    failing_since: float = math.inf
    """When it could not be read for the first time, on the monotonic clock."""


def is_hopeless(error: OSError, failing_since: float) -> bool:
    """Tell whether what could not be read will never be.

    Args:
        error: Why it could not be read now.
        failing_since: When that began, on the monotonic clock.
    """
    if error.errno in _NOT_OURS:
        return True
    is_over = time.monotonic() - failing_since > _PATIENCE_S
    return is_over and error.errno not in PASSING


class Stock(NamedTuple):
    """What a dead process left of one signal."""

    found: int = 0
    """Intact records that wait."""
    missing: int = 0
    """Records that were secured, and are neither settled nor intact."""
    crashed: int = 0
    """Records that were accepted and never secured."""
    untold: tuple[int, ...] = (0,) * len(LOSS_REASONS)
    """Losses that it knew of itself, by reason."""

    @property
    def losses(self) -> list[tuple[DropReason, int]]:
        """All that is lost, by reason."""
        found = [(DropReason.DAMAGED, self.missing), (DropReason.CRASH, self.crashed)]
        return [*found, *zip(LOSS_REASONS, self.untold, strict=True)]

    @property
    def lost(self) -> int:
        """Count all that is lost."""
        return sum(count for _, count in self.losses)


class ProcessDirectory:
    """A locked directory: our own, or one taken over from a dead process.

    Not thread-safe; the spool's lock guards it, except while it is taken stock of.
    """

    def __init__(
        self, folder: ServiceFolder, locked: LockedDirectory, descriptors: Descriptors
    ) -> None:
        """Wrap what we hold the lock of."""
        self._folder = folder
        self._locked = locked
        self._descriptors = descriptors
        self._last_number = 0
        self.name = locked.name
        self.held_since = math.inf
        self.segments: list[Segment] = []
        self.current: Segment | None = None
        self.is_removed = False
        """Whether only open files are left of it."""
        self.counter: Counter | None = None
        self._counted: Counted | None = None  # by a dead process
        self.cursors = Cursors(descriptors, locked.folder_fd)

    # -- writing: only ever our own

    def begin_segment(self) -> Segment:
        """Start the next file.

        Raises:
            OSError: The disk does not take it.
        """
        number = self._last_number + 1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        folder = self._locked.folder_fd
        try:
            fd = self._descriptors.open(segment_name(number), flags, folder)
        finally:
            self._last_number = number  # never twice, whatever stands in the way
        self.current = Segment(number, 0, time.monotonic(), fd=fd)
        self.segments.append(self.current)
        return self.current

    def append(
        self,
        segment: Segment,
        frame: bytes,
        signal: int,
        count: int,
        *,
        is_synced: bool,
        tally: list[int],
    ) -> None:
        """Write a frame with one call.

        Args:
            segment: Where to.
            frame: Its bytes.
            signal: Number of what is in it.
            count: Records in it.
            is_synced: Whether to wait until the disk holds it.
            tally: Raised for the signal once the frame is there.

        Raises:
            OSError: The disk does not take it; what was written is written over.
        """
        size, now = len(frame), time.monotonic()
        write_whole(segment.fd, frame, segment.size)
        if is_synced:
            self._sync(segment)
        # Nothing is called between these: they happen together.
        segment.size += size
        segment.waiting[signal] += count
        segment.written_at = now
        tally[signal] += 1

    def seal(self, *, is_synced: bool) -> None:
        """Write no more to the current segment.

        Raises:
            OSError: It could not be synced.
        """
        segment, self.current = self.current, None
        if segment is None:
            return
        if is_synced:
            self._sync(segment)
        if sum(1 for other in self.segments if other.fd >= 0) > _HELD_OPEN:
            self._descriptors.close(segment.fd)
            segment.fd = -1

    def _sync(self, segment: Segment) -> None:
        sync(segment.fd)
        os.fsync(self._locked.folder_fd)

    # -- reading and settling

    def waits(self, signal: int) -> bool:
        """Whether records of a signal are not settled."""
        return any(segment.waiting[signal] for segment in self.segments)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def waiting_bytes(self) -> int:
        """Bytes from the first one on that is not settled, per segment."""
        size = 0
        for segment in self.segments:
            starts = [
                self.cursors[signal].place_in(segment.number)
                for signal, count in enumerate(segment.waiting)
                if count
            ]
            if starts:
                size += max(0, segment.size - min(starts))
        return size

    def open(self, segment: Segment) -> int:
        """Give a descriptor to read a segment from, which the caller closes.

        Raises:
            OSError: It is gone, or not ours.
        """
        if segment.fd >= 0:  # works without a name, too
            return self._descriptors.duplicate(segment.fd)
        name = segment_name(segment.number)
        return self._descriptors.open(name, os.O_RDONLY, self._locked.folder_fd)

    def done(self, fd: int) -> None:
        """Close what ``open`` gave."""
        self._descriptors.close(fd)

    def settle(self, segment: Segment, signal: int, count: int) -> None:
        """Note that records of a segment need not be delivered any more."""
        segment.waiting[signal] -= count
        self.cursors[signal].total += count

    def sweep(self) -> None:
        """Remove the segments in which everything is settled."""
        for segment in tuple(self.segments):
            if any(segment.waiting) or (
                segment is self.current and segment.size < _WORTH_REMOVING_BYTES
            ):
                continue
            self.remove_segment(segment)

    def remove_segment(self, segment: Segment) -> None:
        """Remove a file; one that the disk does not let go is settled anyway."""
        if segment is self.current:
            self.current = None
        self.segments.remove(segment)
        self._descriptors.close(segment.fd)
        segment.fd = -1
        with suppress(OSError):
            os.unlink(segment_name(segment.number), dir_fd=self._locked.folder_fd)

    def is_in_place(self) -> bool:
        """Whether the directory is still where it was made."""
        return self._folder.holds(self._locked)

    def close(self, *, is_synced: bool) -> None:
        """Write no more, and leave what waits to the next process."""
        with suppress(OSError):
            self.seal(is_synced=is_synced)
        self.release()

    def release(self) -> None:
        """Leave it to the next process."""
        self._let_go()
        self._folder.release(self._locked, self._descriptors)

    def remove(self) -> bool:
        """Remove it with all that is in it; whether it is gone."""
        self._let_go()
        return self._folder.remove(self._locked, self._descriptors)

    def abandon(self) -> None:
        """In a forked child: let go of the mapping; the files are closed already."""
        if self.counter is not None:
            self.counter.let_go()

    def _let_go(self) -> None:
        if self.counter is not None:
            self.counter.close()
        self.cursors.close()
        for segment in self.segments:
            self._descriptors.close(segment.fd)
            segment.fd = -1

    # -- taking over

    def take_stock(
        self, letters: DeadLetters, failing_since: float = math.inf
    ) -> list[Stock]:
        """Read what a dead process left.

        Two figures tell what is missing without believing the damaged bytes: what the
        process secured, and what was settled since. The difference must be there. A
        write that the kill cut short was never secured, so it is no damage but part of
        what the crash lost; one that was complete and not yet noted takes from that.
        Without intact figures the heads of the damaged frames are asked.

        Args:
            letters: Keep damaged bytes.
            failing_since: When it could not be read for the first time, on the
                monotonic clock.

        Raises:
            OSError: It cannot be read, which is no proof of damage: nothing is removed.
        """
        self.cursors.load()
        damages: list[tuple[Segment, list[Damage]]] = []
        for number, size, modified in list_segments(self._locked.folder_fd):
            # A time in the future is a clock that was put back: age nothing.
            age = max(0.0, time.time() - modified)
            segment = Segment(number, size, time.monotonic() - age)
            self.segments.append(segment)
            damages.append((segment, self._scan(segment, failing_since)))
        self._counted = read_counted(self._descriptors, self._locked.folder_fd)
        stocks = self._compare([d for _, found in damages for d in found])
        self._keep(damages, letters, is_known=any(stock.missing for stock in stocks))
        self.sweep()
        return stocks

    def _scan(self, segment: Segment, failing_since: float) -> list[Damage]:
        damages: list[Damage] = []
        try:
            self._count(segment, damages)
        except OSError as error:
            if not is_hopeless(error, failing_since):
                raise
            signal = None if error.errno in _NOT_OURS else 0
            damages.append(Damage(0, segment.size, signal, 1, is_cut=False))
        return damages

    def _count(self, segment: Segment, damages: list[Damage]) -> None:
        places = [
            self.cursors[signal].place_in(segment.number)
            for signal in range(len(SIGNALS))
        ]
        if min(places) >= segment.size:
            return
        signal = 0
        fd = self.open(segment)
        try:
            for item in read_frames(fd, min(places), segment.size):
                # Bytes that say nothing are taken for what stands before them.
                known = signal if item.signal is None else item.signal
                signal = known if known < len(SIGNALS) else signal
                if item.offset < places[signal]:
                    continue
                if isinstance(item, Damage):
                    damages.append(item._replace(signal=signal))
                elif known == signal:
                    segment.waiting[signal] += item.records
        finally:
            self._descriptors.close(fd)

    def _compare(self, damages: list[Damage]) -> list[Stock]:
        # The first segment is only removed after something was settled.
        is_settled = any(self.cursors[signal].total for signal in range(len(SIGNALS)))
        is_begun = bool(self.segments) and self.segments[0].number > 1
        is_known = self.cursors.is_whole and (is_settled or not is_begun)
        counted, kinds = self._counted, len(LOSS_REASONS)
        stocks: list[Stock] = []
        for signal in range(len(SIGNALS)):
            found = sum(segment.waiting[signal] for segment in self.segments)
            lost = sum(damage.records for damage in damages if damage.signal == signal)
            crashed, untold = 0, [0] * kinds
            if counted is not None:
                figures = counted.figures[signal]
                untold = counted.untold[kinds * signal : kinds * (signal + 1)]
                crashed = figures.unsecured
                expected = figures.secured - self.cursors[signal].total
                if is_known and expected >= 0:
                    lost = max(0, expected - found)
                    crashed = max(0, crashed - max(0, found - expected))
            stocks.append(Stock(found, lost, crashed, tuple(untold)))
        return stocks

    def note_entered(self, stocks: list[Stock]) -> None:
        """Note that the ledger has what was found here, so that it is entered once."""
        if self._counted is None:
            return
        entered: list[Figures] = []
        for signal, stock in enumerate(stocks):
            secured = self.cursors[signal].total + stock.found
            accepted = max(self._counted.figures[signal].accepted, secured)
            entered.append(Figures(accepted, secured, accepted - secured))
        with suppress(OSError):
            write_figures(self._descriptors, self._locked.folder_fd, entered)

    def _keep(
        self,
        damages: list[tuple[Segment, list[Damage]]],
        letters: DeadLetters,
        *,
        is_known: bool,
    ) -> None:
        for segment, found in damages:
            is_torn_write = (
                not is_known
                and segment is self.segments[-1]
                and len(found) == 1
                and found[0].is_cut
            )
            if found and not is_torn_write:
                self.keep_damage(segment, found, letters)
            segment.is_damage_kept = True

    def keep_damage(
        self, segment: Segment, damages: list[Damage], letters: DeadLetters
    ) -> None:
        """Copy the damaged bytes of a segment to where a person finds them.

        Raises:
            OSError: That is not possible now; try again.
        """
        kept = bytearray()
        try:
            fd = self.open(segment)
            try:
                for damage in damages:
                    room = min(damage.end - damage.offset, _KEPT_BYTES - len(kept))
                    if room <= 0:
                        break
                    kept += os.pread(fd, room, damage.offset)
            finally:
                self._descriptors.close(fd)
            letters.keep_damaged(bytes(kept))
        except OSError as error:
            # A disk without room for the copy must not stop the delivery of the rest:
            # these bytes go with their segment, for no record can be made of them.
            raise_passing(error)
        segment.is_damage_kept = True
