"""Alertmanager: alerts are posted in the background, renewed, and resolved.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from ..constants import DropReason
from ..entities import FlextAlert
from .alert_book import AlertBook, Telling
from .background import BackgroundThread
from .bell import Bell
from .cleaning import Cleaner
from .ledger import Ledger, Notices
from .own_work import own_work
from .prometheus_names import legal_labels
from .web_client import Answer, WebClient

_PATH = "/api/v2/alerts"
_REQUEST_ALERTS = 50
_TIMEOUT_S = 10.0
# Between two requests, so that what is raised all at once is told in few.
_GATHER_S = 0.05
_BACKOFF_FIRST_S = 0.5
_BACKOFF_LIMIT_S = 30.0
# While closing there is no time for long pauses.
_CLOSING_PAUSE_S = 0.2
# An alert that is not renewed ends after that many intervals, whatever resolve_timeout
# the server has: four requests in a row may fail.
_LIFE_INTERVALS = 5
_TEXT_LENGTH = 2048
_LABELS = ("alertname", "severity", "service")
_ANNOTATIONS = ("summary", "alert_id", "source", "correlation_id")


class AlertSender:
    """Tells Alertmanager of alerts; never blocks and never raises.

    The thread starts with the first alert.
    """

    def __init__(
        self,
        client: WebClient,
        service: str,
        resend_s: float,
        cleaner: Cleaner,
        notices: Notices,
        suppressed: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Prepare; no thread yet.

        Args:
            client: To Alertmanager.
            service: Becomes the label ``service``.
            resend_s: Seconds between two posts of an alert that lasts.
            cleaner: Takes secrets out.
            notices: Where trouble is said.
            suppressed: Keeps our requests from being traced.
        """
        self._client = client
        self._service = service
        self._resend_s = resend_s
        self._cleaner = cleaner
        self._notices = notices
        self._suppressed = suppressed
        self.ledger = Ledger()
        """Counts changes of alerts: one that fires, one that is resolved."""
        self._book = AlertBook(self.ledger)
        self._bell = Bell()
        self._thread = BackgroundThread("flext-alertmanager", self._run)
        self._failures = 0
        self._retry_at = 0.0
        self._trouble: str | None = None
        self._is_closing = False
        self._is_stopped = False

    # -- from the host's threads

    def update(self, alert: FlextAlert) -> None:
        """Tell of an alert as it is now."""
        if self._refuses():
            return
        if self._book.update(alert):
            self._wake()

    def resolve(self, alert: FlextAlert) -> None:
        """Tell that an alert is over."""
        if self._refuses():
            return
        if self._book.resolve(alert):
            self._wake()

    def _refuses(self) -> bool:
        if self._is_stopped:
            self.ledger.refuse(DropReason.EXIT, 1)
        return self._is_stopped

    def _wake(self) -> None:
        self._start()
        self._bell.ring()

    def _start(self) -> bool:
        return False if self._is_stopped else self._thread.start()

    def take_over(self, former: "AlertSender") -> None:
        """Go on telling what another one has open."""
        if self._book.take_over(former._book):  # noqa: SLF001 - our own kind
            self._wake()

    @property
    def problem(self) -> str | None:
        """What is wrong now; ``None`` when all is well."""
        return self._trouble or self.ledger.problem

    def hurry(self) -> None:
        """Tell what is due now, without waiting for it."""
        self._retry_at = 0.0
        self._bell.ring()

    def flush(self, deadline: float) -> int:
        """Tell what is due and wait for it until a deadline.

        Returns:
            Alerts with changes that nobody was told of by then.
        """
        if not self._book.news():
            return 0
        self.hurry()
        if self._start():
            self.ledger.wait_settled(deadline)
        return self._book.untold()

    def begin_close(self) -> None:
        """Tell what is due, with short pauses from now on."""
        self._is_closing = True
        self.hurry()

    def close(self, deadline: float) -> None:
        """Tell what is due until a deadline; count the rest as dropped."""
        self.begin_close()
        if self._book.news():
            if self._start():
                self.ledger.wait_settled(deadline)
            else:  # no thread to be had: the interpreter is leaving
                self._work_until(deadline)
        self._is_stopped = True
        left = self._book.untold()
        self.ledger.close(self._book.news())
        self._bell.ring()
        if left:
            why = f" ({self._trouble})" if self._trouble else ""
            self._notices.error(
                "alertmanager_exit",
                f"gave up telling Alertmanager of {left} alerts{why}",
            )

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    def abandon(self) -> None:
        """Do nothing any more: in a forked child, all of this is the parent's."""
        self._is_stopped = True

    # -- the thread

    def _run(self) -> None:
        with own_work(self._suppressed):
            while not self._is_stopped:
                self._bell.wait(self._idle_s())
                if not self._is_stopped:
                    self._round()
            self._client.close()

    def _work_until(self, deadline: float) -> None:
        with own_work(self._suppressed):
            while self._book.news() and time.monotonic() < deadline:
                self._round(deadline)
                time.sleep(max(0.0, min(self._idle_s() or 0.0, _CLOSING_PAUSE_S)))

    def _idle_s(self) -> float | None:
        due_s = self._book.next_due_s()
        if due_s is None:
            return None
        wait_s = max(due_s, self._retry_at) - time.monotonic()
        return min(max(0.0, wait_s), threading.TIMEOUT_MAX / 2)

    def _round(self, deadline: float | None = None) -> None:
        try:
            if time.monotonic() >= self._retry_at:
                tellings = self._book.due(_REQUEST_ALERTS)
                if tellings:
                    self._tell(tellings, deadline)
        except Exception as error:  # noqa: BLE001 - the thread must live
            self._later(f"{type(error).__name__} while telling Alertmanager", None)

    def _tell(self, tellings: list[Telling], deadline: float | None) -> None:
        answer = self._post(tellings, deadline)
        if answer.is_refusal:
            if len(tellings) > 1:  # one that is refused must not cost the others
                for each in tellings:
                    self._tell([each], deadline)
                return
            self._refused(tellings[0], answer)
        elif answer.is_success:
            self._failures, self._trouble = 0, None
            self._retry_at = time.monotonic() + _GATHER_S
            for each in tellings:
                self._book.told(each, self._resend_s)
        else:
            self._later(answer.message, answer.retry_after_s)

    def _post(self, tellings: list[Telling], deadline: float | None) -> Answer:
        body = json.dumps([self._payload(each) for each in tellings]).encode()
        left_s = _TIMEOUT_S if deadline is None else deadline - time.monotonic()
        timeout_s = max(0.05, min(_TIMEOUT_S, left_s))
        return self._client.send("POST", _PATH, body, "application/json", timeout_s)

    def _refused(self, telling: Telling, answer: Answer) -> None:
        self._trouble = self._notices.shown(f"Alertmanager: {answer.message}")
        self._book.refused(telling)
        self._notices.error(f"alertmanager_{answer.status}", self._trouble)

    def _later(self, message: str, told_s: float | None) -> None:
        self._trouble = self._notices.shown(f"Alertmanager: {message}")
        self._notices.error("alertmanager", f"{self._trouble}; trying again")
        pause_s = min(_BACKOFF_FIRST_S * 2**self._failures, _BACKOFF_LIMIT_S)
        pause_s *= random.uniform(0.75, 1.0)  # noqa: S311 - jitter is no secret
        if told_s is not None:
            pause_s = max(pause_s, told_s)
        if self._is_closing:
            pause_s = _CLOSING_PAUSE_S
        self._failures = min(self._failures + 1, 16)
        self._retry_at = time.monotonic() + pause_s

    # -- what is told

    def _payload(self, telling: Telling) -> dict[str, Any]:
        notice, clean = telling.notice, self._cleaner
        own = (notice.name, notice.severity, self._service)
        labels = legal_labels(clean.texts(notice.tags), _LABELS) | {
            name: clean.text(value) for name, value in zip(_LABELS, own, strict=True)
        }
        told = {
            "alert_id": notice.alert_id,
            "source": notice.source,
            "correlation_id": notice.correlation_id,
        }
        annotations = (
            legal_labels(clean.texts(notice.details), _ANNOTATIONS)
            | legal_labels(clean.texts(told))
            | {"summary": clean.body_text(notice.message)}
        )
        end = telling.ended or datetime.now(UTC) + timedelta(
            seconds=_LIFE_INTERVALS * self._resend_s
        )
        return {
            "labels": _cut(labels),
            "annotations": _cut(annotations),
            "startsAt": min(telling.since, end).isoformat(),
            "endsAt": end.isoformat(),
        }


def _cut(texts: dict[str, str]) -> dict[str, str]:
    return {name: text[:_TEXT_LENGTH] for name, text in texts.items()}
