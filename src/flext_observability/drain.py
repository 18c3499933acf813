"""Sends what processes of a service that are gone left on disk."""

import time
from collections.abc import Mapping
from typing import Any

from .lifecycle import setup, shutdown, status
from .result import FlextResult

# Long enough for a delivery thread to look into every directory.
_LOOK_S = 1.0
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
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        waits = any(ledger.pending for ledger in status().signals.values())
        if not waits and time.monotonic() - started > _LOOK_S:
            break
        time.sleep(_STEP_S)
    left = shutdown()
    if left.is_failure:
        return FlextResult[str].fail(left.error)
    told = ", ".join(
        f"{ledger.delivered} of {ledger.adopted} {name}"
        for name, ledger in status().signals.items()
    )
    return FlextResult[str].ok(f"delivered: {told}")
