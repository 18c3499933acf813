"""R16: many processes, one state directory, some of them killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flext_observability as fo
from tests.faults.remains import Service, seeded, tell_figure
from tests.faults.server import FaultServer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")

STEP = 10**6


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with one spool for all its processes."""
    with FaultServer() as server:
        yield Service(tmp_path / "remains", server)


def test_eight_processes_four_killed(service: Service) -> None:
    """Every finished record arrives; a kill repeats at most one batch."""
    chance = seeded()
    living = [service.start(1500, first=turn * STEP) for turn in range(4)]
    doomed = [service.start(None, first=turn * STEP) for turn in range(4, 8)]
    finished: set[int] = set()
    for process in doomed:
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 1500)):
            assert process.stdout.readline()
        process.kill()
    for process in (*living, *doomed):
        said, _ = process.communicate(timeout=90)
        finished.update(int(line) for line in said.split())
    # What was read before the kill counts too.
    for turn in range(4, 8):
        mine = [n for n in finished if n // STEP == turn]
        finished.update(range(turn * STEP + 1, max(mine, default=turn * STEP) + 1))
    service.drain()
    assert finished <= service.server.numbers()
    # Each of the four that ended did so in os._exit, which is a kill to the spool.
    largest = max(arrival.count for arrival in service.server.arrivals())
    assert service.server.duplicates() <= 8 * largest
    tell_figure("R16", lost=0, duplicates=service.server.duplicates())


def test_many_heirs(service: Service) -> None:
    """Four processes that adopt at once deliver each record once."""
    service.die(*[40] * 6)
    heirs = [service.heir() for _ in range(4)]
    for heir in heirs:
        _, said = heir.communicate(timeout=90)
        assert heir.returncode == 0, said.decode()
    expected = {turn * STEP + n for turn in range(6) for n in range(1, 41)}
    assert service.server.numbers() == expected
    assert service.server.duplicates() == 0
    assert not service.folders()


def test_the_living_are_left_alone(service: Service) -> None:
    """Nobody takes the records of a process that still runs."""
    service.server.close_port()
    with service.start(None, durability="record") as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        (folder,) = service.folders()
        service.server.open_port()
        service.set_up()
        time.sleep(0.5)
        assert folder.exists()
        fo.shutdown()
        process.kill()
        said = process.stdout.read().split()
    finished = set(range(1, 51)) | {int(word) for word in said}
    service.drain()
    assert finished <= service.server.numbers()


def test_two_services_share_nothing(service: Service, tmp_path: Path) -> None:
    """A service never sends what another one left, nor what was meant for elsewhere."""
    service.leave(5)
    with FaultServer() as other:
        neighbour = Service(service.spool_dir, other, service_name="neighbour")
        elsewhere = Service(service.spool_dir, other)
        for each in (neighbour, elsewhere):
            each.set_up()
            time.sleep(0.3)
        assert not other.arrivals()
    assert len(service.folders()) == 1
    service.drain()
    assert service.server.numbers() == set(range(1, 6))
