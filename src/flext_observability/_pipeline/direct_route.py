"""A signal's way to an exporter object: the console, an exporter of the SDK."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from ..constants import DropReason, Signal
from .background import BackgroundThread
from .bell import Bell
from .ledger import Ledger, Notices
from .own_work import own_work, suppressor
from .poller import Poller
from .route import Bounds
from .verdict import Outcome, Verdict

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Destination(Protocol[T_contra]):
    """Where records go as objects."""

    def prepare(self, records: "Sequence[T_contra]") -> Callable[[], Verdict]:
        """Make records ready, and give what hands them over.

        Raises:
            Exception: The records cannot be encoded.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class DirectRoute(Generic[T]):
    """One signal's way to a destination that takes records, not bytes.

    Nothing waits for long here and nothing is tried again: exporters do that by
    themselves. The thread starts with the first record.
    """

    def __init__(
        self,
        signal: Signal,
        destination: Destination[T],
        bounds: Bounds,
        notices: Notices,
        *,
        clean: Callable[[Sequence[T]], Sequence[T]],
        size: Callable[[T], int] = lambda _: 1,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """Prepare; no thread yet.

        Args:
            signal: What the records are.
            destination: Where they go.
            bounds: Queue and batch sizes, times.
            notices: Where trouble is said.
            clean: Makes records legal and takes secrets out.
            size: How many ledger units a record stands for.
            poll: Called by the thread every ``bounds.delay_s`` to produce records.
        """
        self.signal = signal
        self.ledger = Ledger()
        self._destination = destination
        self._bounds = bounds
        self._notices = notices
        self._clean = clean
        self._size = size
        self._suppressed = suppressor()
        self._poller = Poller(poll, bounds.delay_s, self._suppressed)
        self.collect = self._poller.collect
        self._queue: deque[T] = deque()
        self._lock = threading.RLock()  # a finalizer may emit while we hold it
        self._in_flight = 0  # ledger units of the batch under way
        self._wake = Bell()
        self._is_closing = False
        self._is_closed = False
        self._deadline = math.inf
        self._thread = BackgroundThread(f"flext-{signal.value}", self._run)
        self._trouble: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What the exporter said last, unless it succeeded since."""
        return () if self._trouble is None else (self._trouble,)

    def put(self, record: T) -> None:
        """Take a record, or count it as dropped when the queue is full."""
        count = self._size(record)
        with self._lock:  # against `close`, after which nothing may be appended
            if self._is_closed:
                self.ledger.refuse(DropReason.EXIT, count)
                return
            waiting = len(self._queue)
            if waiting < self._bounds.queue_records:
                self.ledger.accept(count)
                self._queue.append(record)
        if waiting >= self._bounds.queue_records:
            self._refuse(count)
        elif not self._thread.is_running():
            self.start()
        elif waiting + 1 >= self._bounds.batch_records:
            self._wake.ring()

    def _refuse(self, count: int) -> None:
        self.ledger.refuse(DropReason.QUEUE_FULL, count)
        self._notices.error(
            f"queue_full_{self.signal}",
            f"{self.signal.value} come faster than they can be exported: "
            f"{self._bounds.queue_records} are waiting, further ones are dropped",
        )

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it does."""
        self._poller.start()
        # Interpreter shutdown refuses threads; `close` still drains the queue.
        return self._thread.start()

    def hurry(self) -> None:
        """Export what is queued now, without waiting for it."""
        self._wake.ring()

    def secure(self, deadline: float) -> bool:  # noqa: ARG002 - as every route
        """Nothing here survives a crash, so there is nothing to bring anywhere."""
        return True

    def flush(self, deadline: float) -> bool:
        """Export what was put so far; say whether all was settled in time."""
        self.hurry()
        # No thread to be had; whoever closes it exports until another deadline.
        if self._queue and not self.start() and not self._is_closing:
            self._deadline = deadline
            self._work(self._drain)
            if not self._is_closing:
                self._deadline = math.inf
        return self.ledger.wait_settled(deadline)

    def drain_until(self, deadline: float) -> None:
        """Export what is queued, until the deadline; do not wait for it."""
        self._poller.stop()
        self._deadline = deadline
        self._is_closing = True
        self.hurry()

    def close(self, deadline: float) -> None:
        """Export what is queued until the deadline, give up the rest, let go."""
        self.drain_until(deadline)
        if self._queue and not self.start():
            self._work(self._drain)  # no thread to be had: the interpreter is leaving
        self.ledger.wait_settled(deadline)
        with self._lock:
            self._is_closed = True
            left = self._in_flight + sum(map(self._size, self._queue))
            self._queue.clear()
        self.ledger.close(left)
        self.hurry()
        with suppress(Exception):  # a destination that cannot even close is gone
            self._destination.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the threads."""
        deadline = time.monotonic() + timeout_s
        self._poller.join(timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    # -- the thread

    def _work(self, work: Callable[[], None]) -> None:
        with own_work(self._suppressed):
            work()

    def _run(self) -> None:
        self._work(self._loop)

    def _loop(self) -> None:
        while not self._is_closed:
            if not self._is_closing:
                self._wake.wait(self._bounds.delay_s)
            try:
                self._drain()
            except Exception as error:  # noqa: BLE001 - the thread must live
                self._give_up_batch(error)
            if self._is_closing and not self._queue:
                return

    def _give_up_batch(self, error: Exception) -> None:
        """Count a batch that we failed to handle, which is a defect of ours."""
        self._notices.error(
            f"internal_{self.signal}",
            f"export of {self.signal.value} failed: {type(error).__name__}: {error}",
        )
        self.ledger.drop(DropReason.UNENCODABLE, self._in_flight)
        self._in_flight = 0

    def _drain(self) -> None:
        while not self._is_closed and time.monotonic() < self._deadline:
            with self._lock:
                count = min(len(self._queue), self._bounds.batch_records)
                records = [self._queue.popleft() for _ in range(count)]
                self._in_flight = sum(map(self._size, records))
            if not records:
                return
            self._export(self._clean(records))

    def _export(self, records: Sequence[T]) -> None:
        try:
            hand_over = self._destination.prepare(records)
        except Exception as error:  # noqa: BLE001 - one bad record must not end the thread
            self._export_apart(records, error)
            return
        try:
            verdict = hand_over()
        except Exception as error:  # noqa: BLE001 - a foreign exporter may raise
            verdict = Verdict(
                Outcome.REJECTED, "exporter", f"the exporter failed: {error!r}"
            )
        if self._is_closed:
            return  # `close` has already counted these records
        self._trouble = verdict.message or None
        if verdict.message:
            self._notices.error(verdict.reason, verdict.message)
        count = sum(map(self._size, records))
        if verdict.outcome is Outcome.DELIVERED:
            self._settle(count, self.ledger.deliver)
        else:
            self._settle(count, self.ledger.reject)

    def _export_apart(self, records: Sequence[T], error: Exception) -> None:
        """Find the record that cannot be encoded, so that its neighbours arrive."""
        if len(records) > 1:
            middle = len(records) // 2
            self._export(records[:middle])
            self._export(records[middle:])
            return
        self._notices.error(
            f"unencodable_{self.signal}",
            f"a record of {self.signal.value} cannot be encoded "
            f"({type(error).__name__}) and is dropped",
        )
        self._settle(
            sum(map(self._size, records)),
            lambda count: self.ledger.drop(DropReason.UNENCODABLE, count),
        )

    def _settle(self, count: int, settle: Callable[[int], None]) -> None:
        with self._lock:
            if self._is_closed:
                return  # `close` has already counted these records
            self._in_flight -= count
        settle(count)
