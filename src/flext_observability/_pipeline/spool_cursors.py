"""How far each destination of a process directory is settled."""

import os
import struct
import zlib
from contextlib import suppress

from .segments import SIGNALS
from .spool_files import Descriptors, raise_passing, write_whole

NAME = "ack"
_NEW_NAME = "ack.new"
# segment u32 | offset u32 | destination u32 | crc32 u32
_ENTRY = struct.Struct("<III")
_CHECKSUM = struct.Struct("<I")
_ENTRY_BYTES = _ENTRY.size + _CHECKSUM.size
# A destination from here on says how many records it settled in all, low half first.
_TOTAL = 256
_COMPACT_BYTES = 64 * 1024
_READ_LIMIT_BYTES = 1024 * 1024


class Cursor:
    """Where a signal stands: everything before is settled."""

    def __init__(self) -> None:
        self.segment = 0
        self.offset = 0
        self.total = 0
        """Records settled so far. Written together with the place, so that what the
        counter secured, less this, is exactly what the segments must still hold."""

    def move(self, segment: int, offset: int) -> None:
        """Settle everything before a place."""
        self.segment, self.offset = segment, offset

    def place_in(self, segment: int) -> int:
        """Give the offset inside a segment from which on nothing is settled."""
        if segment == self.segment:
            return self.offset
        return 0 if segment > self.segment else 1 << 62


class Cursors:
    """The cursors of one directory, appended after each verdict."""

    def __init__(self, descriptors: Descriptors, folder: int) -> None:
        self._descriptors = descriptors
        self._folder = folder
        self._fd = -1
        self._size = 0
        self._cursors = [Cursor() for _ in SIGNALS]
        self.is_whole = True
        """Whether all that was written could be read."""

    def __getitem__(self, signal: int) -> Cursor:
        """Give the cursor of a signal."""
        return self._cursors[signal]

    def load(self) -> None:
        """Read what is there; the last intact entry of a destination counts.

        Raises:
            OSError: It cannot be read now; try again.
        """
        data = self._read()
        at = 0
        while at + _ENTRY_BYTES <= len(data):
            entry = data[at : at + _ENTRY.size]
            (checksum,) = _CHECKSUM.unpack_from(data, at + _ENTRY.size)
            if zlib.crc32(entry) != checksum:
                self.is_whole = False
                at += 1
                continue
            self._enter(*_ENTRY.unpack(entry))
            at += _ENTRY_BYTES
        self.is_whole = self.is_whole and at == len(data)
        self._size = len(data)

    def save(self, signal: int) -> None:
        """Append the cursor of a signal.

        Raises:
            OSError: The disk does not take it; the next cursor makes up for it.
        """
        data = self._entries(signal)
        if self._size + len(data) > _COMPACT_BYTES:
            self._compact()
            return
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT
            self._fd = self._descriptors.open(NAME, flags, self._folder)
            self._size = os.fstat(self._fd).st_size
        write_whole(self._fd, data, self._size)
        self._size += len(data)

    def close(self) -> None:
        """Let go of the file."""
        self._descriptors.close(self._fd)
        self._fd = -1

    def _read(self) -> bytes:
        try:
            fd = self._descriptors.open(NAME, os.O_RDONLY, self._folder)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise_passing(error)
            self.is_whole = False
            return b""
        try:
            return os.pread(fd, _READ_LIMIT_BYTES, 0)
        except OSError as error:
            raise_passing(error)
            self.is_whole = False
            return b""
        finally:
            self._descriptors.close(fd)

    def _enter(self, segment: int, offset: int, destination: int) -> None:
        signal = destination % _TOTAL
        if signal >= len(SIGNALS) or destination >= 2 * _TOTAL:
            return  # of a later release
        cursor = self._cursors[signal]
        if destination >= _TOTAL:
            cursor.total = segment | offset << 32
        else:
            cursor.segment, cursor.offset = segment, offset

    def _entries(self, signal: int) -> bytes:
        cursor = self._cursors[signal]
        low, high = cursor.total & 0xFFFFFFFF, cursor.total >> 32
        place = _ENTRY.pack(cursor.segment, cursor.offset, signal)
        total = _ENTRY.pack(low, high, _TOTAL + signal)
        return b"".join(
            entry + _CHECKSUM.pack(zlib.crc32(entry)) for entry in (place, total)
        )

    def _compact(self) -> None:
        data = b"".join(self._entries(signal) for signal in range(len(SIGNALS)))
        with suppress(FileNotFoundError):
            os.unlink(_NEW_NAME, dir_fd=self._folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        fd = self._descriptors.open(_NEW_NAME, flags, self._folder)
        try:
            write_whole(fd, data, 0)
            folder = self._folder
            os.rename(_NEW_NAME, NAME, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            self._descriptors.close(fd)
            raise
        self.close()
        self._fd, self._size = fd, len(data)
