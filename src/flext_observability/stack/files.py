"""The files of the stack: what stands in them, and how they come to be."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..catalogue import CATALOGUE
from ..constants import FlextObservabilityConstants as C
from .dashboards import dashboards
from .queries import collector_name, page_name
from .rules import Goals, rule_files

_HEAD = "# Written by `flext-observability init`, from the metric catalogue.\n"
_TOKEN_FILE = "server_token"  # noqa: S105 - the name of a file
_DASHBOARD_FOLDER = "/var/lib/grafana/dashboards"
PROMETHEUS_UID = "flext-prometheus"
JAEGER_UID = "flext-jaeger"


class NoYamlError(RuntimeError):
    """PyYAML is not installed."""


@dataclass(frozen=True)
class Choices:
    """What may be chosen."""

    service: str | None = None
    """The only one to watch."""
    goals: Goals = field(default_factory=Goals)
    scrape_interval_s: float = C.DEFAULT_SCRAPE_INTERVAL_S

    @classmethod
    def from_environment(cls) -> "Choices":
        """Read ``SCRAPE_INTERVAL``.

        Raises:
            ValueError: It is no number of seconds.
        """
        text = os.environ.get("SCRAPE_INTERVAL", "").strip()
        try:
            seconds = float(text) if text else C.DEFAULT_SCRAPE_INTERVAL_S
        except ValueError:
            seconds = 0.0
        if not 1 <= seconds <= 3600:  # noqa: PLR2004 - an hour
            message = f"SCRAPE_INTERVAL: must be 1 to 3600 seconds, got {text!r}"
            raise ValueError(message)
        return cls(scrape_interval_s=seconds)


def stack_files(choices: Choices) -> dict[str, str]:
    """Give every file by its path in a project.

    Raises:
        NoYamlError: PyYAML is not installed.
        ValueError: A choice cannot stand in a file.
    """
    return {
        "prometheus/prometheus.yml": yaml_text(prometheus_config(choices)),
        **rule_texts(choices),
        "alertmanager/alertmanager.yml": yaml_text(alertmanager_config()),
        "grafana/provisioning/datasources/flext.yml": yaml_text(data_sources()),
        "grafana/provisioning/dashboards/flext.yml": yaml_text(dashboard_provider()),
        **dashboard_texts(choices),
    }


def rule_texts(choices: Choices) -> dict[str, str]:
    """Give the rule files."""
    made = rule_files(choices.service, choices.goals)
    return {f"prometheus/rules/{name}": yaml_text(each) for name, each in made.items()}


def dashboard_texts(choices: Choices) -> dict[str, str]:
    """Give the dashboards."""
    return {
        f"grafana/dashboards/{each.name}.json": _json_text(each.model())
        for each in dashboards(choices.service)
    }


def write(
    files: Mapping[str, str], folder: Path, *, keep: bool
) -> tuple[list[str], list[str]]:
    """Write files.

    Args:
        files: Texts by path.
        folder: Where the paths begin.
        keep: Whether files that exist stay as they are.

    Returns:
        The paths written, and those left alone.

    Raises:
        OSError: The folder cannot be written.
    """
    written: list[str] = []
    kept: list[str] = []
    for path, text in files.items():
        target = folder / path
        if keep and target.exists():
            kept.append(path)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(path)
    return written, kept


def yaml_text(content: object) -> str:
    """Write YAML: through its library, so that no text can break out of its place.

    Raises:
        NoYamlError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        message = "PyYAML is not installed; pip install flext-observability[cli]"
        raise NoYamlError(message) from None
    dump = cast("Callable[..., str]", yaml.safe_dump)  # pyright: ignore[reportUnknownMemberType]
    text = dump(content, sort_keys=False, width=10_000, allow_unicode=True)
    return _HEAD + text


def _json_text(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


# -- Prometheus


def prometheus_config(choices: Choices) -> dict[str, Any]:
    """Scrape our server, processes that made themselves known, and the collector."""
    interval = f"{choices.scrape_interval_s:g}s"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [_static(f"alertmanager:{C.PORT_ALERTMANAGER}")]},
        "scrape_configs": [
            _scrape("prometheus", f"localhost:{C.PORT_PROMETHEUS}"),
            _scrape("alertmanager", f"alertmanager:{C.PORT_ALERTMANAGER}"),
            {
                **_scrape("flext-server", f"server:{C.PORT_SERVER}"),
                "authorization": {"credentials_file": _TOKEN_FILE},
            },
            # setup(service_discovery_dir=...) writes here, job by job.
            {
                "job_name": "flext-processes",
                "file_sd_configs": [
                    {"files": ["targets/*.json"], "refresh_interval": interval}
                ],
            },
            # Their own job and instance are those of the services behind them.
            {
                **_scrape("pushgateway", f"pushgateway:{C.PORT_PUSH_GATEWAY}"),
                "honor_labels": True,
            },
            {
                **_scrape("otel-collector", "collector:8889"),
                "honor_labels": True,
                "metric_relabel_configs": _renamed(),
            },
            _scrape("otel-collector-itself", "collector:8888"),
        ],
    }


def _static(target: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [target]}]}


def _scrape(job: str, target: str) -> dict[str, Any]:
    return {"job_name": job, **_static(target)}


def _renamed() -> list[dict[str, Any]]:
    """Call what comes through the collector as our own pages call it.

    The collector appends units; one name for one thing lets dashboards and rules fit
    both ways.
    """
    parts: list[dict[str, Any]] = []
    for metric in CATALOGUE:
        ours, theirs = page_name(metric), collector_name(metric)
        if ours == theirs:
            continue
        parts.append(
            {
                "source_labels": ["__name__"],
                "regex": f"{theirs}(|_bucket|_count|_sum)",
                "target_label": "__name__",
                "replacement": f"{ours}${{1}}",
            }
        )
    return parts


# -- Alertmanager


def alertmanager_config() -> dict[str, Any]:
    """Group by alert and service; tell nobody until a receiver is filled in."""
    return {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": "nobody",
            "group_by": ["alertname", "service", "job"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": [
                {
                    "receiver": "critical",
                    "matchers": ['severity="critical"'],
                    "repeat_interval": "1h",
                }
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity=~"warning|error|info"'],
                "equal": ["alertname", "service", "job", "instance"],
            },
            # A process that is down delivers nothing: one alert says it.
            {
                "source_matchers": ['alertname="FlextTargetDown"'],
                "target_matchers": ['alertname=~"FlextTelemetry.*"'],
                "equal": ["job", "instance"],
            },
        ],
        # Fill in webhook_configs, email_configs, pagerduty_configs and so on:
        # https://prometheus.io/docs/alerting/latest/configuration/#receiver
        "receivers": [{"name": "nobody"}, {"name": "critical"}],
    }


# -- Grafana


def data_sources() -> dict[str, Any]:
    """Prometheus, and Jaeger for the traces behind its exemplars."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                **_source("Prometheus", "prometheus", PROMETHEUS_UID),
                "url": f"http://prometheus:{C.PORT_PROMETHEUS}",
                "isDefault": True,
                "jsonData": {
                    "httpMethod": "POST",
                    "exemplarTraceIdDestinations": [
                        {"name": "trace_id", "datasourceUid": JAEGER_UID}
                    ],
                },
            },
            {
                **_source("Jaeger", "jaeger", JAEGER_UID),
                "url": f"http://jaeger:{C.PORT_JAEGER}",
            },
        ],
    }


def _source(name: str, kind: str, uid: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "uid": uid, "access": "proxy"}


def dashboard_provider() -> dict[str, Any]:
    """Let Grafana read the dashboards from their folder."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "flext-observability",
                "folder": "flext-observability",
                "type": "file",
                "allowUiUpdates": True,
                "options": {"path": _DASHBOARD_FOLDER},
            }
        ],
    }
