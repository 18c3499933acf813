"""Writes batches to a directory of our own, and knows when the disk refuses."""

import errno
import os
import time
from contextlib import suppress

from .holdings import Holdings
from .process_directory import ProcessDirectory
from .segments import SIGNALS, encode_frame
from .spool_counter import FIGURE_CELLS, Cells, Counter, no_cells

_SEGMENT_BYTES = 4 * 1024 * 1024
_SEGMENTS_PER_LIMIT = 8
_RETRY_INTERVAL_S = 1.0


class DiskWriter:
    """The writing half of a disk spool; its lock is held unless said otherwise."""

    def __init__(self, holdings: Holdings, fsync: str) -> None:
        """Prepare; the directory comes with the first record.

        Args:
            holdings: The state shared with the reading half.
            fsync: ``never``, ``segment`` or ``batch``.
        """
        self.cells: Cells | None = None
        """Figures per signal: accepted, secured, settled."""
        self.trouble: str | None = None
        self._holdings = holdings
        self._segment_limit = min(
            _SEGMENT_BYTES, holdings.limit_bytes // _SEGMENTS_PER_LIMIT
        )
        self._fsync = fsync
        self._is_writing = False
        self._retry_at = 0.0
        self._checked_at = time.monotonic()

    def begin(self) -> Cells:
        """Give the figures; takes the lock itself."""
        with self._holdings.telling, self._holdings.lock:
            if self.cells is None:
                self.cells = no_cells()
                # A finalizer may come in while a write makes the directory.
                if not (self._holdings.is_closed or self._is_writing):
                    self._begin_own()
            return self.cells

    def count(self, cell: int, count: int) -> None:
        """Raise a figure; it takes the lock itself where there are none yet."""
        cells = self.begin() if self.cells is None else self.cells
        with suppress(ValueError):  # closed at this moment: nobody looks any more
            cells[cell] += count

    def add(self, number: int, figure: int, count: int) -> None:
        """Raise a figure of a signal."""
        self.count(3 * number + figure, count)

    def write(self, number: int, body: bytes, count: int, tally: list[int]) -> bool:
        """Bring a batch to the disk; whether it took it.

        Args:
            number: Of the signal.
            body: The batch.
            count: Records in it.
            tally: Raised for the signal once it is there, whatever is raised then.
        """
        # A finalizer may put in the middle of our write, and must not mix with it.
        if self._is_writing or not self._may_try():
            return False
        frame = encode_frame(number, body, count)
        if len(frame) > self._holdings.limit_bytes:
            return False
        self._is_writing = True
        try:
            self.check()
            try:
                self._append(number, frame, count, tally)
            except FileNotFoundError:
                self._lose()
                self._append(number, frame, count, tally)
        except OSError as error:
            _raise_foreign(error)
            self.refuse(error)
            return False
        finally:
            self._is_writing = False
        self._recover()
        return True

    def check(self) -> None:
        """Notice now and then that our directory was removed."""
        now, own = time.monotonic(), self._holdings.own
        if own is not None and now - self._checked_at >= _RETRY_INTERVAL_S:
            self._checked_at = now
            if not own.is_in_place():
                self._lose()

    def probe(self) -> None:
        """Notice that a disk in trouble takes writes again, without a record."""
        if self.trouble is not None and self._may_try():
            try:
                self._holdings.folder.probe()
            except OSError as error:
                _raise_foreign(error)
                self.refuse(error)
            else:
                self._recover()

    def retry(self) -> None:
        """Try a disk in trouble with the next write, however lately it refused."""
        self._retry_at = 0.0

    def refuse(self, error: OSError) -> None:
        """Leave the disk alone for a while."""
        self._retry_at = time.monotonic() + _RETRY_INTERVAL_S
        self.trouble = (
            f"disk refuses writes: {error.strerror or error} "
            f"({self._holdings.folder.path}); "
            "records wait in memory until it takes them again"
        )
        self._holdings.note("disk", self.trouble)
        counter = self._detach()
        if counter is not None:
            counter.store()

    def close(self) -> None:
        """Write no more; a directory in which nothing waits need not be adopted."""
        self.cells = no_cells()
        own, self._holdings.own = self._holdings.own, None
        if own is None:
            return
        if any(own.waits(number) for number in range(len(SIGNALS))):
            own.close(is_synced=self._fsync != "never")
        else:
            own.remove()

    def abandon(self) -> None:
        """In a forked child: let go of the mapping."""
        self.cells = no_cells()

    def _begin_own(self) -> None:
        self._is_writing = True
        try:
            self._make_own()
        except OSError as error:
            _raise_foreign(error)
            self.refuse(error)
        finally:
            self._is_writing = False

    def _may_try(self) -> bool:
        if self._holdings.is_closed:
            return False
        if self.trouble is None or time.monotonic() >= self._retry_at:
            return True
        own = self._holdings.own
        if own is not None and own.counter is not None:
            own.counter.store()
        return False

    def _append(self, number: int, frame: bytes, count: int, tally: list[int]) -> None:
        own = self._holdings.own or self._make_own()
        segment = own.current
        if segment is None or (
            segment.size and segment.size + len(frame) > self._segment_limit
        ):
            own.seal(is_synced=self._fsync != "never")
            self._holdings.make_room(max(self._segment_limit, len(frame)))
            segment = own.begin_segment()
        is_synced = self._fsync == "batch"
        own.append(segment, frame, number, count, is_synced=is_synced, tally=tally)
        self.add(number, 1, count)

    def _make_own(self) -> ProcessDirectory:
        holdings = self._holdings
        locked = holdings.folder.create(holdings.descriptors)
        own = ProcessDirectory(holdings.folder, locked, holdings.descriptors)
        try:
            counter = Counter(holdings.descriptors, locked.folder_fd)
        except BaseException:
            own.remove()
            raise
        # What stands in the queue moves along; the rest is settled where it was.
        cells = no_cells() if self.cells is None else self.cells
        for cell in range(0, FIGURE_CELLS, 3):
            unsecured = cells[cell] - cells[cell + 1] - cells[cell + 2]
            counter.cells[cell] = max(0, unsecured)
        own.counter = counter
        holdings.own = own
        holdings.write_untold()
        self.cells = counter.cells
        self._checked_at = time.monotonic()
        return own

    def _lose(self) -> None:
        """Go on in a new directory; what is still open here is delivered from here."""
        own = self._holdings.own
        if own is None:
            return
        self._detach()
        self._holdings.own = None
        own.current, own.is_removed = None, True
        self._holdings.others.append(own)
        self._holdings.note(
            "removed",
            f"the directory {own.name} in {self._holdings.folder.path} was removed "
            "while records waited in it; a new one is made",
        )

    def _detach(self) -> Counter | None:
        own = self._holdings.own
        if own is None or own.counter is None:
            return None
        own.counter.detach()
        self.cells = own.counter.cells
        return own.counter

    def _recover(self) -> None:
        if self.trouble is None:
            return
        self.trouble = None
        own = self._holdings.own
        if own is not None and own.counter is not None:
            own.counter.attach()
            self.cells = own.counter.cells


def _raise_foreign(error: OSError) -> None:
    """Let pass what is no trouble of the disk, which always comes with a number.

    Programs have their signal handlers raise ``TimeoutError``, which is an ``OSError``.
    """
    if error.errno is None:
        raise error


def is_without_room() -> OSError:
    """Give the error of a full disk."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
