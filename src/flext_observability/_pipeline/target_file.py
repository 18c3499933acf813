"""Files in which Prometheus finds the processes that serve metrics (``file_sd``).

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .prometheus_names import legal_name

_PREFIX = "flext-"
_SUFFIX = ".json"
_HIDDEN = ".flext-"
# Without locks nobody could tell who is alive, and open files cannot be renamed.
_HAS_LOCKS = sys.platform != "win32"
# Prometheus reads them as another user; there is no secret in them.
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound to
_NAME_LENGTH = 64


class TargetFile:
    """The entry of one process: there as long as it serves, and no longer.

    The owner holds a lock on its file. Whoever finds an entry that nobody holds the
    lock of removes it: its process was killed.
    """

    def __init__(self, folder: Path, service: str, labels: Mapping[str, str]) -> None:
        """Prepare; nothing is written yet.

        Args:
            folder: Where Prometheus looks; made if it is missing.
            service: The label ``job``.
            labels: Further labels of the target.
        """
        self._folder = folder
        self._service = service
        self._labels = dict(labels)
        self._path: Path | None = None
        self._fd = -1

    def write(self, host: str, port: int) -> None:
        """Enter this process, and remove entries of dead ones.

        Args:
            host: Where the metrics page is served; of all addresses, the host's name.
            port: Its port.

        Raises:
            OSError: The folder cannot be written.
        """
        self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        sweep(self._folder)
        # Two containers may share the folder, and the process id 1.
        names = (self._service, socket.gethostname())
        stem = "-".join(legal_name(name)[:_NAME_LENGTH] for name in names)
        ending = f"{stem}-{os.getpid()}-{port}{_SUFFIX}"
        hidden = self._folder / f"{_HIDDEN}{ending}"
        path = self._folder / f"{_PREFIX}{ending}"
        fd = _made(hidden)
        try:
            _lock(fd)
            os.write(fd, self._content(host, port).encode())
            if sys.platform == "win32":
                os.close(fd)
                fd = -1
            else:
                os.fchmod(fd, _FILE_MODE)  # whatever the umask says
            hidden.replace(path)  # Prometheus never sees half of it
        except OSError:
            _close(fd)
            with suppress(OSError):
                hidden.unlink()
            raise
        self._path, self._fd = path, fd

    def _content(self, host: str, port: int) -> str:
        address = socket.gethostname() if host in _EVERYWHERE else host
        shown = f"[{address}]" if ":" in address else address
        labels = {"job": self._service, **self._labels}
        entry = {"targets": [f"{shown}:{port}"], "labels": labels}
        return json.dumps([entry], indent=2) + "\n"

    def remove(self) -> None:
        """Take the entry away; harmless when repeated."""
        path, fd = self._path, self._fd
        self._path, self._fd = None, -1
        if path is None:
            return
        with suppress(OSError):
            if fd < 0 or os.path.samestat(path.lstat(), os.fstat(fd)):
                path.unlink()
        _close(fd)

    def abandon(self) -> None:
        """Let go of the lock's descriptor: in a forked child the entry is the parent's.

        Closed, never unlocked: unlocking would free the parent's lock too.
        """
        fd, self._fd, self._path = self._fd, -1, None
        _close(fd)


def sweep(folder: Path) -> None:
    """Remove entries whose process is dead; never raises."""
    if not _HAS_LOCKS:
        return
    with suppress(OSError):
        for path in (*folder.glob(f"{_PREFIX}*{_SUFFIX}"), *folder.glob(f"{_HIDDEN}*")):
            with suppress(OSError):
                _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        _lock(fd)  # raises while its owner lives
        if os.path.samestat(path.lstat(), os.fstat(fd)):
            path.unlink()
    finally:
        os.close(fd)


def _made(path: Path) -> int:
    """Make a file that was not there; one of a dead process of our pid goes first."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with suppress(OSError):
        _remove_if_dead(path)
    return os.open(path, flags, _FILE_MODE)


def _close(fd: int) -> None:
    if fd >= 0:
        with suppress(OSError):
            os.close(fd)


def _lock(fd: int) -> None:
    if sys.platform != "win32":
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(fd, LOCK_EX | LOCK_NB)
