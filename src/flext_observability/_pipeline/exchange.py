"""What lets the inside of a provider be exchanged.

The OTel API lets a process set its global providers a single time. These stay, and
pass everything on to the pipeline of the moment; tracers, instruments and loggers that
somebody obtained earlier follow. Without a pipeline they do nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from ..locks import ForkSafeLock
from ..own_log import WARNING, say

P = TypeVar("P")


class Exchangeable(Generic[P]):
    """A provider around another one; what it gave out is told of every exchange."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._followers: WeakSet[Any] = WeakSet()
        self.inner: P | None = None

    def add(self, follower: Any) -> None:
        """Let a tracer, meter or logger follow."""
        with self._lock:
            self._followers.add(follower)
            follow(follower, self.inner)

    def exchange(self, inner: P | None) -> None:
        """Put another provider, or none, in place of the inner one."""
        with self._lock:
            self.inner = inner
            for follower in list(self._followers):
                follow(follower, inner)

    def __getattr__(self, name: str) -> Any:
        """Give what an SDK provider has beyond the API."""
        inner = self.__dict__.get("inner")
        if inner is None:
            message = f"{type(self).__name__} has no {name!r} before setup()"
            raise AttributeError(message)
        return getattr(inner, name)


def follow(follower: Any, inner: Any) -> Exception | None:
    """Exchange one; what the SDK refuses, such as a bad name, does nothing.

    Returns:
        What was raised once only: by a signal handler of the host, so it is for him.
    """
    stray: Exception | None = None
    while True:
        try:
            follower.follow(inner)
        except Exception as error:  # noqa: BLE001 - the others must follow all the same
            if stray is not None:
                say(WARNING, "%s: %s", type(follower).__name__, error)
                follower.follow(None)
                return None
            stray = error
        else:
            return stray


class Awakening:
    """Stands in a forked child where a provider, tracer, instrument or logger was.

    The child's own pipeline is built when one of them is first used: most children
    (and every ``subprocess``) never do, and a fork handler is no place for that work.
    """

    def __init__(self, awake: Callable[[], Any]) -> None:
        """Prepare.

        Args:
            awake: Builds the child's pipeline and gives what stands here then.
        """
        self._awake = awake

    def get_tracer(self, *arguments: Any) -> Any:
        """Give a tracer that awakens when it is used."""
        return Awakening(lambda: self._awake().get_tracer(*arguments))

    def get_meter(self, *arguments: Any) -> Any:
        """Give a meter that awakens when it is used."""
        return Awakening(lambda: self._awake().get_meter(*arguments))

    def get_logger(self, *arguments: Any) -> Any:
        """Give a logger that awakens when it is used."""
        return Awakening(lambda: self._awake().get_logger(*arguments))

    def __getattr__(self, name: str) -> Any:
        """Awaken, except that making an instrument can wait until it is used."""
        if name.startswith("create_"):
            return partial(self._make_later, name)
        return getattr(self._awake(), name)

    def _make_later(self, make: str, **arguments: Any) -> "Awakening":
        return Awakening(lambda: getattr(self._awake(), make)(**arguments))
