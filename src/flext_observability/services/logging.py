"""Log entries: check, emit, keep, query."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from ..entities import FlextLogEntry
from ..recording import emit_log_entry
from ..result import FlextResult
from .membership import bounds_in_force, container_or_global, enrol, shelf_of
from .outcome import made, never_raises, newest_limit, word_asked

if TYPE_CHECKING:
    from ..container import FlextContainer
    from ..store import Shelf


class FlextLoggingService:
    """Takes log entries and answers questions about them."""

    def __init__(self, container: "FlextContainer | None" = None) -> None:
        """Join a container.

        Args:
            container: Its services share a store; the one of the process when not
                given.
        """
        self.container = container_or_global(container)
        self._entries: Shelf[FlextLogEntry] = shelf_of(self.container, "logs")
        enrol(self.container, "logging_service", self)

    @overload
    def log_entry(self, entry: FlextLogEntry) -> FlextResult[FlextLogEntry]: ...

    @overload
    def log_entry(
        self,
        level: str,
        message: str,
        context: Mapping[str, object] | None = None,
        correlation_id: str | None = None,
    ) -> FlextResult[FlextLogEntry]: ...

    @never_raises
    def log_entry(self, *args: Any, **kwargs: Any) -> FlextResult[FlextLogEntry]:
        """Check an entry, emit it unless that was done, and keep it.

        Takes a ``FlextLogEntry``, or the values of one: ``level``, ``message``,
        ``context``, ``correlation_id``.

        Returns:
            The entry, or ``Log entry validation failed: <message>``.
        """
        given = _entry_of(*args, **kwargs).flat_map(
            lambda entry: entry.validate_business_rules().map(lambda _: entry)
        )
        if given.is_failure:
            return FlextResult[FlextLogEntry].fail(
                f"Log entry validation failed: {given.error}",
                exception=given.exception,
            )
        self._entries.bound(*bounds_in_force())
        self._entries.add(given.data)
        emit_log_entry(given.data)
        return given

    @never_raises
    def get_logs(
        self,
        *,
        level: str | None = None,
        correlation_id: str | None = None,
        limit: int = 100,
    ) -> FlextResult[list[FlextLogEntry]]:
        """Give stored entries, the newest first.

        Args:
            level: Only these, in any case.
            correlation_id: Only these.
            limit: Of the answer.
        """
        asked = word_asked(level)

        def is_wanted(entry: FlextLogEntry) -> bool:
            return (level is None or asked == entry.level) and (
                correlation_id is None or entry.correlation_id == correlation_id
            )

        found = self._entries.newest(newest_limit(limit), is_wanted)
        return FlextResult[list[FlextLogEntry]].ok(found)


def _entry_of(
    entry: object = None,
    message: object = None,
    context: object = None,
    correlation_id: object = None,
    **named: object,
) -> FlextResult[FlextLogEntry]:
    first = named.pop("level", entry)
    if named:
        unknown = ", ".join(sorted(named))
        return FlextResult[FlextLogEntry].fail(f"unknown argument: {unknown}")
    if isinstance(first, FlextLogEntry):
        return FlextResult[FlextLogEntry].ok(first)
    fields: dict[str, object] = {
        "level": first,
        "message": message,
        "context": {} if context is None else context,
    }
    if correlation_id is not None:
        fields["correlation_id"] = correlation_id
    return made(FlextLogEntry, fields)
