"""Our own work, which must not become telemetry again."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from opentelemetry.context import Context, attach, detach, set_value

T = TypeVar("T")

# What the exporters of the SDK set while they work, and instrumentations look for; it
# has no public name.
_SUPPRESS_KEY: str = getattr(
    import_module("opentelemetry.context"),
    "_SUPPRESS_INSTRUMENTATION_KEY",
    "suppress_instrumentation",
)

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
        return _suppressed
    suppress_instrumentation: Callable[[], AbstractContextManager[Any]]
    suppress_instrumentation = utils.suppress_instrumentation

    @contextmanager
    def both() -> Generator[None]:
        with _suppressed(), suppress_instrumentation():
            yield

    return both


@contextmanager
def _suppressed() -> Generator[None]:
    """Do what the exporters of the SDK do, with or without that package."""
    token = attach(set_value(_SUPPRESS_KEY, True))  # noqa: FBT003 - a value, no flag
    try:
        yield
    finally:
        detach(token)


def is_exporting(context: Context) -> bool:
    """Whether we, or an exporter of the program, are at work in the current context."""
    return in_delivery.get() or bool(context.get(_SUPPRESS_KEY))


@contextmanager
def own_work(
    suppressed: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Generator[None]:
    """Mark what runs inside as our own.

    Args:
        suppressed: What :func:`suppressor` found, where requests are made.
    """
    before = in_delivery.get()
    try:
        in_delivery.set(True)
        with suppressed():
            yield
    finally:
        in_delivery.set(before)


def as_own_work(work: Callable[[], T]) -> T:
    """Mark a call as our own where a signal handler may raise out of any line.

    An exception between entering a context manager and its block would leave the mark.
    """
    before = in_delivery.get()
    try:
        in_delivery.set(True)
        return work()
    finally:
        in_delivery.set(before)
