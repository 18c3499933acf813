"""PromQL over the metrics of the catalogue, for dashboards and rules alike."""

import json
from dataclasses import dataclass

from .._pipeline.prometheus_names import legal_name
from ..catalogue import (
    ALERTS,
    HEALTH_STATUS,
    OPERATION_DURATION,
    RECORDS,
    SERVED_REQUESTS,
    SPOOL_LIMIT,
    SPOOL_USAGE,
    EmittedMetric,
)

_NAME_LENGTH = 255
# What the collector's Prometheus exporter appends, by unit.
_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}


def page_name(metric: EmittedMetric) -> str:
    """Give the family name of a metric on our own pages."""
    return legal_name(metric.name) + ("_total" if metric.kind == "counter" else "")


def collector_name(metric: EmittedMetric) -> str:
    """Give the family name of a metric on the page of the OpenTelemetry Collector."""
    suffix = _UNIT_SUFFIXES.get(metric.unit, "")
    if metric.kind != "gauge" and suffix == "_ratio":
        suffix = ""
    return (
        legal_name(metric.name)
        + suffix
        + ("_total" if metric.kind == "counter" else "")
    )


def checked_service(name: str) -> str:
    """Give a service name that may stand in generated files.

    Raises:
        ValueError: It is empty, too long, or holds control characters.
    """
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        message = f"a service name is 1 to {_NAME_LENGTH} printable characters"
        raise ValueError(message)
    return name


def quoted(text: str) -> str:
    """Write a text as PromQL string: the escapes of JSON are among those of Go."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class Queries:
    """Expressions over some services and one window of time."""

    services: str = ""
    """A label matcher; empty for all services."""
    window: str = "5m"
    """Of rates."""

    def _series(self, name: str, *matchers: str) -> str:
        inside = ",".join(filter(None, (self.services, *matchers)))
        return f"{name}{{{inside}}}" if inside else name

    def _rate(self, name: str, *matchers: str, by: tuple[str, ...]) -> str:
        labels = ", ".join(by)
        series = self._series(name, *matchers)
        return f"sum by ({labels}) (rate({series}[{self.window}]))"

    def _share(self, part: str, whole: str) -> str:
        """Divide, and give 0 where nothing of the part was ever counted."""
        return f"({part} or {whole} * 0) / {whole}"

    def raw(self, metric: EmittedMetric, *matchers: str) -> str:
        """Give a gauge as it is."""
        return self._series(page_name(metric), *matchers)

    # -- durations

    def calls(self, metric: EmittedMetric, *matchers: str, by: tuple[str, ...]) -> str:
        """Give calls per second."""
        return self._rate(f"{page_name(metric)}_count", *matchers, by=by)

    def errors(self, by: tuple[str, ...] = ("job",)) -> str:
        """Give the share of monitored calls that failed."""
        part = self.calls(OPERATION_DURATION, 'error_type!=""', by=by)
        return self._share(part, self.calls(OPERATION_DURATION, by=by))

    def served_errors(self, by: tuple[str, ...] = ("job",)) -> str:
        """Give the share of served requests that failed in the server."""
        matcher = 'http_response_status_code=~"5.."'
        part = self.calls(SERVED_REQUESTS, matcher, by=by)
        return self._share(part, self.calls(SERVED_REQUESTS, by=by))

    def quantile(self, metric: EmittedMetric, share: float, by: tuple[str, ...]) -> str:
        """Give the duration below which a share of the calls ended, seconds."""
        buckets = self._rate(f"{page_name(metric)}_bucket", by=(*by, "le"))
        return f"histogram_quantile({share}, {buckets})"

    def mean(self, metric: EmittedMetric, by: tuple[str, ...]) -> str:
        """Give the mean duration, seconds."""
        return f"{self.time_spent(metric, by)} / {self.calls(metric, by=by)}"

    def time_spent(self, metric: EmittedMetric, by: tuple[str, ...]) -> str:
        """Give seconds spent per second."""
        return self._rate(f"{page_name(metric)}_sum", by=by)

    def buckets(self, metric: EmittedMetric) -> str:
        """Give calls by bucket, for heatmaps."""
        series = self._series(f"{page_name(metric)}_bucket")
        return f"sum by (le) (increase({series}[{self.window}]))"

    # -- alerts and health

    def alerts(self) -> str:
        """Give alerts raised, by severity."""
        series = self._series(page_name(ALERTS))
        return f"sum by (severity) (increase({series}[{self.window}]))"

    def health(self) -> str:
        """Give the health of components."""
        return f"min by (job, component) ({self.raw(HEALTH_STATUS)})"

    # -- telemetry about telemetry

    def records(self, outcome: str, by: tuple[str, ...]) -> str:
        """Give records per second that ended one way."""
        return self._rate(page_name(RECORDS), f'flext_outcome="{outcome}"', by=by)

    def pending(self) -> str:
        """Give records that wait."""
        by = "job, instance, flext_signal"
        name = page_name(RECORDS)
        accepted = self._series(name, 'flext_outcome="accepted"')
        settled = self._series(name, 'flext_outcome=~"delivered|rejected|dropped"')
        return f"sum by ({by}) ({accepted}) - sum by ({by}) ({settled})"

    def growth(self, outcome: str) -> str:
        """Give records that ended one way, also those a series began with.

        ``increase`` does not see the value a series is born with, and a process that
        drops for the first time gives birth to one.
        """
        by = "job, instance, flext_signal, flext_reason"
        series = self._series(page_name(RECORDS), f'flext_outcome="{outcome}"')
        grown = f"sum by ({by}) (increase({series}[{self.window}])) > 0"
        born = (
            f"(sum by ({by}) ({series}) > 0) unless "
            f"sum by ({by}) ({series} offset {self.window})"
        )
        return f"({grown}) or ({born})"

    def undelivered(self) -> str:
        """Give records that wait where nothing was delivered."""
        delivered = self._series(page_name(RECORDS), 'flext_outcome="delivered"')
        by = "job, instance, flext_signal"
        still = f"sum by ({by}) (increase({delivered}[{self.window}])) == 0"
        return f"({self.pending()} > 0) and ({still})"

    def spool_fill(self) -> str:
        """Give how full the spool is, 0 to 1."""
        usage, limit = self.raw(SPOOL_USAGE), self.raw(SPOOL_LIMIT)
        return f"max by (job, instance) ({usage} / {limit})"
