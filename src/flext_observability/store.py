"""Bounded memory of entities: what queries, `/metrics` and the REST API read."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from .constants import FlextObservabilityConstants as C
from .locks import ForkSafeLock


class HasId(Protocol):
    """Anything with an id."""

    id: str


E = TypeVar("E", bound=HasId)


class Shelf(Generic[E]):
    """Entities of one kind by id, the newest last; thread-safe.

    When one more than ``limit`` arrives, the newest ``kept`` stay and it is added.
    """

    def __init__(self, limit: int = C.STORE_LIMIT, kept: int = C.STORE_KEPT) -> None:
        """Make an empty shelf.

        Args:
            limit: Entities held at most.
            kept: Entities that survive a cleanup; at most ``limit - 1``.
        """
        self._lock = ForkSafeLock()
        self._by_id: dict[str, E] = {}
        self.bound(limit, kept)

    def bound(self, limit: int, kept: int) -> None:
        """Take other bounds; they hold from the next arrival on."""
        with self._lock:
            self._limit = max(1, limit)
            self._kept = max(0, min(kept, self._limit - 1))

    def add(self, entity: E) -> list[E]:
        """Keep an entity; one of the same id is replaced in place.

        Returns:
            What had to go.
        """
        with self._lock:
            gone: list[E] = []
            if entity.id not in self._by_id and len(self._by_id) >= self._limit:
                ids = list(self._by_id)
                gone = [self._by_id.pop(old) for old in ids[: len(ids) - self._kept]]
            self._by_id[entity.id] = entity
            return gone

    def get(self, entity_id: str) -> E | None:
        """Give an entity by id."""
        with self._lock:
            return self._by_id.get(entity_id)

    def newest(
        self, limit: int, wanted: Callable[[E], bool] = lambda _: True
    ) -> list[E]:
        """Give the newest entities that are wanted, the newest first.

        Args:
            limit: Of the answer; below 1 gives none.
            wanted: Says whether an entity counts.
        """
        with self._lock:
            held = list(self._by_id.values())
        found: list[E] = []
        for entity in reversed(held):
            if len(found) >= limit:
                break
            if wanted(entity):
                found.append(entity)
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._by_id.clear()

    def __len__(self) -> int:
        """Count what is held."""
        return len(self._by_id)

    def __contains__(self, entity_id: object) -> bool:
        """Whether an id is held."""
        return entity_id in self._by_id

    def __getitem__(self, entity_id: str) -> E:
        """Give an entity by id; KeyError when it is not held."""
        return self._by_id[entity_id]

    def __iter__(self) -> Iterator[str]:
        """Give the ids, the oldest first."""
        with self._lock:
            return iter(list(self._by_id))


class Store:
    """What the services on one container share, by a name each service chooses."""

    def __init__(self) -> None:
        """Make an empty store."""
        self._lock = ForkSafeLock()
        self._parts: dict[str, object] = {}

    def part(self, name: str, make: Callable[[], "P"]) -> "P":
        """Give a part, made at its first use and the same for every service.

        Args:
            name: Of the part; only one module uses it.
            make: Makes it.
        """
        with self._lock:
            if name not in self._parts:
                self._parts[name] = make()
            return self._parts[name]  # type: ignore[return-value]  # one maker per name


P = TypeVar("P")
