"""What the pipe must not get wrong: found in review, kept as promises."""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from opentelemetry.metrics import CallbackOptions, Observation

import flext_observability as fo
from tests.fixtures.collector import (
    BAD_REQUEST,
    Answer,
    Collector,
    closed_port,
)
from tests.fixtures.library import assert_balanced, flush, start
from tests.fixtures.programs import SPOOL_DIR, Ended, run_program
from tests.fixtures.web_service import WebService


def test_metrics_are_taken_during_an_outage() -> None:
    """A collector that is away keeps no figure from being taken."""
    handle = fo.setup(
        "shop",
        endpoint=f"http://127.0.0.1:{closed_port()}",
        protocol="http/protobuf",
        metrics_export_interval_s=1,
    ).unwrap()
    taken = 0

    def count(_: CallbackOptions) -> Iterable[Observation]:
        nonlocal taken
        taken += 1
        return [Observation(taken)]

    handle.meter.create_observable_gauge("taken", [count])
    deadline = time.monotonic() + 20
    while taken < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert taken >= 3
    assert_balanced()


def test_last_metrics_are_taken_at_exit_in_an_outage(tmp_path: Path) -> None:
    """The last value of a counter waits on disk, whoever is away."""
    port = closed_port()
    program = """
        import sys
        import flext_observability as fo

        fo.setup(
            "shop", endpoint=sys.argv[1], protocol="http/protobuf", logs_enabled=False
        ).unwrap()
        with fo.flext_span("fails to leave"):
            pass
        fo.flush(0.5)
        fo.flext_counter("orders").add(41)
    """
    run_program(program, f"http://127.0.0.1:{port}").ok()
    with Collector("http/protobuf", port=port) as server:
        fo.setup("shop", endpoint=server.endpoint, protocol=server.protocol).unwrap()
        assert server.wait_for(lambda: server.metrics("orders")) is not None
        assert server.metric("orders").value == 41
        fo.shutdown()


def test_a_flush_waits_for_its_own_records(http_collector: Collector) -> None:
    """Records that were adopted, or lost with their process, do not stand in for it."""
    program = """
        import os, sys
        import flext_observability as fo

        fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()
        for number in range(3000):
            with fo.flext_span("theirs"):
                pass
        os._exit(9)
    """
    http_collector.answer_always(Answer(503))
    assert run_program(program, http_collector.endpoint).code == 9
    http_collector.answer_always(Answer())
    start(http_collector)
    with fo.flext_span("mine"):
        pass
    flush(20)
    assert len(http_collector.spans("mine")) == 1
    assert_balanced()


def test_what_exit_gave_up_is_no_crash(
    http_collector: Collector, tmp_path: Path
) -> None:
    """What a program counted as lost at its end, the next one does not count again."""
    program = """
        import json, resource, sys
        import flext_observability as fo

        endpoint = "http://127.0.0.1:" + sys.argv[1]
        fo.setup(
            "shop", endpoint=endpoint, protocol="http/protobuf", metrics_enabled=False
        ).unwrap()
        with fo.flext_span("first"):
            pass
        fo.flush(0.3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        for number in range(300):
            with fo.flext_span("later"):
                pass
        fo.flush(0.3)
        fo.shutdown(0.3)
        ledger = fo.status().signals["traces"]
        print(json.dumps([ledger.accepted, dict(ledger.dropped), ledger.pending]))
    """
    pytest.importorskip("resource")
    port = closed_port()
    ended = run_program(program, str(port)).ok()
    accepted, dropped, pending = json.loads(ended.lines[-1])
    assert accepted == 301
    assert dropped.get("exit", 0) + pending == 301
    with Collector("http/protobuf", port=port) as server:
        fo.setup(
            "shop",
            endpoint=server.endpoint,
            protocol=server.protocol,
            metrics_enabled=False,
        ).unwrap()
        server.wait_for(lambda: len(server.spans()) == pending)
        flush()
        ledger = fo.status().signals["traces"]
        assert ledger.adopted == pending
        assert "crash" not in ledger.dropped
        fo.shutdown()


def test_callbacks_that_raise_anything(http_collector: Collector) -> None:
    """What is no Exception ends no thread of ours either."""

    def redact(_name: str, value: object) -> object:
        raise asyncio.CancelledError(value)

    handle = start(
        http_collector, metrics_export_interval_s=1, redact=redact, logs_enabled=False
    )
    calls = 0

    def leave(_: CallbackOptions) -> Iterable[Observation]:
        nonlocal calls
        calls += 1
        raise SystemExit(3)

    handle.meter.create_observable_gauge("leave", [leave])
    deadline = time.monotonic() + 20
    while calls < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert calls >= 2
    fo.flext_counter("kept").add(2)
    with fo.flext_span("work", {"user": "ann"}):
        pass
    assert fo.flush(20).success
    assert http_collector.span("work").attributes["user"] == "[redacted]"
    assert http_collector.metric("kept").value == 2, "other instruments are collected"


@pytest.mark.parametrize("header", ["Bearer canary-9f8e7d", "canary-9f8e7d"])
def test_a_server_that_echoes_our_credentials(
    collector: Collector, header: str
) -> None:
    """What we sent it is not shown, whatever it answers."""
    collector.answer_always(Answer(401, message=f"bad credentials: {header}"))
    start(collector, headers={"x-api-key": header}, metrics_enabled=False)
    with fo.flext_span("work"):
        pass
    result = fo.flush(1.0)
    status = fo.status()
    for shown in (result.error, status.last_error, *status.problems, repr(status)):
        assert "canary-9f8e7d" not in str(shown)


def test_a_server_that_finds_everything_too_large(http_collector: Collector) -> None:
    """Searching for a size it takes ends; what it never takes is rejected."""
    http_collector.answer_always(Answer(413))
    start(http_collector, metrics_enabled=False, logs_enabled=False)
    for _ in range(1500):
        with fo.flext_span("work"):
            pass
    flush(20)
    ledger = fo.status().signals["traces"]
    assert ledger.rejected == ledger.accepted == 1500
    assert len(http_collector.requests("traces")) < 600


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs fork")
def test_drain_sends_what_a_dead_process_left() -> None:
    """`flext-observability drain` brings records home, and says how many."""
    port = closed_port()
    program = """
        import os, sys
        import flext_observability as fo

        fo.setup("shop", endpoint=sys.argv[1], durability="record").unwrap()
        for number in range(25):
            with fo.flext_span("left"):
                pass
        os._exit(0)
    """
    endpoint = f"http://127.0.0.1:{port}"
    run_program(program, endpoint).ok()
    failed = drain(endpoint, 1)
    assert failed.code == 1
    assert "25 traces" in failed.stderr
    with Collector("grpc", port=port) as server:
        ended = drain(endpoint, 20).ok()
        assert "25 of 25 traces" in ended.stdout
        assert len(server.spans("left")) == 25


LEAVE = """
    import logging, os, sys
    import flext_observability as fo

    fo.setup("shop", endpoint=sys.argv[1], durability="record").unwrap()
    for number in range(25):
        with fo.flext_span("left"):
            logging.getLogger("shop").warning("left")
    fo.flext_counter("left").add(1)
    fo.flush(0.5)
    os._exit(0)
"""

DRAIN = """
    import runpy, sys

    sys.argv = ["flext-observability", "drain", *sys.argv[1:]]
    runpy.run_module("flext_observability", run_name="__main__", alter_sys=True)
"""


def drain(
    endpoint: str, seconds: int, *more: str, service: str = "shop", **env: str
) -> Ended:
    """Run the command."""
    options = ("--endpoint", endpoint, "--seconds", str(seconds), *more)
    return run_program(DRAIN, service, *options, env=env)


def spooled(folder: Path) -> dict[str, int]:
    """Every file and folder, and the bytes of those that hold records."""
    return {
        str(each.relative_to(folder)): each.stat().st_size * (each.suffix == ".seg")
        for each in folder.rglob("*")
    }


@pytest.fixture
def spool() -> Path:
    return Path(os.environ[SPOOL_DIR])


def test_a_drain_makes_no_telemetry(spool: Path) -> None:
    """What it sends is what was left, to the record, however often it failed before."""
    port = closed_port()
    endpoint = f"http://127.0.0.1:{port}"
    run_program(LEAVE, endpoint).ok()
    before = spooled(spool)
    with WebService() as beside:
        other = {
            "PROMETHEUS_PUSH_GATEWAY": beside.address,
            "OTEL_METRICS_EXPORTER": "none",  # now: the records are from before
        }
        for _ in range(2):
            failed = drain(endpoint, 1, **other)
            assert failed.code == 1
            assert "delivered: 0 of 25 traces" in failed.stderr
            assert spooled(spool) == before
        with Collector("grpc", port=port) as server:
            ended = drain(endpoint, 20, **other).ok()
            metrics = len(server.metrics())
            assert metrics > 0
            assert ended.stdout == (
                "delivered: 25 of 25 traces, "
                f"{metrics} of {metrics} metrics, 25 of 25 logs\n"
            )
            assert len(server.spans()) == len(server.logs()) == 25
            again = drain(endpoint, 20, **other).ok()
            assert again.stdout == (
                "delivered: 0 of 0 traces, 0 of 0 metrics, 0 of 0 logs\n"
            )
            assert len(server.metrics()) == metrics
        assert beside.asked == []
    assert not any(spooled(spool).values())


def test_a_drain_of_what_is_not_there(spool: Path, tmp_path: Path) -> None:
    """A wrong service, endpoint or directory fails, names what there is, makes none."""
    endpoint = f"http://127.0.0.1:{closed_port()}"
    run_program(LEAVE, endpoint).ok()
    before = spooled(spool)
    (folder,) = spool.iterdir()
    elsewhere = drain("http://127.0.0.1:1", 20)
    assert elsewhere.code == 1
    assert (
        "nothing waits for service shop at endpoint http://127.0.0.1:1 (grpc) in "
        f"{spool}; records for other endpoints are in {folder}: "
    ) in elsewhere.stderr
    nobody = drain(endpoint, 20, service="sho")
    assert nobody.code == 1
    assert nobody.stderr.endswith(f"(grpc) in {spool}\n")
    missing = tmp_path / "missing"
    nowhere = drain(endpoint, 20, "--spool-dir", str(missing))
    assert nowhere.code == 1
    assert f"in {missing}\n" in nowhere.stderr
    assert not missing.exists()
    assert spooled(spool) == before


def test_a_drain_of_an_empty_folder_names_others(spool: Path) -> None:
    """Nothing waits here, which is success; where something waits is said."""
    with Collector("grpc") as server:
        run_program(LEAVE, server.endpoint).ok()
        drain(server.endpoint, 20).ok()
        run_program(LEAVE, f"http://127.0.0.1:{closed_port()}").ok()
        ended = drain(server.endpoint, 20).ok()
    assert "delivered: 0 of 0 traces" in ended.stdout
    (other,) = {name.partition("/")[0] for name, size in spooled(spool).items() if size}
    assert f"records for other endpoints are in {spool / other}" in ended.stdout


def test_a_drain_that_is_refused(spool: Path) -> None:
    """Refused records are no success; the next time nothing waits any more."""
    port = closed_port()
    run_program(LEAVE, f"http://127.0.0.1:{port}").ok()
    with Collector("grpc", port=port) as server:
        server.answer_always(BAD_REQUEST, signals=["traces"])
        failed = drain(server.endpoint, 20)
        assert failed.code == 1
        assert "delivered: 0 of 25 traces (25 rejected), " in failed.stderr
        assert ", 25 of 25 logs; " in failed.stderr
        (kept,) = spool.glob("*/v1/rejected")
        assert str(kept) in failed.stderr
        assert "delivered: 0 of 0 traces" in drain(server.endpoint, 20).ok().stdout


@pytest.mark.parametrize("durability", ["memory", "batch"])
def test_records_that_keep_coming_make_few_requests(
    http_collector: Collector, durability: str
) -> None:
    """Requests are full as long as nobody waits; the last one is not waited for."""
    start(http_collector, durability=durability)
    for _ in range(10_000):
        with fo.flext_span("one of many"):
            pass
    http_collector.wait_for(lambda: len(http_collector.requests("traces")) >= 1, 30)
    flush()
    # Each may begin with a request of what the pause before it had gathered.
    assert len(http_collector.requests("traces")) <= 10
    assert len(http_collector.spans("one of many")) == 10_000


def test_a_flush_of_several_requests_waits_for_nothing(
    http_collector: Collector,
) -> None:
    """What is left after a full request goes at once when somebody waits for it."""
    start(http_collector, durability="memory")
    best_s = 60.0
    for _ in range(5):  # the machine is shared
        for _ in range(2500):
            with fo.flext_span("one of many"):
                pass
        began = time.monotonic()
        assert fo.flush(20).success
        best_s = min(best_s, time.monotonic() - began)
    assert best_s < 0.8  # records gather for about a second


def test_a_small_spool_is_emptied_as_fast_as_it_fills(
    http_collector: Collector, tmp_path: Path
) -> None:
    """Where there is little room, nothing gathers: the next request goes at once."""
    start(
        http_collector,
        durability="batch",
        spool_dir=tmp_path / "small",
        spool_limit_bytes=1 << 20,
        max_attribute_length=20_000,
    )
    for _ in range(150):  # 3 MB in two seconds
        with fo.flext_span("large", attributes={"text": "x" * 20_000}):
            pass
        time.sleep(0.012)
    flush()
    ledger = fo.status().signals["traces"]
    assert ledger.delivered == 150, ledger


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_what_many_dead_processes_left_goes_at_once(tmp_path: Path) -> None:
    """Each left a few records; the next process does not pause between them."""
    program = """
        import os, sys
        import flext_observability as fo

        fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf",
                 durability="record", metrics_enabled=False).unwrap()
        for _ in range(20):
            pid = os.fork()
            if not pid:
                for _ in range(5):
                    with fo.flext_span("theirs"):
                        pass
                os.kill(os.getpid(), 9)
            os.waitpid(pid, 0)
        os._exit(0)
    """
    port = closed_port()
    run_program(program, f"http://127.0.0.1:{port}").ok()
    with Collector("http/protobuf", port=port) as server:
        began = time.monotonic()
        fo.setup("shop", endpoint=server.endpoint, protocol=server.protocol).unwrap()
        with fo.flext_span("ours"):
            pass
        server.wait_for(lambda: len(server.spans("theirs")) == 100, 30)
        server.wait_for(lambda: server.spans("ours"), 30)
        assert time.monotonic() - began < 15  # 20 pauses would take as many seconds
        fo.shutdown()
