"""Sends what processes of a service that are gone left on disk."""

import time
from collections.abc import Mapping
from typing import Any

from .lifecycle import setup, shutdown, status
from .result import FlextResult
from .runtime import state

_STEP_S = 0.05


def drain(
    service_name: str, fields: Mapping[str, Any], timeout_s: float
) -> FlextResult[str]:
    """Send the records that wait on disk for a service.

    Args:
        service_name: ``service.name`` of the processes that left them.
        fields: Fields of the configuration, as the service has them.
        timeout_s: Seconds to spend at most.

    Returns:
        What was sent, for people; a failure that says what still waits and why.
    """
    made = setup(service_name, **fields)
    if made.is_failure:
        return FlextResult[str].fail(made.error)
    durability_reason = status().durability_reason
    if status().durability == "memory":
        shutdown()
        return FlextResult[str].fail(f"there is no spool to drain: {durability_reason}")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and _waits():
        time.sleep(_STEP_S)
    left = shutdown()
    if left.is_failure:
        return FlextResult[str].fail(left.error)
    told = ", ".join(
        f"{ledger.delivered} of {ledger.adopted} {name}"
        for name, ledger in status().signals.items()
    )
    return FlextResult[str].ok(f"delivered: {told}")


def _waits() -> bool:
    pipeline = state.live()
    spool = None if pipeline is None else pipeline.spool
    if spool is not None and spool.is_searching:
        return True
    return any(ledger.pending for ledger in status().signals.values())
