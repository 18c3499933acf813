"""`.env.example` names every variable, and is honest about which are read."""

import re
from pathlib import Path

import flext_observability as fo

ROOT = Path(__file__).parents[2]
PREFIX = "FLEXT_OBSERVABILITY_"
SHORT_PREFIX = "OBSERVABILITY_"
CONTRACT = {
    "ALERTMANAGER_URL",
    "ALERT_MANAGER_URL",
    "FLEXT_ENVIRONMENT",
    "FLEXT_LOG_LEVEL",
    "GRAFANA_API_KEY",
    "GRAFANA_URL",
    "HEALTH_CHECK_INTERVAL",
    "HOST",
    "JAEGER_AGENT_HOST",
    "JAEGER_AGENT_PORT",
    "OTEL_ENABLED",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "PORT",
    "PROMETHEUS_PATH",
    "PROMETHEUS_PUSH_GATEWAY",
    "PYTHONPATH",
    "SCRAPE_INTERVAL",
}


def sections() -> dict[str, set[str]]:
    """Return the variables under each `# --- title ---` line."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    _, *parts = re.split(r"^# --- (.+?) -+$", text, flags=re.MULTILINE)
    assignment = re.compile(r"^(?:# )?([A-Z_]+)=", re.MULTILINE)
    return {
        title: set(assignment.findall(body))
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def is_read(name: str) -> bool:
    """Whether the source names the variable, or makes it from a settings field."""
    for prefix in (PREFIX, SHORT_PREFIX):
        field = name.removeprefix(prefix).lower()
        if (
            name.startswith(prefix)
            and field in fo.FlextObservabilityConfig.model_fields
        ):
            return True
    quoted = re.compile(rf"(?<!metavar=)[\"']{name}[\"']")
    return any(
        quoted.search(path.read_text(encoding="utf-8"))
        for path in (ROOT / "src").rglob("*.py")
    )


def test_every_variable_of_the_contract_is_listed() -> None:
    """Nobody has to read the source to learn what can be set."""
    listed = set().union(*sections().values())
    assert listed >= CONTRACT
    assert {name for name in listed if name.startswith(PREFIX)}
    assert {name for name in listed if name.startswith(SHORT_PREFIX)}


def test_reserved_means_not_read_yet() -> None:
    """A variable is under "reserved" exactly as long as nothing reads it."""
    for title, names in sections().items():
        unread = title.startswith(("reserved", "development"))
        assert {name for name in names if is_read(name) is unread} == set(), title
