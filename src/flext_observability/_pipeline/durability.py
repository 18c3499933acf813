"""Which spool a pipeline gets, and who is told what the spool does by itself."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..constants import DropReason, Signal
from ..settings import Settings
from .endpoint import Endpoint
from .ledger import Ledger, Notices
from .spool import MemorySpool, Spool


class LedgerAccounts:
    """Enters into the ledgers what a spool adopts and gives up by itself."""

    def __init__(
        self,
        ledgers: Mapping[Signal, Ledger],
        notices: Notices,
        arrived: Callable[[Signal, int], None],
    ) -> None:
        """Prepare.

        Args:
            ledgers: Those of the collector, by signal.
            notices: Where trouble is said.
            arrived: Told that records of a signal wait now.
        """
        self._ledgers = ledgers
        self._notices = notices
        self._arrived = arrived

    def adopted(self, signal: Signal, count: int) -> None:
        """Count records of a dead process, and have them delivered."""
        ledger = self._ledgers.get(signal)
        if ledger is not None:
            ledger.adopt(count)
            self._arrived(signal, count)

    def dropped(self, signal: Signal, reason: DropReason, count: int) -> None:
        """Count records that the spool gave up, and say so."""
        ledger = self._ledgers.get(signal)
        if ledger is not None:
            ledger.drop(reason, count)
        self._notices.error(
            f"{reason}_{signal}", f"{count} {signal.value} {_WHY[reason]} and are lost"
        )

    def trouble(self, reason: str, message: str) -> None:
        """Say what is wrong with the disk."""
        self._notices.error(reason, message)


_WHY: Mapping[DropReason, str] = {
    DropReason.SPOOL_FULL: "did not fit into the spool (spool_limit_bytes)",
    DropReason.DISK_FULL: "could not be written to the full disk",
    DropReason.TOO_OLD: "waited longer than 7 days for the collector",
    DropReason.DAMAGED: "were damaged on disk",
    DropReason.CRASH: "had not reached the disk when their process was killed",
}


def open_spool(
    config: Settings,
    service_name: str,
    endpoints: Iterable[Endpoint],
    accounts: LedgerAccounts,
    memory_limits: Mapping[Signal, int],
) -> tuple[Spool, str]:
    """Give the spool that the settings ask for, or memory when the disk refuses.

    Args:
        config: The settings.
        service_name: Whose records these are; services share no folder.
        endpoints: Where the signals go, those that are switched off too: switching
            one on must not hide what waits.
        accounts: Told what the spool does by itself.
        memory_limits: Records that may wait in memory, where that was stated.

    Returns:
        The spool, and why it is this one.
    """
    if config.durability == "memory":
        return MemorySpool(memory_limits), "durability='memory'"
    from .disk_spool import DiskSpool
    from .spool_directory import SpoolUnavailableError

    durability = config.durability or "batch"
    try:
        spool = DiskSpool(
            spool_root(config),
            service_name,
            fingerprint(endpoints),
            durability=durability,
            limit_bytes=config.spool_limit_bytes,
            fsync=config.fsync,
            accounts=accounts,
        )
    except SpoolUnavailableError as error:
        reason = f"records wait in memory only, a crash loses them: {error}"
        accounts.trouble("durability", reason)
        return MemorySpool(memory_limits), reason
    stated = "the default" if config.durability is None else f"{durability=}"
    return spool, f"{stated}; the directory is writable"


def spool_folder(
    config: Settings, service_name: str, endpoints: Iterable[Endpoint]
) -> Path:
    """Say where the records of a service wait, whether or not there are any."""
    from .spool_directory import folder_path

    return folder_path(spool_root(config), service_name, fingerprint(endpoints))


def spool_root(config: Settings) -> Path:
    """Say which directory holds the folders of all services."""
    if config.spool_dir is not None:
        return config.spool_dir
    from platformdirs import user_state_path

    from .spool_directory import SpoolUnavailableError

    # In containers users often have neither a home nor an entry.
    try:
        path = user_state_path("flext-observability", appauthor=False)
    except RuntimeError:
        path = None
    if path is None or path.parts[0] == "~":  # what older releases give instead
        raise SpoolUnavailableError(
            "records cannot wait on disk: this user has no home directory; name a "
            "directory in spool_dir (FLEXT_OBSERVABILITY_SPOOL_DIR)"
        )
    return path


def fingerprint(endpoints: Iterable[Endpoint]) -> str:
    """Name a set of destinations, so that no service sends what goes elsewhere."""
    lines = sorted(f"{e.signal.value} {e.protocol} {e.shown}" for e in endpoints)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
