"""R29: `status()` tells the truth about a collector, a spool and drops in trouble."""

import contextlib
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

import flext_observability as fo
from tests.faults.rig import Child, Run, assert_balanced
from tests.faults.server import HANG, FaultServer, Reply
from tests.fixtures.collector import ACCEPT, UNAUTHENTICATED, Collector
from tests.fixtures.collector import HANG as GRPC_HANG
from tests.fixtures.library import start
from tests.fixtures.programs import run_program

WITHIN_S = 10.0
SPOOL_BYTES = 1 << 20


def wait_told(ask: Callable[[], tuple[bool, tuple[str, ...]]], *words: str) -> float:
    """Give the seconds until it is not ready and one problem has all the words."""
    began = time.monotonic()
    while True:
        ready, problems = ask()
        took_s = time.monotonic() - began
        if any(all(w in problem.lower() for w in words) for problem in problems):
            assert not ready
            return took_s
        assert took_s < WITHIN_S, f"{words} not told: {problems}"
        time.sleep(0.05)


def wait_ready(ask: Callable[[], tuple[bool, tuple[str, ...]]]) -> float:
    """Give the seconds until it is ready again."""
    began = time.monotonic()
    while not (state := ask())[0]:
        assert time.monotonic() - began < 2 * WITHIN_S, state
        time.sleep(0.05)
    assert state[1] == ()
    return time.monotonic() - began


def asked(child: Child) -> Callable[[], tuple[bool, tuple[str, ...]]]:
    """Ask a child for what `status()` says; it must be alive all the time."""

    def ask() -> tuple[bool, tuple[str, ...]]:
        status = child.status()
        assert status["running"]
        assert_balanced(status)
        return status["ready"], tuple(status["problems"])

    return ask


def here() -> tuple[bool, tuple[str, ...]]:
    """Ask in this process."""
    status = fo.status()
    assert status.running
    assert_balanced(status)
    return status.ready, status.problems


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ("closed", "refused"),
        pytest.param("hanging", "no answer", marks=pytest.mark.slow),
        pytest.param("busy", "503", marks=pytest.mark.slow),
    ],
)
def test_collector_down(
    run: Run,
    faults: FaultServer,
    trouble: str,
    word: str,
    figure: Callable[..., None],
) -> None:
    """Within 10 s it is not ready and says why, stays alive, and recovers by itself."""
    child = run.start(count=10, then="serve").wait_count(10)
    child.ask("flush 20")
    ask = asked(child)
    assert ask() == (True, ())
    if trouble == "closed":
        faults.close_port()
    else:
        faults.reply_always(HANG if trouble == "hanging" else Reply(503))
    child.ask("make 10")
    told_s = wait_told(ask, "traces", word)

    faults.reply_always(Reply())
    if trouble == "hanging":
        faults.bounce(0.1)  # who hangs is restarted, which cuts its connections
    elif trouble == "closed":
        faults.open_port()
    ready_s = wait_ready(ask)
    figure(
        "R29",
        trouble=trouble,
        told_after_s=round(told_s, 2),
        ready_after_s=round(ready_s, 2),
    )
    assert_balanced(child.end().status)
    assert not run.lost()


@pytest.mark.parametrize(
    "trouble", ["refused", pytest.param("no answer", marks=pytest.mark.slow)]
)
def test_collector_down_over_grpc(
    grpc_collector: Collector, trouble: str, figure: Callable[..., None]
) -> None:
    """Over gRPC too."""
    start(grpc_collector, metrics_enabled=False)
    with fo.flext_span("before"):
        pass
    fo.flush(20.0).unwrap()
    assert here() == (True, ())
    is_closed = trouble == "refused"
    if is_closed:
        grpc_collector.close()
    else:
        grpc_collector.answer_always(GRPC_HANG)
    with fo.flext_span("meanwhile"):
        pass
    told_s = wait_told(here, "traces", trouble)
    with contextlib.ExitStack() as stack:
        again = grpc_collector
        if is_closed:
            again = stack.enter_context(Collector("grpc", port=grpc_collector.port))
        grpc_collector.answer_always(ACCEPT)
        ready_s = wait_ready(here)
        assert again.span("meanwhile")
        fo.shutdown(5.0).unwrap()
    figure(
        "R29",
        grpc=trouble.replace(" ", "_"),
        told_after_s=round(told_s, 2),
        ready_after_s=round(ready_s, 2),
    )
    assert_balanced(fo.status())


def test_credentials_refused(collector: Collector, figure: Callable[..., None]) -> None:
    """Refused credentials are named, with the setting to look at; nothing is burnt."""
    collector.answer_always(UNAUTHENTICATED)
    start(collector, headers={"authorization": "Bearer wrong"}, metrics_enabled=False)
    with fo.flext_span("held"):
        pass
    told_s = wait_told(here, "traces", "credentials", "headers")
    _, problems = here()
    assert not any("wrong" in problem for problem in problems)
    figure("R29", credentials=collector.protocol, told_after_s=round(told_s, 2))
    collector.answer_always(ACCEPT)
    fo.flush(20.0).unwrap()  # someone corrected it; else it is asked again in 30 s
    assert here() == (True, ())
    assert collector.span("held")
    assert_balanced(fo.status())


def test_full_spool(run: Run, faults: FaultServer, figure: Callable[..., None]) -> None:
    """A spool above 80 % of its limit is told; so are drops, once there are some."""
    faults.close_port()
    child = run.start(
        count=10, then="serve", setup={"spool_limit_bytes": SPOOL_BYTES}
    ).wait_count(10)
    ask = asked(child)
    while (status := child.status())["spool_bytes"] <= 0.82 * SPOOL_BYTES:
        assert not sum(status["signals"]["traces"]["dropped"].values())
        child.ask("make 500")
    told_s = wait_told(ask, "spool", "% full")
    spool_bytes = child.status()["spool_bytes"]
    figure("R29", spool_bytes=spool_bytes, told_after_s=round(told_s, 2))

    child.ask("make 10000")
    told_s = wait_told(ask, "traces", "dropped")
    figure("R29", trouble="drops", told_after_s=round(told_s, 2))
    faults.open_port()
    child.ask("flush 15")
    ended = child.end()
    assert_balanced(ended.status)
    dropped = ended.status["signals"]["traces"]["dropped"]
    assert dropped["spool_full"] > 0
    assert ended.status["signals"]["traces"]["pending"] == 0
    assert len(run.lost()) == sum(dropped.values())


def test_drops_from_a_full_queue(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a disk, drops from the queue make it not ready, by signal and reason."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
    http_collector.answer_always(GRPC_HANG)
    start(http_collector, durability="memory", metrics_enabled=False)
    for _ in range(5000):
        with fo.flext_span("too many"):
            pass
    wait_told(here, "traces", "dropped", "queue_full")
    assert fo.status().signals["traces"].dropped["queue_full"] > 0
    http_collector.close()
    fo.shutdown(0.2)
    assert not fo.status().ready
    assert_balanced(fo.status())


DISK = """
import json, resource, sys, time
import flext_observability as fo

def make(count):
    for _ in range(count):
        with fo.flext_span("disk"):
            pass

def wait(probe):
    began = time.monotonic()
    while not probe(fo.status()):
        make(1)  # a disk in trouble is tried with the next record, else every 10 s
        assert time.monotonic() - began < 10, fo.status()
        time.sleep(0.02)
    return time.monotonic() - began

fo.setup(**json.loads(sys.argv[1])).unwrap()
make(10)
fo.flush(20.0).unwrap()
assert fo.status().ready, fo.status()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
make(10)
told_s = wait(lambda s: any("disk refuses writes" in p for p in s.problems))
assert not fo.status().ready
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
ready_s = wait(lambda s: s.ready)
make(10)
assert fo.shutdown(5.0).success, fo.status()
ledger = fo.status().signals["traces"]
print(told_s, ready_s, ledger.accepted, ledger.delivered)
"""


def test_disk_refuses_writes(
    run: Run, faults: FaultServer, figure: Callable[..., None]
) -> None:
    """A disk that takes nothing is named; once it does again, all is well again."""
    pytest.importorskip("resource")
    done = run_program(textwrap.dedent(DISK), run.settings(durability="batch")).ok()
    told_s, ready_s, accepted, delivered = map(float, done.stdout.split())
    figure(
        "R29",
        trouble="disk",
        told_after_s=round(told_s, 2),
        ready_after_s=round(ready_s, 2),
    )
    spans = [s for a in faults.arrivals("traces") for s in a.records()]
    assert accepted == delivered == len(spans)


def test_ready_only_while_it_runs(http_collector: Collector) -> None:
    """Before setup and after shutdown it is not ready; in between it is."""
    assert not fo.status().ready
    start(http_collector)
    assert here() == (True, ())
    fo.shutdown(5.0).unwrap()
    status: Any = fo.status()
    assert (status.ready, status.running, status.problems) == (False, False, ())
