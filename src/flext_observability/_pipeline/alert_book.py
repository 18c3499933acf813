"""What Alertmanager is to be told: the alerts that are open, by their labels."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from ..constants import DropReason
from ..entities import FlextAlert
from ..locks import ForkSafeLock
from .ledger import Ledger

# Label sets that are open at once, and open alerts of one label set.
_LIMIT = 1000
_IDS_LIMIT = 100
# Details that are told of one alert.
_DETAILS_LIMIT = 32
_STATUSES_OPEN = frozenset({"active", "acknowledged", "escalated"})

Key = tuple[str, str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class AlertNotice:
    """An alert as it was when it was raised: the entity may change later."""

    alert_id: str
    name: str
    severity: str
    message: str
    source: str
    correlation_id: str
    tags: Mapping[str, str]
    details: Mapping[str, object]

    @classmethod
    def of(cls, alert: FlextAlert) -> "AlertNotice":
        """Take what is told about an alert."""
        return cls(
            alert.id,
            alert.name,
            alert.severity,
            alert.message,
            alert.source,
            alert.correlation_id,
            dict(alert.tags),
            dict(islice(dict(alert.details).items(), _DETAILS_LIMIT)),
        )


@dataclass(eq=False, slots=True)
class OpenAlert:
    """All alerts with the same labels: to Alertmanager they are one."""

    notice: AlertNotice
    """Of the latest."""
    since: datetime
    ids: dict[str, None] = field(default_factory=dict[str, None])
    """Those that are not resolved, oldest first."""
    ended: datetime | None = None
    news: int = 0
    """Changes that nobody was told of yet."""
    was_told: bool = False
    """Whether Alertmanager knows it; what it does not know it does not resolve."""
    due_s: float = 0.0
    """When to tell it next, on the monotonic clock."""


class Telling(NamedTuple):
    """One alert in a request, as it was when the request was made."""

    alert: OpenAlert
    notice: AlertNotice
    since: datetime
    ended: datetime | None
    """``None`` while it is told as firing."""
    news: int
    """Changes that the request tells of."""


class AlertBook:
    """Keeps what must be told, bounded; thread-safe.

    Only the present state of an alert counts, so an Alertmanager that is away costs no
    memory per change. Every change is counted in the ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Start empty.

        Args:
            ledger: Counts changes: an alert that fires, an alert that is resolved.
        """
        self._ledger = ledger
        self._lock = ForkSafeLock()
        self._open: dict[Key, OpenAlert] = {}
        # Under which labels an alert was raised: the entity may have changed since.
        self._keys: dict[str, Key] = {}

    def update(self, alert: FlextAlert) -> bool:
        """Take an alert in as it is now.

        Returns:
            Whether there is something to tell.
        """
        if alert.status in _STATUSES_OPEN:
            self._raise(alert)
            return True
        return alert.status == "resolved" and self._resolve(alert, is_known=False)

    def resolve(self, alert: FlextAlert) -> bool:
        """Close an alert, also one that an earlier process raised.

        Returns:
            Whether there is something to tell.
        """
        return self._resolve(alert, is_known=True)

    def _raise(self, alert: FlextAlert) -> None:
        key, now = _key(alert), time.monotonic()
        with self._lock:
            known = self._open.get(key)
            if known is not None and alert.id in known.ids:
                return  # processed again: nothing new
            if known is None:
                self._make_room()
                since = min(alert.created_at, datetime.now(UTC))
                known = self._open[key] = OpenAlert(AlertNotice.of(alert), since)
            elif known.ended is not None:
                known.ended, known.since = None, datetime.now(UTC)
            known.notice = AlertNotice.of(alert)
            if len(known.ids) >= _IDS_LIMIT:
                self._drop_id(known, next(iter(known.ids)))
            known.ids[alert.id] = None
            self._keys[alert.id] = key
            known.news += 1
            known.due_s = now
            self._ledger.accept(1)

    def _resolve(self, alert: FlextAlert, *, is_known: bool) -> bool:
        with self._lock:
            key = self._keys.get(alert.id) or _key(alert)
            known = self._open.get(key)
            if known is None:
                if not is_known:
                    return False
                self._make_room()
                known = OpenAlert(AlertNotice.of(alert), alert.created_at)
                known.was_told = True
                self._open[key] = known
            elif not self._drop_id(known, alert.id) or known.ids:
                return False  # never raised here, or others with its labels last
            known.ended = datetime.now(UTC)
            known.news += 1
            known.due_s = time.monotonic()
            self._ledger.accept(1)
            return True

    def _make_room(self) -> None:
        if len(self._open) < _LIMIT:
            return
        oldest = self._open.pop(next(iter(self._open)))
        for alert_id in list(oldest.ids):
            self._drop_id(oldest, alert_id)
        # One that was told before ends by itself when it is not renewed.
        if oldest.news:
            self._ledger.drop(DropReason.QUEUE_FULL, oldest.news)

    def _drop_id(self, alert: OpenAlert, alert_id: str) -> bool:
        self._keys.pop(alert_id, None)
        return alert.ids.pop(alert_id, alert_id) is None

    def _known(self) -> list[OpenAlert]:
        # A copy, made in one step: a signal handler may raise an alert in between.
        return list(self._open.values())

    # -- what the sender asks

    def due(self, limit: int) -> list[Telling]:
        """Give what must be told now.

        Args:
            limit: How many at most.
        """
        found: list[Telling] = []
        now = time.monotonic()
        with self._lock:
            for alert in self._known():
                if alert.due_s > now:
                    continue
                is_first = not alert.was_told
                # What begins and ends before it was told is told twice, in order.
                ended = None if is_first else alert.ended
                news = alert.news - (is_first and alert.ended is not None)
                told = (alert, alert.notice, alert.since, ended, news)
                found.append(Telling(*told))
                if len(found) >= limit:
                    break
        return found

    def told(self, telling: Telling, again_s: float) -> None:
        """Note that Alertmanager knows.

        Args:
            telling: What it was told.
            again_s: Seconds until it must be told again.
        """
        alert = telling.alert
        with self._lock:
            alert.news = max(0, alert.news - telling.news)
            self._ledger.deliver(telling.news)
            alert.was_told = True
            if telling.ended is not None and alert.ended == telling.ended:
                self._forget(alert)
            elif not alert.news:
                alert.due_s = time.monotonic() + again_s

    def refused(self, telling: Telling) -> None:
        """Note that Alertmanager will never take this one."""
        with self._lock:
            self._ledger.reject(max(telling.news, telling.alert.news))
            telling.alert.news = 0
            for alert_id in list(telling.alert.ids):
                self._drop_id(telling.alert, alert_id)
            self._forget(telling.alert)

    def _forget(self, alert: OpenAlert) -> None:
        for key, found in list(self._open.items()):
            if found is alert:
                del self._open[key]
                return

    def next_due_s(self) -> float | None:
        """Give when something is due, on the monotonic clock; ``None`` for never."""
        with self._lock:
            return min((each.due_s for each in self._known()), default=None)

    def news(self) -> int:
        """Give how many changes nobody was told of."""
        with self._lock:
            return sum(each.news for each in self._known())

    def untold(self) -> int:
        """Give how many alerts have such changes, those with equal labels as one."""
        with self._lock:
            return sum(1 for each in self._known() if each.news)

    def take_over(self, former: "AlertBook") -> bool:
        """Go on telling what another book has open; its news stay there.

        Returns:
            Whether there is anything.
        """
        with former._lock:  # noqa: SLF001 - our own kind
            lasting = [
                (key, OpenAlert(each.notice, each.since, dict(each.ids)))
                for key, each in list(former._open.items())  # noqa: SLF001 - as above
                if each.ended is None
            ]
        with self._lock:
            for key, alert in lasting:
                self._open.setdefault(key, alert)
                self._keys |= dict.fromkeys(alert.ids, key)
        return bool(lasting)


def _key(alert: FlextAlert) -> Key:
    tags: dict[str, Any] = alert.tags
    return alert.name, alert.severity, frozenset(tags.items())
