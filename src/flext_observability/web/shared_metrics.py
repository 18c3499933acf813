"""Metrics of several processes behind one port, joined through a directory.

Each process writes its page into a file of its own, every second and at its end, and
holds the lock of that file while it lives. Whoever is scraped writes his own and reads
all: sums never fall from one scrape to the next, whichever process answers. Files of
dead processes are added up in one, so that restarts leave nothing behind but sums.
"""

import atexit
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import Metric

from .._pipeline.background import BackgroundThread, may_start
from .._pipeline.own_work import own_work
from .._pipeline.spool_files import FILE_MODE, FOLDER_MODE, Descriptors, open_folder
from ..own_log import WARNING, say
from .families import Sum, from_json, to_json

_INTERVAL_S: Final = 1.0
# Of its time, a process spends at most a part of this on writing.
_SHARE: Final = 50
_LOCK_TIMEOUT_S: Final = 5.0
_ENDED: Final = "ended.json"
_GATE: Final = "lock"
_CLOSED: Final = -1
_FILE_LIMIT_BYTES: Final = 64 * 1024 * 1024

Page = tuple[list[Metric], set[str]]
"""Families, and the names of gauges that add up."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A page as it stands in a file."""

    families: list[Metric] = field(default_factory=list[Metric])
    additive: Collection[str] = ()
    """Names of gauges that add up."""
    merged: Collection[str] = ()
    """Of the dead: whose files were added last, in case they are still there."""

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "families": to_json(self.families),
            "additive": sorted(self.additive),
            "merged": sorted(self.merged),
        }

    @classmethod
    def from_json(cls, found: Any) -> "Snapshot":
        """Read it from plain data; anything else raises something."""
        return cls(
            from_json(found["families"]), set(found["additive"]), set(found["merged"])
        )


class SharedMetrics:
    """The page of this process among those of its siblings.

    Args:
        directory: Made when it is missing; of this user alone, mode 0700.
        read_page: Gives the page of this process.

    Raises:
        OSError: The directory cannot be used; the text says why.
    """

    def __init__(self, directory: Path, read_page: Callable[[], Page]) -> None:
        if sys.platform == "win32":
            raise OSError("this platform has no flock")
        self.directory = directory
        self._read_page = read_page
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._files = Descriptors()
        directory.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._folder = open_folder(str(directory))
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with self._gate():  # nobody shall see it unlocked
                lock = f"{self._name}.lock"
                flock(self._files.open(lock, os.O_RDWR | os.O_CREAT, self._folder))
        except BaseException:
            self.abandon()
            raise
        self._thread = BackgroundThread("flext-shared-metrics", self._run)

    def start(self) -> None:
        """Begin to write every second, and once at the end of the process.

        While threads are held, it is that once only; see :meth:`resume`.

        Raises:
            RuntimeError: No thread can be started.
        """
        if not self._thread.start() and may_start():
            self.abandon()
            raise RuntimeError("can't start new thread")
        atexit.register(self.close)

    def resume(self) -> None:
        """Begin now, if that had to wait until threads may be started."""
        self._thread.start()

    def families(self) -> list[Metric]:
        """Give the page of all processes, as it is now.

        Raises:
            OSError: The directory cannot be used any more.
        """
        self.write()
        with self._gate():
            return self._joined().families()

    def write(self) -> None:
        """Write the page of this process."""
        with self._lock:
            if self._ended.is_set():
                return
            self._replace(f"{self._name}.json", Snapshot(*self._read_page()))

    def close(self) -> None:
        """Write for the last time; from then on the process counts as dead."""
        if self._ended.is_set():
            return
        with self._lock, suppress(Exception):
            self.write()
        self._ended.set()
        self._thread.join(_INTERVAL_S)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files; in a forked child they are the parent's."""
        self._ended.set()
        atexit.unregister(self.close)
        self._files.close_all()
        folder, self._folder = self._folder, _CLOSED
        if folder != _CLOSED:
            os.close(folder)

    def _run(self) -> None:
        pause_s = _INTERVAL_S
        with own_work():
            while not self._ended.wait(pause_s):
                began_s = time.monotonic()
                try:
                    self.write()
                except Exception as error:  # noqa: BLE001 - the disk may come back
                    say(WARNING, "metrics cannot be shared: %s", error)
                    pause_s = 60.0  # said once a minute
                else:
                    took_s = time.monotonic() - began_s
                    pause_s = max(_INTERVAL_S, _SHARE * took_s)

    # -- the directory, while nobody else changes it

    @contextmanager
    def _gate(self) -> Generator[None]:
        fd = self._files.open(_GATE, os.O_RDWR | os.O_CREAT, self._folder)
        try:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while not _is_taken(fd):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{self.directory} is locked by another process")
                time.sleep(0.005)
            yield
        finally:
            self._files.close(fd)

    def _joined(self) -> Sum:
        page, dead = Sum(), Sum()
        ended = self._read(_ENDED) or Snapshot()
        dead.add(ended.families)
        merged: list[str] = []
        names = sorted(os.listdir(self._folder))  # noqa: PTH208 - pathlib has no descriptors
        for lock in (name for name in names if name.endswith(".lock")):
            name = lock.removesuffix(".lock")
            told = self._read(f"{name}.json") or Snapshot()
            if name == self._name or self._is_alive(lock):
                page.add(told.families, told.additive, name.partition("-")[0])
                continue
            merged.append(name)
            # It may have been added before, by one who died right after that.
            if name not in ended.merged:
                dead.add(told.families)
        if merged:
            self._replace(_ENDED, Snapshot(dead.families(), merged=merged))
            for name in merged:
                for suffix in (".json", ".lock"):
                    with suppress(OSError):
                        os.unlink(f"{name}{suffix}", dir_fd=self._folder)
        page.add(dead.families())
        return page

    def _is_alive(self, lock: str) -> bool:
        try:
            fd = self._files.open(lock, os.O_RDWR, self._folder)
        except OSError:
            return False
        try:
            return not _is_taken(fd)
        finally:
            self._files.close(fd)

    def _read(self, name: str) -> "Snapshot | None":
        """Read a page; what nobody can read does not exist."""
        try:
            fd = self._files.open(name, os.O_RDONLY, self._folder)
        except OSError:
            return None
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                return Snapshot.from_json(json.loads(file.read(_FILE_LIMIT_BYTES)))
        except Exception as error:  # noqa: BLE001 - whatever stands in the file
            say(WARNING, "shared metrics in %s cannot be read: %s", name, error)
            return None
        finally:
            self._files.close(fd)

    def _replace(self, name: str, content: "Snapshot") -> None:
        """Write a file, so that readers see the old one or the new one."""
        draft = f".{name}.{self._name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, FILE_MODE, dir_fd=self._folder)
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(content.to_json(), separators=(",", ":")).encode())
        os.replace(draft, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


def flock(fd: int) -> None:
    """Lock an open file for as long as it is open.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if sys.platform != "win32":
        from fcntl import LOCK_EX, LOCK_NB
        from fcntl import flock as lock

        lock(fd, LOCK_EX | LOCK_NB)


def _is_taken(fd: int) -> bool:
    """Take a lock, unless another process holds it."""
    try:
        flock(fd)
    except BlockingIOError:
        return False
    return True
