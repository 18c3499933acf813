"""Batches on disk: they outlive the process, and whoever comes next delivers them."""

import errno
import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..constants import DropReason, Signal
from .dead_letters import DeadLetters
from .process_directory import ProcessDirectory, Segment
from .segments import NUMBERS, SIGNALS, Damage, encode_frame, read_frames
from .spool import REQUEST_LIMIT_BYTES, Accounts, Lease, MemorySpool
from .spool_counter import Counter
from .spool_directory import ServiceFolder
from .spool_files import Descriptors

_SEGMENT_BYTES = 4 * 1024 * 1024
_SEGMENTS_PER_LIMIT = 8
_OVERFLOW_BYTES = 16 * 1024 * 1024
_AGE_LIMIT_S = 7 * 24 * 3600.0
_LOOK_INTERVAL_S = 10.0
_RETRY_INTERVAL_S = 1.0
# Directories taken over at a time: each costs three descriptors.
_ADOPTED_LIMIT = 8
# Segments that one lease may span.
_PLAN_LIMIT = 8
_FULL_PERCENT = 80
# Not the file's fault: to be tried again instead of counted as lost.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_UNLIMITED = 1 << 62


@dataclass(eq=False, slots=True)
class _Place:
    """Where a lease stands."""

    directory: ProcessDirectory | None
    """``None`` if it came from memory."""
    parts: list[tuple[Segment, int]]
    """Segments, and how many records of each."""
    end: int = 0
    """Offset behind the last frame."""
    inner: Lease | None = None


@dataclass(slots=True)
class _Reading:
    """Frames of one signal, read in order."""

    limit_bytes: int
    limit_count: int
    views: list[memoryview]
    parts: list[tuple[Segment, int]]
    lost: list[tuple[Segment, int]]
    size: int = 0
    count: int = 0
    end: int = 0
    is_full: bool = False

    def takes(self, body: memoryview, count: int) -> bool:
        """Add a batch unless it goes beyond the limits; the first one never does."""
        if self.views and (
            self.size + len(body) > self.limit_bytes
            or self.count + count > self.limit_count
        ):
            self.is_full = True
            return False
        self.views.append(body)
        self.size += len(body)
        self.count += count
        return True


class DiskSpool:
    """Keeps batches in files of a service, in a directory of this process.

    One lock guards the state; it is not held while files are read, searched or
    delivered. What the accounts are told is told after it was released.

    A lease pins its segments: room is made elsewhere, so that a record is never both
    given up and delivered.
    """

    def __init__(
        self,
        root: Path,
        service: str,
        fingerprint: str,
        *,
        durability: str,
        limit_bytes: int,
        fsync: str,
        accounts: Accounts,
    ) -> None:
        """Check that the disk can be used; a directory of our own comes later.

        Args:
            root: Holds the folders of all services.
            service: Name of the service.
            fingerprint: Tells its destinations apart; letters and digits.
            durability: What the pipe promises with this spool.
            limit_bytes: Bytes on disk at most, all processes of the service together.
            fsync: ``never``, ``segment`` or ``batch``.
            accounts: Told what happens here by itself.

        Raises:
            SpoolUnavailableError: The directory cannot be used.
        """
        self.durability = durability
        self._limit = limit_bytes
        self._segment_limit = min(_SEGMENT_BYTES, limit_bytes // _SEGMENTS_PER_LIMIT)
        self._fsync = fsync
        self._accounts = accounts
        self._folder = ServiceFolder(root, service, fingerprint)
        self.directory: Path | None = self._folder.path
        self._descriptors = Descriptors()
        self._letters = DeadLetters(self._folder, self._descriptors)
        self._overflow = MemorySpool(_OVERFLOW_BYTES)
        self._lock = threading.RLock()  # a finalizer may emit while we hold it
        self._looking = threading.Lock()
        self._events: deque[tuple[Signal, DropReason | None, int]] = deque()
        self._troubles: deque[tuple[str, str]] = deque()
        self._own: ProcessDirectory | None = None
        self._others: list[ProcessDirectory] = []
        self._cells: memoryview[int] | array[int] | None = None
        self._out: dict[Signal, _Place] = {}
        self._backlog: deque[str] = deque()
        self._spent: set[str] = set()
        self._foreign_bytes = 0
        self._is_writing = False
        self._is_closed = False
        self._trouble: str | None = None
        self._retry_at = 0.0
        self._checked_at = time.monotonic()
        self._look_at = 0.0
        if self._folder.is_without_room:
            self._refuse(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            self._tell()

    # -- what is known

    @property
    def size_bytes(self) -> int:
        """Bytes on disk that wait here."""
        with self._lock:
            return sum(directory.waiting_bytes for directory in self._held())

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people."""
        with self._lock:
            found = [self._trouble] if self._trouble else []
            percent = self._total() * 100 // self._limit
        if percent >= _FULL_PERCENT:
            found.append(f"spool is {percent} % full: {self.directory}")
        return tuple(found)

    def full_reason(self) -> DropReason:
        """The disk makes room by itself, unless it refuses writes."""
        return DropReason.DISK_FULL if self._trouble else DropReason.QUEUE_FULL

    def waits(self, signal: Signal) -> bool:
        """Whether a batch of that signal waits."""
        number = NUMBERS[signal]
        with self._lock:
            return self._overflow.waits(signal) or any(
                directory.waits(number) for directory in self._held()
            )

    def volatile(self, signal: Signal) -> int:
        """Count the records that the disk did not take."""
        return self._overflow.volatile(signal)

    def has_orphans(self) -> bool:
        """Whether there are directories that we do not hold."""
        try:
            names = self._folder.names()
        except OSError:
            return False
        with self._lock:
            held = {directory.name for directory in self._held()} | self._spent
        return not held.issuperset(names)

    # -- taking batches

    def accept(self, signal: Signal, count: int) -> None:
        """Note records that entered the queue in front; the caller holds its lock."""
        cells = self._cells
        if cells is None:
            cells = self._begin()
        # Closed at this very moment: nobody looks at the figure any more.
        with suppress(ValueError):
            cells[3 * NUMBERS[signal]] += count

    def settle(self, signal: Signal, count: int) -> None:
        """Note records of that queue that were settled without ``put``."""
        with self._lock:
            self._add(NUMBERS[signal], 2, count)

    def put(self, signal: Signal, body: bytes, count: int) -> bool:
        """Write a batch; memory takes what the disk refuses."""
        with self._guarded():
            if self._is_closed:
                return False
            # A finalizer may put in the middle of our write: memory takes it.
            if not self._is_writing and self._write(NUMBERS[signal], body, count):
                self._rescue()
                return True
            return self._overflow.put(signal, body, count)

    def reject(self, signal: Signal, body: bytes, reason: str) -> None:
        """Keep refused records for a person to look at."""
        with self._guarded():
            try:
                self._letters.keep_rejected(NUMBERS[signal], body, reason)
            except OSError as error:
                self._note("reject", f"refused records were not kept: {error}")

    # -- giving batches

    def lease(self, signal: Signal, limit_bytes: int, limit_count: int) -> Lease | None:
        """Read the oldest batches: of dead processes, our own, then memory."""
        number = NUMBERS[signal]
        while True:
            with self._guarded():
                self._out.pop(signal, None)
                if self._is_closed:
                    return None
                directory = next((d for d in self._held() if d.waits(number)), None)
                if directory is None:
                    return self._lease_memory(signal, limit_bytes, limit_count)
                segments = [s for s in directory.segments if s.waiting[number]]
                cursor = directory.cursors[number]
                plan = [
                    (s, cursor.place_in(s.number), s.size, s.waiting[number])
                    for s in segments[:_PLAN_LIMIT]
                ]
                self._out[signal] = _Place(directory, [(s, 0) for s, *_ in plan])
            reading = _Reading(limit_bytes, limit_count, [], [], [])
            try:
                for segment, start, end, waiting in plan:
                    span = (start, end, waiting)
                    self._read(directory, segment, number, span, reading)
                    if reading.is_full or reading.size >= limit_bytes:
                        break
            except OSError as error:
                with self._guarded():
                    self._note("read", f"records cannot be read now: {error}")
                    self._out.pop(signal, None)
                return None
            lease = self._hand_out(signal, directory, reading)
            if lease is not None:
                return lease

    def ack(self, lease: Lease) -> None:
        """Forget the batches of a lease, and the files that are settled now."""
        place: _Place = lease.place
        number = NUMBERS[lease.signal]
        with self._guarded():
            if self._out.get(lease.signal) is not place:
                return  # handed out again meanwhile
            del self._out[lease.signal]
            if place.inner is not None:
                self._overflow.ack(place.inner)
                self._add(number, 2, lease.count)
            directory = place.directory
            if directory is None or self._is_closed:
                return
            for segment, count in place.parts:
                directory.settle(segment, number, count)
            cursor = directory.cursors[number]
            cursor.segment, cursor.offset = place.parts[-1][0].number, place.end
            self._save(directory, number)
            self._sweep(directory)

    # -- keeping house

    def adopt(self) -> bool:
        """Take over what dead processes left, and keep house."""
        if not self._looking.acquire(blocking=False):
            return False  # another delivery thread is at it
        try:
            return self._look()
        except OSError as error:
            with self._guarded():
                place = self.directory
                self._note("look", f"{place} cannot be searched for records: {error}")
            return False
        finally:
            self._looking.release()

    def close(self) -> None:
        """Let go of all files; nobody has to adopt a directory without records."""
        with self._guarded():
            if self._is_closed:
                return
            self._is_closed = True
            for directory in self._others:
                directory.release()
            own = self._own
            self._cells = array("Q", bytes(8 * 3 * len(SIGNALS)))
            if own is None:
                return
            if any(own.waits(number) for number in range(len(SIGNALS))):
                with suppress(OSError):
                    own.seal(is_synced=self._fsync != "never")
                own.release()
            else:
                own.remove()

    def abandon(self) -> None:
        """In a forked child: close what was inherited, unlock and write nothing."""
        self._lock = threading.RLock()
        self._looking = threading.Lock()
        self._is_closed = True
        self._cells = array("Q", bytes(8 * 3 * len(SIGNALS)))
        self._descriptors.close_all()
        for directory in self._held():
            if directory.counter is not None:
                directory.counter.let_go()
        self._own, self._others = None, []

    # -- inside: all below expect the lock, where nothing else is said

    def _held(self) -> list[ProcessDirectory]:
        own = self._own
        return self._others if own is None else [*self._others, own]

    def _total(self) -> int:
        return self._foreign_bytes + sum(directory.size for directory in self._held())

    def _add(self, number: int, figure: int, count: int) -> None:
        cells = self._cells if self._cells is not None else self._begin()
        cells[3 * number + figure] += count

    def _begin(self) -> "memoryview[int] | array[int]":
        with self._guarded():
            cells = self._cells
            if cells is None:
                cells = self._cells = array("Q", bytes(8 * 3 * len(SIGNALS)))
                if not self._is_closed:
                    try:
                        cells = self._make_own().cells
                    except OSError as error:
                        self._refuse(error)
            return cells

    def _make_own(self) -> Counter:
        locked = self._folder.create(self._descriptors)
        own = ProcessDirectory(self._folder, locked, self._descriptors)
        try:
            counter = Counter(self._descriptors, locked.folder_fd)
        except BaseException:
            own.remove()
            raise
        # What stands in the queue moves along; the rest is settled where it was.
        cells = self._cells or array("Q", bytes(8 * 3 * len(SIGNALS)))
        for cell in range(0, len(cells), 3):
            unsecured = cells[cell] - cells[cell + 1] - cells[cell + 2]
            counter.cells[cell] = max(0, unsecured)
        own.counter = counter
        self._own = own
        self._cells = counter.cells
        return counter

    def _write(self, number: int, body: bytes, count: int) -> bool:
        now = time.monotonic()
        own = self._own
        if self._trouble and now < self._retry_at:
            if own is not None and own.counter is not None:
                own.counter.store()
            return False
        frame = encode_frame(number, body, count)
        if len(frame) > self._limit:
            return False
        self._is_writing = True
        try:
            self._check_own(now)
            try:
                self._append(number, frame, count)
            except FileNotFoundError:
                self._lose_own()
                self._append(number, frame, count)
        except OSError as error:
            self._refuse(error)
            return False
        finally:
            self._is_writing = False
        self._recover()
        return True

    def _append(self, number: int, frame: bytes, count: int) -> None:
        if self._own is None:
            self._make_own()
        own = self._own
        if own is None:  # closed by a nested call
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        segment = own.current
        if segment is None or (
            segment.size and segment.size + len(frame) > self._segment_limit
        ):
            own.seal(is_synced=self._fsync != "never")
            self._make_room(max(self._segment_limit, len(frame)))
            segment = own.begin_segment()
        own.append(segment, frame, number, count)
        if self._fsync == "batch":
            own.sync(segment)
        self._add(number, 1, count)

    def _check_own(self, now: float) -> None:
        if self._own is not None and now - self._checked_at >= _RETRY_INTERVAL_S:
            self._checked_at = now
            if not self._own.is_in_place():
                self._lose_own()

    def _lose_own(self) -> None:
        """Go on in a new directory; what is still open here is delivered from here."""
        own, self._own = self._own, None
        if own is None:
            return
        if own.counter is not None:
            own.counter.detach()
            self._cells = own.counter.cells
        own.current = None
        self._others.append(own)
        self._note("removed", f"the directory of records {own.name} was removed")

    def _refuse(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + _RETRY_INTERVAL_S
        self._trouble = (
            f"disk refuses writes: {error.strerror or error} ({self.directory}); "
            "records wait in memory until it takes them again"
        )
        self._note("disk", self._trouble)
        own = self._own
        if own is not None and own.counter is not None:
            own.counter.detach()
            self._cells = own.counter.cells
            own.counter.store()

    def _recover(self) -> None:
        if self._trouble is None:
            return
        self._trouble = None
        own = self._own
        if own is not None and own.counter is not None:
            own.counter.attach()
            self._cells = own.counter.cells

    def _rescue(self) -> None:
        """Bring to disk what memory took while the disk refused."""
        for number, signal in enumerate(SIGNALS):
            place = self._out.get(signal)
            if place is not None and place.inner is not None:
                continue  # on its way
            while self._overflow.waits(signal):
                lease = self._overflow.lease(signal, REQUEST_LIMIT_BYTES, _UNLIMITED)
                if lease is None:
                    break
                if not self._write(number, lease.body, lease.count):
                    return
                self._overflow.ack(lease)

    def _lease_memory(
        self, signal: Signal, limit_bytes: int, limit_count: int
    ) -> Lease | None:
        inner = self._overflow.lease(signal, limit_bytes, limit_count)
        if inner is None:
            return None
        place = _Place(None, [], inner=inner)
        self._out[signal] = place
        return Lease(signal, inner.body, inner.count, place)

    def _read(
        self,
        directory: ProcessDirectory,
        segment: Segment,
        number: int,
        span: tuple[int, int, int],
        reading: _Reading,
    ) -> None:
        """Read one segment's frames of a signal; without the lock."""
        start, end, waiting = span
        got = 0
        damages: list[Damage] = []
        try:
            fd = directory.open(segment)
            try:
                for item in read_frames(fd, start, end):
                    if isinstance(item, Damage):
                        damages.append(item)
                    # More than was counted here was written by nobody we know.
                    elif item.signal == number and got + item.count <= waiting:
                        if not reading.takes(item.body, item.count):
                            break
                        got += item.count
                        reading.end = item.end
                        if got == waiting:
                            break
            finally:
                self._descriptors.close(fd)
        except OSError as error:
            if error.errno in _PASSING:
                raise
        if damages and not segment.is_damage_kept:
            directory.keep_damage(segment, damages, self._letters)
        if got:
            reading.parts.append((segment, got))
        if got < waiting and not reading.is_full:
            reading.lost.append((segment, waiting - got))

    def _hand_out(
        self, signal: Signal, directory: ProcessDirectory, reading: _Reading
    ) -> Lease | None:
        """Give what was read, after what could not be read is given up."""
        with self._guarded():
            self._out.pop(signal, None)
            if self._is_closed:
                return None
            number = NUMBERS[signal]
            for segment, count in reading.lost:
                self._give_up(directory, segment, number, count, DropReason.DAMAGED)
            if not reading.parts:
                self._sweep(directory)
                return None
            place = _Place(directory, reading.parts, reading.end)
            self._out[signal] = place
        return Lease(signal, b"".join(reading.views), reading.count, place)

    def _give_up(
        self,
        directory: ProcessDirectory,
        segment: Segment,
        number: int,
        count: int,
        reason: DropReason,
    ) -> None:
        directory.settle(segment, number, count)
        self._events.append((SIGNALS[number], reason, count))
        self._save(directory, number)

    def _save(self, directory: ProcessDirectory, number: int) -> None:
        try:
            directory.cursors.save(number)
        except OSError as error:
            text = "delivered records cannot be marked, so a crash would repeat them"
            self._note("ack", f"{text}: {error.strerror} ({self.directory})")

    def _sweep(self, directory: ProcessDirectory) -> None:
        directory.sweep()
        if directory is self._own or directory.segments:
            return
        if directory in self._others:
            self._others.remove(directory)
            if not directory.remove():
                self._spent.add(directory.name)

    def _evict(
        self, directory: ProcessDirectory, segment: Segment, reason: DropReason
    ) -> None:
        for number, count in enumerate(segment.waiting):
            if count:
                self._give_up(directory, segment, number, count, reason)
        directory.remove_segment(segment)
        self._sweep(directory)

    def _evictable(self) -> Iterator[tuple[ProcessDirectory, Segment]]:
        pinned = {segment for place in self._out.values() for segment, _ in place.parts}
        for directory in tuple(self._held()):
            for segment in tuple(directory.segments):
                if segment not in pinned:
                    yield directory, segment

    def _make_room(self, size: int) -> None:
        for directory, segment in self._evictable():
            if self._total() + size <= self._limit:
                return
            if segment is not directory.current:
                self._evict(directory, segment, DropReason.SPOOL_FULL)

    def _look(self) -> bool:
        """Do what is due; without the lock."""
        now = time.monotonic()
        if self._is_closed:
            return False
        if now >= self._look_at:
            self._look_at = now + _LOOK_INTERVAL_S
            self._keep_house(now)
            self._search()
        taken = False
        while self._backlog and len(self._others) < _ADOPTED_LIMIT:
            taken = self._take_over(self._backlog.popleft()) or taken
        return taken

    def _keep_house(self, now: float) -> None:
        """Look after our own directory, ages and room; without the lock."""
        with self._guarded():
            self._check_own(now)
            self._rescue()
            for directory, segment in self._evictable():
                if now - segment.written_at > _AGE_LIMIT_S:
                    self._evict(directory, segment, DropReason.TOO_OLD)
            self._make_room(0)
        with suppress(FileNotFoundError):
            self._folder.tidy(self._descriptors)

    def _search(self) -> None:
        """List the directories of others; without the lock."""
        try:
            names = self._folder.names()
        except FileNotFoundError:
            return  # the next write makes it again
        with self._lock:
            held = {directory.name for directory in self._held()} | self._spent
        names = [name for name in names if name not in held]
        size = sum(self._folder.size_of(name) for name in names)
        with self._lock:
            self._foreign_bytes = size
        self._backlog = deque(names)

    def _take_over(self, name: str) -> bool:
        """Adopt a directory if its owner is dead; without the lock."""
        try:
            locked = self._folder.lock(name, self._descriptors)
            if locked is None:
                return False
            directory = ProcessDirectory(self._folder, locked, self._descriptors)
            try:
                stocks = directory.take_stock(self._letters)
            except BaseException:
                directory.release()
                raise
        except OSError as error:
            with self._guarded():
                if error.errno not in _PASSING:
                    self._spent.add(name)
                where = self._folder.path / name
                reason = error.strerror or error
                self._note("foreign", f"records in {where} are left alone: {reason}")
            return False
        with self._guarded():
            if self._is_closed:
                directory.release()
                return False
            for signal, stock in zip(SIGNALS, stocks, strict=True):
                self._events.append((signal, None, sum(stock)))
                self._events.append((signal, DropReason.DAMAGED, stock.missing))
                self._events.append((signal, DropReason.CRASH, stock.crashed))
            self._foreign_bytes = max(0, self._foreign_bytes - directory.size)
            self._others.append(directory)
            now = time.monotonic()
            for segment in tuple(directory.segments):
                if now - segment.written_at > _AGE_LIMIT_S:
                    self._evict(directory, segment, DropReason.TOO_OLD)
            self._make_room(0)
            self._sweep(directory)
        return True

    # -- telling others

    def _note(self, reason: str, message: str) -> None:
        self._troubles.append((f"spool_{reason}", message))

    def _tell(self) -> None:
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

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock; what is to be told is told without it."""
        try:
            with self._lock:
                yield
        finally:
            self._tell()
