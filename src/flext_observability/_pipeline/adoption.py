"""Takes over what dead processes of the service left."""

import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from .holdings import Holdings
from .process_directory import ProcessDirectory, Stock
from .spool_files import PASSING

_INTERVAL_S = 10.0
# Directories held at a time: each costs three descriptors.
_HELD_LIMIT = 8
_Found: TypeAlias = tuple[ProcessDirectory, list[Stock]]


class Adoption:
    """Searches the service's folder; takes the spool's lock only for moments."""

    def __init__(self, holdings: Holdings, begin: Callable[[], object]) -> None:
        """Prepare.

        Args:
            holdings: Where directories that are taken over belong.
            begin: Makes a directory of our own, which losses are noted in.
        """
        self._holdings = holdings
        self._begin = begin
        self._running = threading.Lock()
        self._backlog: deque[str] = deque()
        self._due_at = 0.0
        self._is_put_off = False
        self._failing: dict[str, float] = {}
        """Directories that the disk could not read, and since when."""

    @property
    def is_unfinished(self) -> bool:
        """Whether a search is still to come, or to be done with."""
        is_begun = bool(self._due_at) and not self._is_put_off
        return not is_begun or bool(self._backlog) or self._running.locked()

    def is_due(self) -> bool:
        """Whether it is time to search again."""
        return time.monotonic() >= self._due_at

    def take_more(self) -> bool:
        """Go on with what the last search found; whether something was taken over."""
        return bool(self._backlog) and self.run()

    def run(self) -> bool:
        """Take over what is free, some directories at a time.

        Returns:
            Whether something was taken over.
        """
        if not self._running.acquire(blocking=False):
            return False  # another delivery thread is at it
        try:
            if self.is_due():
                self._due_at = time.monotonic() + _INTERVAL_S
                self._is_put_off = False
                self._search()
            return self._take_some()
        except OSError as error:
            self._is_put_off = error.errno in PASSING
            path = self._holdings.folder.path
            with self._holdings.telling, self._holdings.lock:
                self._holdings.note("look", f"{path} cannot be searched: {error}")
            return False
        finally:
            self._running.release()

    def _take_some(self) -> bool:
        holdings = self._holdings
        taken = False
        while self._backlog and self._has_place():
            taken = self._take(self._backlog.popleft()) or taken
        with holdings.lock:
            for directory in holdings.others:
                # Counts from here: before, who delivers may have waited for this.
                directory.held_since = min(directory.held_since, time.monotonic())
        return taken

    def _has_place(self) -> bool:
        with self._holdings.lock:
            if len(self._holdings.others) < _HELD_LIMIT:
                return True
            # After that time every signal that is delivered here was asked for.
            return self._holdings.shed(time.monotonic() - _INTERVAL_S)

    def _search(self) -> None:
        holdings = self._holdings
        with suppress(FileNotFoundError):  # the next write makes it again
            holdings.folder.tidy(holdings.descriptors)
            names = holdings.folder.names()
            with holdings.lock:
                held = {directory.name for directory in holdings.held()}
            names = [name for name in names if name not in held]
            size = sum(holdings.folder.size_of(name) for name in names)
            with holdings.lock:
                holdings.foreign_bytes = size
            self._backlog = deque(n for n in names if n not in holdings.spent)

    def _take(self, name: str) -> bool:
        holdings = self._holdings
        try:
            found = self._open(name)
        except OSError as error:
            self._leave(name, error)
            return False
        if found is None:
            return False
        directory, stocks = found
        self._failing.pop(name, None)
        if any(stock.lost for stock in stocks):
            self._begin()
        with holdings.telling, holdings.lock:
            if holdings.is_closed:
                directory.release()
                return False
            holdings.enter(directory, stocks)
            holdings.expire()
            holdings.make_room(0)
        return True

    def _open(self, name: str) -> _Found | None:
        """Lock a directory whose owner is dead, and look what is in it."""
        holdings = self._holdings
        locked = holdings.folder.lock(name, holdings.descriptors)
        if locked is None:
            return None
        directory = ProcessDirectory(holdings.folder, locked, holdings.descriptors)
        failing_since = self._failing.get(name, math.inf)
        try:
            return directory, directory.take_stock(holdings.letters, failing_since)
        except BaseException:  # whatever it was: others may have more luck
            directory.release()
            raise

    def _leave(self, name: str, error: OSError) -> None:
        """Leave a directory alone, but only for now if it may be readable later."""
        holdings = self._holdings
        if error.errno == errno.EIO:
            self._failing.setdefault(name, time.monotonic())
        is_for_now = error.errno in {*PASSING, errno.EIO}
        self._is_put_off = self._is_put_off or is_for_now
        until = " for now" if is_for_now else ""
        where, reason = holdings.folder.path / name, error.strerror or error
        with holdings.telling, holdings.lock:
            if not is_for_now:
                holdings.spent.add(name)
            holdings.note(
                "foreign", f"records in {where} are left alone{until}: {reason}"
            )
