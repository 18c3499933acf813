"""Processes that join their metrics through a directory, without any web server."""

import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flext_observability as fo
from flext_observability import server
from tests.fixtures.programs import clean_environment, run_program
from tests.fixtures.web import ask, free_port, value_of

WORKER = """
import sys
import flext_observability as fo
fo.setup("web", exporters=["none"], server_metrics_dir=sys.argv[1]).unwrap()
hits, level = fo.flext_counter("hits"), fo.flext_gauge("level")
sizes = fo.flext_histogram("sizes", unit="By")
up_down = fo.setup("web", exporters=["none"], server_metrics_dir=sys.argv[1])
jobs = up_down.unwrap().meter.create_up_down_counter("jobs")
for line in sys.stdin:
    count = int(line)
    for _ in range(count):
        hits.add(1)
        sizes.record(30)
    level.set(count)
    jobs.add(count)
    print("done", flush=True)
"""


class Worker:
    """A process that counts what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(directory)],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, number: int) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        """End as programs do."""
        self.process.communicate(timeout=40)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=40)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "metrics"


@pytest.fixture
def port(directory: Path) -> Iterator[int]:
    """The process that is scraped; it counts nothing itself."""
    port = free_port()
    fo.setup(
        "web", exporters=["none"], server_port=port, server_metrics_dir=directory
    ).unwrap()
    yield port
    fo.shutdown(0.5)


def page(port: int) -> str:
    reply = ask(port, "/metrics")
    assert reply.status == 200, reply.text
    return reply.text


def wait_for(port: int, series: str, value: float) -> str:
    """The page, once a series has its value: a worker writes every second."""
    deadline = time.monotonic() + 30
    while True:
        text = page(port)
        if f"{series} {value}\n" in text:
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


def pages(directory: Path) -> list[Path]:
    """What lies there, without a page that is just being written under another name."""
    return [path for path in directory.iterdir() if not path.name.startswith(".")]


def test_living_and_dead_add_up(directory: Path, port: int) -> None:
    """Counters of those that ended stay, gauges go, up-down counters too."""
    first, second = Worker(directory), Worker(directory)
    first.count(3)
    second.count(4)
    # Their last step: a page may be written in the midst of them.
    text = wait_for(port, "jobs", 7.0)
    assert value_of(text, "hits_total") == 7
    assert value_of(text, "sizes_count") == 7
    assert value_of(text, "sizes_sum") == 210
    assert value_of(text, "jobs") == 7
    assert value_of(text, f'level{{pid="{first.process.pid}"}}') == 3
    assert value_of(text, f'level{{pid="{second.process.pid}"}}') == 4
    assert text.count("# TYPE hits_total counter") == 1
    assert text.count("target_info{") == 1
    assert "process_pid" not in text  # what differs describes no target
    first.end()
    text = page(port)
    assert value_of(text, "hits_total") == 7
    assert value_of(text, "jobs") == 4
    assert f'level{{pid="{first.process.pid}"}}' not in text
    second.kill()
    text = page(port)
    assert value_of(text, "hits_total") == 7
    assert "level" not in text
    left = sorted(path.suffix for path in pages(directory) if path.suffix)
    assert left == [".json", ".json", ".lock"]  # our own, and the sums of the dead


def test_the_last_counts_of_a_process_are_there(directory: Path, port: int) -> None:
    """What is counted right before the end is written at the end."""
    for number in range(1, 4):
        worker = Worker(directory)
        worker.count(number)
        worker.end()
    assert value_of(page(port), "hits_total") == 6


def test_exit_handlers_count_too(directory: Path, port: int) -> None:
    """Those registered after setup() run before the last write, a second one or not."""
    run_program(
        """
        import atexit, sys
        import flext_observability as fo
        options = {"exporters": ["none"], "server_metrics_dir": sys.argv[1]}
        fo.setup("web", **options).unwrap()
        hits = fo.flext_counter("hits")
        atexit.register(lambda: hits.add(5))
        fo.setup("web", log_level="ERROR", **options).unwrap()
        """,
        str(directory),
    ).ok()
    assert value_of(page(port), "hits_total") == 5


def test_an_interrupted_addition_counts_once(directory: Path, port: int) -> None:
    """Who died between adding up and tidying left files that were counted already."""
    worker = Worker(directory)
    worker.count(5)
    worker.end()
    left = {
        path.name: path.read_bytes()
        for path in pages(directory)
        if path.name.startswith(f"{worker.process.pid}-")
    }
    assert value_of(page(port), "hits_total") == 5
    for name, content in left.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    assert value_of(page(port), "hits_total") == 5
    assert value_of(page(port), "hits_total") == 5


def test_damaged_files_hurt_nobody(directory: Path, port: int) -> None:
    """What cannot be read does not exist; the rest is shown."""
    worker = Worker(directory)
    worker.count(2)
    wait_for(port, "hits_total", 2.0)
    (directory / "999999-00.lock").write_bytes(b"")
    (directory / "999999-00.json").write_bytes(b"{")
    (directory / "ended.json").write_bytes(json.dumps([1]).encode())
    (directory / "noise").write_bytes(b"\x00")
    assert value_of(page(port), "hits_total") == 2
    worker.kill()


@pytest.mark.parametrize("content", ['{"families": 7, "additive": []}', "[]", "{}"])
def test_foreign_content_hurts_nobody(directory: Path, port: int, content: str) -> None:
    """JSON that is no page is treated as damaged."""
    (directory / "999999-00.lock").write_text("")
    (directory / "999999-00.json").write_text(content)
    (directory / "ended.json").write_text(content)
    fo.flext_counter("hits").add(1)
    assert value_of(page(port), "hits_total") == 1


def test_the_directory_is_private(directory: Path, port: int) -> None:
    """0700, its files 0600, whatever the umask."""
    page(port)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    seen = {path.suffix for path in pages(directory)}
    assert {".json", ".lock"} <= seen
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # a page got its name meanwhile
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_lost_directory_is_503(directory: Path, port: int) -> None:
    """A page of one process alone would look like counters that fell."""
    assert ask(port, "/metrics").status == 200
    while directory.exists():  # a page may be written there at any moment
        shutil.rmtree(directory, ignore_errors=True)
    reply = ask(port, "/metrics")
    assert reply.status == 503
    assert "cannot be read" in reply.json["detail"]
    assert ask(port, "/health").status == 200


def test_planted_links_are_refused(tmp_path: Path) -> None:
    """A symbolic link as the directory is a failure that says so."""
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    result = fo.setup("web", exporters=["none"], server_metrics_dir=link)
    assert result.is_failure
    assert "server_metrics_dir" in str(result.error)


def test_without_setup_the_application_shares(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is enough: recorded metrics of all processes are on the page."""
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SERVER_METRICS_DIR", str(directory))
    program = """
        import flext_observability as fo
        from flext_observability import server
        app = server.create_wsgi_app()
        fo.FlextMetricsService().record_metric("orders", 2, "", {}, "counter")
    """
    variables = {"FLEXT_OBSERVABILITY_SERVER_METRICS_DIR": str(directory)}
    for _ in range(2):
        run_program(program, env=variables).ok()
    fo.reset_global_factory()
    fo.FlextObservabilityConfig.reset_global_instance()
    app: Any = server.create_wsgi_app()
    environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}
    environ |= {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost"}
    text = b"".join(app(environ, lambda *_: None)).decode()
    assert value_of(text, "orders_total") == 4
    fo.setup("web", exporters=["none"]).unwrap()  # ends the sharing
    fo.FlextObservabilityConfig.reset_global_instance()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_forked_children_count_for_themselves(directory: Path) -> None:
    """Parent and children each add their own; nothing is counted twice."""
    done = run_program(
        """
        import os, sys, time
        import flext_observability as fo
        from flext_observability import server
        fo.setup("web", exporters=["none"], server_metrics_dir=sys.argv[1]).unwrap()
        hits = fo.flext_counter("hits")
        hits.add(100)
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                hits.add(number + 1)
                sys.exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        app = server.create_wsgi_app()
        environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET",
                   "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost"}
        print(b"".join(app(environ, lambda *_: None)).decode())
        """,
        str(directory),
    ).ok()
    assert value_of(done.stdout, "hits_total") == 106


def descriptors() -> int:
    """Open files of this process, where the platform tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_many_setups_leave_nothing_behind(directory: Path) -> None:
    """Descriptors and threads do not grow, and dead files are added up."""
    fo.setup("web", exporters=["none"], server_metrics_dir=directory).unwrap()
    before = descriptors()
    for _ in range(10):
        fo.setup("web", exporters=["none"]).unwrap()
        fo.setup("web", exporters=["none"], server_metrics_dir=directory).unwrap()
    assert abs(descriptors() - before) <= 2
