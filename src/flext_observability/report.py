"""What the library is doing: a typed record for people and health checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .constants import FlextObservabilityConstants as C
from .constants import Signal

if TYPE_CHECKING:
    from ._pipeline.ledger import SignalLedger
    from ._pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class FlextObservabilityStatus:
    """What the library is doing, at one moment."""

    running: bool = False
    """Whether telemetry is produced."""
    service_name: str = C.DEFAULT_SERVICE_NAME
    """``service.name`` of everything that is sent."""
    endpoint: str | None = None
    """The collector, without credentials; ``None`` when nothing goes to one."""
    protocol: str | None = None
    """``grpc`` or ``http/protobuf``; ``None`` when nothing goes to a collector."""
    durability: str = "memory"
    """What survives a crash: ``memory``, ``batch`` or ``record``."""
    durability_reason: str = ""
    """Why it is that one."""
    spool_dir: str | None = None
    """The directory in which records wait for delivery, if it is one."""
    signals: "Mapping[str, SignalLedger]" = field(default_factory=dict[str, Any])
    """The ledger of ``traces``, ``metrics`` and ``logs``, in records."""
    last_error: str | None = None
    """The last trouble with delivery; else with Alertmanager, Pushgateway and such."""
    spool_bytes: int = 0
    """Bytes on disk that wait for delivery."""
    outlets: "Mapping[str, SignalLedger]" = field(default_factory=dict[str, Any])
    """Beside OTLP: what became of the changes that ``alertmanager`` is told of."""
    problems: tuple[str, ...] = ()
    """What is wrong now, for people; empty when all is well."""

    @property
    def ready(self) -> bool:
        """Whether telemetry is produced and arrives; a reason is in ``problems``."""
        return self.running and not self.problems


def no_ledgers() -> "Mapping[str, SignalLedger]":
    """Give the ledgers of a program that never called setup."""
    from ._pipeline.ledger import SignalLedger

    return {signal.value: SignalLedger() for signal in Signal}


def status_of(pipeline: "Pipeline", *, running: bool) -> FlextObservabilityStatus:
    """Describe a pipeline as it is now."""
    first = next(iter(pipeline.endpoints.values()), None)
    spool = pipeline.spool
    directory = spool.directory if spool else None
    return FlextObservabilityStatus(
        running=running,
        service_name=str(pipeline.resource.attributes.get("service.name", "")),
        endpoint=None if first is None else base_url(first.shown, first.protocol),
        protocol=None if first is None else first.protocol,
        durability="memory" if spool is None else spool.durability,
        durability_reason=pipeline.durability_reason or "",
        spool_dir=None if directory is None else str(directory),
        signals=pipeline.snapshot(),
        last_error=pipeline.notices.last_error or pipeline.outlets.notices.last_error,
        spool_bytes=0 if spool is None else spool.size_bytes,
        outlets=pipeline.outlets.snapshot(),
        problems=pipeline.problems if running else (),
    )


def base_url(url: str, protocol: str) -> str:
    """Show the endpoint as it is configured, without a signal's path."""
    if protocol == "grpc":
        return url
    return (
        url.removesuffix("/v1/traces")
        .removesuffix("/v1/metrics")
        .removesuffix("/v1/logs")
    )
