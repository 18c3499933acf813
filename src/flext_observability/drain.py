"""Sends what processes of a service that are gone left on disk."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._pipeline.durability import spool_folder, spool_root
from ._pipeline.endpoint import endpoint_for
from ._pipeline.ledger import SignalLedger
from ._pipeline.pipeline import Extras, Pipeline
from ._pipeline.providers import add_deliveries, bare_pipeline
from ._pipeline.spool_directory import SpoolUnavailableError, folders_with_records
from .constants import DropReason, Signal
from .errors import FlextObservabilityConfigurationError
from .report import base_url
from .result import FlextResult
from .settings import Settings
from .settings_reader import read_settings

_STEP_S = 0.05


def drain(
    service_name: str, fields: Mapping[str, Any], timeout_s: float
) -> FlextResult[str]:
    """Send the records that wait on disk for a service; make none.

    Args:
        service_name: ``service.name`` of the processes that left them.
        fields: Fields of the configuration, as the service has them.
        timeout_s: Seconds to spend at most.

    Returns:
        What was sent, for people; a failure that says what still waits or was refused
        and why, or that the service never left anything for these endpoints.
    """
    made = read_settings({**fields, "service_name": service_name})
    if made.is_failure:
        return FlextResult[str].fail(made.error)
    try:
        return _drain(made.data, timeout_s)
    except FlextObservabilityConfigurationError as error:
        return FlextResult[str].fail(f"Invalid configuration: {error}")
    except SpoolUnavailableError as error:
        return FlextResult[str].fail(f"there is no spool to drain: {error}")


def _drain(config: Settings, timeout_s: float) -> FlextResult[str]:
    if config.durability == "memory":
        return FlextResult[str].fail(
            "there is no spool to drain: durability='memory' keeps nothing on disk"
        )
    pipeline = bare_pipeline(config, Extras())
    service = str(pipeline.resource.attributes.get("service.name", ""))
    endpoints = [endpoint_for(config, signal) for signal in Signal]
    folder = spool_folder(config, service, endpoints)
    # Looked for first: what opens the spool makes its folder.
    if _is_missing(folder):
        shown = dict.fromkeys(
            f"{base_url(each.shown, each.protocol)} ({each.protocol})"
            for each in endpoints
        )
        return FlextResult[str].fail(
            f"nothing waits for service {service} at endpoint {', '.join(shown)} in "
            f"{spool_root(config)}{_elsewhere(config, service, folder)}"
        )
    add_deliveries(pipeline)
    if pipeline.spool is None or pipeline.spool.durability == "memory":
        reason = pipeline.durability_reason
        return FlextResult[str].fail(f"there is no spool to drain: {reason}")
    _send(pipeline, timeout_s)
    counts = pipeline.snapshot()
    told = f"delivered: {', '.join(_told(name, counts[name]) for name in counts)}"
    if why := _why_unfinished(pipeline, folder):
        return FlextResult[str].fail(f"{told}; {why}")
    if not any(map(_waited, counts.values())):
        told += _elsewhere(config, service, folder)
    return FlextResult[str].ok(told)


def _why_unfinished(pipeline: Pipeline, folder: Path) -> str:
    """Say what still waits or was not taken; nothing when all arrived."""
    if left := pipeline.left():
        return left
    if pipeline.spool is not None and pipeline.spool.is_searching:
        return f"{folder} could not all be read in time; drain it again"
    if any(each.delivered < _waited(each) for each in pipeline.snapshot().values()):
        return f"refused and damaged records are kept in {folder / 'rejected'}"
    return ""


def _send(pipeline: Pipeline, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    try:
        for route in pipeline.routes:
            route.start()
        while time.monotonic() < deadline and _waits(pipeline):
            time.sleep(_STEP_S)
    finally:
        pipeline.close(time.monotonic() + pipeline.config.exit_budget_s)


def _waits(pipeline: Pipeline) -> bool:
    if pipeline.spool is not None and pipeline.spool.is_searching:
        return True
    return any(counts.pending for counts in pipeline.snapshot().values())


def _is_missing(folder: Path) -> bool:
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # what is wrong with it is said when it is opened
        return False
    return False


def _waited(counts: SignalLedger) -> int:
    """Count what was on disk: what a crash took never was."""
    return counts.adopted - counts.dropped.get(DropReason.CRASH.value, 0)


def _told(name: str, counts: SignalLedger) -> str:
    others = {"rejected": counts.rejected, **counts.dropped}
    others.pop(DropReason.CRASH.value, None)
    why = ", ".join(f"{count} {reason}" for reason, count in others.items() if count)
    told = f"{counts.delivered} of {_waited(counts)} {name}"
    return f"{told} ({why})" if why else told


def _elsewhere(config: Settings, service: str, folder: Path) -> str:
    """Name the folders of the service for other endpoints, if they hold records."""
    found = folders_with_records(spool_root(config), service)
    others = [str(each) for each in found if each != folder.parent]
    if not others:
        return ""
    return (
        f"; records for other endpoints are in {', '.join(others)}: give the endpoint "
        "and protocol that the service has"
    )
