"""Carry our context into thread pools, for monitored functions only."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ..correlation import OwnContext

MONITORED_MARK = "__flext_monitored__"


def is_monitored(function: object) -> bool:
    """Whether a callable is one of our decorated functions, also bound or partial."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, MONITORED_MARK, False) is True


def install_executor_propagation() -> Callable[[], None]:
    """Let thread pools run monitored functions with our context of their submitter.

    All other variables are the worker's: what its initializer set, what it keeps from
    job to job. Stands in ``ThreadPoolExecutor.submit``, which
    ``loop.run_in_executor`` goes through too; ``asyncio.to_thread`` carries the context
    by itself. Other callables are submitted exactly as before.

    Returns:
        What undoes it.
    """
    original = ThreadPoolExecutor.submit

    def submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if is_monitored(fn):
            return original(self, OwnContext().run, fn, *args, **kwargs)
        return original(self, fn, *args, **kwargs)

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign,assignment]  # undone below

    def undo() -> None:
        if ThreadPoolExecutor.submit is submit:
            ThreadPoolExecutor.submit = original  # type: ignore[method-assign]  # put back

    return undo
