"""Metric families of Prometheus: joined from two sources, added over processes."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final, cast

from prometheus_client.core import Exemplar, Metric, Sample

# The names OpenMetrics reserves for a family, whether or not a sample uses them.
_RESERVED: Final = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
_TARGET: Final = "target"
_PROCESS: Final = "pid"

Key = frozenset[tuple[str, str]]
Series = dict[Key, list[Sample]]


def _samples(family: Metric) -> list[Sample]:
    samples: list[Sample] = family.samples
    return samples


def series_of(family: Metric) -> Series:
    """Give the samples of a family by their labels, without a bucket's bound."""
    found: Series = {}
    for sample in _samples(family):
        labels = frozenset(pair for pair in sample.labels.items() if pair[0] != "le")
        found.setdefault(labels, []).append(sample)
    return found


def joined(first: Iterable[Metric], second: Iterable[Metric]) -> list[Metric]:
    """Join two views on the same events.

    Either may have begun later than the other, and neither need see all, so the larger
    count of a series is the truer one. A gauge of both is that of the first view.

    Args:
        first: Families of one view; they are changed.
        second: Families of the other.
    """
    families = {family.name: family for family in first}
    for family in second:
        known = families.get(family.name)
        if known is not None and known.type != family.type:
            family = _renamed(family, f"{family.name}_{family.type}")  # noqa: PLW2901
            known = families.get(family.name)
        if known is None:
            if _is_free(family, families):
                families[family.name] = family
        elif known.type == family.type:
            _join(known, family)
    return list(families.values())


def _join(known: Metric, other: Metric) -> None:
    series = series_of(known)
    for labels, samples in series_of(other).items():
        mine = series.get(labels)
        is_larger = mine is not None and _count(samples) > _count(mine)
        if mine is None or (is_larger and known.type != "gauge"):
            series[labels] = samples
    known.samples = [sample for samples in series.values() for sample in samples]


def _count(samples: Sequence[Sample]) -> float:
    """Give how much a series saw: the last bucket of a histogram, a counter's sum."""
    return max((s.value for s in samples if not s.name.endswith("_sum")), default=0.0)


def _is_free(family: Metric, families: Mapping[str, Metric]) -> bool:
    """Whether no other family uses one of the names."""
    taken = {name for each in families.values() for name in _names(each)}
    return taken.isdisjoint(_names(family))


def _names(family: Metric) -> list[str]:
    return [family.name + suffix for suffix in _RESERVED.get(family.type, ("",))]


def _renamed(family: Metric, name: str) -> Metric:
    renamed = Metric(name, family.documentation, family.type)
    renamed.samples = [
        sample._replace(name=name + sample.name.removeprefix(family.name))
        for sample in _samples(family)
    ]
    return renamed


# -- over processes


class Sum:
    """Families of several processes as one page.

    Counters and histograms add up, dead processes included. Gauges exist while their
    process does and carry its ``pid``, but for those that are sums themselves.
    """

    def __init__(self) -> None:
        self._families: dict[tuple[str, str], tuple[Metric, Series]] = {}
        self._targets: list[dict[str, str]] = []

    def add(
        self,
        families: Iterable[Metric],
        additive: Iterable[str] = (),
        process: str | None = None,
    ) -> None:
        """Add the page of one process.

        Args:
            families: Of the process.
            additive: Names of gauges that add up.
            process: Its id; ``None`` when it is dead.
        """
        added = frozenset(additive)
        for family in families:
            if family.name == _TARGET:
                if process is not None:
                    self._targets += [s.labels for s in family.samples]
            elif family.type != "gauge" or (process and family.name in added):
                self._add(family, series_of(family))
            elif process is not None:
                self._add(family, _marked(family, process))

    def _add(self, family: Metric, series: Series) -> None:
        key = family.name, family.type
        if key not in self._families:
            made = Metric(family.name, family.documentation, family.type)
            self._families[key] = made, {}
        present = self._families[key][1]
        for labels, samples in series.items():
            if labels in present:
                present[labels] = _sum(present[labels], samples)
            else:
                present[labels] = samples

    def families(self) -> list[Metric]:
        """Give the page; of two types of one name, the second has it behind it."""
        found: dict[str, Metric] = {}
        target = self._target()
        if target is not None:
            found[_TARGET] = target
        for (name, kind), (family, series) in self._families.items():
            family.samples = [s for samples in series.values() for s in samples]
            shown = _renamed(family, f"{name}_{kind}") if name in found else family
            if _is_free(shown, found):
                found[shown.name] = shown
        return list(found.values())

    def _target(self) -> Metric | None:
        """Give what the living processes have in common: it is one target to scrape."""
        if not self._targets:
            return None
        common = set(self._targets[0].items())
        for labels in self._targets[1:]:
            common &= set(labels.items())
        target = Metric(_TARGET, "Target metadata", "info")
        target.samples = [Sample("target_info", dict(sorted(common)), 1.0)]
        return target


def _marked(family: Metric, process: str) -> Series:
    marked: Series = {}
    for labels, samples in series_of(family).items():
        key = labels | {(_PROCESS, process)}
        marked[key] = [
            sample._replace(labels={**sample.labels, _PROCESS: process})
            for sample in samples
        ]
    return marked


def _sum(present: Sequence[Sample], more: Sequence[Sample]) -> list[Sample]:
    """Add two series; of buckets with other bounds, those that both have are kept."""
    others = {_place(sample): sample for sample in more}
    added: list[Sample] = []
    for old in present:
        new = others.get(_place(old))
        if new is not None:
            marks = (old.exemplar, new.exemplar)
            latest = max(filter(None, marks), key=_moment, default=None)
            value = old.value + new.value
            added.append(old._replace(value=value, exemplar=latest))
    return added


def _place(sample: Sample) -> tuple[str, str]:
    return sample.name, sample.labels.get("le", "")


def _moment(exemplar: Exemplar) -> float:
    return float(cast("Any", exemplar.timestamp) or -inf)


# -- as JSON, for other processes


def to_json(families: Iterable[Metric]) -> list[Any]:
    """Give families as plain data."""
    return [
        [f.name, f.type, f.documentation, [_sample_to_json(s) for s in f.samples]]
        for f in families
    ]


def _sample_to_json(sample: Sample) -> list[Any]:
    mark = sample.exemplar
    shown = None if mark is None else [mark.labels, mark.value, mark.timestamp]
    return [sample.name, sample.labels, sample.value, shown]


def from_json(found: Iterable[Any]) -> list[Metric]:
    """Give families from plain data.

    Raises:
        ValueError: It is none of ours.
    """
    families: list[Metric] = []
    for name, kind, documentation, samples in found:
        family = Metric(name, documentation, kind)
        family.samples = [
            Sample(s_name, labels, float(value), None, mark and Exemplar(*mark))
            for s_name, labels, value, mark in samples
        ]
        families.append(family)
    return families
