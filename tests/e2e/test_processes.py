"""Whole processes: no collector, wrong port, two processes, forks, plain exits."""

import multiprocessing
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.collector import (
    HANG,
    Collector,
    Protocol,
    closed_port,
    silent_port,
)
from tests.fixtures.programs import Ended, run_program

needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no fork"
)

# For programs whose exit nobody measures: a stall shall cost them no record.
PATIENT = {"FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "20"}

# A small program that uses every signal and says when it is done.
WORKING_PROGRAM = """
import logging, sys, time
import flext_observability as fo

fo.setup("worker", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
logging.getLogger("worker").setLevel(logging.INFO)

@fo.flext_monitor_function("work")
def work(number):
    logging.getLogger("worker").info("working on %d", number)
    fo.flext_counter("worked").add(1)

for number in range(20):
    work(number)
print("done", time.time())
"""


@pytest.fixture(params=["closed", "silent", "hanging"])
def dead_port(request: pytest.FixtureRequest, protocol: Protocol) -> Iterator[int]:
    """A port behind which no collector does its work."""
    if request.param == "closed":
        yield closed_port()
    elif request.param == "silent":
        with silent_port() as port:
            yield port
    else:
        with Collector(protocol) as hanging:
            hanging.answer_always(HANG)
            yield hanging.port


def seconds_to_exit(ended: Ended) -> float:
    """How long the program took from its own end to the end of its process."""
    (word, moment) = ended.lines[-1].split()
    assert word == "done"
    return ended.ended_at_s - float(moment)


def test_no_collector(dead_port: int, protocol: Protocol) -> None:
    """Without a collector a program works, ends soon and complains briefly."""
    ended = run_program(WORKING_PROGRAM, f"http://127.0.0.1:{dead_port}", protocol).ok()
    assert seconds_to_exit(ended) < 7  # a request has 10 s
    assert len(ended.stderr.splitlines()) <= 3, ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_collector_is_mentioned(protocol: Protocol) -> None:
    """A closed port is named on stderr, and so is what was given up at the exit."""
    port = closed_port()
    ended = run_program(WORKING_PROGRAM, f"http://127.0.0.1:{port}", protocol).ok()
    assert str(port) in ended.stderr


@pytest.mark.parametrize(
    ("spoken", "listening", "advice"),
    [("grpc", "http/protobuf", "http"), ("http/protobuf", "grpc", "grpc")],
)
def test_wrong_protocol_for_the_port(
    spoken: Protocol, listening: Protocol, advice: str
) -> None:
    """A client that speaks the wrong protocol is told which one to use."""
    with Collector(listening) as collector:
        ended = run_program(WORKING_PROGRAM, collector.endpoint, spoken).ok()
    assert seconds_to_exit(ended) < 7  # a request has 10 s
    assert len(ended.stderr.splitlines()) <= 3, ended.stderr
    lowered = ended.stderr.lower()
    assert "protocol" in lowered
    assert advice in lowered.replace(collector.endpoint, "")
    assert str(collector.port) in lowered


def test_plain_exit_delivers_everything(collector: Collector) -> None:
    """A script that just ends has delivered all it made, and said nothing."""
    ended = run_program(
        WORKING_PROGRAM, collector.endpoint, collector.protocol, env=PATIENT
    ).ok()
    assert ended.stderr == ""
    assert len(collector.spans("work")) == 20
    assert len(collector.logs()) == 20
    assert collector.metric("worked").value == 20
    assert collector.metric("flext.operation.duration").count == 20


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('boom')", 1),
        ("import threading; threading.Thread(target=work, args=(99,)).start()", 0),
    ],
    ids=["exit", "exception", "thread"],
)
def test_every_exit_delivers(http_collector: Collector, ending: str, code: int) -> None:
    """Exit codes stay, tracebacks stay, and telemetry is delivered."""
    ended = run_program(
        f"{WORKING_PROGRAM}\n{ending}\n",
        http_collector.endpoint,
        http_collector.protocol,
        env=PATIENT,
    )
    assert ended.code == code
    assert ("RuntimeError: boom" in ended.stderr) == (code == 1)
    assert len(http_collector.spans("work")) >= 20


def test_telemetry_at_exit(http_collector: Collector) -> None:
    """Spans made by atexit functions of the program are neither lost nor a trouble."""
    ended = run_program(
        """
        import atexit, sys
        import flext_observability as fo

        def last():
            with fo.flext_span("last"):
                pass

        fo.setup("worker", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
        atexit.register(last)
        """,
        http_collector.endpoint,
        http_collector.protocol,
        env=PATIENT,
    ).ok()
    assert ended.stderr == ""
    assert http_collector.span("last")


CALLER = """
import json, os, subprocess, sys
import flext_observability as fo

fo.setup("caller", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()

@fo.flext_monitor_function("call", kind="client")
def call():
    with fo.flext_correlation_scope("req-42"), fo.flext_span("prepare"):
        headers = fo.flext_inject_headers({}).unwrap()
        subprocess.run(
            [sys.executable, "-c", sys.argv[3], *sys.argv[1:3], json.dumps(headers)],
            check=True,
        )

call()
"""

CALLED = """
import json, sys
import flext_observability as fo

fo.setup("called", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()

@fo.flext_monitor_function("serve", kind="server")
def serve():
    fo.get_logger("called").info("served")
    with fo.flext_span("inside"):
        pass

with fo.flext_extract_headers(json.loads(sys.argv[3])):
    serve()
"""


def test_trace_through_two_processes(collector: Collector) -> None:
    """One trace id, right parents and one correlation id across two processes."""
    run_program(
        CALLER, collector.endpoint, collector.protocol, CALLED, env=PATIENT
    ).ok()
    call, prepare, serve, inside = (
        collector.span(name) for name in ("call", "prepare", "serve", "inside")
    )
    assert len({span.trace_id for span in collector.spans()}) == 1
    assert [span.parent_span_id for span in (call, prepare, serve, inside)] == [
        "",
        call.span_id,
        prepare.span_id,
        serve.span_id,
    ]
    assert (call.kind, serve.kind) == ("client", "server")
    assert call.resource["service.name"] == "caller"
    assert serve.resource["service.name"] == "called"
    assert serve.attributes["correlation.id"] == "req-42"
    served = collector.log("served")
    assert (served.trace_id, served.span_id) == (serve.trace_id, serve.span_id)
    assert served.attributes["correlation.id"] == "req-42"
    ids = {span.resource["service.instance.id"] for span in (call, serve)}
    assert len(ids) == 2


def check_family(collector: Collector) -> None:
    """Parent and child each delivered their own, once, under their own process."""
    own = collector.span("child")
    before, after = collector.span("before"), collector.span("after")
    assert len(collector.spans()) == 3
    assert own.resource["process.pid"] != before.resource["process.pid"]
    assert after.resource["process.pid"] == before.resource["process.pid"]
    instance = "service.instance.id"
    assert own.resource[instance] != before.resource[instance]
    assert (
        collector.log("child line").resource["process.pid"]
        == (own.resource["process.pid"])
    )
    assert len(collector.logs()) == 3
    counted = {
        point.resource["process.pid"]: point.value
        for point in collector.metrics("hits")
    }
    assert counted == {
        before.resource["process.pid"]: 2,
        own.resource["process.pid"]: 1,
    }


FAMILY = """
import logging, multiprocessing, os, sys
import flext_observability as fo

def work(name):
    with fo.flext_span(name):
        logging.getLogger("family").error("%s line", name)
    fo.flext_counter("hits").add(1)

def child():
    if not fo.status().running:
        fo.setup("family", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
    work("child")

if __name__ == "__main__":
    logging.getLogger("family").addHandler(logging.NullHandler())
    fo.setup("family", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
    work("before")
"""


@needs_fork
@pytest.mark.parametrize("ending", ["sys.exit(0)", "fo.flush(20.0); os._exit(0)"])
def test_os_fork(collector: Collector, ending: str) -> None:
    """A forked child delivers its own records and none of its parent's."""
    source = FAMILY + textwrap.indent(
        f"""
pid = os.fork()
if pid == 0:
    child()
    {ending}
assert os.waitpid(pid, 0)[1] == 0
work("after")
""",
        "    ",
    )
    run_program(source, collector.endpoint, collector.protocol, env=PATIENT).ok()
    check_family(collector)


@pytest.mark.parametrize(
    "method", [m for m in multiprocessing.get_all_start_methods() if m != "forkserver"]
)
def test_multiprocessing(collector: Collector, method: str, tmp_path: Path) -> None:
    """A child process of multiprocessing delivers its own records, none inherited."""
    main = f"""
context = multiprocessing.get_context({method!r})
process = context.Process(target=child)
process.start()
process.join()
assert process.exitcode == 0
work("after")
"""
    # Spawn imports the main module, so it has to be a file.
    path = tmp_path / "family.py"
    path.write_text(FAMILY + textwrap.indent(main, "    "), "utf-8")
    run_program(path, collector.endpoint, collector.protocol, env=PATIENT).ok()
    check_family(collector)


@needs_fork
def test_many_forks(http_collector: Collector) -> None:
    """Forking again and again while threads export neither hangs nor loses a span."""
    run_program(
        """
        import os, sys, threading
        import flext_observability as fo

        fo.setup("family", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
        stop = threading.Event()

        def noise():
            while not stop.wait(0.001):
                with fo.flext_span("noise"):
                    fo.flext_counter("noise").add(1)

        thread = threading.Thread(target=noise)
        thread.start()
        for number in range(10):
            pid = os.fork()
            if pid == 0:
                with fo.flext_span("child"):
                    pass
                os._exit(0 if fo.flush(20.0).success else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        thread.join()
        """,
        http_collector.endpoint,
        http_collector.protocol,
        env=PATIENT,
        timeout_s=90,
    ).ok()
    assert len(http_collector.spans("child")) == 10
    ids = [span.span_id for span in http_collector.spans()]
    assert len(ids) == len(set(ids))


@needs_fork
def test_fork_before_setup(http_collector: Collector) -> None:
    """Parent and child may each call setup after the fork."""
    run_program(
        """
        import os, sys
        import flext_observability as fo

        pid = os.fork()
        fo.setup("family", endpoint=sys.argv[1], protocol=sys.argv[2]).unwrap()
        with fo.flext_span("parent" if pid else "child"):
            pass
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        http_collector.endpoint,
        http_collector.protocol,
        env=PATIENT,
    ).ok()
    assert http_collector.span("parent")
    assert http_collector.span("child")


def test_import_is_light() -> None:
    """Importing the library loads no SDK, gRPC or pydantic and starts no thread."""
    ended = run_program(
        """
        import sys, threading
        import flext_observability
        heavy = ("opentelemetry.sdk", "grpc", "pydantic", "requests", "google.protobuf")
        print([name for name in heavy if name in sys.modules], threading.active_count())
        """
    ).ok()
    assert ended.lines == ["[] 1"]
