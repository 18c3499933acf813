"""SIGTERM and SIGINT, for those who opt in: records are secured before the end."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Where the handler interrupted a write of its own thread, it comes again so late, and
# so often.
_AGAIN_S = 0.02
_TRIES = 10


class TerminationHandler:
    """Secures records when a signal ends the program, then lets it end as before."""

    def __init__(self, secure: Callable[[], bool]) -> None:
        """Prepare.

        Args:
            secure: Brings records to safety; says whether it could.
        """
        self._secure = secure
        self._former: dict[int, Any] = {}
        self._tries = 0

    def install(self) -> bool:
        """Take the place of the handlers there are; say whether that was possible.

        Python allows it in the main thread only. Ignored signals stay ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        for number in _SIGNALS:
            former = signal.getsignal(number)
            # None: a handler that C code installed, which we could not call.
            if number not in self._former and former not in {signal.SIG_IGN, None}:
                self._former[number] = former
                signal.signal(number, self._handle)
        return True

    def remove(self) -> None:
        """Put the former handlers back, unless somebody put another on top."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._former.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._tries += 1
        if not self._secure() and self._tries < _TRIES:
            threading.Thread(target=_again, args=(number,), daemon=True).start()
            return
        self._tries = 0
        former = self._former.get(number, signal.SIG_DFL)
        if callable(former):
            former(number, frame)
            return
        # The default action, so that whoever waits for us sees the signal.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _again(number: int) -> None:
    time.sleep(_AGAIN_S)
    os.kill(os.getpid(), number)
