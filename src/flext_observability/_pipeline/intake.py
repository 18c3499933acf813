"""A signal's bounded queue, and the write of what it holds to the spool."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from ..constants import DropReason, Signal
from .bell import Bell
from .encoding import BatchEncoder
from .ledger import Ledger, Notices
from .own_work import own_work
from .route import Bounds
from .spool import Spool

if TYPE_CHECKING:
    from .otlp_split import Piece

T = TypeVar("T")

# How long whoever finishes a record waits for a write that another thread makes.
_HELP_S = 0.05
_STEP_S = 0.001


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
        size: Callable[[T], int] = lambda _: 1,
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
            size: How many ledger units a record stands for.
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
        self._lock = threading.RLock()  # a finalizer may emit while we hold it
        self._queue: deque[T] = deque()
        # Records ever queued and written. A finalizer or a signal handler may emit
        # within any line that calls something: these change in lines that do not.
        self._queued_count = 0
        self._written_count = 0
        self._accepted = 0  # ledger units ever taken in
        ledger.count_queued(lambda: self._accepted)
        self._is_closed = False
        self._is_stopped = False
        # Only whoever holds the write lock touches these. They outlive an interrupt.
        # It is an RLock because its release says by itself who may not.
        self._write_lock = threading.RLock()
        self._writing_thread = 0
        self._putting_since: float | None = None
        self._is_refused = False
        self._taken: list[T] = []
        self._encoded: deque[Piece] = deque()
        writer.add(self)

    def put(self, record: T) -> None:
        """Take a record, or count it as dropped when the queue is full."""
        count = self._size(record)
        with self._lock:  # against `close`, after which nothing may be appended
            if self._is_closed:
                self._ledger.refuse(DropReason.EXIT, count)
                return
            unwritten = self.unwritten
            is_full = unwritten >= self._bounds.queue_records
            if not is_full:
                self._spool.accept(self.signal, count)
                # No call from here to the last line: at the recursion limit one fails,
                # and after one a signal handler may raise.
                self._accepted += count
                self._queued_count += 1
                unwritten = self._queued_count - self._written_count
                self._queue.append(record)
        if is_full:
            self._refuse(count)
        elif self._bounds.window_records == 1 or not self._writer.start():
            self._write_now()
        else:
            self._call_writer(unwritten)

    def _write_now(self) -> None:
        if not self.write(_HELP_S) and self._writer.start():
            self._writer.ring()  # it tries again what could not be written

    def _call_writer(self, unwritten: int) -> None:
        if unwritten == 1:
            self._writer.ring()
        elif unwritten % self._bounds.hurry_records == 0:
            self._writer.hurry()
        if unwritten >= self._bounds.window_records and not self._is_in_vain():
            self._writer.hurry()
            self.is_late = not self._wait_until(
                lambda: self.unwritten < self._bounds.window_records,
                time.monotonic() + _HELP_S,
            )

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

    def _refuse(self, count: int) -> None:
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
        return self._queued_count - self._written_count

    def secure(self, deadline: float) -> bool:
        """Have everything that is queued now written; say whether it was in time."""
        queued = self._queued_count
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
        queued = self._queued_count
        try:
            if not self._write_lock.acquire(timeout=timeout_s):
                return False
            self._writing_thread = me
            with own_work():
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
        if not self._encoded:
            self._take()
            if not self._taken:
                return False
            self._encoded.extend(self._encode(self._taken))
        while self._encoded:
            if self._is_stopped:
                return False  # `close` has counted these records
            piece = self._encoded[0]
            self._putting_since = time.monotonic()
            is_taken = self._spool.put(self.signal, piece.body, piece.count)
            self._putting_since = None
            self._is_refused = not is_taken
            if not is_taken:
                return False  # no room; what is encoded is kept for the next time
            self._encoded.popleft()
            self._written(piece.count)
        self._forget_taken()
        return True

    def _forget_taken(self) -> None:
        count = len(self._taken)
        self._taken = []
        self._written_count += count

    def _take(self) -> None:
        pop = self._queue.popleft
        taken = self._taken
        with suppress(IndexError):
            while len(taken) < self._bounds.write_records:
                taken.append(pop())

    def _give_up_batch(self, error: Exception) -> None:
        self._notices.error(
            f"internal_{self.signal}",
            f"writing {self.signal.value} failed: {type(error).__name__}: {error}",
        )
        count = sum(p.count for p in self._encoded) or self._sum(self._taken)
        self._encoded.clear()
        self._forget_taken()
        self._ledger.drop_unsent(DropReason.UNENCODABLE, count)
        self._spool.settle(self.signal, count)

    def close(self) -> int:
        """Take no more records; later ones are counted as dropped.

        Returns:
            How many ledger units did not reach the spool.
        """
        with self._lock:
            self._is_closed = True
        self.write(_HELP_S)  # what came meanwhile
        self._is_stopped = True
        is_mine = self._write_lock.acquire(timeout=_HELP_S)
        try:
            taken = sum(p.count for p in tuple(self._encoded))
            return (taken or self._sum(tuple(self._taken))) + self._sum(
                tuple(self._queue)
            )
        finally:
            if is_mine:
                self._write_lock.release()

    def _sum(self, records: Iterable[T]) -> int:
        return sum(map(self._size, records))


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
        self._lock = threading.RLock()
        self._bell = Bell()  # a record came into an empty queue
        self._hurry = Bell()  # there is enough, or somebody waits
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def add(self, intake: "Intake[T]") -> None:
        """Write for that intake too."""
        self._intakes.append(intake)  # type: ignore[arg-type]  # it only writes

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it does.

        Interpreter shutdown refuses threads: whoever puts a record writes it then.
        """
        if self.is_running():
            return True
        with self._lock:
            if not self.is_running() and not self._is_stopped:
                thread = threading.Thread(
                    target=self._loop, name="flext-writer", daemon=True
                )
                # Known before it runs: a signal handler may raise out of `start`.
                self._thread = thread
                with suppress(RuntimeError):
                    thread.start()
        return self.is_running()

    def is_running(self) -> bool:
        """Whether the thread was started and lives."""
        return self._thread is not None and self._thread.is_alive()

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
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        if thread is not threading.current_thread():
            thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._is_stopped:
            if not any(intake.unwritten for intake in self._intakes):
                self._bell.wait(None)
            if not self._is_stopped:
                self._hurry.wait(self._delay_s)
            for intake in self._intakes:
                intake.write(_HELP_S)
        self.hurry()  # should there be a second one of us
