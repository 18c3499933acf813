"""S12: a malicious spool file costs neither memory nor time, and runs nothing."""

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.remains import HEAD, MAGIC, Service, tell_figure
from tests.faults.server import FaultServer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")

LARGEST = 2**32 - 1
MIB = 1 << 20


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service whose server is away until its records are delivered."""
    with FaultServer() as server:
        yield Service(tmp_path / "remains", server)


class Evil:
    """Makes a file if somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        """Touch the file."""
        return os.mkdir, (self.path,)


def head(length: int, count: int = 1, signal: int = 0, checksum: int = 0) -> bytes:
    """The head of a frame."""
    return HEAD.pack(MAGIC, length, checksum, signal, count)


FILES = {
    "largest length": head(LARGEST, LARGEST),
    "largest length and a body": head(LARGEST) + bytes(100_000),
    "length beyond the file": head(4 * MIB) + bytes(1000),
    "largest signal": head(10, signal=255) + bytes(10),
    "nothing but magics": MAGIC * (MIB // 4),
    "nothing but heads": head(3 * MIB) * (MIB // 4 // HEAD.size * 4),
    "heads within heads": b"".join(head(n * 17, n) for n in range(5000)),
    "empty frames": head(0, 0) * 10_000,
    "zeros": bytes(4 * MIB),
}


@pytest.mark.parametrize("where", ["before", "after", "beside"])
def test_memory_and_time_are_bounded(service: Service, where: str) -> None:
    """What is intact arrives, from a process that has little memory."""
    orphan = service.leave(10)
    good = orphan.segment.read_bytes()
    for number, evil in enumerate(FILES.values()):
        copy = orphan.copy(number)
        if where == "beside":
            (copy.folder / "000000.seg").write_bytes(evil)
        else:
            parts = (evil, good) if where == "before" else (good, evil)
            copy.segment.write_bytes(b"".join(parts))
    began = time.monotonic()
    drain_with_little_memory(service)
    assert service.server.tally() == dict.fromkeys(range(1, 11), len(FILES) + 1)
    assert not service.folders()
    tell_figure("S12", slowest_s=round(time.monotonic() - began, 2))


def test_a_file_of_a_terabyte(service: Service) -> None:
    """A file with a hole of a terabyte is not read to its end."""
    orphan = service.leave(10)
    huge = orphan.folder / "000002.seg"
    huge.touch()
    try:
        os.truncate(huge, 1 << 40)
    except OSError:
        pytest.skip("this file system has no such files")
    drain_with_little_memory(service)
    assert service.server.numbers() == set(range(1, 11))
    assert not service.folders()


def test_nothing_is_unpickled(service: Service, tmp_path: Path) -> None:
    """Every file may be a pickle; none is loaded."""
    orphan = service.leave(10)
    trap = tmp_path / "trap"
    evil = pickle.dumps(Evil(trap))
    for name in ("ack", "counter", "lock", "000002.seg"):
        (orphan.folder / name).write_bytes(evil)
    service.drain()
    assert service.server.numbers() == set(range(1, 11))
    assert not trap.exists()


def drain_with_little_memory(service: Service) -> None:
    """Deliver in a process that may use 1 GiB of addresses."""
    heir = service.heir(1 << 30)
    _, said = heir.communicate(timeout=90)
    assert heir.returncode == 0, said.decode()
    assert b"MemoryError" not in said
