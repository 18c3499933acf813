"""A signal's bounded queue, and the write of what it holds to the spool."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from ..constants import DropReason, Signal
from .bell import Bell
from .ledger import Ledger, Notices
from .otlp_split import Piece
from .own_work import own_work
from .route import Bounds
from .spool import Spool

T = TypeVar("T")

# How long whoever finishes a record waits for a write that another thread makes.
_HELP_S = 0.05


class Intake(Generic[T]):
    """Takes finished records, and writes them encoded to the spool.

    The writer thread does that after ``bounds.write_delay_s``. A thread alone keeps no
    bound on what is unwritten, since a busy interpreter does not let it run: whoever
    finishes the ``bounds.window_records``-th unwritten record writes by himself.
    """

    def __init__(
        self,
        signal: Signal,
        encode: Callable[[Sequence[T]], Iterable[Piece]],
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
        self._unwritten = 0
        self._accepted = 0  # ledger units ever taken in
        ledger.count_queued(lambda: self._accepted)
        self._is_closed = False
        # Only whoever holds the write lock touches these. They outlive an interrupt.
        self._write_lock = threading.Lock()
        self._writing_thread = 0
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
            unwritten = self._unwritten
            if unwritten < self._bounds.queue_records:
                self._spool.accept(self.signal, count)
                # No calls of Python code from here: at the recursion limit they fail.
                self._queue.append(record)
                self._accepted += count
                self._unwritten = unwritten = unwritten + 1
            else:
                unwritten = 0
        if not unwritten:
            self._refuse(count)
        elif unwritten >= self._bounds.window_records or not self._writer.start():
            self.write(_HELP_S)
        elif unwritten == 1:
            self._writer.ring()
        elif unwritten >= self._bounds.write_records:
            self._writer.hurry()

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
    def has_unwritten(self) -> bool:
        """Whether records wait for the spool."""
        return self._unwritten > 0

    def write(self, timeout_s: float = -1) -> bool:
        """Bring what is queued to the spool.

        Args:
            timeout_s: Longest wait for another thread that is at it; -1 for ever.

        Returns:
            Whether everything is there.
        """
        me = threading.get_ident()
        if self._writing_thread == me:
            return False  # we interrupted ourselves; the outer call goes on with it
        if not self._write_lock.acquire(timeout=timeout_s):
            self.is_late = self._unwritten >= self._bounds.window_records
            return False
        try:
            self._writing_thread = me
            with own_work():
                while self._write_batch():
                    pass
        except Exception as error:  # noqa: BLE001 - a defect of ours; the host runs on
            self._give_up_batch(error)
        finally:
            self._writing_thread = 0
            self._write_lock.release()
        self.is_late = self._unwritten >= self._bounds.window_records
        return not self._unwritten

    def _write_batch(self) -> bool:
        """Write one batch; say whether to go on."""
        if not self._encoded:
            self._take()
            if not self._taken:
                return False
            self._encoded.extend(self._encode(self._taken))
        while self._encoded:
            piece = self._encoded[0]
            if not self._spool.put(self.signal, piece.body, piece.count):
                return False  # no room; what is encoded is kept for the next time
            self._encoded.popleft()
            self._written(piece.count)
        with self._lock:
            self._unwritten -= len(self._taken)
            self._taken = []
        return True

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
        with self._lock:
            self._unwritten -= len(self._taken)
            self._taken = []
        self._encoded.clear()
        self._ledger.drop(DropReason.UNENCODABLE, count)
        self._spool.settle(self.signal, count)

    def close(self) -> int:
        """Take no more records; later ones are counted as dropped.

        Returns:
            How many ledger units did not reach the spool.
        """
        with self._lock:
            self._is_closed = True
            taken = sum(p.count for p in self._encoded) or self._sum(self._taken)
            return taken + self._sum(self._queue)

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
        if self.is_running:
            return True
        with self._lock:
            if self._thread is None and not self._is_stopped:
                thread = threading.Thread(
                    target=self._loop, name="flext-writer", daemon=True
                )
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
        return self.is_running

    @property
    def is_running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def ring(self) -> None:
        """Write soon."""
        self._bell.ring()

    def hurry(self) -> None:
        """Write now."""
        self._hurry.ring()
        self._bell.ring()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self.hurry()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.1)

    def _loop(self) -> None:
        while not self._is_stopped:
            has_more = any(intake.has_unwritten for intake in self._intakes)
            if not has_more:
                self._bell.wait(None)
            if not self._is_stopped:
                self._hurry.wait(self._delay_s)
            for intake in self._intakes:
                intake.write()
