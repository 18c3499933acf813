"""Batches on disk: they outlive the process, and whoever comes next delivers them."""

import threading
from pathlib import Path
from typing import TypeAlias

from ..constants import DropReason, Signal
from .adoption import Adoption
from .disk_reader import DiskReader
from .disk_writer import DiskWriter, is_without_room
from .holdings import Holdings, Place
from .process_directory import ProcessDirectory, Segment
from .segments import NUMBERS, SIGNALS
from .spool import (
    REQUEST_LIMIT_BYTES,
    Accounts,
    CrashCounter,
    Lease,
    MemorySpool,
)
from .spool_directory import ServiceFolder

_OVERFLOW_BYTES = 16 * 1024 * 1024
# Segments that one lease may span.
_PLAN_LIMIT = 64
# A lease pins its files, so it must leave enough of the limit to make room in.
_LEASES_PER_LIMIT = 4
_FULL_PERCENT = 80
_UNLIMITED = 1 << 62
_Stretch: TypeAlias = tuple[Segment, tuple[int, int, int]]


class DiskSpool:
    """Keeps batches in files of a service, in a directory of this process.

    One lock guards the state; it is not held while files are searched, read or
    delivered.
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
        folder = ServiceFolder(root, service, fingerprint)
        self.directory: Path | None = folder.path
        self._holdings = Holdings(folder, limit_bytes, accounts)
        self._writer = DiskWriter(self._holdings, fsync)
        self._adoption = Adoption(self._holdings, self._writer.begin)
        self._overflow = MemorySpool(limit_bytes=_OVERFLOW_BYTES)
        self._taken = [0] * len(SIGNALS)  # batches, straight to the disk
        if folder.is_without_room:
            with self._holdings.telling, self._holdings.lock:
                self._writer.refuse(is_without_room())

    # -- what is known

    @property
    def counter(self) -> CrashCounter:
        """Notes what entered the queues in front."""
        return self._writer

    @property
    def size_bytes(self) -> int:
        """Bytes on disk that wait here."""
        with self._holdings.lock:
            return sum(held.waiting_bytes for held in self._holdings.held())

    @property
    def occupancy(self) -> tuple[int, int]:
        """Bytes on disk that are taken and may be, the whole service's."""
        with self._holdings.lock:
            return self._holdings.total_bytes(), self._holdings.limit_bytes

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people."""
        with self._holdings.lock:
            trouble = self._writer.trouble
            used = self._holdings.total_bytes()
        found = [trouble] if trouble else []
        percent = used * 100 // self._holdings.limit_bytes
        if percent >= _FULL_PERCENT:
            found.append(f"spool is {percent} % full ({self.directory})")
        return tuple(found)

    def full_reason(self) -> DropReason:
        """The disk makes room by itself, unless it refuses writes."""
        is_refused = self._writer.trouble is not None
        return DropReason.DISK_FULL if is_refused else DropReason.QUEUE_FULL

    def waits(self, signal: Signal) -> bool:
        """Whether a batch of that signal waits."""
        with self._holdings.lock:
            directory = self._next(NUMBERS[signal])
        return directory is not None or self._overflow.waits(signal)

    def volatile(self, signal: Signal) -> int:
        """Count the records that the disk did not take."""
        return self._overflow.volatile(signal)

    def has_orphans(self) -> bool:
        """Whether there are directories that we do not hold."""
        try:
            names = self._holdings.folder.names()
        except OSError:
            return False
        with self._holdings.lock:
            held = {directory.name for directory in self._holdings.held()}
            return not (held | self._holdings.spent).issuperset(names)

    @property
    def is_searching(self) -> bool:
        """Whether directories may be there that were not looked into yet."""
        return self._adoption.is_unfinished

    # -- taking batches

    def settle(self, signal: Signal, count: int) -> None:
        """Note records of that queue that were settled without ``put``."""
        with self._holdings.telling, self._holdings.lock:
            self._writer.add(NUMBERS[signal], 2, count)

    def put(self, signal: Signal, body: bytes, count: int) -> bool:
        """Write a batch; memory takes what the disk refuses."""
        with self._holdings.telling, self._holdings.lock:
            if self._holdings.is_closed:
                return False
            if self._writer.write(NUMBERS[signal], body, count, self._taken):
                self._rescue()
                if signal is Signal.METRICS:
                    self._holdings.note_told()
                return True
            return self._overflow.put(signal, body, count)

    def note_observed(self) -> None:
        """Note that metrics are made of the ledgers now."""
        with self._holdings.lock:
            self._holdings.note_observed()

    def taken(self, signal: Signal) -> int:
        """Count the batches that were ever taken of a signal."""
        with self._holdings.lock:
            return self._taken[NUMBERS[signal]] + self._overflow.taken(signal)

    def reject(self, signal: Signal, body: bytes, reason: str) -> None:
        """Keep refused records for a person to look at."""
        try:
            self._holdings.letters.keep_rejected(NUMBERS[signal], body, reason)
        except OSError as error:
            with self._holdings.telling, self._holdings.lock:
                self._holdings.note("reject", f"refused records are not kept: {error}")

    # -- giving batches

    def lease(self, signal: Signal, limit_bytes: int, limit_count: int) -> Lease | None:
        """Read the oldest batches: of dead processes, our own, then memory."""
        size = min(limit_bytes, self._holdings.limit_bytes // _LEASES_PER_LIMIT)
        while not self._holdings.is_closed:
            with self._holdings.telling, self._holdings.lock:
                self._holdings.out.pop(signal, None)
                self._holdings.served.add(NUMBERS[signal])
                directory = self._next(NUMBERS[signal])
                plan = self._pin(signal, directory) if directory else []
            if directory is None:
                lease = self._lease_memory(signal, limit_bytes, limit_count)
                if lease is None and self._adoption.take_more():
                    continue
                return lease
            reader = DiskReader(NUMBERS[signal], size, limit_count)
            try:
                self._read(directory, plan, reader)
            except OSError as error:
                with self._holdings.telling, self._holdings.lock:
                    self._holdings.note("read", f"records cannot be read now: {error}")
                    self._holdings.out.pop(signal, None)
                return None
            lease = self._hand_out(signal, directory, reader)
            if lease is not None:
                return lease
        return None

    def ack(self, lease: Lease) -> None:
        """Forget the batches of a lease, and the files that are settled now."""
        place: Place = lease.place
        number = NUMBERS[lease.signal]
        with self._holdings.telling, self._holdings.lock:
            if self._holdings.out.get(lease.signal) is not place:
                return  # handed out again meanwhile
            del self._holdings.out[lease.signal]
            directory = place.directory
            if place.inner is not None:
                self._overflow.ack(place.inner)
                self._writer.add(number, 2, lease.count)
            elif directory is not None and not self._holdings.is_closed:
                for segment, count in place.parts:
                    directory.settle(segment, number, count)
                last, _ = place.parts[-1]
                directory.cursors[number].move(last.number, place.end)
                self._holdings.save(directory, number)
                self._holdings.sweep(directory)

    # -- keeping house

    def adopt(self) -> bool:
        """Take over what dead processes left, and keep house."""
        if self._holdings.is_closed:
            return False
        if self._adoption.is_due():
            with self._holdings.telling, self._holdings.lock:
                self._writer.check()
                self._writer.probe()
                self._rescue()
                self._holdings.expire()
        return self._adoption.run()

    def rescue(self, signal: Signal) -> None:
        """Try once more to bring to disk what it did not take; none is delivered now.

        A disk in trouble may be well again, and is not asked in every moment.
        """
        with self._holdings.telling, self._holdings.lock:
            place = self._holdings.out.get(signal)
            if place is not None and place.inner is not None:
                del self._holdings.out[signal]  # an answer would come too late
            if self._overflow.waits(signal):
                self._writer.retry()
                self._rescue()

    def close(self) -> None:
        """Let go of all files; nobody has to adopt a directory without records."""
        with self._holdings.telling, self._holdings.lock:
            if self._holdings.is_closed:
                return
            self._holdings.is_closed = True
            for directory in self._holdings.others:
                directory.release()
            self._holdings.others.clear()
            self._writer.close()

    def abandon(self) -> None:
        """In a forked child: close what was inherited, unlock and write nothing."""
        holdings = self._holdings
        holdings.lock = threading.RLock()  # the parent's may be held for ever
        holdings.is_closed = True
        self._writer.abandon()
        holdings.descriptors.close_all()
        for directory in holdings.held():
            directory.abandon()
        holdings.own, holdings.others = None, []

    # -- inside: all below expect the lock, where nothing else is said

    def _next(self, number: int) -> ProcessDirectory | None:
        held = self._holdings.held()
        return next((each for each in held if each.waits(number)), None)

    def _rescue(self) -> None:
        """Bring to disk what memory took while the disk refused."""
        for number, signal in enumerate(SIGNALS):
            place = self._holdings.out.get(signal)
            if place is not None and place.inner is not None:
                continue  # on its way
            while self._overflow.waits(signal):
                lease = self._overflow.lease(signal, REQUEST_LIMIT_BYTES, _UNLIMITED)
                if lease is None or not self._rescue_batch(number, lease):
                    return

    def _rescue_batch(self, number: int, lease: Lease) -> bool:
        tally = [0] * len(SIGNALS)
        try:
            return self._writer.write(number, lease.body, lease.count, tally)
        finally:  # also when a host's exception comes right after the write
            if tally[number]:
                self._overflow.ack(lease)

    def _pin(self, signal: Signal, directory: ProcessDirectory) -> list[_Stretch]:
        plan = _plan(directory, NUMBERS[signal])
        parts = [(segment, 0) for segment, _ in plan]
        self._holdings.out[signal] = Place(directory, parts)
        return plan

    def _read(
        self, directory: ProcessDirectory, plan: list[_Stretch], reader: DiskReader
    ) -> None:
        """Read until the limits are reached; without the lock."""
        for segment, span in plan:
            reader.read(directory, segment, span, self._holdings.letters)
            if reader.is_full:
                return

    def _lease_memory(
        self, signal: Signal, limit_bytes: int, limit_count: int
    ) -> Lease | None:
        """Give what the disk did not take; takes the lock."""
        with self._holdings.telling, self._holdings.lock:
            inner = self._overflow.lease(signal, limit_bytes, limit_count)
            if inner is None:
                return None
            place = Place(None, [], inner=inner)
            self._holdings.out[signal] = place
        return Lease(signal, inner.body, inner.count, place)

    def _hand_out(
        self, signal: Signal, directory: ProcessDirectory, reader: DiskReader
    ) -> Lease | None:
        """Give what was read, after what cannot be read is given up; takes the lock."""
        holdings, number = self._holdings, NUMBERS[signal]
        with holdings.telling, holdings.lock:
            holdings.out.pop(signal, None)
            if holdings.is_closed:
                return None
            for segment, count in reader.lost:
                reason = DropReason.DAMAGED
                holdings.give_up(directory, segment, number, count, reason)
            if not reader.parts:
                holdings.sweep(directory)
                return None
            place = Place(directory, reader.parts, reader.end)
            holdings.out[signal] = place
            is_adopted = directory is not holdings.own
        return Lease(*(signal, reader.body, reader.count, place), is_adopted=is_adopted)


def _plan(directory: ProcessDirectory, number: int) -> list[_Stretch]:
    """Say where to read: segments, each with first offset, end and records."""
    cursor = directory.cursors[number]
    waiting = [segment for segment in directory.segments if segment.waiting[number]]
    return [
        (each, (cursor.place_in(each.number), each.size, each.waiting[number]))
        for each in waiting[:_PLAN_LIMIT]
    ]
