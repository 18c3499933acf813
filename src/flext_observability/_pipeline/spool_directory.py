"""The folder of a service on disk, and who owns which process directory in it."""

import errno
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from .spool_files import (
    FILE_MODE,
    FOLDER_MODE,
    Descriptors,
    is_same_file,
    open_folder,
    write_whole,
)

# Without flock nothing could tell who is alive.
HAS_LOCKS = sys.platform != "win32"

FORMAT = "v1"
REJECTED = "rejected"
LOCK = "lock"
_HIDDEN = ".new-"
_PROBE = ".probe-"
_NAME = re.compile(r"[0-9a-z]{1,16}-[0-9]{1,10}-[0-9]{1,10}")
_SEGMENT = re.compile(r"([0-9]{6,10})\.seg")
_OURS = re.compile(r"lock|counter|ack|ack\.new|[0-9]{6,10}\.seg")
_SERVICE_LENGTH = 64
# A directory is published within milliseconds; one that is older has lost its maker.
_STALE_S = 60.0
# What claims to be a larger segment is not ours, and is not read to its end.
_SEGMENT_READ_BYTES = 64 * 1024 * 1024
_TRIES = 10_000
_WITHOUT_ROOM = {errno.ENOSPC, errno.EDQUOT}
# A directory is not where it was: nothing is there, or what is not ours.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.EPERM}


class SpoolUnavailableError(OSError):
    """The directory for records on disk cannot be used."""


class LockedDirectory(NamedTuple):
    """A process directory whose lock we hold."""

    name: str
    folder_fd: int
    lock_fd: int


class ServiceFolder:
    """``<root>/<service>-<fingerprint>/v1``: the directories of one service."""

    def __init__(self, root: Path, service: str, fingerprint: str) -> None:
        """Check that it can be used, by making it and a file in it.

        Raises:
            SpoolUnavailableError: It cannot.
        """
        if not HAS_LOCKS:
            raise SpoolUnavailableError(
                "records cannot wait on disk here: this platform has no flock; "
                "use durability='memory'"
            )
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - must not follow links
        self.path = folder_path(self.root, service, fingerprint)
        self.is_without_room = False
        import_module("fcntl")  # here and now, never first in a thread of ours
        try:
            self.probe()
        except (OSError, ValueError) as error:
            self.is_without_room = getattr(error, "errno", 0) in _WITHOUT_ROOM
            if not self.is_without_room:  # a full disk recovers, the rest does not
                raise SpoolUnavailableError(self._explain(error)) from error

    def probe(self) -> None:
        """Make and remove a file.

        Raises:
            OSError: The disk does not take it.
        """
        with self.opened(create=True) as folder:
            name = f"{_PROBE}{os.getpid()}-{secrets.token_hex(4)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(name, flags, FILE_MODE, dir_fd=folder)
            try:
                write_whole(fd, name.encode(), 0)
            finally:
                os.close(fd)
                os.unlink(name, dir_fd=folder)

    def create(self, descriptors: Descriptors) -> LockedDirectory:
        """Make a process directory: hidden, locked, then renamed into place.

        Raises:
            OSError: It cannot be made.
        """
        with self.opened(create=True) as folder:
            hidden = f"{_HIDDEN}{_boot()}-{os.getpid()}-{secrets.token_hex(4)}"
            make_folder(hidden, folder)
            mine = lock = -1
            try:
                mine = descriptors.open_folder(hidden, folder)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                lock = descriptors.open(LOCK, flags, mine)
                _take(lock)
                name = _publish(hidden, folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(LOCK, dir_fd=mine)
                with suppress(OSError):
                    os.rmdir(hidden, dir_fd=folder)
                descriptors.close(lock)
                descriptors.close(mine)
                raise
            return LockedDirectory(name, mine, lock)

    def lock(self, name: str, descriptors: Descriptors) -> LockedDirectory | None:
        """Take a directory whose owner is dead.

        Returns:
            ``None`` if it has an owner, or was removed meanwhile.

        Raises:
            OSError: It cannot be opened, or is not ours.
        """
        with self.opened() as folder:
            mine = lock = -1
            try:
                mine = descriptors.open_folder(name, folder)
                # The last owner may have died between removing its lock and the rest.
                lock = descriptors.open(LOCK, os.O_RDWR | os.O_CREAT, mine)
                _take(lock)
                # The former owner may have removed it in between.
                if is_same_file(lock, LOCK, mine) and is_same_file(mine, name, folder):
                    return LockedDirectory(name, mine, lock)
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                descriptors.close(lock)
                descriptors.close(mine)
                raise
            descriptors.close(lock)
            descriptors.close(mine)
            return None

    def release(self, directory: LockedDirectory, descriptors: Descriptors) -> None:
        """Let another process have it."""
        # Said expressly: a child forked in a bad moment may hold a copy of the lock.
        with suppress(OSError):
            _free(directory.lock_fd)
        descriptors.close(directory.lock_fd)
        descriptors.close(directory.folder_fd)

    def remove(self, directory: LockedDirectory, descriptors: Descriptors) -> bool:
        """Remove a directory that we hold, and let go of it.

        Returns:
            Whether it is gone; files that are not the spool's keep it.
        """
        try:
            names = [n for n in _entries(directory.folder_fd) if _OURS.fullmatch(n)]
            names.sort(key=lambda name: name == LOCK)  # the lock goes last
            for name in names:
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory.folder_fd)
            with self.opened() as folder:
                if is_same_file(directory.folder_fd, directory.name, folder):
                    os.rmdir(directory.name, dir_fd=folder)
        except OSError as error:
            return error.errno == errno.ENOENT
        else:
            return True
        finally:
            self.release(directory, descriptors)

    def holds(self, directory: LockedDirectory) -> bool:
        """Whether a directory is still where it was made, and locked for others.

        One that cannot be looked at now counts as if it were.
        """
        mine, lock = directory.folder_fd, directory.lock_fd
        try:
            with self.opened() as folder:
                is_there = is_same_file(mine, directory.name, folder)
                return is_there and is_same_file(lock, LOCK, mine)
        except OSError as error:
            return error.errno not in _GONE

    def names(self) -> list[str]:
        """Give the names of all process directories, the oldest first.

        Raises:
            OSError: The folder cannot be read.
        """
        found: list[tuple[int, str]] = []
        with self.opened() as folder, os.scandir(folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    with suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, entry.name))
        return [name for _, name in sorted(found)]

    def size_of(self, name: str) -> int:
        """Give the bytes of the segments in a directory that another process owns."""
        size = 0
        with suppress(OSError), self.opened() as folder:
            fd = open_folder(name, folder)
            try:
                size = sum(size for _, size, _ in list_segments(fd))
            finally:
                os.close(fd)
        return size

    def tidy(self, descriptors: Descriptors) -> None:
        """Remove hidden directories whose maker died before it published them.

        Raises:
            OSError: The folder cannot be read.
        """
        with self.opened() as folder:
            for name in _entries(folder):
                if not name.startswith((_HIDDEN, _PROBE)):
                    continue
                with suppress(OSError):
                    made = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
                    # A wrong clock costs a maker that is alive one more try.
                    if time.time() - made <= _STALE_S:
                        continue
                    if name.startswith(_PROBE):
                        os.unlink(name, dir_fd=folder)
                    elif stale := self.lock(name, descriptors):
                        self.remove(stale, descriptors)

    @contextmanager
    def opened(self, *, create: bool = False) -> Generator[int]:
        """Open the folder, every step of the way checked.

        Raises:
            OSError: It is not there, or not ours.
        """
        if create:
            _make_parents(self.root)
        above = _open_root(self.root)
        try:
            for name in (self.path.parent.name, self.path.name):
                if create:
                    make_folder(name, above)
                below = open_folder(name, above)
                os.close(above)
                above = below
            yield above
        finally:
            os.close(above)

    def _explain(self, error: OSError | ValueError) -> str:
        place = self.root
        for place in (self.root, self.path.parent, self.path):
            if os.path.islink(place):  # noqa: PTH114 - unlike Path never raises
                return (
                    f"records cannot wait on disk: {place} is a symbolic link; "
                    "name the directory itself in spool_dir"
                )
        reason = getattr(error, "strerror", None) or str(error)
        name = getattr(error, "filename", None)
        where = f" ({name})" if name and str(name) not in str(self.path) else ""
        return (
            f"records cannot wait on disk in {self.path}: {reason}{where}; make it a "
            "directory of this user that can be written, or name another in spool_dir"
        )


def folder_path(root: Path, service: str, fingerprint: str) -> Path:
    """Say where the directories of a service and its destinations are."""
    return root / f"{_safe_name(service)}-{fingerprint}" / FORMAT


def folders_with_records(root: Path, service: str) -> list[Path]:
    """Give the folders of a service, for whatever destinations, that hold records.

    Those of a living process count until it removes what was delivered.
    """
    prefix = _safe_name(service)
    return [
        folder
        for folder in sorted(root.glob("*-*"))
        if folder.name.rpartition("-")[0] == prefix
        and any(
            _NAME.fullmatch(each.parent.name) and _SEGMENT.fullmatch(each.name)
            for each in folder.glob(f"{FORMAT}/*/*")
        )
    ]


def _take(lock: int) -> None:
    if sys.platform != "win32":
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(lock, LOCK_EX | LOCK_NB)


def _free(lock: int) -> None:
    if sys.platform != "win32":
        from fcntl import LOCK_UN, flock

        flock(lock, LOCK_UN)


def list_segments(folder: int) -> list[tuple[int, int, float]]:
    """Give number, bounded size and modification time of the segments, in order.

    Raises:
        OSError: The folder cannot be read.
    """
    found: list[tuple[int, int, float]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _SEGMENT.fullmatch(entry.name)
            if match and int(match[1]) < 1 << 32:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    size = min(status.st_size, _SEGMENT_READ_BYTES)
                    found.append((int(match[1]), size, status.st_mtime))
    return sorted(found)


def _entries(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def segment_name(number: int) -> str:
    """Give the file name of a segment."""
    return f"{number:06}.seg"


def make_folder(name: str, above: int) -> None:
    """Make a folder for us alone unless it is there.

    Raises:
        OSError: It cannot be made.
    """
    with suppress(FileExistsError):
        os.mkdir(name, FOLDER_MODE, dir_fd=above)
        try:
            os.close(open_folder(name, above))
        except PermissionError:
            # Only under a strict umask, which locks out the maker too.
            os.chmod(name, FOLDER_MODE, dir_fd=above)


def _make_parents(path: Path) -> None:
    missing: list[Path] = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.parent
    for place in reversed(missing):
        with suppress(FileExistsError):
            place.mkdir(FOLDER_MODE)
            place.chmod(FOLDER_MODE)


def _open_root(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags)
    # Volumes are often made by the superuser; everything below must be ours.
    if os.fstat(fd).st_uid not in {0, os.geteuid()}:
        os.close(fd)
        raise PermissionError(errno.EPERM, "belongs to another user", str(path))
    return fd


def _publish(hidden: str, folder: int) -> str:
    for number in range(1, _TRIES):
        name = f"{_boot()}-{os.getpid()}-{number}"
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            # Replaces nothing: all of them hold a lock, so they are never empty.
            with suppress(FileExistsError, NotADirectoryError):
                try:
                    os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
                except OSError as error:
                    if error.errno == errno.ENOTEMPTY:
                        continue
                    raise
                return name
    raise FileExistsError(errno.EEXIST, "too many directories of this process")


def _boot() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8")
        return re.sub("[^0-9a-z]", "", boot)[:8] or "0"
    return "0"


def _safe_name(service: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", service)[:_SERVICE_LENGTH].lstrip(".")
    # Case too: some file systems ignore it.
    if safe and safe.lower() == service:
        return safe
    # No name keeps a "~", so none can look like the changed form of another.
    digest = hashlib.sha256(service.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe}~{digest[:12]}"
