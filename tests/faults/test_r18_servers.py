"""R18: real servers. Every answered request's span arrives once, whatever ends workers.

Needs the dependency group `servers`; `make test-servers` installs it.
"""

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import pytest

from tests.faults.figures import figure
from tests.fixtures.collector import ACCEPT, HANG, UNAVAILABLE, Collector, closed_port
from tests.fixtures.programs import clean_environment

# Servers take their time to begin, longer on a machine that others use too.
pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).resolve().parents[2]
# The budget of an exit, and what a machine may add that others use too and that stalls
# now and then. Who waited for a collector would wait for the 10 s of a request.
EXIT_BUDGET_S = 2.0 + 3.0
ANSWER_S = 5.0


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip without these packages."""
    missing = [name for name in modules if find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not installed: {', '.join(missing)} (group servers)"
    )


def environment(**variables: str) -> dict[str, str]:
    """The environment of programs whose coverage nobody measures.

    That would make them several times slower, and change how they end.
    """
    plain = clean_environment(**variables, PYTHONPATH=str(ROOT))
    return {k: v for k, v in plain.items() if not k.startswith("COVERAGE_")}


@dataclass
class Server:
    """A running server with its workers."""

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int = 0

    @property
    def said(self) -> str:
        """What it logged so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_said(self, pattern: str, count: int = 1, timeout_s: float = 40.0) -> str:
        """Wait until it has logged that so often; give the last one's first group."""
        deadline = time.monotonic() + timeout_s
        while len(found := re.findall(pattern, self.said)) < count:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return str(found[-1])

    @property
    def exits_s(self) -> list[float]:
        """How long the library held up the end of each process."""
        return [
            float(s) for s in re.findall(r"EXIT of \d+ took ([0-9.]+) s", self.said)
        ]

    def signal(self, number: int) -> None:
        """Send a signal to the server, as an administrator does."""
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 30.0) -> float:
        """Send SIGTERM; give how long the end took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        self.process.wait(timeout_s)
        return time.monotonic() - began


@contextlib.contextmanager
def serving(
    command: list[str], folder: Path, ready: str, **variables: str
) -> Iterator[Server]:
    """Start a server; at the end none of its processes lives on."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment(**variables),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, log)
    try:
        found = server.wait_said(ready)
        server.port = int(found) if found.isdigit() else 0
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@dataclass
class Clients:
    """Threads that send numbered requests until they are told to stop."""

    port: int
    threads: int = 4
    pause_s: float = 0.005
    answered: dict[int, str] = field(default_factory=dict[int, str])
    """Number -> pid of the worker."""
    failed: list[int] = field(default_factory=list[int])
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._running = [
            threading.Thread(target=self._run) for _ in range(self.threads)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop."""
        self._stop.set()
        for thread in self._running:
            thread.join()

    def wait(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait for that many more answers."""
        wanted = len(self.answered) + count
        deadline = time.monotonic() + timeout_s
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, (len(self.answered), self.failed)
            time.sleep(0.01)

    def wait_workers(self, probe: Callable[[set[str]], bool]) -> None:
        """Wait until the last twenty answers came from workers of that kind."""
        deadline = time.monotonic() + 40
        while not probe(set(list(self.answered.values())[-20:])):
            assert time.monotonic() < deadline, Counter(self.answered.values())
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.wait(self.pause_s):
            number = next(self._numbers)
            began = time.monotonic()
            try:
                self.answered[number] = get(self.port, f"/?n={number}").decode()
            except (OSError, http.client.HTTPException):
                self.failed.append(number)
                time.sleep(0.05)
            else:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def get(port: int, path: str, timeout_s: float = 20.0) -> bytes:
    """Make one request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        return answer.read()


def setup_of(collector: Collector, folder: Path, durability: str) -> dict[str, object]:
    """Arguments of ``fo.setup``."""
    return {
        "endpoint": collector.endpoint,
        "protocol": collector.protocol,
        "durability": durability,
        "spool_dir": str(folder / "spool"),
        # A stall at the end shall cost no record that nobody could send later.
        **({"exit_budget_s": 8.0} if durability == "memory" else {}),
    }


def drain(collector: Collector, folder: Path, service: str = "web") -> None:
    """Have a later process of the service send what waits."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flext_observability", "drain", service),
            *("--endpoint", collector.endpoint, "--protocol", collector.protocol),
            *("--spool-dir", str(folder / "spool"), "--seconds", "20"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((folder / "spool").glob("*/v1/*/lock")) == []


def assert_every_request(
    collector: Collector,
    clients: Clients,
    repeated: int = 0,
    cut: Collection[str] = (),
    *,
    may_lack: bool = False,
) -> int:
    """The span of every answered request is there, once; none is of no request.

    Args:
        collector: Where they are.
        clients: Who made the requests.
        repeated: How many spans may be there once more.
        cut: Pids of workers that the server did not let run their exit handlers; their
            spans may be there twice.
        may_lack: Whether spans of those may be missing, because they are in memory.

    Returns:
        How many are missing there.
    """
    spans = collector.spans("request")
    by = {span.attributes["n"]: str(span.resource["process.pid"]) for span in spans}.get
    numbers = Counter(span.attributes["n"] for span in spans)
    attempted = set(clients.answered) | set(clients.failed)
    assert set(numbers) <= attempted
    lost = missing = set(clients.answered) - set(numbers)
    if may_lack:
        missing = {n for n in lost if clients.answered[n] not in cut}
    numbers = Counter({n: c for n, c in numbers.items() if by(n) not in cut})
    assert not missing, f"{len(missing)} of {len(clients.answered)} are missing"
    assert numbers.total() - len(numbers) <= repeated
    wrong = {n for n, pid in clients.answered.items() if by(n, pid) != pid}
    assert not wrong
    instances = {
        (span.resource["process.pid"], span.resource["service.instance.id"])
        for span in spans
    }
    assert len({instance for _, instance in instances}) == len(instances)
    assert len({pid for pid, _ in instances}) == len(instances)
    return len(lost)


# -- gunicorn

LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+)"
CLASSES = [
    "sync",
    "gthread",
    pytest.param("gevent", marks=needs("gevent")),
]
LOADING = ["lazy", "preload"]


@contextlib.contextmanager
def gunicorn(
    collector: Collector,
    folder: Path,
    kind: str,
    *options: str,
    durability: str = "batch",
    loading: str = "lazy",
    patch_first: bool = True,
    **variables: str,
) -> Iterator[Server]:
    """Run gunicorn with two workers."""
    command = [
        *("gunicorn", "tests.faults.servers.wsgi:application", "--bind", "127.0.0.1:0"),
        *("--workers", "2", "--worker-class", kind, "--timeout", "12"),
        *("--graceful-timeout", "10", "--control-socket", str(folder / "control")),
        *options,
    ]
    if kind == "gthread":
        command += ["--threads", "4"]
    if kind == "gevent" and patch_first:
        first = ROOT / "tests" / "faults" / "servers" / "gevent_first.py"
        command += ["--config", str(first)]
    if loading == "preload":
        command += ["--preload"]
    setup = json.dumps(setup_of(collector, folder, durability))
    with serving(command, folder, LISTENING, SERVER_SETUP=setup, **variables) as server:
        get(server.port, "/status")  # it listens before any worker is there
        yield server


def assert_well(server: Server, took_s: float) -> None:
    """No worker was killed, nothing was raised, and the end came in time."""
    for sign in ("WORKER TIMEOUT", "SIGKILL", "Traceback", "SIGABRT"):
        assert sign not in server.said, server.said
    assert server.process.returncode == 0, server.said
    assert len(server.exits_s) >= 2, server.said
    assert max(server.exits_s) < EXIT_BUDGET_S
    # Workers of gevent look once a second whether they shall end.
    assert took_s < EXIT_BUDGET_S + 2


@needs("gunicorn")
@pytest.mark.parametrize("loading", LOADING)
@pytest.mark.parametrize("kind", CLASSES)
def test_gunicorn_life(
    kind: str, loading: str, http_collector: Collector, tmp_path: Path
) -> None:
    """A reload, workers that end after some requests, SIGTERM: no span is lost."""
    restarts = ("--max-requests", "60", "--max-requests-jitter", "30")
    with gunicorn(http_collector, tmp_path, kind, *restarts, loading=loading) as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            before = set(clients.answered.values())
            server.signal(signal.SIGHUP)
            clients.wait_workers(lambda pids: bool(pids) and not pids & before)
            clients.wait(200)
            took_s = server.stop()
        assert_well(server, took_s)
    drain(http_collector, tmp_path)
    assert_every_request(http_collector, clients)
    workers = len(set(clients.answered.values()))
    assert workers >= 3  # two before the reload, and at least one after it
    figure(
        "R18",
        name=f"gunicorn_{kind}_{loading}",
        requests=len(clients.answered),
        workers=workers,
        lost=0,
        exit_s=round(took_s, 2),
    )


@needs("gunicorn")
@pytest.mark.parametrize("durability", ["memory", "record"])
@pytest.mark.parametrize("kind", CLASSES)
def test_gunicorn_ends_by_sigterm(
    kind: str, durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """In the other modes too, all spans are delivered when the server has ended."""
    with gunicorn(http_collector, tmp_path, kind, durability=durability) as server:
        with Clients(server.port) as clients:
            clients.wait(100)
            took_s = server.stop()
        assert_well(server, took_s)
    assert_every_request(http_collector, clients)


@needs("gunicorn")
@pytest.mark.parametrize("loading", LOADING)
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_over_grpc(
    kind: str, loading: str, grpc_collector: Collector, tmp_path: Path
) -> None:
    """The same over gRPC, although its library is afraid of forks."""
    restarts = ("--max-requests", "40", "--max-requests-jitter", "20")
    with gunicorn(grpc_collector, tmp_path, kind, *restarts, loading=loading) as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            took_s = server.stop()
        assert_well(server, took_s)
    drain(grpc_collector, tmp_path)
    assert_every_request(grpc_collector, clients)


@needs("gunicorn")
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("trouble", ["closed", "hanging"])
def test_gunicorn_without_a_collector(
    kind: str, trouble: str, http_collector: Collector, tmp_path: Path
) -> None:
    """Requests are answered as ever, the end is not delayed beyond the budget."""
    http_collector.answer_always(HANG)
    endpoint = http_collector.endpoint
    if trouble == "closed":
        http_collector.endpoint = f"http://127.0.0.1:{closed_port()}"
    with gunicorn(http_collector, tmp_path, kind) as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            slowest_s = clients.slowest_s
            took_s = server.stop()
        assert_well(server, took_s)
    assert slowest_s < ANSWER_S
    figure(
        "R18",
        name=f"gunicorn_{kind}_{trouble}",
        exit_s=round(took_s, 2),
        library_s=max(server.exits_s),
        slowest_ms=round(slowest_s * 1000),
    )
    http_collector.endpoint = endpoint


@needs("gunicorn", "gevent")
@pytest.mark.parametrize("loading", LOADING)
def test_gevent_over_grpc(
    loading: str, grpc_collector: Collector, tmp_path: Path
) -> None:
    """Gevent works over gRPC once that library is told of it (init_gevent)."""
    with gunicorn(
        grpc_collector,
        tmp_path,
        "gevent",
        loading=loading,
        SERVER_GRPC_GEVENT="1",
    ) as server:
        with Clients(server.port) as clients:
            clients.wait(100)
            took_s = server.stop()
        assert_well(server, took_s)
    drain(grpc_collector, tmp_path)
    assert_every_request(grpc_collector, clients)


@needs("gunicorn", "gevent")
def test_gevent_over_grpc_while_the_collector_hangs(
    grpc_collector: Collector, tmp_path: Path
) -> None:
    """Then a collector that hangs stops neither requests nor the end.

    Without init_gevent a request to the collector stops the whole worker, for up to the
    10 s of its deadline: README says so.
    """
    grpc_collector.answer_always(HANG)
    with gunicorn(grpc_collector, tmp_path, "gevent", SERVER_GRPC_GEVENT="1") as server:
        with Clients(server.port) as clients:
            clients.wait(500)
            slowest_s = clients.slowest_s
            took_s = server.stop()
        assert_well(server, took_s)
    assert slowest_s < ANSWER_S
    figure("R18", name="gevent_grpc_hanging", exit_s=round(took_s, 2))


@needs("gunicorn", "gevent")
def test_gevent_patched_late(http_collector: Collector, tmp_path: Path) -> None:
    """Patched only after setup, by a preloaded worker, it still loses no span.

    CPython then reports KeyErrors of its own threads at the end: patch first.
    """
    with gunicorn(
        http_collector, tmp_path, "gevent", loading="preload", patch_first=False
    ) as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            slowest_s = clients.slowest_s
            took_s = server.stop()
        assert "WORKER TIMEOUT" not in server.said
        assert server.process.returncode == 0, server.said
    assert slowest_s < ANSWER_S
    assert took_s < EXIT_BUDGET_S + 2
    drain(http_collector, tmp_path)
    assert_every_request(http_collector, clients)


# -- uWSGI


MASTER = (
    *("--master", "--processes", "2"),
    # Else a worker ends in the middle of a request, without its exit handlers.
    *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
    # A worker that is told so while it begins, by uWSGI's own doing never hears it.
    *("--worker-reload-mercy", "5"),
)
RESTARTS = ("--max-requests", "100", "--min-worker-lifetime", "1")
UWSGI_FORKS = {
    "lazy": ("--lazy-apps",),
    "forked": (),  # set up in the master, then forked
    "hooks": ("--py-call-uwsgi-fork-hooks",),
    "late_hooks": ("--py-call-osafterfork",),
    "threads": ("--threads", "3"),
    "switched_off": ("--ini", str(ROOT / "tests/faults/servers/switched_off.ini")),
}


@contextlib.contextmanager
def uwsgi(
    collector: Collector,
    folder: Path,
    *options: str,
    durability: str = "batch",
    **variables: str,
) -> Iterator[Server]:
    """Run uWSGI."""
    command = [
        *("tests.faults.servers.run_uwsgi", "--http-socket", "127.0.0.1:0"),
        *("--module", "tests.faults.servers.wsgi:application"),
        *("--disable-logging", *options),
    ]
    bound = r"bound to TCP address 127\.0\.0\.1:(\d+)"
    setup = json.dumps(setup_of(collector, folder, durability))
    with serving(command, folder, bound, SERVER_SETUP=setup, **variables) as server:
        get(server.port, "/status")
        yield server


def cut_by_uwsgi(server: Server) -> set[str]:
    """Give the workers that were about to end by themselves when uWSGI ended them.

    Its signal handler calls ``exit()`` inside ``exit()``, and the handlers are over.
    """
    spawned = re.findall(
        r"[sS]pawned uWSGI worker \d+ \((?:new )?pid: (\d+)", server.said
    )
    return set(spawned) - set(re.findall(r"EXIT of (\d+) took", server.said))


@needs("pyuwsgi")
@pytest.mark.parametrize("durability", ["memory", "batch", "record"])
@pytest.mark.parametrize("forks", UWSGI_FORKS)
def test_uwsgi_life(
    forks: str, durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """Workers that end after some requests, SIGTERM: no span is lost."""
    options = (*MASTER, *RESTARTS, *UWSGI_FORKS[forks])
    with uwsgi(http_collector, tmp_path, *options, durability=durability) as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            before = set(clients.answered.values())
            clients.wait_workers(lambda pids: bool(pids - before))
            clients.wait(100)
            took_s = server.stop()
        assert "Traceback" not in server.said, server.said
        assert max(server.exits_s) < EXIT_BUDGET_S
    if durability != "memory":
        drain(http_collector, tmp_path)
    lost = assert_every_request(
        http_collector,
        clients,
        cut=cut_by_uwsgi(server),
        may_lack=durability == "memory",
    )
    figure(
        "R18",
        name=f"uwsgi_{forks}_{durability}",
        requests=len(clients.answered),
        workers=len(set(clients.answered.values())),
        lost=lost,
        exit_s=round(took_s, 2),
    )


@needs("pyuwsgi")
@pytest.mark.parametrize("durability", ["memory", "batch", "record"])
@pytest.mark.parametrize("forks", ["forked", "late_hooks", "switched_off"])
def test_uwsgi_sends_what_was_recorded_while_it_loaded(
    forks: str, durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """Its master sends nothing, and has no exit handlers: the first worker does."""
    options = (*MASTER, *RESTARTS, *UWSGI_FORKS[forks])
    with uwsgi(
        http_collector,
        tmp_path,
        *options,
        durability=durability,
        SERVER_AT_LOAD="1",
    ) as server:
        loader_pid = server.process.pid
        http_collector.wait_for(lambda: http_collector.spans("load"))
        http_collector.wait_for(lambda: http_collector.logs(f"loaded by {loader_pid}"))
        http_collector.wait_for(lambda: http_collector.metrics("loads"))
        # Else one of them has the GIL some day when the master forks.
        assert threads_of(loader_pid) == [loader_pid]
        with Clients(server.port) as clients:
            server.wait_said("Respawned uWSGI worker", 2)  # they are no heirs
            clients.wait(20)
            server.stop()
    if durability != "memory":
        drain(http_collector, tmp_path)
    assert_every_request(
        http_collector,
        clients,
        cut=cut_by_uwsgi(server),
        may_lack=durability == "memory",
    )
    assert http_collector.span("load").resource["process.pid"] == loader_pid
    assert http_collector.log(f"loaded by {loader_pid}")
    points = http_collector.metrics("loads")
    assert {(p.resource["process.pid"], p.value) for p in points} == {(loader_pid, 1)}


@needs("pyuwsgi")
def test_uwsgi_loads_while_the_collector_is_away(
    http_collector: Collector, tmp_path: Path
) -> None:
    """What was recorded then waits for it, longer than any exit may take."""
    http_collector.answer_always(UNAVAILABLE)
    with uwsgi(
        http_collector,
        tmp_path,
        *MASTER,
        durability="memory",
        SERVER_AT_LOAD="1",
        FLEXT_OBSERVABILITY_EXIT_BUDGET_S="0.3",
    ) as server:
        http_collector.wait_for(lambda: http_collector.requests("traces"))
        time.sleep(1.0)
        http_collector.answer_always(ACCEPT)
        line = f"loaded by {server.process.pid}"
        http_collector.wait_for(lambda: http_collector.spans("load"), 60)
        http_collector.wait_for(lambda: http_collector.logs(line), 60)
        server.stop()
    span = http_collector.span("load")
    assert span.resource["process.pid"] == server.process.pid
    assert http_collector.log(line)


@needs("pyuwsgi")
@pytest.mark.parametrize("words", ["flush", "decorators", "flush shutdown"])
@pytest.mark.parametrize("forks", ["forked", "hooks"])
def test_uwsgi_programs_that_do_more_while_they_load(
    forks: str, words: str, http_collector: Collector, tmp_path: Path
) -> None:
    """They flush, end telemetry, or load what takes the hooks of uWSGI for itself."""
    options = (*MASTER, *UWSGI_FORKS[forks])
    with uwsgi(http_collector, tmp_path, *options, SERVER_AT_LOAD=words) as server:
        with Clients(server.port) as clients:
            clients.wait(100)
            server.stop()
        assert "Traceback" not in server.said, server.said
        assert "FLUSHED False" not in server.said, server.said
    drain(http_collector, tmp_path)
    if "shutdown" not in words:
        assert_every_request(http_collector, clients)
    assert http_collector.span("load").resource["process.pid"] == server.process.pid


@needs("pyuwsgi")
@pytest.mark.parametrize("options", [(), ("--lazy-apps",)], ids=["forked", "lazy"])
def test_a_spooler_of_uwsgi(
    options: tuple[str, ...], http_collector: Collector, tmp_path: Path
) -> None:
    """It is a process like any other, whether it loads telemetry itself or not."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "spooling.py").write_text(
        "import json, os, flext_observability as fo\n"
        "fo.setup('web', **json.loads(os.environ['SERVER_SETUP'])).unwrap()\n"
        "with fo.flext_span('spooler', {'pid': os.getpid()}): pass\n"
    )
    spooler = (
        *("--spooler", str(tmp_path / "jobs"), "--pythonpath", str(tmp_path)),
        *("--spooler-python-import", "spooling"),
    )
    with uwsgi(http_collector, tmp_path, *MASTER, *spooler, *options) as server:
        http_collector.wait_for(lambda: http_collector.spans("spooler"))
        server.stop()
    span = http_collector.span("spooler")
    assert span.resource["process.pid"] == span.attributes["pid"]


@needs("pyuwsgi")
def test_uwsgi_is_told_to_end_twice(http_collector: Collector, tmp_path: Path) -> None:
    """Its second exit does not cut the first one short, in whatever thread it comes."""
    http_collector.answer_always(HANG)
    with uwsgi(http_collector, tmp_path, "--processes", "1") as server:
        pid = server.process.pid
        get(server.port, "/?n=1")
        http_collector.wait_for(http_collector.requests)
        ours = [thread for thread in threads_of(pid) if thread != pid]
        assert ours
        assert all(blocks(pid, thread, signal.SIGINT) for thread in ours)
        time.sleep(1.0)  # the request is over for uWSGI, too
        server.signal(signal.SIGINT)
        time.sleep(0.5)
        server.signal(signal.SIGINT)
        server.process.wait(20)
        assert "not delivered yet: 1 traces" in server.said, server.said


def threads_of(pid: int) -> list[int]:
    """Give the ids of the threads of a process; the main one has the id of it."""
    return sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


def blocks(pid: int, thread: int, number: int) -> bool:
    """Whether that thread lets others take a signal."""
    said = Path(f"/proc/{pid}/task/{thread}/status").read_text("utf-8")
    blocked = re.search(r"SigBlk:\s*([0-9a-f]+)", said)
    assert blocked, said
    return bool(int(blocked[1], 16) >> (number - 1) & 1)


@needs("pyuwsgi")
@pytest.mark.parametrize("processes", [1, 2])
def test_uwsgi_without_a_master(
    processes: int, http_collector: Collector, tmp_path: Path
) -> None:
    """The process that loads the program is a worker itself."""
    options = ("--processes", str(processes))
    with uwsgi(http_collector, tmp_path, *options, SERVER_AT_LOAD="1") as server:
        with Clients(server.port) as clients:
            clients.wait(200)
            http_collector.wait_for(lambda: http_collector.spans("load"))
        if processes == 2:
            assert str(server.process.pid) in clients.answered.values()
        # uWSGI calls no exit handlers in the midst of a request, and the last answer is
        # there a little earlier than its end.
        time.sleep(1.0)
        os.killpg(server.process.pid, signal.SIGINT)  # uWSGI: end, all of you
        server.process.wait(20)
    drain(http_collector, tmp_path)
    assert_every_request(http_collector, clients)
    assert http_collector.span("load").resource["process.pid"] == server.process.pid


# -- uvicorn


@contextlib.contextmanager
def uvicorn(
    collector: Collector,
    folder: Path,
    *options: str,
    durability: str,
    **variables: str,
) -> Iterator[Server]:
    """Run uvicorn with two workers."""
    command = [
        *("uvicorn", "tests.faults.servers.asgi:application", "--port", "0"),
        *("--workers", "2", "--no-access-log", *options),
    ]
    setup = json.dumps(setup_of(collector, folder, durability))
    running = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
    with serving(command, folder, running, SERVER_SETUP=setup, **variables) as server:
        server.wait_said("Application startup complete", 2)
        yield server


@needs("uvicorn")
@pytest.mark.parametrize("durability", ["memory", "record"])
def test_uvicorn_life(
    durability: str, http_collector: Collector, tmp_path: Path
) -> None:
    """A reload, workers that end after some requests, SIGTERM: no span is lost.

    In memory the program has to end telemetry in its lifespan, since uvicorn's workers
    end by the signal, after which nothing runs; `record` does without.
    """
    lifespan = {"SERVER_LIFESPAN": "1"} if durability == "memory" else {}
    restarts = ("--limit-max-requests", "150", "--limit-max-requests-jitter", "50")
    with uvicorn(
        http_collector, tmp_path, *restarts, durability=durability, **lifespan
    ) as server:
        with Clients(server.port) as clients:
            clients.wait(100)
            before = set(clients.answered.values())
            server.signal(signal.SIGHUP)
            clients.wait_workers(lambda pids: bool(pids) and not pids & before)
            clients.wait(300)
            took_s = server.stop()
        assert "Traceback" not in server.said, server.said
    if durability != "memory":
        drain(http_collector, tmp_path)
    # A worker that is killed in the middle of a delivery leaves it to the next one.
    assert_every_request(http_collector, clients, repeated=len(clients.answered))
    workers = len(set(clients.answered.values()))
    assert workers >= 4
    # With or without us, uvicorn waits 5 s for a sign of a worker that has just ended.
    assert took_s < EXIT_BUDGET_S + 7
    figure(
        "R18",
        name=f"uvicorn_{durability}",
        requests=len(clients.answered),
        workers=workers,
        lost=0,
        exit_s=round(took_s, 2),
    )


@needs("uvicorn")
@pytest.mark.parametrize("lifespan", [{}, {"SERVER_LIFESPAN": "1"}], ids=["no", "yes"])
def test_uvicorn_without_a_collector(
    lifespan: dict[str, str], http_collector: Collector, tmp_path: Path
) -> None:
    """A collector that hangs delays no request, and the end by the budget at most."""
    http_collector.answer_always(HANG)
    with uvicorn(http_collector, tmp_path, durability="batch", **lifespan) as server:
        with Clients(server.port) as clients:
            clients.wait(300)
            slowest_s = clients.slowest_s
            took_s = server.stop()
        assert "Traceback" not in server.said, server.said
    assert slowest_s < ANSWER_S
    assert took_s < EXIT_BUDGET_S + 1
    figure(
        "R18",
        name=f"uvicorn_hanging_{'lifespan' if lifespan else 'plain'}",
        exit_s=round(took_s, 2),
        slowest_ms=round(slowest_s * 1000),
    )


# -- celery


@needs("celery")
@pytest.mark.parametrize("durability", ["memory", "record"])
def test_celery(durability: str, http_collector: Collector, tmp_path: Path) -> None:
    """Workers that end after five tasks each lose no span.

    They end by os._exit, or killed by their parent: the program sends what they have in
    `worker_process_shutdown`; `record` does without.
    """
    queue = tmp_path / "queue"
    (queue / "control").mkdir(parents=True)
    variables = {
        "CELERY_FOLDER": str(queue),
        "SERVER_SETUP": json.dumps(setup_of(http_collector, tmp_path, durability)),
    }
    if durability != "record":
        variables["SERVER_FLUSH"] = "1"
    command = [
        *("celery", "-A", "tests.faults.servers.tasks", "worker", "-l", "INFO"),
        *("-P", "prefork", "-c", "2", "--max-tasks-per-child", "5"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    with serving(command, tmp_path, r"(ready)\.", **variables) as server:
        subprocess.run(
            [
                *(sys.executable, "-c"),
                "from tests.faults.servers.tasks import send; send(30)",
            ],
            env=environment(CELERY_FOLDER=str(queue)),
            check=True,
            timeout=90,
        )
        server.wait_said("(succeeded) in", 30)
        server.stop()
        assert "Traceback" not in server.said, server.said
    if durability != "memory":
        drain(http_collector, tmp_path)
    spans = http_collector.spans("request")
    numbers = Counter(span.attributes["n"] for span in spans)
    assert numbers == Counter(range(30))
    workers = len({span.resource["process.pid"] for span in spans})
    assert workers >= 6
    figure("R18", name=f"celery_{durability}", tasks=30, workers=workers, lost=0)
