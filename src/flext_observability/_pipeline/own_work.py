"""Our own work, which must not become telemetry again."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any

# True while we work: the log bridge takes nothing then.
in_delivery: ContextVar[bool] = ContextVar("flext_in_delivery", default=False)


@cache
def suppressor() -> Callable[[], AbstractContextManager[Any]]:
    """Find what keeps automatic instrumentation from tracing our own requests."""
    # Looked up once, by whoever calls setup() first: an import that another thread
    # makes while the program forks would leave the child a lock nobody releases.
    try:
        utils: Any = import_module("opentelemetry.instrumentation.utils")
    except ImportError:
        return nullcontext  # without that package nothing is instrumented
    suppress_instrumentation: Callable[[], AbstractContextManager[Any]]
    suppress_instrumentation = utils.suppress_instrumentation
    return suppress_instrumentation


@contextmanager
def own_work(
    suppressed: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Generator[None]:
    """Mark what runs inside as our own.

    Args:
        suppressed: What :func:`suppressor` found, where requests are made.
    """
    token = in_delivery.set(True)
    try:
        with suppressed():
            yield
    finally:
        in_delivery.reset(token)
