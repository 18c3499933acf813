"""How a service belongs to a container and finds the store it shares there."""

from typing import Any, TypeVar

from pydantic import InstanceOf, TypeAdapter

from ..constants import FlextObservabilityConstants as C
from ..container import FlextContainer
from ..result import FlextResult
from ..settings_reader import settings_in_force
from ..store import HasId, Shelf

E = TypeVar("E", bound=HasId)

_CONTAINER: TypeAdapter[FlextContainer] = TypeAdapter(InstanceOf[FlextContainer])


def container_or_global(container: object) -> FlextContainer:
    """Give the container a service is built on.

    Args:
        container: A container, or ``None`` for the one of the process.

    Raises:
        ValidationError: It is neither.
    """
    if container is None:
        return FlextContainer.get_global()
    return _CONTAINER.validate_python(container)


def enrol(container: FlextContainer, key: str, service: object) -> None:
    """Register a service under its key, unless another one is there already."""
    container.register(key, service)


def bounds_in_force() -> tuple[int, int]:
    """Give limit and kept count of the stores, by the settings in force."""
    found = FlextResult.ok(None).map(lambda _: settings_in_force().store_bounds())
    # A broken environment is told by setup(); here the default does.
    return found.unwrap_or((C.STORE_LIMIT, C.STORE_KEPT))


def shelf_of(container: FlextContainer, kind: str) -> Shelf[Any]:
    """Give the shelf of one kind of entity, bounded by the settings in force."""
    shelf = container.store().part(kind, Shelf[Any])
    shelf.bound(*bounds_in_force())
    return shelf
