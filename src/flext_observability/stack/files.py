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
# Prometheus takes no configuration that names a file which is not there.
_STAND_IN = "stand-in: docker-compose.monitoring.yml mounts the token here\n"
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
    is_stack: bool = False
    """For the containers of our compose file, which reach each other by their names.

    Else for programs on one machine, of which nobody knows which ones run.
    """

    def host(self, container: str) -> str:
        """Give where a part of the stack is reached, by the name of its container."""
        return container if self.is_stack else "localhost"

    @classmethod
    def from_environment(cls, *, is_stack: bool = False) -> "Choices":
        """Read ``SCRAPE_INTERVAL``.

        Args:
            is_stack: For the containers of our compose file.

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
        return cls(scrape_interval_s=seconds, is_stack=is_stack)


def stack_files(choices: Choices) -> dict[str, str]:
    """Give every file by its path in a project.

    Raises:
        NoYamlError: PyYAML is not installed.
        ValueError: A choice cannot stand in a file.
    """
    token = {f"prometheus/{_TOKEN_FILE}": _STAND_IN} if choices.is_stack else {}
    return {
        "prometheus/prometheus.yml": yaml_text(prometheus_config(choices)),
        **token,
        **rule_texts(choices),
        "alertmanager/alertmanager.yml": yaml_text(alertmanager_config()),
        "grafana/provisioning/datasources/flext.yml": yaml_text(data_sources(choices)),
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
    """Scrape what there is: a target that is missing raises an alert at once."""
    interval = f"{choices.scrape_interval_s:g}s"
    alertmanager = f"{choices.host('alertmanager')}:{C.PORT_ALERTMANAGER}"
    jobs = _stack_jobs if choices.is_stack else _own_jobs
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [_static(alertmanager)]},
        "scrape_configs": [
            _scrape("prometheus", f"localhost:{C.PORT_PROMETHEUS}"),
            *jobs(interval),
        ],
    }


def _own_jobs(interval: str) -> list[dict[str, Any]]:
    """Scrape who made himself known."""
    return [
        {"job_name": "flext-processes", **_found("targets/*.json", interval)},
        {
            "job_name": "otel-collector",
            **_found("collectors/*.json", interval),
            **_FROM_COLLECTOR,
        },
    ]


def _stack_jobs(interval: str) -> list[dict[str, Any]]:
    """Scrape every container, and processes outside, which know its token."""
    return [
        _scrape("alertmanager", f"alertmanager:{C.PORT_ALERTMANAGER}"),
        {**_scrape("flext-server", f"server:{C.PORT_SERVER}"), **_with_token()},
        {
            "job_name": "flext-processes",
            **_found("targets/*.json", interval),
            **_with_token(),
        },
        # Their own job and instance are those of the services behind them.
        {
            **_scrape("pushgateway", f"pushgateway:{C.PORT_PUSH_GATEWAY}"),
            "honor_labels": True,
        },
        {**_scrape("otel-collector", "collector:8889"), **_FROM_COLLECTOR},
        _scrape("otel-collector-itself", "collector:8888"),
    ]


def _with_token() -> dict[str, Any]:
    return {"authorization": {"credentials_file": _TOKEN_FILE}}


def _found(files: str, interval: str) -> dict[str, Any]:
    """Find targets in files; setup(service_discovery_dir=...) writes some."""
    return {"file_sd_configs": [{"files": [files], "refresh_interval": interval}]}


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


# What a collector passes on keeps the job and instance of the service it is of.
_FROM_COLLECTOR = {"honor_labels": True, "metric_relabel_configs": _renamed()}


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


def data_sources(choices: Choices) -> dict[str, Any]:
    """Prometheus, and Jaeger for the traces behind its exemplars."""
    prometheus = f"http://{choices.host('prometheus')}:{C.PORT_PROMETHEUS}"
    jaeger = f"http://{choices.host('jaeger')}:{C.PORT_JAEGER}"
    return {
        "apiVersion": 1,
        "datasources": [
            {
                **_source("Prometheus", "prometheus", PROMETHEUS_UID),
                "url": prometheus,
                "isDefault": True,
                "jsonData": {
                    "httpMethod": "POST",
                    "exemplarTraceIdDestinations": [
                        {"name": "trace_id", "datasourceUid": JAEGER_UID}
                    ],
                },
            },
            {**_source("Jaeger", "jaeger", JAEGER_UID), "url": jaeger},
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
