"""Reads the waiting batches of one signal from segments."""

import math
import time

from .dead_letters import DeadLetters
from .process_directory import ProcessDirectory, Segment, is_hopeless
from .segments import Damage, Frame, read_frames


class DiskReader:
    """Joins batches up to limits; needs no lock, for segments only grow."""

    def __init__(self, number: int, limit_bytes: int, limit_count: int) -> None:
        """Start without batches.

        Args:
            number: The signal, as on disk.
            limit_bytes: Bytes joined at most, unless the first batch is larger.
            limit_count: Records joined at most, likewise.
        """
        self._number = number
        self._limit_bytes = limit_bytes
        self._limit_count = limit_count
        self._bodies: list[memoryview] = []
        self._size = 0
        self.count = 0
        self.parts: list[tuple[Segment, int]] = []
        """Segments, and how many records of each were taken."""
        self.lost: list[tuple[Segment, int]] = []
        """Segments, and how many records that should be there cannot be read."""
        self.end = 0
        """Offset behind the last batch in the last segment."""
        self.is_full = False

    @property
    def body(self) -> bytes:
        """The batches, joined."""
        return b"".join(self._bodies)

    def read(
        self,
        directory: ProcessDirectory,
        segment: Segment,
        span: tuple[int, int, int],
        letters: DeadLetters,
    ) -> None:
        """Read on in a segment.

        Args:
            directory: Where it stands.
            segment: The file.
            span: First offset, end, and how many records wait there.
            letters: Keep damaged bytes.

        Raises:
            OSError: It cannot be read now; try again.
        """
        damages: list[Damage] = []
        before = self.count
        try:
            self._read(directory, segment, span, damages)
            segment.failing_since = math.inf
        except OSError as error:
            segment.failing_since = min(segment.failing_since, time.monotonic())
            if not is_hopeless(error, segment.failing_since):
                raise
        got = self.count - before
        if damages and not segment.is_damage_kept:
            directory.keep_damage(segment, damages, letters)
        if got:
            self.parts.append((segment, got))
        if got < span[2] and not self.is_full:
            self.lost.append((segment, span[2] - got))
        self.is_full = self.is_full or self._size >= self._limit_bytes

    def _read(
        self,
        directory: ProcessDirectory,
        segment: Segment,
        span: tuple[int, int, int],
        damages: list[Damage],
    ) -> None:
        start, end, waiting = span
        got = 0
        fd = directory.open(segment)
        try:
            for item in read_frames(fd, start, end):
                if isinstance(item, Damage):
                    damages.append(item)
                # More than was counted here was written by nobody we know.
                elif item.signal == self._number and got + item.records <= waiting:
                    if not self._takes(item):
                        break
                    got += item.records
                    if got == waiting:
                        break
        finally:
            directory.done(fd)

    def _takes(self, frame: Frame) -> bool:
        size = self._size + len(frame.body)
        count = self.count + frame.records
        if self._bodies and (size > self._limit_bytes or count > self._limit_count):
            self.is_full = True
            return False
        self._bodies.append(frame.body)
        self._size, self.count, self.end = size, count, frame.end
        return True
