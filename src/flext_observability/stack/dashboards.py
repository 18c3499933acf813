"""Grafana dashboards, made from the metric catalogue.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from dataclasses import dataclass, field, replace
from typing import Any

from ..catalogue import OPERATION_DURATION, SERVED_REQUESTS, SPOOL_LIMIT, SPOOL_USAGE
from .queries import Queries, checked_service, quoted

_GRID_WIDTH = 24
_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA_VERSION = 39
_OPERATION = ("job", "flext_operation_name")
_ROUTE = ("job", "http_request_method", "http_route")
_QUANTILES = (0.5, 0.95, 0.99)
_SIGNAL = ("flext_signal",)


@dataclass(frozen=True)
class Panel:
    """One panel; queries are pairs of an expression and a legend."""

    title: str
    meaning: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    limits: tuple[tuple[str, float], ...] = ()
    """Colours from a value on."""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    """Of its file and, with ``flext-`` in front, its uid."""
    title: str
    panels: tuple[Panel, ...]
    service: str | None = field(default=None)
    """The only service it shows; ``None`` lets the reader choose."""

    def model(self) -> dict[str, Any]:
        """Give what Grafana imports."""
        return {
            "uid": f"flext-{self.name}",
            "title": self.title,
            "tags": ["flext-observability"],
            "timezone": "browser",
            "schemaVersion": _SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": _variables(has_services=self.service is None)},
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "flext-observability",
                    "tags": ["flext-observability"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
            "panels": _placed(self.panels),
        }


def dashboards(service: str | None = None) -> tuple[Dashboard, ...]:
    """Make all dashboards.

    Args:
        service: The only one they show; its ``job`` in Prometheus.

    Raises:
        ValueError: The name cannot stand in a file.
    """
    matcher = 'job=~"$job"'
    if service is not None:
        matcher = f"job={quoted(checked_service(service))}"
    queries = Queries(matcher, "$__rate_interval")
    shown = "" if service is None else f" · {service}"
    return (
        Dashboard("overview", f"Services{shown}", _overview(queries), service),
        Dashboard("operations", f"Operations{shown}", _operations(queries), service),
        Dashboard(
            "telemetry", f"Telemetry health{shown}", _telemetry(queries), service
        ),
    )


def _overview(ask: Queries) -> tuple[Panel, ...]:
    hourly = replace(ask, window="1h")
    return (
        Panel(
            "Monitored calls",
            "Calls per second of decorated functions.",
            ((ask.calls(OPERATION_DURATION, by=("job",)), "{{job}}"),),
            "reqps",
        ),
        Panel(
            "Failed calls",
            "Share of the calls that raised or returned a failure.",
            ((ask.errors(), "{{job}}"),),
            "percentunit",
            limits=(("yellow", 0.01), ("red", 0.05)),
        ),
        Panel(
            "Duration of calls",
            "Below which half, 95 % and 99 % of the calls ended.",
            tuple(
                (
                    ask.quantile(OPERATION_DURATION, share, ("job",)),
                    f"{{{{job}}}} p{share * 100:g}",
                )
                for share in _QUANTILES
            ),
            "s",
        ),
        Panel(
            "Served requests",
            "HTTP requests per second by status code.",
            (
                (
                    ask.calls(SERVED_REQUESTS, by=("job", "http_response_status_code")),
                    "{{job}} {{http_response_status_code}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Failed requests",
            "Share of the HTTP requests answered with 5xx.",
            ((ask.served_errors(), "{{job}}"),),
            "percentunit",
            limits=(("yellow", 0.01), ("red", 0.05)),
        ),
        Panel(
            "Duration of requests",
            "Below which 95 % of the HTTP requests of a route ended.",
            (
                (
                    ask.quantile(SERVED_REQUESTS, 0.95, _ROUTE),
                    "{{job}} {{http_request_method}} {{http_route}}",
                ),
            ),
            "s",
        ),
        Panel(
            "Health of components",
            "1 healthy, 0.5 degraded, 0 unhealthy.",
            ((ask.health(), "{{job}} {{component}}"),),
            kind="stat",
            limits=(("red", 0.0), ("yellow", 0.5), ("green", 1.0)),
        ),
        Panel(
            "Alerts raised in an hour",
            "By severity.",
            ((hourly.alerts(), "{{severity}}"),),
        ),
        Panel(
            "Targets",
            "Whether Prometheus reaches a process.",
            ((f"up{{{ask.services}}}", "{{job}} {{instance}}"),),
            kind="stat",
            width=24,
            limits=(("red", 0.0), ("green", 1.0)),
        ),
    )


def _operations(ask: Queries) -> tuple[Panel, ...]:
    name = "{{job}} {{flext_operation_name}}"
    return (
        Panel(
            "Calls by operation",
            "Per second; the ten busiest.",
            ((f"topk(10, {ask.calls(OPERATION_DURATION, by=_OPERATION)})", name),),
            "reqps",
        ),
        Panel(
            "Failed calls by operation",
            "Share of an operation's calls; the ten worst.",
            ((f"topk(10, {ask.errors(_OPERATION)})", name),),
            "percentunit",
            limits=(("yellow", 0.01), ("red", 0.05)),
        ),
        Panel(
            "Duration by operation",
            "Below which 95 % of the calls ended; the ten slowest.",
            (
                (
                    f"topk(10, {ask.quantile(OPERATION_DURATION, 0.95, _OPERATION)})",
                    name,
                ),
            ),
            "s",
        ),
        Panel(
            "Mean duration by operation",
            "The ten slowest.",
            ((f"topk(10, {ask.mean(OPERATION_DURATION, _OPERATION)})", name),),
            "s",
        ),
        Panel(
            "Errors by type",
            "Failed calls per second.",
            (
                (
                    ask.calls(
                        OPERATION_DURATION,
                        'error_type!=""',
                        by=("job", "flext_operation_name", "error_type"),
                    ),
                    f"{name} {{{{error_type}}}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Time spent by operation",
            "Seconds per second: what an operation keeps busy.",
            (
                (
                    f"topk(10, {ask.time_spent(OPERATION_DURATION, _OPERATION)})",
                    name,
                ),
            ),
            "s",
        ),
        Panel(
            "Distribution of durations",
            "Calls of all operations by duration.",
            ((ask.buckets(OPERATION_DURATION), "{{le}}"),),
            "s",
            kind="heatmap",
            width=24,
        ),
    )


def _telemetry(ask: Queries) -> tuple[Panel, ...]:
    hourly = replace(ask, window="1h")
    return (
        Panel(
            "Records accepted",
            "Spans, log records and metric points per second.",
            ((ask.records("accepted", _SIGNAL), "{{flext_signal}}"),),
            "cps",
        ),
        Panel(
            "Records delivered",
            "Per second; the collector confirmed them.",
            ((ask.records("delivered", _SIGNAL), "{{flext_signal}}"),),
            "cps",
        ),
        Panel(
            "Records lost in an hour",
            "Given up by the process, by reason. Nothing is lost silently.",
            ((hourly.growth("dropped"), "{{job}} {{flext_signal}} {{flext_reason}}"),),
            limits=(("red", 1.0),),
        ),
        Panel(
            "Records rejected",
            "Per second; the collector refused them for good.",
            ((ask.records("rejected", _SIGNAL), "{{flext_signal}}"),),
            "cps",
        ),
        Panel(
            "Records that wait",
            "Queued, on disk or in flight.",
            ((ask.pending(), "{{job}} {{instance}} {{flext_signal}}"),),
        ),
        Panel(
            "Spool",
            "Share of the limit that undelivered records take.",
            ((ask.spool_fill(), "{{job}} {{instance}}"),),
            "percentunit",
            limits=(("yellow", 0.5), ("red", 0.8)),
        ),
        Panel(
            "Spool bytes",
            "What undelivered records take, and may take.",
            (
                (ask.raw(SPOOL_USAGE), "{{job}} {{instance}}"),
                (ask.raw(SPOOL_LIMIT), "{{job}} {{instance}} limit"),
            ),
            "bytes",
        ),
        Panel(
            "Scrapes",
            "How long Prometheus took to read a page.",
            ((f"scrape_duration_seconds{{{ask.services}}}", "{{job}} {{instance}}"),),
            "s",
        ),
    )


# -- the JSON model


def _variables(*, has_services: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
        }
    ]
    if has_services:
        found.append(
            {
                "name": "job",
                "label": "Service",
                "type": "query",
                "datasource": _SOURCE,
                "query": {"query": "label_values(target_info, job)", "refId": "job"},
                "definition": "label_values(target_info, job)",
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return found


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Put panels side by side, from the left and downwards."""
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _GRID_WIDTH:
            x, y = 0, y + _HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": _HEIGHT}
        placed.append({"id": number, "gridPos": place, **_panel(panel)})
        x += panel.width
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in panel.limits]
    fields: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        fields["min"] = 0
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": fields, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
                # Dots that lead from a slow call to its trace in Jaeger.
                **({"exemplar": True} if "histogram_quantile" in expression else {}),
            }
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }
