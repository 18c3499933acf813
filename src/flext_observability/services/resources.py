"""Figures of the machine and of this process; psutil is optional."""

import os
import shutil
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..constants import FlextObservabilityConstants as C

MISSING = "psutil is not installed"


def psutil_module() -> Any:
    """Give psutil, ``None`` when it is not installed."""
    try:
        return import_module("psutil")
    except ImportError:
        return None


def status_of(value: float, limits: tuple[float, float]) -> str:
    """Give the health status of a figure.

    Args:
        value: Of the figure.
        limits: From the first on it is degraded, from the second on unhealthy.
    """
    degraded, unhealthy = limits
    if value >= unhealthy:
        return "unhealthy"
    return "degraded" if value >= degraded else "healthy"


def disk_usage() -> Mapping[str, float]:
    """Give total and used bytes, and percent, of the disk we run on."""
    # Its root: the working directory may have been deleted.
    usage = shutil.disk_usage(os.sep)
    # As `df` and psutil count: what only root may use belongs to neither part.
    reachable = usage.used + usage.free
    return {
        "total_bytes": usage.total,
        "used_bytes": usage.used,
        "percent": 100 * usage.used / reachable if reachable else 0.0,
    }


def memory_check() -> dict[str, Any] | None:
    """Give memory use and its status, ``None`` without psutil."""
    psutil = psutil_module()
    if psutil is None:
        return None
    memory = psutil.virtual_memory()
    return {
        "status": status_of(memory.percent, C.SYSTEM_PERCENT_LIMITS),
        "percent": float(memory.percent),
        "total_bytes": memory.total,
        "available_bytes": memory.available,
    }


def disk_check() -> dict[str, Any]:
    """Give disk use and its status."""
    usage = disk_usage()
    status = status_of(usage["percent"], C.SYSTEM_PERCENT_LIMITS)
    return {"status": status, **usage}


def thread_check() -> dict[str, Any]:
    """Give the number of threads of this process and its status."""
    count = threading.active_count()
    return {"status": status_of(count, C.SYSTEM_THREAD_LIMITS), "count": count}
