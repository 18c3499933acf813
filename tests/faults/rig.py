"""Runs of `app.py` against a server: start, kill, restart, drain, compare.

    def test_something(run: Run) -> None:          # `run` and `faults` are fixtures
        child = run.start(count=None, setup={"durability": "record"})
        child.wait_count(3000)                     # 3,000 records are finished
        ended = child.kill()                       # SIGKILL; or .end(), .signal(...)
        ledger = run.drain()                       # a new process sends what is left
        assert not run.lost()                      # finished by anybody, never arrived
        assert_balanced(ledger)

`run.server` is the `FaultServer` (or a `Collector` for gRPC). `start` takes the fields
of `app.Options`; with ``then="serve"`` the child does what it is told:
``child.ask("make 100")``, ``child.status()``, ``child.end()``. Numbers are unique
within a `Run`.
"""

import contextlib
import json
import mmap
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.programs import clean_environment

from .app import COUNTER_BYTES, THREAD_STRIDE
from .server import NUMBER, FaultServer

T = TypeVar("T")
Server = FaultServer | Collector
APP = Path(__file__).with_name("app.py")
CHILD_STRIDE = 10**10
_TIMEOUT_S = 50.0


def wait_until(
    probe: Callable[[], T], timeout_s: float = _TIMEOUT_S, *, step_s: float = 0.001
) -> T:
    """Return the first true value of a probe that nobody can notify us of.

    Raises:
        AssertionError: when it stays false for ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := probe()):
        assert time.monotonic() < deadline, f"nothing happened within {timeout_s} s"
        time.sleep(step_s)
    return value


def assert_balanced(status: Any) -> None:
    """Nothing is lost silently: accepted = delivered + rejected + dropped + pending.

    Args:
        status: What ``fo.status()`` gives, or a child told.
    """
    if isinstance(status, fo.FlextObservabilityStatus):
        signals: Mapping[str, Any] = {
            name: {
                key: getattr(ledger, key)
                for key in ("accepted", "delivered", "rejected", "dropped", "pending")
            }
            for name, ledger in status.signals.items()
        }
    else:
        signals = status["signals"]
    for name, ledger in signals.items():
        settled = ledger["delivered"] + ledger["rejected"] + ledger["pending"]
        total = settled + sum(ledger["dropped"].values())
        assert ledger["accepted"] == total, f"{name}: {ledger}"
        assert ledger["pending"] >= 0, f"{name}: {ledger}"


def tally(server: Server, signal_name: str = "traces") -> Counter[int]:
    """How often each number was accepted."""
    if isinstance(server, FaultServer):
        return server.tally(signal_name)
    records = server.spans() if signal_name == "traces" else server.logs()
    return Counter(r.attributes[NUMBER] for r in records if NUMBER in r.attributes)


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int
    """Its exit code; negative for the signal that killed it."""
    finished: set[int] = field(repr=False)
    """Numbers of the records it finished."""
    last_ns: int
    """When it finished the last of them, Unix time."""
    delay_s: float
    """From the end of its work to that of its process; 0 when it did not get so far."""
    lines: list[str]
    stderr: str

    @property
    def status(self) -> dict[str, Any]:
        """The last ledger it told."""
        told = [line for line in self.lines if line.startswith("STATUS ")]
        assert told, f"no ledger in {self.lines}\n{self.stderr}"
        return cast("dict[str, Any]", json.loads(told[-1].removeprefix("STATUS ")))

    def figures(self) -> tuple[float, float, float]:
        """Microseconds per record of a child that measured: p50, p99, worst."""
        (line,) = (line for line in self.lines if line.startswith("US "))
        p50, p99, worst = map(float, line.split()[1:])
        return p50, p99, worst


class Child:
    """A running `app.py`."""

    def __init__(
        self, options: dict[str, Any], folder: Path, env: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        counter = folder / "counter"
        counter.write_bytes(bytes(COUNTER_BYTES))
        with counter.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), COUNTER_BYTES)
        self._slots = memoryview(self._map).cast("Q")
        self._first = int(options.get("first", 0))
        self._threads = max(1, int(options.get("threads", 0)))
        self._lines: list[str] = []
        self._fresh: queue.SimpleQueue[str] = queue.SimpleQueue()
        environment = clean_environment(**env)
        for name in [n for n in environment if n.startswith(("COV_", "COVERAGE_"))]:
            del environment[name]  # measuring coverage would spoil every figure
        with (folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", str(APP)),
                    json.dumps({**options, "counter": str(counter)}),
                ],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._pidfd = os.pidfd_open(self.process.pid) if _has_pidfd() else None
        self._reader = threading.Thread(
            target=self._read, name="fault-reader", daemon=True
        )
        self._reader.start()
        self._ended: Ended | None = None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.rstrip("\n"))
            self._fresh.put(self._lines[-1])

    # -- what it did

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def count(self) -> int:
        """Records finished so far, all threads together."""
        return sum(self._slots[2 + 2 * t] for t in range(self._threads))

    @property
    def finished(self) -> set[int]:
        """Numbers of the finished records."""
        found: set[int] = set()
        for thread in range(self._threads):
            base = self._first + thread * THREAD_STRIDE
            found.update(range(base + 1, base + self._slots[2 + 2 * thread] + 1))
        return found

    def memory_kib(self, field_name: str = "VmRSS") -> int:
        """Its memory, as the system counts it; ``VmHWM`` for the peak."""
        for line in Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines():
            if line.startswith(f"{field_name}:"):
                return int(line.split()[1])
        raise AssertionError(field_name)

    @property
    def stderr(self) -> str:
        """What it said there so far."""
        return (self._folder / "stderr").read_text("utf-8", "replace")

    def _is_over(self) -> bool:
        return self.process.poll() is not None

    def wait_ready(self, timeout_s: float = _TIMEOUT_S) -> "Child":
        """Wait until setup has returned."""
        wait_until(lambda: self._slots[1] or self._is_over(), timeout_s)
        assert self._slots[1], self.stderr
        return self

    def wait_count(self, count: int, timeout_s: float = _TIMEOUT_S) -> "Child":
        """Wait until that many records are finished."""
        wait_until(lambda: self.count >= count or self._is_over(), timeout_s)
        assert self.count >= count, f"ended at {self.count}\n{self.stderr}"
        return self

    def wait_line(self, start: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Give the next line of standard output that begins so."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            try:
                line = self._fresh.get(timeout=max(0.0, left))
            except queue.Empty:
                raise AssertionError(
                    f"no {start!r} within {timeout_s} s\n{self.stderr}"
                ) from None
            if line.startswith(start):
                return line

    # -- what it is told

    def ask(self, command: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Have a serving child do something, and give its answer."""
        answers = {"make": "MADE", "flush": "FLUSHED", "status": "STATUS"}
        answers["shutdown"] = "SHUTDOWN"
        self._tell(command)
        return self.wait_line(answers[command.partition(" ")[0]], timeout_s)

    def _tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def status(self, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """Ask a serving child for its ledger."""
        line = self.ask("status", timeout_s)
        return cast("dict[str, Any]", json.loads(line.removeprefix("STATUS ")))

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> Ended:
        """End it by SIGKILL."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def end(self, timeout_s: float = _TIMEOUT_S) -> Ended:
        """Let a serving child end as scripts do."""
        with contextlib.suppress(BrokenPipeError):
            self._tell("end")
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = _TIMEOUT_S) -> Ended:
        """Wait for its end."""
        if self._ended is not None:
            return self._ended
        is_over = True
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            is_over = bool(poll.poll(timeout_s * 1000))
        ended_ns = time.monotonic_ns()
        assert is_over, f"runs on after {timeout_s} s\n{self.stderr}"
        code = self.process.wait(timeout_s)
        if self._pidfd is None:
            ended_ns = time.monotonic_ns()
        self._reader.join(5)
        mark_ns = self._slots[0]
        self._ended = Ended(
            code=code,
            finished=self.finished,
            last_ns=max(self._slots[3 + 2 * t] for t in range(self._threads)),
            delay_s=(ended_ns - mark_ns) / 1e9 if mark_ns else 0.0,
            lines=list(self._lines),
            stderr=self.stderr,
        )
        self._close()
        return self._ended

    def _close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._slots.release()
        self._map.close()


def _has_pidfd() -> bool:
    return hasattr(os, "pidfd_open")


class Run:
    """The children of one test, their spool and the server they send to."""

    def __init__(self, folder: Path, server: Server, **setup: Any) -> None:
        """Prepare; ``setup`` are arguments of ``fo.setup`` for every child."""
        self.server = server
        self.folder = folder
        self.spool_dir = folder / "spool"
        self.children: list[Child] = []
        self._setup = {
            "service_name": "faulty",
            "endpoint": server.endpoint,
            "protocol": server.protocol,
            "spool_dir": str(self.spool_dir),
            "metrics_enabled": False,
            **setup,
        }

    def start(
        self,
        *,
        setup: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Child:
        """Start a child; ``options`` are fields of `app.Options`."""
        number = len(self.children)
        child = Child(
            {
                "first": number * CHILD_STRIDE,
                **options,
                "setup": {**self._setup, **(setup or {})},
            },
            self.folder / f"child-{number}",
            env or {},
        )
        self.children.append(child)
        return child

    def settings(self, **setup: Any) -> str:
        """Arguments of ``fo.setup`` as JSON, for programs of a test's own."""
        return json.dumps({**self._setup, **setup})

    def finished(self) -> set[int]:
        """Numbers of all records that any child has finished; they must be over."""
        return set[int]().union(*(child.wait(1).finished for child in self.children))

    def lost(self, signal_name: str = "traces") -> set[int]:
        """What a child finished and the server never accepted."""
        return self.finished() - tally(self.server, signal_name).keys()

    def duplicates(self, signal_name: str = "traces") -> int:
        """Records accepted beyond the first time."""
        counts = tally(self.server, signal_name)
        return counts.total() - len(counts)

    def window(self, ended: Ended) -> tuple[int, float]:
        """What a killed child lost: records, and ms between the oldest and its end."""
        assert isinstance(self.server, FaultServer)
        ends = self.server.ends_ns()
        lost = ended.finished - ends.keys()
        before = [n for n in ended.finished if n < min(lost, default=0) and n in ends]
        if not before:
            return len(lost), 0.0
        return len(lost), max(0.0, (ended.last_ns - ends[max(before)]) / 1e6)

    def spooled_bytes(self) -> int:
        """Bytes of segments that lie below the spool directory."""
        return sum(
            path.stat().st_size
            for path in self.spool_dir.rglob("*.seg")
            if "rejected" not in path.parts
        )

    def drain(self, timeout_s: float = _TIMEOUT_S, **setup: Any) -> dict[str, Any]:
        """Start a process that sends what is left; give its last ledger."""
        child = self.start(count=0, then="serve", setup=setup).wait_ready()
        deadline = time.monotonic() + timeout_s
        quiet_since, seen = time.monotonic(), -1
        while time.monotonic() < deadline:
            status = child.status()
            now = len(tally(self.server))
            if now != seen or _is_busy(status):
                quiet_since, seen = time.monotonic(), now
            if time.monotonic() - quiet_since > 0.4 and not self._is_waiting():
                break
            time.sleep(0.05)
        ended = child.end()
        assert ended.code == 0, ended.stderr
        return ended.status

    def _is_waiting(self) -> bool:
        """Whether a directory of a dead process still holds segments."""
        mine = f"-{self.children[-1].pid}-"
        return any(
            mine not in path.parent.name and "rejected" not in path.parts
            for path in self.spool_dir.rglob("*.seg")
        )

    def close(self) -> None:
        """Kill whoever still runs."""
        for child in self.children:
            with contextlib.suppress(OSError):
                child.signal(signal.SIGKILL)
            child.wait()


def _is_busy(status: Mapping[str, Any]) -> bool:
    pending = sum(ledger["pending"] for ledger in status["signals"].values())
    return bool(pending or status["spool_bytes"])
