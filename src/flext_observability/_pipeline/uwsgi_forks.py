"""uWSGI forks its workers in C, and tells Python of it only when it is asked to.

Without that no fork hook runs in a worker: not ours, which give it a pipeline of its
own, nor those of ``threading``, ``random`` or the OpenTelemetry SDK.
"""

import sys
from collections.abc import Callable
from typing import Any, cast

# With these it loads the program in each worker, or runs the hooks by itself.
_SAFE_OPTIONS = frozenset({"lazy", "lazy-apps", "py-call-osafterfork"})


def hook_uwsgi_forks() -> None:
    """Have Python's fork hooks run in workers that uWSGI forks from here on."""
    uwsgi = cast("Any", sys.modules.get("uwsgi"))  # it is there inside uWSGI alone
    options: dict[str, Any] | None = getattr(uwsgi, "opt", None)
    if options is None or not _SAFE_OPTIONS.isdisjoint(options):
        return
    from ctypes import pythonapi

    # What `os.fork()` does in a child, and the option py-call-osafterfork.
    after_fork: Callable[[], object] = pythonapi.PyOS_AfterFork_Child
    decorators = cast("Any", sys.modules.get("uwsgidecorators"))
    if decorators is not None:  # the hook is its own
        decorators.postfork_chain.insert(0, after_fork)
        return
    former: Any = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        after_fork()
        if former is not None:
            former()

    uwsgi.post_fork_hook = hook
