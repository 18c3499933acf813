"""A container of services; two containers share nothing."""

from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

from .locks import ForkSafeLock
from .result import FlextResult
from .store import Store

T = TypeVar("T")


class _Factory:
    """Makes a service, once; others who want that service wait for it."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self._fn = fn
        self._lock = ForkSafeLock()
        self._made: FlextResult[object] | None = None

    def make(self) -> FlextResult[object]:
        """Give the service, or why it cannot be made; a failure is tried again."""
        with self._lock:
            if self._made is not None:
                return self._made
            made = FlextResult[None].ok(None).map(lambda _: self._fn())
            if made.is_success:
                self._made = made
            return made


class FlextContainer:
    """Holds services by name, and the store that the services on it share."""

    _global: ClassVar["FlextContainer | None"] = None
    _global_lock: ClassVar[ForkSafeLock] = ForkSafeLock()

    def __init__(self) -> None:
        """Make an empty container with a store of its own."""
        self._lock = ForkSafeLock()
        self._services: dict[str, object] = {}
        self._factories: dict[str, _Factory] = {}
        self._store = Store()

    @classmethod
    def get_global(cls) -> "FlextContainer":
        """Give the container of the process."""
        with FlextContainer._global_lock:
            if FlextContainer._global is None:
                FlextContainer._global = FlextContainer()
            return FlextContainer._global

    @classmethod
    def reset_global(cls) -> None:
        """Forget the container of the process; services built on it keep theirs."""
        with FlextContainer._global_lock:
            FlextContainer._global = None

    def store(self) -> Store:
        """Give the store that the services on this container share."""
        return self._store

    def register(
        self, name: str, service: object, *, replace: bool = False
    ) -> FlextResult[None]:
        """Put a service under a name.

        Args:
            name: Text, not blank, and not taken unless ``replace``.
            service: Any object.
            replace: Whether a taken name is given to the new service.
        """
        return self._claim(name, service, replace=replace)

    def register_factory(
        self, name: str, fn: Callable[[], object]
    ) -> FlextResult[None]:
        """Put a function under a name; it makes the service at the first ``get``.

        Args:
            name: Text, not blank and not taken.
            fn: Runs until it succeeds once; an exception that it raises is that
                ``get``'s failure.
        """
        if not callable(fn):
            return FlextResult[None].fail(
                f"Factory of service '{_shown(name)}' must be callable, "
                f"got {type(cast('object', fn)).__name__}"
            )
        return self._claim(name, _Factory(fn), replace=False)

    def _claim(self, name: str, what: object, *, replace: bool) -> FlextResult[None]:
        if not _is_text(name) or not name.strip():
            return FlextResult[None].fail(f"Invalid service name {_shown(name)!r}")
        with self._lock:
            if self.has(name) and not replace:
                return FlextResult[None].fail(f"Service '{name}' already registered")
            self._factories.pop(name, None)
            self._services.pop(name, None)
            if isinstance(what, _Factory):
                self._factories[name] = what
            else:
                self._services[name] = what
        return FlextResult[None].ok(None)

    def get(self, name: str) -> FlextResult[object]:
        """Give the service of a name; ``Service '<name>' not found`` otherwise."""
        with self._lock:
            if not self.has(name):
                return FlextResult[object].fail(f"Service '{_shown(name)}' not found")
            if name in self._services:
                return FlextResult[object].ok(self._services[name])
            factory = self._factories[name]
        # It may be slow, or use another container: nobody else waits for it here.
        made = factory.make()
        if made.is_failure:
            return FlextResult[object].fail(
                f"Service '{name}' cannot be made: {made.error}",
                exception=made.exception,
            )
        return made

    def get_typed(self, name: str, type_: type[T]) -> FlextResult[T]:
        """Give the service of a name when it is of a type.

        Args:
            name: Of the service.
            type_: A class; a service of another one is a failure that names both.
        """
        found = self.get(name)
        if found.is_failure:
            return FlextResult[T].fail(found.error, exception=found.exception)
        is_one = found.map(lambda service: isinstance(service, type_))
        if is_one.is_failure:  # e.g. of list[int], which no object is an instance of
            return FlextResult[T].fail(
                f"Service '{name}' cannot be checked: {is_one.error}",
                exception=is_one.exception,
            )
        if not is_one.data:
            return FlextResult[T].fail(
                f"Service '{name}' is a {type(found.data).__name__}, "
                f"not a {getattr(type_, '__name__', 'type of these')}"
            )
        return FlextResult[T].ok(cast("T", found.data))

    def unregister(self, name: str) -> FlextResult[None]:
        """Take a service out; ``Service '<name>' not found`` when there is none."""
        with self._lock:
            if not self.has(name):
                return FlextResult[None].fail(f"Service '{_shown(name)}' not found")
            self._services.pop(name, None)
            self._factories.pop(name, None)
        return FlextResult[None].ok(None)

    def clear(self) -> FlextResult[None]:
        """Take every service out; the store stays."""
        with self._lock:
            self._services.clear()
            self._factories.clear()
        return FlextResult[None].ok(None)

    def has(self, name: str) -> bool:
        """Whether a name is taken."""
        with self._lock:
            return _is_text(name) and (
                name in self._services or name in self._factories
            )

    def list_services(self) -> list[str]:
        """Give the taken names, sorted."""
        with self._lock:
            return sorted({*self._services, *self._factories})

    def __repr__(self) -> str:
        """Show the taken names."""
        return f"FlextContainer({', '.join(self.list_services())})"


def _is_text(name: object) -> bool:
    return isinstance(name, str)


def _shown(name: object) -> str:
    """Give a name, or what stands in its place."""
    return name if isinstance(name, str) else type(name).__name__
