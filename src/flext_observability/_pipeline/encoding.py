"""From finished records to OTLP export requests, as bytes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..constants import Signal
from .otlp_split import Piece, cut
from .spool import REQUEST_LIMIT_BYTES


def request_encoder(signal: Signal) -> Callable[[Sequence[Any]], bytes]:
    """Give what makes records of a signal the bytes of one OTLP export request.

    It raises when a record holds what OTLP cannot express. Metrics take one
    ``MetricsData`` at a time.
    """
    # Loaded here, by whoever calls setup(): an import that runs in our thread while
    # the program forks would leave the child with a module lock nobody releases.
    if signal is Signal.TRACES:
        from .otlp_spans import encode_spans

        return encode_spans
    if signal is Signal.METRICS:
        from .otlp_metrics import encode_metrics

        return lambda records: encode_metrics(records[0])
    from .otlp_logs import encode_logs

    return encode_logs


def message_encoder(signal: Signal) -> Callable[[Sequence[Any]], Any]:
    """Give the stock encoder of a signal: the same as a message that can be read."""
    if signal is Signal.TRACES:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        return encode_spans
    if signal is Signal.METRICS:
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import (
            encode_metrics,
        )

        return lambda records: encode_metrics(records[0])
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

    return encode_logs


class BatchEncoder:
    """Makes export requests of records; one that cannot be encoded spoils no other."""

    def __init__(
        self,
        signal: Signal,
        clean: Callable[[Sequence[Any]], Sequence[Any]],
        size: Callable[[Any], int] | None,
        give_up: Callable[[str, int], None],
    ) -> None:
        """Prepare.

        Args:
            signal: What the records are.
            clean: Makes records legal and takes secrets out.
            size: How many ledger units a record stands for; one when not given.
            give_up: Told why, and how many units cannot become bytes.
        """
        self._signal = signal
        self._encode = request_encoder(signal)
        self._clean = clean
        self._size = size
        self._give_up = give_up
        self._stray: Exception | None = None

    def take_stray(self) -> Exception | None:
        """Give an exception that was no record's: it did not come a second time."""
        stray, self._stray = self._stray, None
        return stray

    def __call__(self, records: Sequence[Any]) -> list[Piece]:
        """Encode records into requests of legal size.

        Metrics come one collection at a time, so each is a request of its own.
        """
        cleaned = self._clean(records)
        if self._signal is Signal.METRICS:
            return [p for record in cleaned for p in self._pieces([record])]
        return list(self._pieces(cleaned))

    def _pieces(self, records: Sequence[Any]) -> Iterator[Piece]:
        try:
            body = self._encode(records)
        except Exception as first:  # noqa: BLE001 - a record's, or a signal handler's
            try:
                body = self._encode(records)
            except Exception as error:  # noqa: BLE001 - again: whatever a record holds
                yield from self._apart(records, error)
                return
            self._stray = first
        count = self._sum(records)
        if len(body) <= REQUEST_LIMIT_BYTES:
            yield Piece(body, count)
            return
        made = cut(self._signal, body, REQUEST_LIMIT_BYTES)
        for piece in made.too_large:
            self._give_up(f"is larger than {REQUEST_LIMIT_BYTES} bytes", piece.count)
        yield from made.pieces

    def _apart(self, records: Sequence[Any], error: Exception) -> Iterator[Piece]:
        """Find the record that cannot be encoded, so that its neighbours arrive."""
        if len(records) > 1:
            middle = len(records) // 2
            yield from self._pieces(records[:middle])
            yield from self._pieces(records[middle:])
            return
        why = f"cannot be encoded ({type(error).__name__})"
        self._give_up(why, self._sum(records))

    def _sum(self, records: Sequence[Any]) -> int:
        return len(records) if self._size is None else sum(map(self._size, records))
