"""A signal's way to a collector: queue, spool, delivery."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..constants import DropReason, Signal
from .delivery import Delivery
from .encoding import BatchEncoder
from .intake import Intake, Writer
from .ledger import Ledger, Notices
from .own_work import suppressor
from .poller import Poller
from .route import Bounds
from .transport import Transport

T = TypeVar("T")


class SpooledRoute(Generic[T]):
    """One signal's way to a collector, over the spool of the pipeline."""

    def __init__(
        self,
        signal: Signal,
        transport: Transport,
        writer: Writer,
        bounds: Bounds,
        notices: Notices,
        *,
        ledger: Ledger,
        clean: Callable[[Sequence[T]], Sequence[T]],
        size: Callable[[T], int] | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """Assemble; no thread yet.

        Args:
            signal: What the records are.
            transport: Makes requests to the collector.
            writer: Writes to the spool; shared by the signals.
            bounds: Sizes and times.
            notices: Where trouble is said.
            ledger: Counts.
            clean: Makes records legal and takes secrets out.
            size: How many ledger units a record stands for; one when not given.
            poll: Called every ``bounds.delay_s`` to produce records.
        """
        self.signal = signal
        self.ledger = ledger
        self._spool = spool = writer.spool
        self._writer = writer
        self._notices = notices
        suppressed = suppressor()
        self._poller = Poller(poll, bounds.delay_s, suppressed)
        self._delivery = Delivery(
            signal,
            spool,
            transport,
            bounds,
            self.ledger,
            notices,
            freed=self._freed,
            suppressed=suppressed,
        )
        self._intake = Intake[T](
            signal,
            BatchEncoder(signal, clean, size, self._give_up),
            bounds,
            self.ledger,
            notices,
            writer=writer,
            written=self._delivery.notify,
            size=size,
        )
        self.put = self._intake.put if size is None else self._intake.put_units
        self.collect = self._poller.collect
        self.secure = self._intake.secure
        self.notify = self._delivery.notify

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing arrives, and whether the disk is too slow."""
        found = self._delivery.problem
        late = (
            f"{self.signal.value}: the disk is too slow, more than the window of "
            "records would be lost in a crash"
        )
        return (*([found] if found else ()), *([late] if self._intake.is_late else ()))

    def hurry(self) -> None:
        """Write and send what is queued now, without waiting for it."""
        self._writer.hurry()
        self._delivery.hurry()

    def start(self) -> bool:
        """Start the threads unless they run; say whether they do."""
        self._poller.start()
        return self._delivery.start()

    def flush(self, deadline: float) -> bool:
        """Write and send what was put so far; say whether all was settled in time."""
        self._delivery.hurry()
        is_written = self._intake.secure(deadline)
        self._delivery.hurry()
        if not self._delivery.start():
            self._delivery.send_here(deadline)
        return is_written and self.ledger.wait_settled(deadline)

    def drain_until(self, deadline: float) -> None:
        """Write what is queued, and send what waits until the deadline."""
        self._poller.stop()
        self._intake.secure(deadline)
        self._delivery.drain_until(deadline)

    def close(self, deadline: float) -> None:
        """Send what was put so far; what is not on disk by then is given up."""
        self._delivery.close(deadline)
        self._spool.rescue(self.signal)
        lost = self._intake.close() + self._spool.volatile(self.signal)
        # A crash can no longer take what is counted here.
        self._spool.settle(self.signal, lost)
        self.ledger.close(lost)
        self._delivery.disconnect()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the threads."""
        deadline = time.monotonic() + timeout_s
        self._poller.join(timeout_s)
        self._delivery.join(max(0.0, deadline - time.monotonic()))

    def _freed(self) -> None:
        if self._intake.unwritten:
            self._writer.hurry()

    def _give_up(self, why: str, count: int) -> None:
        self._notices.error(
            f"unencodable_{self.signal}",
            f"a record of {self.signal.value} {why} and is dropped",
        )
        self.ledger.drop_unsent(DropReason.UNENCODABLE, count)
        self._spool.settle(self.signal, count)
