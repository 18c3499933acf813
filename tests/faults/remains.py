"""What dead processes leave on disk: made for real, copied, damaged, delivered.

A segment is a row of frames, ``magic u32 | length u32 | crc32 u32 | signal u8 | count
u32 | OTLP bytes``, little-endian.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flext_observability as fo
from tests.faults.server import FaultServer
from tests.fixtures.library import assert_balanced
from tests.fixtures.programs import clean_environment

HEAD = struct.Struct("<4sIIBI")
MAGIC = b"\xc1FX\xff"

# Makes numbered spans, says each number once it is finished, ends without any handler.
PROGRAM = """
import json, os, sys
import flext_observability as fo
first, count, fields = json.loads(sys.argv[1])
fo.setup(**fields).unwrap()
number = first
while count is None or number < first + count:
    number += 1
    with fo.flext_span("op", {"n": number}):
        pass
    os.write(1, b"%d\\n" % number)
os._exit(0)
"""

# Delivers until no directory of a dead process is left, with little memory if told so.
HEIR = """
import json, resource, sys, time
from pathlib import Path
import flext_observability as fo
memory, fields = json.loads(sys.argv[1])
if memory:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
fo.setup(**fields).unwrap()
spool = Path(fields["spool_dir"])
def left():
    fo.flush(0.05)
    pending = any(ledger.pending for ledger in fo.status().signals.values())
    return pending or any(spool.glob("*/v1/*/lock"))
deadline = time.monotonic() + 30
while left() and time.monotonic() < deadline:
    time.sleep(0.01)
fo.shutdown()
# Only what is its own: other heirs may still hold their directories.
sys.exit(any(ledger.pending for ledger in fo.status().signals.values()))
"""


class Extent(NamedTuple):
    """Where a frame stands in its segment."""

    start: int
    end: int


@dataclass(frozen=True)
class Orphan:
    """The directory of a dead process."""

    folder: Path

    @property
    def segment(self) -> Path:
        """Its first segment."""
        return self.folder / "000001.seg"

    def frames(self) -> list[Extent]:
        """The frames of the first segment."""
        data, at, found = self.segment.read_bytes(), 0, list[Extent]()
        while at < len(data):
            magic, length, *_ = HEAD.unpack_from(data, at)
            assert magic == MAGIC, f"no frame at {at}"
            found.append(Extent(at, at + HEAD.size + length))
            at = found[-1].end
        return found

    def copy(self, number: int) -> "Orphan":
        """Make another dead process that left the same."""
        folder = self.folder.with_name(f"copy-{number}-1")
        shutil.copytree(self.folder, folder)
        return Orphan(folder)

    def spread(self, contents: list[bytes]) -> None:
        """Put these bytes into segments, instead of its own.

        Without its counter the damaged bytes themselves must tell what is lost.
        """
        (self.folder / "counter").unlink()
        for number, content in enumerate(contents, 1):
            (self.folder / f"{number:06}.seg").write_bytes(content)


class Service:
    """One service: its processes die while the server is away, a later one delivers.

    Args:
        spool_dir: of all its processes.
        server: where its records go.
        fields: further arguments of ``fo.setup``.
    """

    def __init__(self, spool_dir: Path, server: FaultServer, **fields: Any) -> None:
        self.spool_dir = spool_dir
        self.server = server
        self.is_away = False
        self.fields: dict[str, Any] = {
            "service_name": "shop",
            "endpoint": server.endpoint,
            "protocol": server.protocol,
            "metrics_enabled": False,
            "logs_enabled": False,
            "spool_dir": str(spool_dir),
            **fields,
        }

    # -- dying

    def die(self, *counts: int) -> list[Orphan]:
        """Have processes die one after the other; see ``leave``."""
        step = 10**6
        return [
            self.leave(count, first=step * turn) for turn, count in enumerate(counts)
        ]

    def start(
        self, count: int | None, first: int = 0, **fields: Any
    ) -> "subprocess.Popen[bytes]":
        """Start a process that makes records, one frame each; ``None`` for ever."""
        words = [first, count, {**self.fields, "durability": "record", **fields}]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(words)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def leave(self, count: int, first: int = 0, **fields: Any) -> Orphan:
        """Have a process make records and die at once, with the server away."""
        if not self.is_away:
            self.server.close_port()
            self.is_away = True
        before = set(self.folders())
        with self.start(count, first, **fields) as process:
            said, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        assert len(said.split()) == count
        (folder,) = set(self.folders()) - before
        return Orphan(folder)

    # -- what is there

    def folders(self) -> list[Path]:
        """The directories of all processes."""
        return [path.parent for path in self.spool_dir.glob("*/v1/*/lock")]

    def kept(self, suffix: str) -> list[Path]:
        """Files with damaged bytes (``bad``) or refused records (``seg``)."""
        return sorted(self.spool_dir.glob(f"*/v1/rejected/*.{suffix}"))

    # -- delivering

    def set_up(self, **fields: Any) -> None:
        """Set the library up in this process."""
        fo.setup(**{**self.fields, **fields}).unwrap()

    def heir(self, memory_bytes: int = 0) -> "subprocess.Popen[bytes]":
        """Start a process that delivers what the dead left."""
        if self.is_away:
            self.server.open_port()
            self.is_away = False
        return subprocess.Popen(
            [sys.executable, "-c", HEIR, json.dumps([memory_bytes, self.fields])],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def drain(self, timeout_s: float = 30.0) -> Any:
        """Deliver in this process what the dead left; nothing stays behind.

        Returns:
            The ledger of the traces at the end, which balances.
        """
        if self.is_away:
            self.server.open_port()
            self.is_away = False
        self.set_up()
        wait_until(lambda: not self._left(), timeout_s)
        assert_balanced()
        ledger = fo.status().signals["traces"]
        fo.shutdown()
        assert not self.folders()
        return ledger

    def _left(self) -> bool:
        fo.flush(0.05)  # at once, instead of letting records gather
        pending = any(ledger.pending for ledger in fo.status().signals.values())
        # Our own notes what the dead have lost, until we end.
        mine = f"-{os.getpid()}-"
        return pending or any(mine not in folder.name for folder in self.folders())


def wait_until(probe: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until a probe is true that nobody can notify us of."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.005)


def seeded() -> random.Random:
    """Random numbers; a failed test shows how to get the same ones again."""
    seed = os.environ.get("FLEXT_FAULT_SEED") or str(
        random.SystemRandom().getrandbits(32)
    )
    print(f"FLEXT_FAULT_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)  # noqa: S311 - must repeat, is no secret


def tell_figure(promise: str, **values: object) -> None:
    """Print what was measured."""
    for name, value in values.items():
        print(f"FIGURE {promise} {name}={value}")  # noqa: T201 - read by the report
