"""The newest spans and log records on their way to an exporter, for who shows them."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..constants import FlextObservabilityConstants as C
from ..constants import Signal

Clean: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


class RecentRecords:
    """Keeps what an exporter was given last, once somebody asked for that."""

    def __init__(self) -> None:
        self.is_kept = False
        self._records: dict[Signal, deque[Any]] = {}

    def of(self, signal: Signal) -> tuple[Any, ...]:
        """Give records, cleaned ones, the oldest first."""
        return tuple(self._records.get(signal, ()))

    def watching(self, signal: Signal, clean: Clean) -> Clean:
        """Give what cleans a batch and keeps the newest of it.

        Only for the first exporter of a signal: the others get the same records.
        """
        if signal is Signal.METRICS or signal in self._records:
            return clean
        newest = self._records[signal] = deque[Any](maxlen=C.STORE_LIMIT)

        def cleaned(batch: Sequence[Any]) -> Sequence[Any]:
            records = clean(batch)
            if self.is_kept:
                newest.extend(records[-C.STORE_LIMIT :])
            return records

        return cleaned
