"""An OTel instrument whose measurements are appended, not handed in one by one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .digest import Bounds

if TYPE_CHECKING:
    from .sdk_aggregations import Streams

FindStreams = Callable[[Any], "Streams"]
"""Finds what the SDK collects from one of its instruments."""

FIRST = float("-inf")
"""The ``high`` of a series whose next measurement takes the public call."""
TAKE_ALL = 10**18
"""The ``high`` of a series that appends everything; far inside 64 bits. An integer, as
most measurements are: comparing one with a float takes twice as long."""


class Followed(Protocol):
    """An OTel instrument that follows the pipeline."""

    @property
    def target(self) -> Any:
        """The instrument of the moment."""
        ...


class Instrument:
    """An OTel instrument, to be made when it is first needed."""

    def __init__(
        self,
        method: str,
        make: Callable[[], Followed],
        *,
        per_unit: int = 1,
        bounds_s: Callable[[], Bounds] | None = None,
    ) -> None:
        """Prepare.

        Args:
            method: Of the instrument: ``add``, ``record`` or ``set``.
            make: Makes it.
            per_unit: How many units of the measured values make one of its unit.
            bounds_s: Of the totals of monitored calls, where they count these.
        """
        self.bounds_s = bounds_s
        self.per_unit = per_unit
        self.series: dict[object, Any] = {}
        """By whatever their user finds them with; bounded by him."""
        self._method = method
        self._make = make
        self._made: Followed | None = None
        self._streams: Streams | None = None

    def measure(
        self, value: float, labels: Mapping[str, Any], context: Any = None
    ) -> None:
        """Take the public call."""
        if self._made is None:
            self._made = self._make()
        if self.per_unit != 1:
            value /= self.per_unit
        getattr(self._made, self._method)(value, labels, context)

    def streams(self, find: FindStreams) -> "Streams":
        """Give what the SDK collects from this instrument now."""
        if self._made is None:
            self._made = self._make()
        target = self._made.target
        streams = self._streams
        if streams is None or not streams.is_current(target):
            self._streams = streams = find(target)
        return streams

    def high_after(self, value: float, find: FindStreams) -> float:
        """Give the ``high`` of a series that just took the public call."""
        if not self.streams(find).is_mergeable:
            return FIRST
        # What exceeds those before by a quarter is worth an exemplar. A factor bounds
        # how many there can be while everything gets slower and slower.
        if self._method != "record":
            return TAKE_ALL
        clearly_more = value * 5 // 4 if type(value) is int else value * 1.25
        return min(clearly_more, TAKE_ALL)
