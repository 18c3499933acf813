"""Registered health checks: any callable, with a deadline each."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, cast

from .._pipeline.values import clean_text
from ..constants import FlextObservabilityConstants as C
from ..entities import FlextHealthCheck
from ..locks import ForkSafeLock
from ..result import FlextResult

_WORDS = {True: "healthy", False: "unhealthy", None: "healthy"}


@dataclass(slots=True)
class Probe:
    """One registered check and, while it runs, its thread."""

    name: str
    function: Callable[[], Any]
    timeout_s: float
    dependencies: tuple[str, ...]
    _thread: threading.Thread | None = None
    _answer: list[FlextHealthCheck] = field(default_factory=list[FlextHealthCheck])
    _deadline: float = 0.0

    def start(self) -> None:
        """Run the function in a thread, unless the last run still hangs there.

        A check that never returns holds one thread, however often it is asked.
        """
        self._deadline = time.monotonic() + self.timeout_s
        if self._thread is not None and self._thread.is_alive():
            return
        self._answer = answer = list[FlextHealthCheck]()
        context = copy_context()
        self._thread = threading.Thread(
            target=lambda: context.run(self._run, answer),
            name=f"flext-health-{self.name}",
            daemon=True,
        )
        self._thread.start()

    def finish(self) -> FlextHealthCheck:
        """Wait for the answer until the deadline; none by then is unhealthy."""
        thread = cast("threading.Thread", self._thread)
        thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._answer:
            return self._answer[0]
        return self._report("unhealthy", f"no answer within {self.timeout_s:g} s")

    def _run(self, answer: list[FlextHealthCheck]) -> None:
        began = time.perf_counter()
        try:
            report = self._read(self._call())
        except Exception as error:  # noqa: BLE001 - the check's own failure is its answer
            text = f"{type(error).__name__}: {clean_text(error)}"
            report = self._report("unhealthy", text)
        report.details.setdefault("duration_seconds", time.perf_counter() - began)
        answer.append(report)

    def _call(self) -> object:
        value = self.function()
        if not inspect.isawaitable(value):
            return value

        async def wait() -> object:
            return await asyncio.wait_for(value, self.timeout_s)

        return asyncio.run(wait())

    def _read(self, value: object) -> FlextHealthCheck:
        """Understand what a check may give."""
        if isinstance(value, FlextResult):
            result = cast("FlextResult[object]", value)
            if result.is_failure:
                return self._report("unhealthy", result.error or "")
            value = result.data
        if isinstance(value, FlextHealthCheck):
            needed = [*value.dependencies, *self.dependencies]
            dependencies = list(dict.fromkeys(needed))
            # Not a copy: a check may give the same object again, as a new report.
            return FlextHealthCheck(
                name=self.name,
                status=value.status,
                message=value.message,
                details=dict(value.details),
                timestamp=value.timestamp,
                dependencies=dependencies,
            )
        if value is None or isinstance(value, bool):
            return self._report(_WORDS[value])
        if isinstance(value, str) and value.lower() in C.HEALTH_STATUSES:
            return self._report(value)
        if isinstance(value, Mapping):
            return self._read_mapping(cast("Mapping[str, object]", value))
        return self._report("unhealthy", f"unknown answer: {clean_text(value)}")

    def _read_mapping(self, given: Mapping[str, object]) -> FlextHealthCheck:
        details = {k: v for k, v in given.items() if k not in {"status", "message"}}
        status = clean_text(given.get("status", "healthy")).lower()
        return self._report(status, clean_text(given.get("message", "")), details)

    def _report(
        self, status: str, message: str = "", details: dict[str, object] | None = None
    ) -> FlextHealthCheck:
        return FlextHealthCheck(
            name=self.name,
            status=status,
            message=message,
            details=details or {},
            dependencies=list(self.dependencies),
        )


class Probes:
    """The registered checks of one container; thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._running = ForkSafeLock()  # held for a whole round
        self._by_name: dict[str, Probe] = {}

    def add(self, probe: Probe) -> bool:
        """Register a check, unless its name is taken.

        Returns:
            Whether it was registered.
        """
        with self._lock:
            return self._by_name.setdefault(probe.name, probe) is probe

    def remove(self, name: str) -> bool:
        """Forget a check.

        Returns:
            Whether there was one.
        """
        with self._lock:
            return self._by_name.pop(name, None) is not None

    @property
    def is_empty(self) -> bool:
        """Whether no check is registered."""
        return not self._by_name

    def run(self) -> list[FlextHealthCheck]:
        """Run all at once; it takes as long as the slowest, at most its timeout."""
        with self._lock:
            probes: Sequence[Probe] = list(self._by_name.values())
        with self._running:  # one round at a time: a probe has one thread
            for probe in probes:
                probe.start()
            return [probe.finish() for probe in probes]
