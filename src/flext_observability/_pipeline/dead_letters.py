"""What was refused or damaged, kept for a person to look at, within bounds."""

import os
import secrets
from contextlib import suppress

from .segments import NOTE, encode_frame
from .spool_directory import REJECTED, ServiceFolder, make_folder
from .spool_files import Descriptors, open_folder, write_whole

_LIMIT_BYTES = 16 * 1024 * 1024
_FILE_BYTES = 2 * 1024 * 1024
_DAMAGE_BYTES = 1024 * 1024


class DeadLetters:
    """Files in ``rejected/``; the oldest go first."""

    def __init__(self, folder: ServiceFolder, descriptors: Descriptors) -> None:
        self._folder = folder
        self._descriptors = descriptors
        # Of this process alone: two must not write to one file.
        self._stem = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file = 1

    def keep_rejected(self, signal: int, body: bytes, reason: str) -> None:
        """Append a refused request, after a note that says why.

        Raises:
            OSError: The disk does not take it.
        """
        note = encode_frame(NOTE, reason.encode("utf-8", "replace"), 0)
        data = note + encode_frame(signal, body, 0)
        if self._append(f"{self._stem}-{self._file:06}.seg", data) > _FILE_BYTES:
            self._file += 1

    def keep_damaged(self, directory: str, segment: int, data: bytes) -> None:
        """Append damaged bytes of a segment.

        Raises:
            OSError: The disk does not take it.
        """
        self._append(f"{directory}-{segment:06}.seg.bad", data[:_DAMAGE_BYTES])

    def _append(self, name: str, data: bytes) -> int:
        with self._folder.opened(create=True) as above:
            make_folder(REJECTED, above)
            folder = open_folder(REJECTED, above)
        try:
            _make_room(folder, len(data), name)
            fd = self._descriptors.open(name, os.O_RDWR | os.O_CREAT, folder)
            try:
                size = os.fstat(fd).st_size
                write_whole(fd, data, size)
            finally:
                self._descriptors.close(fd)
        finally:
            os.close(folder)
        return size + len(data)


def _make_room(folder: int, size: int, current: str) -> None:
    found: list[tuple[int, str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime_ns, entry.name, status.st_size))
    total = sum(size for _, _, size in found) + size
    for _, name, freed in sorted(found):
        if total <= _LIMIT_BYTES:
            return
        if name != current:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
                total -= freed
