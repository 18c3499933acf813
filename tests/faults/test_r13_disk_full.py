"""R13: the disk is full. Nothing raises, memory takes over, all of it is counted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.remains import Service, tell_figure
from tests.faults.server import FaultServer
from tests.fixtures.programs import clean_environment, run_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")

# Fills the disk, then makes room; says its status after each step.
PROGRAM = """
import importlib, json, os, sys, time
import flext_observability as fo
way, count, size, fields = json.loads(sys.argv[1])
if way == "limit":
    import resource
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
fo.setup(**fields).unwrap()
def make(first, last):
    for number in range(first, last + 1):
        with fo.flext_span("op", {"n": number, "fill": "x" * size}):
            pass
def tell():
    status = fo.status()
    ledger = status.signals["traces"]
    print(json.dumps({
        "durability": status.durability,
        "problems": status.problems,
        "accepted": ledger.accepted,
        "delivered": ledger.delivered,
        "rejected": ledger.rejected,
        "pending": ledger.pending,
        "dropped": dict(ledger.dropped),
        "segments": sum(name.endswith(".seg") for _, _, names in
                        os.walk(fields["spool_dir"]) for name in names),
    }), flush=True)
def is_troubled():
    return any("disk refuses writes" in problem for problem in fo.status().problems)
def wait(probe):
    deadline = time.monotonic() + 20
    while not probe() and time.monotonic() < deadline:
        time.sleep(0.01)  # the writer is on its way
    time.sleep(0.3)
make(1, count)
wait(is_troubled)
tell()
sys.stdin.readline()
if way == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
elif way == "tmpfs":
    import subprocess
    mount = ["mount", "-o", "remount,size=64m", fields["spool_dir"]]
    subprocess.check_call(mount)
time.sleep(1.1)
# The disk is asked once a second. Until it took what waits, there is no room for more.
pipeline = importlib.import_module("flext_observability.runtime").state.live()
wait(lambda: not any(route._intake.unwritten for route in pipeline.routes))
make(count + 1, count + 10)
wait(lambda: not is_troubled())
tell()
sys.stdin.readline()
fo.flush(20)
tell()
if way == "tmpfs":
    os.chdir("/")
fo.shutdown()
"""
# The disk refuses, has room again, and the program ends before it is asked again.
ENDING = """
import json, resource, signal, sys, time
import flext_observability as fo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fields = json.loads(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
fo.setup(**fields).unwrap()
def make(first, last):
    for number in range(first, last + 1):
        with fo.flext_span("op", {"n": number, "fill": "x" * 1000}):
            pass
make(1, 50)
deadline = time.monotonic() + 10
while not fo.status().last_error and time.monotonic() < deadline:
    time.sleep(0.01)  # what memory took is on its way
make(51, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(fo.shutdown(0.5))
"""
MOUNTED = 'mount -t tmpfs -o size=1m,mode=0700 none "$1" && shift && exec "$@"'


def can_mount() -> bool:
    """Whether a user namespace may mount file systems."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


WAYS = [
    pytest.param(
        "tmpfs",
        marks=pytest.mark.skipif(not can_mount(), reason="needs a namespace"),
    ),
    "limit",
]


@dataclass
class Filler:
    """The running program."""

    process: "subprocess.Popen[str]"

    def status(self) -> dict[str, Any]:
        """What it says next, which balances."""
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        settled = told["delivered"] + told["rejected"] + told["pending"]
        assert told["accepted"] == settled + sum(told["dropped"].values()), told
        return told

    def end(self) -> None:
        """Wait for its end."""
        self.process.communicate(timeout=90)
        assert self.process.returncode == 0

    def go_on(self) -> dict[str, Any]:
        """Have it take the next step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.status()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with a directory for its spool."""
    with FaultServer() as server:
        made = Service(tmp_path / "remains", server)
        made.spool_dir.mkdir(0o700)
        yield made


def start(service: Service, way: str, count: int, size: int) -> Filler:
    """Start the program on a disk that is soon full."""
    words = [way, count, size, service.fields]
    command = [sys.executable, "-c", PROGRAM, json.dumps(words)]
    if way == "tmpfs":
        inside = ["sh", "-c", MOUNTED, "sh", str(service.spool_dir)]
        command = ["unshare", "-rm", *inside, *command]
    return Filler(
        subprocess.Popen(
            command,
            env=clean_environment(OTEL_BSP_MAX_QUEUE_SIZE="2048"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )


@pytest.mark.parametrize("way", WAYS)
def test_memory_takes_over(service: Service, way: str) -> None:
    """While the disk is full records wait in memory; then it takes them itself."""
    service.server.close_port()
    filler = start(service, way, 2000, 2000)
    full = filler.status()
    assert full["durability"] == "batch"
    assert any("disk refuses writes" in problem for problem in full["problems"])
    assert full["accepted"] == full["pending"] == 2000
    assert not full["dropped"]
    well = filler.go_on()
    assert not any("disk" in problem for problem in well["problems"]), well
    assert well["segments"]
    service.server.open_port()
    done = filler.go_on()
    assert done["delivered"] == 2010
    filler.end()
    assert service.server.numbers() == set(range(1, 2011))


def test_room_just_before_the_end(service: Service) -> None:
    """At its end a program tries the disk once more, and leaves all of it there."""
    service.server.close_port()
    service.is_away = True
    done = run_program(ENDING, json.dumps(service.fields)).ok()
    assert "disk refuses writes" in done.stderr
    assert "gave up" not in done.stderr
    assert service.drain().dropped == {}
    assert service.server.numbers() == set(range(1, 101))


@pytest.mark.parametrize("way", WAYS)
def test_beyond_memory(service: Service, way: str) -> None:
    """What neither disk nor memory takes is counted, to the last record."""
    service.server.close_port()
    count = 20_000
    filler = start(service, way, count, 2000)
    full = filler.status()
    lost = full["dropped"].get("disk_full", 0)
    assert full["dropped"] == {"disk_full": lost}
    assert lost > 1000
    assert filler.go_on()["dropped"] == {"disk_full": lost}
    service.server.open_port()
    done = filler.go_on()
    assert done["delivered"] == count + 10 - lost
    filler.end()
    assert len(service.server.numbers()) == count + 10 - lost
    assert set(range(count + 1, count + 11)) <= service.server.numbers()
    assert service.server.duplicates() == 0
    tell_figure("R13", **{f"{way}_uncounted": count + 10 - lost - done["delivered"]})
