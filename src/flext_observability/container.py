"""A container of services; two containers share nothing."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from .locks import ForkSafeLock
from .result import FlextResult
from .store import Store

T = TypeVar("T")


class FlextContainer:
    """Holds services by name, and the store that the services on it share."""

    _global: ClassVar["FlextContainer | None"] = None
    _global_lock: ClassVar[ForkSafeLock] = ForkSafeLock()

    def __init__(self) -> None:
        """Make an empty container with a store of its own."""
        self._lock = ForkSafeLock()
        self._services: dict[str, object] = {}
        self._factories: dict[str, Callable[[], object]] = {}
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
            name: Not blank, and not taken unless ``replace``.
            service: Any object.
            replace: Whether a taken name is given to the new service.
        """
        return self._claim(name, self._services, service, replace=replace)

    def register_factory(
        self, name: str, fn: Callable[[], object]
    ) -> FlextResult[None]:
        """Put a function under a name; it makes the service at the first ``get``.

        Args:
            name: Not blank and not taken.
            fn: Runs once; an exception that it raises is that ``get``'s failure.
        """
        if not callable(fn):
            return FlextResult[None].fail(
                f"Factory of service '{name}' must be callable, "
                f"got {type(cast('object', fn)).__name__}"
            )
        return self._claim(name, self._factories, fn, replace=False)

    def _claim(
        self, name: str, place: dict[str, Any], what: object, *, replace: bool
    ) -> FlextResult[None]:
        if not str(name).strip():
            return FlextResult[None].fail(f"Invalid service name {name!r}")
        with self._lock:
            if self.has(name) and not replace:
                return FlextResult[None].fail(f"Service '{name}' already registered")
            self._factories.pop(name, None)
            self._services.pop(name, None)
            place[name] = what
        return FlextResult[None].ok(None)

    def get(self, name: str) -> FlextResult[object]:
        """Give the service of a name; ``Service '<name>' not found`` otherwise."""
        with self._lock:
            if name in self._services:
                return FlextResult[object].ok(self._services[name])
            factory = self._factories.get(name)
            if factory is None:
                return FlextResult[object].fail(f"Service '{name}' not found")
            try:
                made = factory()
            except Exception as error:  # noqa: BLE001 - the factory's failure is the result
                return FlextResult[object].fail(
                    f"Service '{name}' cannot be made: {type(error).__name__}: {error}",
                    exception=error,
                )
            self._services[name] = made
            self._factories.pop(name, None)
            return FlextResult[object].ok(made)

    def get_typed(self, name: str, type_: type[T]) -> FlextResult[T]:
        """Give the service of a name when it is of a type.

        Args:
            name: Of the service.
            type_: A class; a service of another one is a failure that names both.
        """
        found = self.get(name)
        if found.is_failure:
            return FlextResult[T].fail(found.error, exception=found.exception)
        if not isinstance(found.data, type_):
            return FlextResult[T].fail(
                f"Service '{name}' is a {type(found.data).__name__}, "
                f"not a {type_.__name__}"
            )
        return FlextResult[T].ok(found.data)

    def unregister(self, name: str) -> FlextResult[None]:
        """Take a service out; ``Service '<name>' not found`` when there is none."""
        with self._lock:
            if not self.has(name):
                return FlextResult[None].fail(f"Service '{name}' not found")
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
            return name in self._services or name in self._factories

    def list_services(self) -> list[str]:
        """Give the taken names, sorted."""
        with self._lock:
            return sorted({*self._services, *self._factories})

    def __repr__(self) -> str:
        """Show the taken names."""
        return f"FlextContainer({', '.join(self.list_services())})"
