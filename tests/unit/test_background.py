"""Threads of ours: one at a time, whatever signal handlers do meanwhile."""

import sys
import threading
import time
from importlib import import_module

import pytest
from tests.fixtures.interruptions import Timeout, interrupted

background = import_module("flext_observability._pipeline.background")


def test_interrupted_start_leaves_one_thread() -> None:
    """A host's exception out of ``start``, and one more start, make no second one."""
    runs: list[int] = []
    end = threading.Event()

    def run() -> None:
        runs.append(1)
        end.wait(5)

    thread = background.BackgroundThread("flext-test", run)
    before, interval = set(threading.enumerate()), sys.getswitchinterval()
    sys.setswitchinterval(5)  # the first thread does not come before we wait
    try:
        with interrupted("call", "wait", "threading.py") as raised:
            with pytest.raises(Timeout):
                thread.start()
            assert raised
        assert thread.start()
    finally:
        sys.setswitchinterval(interval)
    try:
        for _ in range(500):
            if len(set(threading.enumerate()) - before) == 1 and runs:
                break
            time.sleep(0.01)
        assert len(set(threading.enumerate()) - before) == 1
        assert runs == [1]
        assert thread.start()
        assert (thread.is_running(), runs) == (True, [1])
    finally:
        end.set()
        thread.join(5)


def test_thread_that_ended_or_could_not_start_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that died, and one that the system refused, is started by the next call."""
    runs: list[int] = []
    thread = background.BackgroundThread("flext-test", lambda: runs.append(1))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not thread.start()
    for _ in range(2):
        thread.start()
        thread.join(5)
        assert not thread.is_running()
    assert runs == [1, 1]
