"""Figures that outlive the process, so that what a crash lost is known exactly."""

import mmap
import os
import struct
from array import array
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from ..constants import DropReason
from .segments import SIGNALS
from .spool_files import Descriptors, raise_passing, write_whole

NAME = "counter"
Cells: TypeAlias = "memoryview[int] | array[int]"
FIGURE_CELLS = 3 * len(SIGNALS)
LOSS_REASONS = (
    DropReason.CRASH,
    DropReason.DAMAGED,
    DropReason.SPOOL_FULL,
    DropReason.TOO_OLD,
)
"""Why a spool gives records up by itself; their order is that of the file."""
LOSS_CELLS = len(LOSS_REASONS) * len(SIGNALS)
_CELLS = FIGURE_CELLS + LOSS_CELLS
# In the byte order of the machine, which is the only one that reads it.
_FORMAT = struct.Struct(f"={_CELLS}Q")
_BLOCK_BYTES = 4096
# No process counts so far; what is larger is damage.
_FIGURE_LIMIT = 1 << 48


class Figures(NamedTuple):
    """What a process counted of one signal."""

    accepted: int = 0
    secured: int = 0
    """Written to segments."""
    settled: int = 0
    """Given up or delivered without ever being on disk."""

    @property
    def unsecured(self) -> int:
        """Records that would be lost if the process ended now."""
        return max(0, self.accepted - self.secured - self.settled)


class Counted(NamedTuple):
    """What a dead process had counted."""

    figures: list[Figures]
    """By signal."""
    untold: list[int]
    """Losses that it had counted, and no metric on disk told of; see `loss_place`."""


def no_cells() -> Cells:
    """Give cells that are all 0, in memory."""
    return array("Q", bytes(_FORMAT.size))


def loss_place(number: int, reason: DropReason) -> int:
    """Say where the losses of a signal for a reason stand among all losses."""
    return number * len(LOSS_REASONS) + LOSS_REASONS.index(reason)


class Counter:
    """Three figures per signal in a shared mapping; an increment costs no system call.

    Beside the specified pair stands what was settled without the disk: secured alone
    then tells how many records the segments must hold. Behind them stand the losses
    that no metric has told of yet: a crash must not take them along.
    """

    def __init__(self, descriptors: Descriptors, folder: int) -> None:
        """Make the file.

        Raises:
            OSError: The disk does not take it.
        """
        self._descriptors = descriptors
        self._fd = descriptors.open(NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder)
        # Written, not only lengthened: touching a mapped page that the disk has no
        # room for would end the process.
        write_whole(self._fd, bytes(_BLOCK_BYTES), 0)
        self._map = mmap.mmap(self._fd, _BLOCK_BYTES)
        self._mapped = memoryview(self._map)[: _FORMAT.size].cast("Q")
        self.cells: Cells = self._mapped

    def detach(self) -> None:
        """Count in memory: the disk is in trouble.

        A file system that writes copies (btrfs, or any that turned read-only after an
        error) ends a process which touches a mapped page that it cannot store.
        """
        if self.cells is self._mapped:
            self.cells = array("Q", self._mapped)

    def store(self) -> None:
        """Write what is counted in memory; a disk that refuses keeps older figures."""
        if self.cells is not self._mapped:
            with suppress(OSError):
                os.pwrite(self._fd, bytes(self.cells), 0)

    def attach(self) -> None:
        """Count in the mapping again."""
        if self.cells is not self._mapped:
            for cell, figure in enumerate(self.cells):
                self._mapped[cell] = figure
            self.cells = self._mapped

    def close(self) -> None:
        """Let go of the mapping and the file; later increments go nowhere."""
        self.store()
        self.let_go()

    def let_go(self) -> None:
        """As ``close``, without touching the file, which is a parent's."""
        if self.cells is self._mapped:
            self.cells = no_cells()
        # Whoever increments at this moment holds the mapping a little longer.
        with suppress(BufferError, ValueError):
            self._mapped.release()
            self._map.close()
        self._descriptors.close(self._fd)


def read_counted(descriptors: Descriptors, folder: int) -> Counted | None:
    """Read what a dead process counted; ``None`` if the file is gone or damaged.

    Raises:
        OSError: It cannot be read now; try again.
    """
    try:
        fd = descriptors.open(NAME, os.O_RDONLY, folder)
    except OSError as error:
        raise_passing(error)
        return None
    try:
        data = os.pread(fd, _FORMAT.size, 0)
    except OSError as error:
        raise_passing(error)
        return None
    finally:
        descriptors.close(fd)
    if len(data) != _FORMAT.size:
        return None
    cells = _FORMAT.unpack(data)
    if max(cells) > _FIGURE_LIMIT:
        return None
    figures = [Figures(*cells[at : at + 3]) for at in range(0, FIGURE_CELLS, 3)]
    return Counted(figures, [*cells[FIGURE_CELLS:]])


def write_figures(
    descriptors: Descriptors, folder: int, figures: list[Figures]
) -> None:
    """Replace what a dead process counted, so that it is entered once.

    Its losses are another's from then on.

    Raises:
        OSError: The disk does not take it.
    """
    fd = descriptors.open(NAME, os.O_RDWR | os.O_CREAT, folder)
    try:
        cells = [cell for one in figures for cell in one]
        os.pwrite(fd, _FORMAT.pack(*cells, *[0] * LOSS_CELLS), 0)
    finally:
        descriptors.close(fd)
