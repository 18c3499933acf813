"""Prometheus text of totals, rendered by prometheus_client."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric, Sample
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from .._pipeline.prometheus_names import Labels, legal_labels, legal_name, legal_text

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum"),
}


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram at one moment."""

    cumulative: dict[float, int]
    """Values up to and including each rising bound, ``inf`` the last one."""
    sum: float

    def with_other(self, other: "Buckets") -> "Buckets":
        """Add another one; bounds that only one of them has cannot be kept."""
        common = {
            bound: count + other.cumulative[bound]
            for bound, count in self.cumulative.items()
            if bound in other.cumulative
        }
        return Buckets(common, self.sum + other.sum)


class Row(NamedTuple):
    """One series to show."""

    name: str
    kind: str
    """``gauge``, ``counter`` or ``histogram``."""
    labels: dict[str, str]
    value: float | Buckets
    began_ns: int
    """Orders rows by age: the older type of a name keeps it."""
    unit: str = ""


@dataclass(slots=True)
class _Family:
    """All series of one shown name."""

    shown: str
    kind: str
    help: str
    values: dict[tuple[tuple[str, str], ...], float | Buckets] = field(
        default_factory=dict[tuple[tuple[str, str], ...], "float | Buckets"]
    )

    def add(self, row: Row) -> None:
        """Show a series; one whose labels read the same is joined to it."""
        reserved = ("le",) if self.kind == "histogram" else ()
        labels = tuple(sorted(legal_labels(row.labels, reserved).items()))
        known = self.values.get(labels)
        if known is None or self.kind == "gauge":
            self.values[labels] = row.value
        elif isinstance(known, Buckets):
            self.values[labels] = known.with_other(cast("Buckets", row.value))
        else:
            self.values[labels] = known + cast("float", row.value)

    def metric(self) -> Metric:
        """Give what prometheus_client renders."""
        metric = Metric(self.shown, self.help, self.kind)
        suffix = "_total" if self.kind == "counter" else ""
        for pairs, value in sorted(self.values.items(), key=lambda item: item[0]):
            labels = dict(pairs)
            if isinstance(value, Buckets):
                metric.samples += _bucket_samples(self.shown, labels, value)
            else:
                metric.samples.append(Sample(self.shown + suffix, labels, value))
        return metric


def _bucket_samples(name: str, labels: Labels, value: Buckets) -> list[Sample]:
    number_text = cast("type[str]", floatToGoString)
    return [
        *(
            Sample(f"{name}_bucket", labels | {"le": number_text(bound)}, count)
            for bound, count in value.cumulative.items()
        ),
        Sample(f"{name}_count", labels, max(value.cumulative.values())),
        Sample(f"{name}_sum", labels, value.sum),
    ]


class _Names:
    """Which name each kind of a metric is shown by; no two share a sample name."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._shown: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def shown(self, name: str, kind: str) -> str:
        """Give the family name of a metric; the first type of a name keeps it."""
        known = self._given.get((name, kind))
        if known is not None:
            return known
        whole = legal_name(name, also=":")
        stem = (whole.removesuffix("_total") or whole) if kind == "counter" else whole
        key = (stem, kind)
        if key not in self._shown:
            # `orders` and `orders_total` are the names of a counter written `orders`.
            own = {whole} if kind == "counter" else set[str]()
            self._shown[key] = self._free(stem, kind, own)
        self._given[name, kind] = self._shown[key]
        return self._shown[key]

    def _free(self, stem: str, kind: str, own: set[str]) -> str:
        wanted = own | {stem + suffix for suffix in _SUFFIXES[kind]}
        candidate, number = stem, 1
        while not self._taken.isdisjoint(wanted):
            candidate = f"{stem}_{kind}" + (f"_{number}" if number > 1 else "")
            wanted = {candidate + suffix for suffix in _SUFFIXES[kind]}
            number += 1
        self._taken |= wanted
        return candidate


class _Page:
    """What the registry asks."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Give the families."""
        return self._metrics


def prometheus_text(rows: Iterable[Row]) -> str:
    """Render series as Prometheus text, format 0.0.4.

    Args:
        rows: As for :func:`prometheus_families`.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(_Page(prometheus_families(rows)))
    return generate_latest(registry).decode()


def prometheus_families(rows: Iterable[Row]) -> list[Metric]:
    """Give series as what prometheus_client renders.

    Args:
        rows: In the order of their last update: of two gauges that read the same, the
            later one counts.
    """
    rows = list(rows)
    names = _Names()
    for row in sorted(rows, key=lambda each: each.began_ns):
        names.shown(row.name, row.kind)
    # A gauge `orders` and a counter `orders_total` are families of one name.
    families: dict[tuple[str, str], _Family] = {}
    for row in rows:
        key = names.shown(row.name, row.kind), row.kind
        if key not in families:
            families[key] = _Family(*key, _help(row))
        families[key].add(row)
    return [families[key].metric() for key in sorted(families)]


def _help(row: Row) -> str:
    unit = f", unit {row.unit}" if row.unit else ""
    return legal_text(f"{row.kind.capitalize()} {row.name}{unit}.")
