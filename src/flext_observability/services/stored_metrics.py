"""Recorded metrics at a third of the memory that the entities take."""

from collections.abc import Iterator, Mapping

from ..entities import FlextMetric
from ..store import Shelf
from .series import Series


class StoredMetric:
    """One recorded metric; what it shares with its series is kept only there."""

    __slots__ = ("_emission", "id", "series", "timestamp", "unit", "value")

    def __init__(self, metric: FlextMetric, series: Series) -> None:
        """Keep a metric.

        Args:
            metric: The entity; it may change or go afterwards.
            series: Where it was counted.
        """
        self.id = metric.id
        self.series = series.key
        self.value = metric.value
        self.unit = series.unit if metric.unit == series.unit else metric.unit
        self.timestamp = metric.timestamp
        self._emission = metric.emission()

    @property
    def name(self) -> str:
        """Of the metric."""
        return self.series.name

    @property
    def metric_type(self) -> str:
        """Of the metric."""
        return self.series.metric_type

    def has_tags(self, tags: Mapping[str, object]) -> bool:
        """Whether the metric carries all of these tags."""
        own = dict(self.series.tags)
        return all(own.get(str(key)) == str(tags[key]) for key in tags)

    def entity(self) -> FlextMetric:
        """Give the metric: equal to the recorded one, and emitted like it."""
        metric = FlextMetric.model_construct(
            id=self.id,
            name=self.name,
            value=self.value,
            unit=self.unit,
            timestamp=self.timestamp,
            tags=dict(self.series.tags),
            metric_type=self.metric_type,
        )
        metric.share_emission(self._emission)
        return metric


class MetricsById(Mapping[str, FlextMetric]):
    """The stored metrics by id, the oldest first, to be read."""

    def __init__(self, shelf: Shelf[StoredMetric]) -> None:
        """Look at a shelf."""
        self._shelf = shelf

    def __getitem__(self, metric_id: str) -> FlextMetric:
        """Give a metric by id; KeyError when it is not held."""
        return self._shelf[metric_id].entity()

    def __iter__(self) -> Iterator[str]:
        """Give the ids."""
        return iter(self._shelf)

    def __len__(self) -> int:
        """Count what is held."""
        return len(self._shelf)
