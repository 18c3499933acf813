"""R17: forks. Parent and child each deliver their own records, once; no deadlock.

The families of processes are in `families.py`, each under a watchdog of 20 s.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.figures import figure
from tests.faults.server import FaultServer
from tests.fixtures.collector import Collector
from tests.fixtures.programs import clean_environment

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no fork"
)

ROOT = Path(__file__).resolve().parents[2]
ON_DISK = ("batch", "record")
slow = pytest.mark.slow
# Each of these starts many processes: one mode is enough for every day.
MODES = ["memory", "batch", pytest.param("record", marks=slow)]
DISKS = ["batch", pytest.param("record", marks=slow)]
HEAVY = [pytest.param("memory", marks=slow), *DISKS]
KEYS = ("delivered", "rejected", "pending")


def environment() -> dict[str, str]:
    """The environment of programs whose coverage nobody measures.

    That would change how they end, and take half a second more each.
    """
    plain = clean_environment()
    return {k: v for k, v in plain.items() if not k.startswith("COVERAGE_")}


@dataclass
class Family:
    """A running family, and what it said."""

    process: "subprocess.Popen[bytes]"
    lines: list[str] = field(default_factory=list[str])
    errors: str = ""

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """What each member said at its end."""
        told = [json.loads(line[7:]) for line in self.starting("MEMBER ")]
        names = [member["who"] for member in told]
        assert len(set(names)) == len(names), f"told twice: {Counter(names)}"
        return {member["who"]: member for member in told}

    def starting(self, word: str) -> list[str]:
        """The lines that begin so."""
        return [line for line in self.lines if line.startswith(word)]

    def wait_line(self, word: str, timeout_s: float = 30.0) -> str:
        """Wait for a line that begins so."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.starting(word)):
            assert time.monotonic() < deadline, (word, self.lines)
            time.sleep(0.01)
        return found[0]


@contextlib.contextmanager
def family(scenario: str, folder: Path, **setup: object) -> Iterator[Family]:
    """Start a family; at the end nobody of it lives on."""
    errors = folder / f"{scenario}-{time.monotonic_ns()}.err"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.families", scenario, dumped(setup)],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    told = Family(process)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                told.lines.append(line.decode().rstrip("\n"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield told
        process.wait(100)
        if not told.starting("SURVIVORS "):
            reader.join(20)  # daemons of the family hold the pipe too
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for line in told.starting("SURVIVORS "):
            for pid in line.split()[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        process.wait(10)
        reader.join(5)
        told.errors = errors.read_text("utf-8")


def dumped(setup: dict[str, object]) -> str:
    """The settings as the program takes them."""
    return json.dumps(setup)


def run(scenario: str, collector: Collector, folder: Path, durability: str) -> Family:
    """Run a family to its end; all of it must have gone well."""
    with family(
        scenario,
        folder,
        endpoint=collector.endpoint,
        protocol=collector.protocol,
        durability=durability,
        spool_dir=str(folder / "spool"),
        # How long an exit may take is R4's; here a stall shall cost no record.
        exit_budget_s=10.0,
    ) as told:
        pass
    assert told.process.returncode == 0, (told.lines, told.errors)
    assert not told.starting("TROUBLE"), (told.lines, told.errors)
    assert "Traceback" not in told.errors, told.errors
    assert "most recent call first" not in told.errors, told.errors
    return told


def drain(collector: Collector, folder: Path) -> None:
    """Have a later process of the service send what waits."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flext_observability", "drain", "family"),
            *("--endpoint", collector.endpoint, "--protocol", collector.protocol),
            *("--spool-dir", str(folder / "spool"), "--seconds", "20"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def left_on_disk(folder: Path) -> list[str]:
    """The process directories that are still there."""
    return [path.parent.name for path in (folder / "spool").glob("*/v1/*/lock")]


def assert_own(collector: Collector, told: Family, extra: tuple[str, ...] = ()) -> None:
    """Every member delivered what it made, once, under its own name."""
    members = told.members
    instances: dict[str, set[str]] = {}
    for kind, found in (("spans", collector.spans("op")), ("logs", collector.logs())):
        numbers: dict[str, Counter[int]] = {who: Counter() for who in members}
        for record in found:
            who = record.attributes.get("who")
            if who is None or who in extra:
                continue
            assert who in members, f"{kind} of {who!r}"
            assert record.resource["process.pid"] == members[who]["pid"], who
            numbers[who][record.attributes["n"]] += 1
            instance = record.resource["service.instance.id"]
            instances.setdefault(who, set()).add(instance)
        expected = {who: Counter(range(each["made"])) for who, each in members.items()}
        assert numbers == expected, kind
    assert all(len(ids) == 1 for ids in instances.values()), instances
    assert len(set.union(*instances.values())) == len(instances), instances
    ids = Counter(span.span_id for span in collector.spans())
    assert ids.total() == len(ids), "the same ids in two processes"
    for who, member in members.items():
        assert_balanced(who, member)


def assert_balanced(who: str, member: dict[str, Any]) -> None:
    """Nothing is lost silently, and nothing is lost at all."""
    for name, ledger in member["ledgers"].items():
        known = sum(ledger[key] for key in KEYS) + sum(ledger["dropped"].values())
        assert ledger["accepted"] == known, (who, name, ledger)
        assert not ledger["dropped"], (who, name, ledger)


FORKS = (
    *("before_setup", "after_setup", "os_exit", "both_call_setup", "double"),
    *("double_idle", "from_a_thread", "fork_hooks", "many_generations"),
    *("exec_in_child", "shutdown_in_child", "crowd", "early_thread"),
    "fork_while_awaking",
)
PROCESSES = ("mp_fork", "mp_spawn", "mp_forkserver", "mp_forkserver_preloaded")


@pytest.mark.parametrize("durability", MODES)
@pytest.mark.parametrize("scenario", [*FORKS, *PROCESSES])
def test_families(
    scenario: str, durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """Every member of a family delivers its own records, exactly once."""
    told = run(scenario, http_collector, tmp_path, durability)
    if durability in ON_DISK:
        drain(http_collector, tmp_path)
        assert left_on_disk(tmp_path) == []
    assert_own(http_collector, told, extra=("server",))
    assert len(told.members) >= 2
    if scenario == "mp_forkserver_preloaded":
        spans = http_collector.spans("op")
        assert [s.attributes["who"] for s in spans].count("server") == 1
    figure(
        "R17",
        scenario=scenario,
        durability=durability,
        members=len(told.members),
        lost=0,
        duplicated=0,
    )


@pytest.mark.parametrize("durability", [pytest.param("memory", marks=slow), "batch"])
@pytest.mark.parametrize(
    "scenario", ["before_setup", "after_setup", "double", "os_exit", "mp_fork"]
)
def test_families_over_grpc(
    scenario: str, durability: str, grpc_collector: Collector, tmp_path: Path
) -> None:
    """The same over gRPC, whose channel a child must never touch."""
    told = run(scenario, grpc_collector, tmp_path, durability)
    if durability in ON_DISK:
        drain(grpc_collector, tmp_path)
        assert left_on_disk(tmp_path) == []
    assert_own(grpc_collector, told)
    figure(
        "R17",
        scenario=f"{scenario}_grpc",
        durability=durability,
        members=len(told.members),
        lost=0,
    )


@pytest.mark.parametrize("durability", MODES)
def test_fork_in_a_span(
    durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """A span that is open during a fork is the parent's, and arrives once."""
    told = run("in_a_span", http_collector, tmp_path, durability)
    (span,) = http_collector.spans("open")
    assert span.resource["process.pid"] == told.members["parent"]["pid"]
    assert_own(http_collector, told)


@pytest.mark.parametrize("durability", ON_DISK)
@pytest.mark.parametrize("scenario", ["mp_pool", "executor"])
def test_pools(
    scenario: str, durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """What workers of a pool finished arrives, or is counted as lost in the crash.

    A ``Pool`` ends its workers by SIGTERM, which may repeat the batch on its way.
    """
    told = run(scenario, http_collector, tmp_path, durability)
    later = run("late", http_collector, tmp_path, durability)
    assert_own(http_collector, told, extra=("pool", "late"))
    for kind, records in (
        ("traces", http_collector.spans()),
        ("logs", http_collector.logs()),
    ):
        found = [r for r in records if r.attributes.get("who") == "pool"]
        numbers = Counter(record.attributes["n"] for record in found)
        crashed = crashes(later, kind)
        assert len(numbers) + crashed == 40, kind
        assert max(numbers.values(), default=1) <= (1 if scenario == "executor" else 2)
        assert crashed == 0 or (scenario, durability) == ("mp_pool", "batch")
        figure(
            "R17",
            scenario=scenario,
            durability=durability,
            **{f"{kind}_arrived": len(numbers), "crash": crashed},
        )
    assert left_on_disk(tmp_path) == []


def crashes(later: Family, kind: str) -> int:
    """How many records a later process counted as lost with their process."""
    (member,) = later.members.values()
    for name, ledger in member["ledgers"].items():
        known = sum(ledger[key] for key in KEYS) + sum(ledger["dropped"].values())
        assert ledger["accepted"] == known, (name, ledger)
        assert set(ledger["dropped"]) <= {"crash"}, (name, ledger)
    return int(member["ledgers"][kind]["dropped"].get("crash", 0))


@pytest.mark.parametrize("durability", ON_DISK)
def test_os_exit_in_the_middle_of_the_work(
    durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """A child that leaves at once loses what its mode says at most, all counted."""
    run("os_exit_at_once", http_collector, tmp_path, durability)
    later = run("late", http_collector, tmp_path, durability)
    for kind, records in (
        ("traces", http_collector.spans()),
        ("logs", http_collector.logs()),
    ):
        found = [r for r in records if r.attributes.get("who") == "child"]
        numbers = [record.attributes["n"] for record in found]
        assert len(set(numbers)) == len(numbers)
        crashed = crashes(later, kind)
        assert len(numbers) + crashed == 1000, kind
        assert crashed <= (511 if durability == "batch" else 0)
        figure(
            "R17",
            scenario="os_exit_at_once",
            durability=durability,
            **{f"{kind}_lost": crashed},
        )
    assert left_on_disk(tmp_path) == []


@pytest.mark.parametrize("durability", HEAVY)
def test_forks_while_locks_are_held(durability: str, tmp_path: Path) -> None:
    """200 forks while threads record, flush and ask: no deadlock, nothing lost."""
    began = time.monotonic()
    with Collector("http/protobuf") as collector:
        told = run("locks", collector, tmp_path, durability)
        spent_s = time.monotonic() - began
        if durability in ON_DISK:
            drain(collector, tmp_path)
            assert left_on_disk(tmp_path) == []
        assert len(told.members) == 101
        assert_own(collector, told)
        ((_, spans, logs),) = (line.split() for line in told.starting("NOISE"))
        noise = Counter(span.attributes["n"] for span in collector.spans("noise"))
        assert noise == Counter(range(int(spans)))
        lines = Counter(log.attributes["n"] for log in collector.logs("noise"))
        assert lines == Counter(range(int(logs)))
    figure(
        "R17",
        scenario="locks",
        durability=durability,
        forks=200,
        spent_s=round(spent_s, 1),
        lost=0,
    )


@pytest.mark.parametrize("durability", HEAVY)
def test_forks_during_setup_and_shutdown(
    durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """40 forks while another thread sets up and shuts down: every child works."""
    told = run("life", http_collector, tmp_path, durability)
    if durability in ON_DISK:
        drain(http_collector, tmp_path)
        assert left_on_disk(tmp_path) == []
    assert len(told.members) == 41
    assert_own(http_collector, told)


@pytest.mark.parametrize("durability", DISKS)
def test_the_directory_is_the_parents(durability: str, tmp_path: Path) -> None:
    """Nobody adopts from a living parent, anybody from a dead one, whoever it forked.

    Its children and a program it started live on, and must not hold its lock.
    """
    with FaultServer(is_open=False) as server:
        setup: dict[str, Any] = {
            "endpoint": server.endpoint,
            "protocol": "http/protobuf",
            "durability": durability,
            "spool_dir": str(tmp_path / "spool"),
        }
        with family("owner", tmp_path, **setup) as owner:
            owner.wait_line("READY")
            owner.wait_line("USED")
            pid = owner.process.pid
            os.kill(pid, signal.SIGSTOP)  # alive, and in no state to deliver
            server.open_port()
            with family("late", tmp_path, **setup) as first:
                pass
            assert first.process.returncode == 0, first.errors
            assert made_by(server, "parent", pid) == Counter()
            # The survivor may have taken these over first; then they come after its
            # pause for a collector that was not there.
            for who in ("used", "used and left", "mp"):
                server.wait_for(partial(all_of, server, who), 30)
                assert made_by(server, who) == Counter(range(5)), who
            assert_balanced("late", first.members["late"])
            for survivor in owner.starting("SURVIVORS ")[0].split()[1:]:
                os.kill(int(survivor), signal.SIGSTOP)  # it would take over as well
            os.kill(pid, signal.SIGKILL)
            owner.process.wait(10)
            with family("late", tmp_path, **setup) as second:
                pass
            assert second.process.returncode == 0, second.errors
            assert made_by(server, "parent", pid) == Counter(range(50))
            assert_balanced("late", second.members["late"])
            adopted = second.members["late"]["ledgers"]["traces"]["adopted"]
            assert adopted == 50
        figure(
            "R17",
            scenario="owner",
            durability=durability,
            adopted_alive=0,
            adopted_dead=adopted,
        )


def all_of(server: FaultServer, who: str) -> bool:
    """Whether as many records of a child arrived as it made."""
    return made_by(server, who).total() >= 5


def made_by(server: FaultServer, who: str, pid: int | None = None) -> Counter[int]:
    """How often each number of a member arrived."""
    found: Counter[int] = Counter()
    for arrival, reply in server.exchanges("traces"):
        if not reply.is_accepting:
            continue
        for group in arrival.message.resource_spans:
            resource = {p.key: p.value for p in group.resource.attributes}
            if pid is not None and resource["process.pid"].int_value != pid:
                continue
            for scope in group.scope_spans:
                for span in scope.spans:
                    values = {p.key: p.value for p in span.attributes}
                    if "who" in values and values["who"].string_value == who:
                        found[values["n"].int_value] += 1
    return found


@pytest.mark.parametrize("durability", MODES)
def test_an_idle_child_costs_nothing(
    durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """A child that uses no telemetry has no thread, no file and no descriptor of us."""
    told = run("idle_child", http_collector, tmp_path, durability)
    (line,) = told.starting("IDLE ")
    found = json.loads(line[5:])
    assert (found["threads"], found["tasks"]) == (1, 1)
    assert found["open"] == []
    assert found["appeared"] == found["left"] == []
    assert bool(found["ours"]) == (durability in ON_DISK)
    assert_own(http_collector, told)
    figure(
        "R17", scenario="idle_child", durability=durability, fork_us=found["fork_us"]
    )


def test_nothing_is_imported_after_setup(collector: Collector, tmp_path: Path) -> None:
    """Whoever calls setup imports all that verbs and threads need later.

    A fork while another thread imports leaves the child a lock nobody releases.
    """
    told = run("imports", collector, tmp_path, "batch")
    (line,) = told.starting("IMPORTS ")
    assert json.loads(line[8:]) == []
