"""Opening files that nobody else may have planted, and letting go of them in a fork."""

import errno
import os
import stat
from contextlib import suppress

# No fault of the file, which may be opened and read in a moment.
PASSING = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}
)
FILE_MODE = 0o600
FOLDER_MODE = 0o700


class Descriptors:
    """The file descriptors of one spool, so that a forked child can close them all."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def open(self, name: str, flags: int, folder: int) -> int:
        """Open a regular file of ours inside a folder; symbolic links are refused.

        Raises:
            OSError: It cannot be opened, or is not ours alone.
        """
        # Non-blocking, since a pipe with that name would wait for its other end.
        safe = flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, safe, FILE_MODE, dir_fd=folder)
        self._open.add(fd)
        try:
            check_file(fd, name)
            if flags & os.O_CREAT:
                os.fchmod(fd, FILE_MODE)  # a strict umask must not lock us out
        except BaseException:
            self.close(fd)
            raise
        return fd

    def open_folder(self, name: str, folder: int) -> int:
        """Open a folder of ours inside a folder.

        Raises:
            OSError: It cannot be opened, or is not ours.
        """
        fd = open_folder(name, folder)
        self._open.add(fd)
        return fd

    def duplicate(self, fd: int) -> int:
        """Give a second descriptor of an open file."""
        copy = os.dup(fd)
        self._open.add(copy)
        return copy

    def close(self, fd: int) -> None:
        """Close one, unless it is closed already."""
        if fd in self._open:
            # First forget: a child must never close a number that is in use again.
            self._open.discard(fd)
            with suppress(OSError):
                os.close(fd)

    def close_all(self) -> None:
        """Close all; locks that a parent holds through its own copies stay."""
        for fd in tuple(self._open):
            self.close(fd)


def open_folder(name: str, folder: int | None = None) -> int:
    """Open a folder that must be ours and no symbolic link.

    Raises:
        OSError: It cannot be opened, or is not ours.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=folder)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, "belongs to another user", name)
    if stat.S_IMODE(status.st_mode) != FOLDER_MODE:
        try:
            os.fchmod(fd, FOLDER_MODE)
        except BaseException:
            os.close(fd)
            raise
    return fd


def raise_passing(error: OSError) -> None:
    """Let pass what says nothing about the file."""
    if error.errno in PASSING:
        raise error


def check_file(fd: int, name: str) -> None:
    """Refuse what is no regular file of ours, or has a second name elsewhere.

    Raises:
        PermissionError: It is not ours alone.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EPERM, "is no regular file", name)
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "belongs to another user", name)
    if status.st_nlink > 1:
        raise PermissionError(errno.EPERM, "has a second name", name)


def is_same_file(fd: int, name: str, folder: int) -> bool:
    """Tell whether a name inside a folder still leads to an open file.

    Raises:
        OSError: That cannot be told now.
    """
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def write_whole(fd: int, data: bytes, offset: int) -> None:
    """Write all of it with one call, or nothing.

    Raises:
        OSError: The disk does not take it; the file is cut back.
    """
    written = 0
    try:
        written = os.pwrite(fd, data, offset)
    finally:  # an interrupt too must not leave half a frame
        if written != len(data):
            with suppress(OSError):
                os.ftruncate(fd, offset)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(fd: int) -> None:
    """Have the disk hold what was written.

    Raises:
        OSError: It does not.
    """
    getattr(os, "fdatasync", os.fsync)(fd)
