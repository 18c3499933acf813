"""R15: a damaged spool. Every intact record before and after the damage is delivered.

What is lost is counted, and its bytes are kept as ``*.bad``; nothing crashes.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flext_observability as fo
from tests.faults.remains import (
    Extent,
    Orphan,
    Service,
    seeded,
    tell_figure,
    wait_until,
)
from tests.faults.server import FaultServer
from tests.fixtures.library import assert_balanced
from tests.fixtures.programs import clean_environment

# Has no descriptor left at the moment a file of a dead process is opened first.
WITHOUT_DESCRIPTORS = """
import json, os, resource, sys, time
import flext_observability as fo
name, fields = json.loads(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
held, was_met = [], False
def take_all(event, args):
    global was_met
    while held and event in ("open", "os.scandir"):
        os.close(held.pop())
    if event == "open" and args[0] == name and not was_met:
        was_met = True
        try:
            while True:
                held.append(os.dup(2))
        except OSError:
            pass
sys.addaudithook(take_all)
fo.setup(**fields).unwrap()
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    ledger = fo.status().signals["traces"]
    if ledger.adopted or "for now" in (fo.status().last_error or ""):
        break
    time.sleep(0.01)
print(json.dumps([was_met, ledger.adopted, ledger.dropped]), flush=True)
sys.stdin.readline()
fo.flush(20).unwrap()
ledger = fo.status().signals["traces"]
print(json.dumps([ledger.adopted, ledger.delivered, ledger.dropped]), flush=True)
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service whose server is away until its records are delivered."""
    with FaultServer() as server:
        yield Service(tmp_path / "remains", server)


@pytest.fixture
def orphan(service: Service) -> Orphan:
    """A dead process that left 20 records in one segment."""
    return service.leave(20)


def test_truncated_at_every_byte(service: Service, orphan: Orphan) -> None:
    """Cut off anywhere, a segment gives every record that stands before the cut."""
    data, frames = orphan.segment.read_bytes(), orphan.frames()
    cuts = range(len(data) + 1)
    orphan.spread([data[:cut] for cut in cuts])
    ledger = service.drain()
    expected = {n: len(data) - frame.end + 1 for n, frame in enumerate(frames, 1)}
    assert service.server.tally() == expected
    # A cut between two frames leaves nothing that could be called damaged.
    torn = len(cuts) - len(frames) - 1
    assert ledger.dropped == {"damaged": torn}
    assert service.kept("bad")
    tell_figure("R15", truncations=len(cuts), intact_lost=0)


def test_flipped_bits(service: Service, orphan: Orphan) -> None:
    """A flipped bit costs the record it hits, and no other."""
    data, frames = orphan.segment.read_bytes(), orphan.frames()
    chance = seeded()
    bits = [chance.randrange(len(data) * 8) for _ in range(2000)]
    orphan.spread([flipped(data, bit) for bit in bits])
    ledger = service.drain()
    hits = Counter(number_at(frames, bit // 8) for bit in bits)
    assert service.server.tally() == {n: len(bits) - hits[n] for n in range(1, 21)}
    # More if it was the number of records that was hit.
    assert ledger.dropped["damaged"] >= len(bits)
    tell_figure("R15", flips=len(bits), intact_lost=0)


def test_every_bit_of_a_head(service: Service, orphan: Orphan) -> None:
    """Whatever bit of magic, length, checksum, signal or count flips, one is lost."""
    data, frames = orphan.segment.read_bytes(), orphan.frames()
    bits = range(frames[7].start * 8, (frames[7].start + 17) * 8)
    orphan.spread([flipped(data, bit) for bit in bits])
    service.drain()
    assert service.server.tally() == {n: len(bits) for n in range(1, 21) if n != 8}


def test_the_loss_is_exact(service: Service, orphan: Orphan) -> None:
    """With its counter, a dead process tells how many records damage has cost."""
    data, frames = orphan.segment.read_bytes(), orphan.frames()
    chance, lost = seeded(), 0
    for number in range(60):
        copy = orphan.copy(number)
        if number % 2:
            cut = chance.randrange(len(data))
            copy.segment.write_bytes(data[:cut])
            lost += sum(frame.end > cut for frame in frames)
        else:
            copy.segment.write_bytes(flipped(data, chance.randrange(len(data) * 8)))
            lost += 1
    ledger = service.drain()
    assert ledger.dropped == {"damaged": lost}
    assert ledger.adopted == 61 * 20
    assert service.server.tally().total() == 61 * 20 - lost


@pytest.mark.parametrize("kind", ["zeros", "noise", "moved"])
def test_a_damaged_page(service: Service, kind: str) -> None:
    """A page of zeros or noise, or one that slipped, costs the records it touches."""
    orphan = service.leave(300)
    data, frames = bytearray(orphan.segment.read_bytes()), orphan.frames()
    start, end = 4096 * 5, 4096 * 7
    if kind == "moved":
        data[start:end] = data[start + 5 : end + 5]
    else:
        data[start:end] = bytes(end - start)
    if kind == "noise":
        data[start:end] = seeded().randbytes(end - start)
    orphan.segment.write_bytes(data)
    hit = {n for n, f in enumerate(frames, 1) if f.start < end + 5 and f.end > start}
    ledger = service.drain()
    if kind == "moved":  # what slipped as a whole is still a row of intact frames
        assert set(range(1, 301)) - service.server.numbers() <= hit
    else:
        hit -= {n for n, f in enumerate(frames, 1) if f.start >= end}
        assert service.server.numbers() == set(range(1, 301)) - hit
    assert ledger.dropped == {"damaged": 300 - len(service.server.numbers())}
    assert service.server.duplicates() == 0
    assert service.kept("bad")


def test_garbage_in_the_place_of_files(service: Service, orphan: Orphan) -> None:
    """Files of noise, empty or too short, are no obstacle; they are kept as bad."""
    for number, content in enumerate((b"", b"\xc1", b"\xc1FX\xff", bytes(40)), 2):
        (orphan.folder / f"{number:06}.seg").write_bytes(content)
    (orphan.folder / "000006.seg").write_bytes(seeded().randbytes(100_000))
    ledger = service.drain()
    assert service.server.tally() == dict.fromkeys(range(1, 21), 1)
    assert not ledger.dropped  # no record was lost
    kept = b"".join(path.read_bytes() for path in service.kept("bad"))
    assert len(kept) >= 100_000


@pytest.mark.parametrize("name", ["counter", "ack", "lock"])
def test_garbage_beside_the_segments(
    service: Service, orphan: Orphan, name: str
) -> None:
    """Noise in the figures or the cursors costs no record that waits."""
    sizes = (0, 1, 15, 16, 17, 48, 72, 4096, 70_000)
    for number, size in enumerate(sizes):
        (orphan.copy(number).folder / name).write_bytes(seeded().randbytes(size))
    (orphan.copy(len(sizes)).folder / name).unlink(missing_ok=True)
    service.drain()
    assert service.server.tally() == dict.fromkeys(range(1, 21), len(sizes) + 2)


def heir_without_descriptors(command: str) -> "subprocess.Popen[str]":
    """Start a process that cannot open a file, and says what it sees."""
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, command],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "name", ["000001.seg", "000002.seg", "ack", "counter", "rejected"]
)
def test_no_descriptors(service: Service, orphan: Orphan, name: str) -> None:
    """A file that cannot be opened now is not damaged: nothing is lost or removed."""
    second = orphan.folder / "000002.seg"
    second.write_bytes(orphan.segment.read_bytes())
    (orphan.folder / "counter").unlink()  # which knows of one segment
    if name == "rejected":  # where the bytes of a damaged frame are kept
        orphan.segment.write_bytes(flipped(second.read_bytes(), 200))
    before = {p: p.read_bytes() for p in orphan.folder.glob("*.seg")}
    command = json.dumps([name, service.fields])
    with heir_without_descriptors(command) as heir:
        assert heir.stdout is not None
        assert json.loads(heir.stdout.readline()) == [True, 0, {}]
        assert {p: p.read_bytes() for p in orphan.folder.glob("*.seg")} == before
        assert not service.kept("bad")
        heir.kill()
    ledger = service.drain()
    damaged = int(name == "rejected")
    assert service.server.tally().total() == 40 - damaged
    assert ledger.dropped == ({"damaged": 1} if damaged else {})
    assert bool(service.kept("bad")) == bool(damaged)


def test_descriptors_again(service: Service, orphan: Orphan) -> None:
    """The process that had none takes the directory over once it has some."""
    service.server.open_port()
    command = json.dumps(["000001.seg", service.fields])
    with heir_without_descriptors(command) as heir:
        assert heir.stdout is not None
        assert json.loads(heir.stdout.readline()) == [True, 0, {}]
        wait_until(lambda: not orphan.folder.exists(), 20)
        told, _ = heir.communicate("\n", timeout=90)
    assert json.loads(told) == [20, 20, {}]
    assert service.server.tally() == dict.fromkeys(range(1, 21), 1)


def test_a_disk_that_fails_for_a_moment(
    service: Service, orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error that passes costs nothing, neither of the dead nor ours."""
    failing = FailingDisk(orphan.folder)
    monkeypatch.setattr(os, "pread", failing.pread)
    service.set_up(durability="record")
    wait_until(lambda: failing.failures)
    assert (fo.status().signals["traces"].adopted, bool(service.kept("bad"))) == (0, 0)
    for number in range(101, 121):
        with fo.flext_span("op", {"n": number}):
            pass
    (failing.folder,) = set(service.folders()) - {orphan.folder}
    failures = failing.failures
    service.server.open_port()
    service.is_away = False
    wait_until(lambda: (fo.flush(0.1), failing.failures > failures)[1])
    failing.folder = None
    ledger = service.drain()
    numbers = {*range(1, 21), *range(101, 121)}
    assert service.server.tally() == dict.fromkeys(numbers, 1)
    assert not ledger.dropped


def test_a_bad_sector(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is never read again counts as damaged, and does not hold up the rest."""
    # Half a minute otherwise, and no setting: nobody would know what to choose.
    module = import_module("flext_observability._pipeline.process_directory")
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    service.server.close_port()
    service.set_up(durability="record")
    for number in range(40):
        with fo.flext_span("op", {"n": number, "fill": "x" * 15_000}):
            pass
    (folder,) = service.folders()
    failing = FailingDisk(folder, bad_from=400_000)
    monkeypatch.setattr(os, "pread", failing.pread)
    service.server.open_port()
    wait_until(lambda: fo.flush(0.1).success)
    ledger = fo.status().signals["traces"]
    assert_balanced()
    count = len(service.server.numbers())
    assert service.server.tally() == dict.fromkeys(range(count), 1)
    assert (ledger.delivered, ledger.dropped) == (count, {"damaged": 40 - count})
    assert 0 < count < 40


class FailingDisk:
    """Reads as the system does, but for the segments of one folder."""

    def __init__(self, folder: Path, bad_from: int = 0) -> None:
        self.folder: Path | None = folder
        self.failures = 0
        self._bad_from = bad_from
        self._pread = os.pread

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read, or fail as a bad sector does."""
        if self.folder is not None and offset + size > self._bad_from:
            inodes = {path.stat().st_ino for path in self.folder.glob("*.seg")}
        else:
            inodes = set[int]()
        if os.fstat(fd).st_ino in inodes:
            self.failures += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._pread(fd, size, offset)


def test_a_future_version(service: Service, orphan: Orphan) -> None:
    """What a later release wrote in its own format is left alone."""
    future = orphan.folder.parent.with_name("v2") / "0-1-1"
    shutil.copytree(orphan.folder, future)
    before = {path: path.read_bytes() for path in future.iterdir()}
    service.drain()
    assert service.server.tally() == dict.fromkeys(range(1, 21), 1)
    assert {path: path.read_bytes() for path in future.iterdir()} == before


Edit = tuple[str, int, int, bytes]

edits = st.lists(
    st.tuples(
        st.sampled_from(("cut", "flip", "fill", "insert", "delete", "copy")),
        st.integers(0, 20_000),
        st.integers(1, 3_000),
        st.binary(min_size=1, max_size=60),
    ),
    max_size=4,
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.lists(edits, min_size=1, max_size=6))
def test_any_damage(
    changes: list[list[Edit]],
    tmp_path_factory: pytest.TempPathFactory,
    service: Service,
    orphan: Orphan,
) -> None:
    """Whatever happens to the bytes: a frame that is still there arrives, as it was."""
    folder = tmp_path_factory.mktemp("model")
    own = folder / orphan.folder.parents[1].name / "v1" / "0-1-1"
    shutil.copytree(orphan.folder, own)
    data = orphan.segment.read_bytes()
    contents = [edited(data, change) for change in changes]
    Orphan(own).spread(contents)
    before = service.server.tally().copy()
    service.spool_dir, service.fields["spool_dir"] = folder, str(folder)
    ledger = service.drain()
    expected = Counter[int]()
    for number, frame in enumerate(orphan.frames(), 1):
        intact = data[frame.start : frame.end]
        expected[number] = sum(content.count(intact) for content in contents)
    assert service.server.tally() - before == +expected
    assert ledger.delivered == expected.total()


def edited(data: bytes, change: list[Edit]) -> bytes:
    """Apply damage after damage."""
    changed = bytearray(data)
    for kind, position, size, noise in change:
        at = position % (len(changed) + 1)
        match kind:
            case "cut":
                del changed[at:]
            case "flip":
                changed[at : at + 1] = bytes(b ^ 1 for b in changed[at : at + 1])
            case "fill":
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            case "insert":
                changed[at:at] = noise
            case "delete":
                del changed[at : at + size]
            case _:  # a piece of the file once more, in the midst of another
                changed[at:at] = data[position // 2 : position // 2 + size]
    return bytes(changed)


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def number_at(frames: list[Extent], offset: int) -> int:
    """The number of the record whose frame covers an offset."""
    return next(n for n, f in enumerate(frames, 1) if f.start <= offset < f.end)
