"""One signal's way to one destination, as the pipeline sees it."""

import math
from typing import Any, NamedTuple, Protocol

from ..constants import Signal
from .ledger import Ledger


class Bounds(NamedTuple):
    """How much is queued, and how often it is written and sent."""

    queue_records: int
    """Records held at most; further ones are dropped and counted."""
    batch_records: int
    """Records in one request at most."""
    delay_s: float
    """Longest wait before a record is sent; between two polls of what is polled."""
    timeout_s: float
    """Deadline of one request."""
    write_records: int = 2048
    """Records encoded and written in one go at most."""
    write_delay_s: float = 0.0
    """Longest wait before a record is written to the spool."""
    hurry_records: int = 2048
    """Unwritten records at which the writer does not wait for more."""
    window_records: float = math.inf
    """Unwritten records at which whoever finishes one waits for the writer; 1: writes
    by himself; infinite: never."""


class Route(Protocol):
    """One signal's way to one destination; nothing here raises.

    ``put`` never blocks longer than it takes to write what is due.
    """

    signal: Signal
    ledger: Ledger

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people; empty when all is well."""
        ...

    def put(self, record: Any) -> None:
        """Take a record, or count it as dropped."""
        ...

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it does."""
        ...

    def hurry(self) -> None:
        """Send what is queued now, without waiting for it."""
        ...

    def secure(self, deadline: float) -> bool:
        """Bring what is queued to where a crash cannot reach it, if there is such.

        Args:
            deadline: On the monotonic clock, seconds.

        Returns:
            Whether nothing is left to bring there.
        """
        ...

    def collect(self, deadline: float) -> bool:
        """Poll what produces records, until a deadline; say whether it was over."""
        ...

    def flush(self, deadline: float) -> bool:
        """Send what was put so far, until a deadline on the monotonic clock.

        Returns:
            Whether all of it was settled by then.
        """
        ...

    def drain_until(self, deadline: float) -> None:
        """From now on only send what was put so far; do not wait for it."""
        ...

    def close(self, deadline: float) -> None:
        """Send what was put so far until the deadline, settle the rest, let go."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the threads, at most for a time."""
        ...
