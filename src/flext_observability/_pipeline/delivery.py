"""A bounded queue of records and the thread that brings them to one destination."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from ..constants import DropReason, Signal
from .ledger import Ledger, Notices
from .transport import Outcome, Verdict

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_BACKOFF_FIRST_S = 0.5
_BACKOFF_LIMIT_S = 60.0

# True in our own threads: what happens there must not become telemetry again.
in_delivery: ContextVar[bool] = ContextVar("flext_in_delivery", default=False)


class Destination(Protocol[T_contra]):
    """Where records go: a collector, the console, an exporter of the SDK."""

    def prepare(self, records: "Sequence[T_contra]") -> Callable[[float], Verdict]:
        """Make records ready, once, and give what sends them within a time in seconds.

        Raises:
            Exception: The records cannot be encoded.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is queued and how often it is sent."""

    queue_records: int
    """Records held at most; further ones are dropped and counted."""
    batch_records: int
    """Records in one request at most."""
    delay_s: float
    """Longest wait before a record is sent."""
    timeout_s: float
    """Deadline of one request."""


class Bell:
    """Wakes a thread; may be rung anywhere.

    An ``Event`` cannot be set by a signal handler or a finalizer that interrupts its
    own ``set``; putting into a ``SimpleQueue`` is documented to be reentrant.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()
        self._has_rung = False

    def ring(self) -> None:
        """Wake who waits, or who will wait next."""
        if not self._has_rung:
            self._has_rung = True
            self._rings.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait for a ring since the last wait, at most for a time.

        What is waited for is looked at after it: a ring that comes in between is not
        lost, its cause is seen.
        """
        with suppress(Empty):
            self._rings.get(timeout=timeout_s)
        self._has_rung = False


class Delivery(Generic[T]):
    """One signal's way to one destination.

    ``put`` never blocks and never raises. The thread starts with the first record, so
    that a program which emits nothing has no thread of ours.
    """

    def __init__(
        self,
        signal: Signal,
        destination: Destination[T],
        bounds: Bounds,
        notices: Notices,
        *,
        size: Callable[[T], int] = lambda _: 1,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """Prepare; no thread yet.

        Args:
            signal: What the records are.
            destination: Where they go.
            bounds: Queue and batch sizes, times.
            notices: Where trouble is said.
            size: How many ledger units a record stands for.
            poll: Called by the thread every ``bounds.delay_s`` to produce records.
        """
        self.signal = signal
        self.ledger = Ledger()
        self._destination = destination
        self._bounds = bounds
        self._notices = notices
        self._size = size
        self._poll = poll
        self._suppressed = _suppressor()
        self._queue: deque[T] = deque()
        self._lock = threading.RLock()  # a finalizer may emit while we hold it
        self._in_flight = 0  # ledger units of the batch under way
        self._wake = Bell()  # there is enough to send
        self._hurry = Bell()  # somebody waits: cut pauses short
        self._poll_asked = False
        self._polled = threading.Event()
        self._closing = False
        self._gave_up = False
        self._deadline = math.inf
        self._thread: threading.Thread | None = None

    def put(self, record: T) -> None:
        """Take a record, or count it as dropped when the queue is full."""
        count = self._size(record)
        with self._lock:  # against `_give_up`, after which nothing may be appended
            if self._gave_up:
                self.ledger.refuse(DropReason.EXIT, count)
                return
            waiting = len(self._queue)
            if waiting < self._bounds.queue_records:
                self.ledger.accept(count)
                self._queue.append(record)
        if waiting >= self._bounds.queue_records:
            self._refuse(count)
        elif self._thread is None:
            self.start()
        elif waiting + 1 >= self._bounds.batch_records:
            self._wake.ring()

    def _refuse(self, count: int) -> None:
        self.ledger.refuse(DropReason.QUEUE_FULL, count)
        self._notices.error(
            f"queue_full_{self.signal}",
            f"{self.signal.value} come faster than they can be delivered: "
            f"{self._bounds.queue_records} are waiting, further ones are dropped",
        )

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(
                target=self._run, name=f"flext-{self.signal.value}", daemon=True
            )
            # Interpreter shutdown refuses threads; `close` still drains the queue.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def flush(self, deadline: float) -> bool:
        """Send what is queued now.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Whether all of it was settled by then.
        """
        self.hurry()
        return self.ledger.wait_settled(deadline)

    def hurry(self) -> None:
        """Send what is queued now, without waiting for it."""
        self._hurry.ring()
        self._wake.ring()

    def collect(self, deadline: float) -> bool:
        """Poll now, in our thread, and wait for it until the deadline.

        What is polled may call the host's code, which may take its time.

        Returns:
            Whether the poll was over by then.
        """
        if self._poll is None:
            return True
        thread = self._thread
        if thread is None or not thread.is_alive():
            with suppress(Exception):  # a user's callback failed
                self._poll()
            return True
        self._polled.clear()
        self._poll_asked = True
        self.hurry()
        return self._polled.wait(max(0.0, deadline - time.monotonic()))

    def close(self, deadline: float) -> None:
        """Send what is queued until the deadline, give up the rest, let go.

        Args:
            deadline: On the monotonic clock, seconds.
        """
        self._deadline = deadline
        self._closing = True
        if self._queue and self._thread is None:
            self.start()
        self.hurry()
        if self._thread is None:
            self._work(self._drain)  # no thread to be had: the interpreter is leaving
        self.ledger.wait_settled(deadline)
        self._give_up()
        with suppress(Exception):  # a destination that cannot even close is gone
            self._destination.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.1)

    def _give_up(self) -> None:
        with self._lock:
            self._gave_up = True
            left = self._in_flight + sum(map(self._size, self._queue))
            self._in_flight = 0
            self._queue.clear()
        if left:
            self.ledger.drop(DropReason.EXIT, left)
        self.hurry()

    # -- the thread

    def _work(self, work: Callable[[], None]) -> None:
        """Do our own work, where nothing becomes telemetry again."""
        token = in_delivery.set(True)
        try:
            with self._suppressed():
                work()
        finally:
            in_delivery.reset(token)

    def _run(self) -> None:
        self._work(self._loop)

    def _loop(self) -> None:
        next_poll = time.monotonic() + self._bounds.delay_s
        while not self._gave_up:
            if not self._closing:
                self._wake.wait(max(0.0, next_poll - time.monotonic()))
            is_due = time.monotonic() >= next_poll
            if is_due:
                next_poll = time.monotonic() + self._bounds.delay_s
            if self._poll_asked or (is_due and not self._closing):
                self._run_poll()
            try:
                self._drain()
            except Exception as error:  # noqa: BLE001 - the thread must live
                self._give_up_batch(error)
            if self._closing and not self._queue:
                return

    def _run_poll(self) -> None:
        self._poll_asked = False
        if self._poll is not None:
            with suppress(Exception):  # a user's callback failed
                self._poll()
        self._polled.set()

    def _give_up_batch(self, error: Exception) -> None:
        """Count a batch that we failed to handle, which is a defect of ours."""
        self._notices.error(
            f"internal_{self.signal}",
            f"delivery of {self.signal.value} failed: {type(error).__name__}: {error}",
        )
        with self._lock:
            left, self._in_flight = self._in_flight, 0
        if left:
            self.ledger.drop(DropReason.UNENCODABLE, left)

    def _drain(self) -> None:
        while not self._stopped():
            with self._lock:
                count = min(len(self._queue), self._bounds.batch_records)
                records = [self._queue.popleft() for _ in range(count)]
                self._in_flight = sum(map(self._size, records))
            if not records:
                return
            self._deliver(records)

    def _deliver(self, records: list[T]) -> None:
        count = sum(map(self._size, records))
        try:
            send = self._destination.prepare(records)
        except Exception as error:  # noqa: BLE001 - one bad record must not end the thread
            self._deliver_encodable(records, error)
            return
        failures = 0
        while not self._stopped():
            left_s = self._deadline - time.monotonic()
            try:
                verdict = send(max(0.01, min(self._bounds.timeout_s, left_s)))
            except Exception as error:  # noqa: BLE001 - a foreign exporter may raise
                verdict = Verdict(
                    Outcome.REJECTED, "exporter", f"the exporter failed: {error!r}"
                )
            if self._gave_up:
                return  # `close` has already counted these records
            if verdict.message:
                self._notices.error(verdict.reason, verdict.message)
            if verdict.outcome is not Outcome.RETRY:
                self._settle(count, self._counting(verdict))
                return
            failures += 1
            self._pause(failures, verdict.retry_after_s)

    def _counting(self, verdict: Verdict) -> Callable[[int], None]:
        if verdict.outcome is Outcome.DELIVERED:
            return lambda count: self.ledger.deliver(count, verdict.rejected)
        return self.ledger.reject

    def _deliver_encodable(self, records: list[T], error: Exception) -> None:
        """Find the record that cannot be encoded, so that its neighbours arrive."""
        if len(records) > 1:
            middle = len(records) // 2
            self._deliver(records[:middle])
            self._deliver(records[middle:])
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
            if self._gave_up:
                return  # `close` has already counted these records
            self._in_flight -= count
        settle(count)

    def _stopped(self) -> bool:
        return self._gave_up or time.monotonic() >= self._deadline

    def _pause(self, failures: int, told_s: float | None) -> None:
        """Wait before the next try; a flush or a close cuts our own wait short."""
        if told_s is not None:
            self._wait_as_told(told_s)
            return
        # The exponent is bounded: 2.0**failures overflows after an outage of hours.
        limit_s = min(_BACKOFF_LIMIT_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 10))
        pause_s = random.uniform(limit_s / 2, limit_s)  # noqa: S311 - jitter, no secret
        if self._closing:
            time.sleep(min(pause_s, 0.2))
        else:
            self._hurry.wait(pause_s)

    def _wait_as_told(self, told_s: float) -> None:
        """Keep the time a server told us; only the end of it all is sooner."""
        moment = time.monotonic() + told_s
        while not self._stopped() and time.monotonic() < moment:
            time.sleep(min(0.1, max(0.0, moment - time.monotonic())))


def _suppressor() -> Callable[[], AbstractContextManager[Any]]:
    """Find what keeps automatic instrumentation from tracing our own requests."""
    # Looked up by whoever calls setup(): an import that runs in our thread while the
    # program forks would leave the child with a module lock nobody releases.
    try:
        utils: Any = import_module("opentelemetry.instrumentation.utils")
    except ImportError:
        return nullcontext  # without that package nothing is instrumented
    suppress_instrumentation: Callable[[], AbstractContextManager[Any]]
    suppress_instrumentation = utils.suppress_instrumentation
    return suppress_instrumentation
