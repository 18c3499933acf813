"""A signal's bounded queue, and the write of what it holds to the spool."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Generic, TypeVar

from ..constants import DropReason, Signal
from .background import BackgroundThread
from .bell import Bell
from .encoding import BatchEncoder
from .ledger import Ledger, Notices
from .own_work import as_own_work
from .route import Bounds
from .spool import ACCEPTED_CELLS, Spool

if TYPE_CHECKING:
    from .otlp_split import Piece

T = TypeVar("T")

# How long whoever finishes a record waits for a write that another thread makes.
_HELP_S = 0.05
_STEP_S = 0.001
# How often a figure is read that is moving; in between, others have the processor.
_READINGS = 1000
# After how long a writer without work looks once more before it sleeps for good.
_LAST_LOOK_S = 0.1


class Intake(Generic[T]):
    """Takes finished records, and writes them encoded to the spool.

    The writer thread does that after ``bounds.write_delay_s``. A thread alone keeps no
    bound on what is unwritten, since a busy interpreter does not let it run: whoever
    finishes the ``bounds.window_records``-th unwritten record lets it, by waiting for
    it. Only where every record is to be written before its call returns, and where no
    thread is to be had, does the caller write by himself: a signal handler may raise
    into our work then.
    """

    def __init__(
        self,
        signal: Signal,
        encode: BatchEncoder,
        bounds: Bounds,
        ledger: Ledger,
        notices: Notices,
        *,
        writer: "Writer",
        written: Callable[[int], None],
        size: Callable[[T], int] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            signal: What the records are.
            encode: Makes batches of records; gives up, and counts, what cannot be one.
            bounds: Sizes and times.
            ledger: Counts.
            notices: Where trouble is said.
            writer: The thread that writes, and where to.
            written: Told how many records a batch brought to the spool.
            size: How many ledger units a record stands for; one when not given.
        """
        self.signal = signal
        self.is_late = False
        """Whether the window of unwritten records is exceeded: the disk is too slow."""
        self._spool = writer.spool
        self._encode = encode
        self._bounds = bounds
        self._ledger = ledger
        self._notices = notices
        self._writer = writer
        self._written = written
        self._size = size
        self._queue: deque[T] = deque()
        self._append = self._queue.append
        self._counter = writer.spool.counter
        self._cell = ACCEPTED_CELLS[signal]
        # The length of the queue at which whoever puts a record has something to do;
        # one, which is always, while the writer sleeps and where it does not write.
        self._limit = 1
        # Records, and ledger units, that reached the spool.
        self._written_count = 0
        self._written_units = 0
        ledger.count_queued(self._count_accepted)
        self._is_closed = False
        self._is_stopped = False
        # Only whoever holds the write lock touches these. They outlive an interrupt.
        # It is an RLock because its release says by itself who may not.
        self._write_lock = threading.RLock()
        self._writing_thread = 0
        self._putting_since: float | None = None
        self._is_refused = False
        self._taken: list[T] = []
        self._encoded: deque[Piece] | None = None  # what is left of the taken ones
        # Batches that the spool took and we noticed, and whether there may be one more.
        self._handed = writer.spool.taken(signal)
        self._is_handing = False
        writer.add(self)

    def put(self, record: T) -> None:
        """Take a record, or count it as dropped when the queue is full.

        After the first line it stands in the queue, and so it is counted, whatever an
        interrupt does to the other ones: there is no lock to be left behind.
        """
        self._append(record)
        counter = self._counter
        if counter is not None:
            try:
                # Nothing is called in this line: no other thread comes in between.
                counter.cells[self._cell] += 1  # type: ignore[index]  # caught below
            except (TypeError, ValueError):  # there are none yet, or no more
                counter.count(self._cell, 1)
        if len(self._queue) >= self._limit:
            self._attend()

    def put_units(self, record: T) -> None:
        """Take a record that stands for any number of ledger units."""
        self._append(record)
        if self._counter is not None:
            self._counter.count(self._cell, self._sum((record,)))
        if len(self._queue) >= self._limit:
            self._attend()

    def _count_accepted(self) -> int:
        """Give how many ledger units were ever taken in."""
        if self._size is None:
            return self._count_queued()
        return self._consistent(
            lambda: self._written_units + self._sum((*self._taken, *self._queue))
        )

    def _count_queued(self) -> int:
        """Give how many records were ever taken in."""
        return self._consistent(lambda: self._written_count + self.unwritten)

    def _consistent(self, read: Callable[[], int]) -> int:
        """Read a figure while nothing moves from the queue towards the spool."""
        figure = 0
        for _ in range(_READINGS):
            taken, count, written = self._taken, len(self._taken), self._written_count
            figure = read()
            moved = self._taken is not taken or len(taken) != count
            if not moved and self._written_count == written:
                break
        return figure

    def _attend(self) -> None:
        """See to the queue, which has come to its limit."""
        if self._is_closed or self.unwritten > self._bounds.queue_records:
            self._refuse_newest()
        elif self._bounds.window_records == 1 or not self._writer.start():
            self._write_now()
        else:
            self._call_writer(self.unwritten)

    def _write_now(self) -> None:
        if not self.write(_HELP_S) and self._writer.start():
            self._writer.ring()  # it tries again what could not be written

    def _call_writer(self, unwritten: int) -> None:
        # The limit first: the writer that is called sets it for a sleeping one later.
        self._set_limit()
        if unwritten >= self._bounds.hurry_records:
            self._writer.hurry()
        else:
            self._writer.ring()
        if unwritten >= self._bounds.window_records and not self._is_in_vain():
            self.is_late = not self._wait_until(
                lambda: self.unwritten < self._bounds.window_records,
                time.monotonic() + _HELP_S,
            )

    def _set_limit(self) -> None:
        """Say at which length of the queue somebody has something to do next."""
        bounds = self._bounds
        if self._is_closed or bounds.window_records == 1:
            self._limit = 1
            return
        under_way = len(self._taken)
        unwritten = under_way + len(self._queue)
        next_hurry = (unwritten // bounds.hurry_records + 1) * bounds.hurry_records
        due = min(next_hurry, bounds.window_records, bounds.queue_records + 1)
        self._limit = max(1, int(due) - under_way)

    def is_idle(self) -> bool:
        """Whether the writer may sleep; whoever puts a record then wakes it."""
        self._limit = 1
        return not self.unwritten

    def _is_in_vain(self) -> bool:
        """Whether the writer gets nowhere: the spool has no room, the disk hangs."""
        if self._is_refused:
            return True
        since = self._putting_since
        return since is not None and time.monotonic() - since > _HELP_S

    def _wait_until(self, is_so: Callable[[], bool], deadline: float) -> bool:
        # Sleeping in steps needs no lock, which a signal handler's exception or a
        # finalizer on this thread could leave behind or want a second time. Steps are
        # counted: a clock may stand.
        steps = int((deadline - time.monotonic()) / _STEP_S) + 1
        while not is_so():
            if steps <= 0 or time.monotonic() >= deadline:
                return False
            steps -= 1
            time.sleep(_STEP_S)
        return True

    def _refuse_newest(self) -> None:
        """Give up a record: ours, or one that another thread put at this moment."""
        try:
            count = self._sum((self._queue.pop(),))
        except IndexError:
            return  # the writer was faster
        self._spool.settle(self.signal, count)
        if self._is_closed:
            self._ledger.refuse(DropReason.EXIT, count)
            return
        reason = self._spool.full_reason()
        self._ledger.refuse(reason, count)
        why = (
            "come faster than they can be delivered"
            if reason is DropReason.QUEUE_FULL
            else "cannot be written to the full disk"
        )
        self._notices.error(
            f"{reason}_{self.signal}",
            f"{self.signal.value} {why}: {self._bounds.queue_records} are waiting, "
            "further ones are dropped",
        )

    @property
    def unwritten(self) -> int:
        """Records that wait for the spool."""
        return len(self._taken) + len(self._queue)

    def secure(self, deadline: float) -> bool:
        """Have everything that is queued now written; say whether it was in time."""
        queued = self._count_queued()
        if self._writing_thread == threading.get_ident():
            return False  # we interrupted ourselves; waiting would be for nothing
        if not self._writer.start():
            return self.write(max(0.0, deadline - time.monotonic()))
        self._writer.hurry()
        is_written = self._wait_until(lambda: self._written_count >= queued, deadline)
        return is_written or self.write(0)  # a last try: the deadline may be past

    def write(self, timeout_s: float = -1) -> bool:
        """Write what is queued now to the spool, in this thread.

        Args:
            timeout_s: Longest wait for another thread that is at it; -1 for ever.

        Returns:
            Whether it is there.
        """
        me = threading.get_ident()
        if self._writing_thread == me:
            return False  # we interrupted ourselves; the outer call goes on with it
        queued = self._count_queued()
        try:
            if not self._write_lock.acquire(timeout=timeout_s):
                return False
            self._writing_thread = me
            stray = self._write_twice(queued)
        finally:
            if self._writing_thread == me:
                self._writing_thread = 0
            # Not ours is an error: whether it is, an exception from a signal handler
            # right after `acquire` leaves nobody else to know.
            try:  # noqa: SIM105 - a context manager would be one more place to interrupt
                self._write_lock.release()
            except RuntimeError:
                pass
        if self.unwritten < self._bounds.window_records:
            self.is_late = False
        if stray is not None and threading.current_thread() is threading.main_thread():
            raise stray
        return self._written_count >= queued

    def _write_twice(self, queued: int) -> Exception | None:
        """Write what was queued, and again after an exception.

        One that comes again is a defect of ours and is counted. One that does not is
        the host's: its signal handler raised while we worked in its main thread.

        Returns:
            The exception that the host is to get.
        """
        stray: Exception | None = None
        while True:
            try:
                while self._written_count < queued and self._write_batch():
                    pass
            except Exception as error:  # noqa: BLE001 - see above
                if stray is not None:
                    self._give_up_batch(error)
                    return None
                stray = error
            else:
                return stray or self._encode.take_stray()

    def _write_batch(self) -> bool:
        """Write one batch; say whether to go on."""
        if self._is_stopped:
            return False  # `close` has counted what there was
        if self._encoded is None:
            self._take()
            if not self._taken:
                return False
            # Objects of the host may log here, while we look at them. A signal handler
            # that logs during the write below is not us.
            self._encoded = as_own_work(lambda: deque(self._encode(self._taken)))
        while self._encoded:
            if self._is_stopped:
                return False  # `close` has counted these records
            piece = self._encoded[0]
            self._is_refused = not self._hand_over(piece)
            if self._is_refused:
                return False  # no room; what is encoded is kept for the next time
            self._written(piece.count)
            self._note_handed(self._encoded)
        self._forget_taken()
        return True

    def _hand_over(self, piece: "Piece") -> bool:
        """Say whether the spool takes a batch, or took it when we were interrupted."""
        if self._was_handed():
            return True
        self._is_handing = True
        self._putting_since = time.monotonic()
        try:
            return self._spool.put(self.signal, piece.body, piece.count)
        finally:
            self._putting_since = None

    def _was_handed(self) -> bool:
        return self._is_handing and self._spool.taken(self.signal) > self._handed

    def _note_handed(self, encoded: "deque[Piece]") -> None:
        # Nothing is called in between: they happen together.
        self._handed += 1
        self._is_handing = False
        encoded.popleft()

    def _forget_taken(self) -> None:
        count, units = len(self._taken), self._sum(self._taken)
        # Nothing is called between these: they happen together.
        self._taken = []
        self._encoded = None
        self._written_count += count
        self._written_units += units
        self._set_limit()

    def _take(self) -> None:
        queue, taken = self._queue, self._taken
        # What is taken is still unwritten, so the queue itself may hold less.
        self._limit = max(1, self._limit - self._bounds.write_records)
        count = min(len(queue), self._bounds.write_records - len(taken))
        # One call, which nothing interrupts: no record is in neither, or in both.
        taken.extend(starmap(queue.popleft, repeat((), count)))

    def _give_up_batch(self, error: Exception) -> None:
        self._notices.error(
            f"internal_{self.signal}",
            f"writing {self.signal.value} failed: {type(error).__name__}: {error}",
        )
        if self._encoded and self._was_handed():
            self._note_handed(self._encoded)
        count = self._count_taken()
        self._forget_taken()
        self._ledger.drop_unsent(DropReason.UNENCODABLE, count)
        self._spool.settle(self.signal, count)

    def close(self) -> int:
        """Take no more records; later ones are counted as dropped.

        Returns:
            How many ledger units did not reach the spool.
        """
        self._is_closed = True
        self._limit = 1
        self.write(_HELP_S)  # what came meanwhile
        self._is_stopped = True
        is_mine = self._write_lock.acquire(timeout=_HELP_S)
        try:
            lost = self._count_taken()
            if is_mine:
                return lost + self._take_rest()
            return lost + self._sum(tuple(self._queue))
        finally:
            if is_mine:
                self._write_lock.release()

    def _take_rest(self) -> int:
        """Take all from the queue, where whoever put it would count it once more."""
        taken = self._taken
        count = len(taken)
        with suppress(IndexError):
            for _ in range(len(self._queue)):  # what comes now is refused
                taken.append(self._queue.popleft())
        return self._sum(taken[count:])

    def _count_taken(self) -> int:
        """Count the ledger units that left the queue and did not reach the spool."""
        encoded = self._encoded
        if encoded is None:
            return self._sum(tuple(self._taken))
        return sum(piece.count for piece in tuple(encoded))

    def _sum(self, records: Collection[T]) -> int:
        return len(records) if self._size is None else sum(map(self._size, records))


class Writer:
    """The thread that brings queued records to the spool soon after they came."""

    def __init__(self, spool: Spool, delay_s: float) -> None:
        """Prepare; the thread starts with the first record.

        Args:
            spool: Where batches go.
            delay_s: How long records gather before they are written, seconds.
        """
        self.spool = spool
        self._delay_s = delay_s
        self._intakes: list[Intake[object]] = []
        self._bell = Bell()  # a record came into an empty queue
        self._hurry = Bell()  # there is enough, or somebody waits
        self._thread = BackgroundThread("flext-writer", self._loop)
        self._is_stopped = False

    def add(self, intake: "Intake[T]") -> None:
        """Write for that intake too."""
        self._intakes.append(intake)  # type: ignore[arg-type]  # it only writes

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it does.

        Interpreter shutdown refuses threads: whoever puts a record writes it then.
        """
        return self.is_running() if self._is_stopped else self._thread.start()

    def is_running(self) -> bool:
        """Whether the thread was started and lives."""
        return self._thread.is_running()

    def ring(self) -> None:
        """Write soon."""
        self._bell.ring()

    def hurry(self) -> None:
        """Write now."""
        self._hurry.ring()
        self._bell.ring()

    def stop(self) -> None:
        """End the thread; do not wait for it."""
        self._is_stopped = True
        self.hurry()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._is_stopped:
            # Twice: whoever put a record in between may not have seen that we sleep.
            if (
                self._is_idle()
                and not self._bell.wait(_LAST_LOOK_S)
                and self._is_idle()
            ):
                self._bell.wait(None)
            if not self._is_stopped:
                self._hurry.wait(self._delay_s)
            for intake in self._intakes:
                intake.write(_HELP_S)
        self.hurry()  # should there be a second one of us

    def _is_idle(self) -> bool:
        busy = [intake for intake in self._intakes if not intake.is_idle()]
        return not busy
