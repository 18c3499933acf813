"""Prometheus: what the meter provider holds, as exposition text and over HTTP."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import chain
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Exemplar, Metric, Sample
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from ..own_log import INFO, WARNING, say
from .prometheus_names import Labels, legal_labels, legal_name, legal_text

if TYPE_CHECKING:  # most readers serve nothing: they push, or show to one who serves
    from ..access import AccessRules
    from .metrics_server import MetricsServer

_number_text = cast("Callable[[float], str]", floatToGoString)

_SCRAPE_TIMEOUT_S = 10.0
_SAY_EVERY_S = 60.0
# Exponential buckets are merged to at most four per power of two: the bounds of every
# coarser scale are among these, so the `le` values of a series hardly ever change.
_FINEST_SCALE = 2
# Series whose last exemplars are kept.
_MARKS_LIMIT = 10_000
_LARGEST_EXPONENT = 1024  # 2.0**1024 is beyond the largest float
_SCOPE_LABELS = ("otel_scope_name", "otel_scope_version")
# The names OpenMetrics reserves for a family, whether or not a sample uses them.
_RESERVED = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
}
_Histogram = otel.HistogramDataPoint | otel.ExponentialHistogramDataPoint
_Point = otel.NumberDataPoint | _Histogram
_Marks = dict[int, Exemplar]
_Page = dict[str, tuple[Metric, dict[frozenset[tuple[str, str]], list[Sample]]]]


class PrometheusReader(otel.MetricReader):
    """A pull reader: every scrape collects the meter provider it was given to.

    All temporalities are cumulative, the default of the base class. A data point that
    cannot be shown is left out and counted in `skipped`; the rest is unaffected.

    Args:
        resource: Of the meter provider; the SDK tells it only where there is a metric.
        own_scope: Instrumentation scope whose series carry no `otel_scope_*` labels.
        clean: Takes secrets out of a collection before it is shown.
    """

    def __init__(
        self,
        resource: Resource,
        own_scope: str = "flext_observability",
        clean: Callable[[otel.MetricsData], otel.MetricsData] = lambda data: data,
    ) -> None:
        super().__init__()
        self._resource = resource
        self._clean = clean
        self.skipped = 0
        self._own_scope = own_scope
        self._families: dict[tuple[str, str], str] = {}
        self._taken = {"target", "target_info"}
        self._lock = Lock()
        self._received: list[otel.MetricsData] = []
        self._closed = False
        self._server: MetricsServer | None = None
        self._silent_until = 0.0
        self._registry = CollectorRegistry(support_collectors_without_names=True)
        self._registry.register(_Collector(self.families))
        self._marks: dict[tuple[str, frozenset[tuple[str, str]]], _Marks] = {}
        self.additive: set[str] = set()
        """Gauges that are sums of what goes up and down: those of processes add up."""

    def text(self, openmetrics: bool = False) -> str:  # noqa: FBT001, FBT002
        """Collect; return OpenMetrics 1.0 with exemplars, or Prometheus 0.0.4 text."""
        accept = "application/openmetrics-text; version=1.0.0"
        encode = choose_encoder(accept)[0] if openmetrics else generate_latest
        return encode(self._registry).decode()

    def serve(self, host: str, port: int, rules: "AccessRules") -> int:
        """Answer scrapes from a daemon thread until `shutdown`; return the port.

        Args:
            host: Address to listen on.
            port: TCP port; 0 takes a free one.
            rules: Who may scrape.

        Raises:
            OSError: If the address cannot be taken; the text names it and the reason.
            RuntimeError: If the reader serves already or was shut down.
        """
        if self._closed or self._server:
            raise RuntimeError("Prometheus reader serves already or was shut down")
        from .metrics_server import MetricsServer

        try:
            self._server = MetricsServer(host, port, self._registry, rules)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            words = f"Prometheus endpoint cannot listen on {host}:{port}: {reason}"
            raise OSError(getattr(error, "errno", None), words) from error
        say(INFO, "Prometheus metrics at http://%s:%d", host, self._server.port)
        return self._server.port

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        """Stop serving and free the port; later scrapes are empty."""
        self._closed = True
        server, self._server = self._server, None
        if server is not None:
            server.stop(timeout_millis / 1000)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        """Do nothing: every scrape collects afresh."""
        return True

    def _receive_metrics(
        self, metrics_data: otel.MetricsData, *_: object, **__: object
    ) -> None:
        self._received.append(metrics_data)

    @contextmanager
    def _tolerance(self, what: str) -> Generator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one bad point, not the whole page
            self.skipped += 1
            if monotonic() >= self._silent_until:
                self._silent_until = monotonic() + _SAY_EVERY_S
                words = "Prometheus scrape without %s: %s (%d left out so far)"
                say(WARNING, words, what, error, self.skipped)

    def families(self) -> list[Metric]:
        """Collect; return all metrics as prometheus_client knows them."""
        page: _Page = {}
        with self._tolerance("all metrics"):
            # Scrapes wait for each other, but not for ever behind a hanging callback.
            if not self._lock.acquire(timeout=_SCRAPE_TIMEOUT_S):
                raise TimeoutError("the scrape before has not ended")
            try:
                if not self._closed:
                    page["target"] = target_family(self._resource), {}
                    self.collect(_SCRAPE_TIMEOUT_S * 1000)
                while self._received:
                    self._convert(self._clean(self._received.pop()), page)
            finally:
                self._lock.release()
        for family, series in page.values():
            family.samples += chain.from_iterable(series.values())
        return [family for family, _ in page.values()]

    def _convert(self, data: otel.MetricsData, page: _Page) -> None:
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                labels = self._scope_labels(scope.scope)
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        with self._tolerance(metric.name):
                            self._add(page, metric, point, labels)

    def _scope_labels(self, scope: InstrumentationScope) -> Labels:
        if scope.name == self._own_scope:
            return {}
        values = (scope.name, scope.version or "")
        return legal_labels(dict(zip(_SCOPE_LABELS, values, strict=True)))

    def _add(
        self, page: _Page, metric: otel.Metric, point: _Point, scope: Labels
    ) -> None:
        name, reserved = legal_name(metric.name), set(_SCOPE_LABELS)
        if not isinstance(point, otel.NumberDataPoint):
            kind, reserved = "histogram", reserved | {"le"}
        elif isinstance(metric.data, otel.Sum) and metric.data.is_monotonic:
            kind, name = "counter", name.removesuffix("_total") or name
        else:
            kind = "gauge"
        name = self._family(name, kind)
        if kind == "gauge" and isinstance(metric.data, otel.Sum):
            self.additive.add(name)
        labels = legal_labels(point.attributes or {}, reserved) | scope
        if isinstance(point, otel.NumberDataPoint):
            samples = [_number(name, labels, point, counter=kind == "counter")]
        else:
            samples = _histogram(name, labels, point)
        if name not in page:
            family = Metric(name, legal_text(metric.description or ""), kind)
            page[name] = family, {}
        series = page[name][1]
        key = frozenset(labels.items())
        if key in series and not isinstance(metric.data, otel.Gauge):
            samples = _sum(series[key], samples)
        series[key] = self._marked((name, key), samples, bool(point.exemplars))

    def _marked(
        self,
        series: tuple[str, frozenset[tuple[str, str]]],
        samples: list[Sample],
        is_new: bool,  # noqa: FBT001 - private
    ) -> list[Sample]:
        """Keep exemplars: the SDK gives each of them to one collection only."""
        kept = self._marks.get(series)
        if not is_new and kept is None:
            return samples
        kept = {} if kept is None else kept
        for place, sample in enumerate(samples):
            if sample.exemplar is not None:
                kept[place] = sample.exemplar
        if series not in self._marks and len(self._marks) >= _MARKS_LIMIT:
            del self._marks[next(iter(self._marks))]
        self._marks[series] = kept
        return [
            sample._replace(exemplar=kept.get(place))
            for place, sample in enumerate(samples)
        ]

    def _family(self, name: str, kind: str) -> str:
        """The name of a family, the same in every scrape: the first type keeps it."""
        if (name, kind) in self._families:
            return self._families[name, kind]
        for candidate in (name, f"{name}_{kind}"):
            wanted = {candidate + suffix for suffix in _RESERVED[kind]}
            if self._taken.isdisjoint(wanted):
                self._taken |= wanted
                self._families[name, kind] = candidate
                return candidate
        raise ValueError(f"other metrics have the names that {kind} {name} needs")


def target_family(resource: Resource) -> Metric:
    """Give what joins every metric of a process with who it is: ``target_info``."""
    family = Metric("target", "Target metadata", "info")
    labels = legal_labels(resource.attributes)
    family.samples = [Sample("target_info", labels, 1.0)]
    return family


class _Collector:
    """What the registry asks; `MetricReader.collect` means something else."""

    def __init__(self, scrape: Callable[[], list[Metric]]) -> None:
        self.collect = scrape


def _number(
    name: str, labels: Labels, point: otel.NumberDataPoint, *, counter: bool
) -> Sample:
    value = float(point.value)
    if not counter:
        return Sample(name, labels, value)
    if not value >= 0:
        raise ValueError(f"a counter cannot be {value}")
    latest = next(reversed(_exemplars(point)), None)
    return Sample(f"{name}_total", labels, value, None, latest)


def _histogram(name: str, labels: Labels, point: _Histogram) -> list[Sample]:
    buckets = _buckets(point)
    bounds = sorted(buckets)
    shown = {bisect_left(bounds, e.value): e for e in _exemplars(point)}
    samples: list[Sample] = []
    count = 0.0
    for place, bound in enumerate(bounds):
        count += buckets[bound]
        le = labels | {"le": _number_text(bound)}
        samples.append(Sample(f"{name}_bucket", le, count, None, shown.get(place)))
    # OpenMetrics: no sum, and without it no count, where measurements can be negative.
    if bounds[0] >= 0 and point.sum >= 0:
        samples.append(Sample(f"{name}_count", labels, count))
        samples.append(Sample(f"{name}_sum", labels, float(point.sum)))
    return samples


def _buckets(point: _Histogram) -> dict[float, int]:
    """Counts by upper bound; exponential bucket i is base**i < x <= base**(i + 1)."""
    if isinstance(point, otel.HistogramDataPoint):
        bounds = (*point.explicit_bounds, inf)
        return dict(zip(bounds, point.bucket_counts, strict=True))
    shift = max(point.scale - _FINEST_SCALE, 0)
    step = 2.0 ** (shift - point.scale)  # the exponent of two that one bucket spans
    buckets = Counter({0.0: point.zero_count, inf: 0})
    for sign, side in ((1, point.positive), (-1, point.negative)):
        for index, inside in enumerate(side.bucket_counts, side.offset):
            if inside:
                edges = (index >> shift) * step, ((index >> shift) + 1) * step
                low, high = sorted(sign * _power_of_two(edge) for edge in edges)
                # The lower edge too: quantiles must not reach into an empty gap.
                buckets[low] += 0
                buckets[high] += inside
    return buckets


def _power_of_two(exponent: float) -> float:
    return 2.0**exponent if exponent < _LARGEST_EXPONENT else inf


def _exemplars(point: _Point) -> list[Exemplar]:
    """Those that lead to a span, oldest first; 63 of the 128 characters allowed."""
    marks: list[Exemplar] = []
    for found in sorted(point.exemplars, key=lambda e: e.time_unix_nano):
        if found.trace_id and found.span_id:
            ids = {"trace_id": format_trace_id(found.trace_id)}
            ids["span_id"] = format_span_id(found.span_id)
            marks.append(Exemplar(ids, float(found.value), found.time_unix_nano / 1e9))
    return marks


def _sum(present: list[Sample], more: list[Sample]) -> list[Sample]:
    # Two OTel series became one when their names were made legal (`a.b` and `a_b`).
    if [sample[:2] for sample in present] != [sample[:2] for sample in more]:
        raise ValueError("a series with the same labels has other buckets")
    return [
        old._replace(value=old.value + new.value, exemplar=new.exemplar or old.exemplar)
        for old, new in zip(present, more, strict=True)
    ]
