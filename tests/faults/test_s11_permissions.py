"""S11: nobody else reads the spool, and nobody plants anything in it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flext_observability as fo
from tests.faults.remains import Orphan, Service, wait_until
from tests.faults.server import BAD_REQUEST, FaultServer
from tests.fixtures.programs import clean_environment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")

MASKED = """
import json, os, sys
import flext_observability as fo
umask, fields = json.loads(sys.argv[1])
os.umask(umask)
fo.setup(**fields).unwrap()
for number in range(1, 11):
    with fo.flext_span("op", {"n": number}):
        pass
fo.flush(0.5)
os._exit(0)
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with a spool in a place that is not there yet."""
    with FaultServer() as server:
        yield Service(tmp_path / "state" / "remains", server)


def modes(folder: Path) -> dict[str, int]:
    """Permissions of all that is below a folder."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177, 0o777])
def test_permissions_whatever_the_umask(
    service: Service, tmp_path: Path, umask: int
) -> None:
    """Folders are 0700 and files 0600, and the next process can still read them."""
    # A refused request leaves dead letters; the next ones stay on disk.
    service.server.reply_next(BAD_REQUEST)
    service.server.reply_with(lambda _: None)
    words = [umask, {**service.fields, "durability": "record"}]
    done = subprocess.run(
        [sys.executable, "-c", MASKED, json.dumps(words)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = modes(tmp_path / "state")
    assert any(name.endswith("lock") for name in found)
    assert service.kept("seg")
    for name, mode in found.items():
        is_folder = (tmp_path / "state" / name).is_dir()
        assert mode == (0o700 if is_folder else 0o600), f"{name}: {mode:o}"
    service.drain()


def test_a_mode_that_is_too_wide(service: Service) -> None:
    """A folder of ours that others may enter is closed."""
    orphan = service.leave(3)
    for folder in (orphan.folder, *orphan.folder.parents[:2]):
        folder.chmod(0o777)
    service.server.open_port()
    service.is_away = False
    service.set_up()
    wait_until(lambda: len(service.server.numbers()) == 3)
    for folder in orphan.folder.parents[:2]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["000002.seg", "ack", "counter", "lock"])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "pipe"])
def test_planted_files(service: Service, tmp_path: Path, name: str, kind: str) -> None:
    """A link to a file elsewhere is neither read nor written; a pipe blocks nobody."""
    orphan = service.leave(5)
    victim = tmp_path / "victim"
    victim.write_bytes(orphan.segment.read_bytes())
    planted = orphan.folder / name
    planted.unlink(missing_ok=True)
    if kind == "symbolic":
        planted.symlink_to(victim)
    elif kind == "hard":
        os.link(victim, planted)
    else:
        os.mkfifo(planted)
    before = victim.read_bytes()
    service.server.open_port()
    service.is_away = False
    service.set_up()
    if name == "lock":  # not ours to take: the whole directory is left alone
        wait_until(lambda: fo.status() and not fo.flush(0.3).failure)
        assert orphan.segment.exists()
        assert not service.server.numbers()
    else:
        wait_until(lambda: not orphan.folder.exists())
        assert service.server.numbers() == set(range(1, 6))
        assert service.server.duplicates() == 0
    assert victim.read_bytes() == before


def test_squatting(service: Service, tmp_path: Path) -> None:
    """In a directory that all may write, what others put there first is not used."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    service.set_up(spool_dir=shared)
    folder = Path(str(fo.status().spool_dir)).parent
    fo.shutdown()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    folder.rmdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    folder.symlink_to(mine)
    service.set_up(spool_dir=shared)
    assert fo.status().durability == "memory"
    assert not list(mine.iterdir())


def test_only_equal_destinations(service: Service) -> None:
    """Another endpoint or service is another folder: nobody sends what is not his."""
    orphan = service.leave(5)
    with FaultServer() as other:
        for fields in ({"service_name": "cuckoo"}, {"endpoint": other.endpoint}):
            service.set_up(**fields)
            assert fo.status().spool_dir != str(orphan.folder.parent)
            fo.flush(0.3)
            fo.shutdown()
        assert not other.numbers()
    assert orphan.segment.exists()
    assert Orphan(orphan.folder).frames()
