"""The frames of spool files: written whole, read forward, found again after damage.

A frame is ``magic u32 | length u32 | crc32 u32 | signal u8 | count u32 | OTLP bytes``,
little-endian; the checksum covers everything after itself. Nothing read here is ever
trusted: a length is checked against the file before anything is allocated, and the body
is bytes to hand on, not to decode.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ..constants import Signal

SIGNALS = (Signal.TRACES, Signal.METRICS, Signal.LOGS)
"""What the numbers on disk mean; only ever add to the end."""
NUMBERS = {signal: number for number, signal in enumerate(SIGNALS)}
NOTE = 255
"""Instead of a signal: the body is text about the frame that follows."""

# Bytes that no legal UTF-8 holds, so that text inside a batch cannot forge a frame.
_MAGIC = b"\xc1FX\xff"
# A magic, and a length that may be right: a file made of magics is passed quickly.
_CANDIDATE = re.compile(re.escape(_MAGIC) + rb"..[\x00-\x80]\x00", re.DOTALL)
_CANDIDATE_LENGTH = 8
_HEAD = struct.Struct("<4sIIBI")
_COVERED = struct.Struct("<BI")
_COVERED_OFFSET = 12
# Requests are smaller; what claims to be larger is damage.
_BODY_LIMIT_BYTES = 8 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
# Checksums tried in vain per reading: a file made of magics must not cost minutes.
_SEARCH_LIMIT_BYTES = 64 * 1024 * 1024
# What looking at a candidate costs, in bytes of checksum.
_CANDIDATE_BYTES = 256


class Frame(NamedTuple):
    """An intact batch in a file."""

    offset: int
    end: int
    signal: int
    records: int
    body: memoryview


class Damage(NamedTuple):
    """Bytes of a file that are no intact frame."""

    offset: int
    end: int
    signal: int | None
    """What the batch was, if its head still says so."""
    records: int
    """Records lost, as far as the head can be believed."""
    is_cut: bool
    """Whether it is the beginning of a frame whose end was never written."""


class _Head(NamedTuple):
    length: int
    checksum: int
    signal: int
    records: int


def encode_frame(signal: int, body: bytes, count: int) -> bytes:
    """Give the bytes of a frame."""
    checksum = zlib.crc32(body, zlib.crc32(_COVERED.pack(signal, count)))
    return _HEAD.pack(_MAGIC, len(body), checksum, signal, count) + body


def read_frames(fd: int, start: int, end: int) -> Iterator[Frame | Damage]:
    """Read forward, past any damage to the next frame whose checksum holds.

    Args:
        fd: An open regular file; its position is neither used nor moved.
        start: Where a frame is expected.
        end: Nothing is read from here on.

    Raises:
        OSError: The file cannot be read.
    """
    window = _Window(fd, end)
    offset = start
    while offset < end:
        frame = window.frame(offset)
        if frame is None:
            frame = window.search(offset + 1)
            yield window.damage(offset, frame.offset if frame else end)
        if frame is None:
            return
        yield frame
        offset = frame.end


class _Window:
    """A block of a file, moved forward."""

    def __init__(self, fd: int, end: int) -> None:
        self._fd = fd
        self._end = end
        self._base = 0
        self._data = b""
        self._tried = 0

    def frame(self, offset: int) -> Frame | None:
        """Give the intact frame that begins at an offset."""
        head = self._head(offset)
        if head is None or not self._is_plausible(offset, head):
            return None
        size = _HEAD.size + head.length
        view = self._view(offset, size)
        if len(view) < size or zlib.crc32(view[_COVERED_OFFSET:]) != head.checksum:
            self._tried += size
            return None
        body = view[_HEAD.size :]
        return Frame(offset, offset + size, head.signal, head.records, body)

    def search(self, offset: int) -> Frame | None:
        """Give the first intact frame from an offset on."""
        while offset < self._end and self._tried <= _SEARCH_LIMIT_BYTES:
            self._view(offset, _HEAD.size)
            found = _CANDIDATE.search(self._data, offset - self._base)
            if found is None:
                # The first bytes of a candidate may stand at the end of the block.
                after = self._base + len(self._data) - _CANDIDATE_LENGTH + 1
                offset = max(after, offset + 1)
                continue
            offset = self._base + found.start()
            frame = self.frame(offset)
            if frame is not None:
                return frame
            self._tried += _CANDIDATE_BYTES
            offset += 1
        return None

    def damage(self, offset: int, end: int) -> Damage:
        """Describe what stands between two offsets."""
        head = self._head(offset)
        if head is None:
            start = bytes(self._view(offset, len(_MAGIC)))
            is_cut = end == self._end and _MAGIC.startswith(start)
            return Damage(offset, end, None, 1, is_cut=is_cut)
        is_cut = offset + _HEAD.size + head.length > end == self._end
        # The smallest record takes two bytes.
        is_legal = head.signal < len(SIGNALS) and 0 < head.records <= head.length // 2
        if not is_legal:
            return Damage(offset, end, None, 1, is_cut=is_cut)
        return Damage(offset, end, head.signal, head.records, is_cut=is_cut)

    def _head(self, offset: int) -> _Head | None:
        view = self._view(offset, _HEAD.size)
        if len(view) < _HEAD.size:
            return None
        magic, length, checksum, signal, count = _HEAD.unpack(view)
        return _Head(length, checksum, signal, count) if magic == _MAGIC else None

    def _is_plausible(self, offset: int, head: _Head) -> bool:
        return (
            head.length <= _BODY_LIMIT_BYTES
            and offset + _HEAD.size + head.length <= self._end
        )

    def _view(self, offset: int, size: int) -> memoryview:
        start = offset - self._base
        if start < 0 or start + size > len(self._data):
            size_read = min(max(size, _BLOCK_BYTES), self._end - offset)
            self._data = os.pread(self._fd, max(size_read, 0), offset)
            self._base, start = offset, 0
        return memoryview(self._data)[start : start + size]
