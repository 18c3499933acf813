"""From the spool to a collector: what each verdict of the transport leads to."""

import math
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from ..constants import Signal
from .background import BackgroundThread
from .bell import Bell
from .ledger import Ledger, Notices
from .otlp_split import Piece, halves, shortened
from .own_work import own_work
from .route import Bounds
from .spool import REQUEST_LIMIT_BYTES, Lease, Spool
from .transport import Transport
from .verdict import Outcome, Verdict

_BACKOFF_FIRST_S = 1.0
_BACKOFF_LIMIT_S = 60.0
# A refused destination is asked again that often; nothing is burnt meanwhile.
_PROBE_S = 30.0
# Requests that finding the guilty records of one lease may cost.
_BISECT_BUDGET = 32
# How often the spool is asked to look for what dead processes left.
_HOUSEKEEPING_S = 10.0
# Requests that finding a size the server takes may cost, for one lease.
_SIZE_BUDGET = 256
# Below that size, a single record that is refused as too large is never taken.
_SHORTEST_BYTES = 4096
# How often, and how long, a close waits for a batch that is being settled.
_SETTLING_STEPS = 20
_SETTLING_STEP_S = 0.005
# How often an unreachable collector is tried at exit when the records are on disk.
_LAST_TRIES = 3
# While closing, how often to look for what came meanwhile.
_CLOSING_STEP_S = 0.02
# How long records gather between two requests while they keep coming.
_BREATH_S = 0.1
# A request unanswered for so long makes the destination count as failing.
_SILENCE_S = 5.0


class Delivery:
    """Brings one signal's batches from the spool to one collector.

    One request is under way at a time, so that a collector in trouble sees one probe
    per pause, not a crowd. The thread starts with the first record.
    """

    def __init__(
        self,
        signal: Signal,
        spool: Spool,
        transport: Transport,
        bounds: Bounds,
        ledger: Ledger,
        notices: Notices,
        *,
        freed: Callable[[], None],
        suppressed: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Prepare; no thread yet.

        Args:
            signal: What the records are.
            spool: Where batches wait.
            transport: Makes one request and says what became of it.
            bounds: Sizes and times.
            ledger: Counts.
            notices: Where trouble is said.
            freed: Told that the spool has room again.
            suppressed: Keeps our requests from being traced.
        """
        self._signal = signal
        self._spool = spool
        self._transport = transport
        self._bounds = bounds
        self._ledger = ledger
        self._notices = notices
        self._freed = freed
        # Metrics are collected all at once: nothing more would gather.
        is_steady = signal is not Signal.METRICS
        self._linger_s = bounds.delay_s - bounds.write_delay_s if is_steady else 0.0
        self._suppressed = suppressed
        self._bell = Bell()  # there is something to do
        self._full = Bell()  # there is enough to send, or somebody waits
        self._hurry = Bell()  # cut pauses of our own short
        self._thread = BackgroundThread(f"flext-{signal.value}", self._run)
        self._waiting = 0  # records since the last time the spool was empty
        # How often somebody was in a hurry, and how much of that is settled.
        self._hurries = self._hurries_settled = 0
        self._deadline = math.inf
        self._is_closing = False
        self._is_stopped = False
        self._is_settling = False
        self._has_accepted = False  # the destination took something once
        self._trouble: str | None = None
        self._asked_at: float | None = None

    @property
    def problem(self) -> str | None:
        """Why nothing arrives now; ``None`` while all is well."""
        return self._trouble or self._silence(_SILENCE_S)

    def _silence(self, longer_than_s: float) -> str | None:
        asked_at = self._asked_at
        silent_s = 0.0 if asked_at is None else time.monotonic() - asked_at
        if silent_s <= longer_than_s:
            return None
        told = f"no answer from the collector for {silent_s:.1f} s"
        return f"{self._signal.value}: {told}"

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it does."""
        # Interpreter shutdown refuses threads; `close` still drains the spool.
        return self.is_running() if self._is_stopped else self._thread.start()

    def is_running(self) -> bool:
        """Whether the thread was started and lives."""
        return self._thread.is_running()

    def notify(self, count: int) -> None:
        """Learn that records came into the spool."""
        self._waiting += count
        self.start()
        self._bell.ring()
        if self._is_enough():
            self._full.ring()

    def hurry(self) -> None:
        """Send what waits now, without waiting for it."""
        self._hurries += 1
        self._hurry.ring()
        self._full.ring()
        self._bell.ring()

    def send_here(self, deadline: float) -> None:
        """Send what waits in this thread, for want of another one, until a deadline."""
        if self._is_closing:
            return  # whoever closes it does so, until another deadline
        self._deadline = deadline
        self._work(self._drain)
        if not self._is_closing:
            self._deadline = math.inf

    def drain_until(self, deadline: float) -> None:
        """From now on only send what waits, until a deadline; do not wait for it."""
        self._deadline = deadline
        self._is_closing = True
        self.hurry()

    def close(self, deadline: float) -> None:
        """Send what waits until the deadline, then let go of the connection."""
        self.drain_until(deadline)
        if self._spool.waits(self._signal) and not self.start():
            self._work(self._drain)  # no thread to be had: the interpreter is leaving
        # Steps are counted, since a clock may stand.
        for _ in range(int((deadline - time.monotonic()) / _CLOSING_STEP_S) + 1):
            if self._stopped() or self._ledger.wait_settled(_step(deadline)):
                break
        self._is_stopped = True
        # Why something is left is asked for when all is over.
        silence = self._silence(0.0)
        if silence is not None and self._trouble is None:
            self._trouble = silence
        self.hurry()
        # A batch is forgotten by the spool before the ledger knows: not in between.
        for _ in range(_SETTLING_STEPS):
            if not self._is_settling:
                break
            time.sleep(_SETTLING_STEP_S)

    def disconnect(self) -> None:
        """Let go of the connection; a request under way may end early."""
        with suppress(Exception):  # a connection that cannot even close is gone
            self._transport.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    # -- the thread

    def _work(self, work: Callable[[], None]) -> None:
        with own_work(self._suppressed):
            work()

    def _run(self) -> None:
        self._work(self._loop)

    def _loop(self) -> None:
        while not self._is_stopped:
            try:
                self._keep_house()
                if not self._is_closing and self._spool.waits(self._signal):
                    self._gather(self._linger_s)
                self._drain()
            except Exception as error:  # noqa: BLE001 - the thread must live
                self._say_defect(error)
            self._bell.wait(_CLOSING_STEP_S if self._is_closing else self._idle_s())

    def _idle_s(self) -> float | None:
        return None if self._spool.durability == "memory" else _HOUSEKEEPING_S

    def _gather(self, longest_s: float) -> None:
        """Let records gather, so that requests are few and large."""
        self._full.wait(0)  # a ring about what was sent meanwhile
        is_hurried = self._hurries != self._hurries_settled or self._is_closing
        if not is_hurried and not self._is_enough():
            self._full.wait(min(longest_s, self._linger_s))

    def _is_enough(self) -> bool:
        """Whether what waits makes a full request, or much of the spool."""
        taken_bytes, limit_bytes = self._spool.occupancy
        is_much = taken_bytes >= limit_bytes // 4
        return is_much or self._waiting >= self._bounds.batch_records

    def _drain(self) -> None:
        """Send what waits; what came meanwhile gathers a little first."""
        while not self._stopped():
            hurries = self._hurries
            lease = self._spool.lease(
                self._signal, REQUEST_LIMIT_BYTES, self._bounds.batch_records
            )
            if lease is None:
                self._waiting, self._hurries_settled = 0, hurries
                return
            if not self._deliver(lease):
                return
            self._waiting = max(0, self._waiting - lease.count)
            self._freed()
            # Of the dead, each has a lease of its own; nothing is added to it.
            if not lease.is_adopted and self._spool.waits(self._signal):
                self._gather(_BREATH_S)

    def _deliver(self, lease: Lease) -> bool:
        """Settle a lease; say whether that was possible before we had to stop."""
        outcome = _Settlement()
        if not self._settle(Piece(lease.body, lease.count), outcome):
            return False
        # First the spool, then the ledger: a program that waits for the ledger may end
        # at once, and what is not acked then would be delivered twice.
        self._is_settling = True
        self._spool.ack(lease)
        self._ledger.deliver(lease.count, outcome.rejected)
        self._is_settling = False
        return True

    def _settle(self, piece: Piece, outcome: "_Settlement") -> bool:
        verdict = self._answer(piece)
        if verdict is None:
            return False
        parts: tuple[Piece, ...] = ()
        match verdict.outcome:
            case Outcome.DELIVERED:
                self._has_accepted = True
                outcome.rejected += min(verdict.rejected, piece.count)
                return True
            case Outcome.SPLIT:
                parts = self._smaller(piece) if outcome.spend_on_size(2) else ()
            case Outcome.BISECT if self._has_accepted and outcome.spend(2):
                parts = halves(self._signal, piece.body, by="records") or ()
            case _:
                pass
        if not parts:
            self._spool.reject(self._signal, piece.body, verdict.reason)
            outcome.rejected += piece.count
        return all(self._settle(part, outcome) for part in parts)

    def _smaller(self, piece: Piece) -> tuple[Piece, ...]:
        """Give what the server may find small enough; nothing when it never will."""
        parts = halves(self._signal, piece.body, by="bytes")
        if parts is not None:
            return parts
        if len(piece.body) < _SHORTEST_BYTES:
            return ()
        body = shortened(self._signal, piece.body, len(piece.body) // 2)
        return () if body is None else (Piece(body, piece.count),)

    def _answer(self, piece: Piece) -> Verdict | None:
        """Send until there is an answer that settles; ``None`` when we had to stop."""
        failures = 0
        while not self._stopped():
            verdict = self._send(piece.body)
            if self._is_stopped:
                return None  # whoever closed has counted these records
            self._asked_at = None  # not before: whoever closes looks at it then
            if verdict.message:
                self._notices.error(verdict.reason, verdict.message)
            if verdict.outcome not in {Outcome.RETRY, Outcome.HOLD}:
                self._trouble = None
                return verdict
            said = self._notices.shown(verdict.message or verdict.reason)
            self._trouble = f"{self._signal.value}: {said}"
            failures += 1
            if self._is_hopeless(verdict, failures):
                self._is_stopped = True
                return None
            self._pause(verdict, failures)
            if verdict.may_have_arrived and not self._stopped():
                self._ledger.retransmit(piece.count)
        return None

    def _send(self, body: bytes) -> Verdict:
        self._asked_at = time.monotonic()
        left_s = self._deadline - self._asked_at
        return self._transport.send(
            body, max(0.01, min(self._bounds.timeout_s, left_s))
        )

    def _is_hopeless(self, verdict: Verdict, failures: int) -> bool:
        """Whether to end at once while closing: the answer will not change in time.

        What waits on disk is safe there, so a program need not stay for a collector
        that is not there.
        """
        if not self._is_closing:
            return False
        if verdict.outcome is Outcome.HOLD:
            return True
        is_safe = self._spool.durability != "memory"
        return is_safe and not verdict.may_have_arrived and failures >= _LAST_TRIES

    def _stopped(self) -> bool:
        return self._is_stopped or time.monotonic() >= self._deadline

    def _pause(self, verdict: Verdict, failures: int) -> None:
        """Wait before the next try; a flush or a close cuts our own wait short."""
        told_s = verdict.retry_after_s
        # "At once" is taken at its word once: a broken server says it for ever.
        if told_s is not None and (told_s > 0 or failures == 1):
            self._wait_as_told(told_s)
        elif self._is_closing:
            time.sleep(0.2)
        elif verdict.outcome is Outcome.HOLD:
            self._rest(_PROBE_S)
        else:
            # The exponent is bounded: after an outage of hours it would overflow.
            doublings = min(failures - 1, 10)
            limit_s = min(_BACKOFF_LIMIT_S, _BACKOFF_FIRST_S * 2.0**doublings)
            self._rest(random.uniform(0, limit_s))  # noqa: S311 - jitter, no secret

    def _rest(self, pause_s: float) -> None:
        """Wait until somebody is in a hurry, and keep house meanwhile."""
        moment = time.monotonic() + pause_s
        while not self._stopped():
            left_s = moment - time.monotonic()
            if left_s <= 0 or self._hurry.wait(min(left_s, _HOUSEKEEPING_S)):
                return
            self._keep_house()

    def _wait_as_told(self, told_s: float) -> None:
        """Keep the time a server told us; only the end of it all is sooner."""
        moment = time.monotonic() + told_s
        while not self._stopped() and time.monotonic() < moment:
            time.sleep(min(0.1, max(0.0, moment - time.monotonic())))
            self._keep_house()

    def _keep_house(self) -> None:
        """Let the spool see to its bounds, and to what other processes left."""
        if not self._is_closing:
            self._spool.adopt()

    def _say_defect(self, error: Exception) -> None:
        self._asked_at = None
        self._notices.error(
            f"internal_{self._signal}",
            f"delivery of {self._signal.value} failed: {type(error).__name__}: {error}",
        )
        self._hurry.wait(_BACKOFF_FIRST_S)


class _Settlement:
    """What became of one lease, and what may still be spent on it."""

    def __init__(self) -> None:
        self.rejected = 0
        self._budget = _BISECT_BUDGET
        self._size_budget = _SIZE_BUDGET

    def spend_on_size(self, requests: int) -> bool:
        """Spend requests on smaller parts; say whether they were there."""
        self._size_budget -= requests
        return self._size_budget >= 0

    def spend(self, requests: int) -> bool:
        """Spend requests on finding guilty records; say whether they were there."""
        if self._budget < requests:
            return False
        self._budget -= requests
        return True


def _step(deadline: float) -> float:
    """Look again soon: the thread may have ended without settling anything."""
    return min(deadline, time.monotonic() + _CLOSING_STEP_S)
