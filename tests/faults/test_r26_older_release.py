"""R26: what an earlier release left on disk is delivered.

`tests/data/spool_v1` holds what two processes of release 0.1 left: ``fresh`` delivered
nothing, ``acked`` had delivered its first ten spans and log records. Never change it: a
format that cannot read it any more needs a folder of its own beside ``v1``.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from tests.faults.remains import Service, wait_until
from tests.faults.server import FaultServer
from tests.fixtures.library import assert_balanced

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the spool needs flock")

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "spool_v1"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service of today."""
    with FaultServer() as server:
        fields = {"metrics_enabled": True, "logs_enabled": True}
        yield Service(tmp_path / "remains", server, **fields)


def delivered(service: Service, golden: Path, folder: Path) -> Any:
    """Have the directory of a dead process delivered; give the ledger of the traces."""
    if golden != folder:
        shutil.copytree(golden, folder)
    service.set_up()
    wait_until(lambda: not folder.exists())
    assert fo.flush(10).success
    assert_balanced()
    ledger = fo.status().signals["traces"]
    fo.shutdown()
    return ledger


@pytest.mark.parametrize(("kind", "first"), [("fresh", 1), ("acked", 11)])
def test_version_1(service: Service, kind: str, first: int) -> None:
    """Everything that was not acked arrives once, of all three signals."""
    service.set_up()
    folder = Path(str(fo.status().spool_dir))
    assert folder.name == "v1"
    fo.shutdown()
    ledger = delivered(service, GOLDEN / kind, folder / "0-1-1")
    assert ledger.adopted == ledger.delivered == 10
    assert not ledger.dropped
    for signal in ("traces", "logs"):
        expected = dict.fromkeys(range(first, first + 10), 1)
        assert service.server.tally(signal) == expected
    sent = {
        metric.name: metric
        for arrival in service.server.arrivals("metrics")
        for group in arrival.message.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
    }
    (point,) = sent["golden.made"].sum.data_points
    assert point.as_int == first + 9 or point.as_double == first + 9


@pytest.mark.skipif(sys.byteorder != "little", reason="the counter is of its machine")
def test_its_figures(service: Service) -> None:
    """The figures of the dead process are read too: what it never wrote has crashed."""
    service.set_up()
    folder = Path(str(fo.status().spool_dir)) / "0-1-1"
    fo.shutdown()
    shutil.copytree(GOLDEN / "fresh", folder)
    counter = bytearray((folder / "counter").read_bytes())
    accepted = int.from_bytes(counter[:8], "little")
    counter[:8] = (accepted + 7).to_bytes(8, "little")
    (folder / "counter").write_bytes(counter)
    ledger = delivered(service, folder, folder)
    assert ledger.dropped == {"crash": 7}
    assert ledger.delivered == 10
