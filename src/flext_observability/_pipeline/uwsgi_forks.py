"""uWSGI loads a program once and forks its workers from that in C, past Python.

Unless it is started with ``py-call-uwsgi-fork-hooks``, no fork hook runs in a worker:
not ours, which give it a pipeline of its own, nor those of ``threading``, ``random`` or
the OpenTelemetry SDK. And it forks without the GIL: if a thread has that just then, the
worker waits for it for ever. So no thread that sends or collects runs until then. The
master runs no Python afterwards, not even exit handlers: what was recorded while the
program was loaded is sent by the first worker, its heir.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from mmap import mmap
from typing import Any, Protocol

from ..own_log import WARNING, say
from .background import hold_threads, release_threads

_HOOKS = "py-call-uwsgi-fork-hooks"
_HOOKS_WITHOUT_GIL = "py-call-osafterfork"
_SWITCHED_OFF = {b"false", b"off", b"no", b"0"}  # as uWSGI reads it


class _Uwsgi(Protocol):
    """The module that uWSGI has in its processes, as far as it is used here."""

    opt: dict[str, Any]
    numproc: int
    has_threads: int
    post_fork_hook: Callable[[], None]

    def worker_id(self) -> int:
        """Give the number of this worker, from 1; 0 in the master."""
        ...

    def mule_id(self) -> int:
        """Give the number of this mule, from 1; 0 elsewhere."""
        ...

    def i_am_the_spooler(self) -> bool:
        """Whether this process is a spooler."""
        ...

    def masterpid(self) -> int:
        """Give the pid of the master; 0 where there is none."""
        ...


class UwsgiForks:
    """The forks that uWSGI is going to make of this process."""

    def __init__(
        self, uwsgi: _Uwsgi, begin: Callable[[], None], inherit: Callable[[], object]
    ) -> None:
        """Have Python's fork hooks run in what is forked; hold our threads until then.

        Args:
            uwsgi: The module of this name.
            begin: Called where this process itself becomes a worker, since there is no
                master: threads may run from there on.
            inherit: Called in the heir, after all fork hooks.
        """
        self._uwsgi = uwsgi
        self._begin = begin
        self._inherit = inherit
        self._is_heir = False
        self._loader_pid = os.getpid()
        self._has_heir = mmap(-1, 1)  # shared by all that are forked from here
        hold_threads()
        self._next: Callable[[], None] | None = None
        chain = _hooks_of_decorators(uwsgi)
        if chain is not None:
            chain.insert(0, self._after_fork)
        else:
            self._next = getattr(uwsgi, "post_fork_hook", None)
            uwsgi.post_fork_hook = self._after_fork

    @classmethod
    def expected(
        cls,
        begin: Callable[[], None],
        inherit: Callable[[], object],
        *,
        has_service: bool,
    ) -> "UwsgiForks | None":
        """Prepare for them, where there will be any that Python is not told of.

        Args:
            begin: See the class.
            inherit: See the class.
            has_service: Whether this process is to serve pages, or to push metrics.
        """
        uwsgi: Any = sys.modules.get("uwsgi")  # it is there inside uWSGI alone
        if not isinstance(getattr(uwsgi, "opt", None), dict):
            return None
        is_told = _is_on(uwsgi, _HOOKS) and uwsgi.has_threads
        is_alone = not uwsgi.masterpid() and uwsgi.numproc == 1
        # With lazy-apps each worker loads the program, and is no longer forked.
        is_forked = uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()
        if is_told or is_alone or is_forked:
            return None
        if has_service:
            say(
                WARNING,
                "uWSGI forks its workers without Python's lock: a page that is served "
                "here may make one hang, and no metrics are pushed. Start it with "
                "%s = true, or with lazy-apps = true",
                _HOOKS,
            )
        return cls(uwsgi, begin, inherit)

    def makes_heir(self) -> bool:
        """Whether this forked child goes on with what was recorded before the forks.

        That is the first one that asks as worker 1, and no other process after it.
        """
        is_first = self._uwsgi.worker_id() == 1 and not self._has_heir[0]
        if is_first and os.getppid() == self._loader_pid:  # no child of a worker
            self._has_heir[0] = 1  # a worker 1 that comes later is none
            self._is_heir = True
        return self._is_heir

    def _after_fork(self) -> None:
        """Be the hook of uWSGI, which every worker and mule runs as it begins."""
        if os.getpid() == self._loader_pid:
            release_threads()
            self._begin()
        elif not _is_on(self._uwsgi, _HOOKS_WITHOUT_GIL):
            from ctypes import pythonapi

            # What `os.fork()` does in a child, and that option.
            pythonapi.PyOS_AfterFork_Child()
        if self._is_heir:
            self._is_heir = False
            self._inherit()
        if self._next is not None:
            self._next()


def _is_on(uwsgi: _Uwsgi, option: str) -> bool:
    """Whether an option without a value is set, and not switched off again."""
    return uwsgi.opt.get(option, b"false") not in _SWITCHED_OFF


def _hooks_of_decorators(uwsgi: _Uwsgi) -> list[Callable[[], None]] | None:
    """Give the hooks of ``uwsgidecorators``, which would replace ours when it came.

    It takes these places of uWSGI for itself, where the program may have something.
    """
    places = ("post_fork_hook", "spooler", "mule_msg_hook")
    former = {name: getattr(uwsgi, name) for name in places if hasattr(uwsgi, name)}
    is_new = "uwsgidecorators" not in sys.modules
    decorators: Any = None
    with suppress(Exception):  # there is none, or it wants a master
        decorators = import_module("uwsgidecorators")
    chain: list[Callable[[], None]] | None = getattr(decorators, "postfork_chain", None)
    if is_new and chain is not None:
        hook = former.pop("post_fork_hook", None)
        if hook is not None:
            chain.append(hook)
        for name, found in former.items():
            setattr(uwsgi, name, found)
    return chain
