"""R14: the spool's directory is missing, unwritable, removed, read-only, not ours."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from tests.faults.remains import Service, wait_until
from tests.faults.server import FaultServer
from tests.fixtures.library import assert_balanced
from tests.fixtures.programs import run_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that writes below a directory of its own."""
    with FaultServer() as server:
        yield Service(tmp_path / "remains", server)


def make(first: int, last: int) -> None:
    """Make numbered spans."""
    for number in range(first, last + 1):
        with fo.flext_span("op", {"n": number}):
            pass


def assert_in_memory(service: Service, *words: str) -> None:
    """The library works without the disk, and says why."""
    service.set_up()
    status = fo.status()
    assert status.durability == "memory"
    assert status.spool_dir is None
    for word in words:
        assert word in status.durability_reason
    make(1, 10)
    assert fo.flush().success
    assert service.server.numbers() == set(range(1, 11))
    assert_balanced()


def test_missing(service: Service) -> None:
    """A directory that is not there is made, for this user alone."""
    service.spool_dir = service.spool_dir / "a" / "b"
    service.set_up(spool_dir=service.spool_dir)
    assert fo.status().durability == "batch"
    for folder in (service.spool_dir, service.spool_dir.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place(service: Service) -> None:
    """Where a file stands there can be no directory: memory, with a reason."""
    service.spool_dir.write_text("a file", "utf-8")
    assert_in_memory(service, str(service.spool_dir), "Not a directory", "spool_dir")


# Gives up being root, for whom nothing is unwritable, once all that it needs is loaded:
# the library may lie where only root reads.
UNPRIVILEGED = """
import json, os, sys
import flext_observability as fo
fields = json.loads(sys.argv[1])
def make(first, last):
    for number in range(first, last + 1):
        with fo.flext_span("op", {"n": number}):
            pass
    fo.flush(20.0).unwrap()
fo.setup(**{**fields, "spool_dir": fields["spool_dir"] + "-of-root"}).unwrap()
make(1, 1)
fo.shutdown(20.0).unwrap()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
fo.setup(**fields).unwrap()
make(2, 10)
status = fo.status()
print(json.dumps([status.durability, status.spool_dir, status.durability_reason]))
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user can enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_unwritable(service: Service, reachable: Path) -> None:
    """A directory that takes no files: memory, with a reason."""
    service.spool_dir = reachable / "remains"
    service.spool_dir.mkdir(0o500)
    if os.geteuid() == 0:
        os.chown(service.spool_dir, 65534, 65534)
    fields = {**service.fields, "spool_dir": str(service.spool_dir)}
    done = run_program(UNPRIVILEGED, json.dumps(fields)).ok()
    durability, spool_dir, reason = json.loads(done.stdout)
    assert (durability, spool_dir) == ("memory", None)
    for words in (str(service.spool_dir), "Permission denied"):
        assert words in reason
        assert words in done.stderr
    assert service.server.numbers() == set(range(1, 11))


HOMELESS = """
import json, os, pwd, sys
import flext_observability as fo
fields = json.loads(sys.argv[1])
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
for name in ("HOME", "XDG_STATE_HOME", "FLEXT_OBSERVABILITY_SPOOL_DIR"):
    os.environ.pop(name, None)
fo.setup(**fields).unwrap()
with fo.flext_span("op", {"n": 1}):
    pass
fo.flush(20.0).unwrap()
print(json.dumps([fo.status().durability, fo.status().durability_reason]))
print(fo.setup(**fields, spool_dir="~/spool").error)
sys.argv = ["flext-observability", "drain", "shop"]
import runpy
runpy.run_module("flext_observability", run_name="__main__")
"""


def test_no_home(service: Service) -> None:
    """A user without home and entry, as in containers: memory, and what to set."""
    fields = {k: v for k, v in service.fields.items() if k != "spool_dir"}
    done = run_program(HOMELESS, json.dumps(fields))
    assert done.code == 1, done.stderr
    assert "there is no spool to drain: records cannot wait on disk" in done.stderr
    durability, reason = json.loads(done.lines[0])
    assert durability == "memory"
    assert "spool_dir" in done.lines[1]
    assert "without ~" in done.lines[1]
    for words in ("home directory", "FLEXT_OBSERVABILITY_SPOOL_DIR"):
        assert words in reason
        assert words in done.stderr
    assert service.server.numbers() == {1}


WITHOUT_DESCRIPTORS = """
import json, os, resource, sys, time
import flext_observability as fo
fields = json.loads(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
fo.setup(**fields, durability="record").unwrap()
def make(number):
    with fo.flext_span("op", {"n": number}):
        pass
make(1)
held = []
try:
    while True:
        held.append(os.dup(2))
except OSError:
    pass
time.sleep(1.1)
make(2)
for fd in held:
    os.close(fd)
time.sleep(1.1)
make(3)
os._exit(0)
"""


def test_no_descriptors(service: Service) -> None:
    """A directory that cannot be looked at was not removed: it is written on."""
    service.server.close_port()
    service.is_away = True
    done = run_program(WITHOUT_DESCRIPTORS, json.dumps(service.fields)).ok()
    assert "removed" not in done.stderr
    assert len(service.folders()) == 1
    assert not service.drain().dropped
    assert service.server.tally() == dict.fromkeys(range(1, 4), 1)


def test_a_symbolic_link(service: Service, tmp_path: Path) -> None:
    """A link is refused, for it may lead anywhere, and nothing is written behind it."""
    target = tmp_path / "target"
    target.mkdir()
    service.spool_dir.symlink_to(target)
    assert_in_memory(service, str(service.spool_dir), "symbolic link")
    assert not list(target.iterdir())


def test_a_link_below(service: Service, tmp_path: Path) -> None:
    """A link in the place of the service's own folder is refused as well."""
    service.set_up()
    assert fo.status().spool_dir is not None
    folder = Path(str(fo.status().spool_dir))
    fo.shutdown()
    target = tmp_path / "target"
    shutil.move(folder.parent, target)
    folder.parent.symlink_to(target)
    assert_in_memory(service, "symbolic link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("level", ["root", "service", "version"])
def test_of_another_user(service: Service, level: str) -> None:
    """A directory of somebody else is refused at every level."""
    service.set_up()
    folder = Path(str(fo.status().spool_dir))
    fo.shutdown()
    foreign = {"root": service.spool_dir, "service": folder.parent, "version": folder}
    os.chown(foreign[level], 12345, 12345)
    assert_in_memory(service, "belongs to another user")


@pytest.mark.parametrize("what", ["process", "service", "all"])
def test_removed_while_running(service: Service, what: str) -> None:
    """What is gone is made again; what was written before is still delivered."""
    service.server.close_port()
    service.set_up(durability="record")
    make(1, 20)
    (folder,) = service.folders()
    gone = {"process": folder, "service": folder.parents[1], "all": service.spool_dir}
    shutil.rmtree(gone[what])
    make(21, 40)
    time.sleep(1.1)  # it looks once a second
    make(41, 60)
    (fresh,) = service.folders()
    assert list(fresh.glob("*.seg"))
    assert_balanced()
    service.server.open_port()
    assert fo.flush(20).success
    assert service.server.numbers() == set(range(1, 61))
    assert_balanced()
    assert not fo.status().signals["traces"].dropped


READ_ONLY = """
import json, subprocess, sys
import flext_observability as fo
fields = json.loads(sys.argv[1])
def mount(*options):
    subprocess.check_call(["mount", *options, fields["spool_dir"]])
def make(first, last):
    for number in range(first, last + 1):
        with fo.flext_span("op", {"n": number}):
            pass
mount("-t", "tmpfs", "-o", "size=8m,mode=0700", "none")
fo.setup(**fields).unwrap()
assert fo.status().durability == "record", fo.status()
mount("-o", "remount,ro")
make(1, 50)
assert any("Read-only" in problem for problem in fo.status().problems), fo.status()
mount("-o", "remount,rw")
import time
time.sleep(1.1)
make(51, 100)
assert not any("disk" in problem for problem in fo.status().problems), fo.status()
import os
assert any(name.endswith(".seg") for _, _, names in os.walk(fields["spool_dir"])
           for name in names)
assert fo.flush(10).success, fo.status()
ledger = fo.status().signals["traces"]
assert ledger.delivered == ledger.accepted == 100, ledger
fo.shutdown()
mount("-o", "remount,ro")
fo.setup(**fields).unwrap()
assert fo.status().durability == "memory", fo.status()
assert "Read-only" in fo.status().durability_reason
print("DONE")
"""


def can_mount() -> bool:
    """Whether a user namespace may mount file systems."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a user namespace that mounts")
def test_remounted_read_only(service: Service, tmp_path: Path) -> None:
    """While the disk takes no writes memory takes them; then the disk does again."""
    service.spool_dir.mkdir(0o700)
    program = tmp_path / "program.py"
    program.write_text(READ_ONLY, "utf-8")
    fields: dict[str, Any] = {**service.fields, "durability": "record"}
    start = tmp_path / "start.py"
    start.write_text(
        "import os, sys\n"
        "os.execvp('unshare', ['unshare', '-rm', sys.executable, *sys.argv[1:]])\n",
        "utf-8",
    )
    done = run_program(start, str(program), json.dumps(fields))
    assert "DONE" in done.ok().stdout
    assert service.server.numbers() == set(range(1, 101))


def test_a_directory_of_somebody_else_among_ours(
    service: Service, tmp_path: Path
) -> None:
    """A link planted among the process directories is neither followed nor removed."""
    orphan = service.leave(5)
    target = tmp_path / "target"
    shutil.copytree(orphan.folder, target)
    planted = orphan.folder.with_name("0-1-1")
    planted.symlink_to(target)
    service.server.open_port()
    service.set_up()
    wait_until(lambda: len(service.server.numbers()) == 5)
    wait_until(lambda: not orphan.folder.exists())
    assert planted.is_symlink()
    assert (target / "000001.seg").exists()
    assert service.server.duplicates() == 0
