"""Prometheus Pushgateway: the metrics page of jobs too short to be scraped.

https://github.com/prometheus/pushgateway#url
"""

import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import quote

from prometheus_client import CONTENT_TYPE_LATEST

from .background import BackgroundThread
from .bell import Bell
from .ledger import Notices
from .own_work import own_work
from .web_client import WebClient

_TIMEOUT_S = 10.0
# At the end of a program: as often as that, with such pauses.
_LAST_TRIES = 3
_LAST_PAUSE_S = 0.2


def group_path(service: str, instance: str | None = None) -> str:
    """Give the path of the group that a push replaces.

    Args:
        service: The label ``job``.
        instance: The label ``instance``, for those who have one that lasts. An id made
            anew at every start would leave a group behind at every end.
    """
    labels = {"job": service} | ({"instance": instance} if instance else {})
    return "/metrics/" + "/".join(
        part for name, text in labels.items() for part in _grouped(name, text)
    )


def _grouped(name: str, text: str) -> tuple[str, str]:
    if "/" not in text:
        return name, quote(text, safe="")
    encoded = urlsafe_b64encode(text.encode()).decode()
    return f"{name}@base64", encoded


class MetricPusher:
    """Pushes the metrics page every interval, on demand and at the end.

    Each push replaces the group as a whole, so nothing is queued: the next one holds
    everything.
    """

    def __init__(
        self,
        client: WebClient,
        path: str,
        page: Callable[[], str],
        interval_s: float,
        notices: Notices,
        suppressed: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Prepare; no thread yet.

        Args:
            client: To the Pushgateway.
            path: Of the group.
            page: Gives the metrics page of the moment.
            interval_s: Seconds between two pushes.
            notices: Where trouble is said.
            suppressed: Keeps our requests from being traced.
        """
        self._client = client
        self._path = path
        self._page = page
        self._interval_s = interval_s
        self._notices = notices
        self._suppressed = suppressed
        self._bell = Bell()
        self._turn = threading.Lock()
        self._thread = BackgroundThread("flext-push", self._run)
        self._trouble: str | None = None
        self._closing_until: float | None = None
        self._is_done = threading.Event()
        self._is_abandoned = False

    @property
    def problem(self) -> str | None:
        """Why the last push failed; ``None`` when it did not."""
        return self._trouble

    def start(self) -> None:
        """Start the thread, if there is one to be had."""
        self._thread.start()

    def push(self, timeout_s: float) -> str:
        """Push now, in the calling thread.

        Args:
            timeout_s: Seconds it may take.

        Returns:
            What is wrong; empty when all went well.
        """
        deadline = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=max(0.0, timeout_s)):
            return f"cannot push to {self._client.shown}: another push goes on"
        try:
            with own_work(self._suppressed):
                return self._push(deadline)
        finally:
            self._turn.release()

    def _push(self, deadline: float) -> str:
        try:
            page = self._page().encode()
            left_s = min(_TIMEOUT_S, deadline - time.monotonic())
            answer = self._client.send(
                "PUT", self._path, page, CONTENT_TYPE_LATEST, max(0.05, left_s)
            )
            trouble = answer.message
        except Exception as error:  # noqa: BLE001 - nothing of ours raises
            trouble = f"cannot push to {self._client.shown}: {type(error).__name__}"
        self._trouble = f"Pushgateway: {trouble}" if trouble else None
        if trouble:
            self._notices.error("pushgateway", f"Pushgateway: {trouble}")
        return self._notices.shown(trouble)

    def begin_close(self, deadline: float) -> None:
        """Push for the last time, in the thread, until a deadline."""
        self._closing_until = deadline
        self._bell.ring()

    def close(self, deadline: float) -> None:
        """Wait for the last push until a deadline, then let go."""
        if self._is_abandoned:
            return
        self.begin_close(deadline)
        if self._thread.is_running():
            self._is_done.wait(max(0.0, deadline - time.monotonic()))
        else:
            self._push_last(deadline)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    def abandon(self) -> None:
        """Do nothing any more: in a forked child, all of this is the parent's."""
        self._is_abandoned = True

    def _push_last(self, deadline: float) -> None:
        for _ in range(_LAST_TRIES):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self.push(left_s):
                break
            time.sleep(max(0.0, min(_LAST_PAUSE_S, deadline - time.monotonic())))
        self._is_done.set()

    def _is_closing(self) -> bool:
        return self._closing_until is not None

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._is_closing():
            left_s = max(0.0, due - time.monotonic())
            self._bell.wait(min(left_s, threading.TIMEOUT_MAX / 2))
            if not self._is_closing() and time.monotonic() >= due:
                due = time.monotonic() + self._interval_s
                self.push(_TIMEOUT_S)
        self._push_last(self._closing_until or 0.0)
        self._client.close()
