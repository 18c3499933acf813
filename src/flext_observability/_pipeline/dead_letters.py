"""What was refused or damaged, kept for a person to look at, within bounds."""

import os
import secrets
import threading
from contextlib import suppress

from .segments import NOTE, encode_frame
from .spool_directory import REJECTED, ServiceFolder, make_folder
from .spool_files import Descriptors, open_folder, write_whole

_LIMIT_BYTES = 16 * 1024 * 1024
_FILE_BYTES = 2 * 1024 * 1024
# Written by this process before it looks again at what all of them wrote.
_UNSEEN_BYTES = 1024 * 1024


class DeadLetters:
    """Files in ``rejected/``; the oldest go first."""

    def __init__(self, folder: ServiceFolder, descriptors: Descriptors) -> None:
        self._folder = folder
        self._descriptors = descriptors
        self._lock = threading.RLock()
        # Of this process alone: two must not write to one file.
        self._stem = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._files: dict[str, int] = {}
        self._unseen_bytes = _UNSEEN_BYTES

    def keep_rejected(self, signal: int, body: bytes, reason: str) -> None:
        """Append a refused request, after a note that says why.

        Raises:
            OSError: The disk does not take it.
        """
        note = encode_frame(NOTE, reason.encode("utf-8", "replace"), 0)
        self._append("seg", note + encode_frame(signal, body, 0))

    def keep_damaged(self, data: bytes) -> None:
        """Append damaged bytes of a segment.

        Raises:
            OSError: The disk does not take it.
        """
        self._append("bad", data)

    def _append(self, suffix: str, data: bytes) -> None:
        with self._folder.opened(create=True) as above:
            make_folder(REJECTED, above)
            folder = open_folder(REJECTED, above)
        try:
            with self._lock:
                name = f"{self._stem}-{self._files.get(suffix, 1):06}.{suffix}"
                self._make_room(folder, len(data), name)
                if self._write(folder, name, data) > _FILE_BYTES:
                    self._files[suffix] = self._files.get(suffix, 1) + 1
        finally:
            os.close(folder)

    def _write(self, folder: int, name: str, data: bytes) -> int:
        fd = self._descriptors.open(name, os.O_RDWR | os.O_CREAT, folder)
        try:
            size = os.fstat(fd).st_size
            write_whole(fd, data, size)
        finally:
            self._descriptors.close(fd)
        return size + len(data)

    def _make_room(self, folder: int, size: int, current: str) -> None:
        self._unseen_bytes += size
        if self._unseen_bytes < _UNSEEN_BYTES:
            return
        self._unseen_bytes = 0
        found: list[tuple[int, str, int]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, entry.name, status.st_size))
        total = sum(size for _, _, size in found) + size + _UNSEEN_BYTES
        for _, name, freed in sorted(found):
            if total <= _LIMIT_BYTES:
                return
            if name != current:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                    total -= freed
