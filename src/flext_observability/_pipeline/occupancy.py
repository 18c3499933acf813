"""How full the place is where records wait, as two gauges."""

from collections.abc import Mapping
from functools import partial

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from .ledger import Ledger
from .spool import Spool


def observe_occupancy(
    provider: MeterProvider, spool: Spool, ledgers: Mapping[Signal, Ledger]
) -> None:
    """Show what undelivered records take, and what they may take.

    Args:
        provider: Of the pipeline.
        spool: Where its records wait.
        ledgers: Of its signals.
    """
    meter = provider.get_meter(C.SCOPE_NAME)
    for name, place, what in (
        (C.METRIC_SPOOL_USAGE, 0, "Bytes that undelivered records of this service"),
        (C.METRIC_SPOOL_LIMIT, 1, "Bytes that undelivered records of this service may"),
    ):
        meter.create_observable_gauge(
            name,
            [partial(_occupancy, spool, ledgers, place)],
            unit="By",
            description=f"{what} take.",
        )


def _occupancy(
    spool: Spool, ledgers: Mapping[Signal, Ledger], place: int, _: CallbackOptions
) -> list[Observation]:
    if not any(ledger.snapshot().accepted for ledger in ledgers.values()):
        return []  # a program that records nothing sends nothing
    return [Observation(spool.occupancy[place])]
