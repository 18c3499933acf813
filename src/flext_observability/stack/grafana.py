"""Dashboards and data sources into a running Grafana.

https://grafana.com/docs/grafana/latest/developers/http_api/
"""

import json
from typing import Any
from urllib.parse import quote

from .._pipeline.web_client import Answer, WebClient
from ..result import FlextResult
from .dashboards import dashboards
from .files import Choices, data_sources

_TIMEOUT_S = 10.0
_CONFLICT = 409


def upload(
    client: WebClient, service: str | None, *, with_sources: bool
) -> FlextResult[list[str]]:
    """Load the dashboards, replacing those of the same uid.

    Args:
        client: To Grafana, with its token.
        service: The only one they show.
        with_sources: Whether to load the data sources first.

    Returns:
        What was loaded; or what the first refusal said.
    """
    loaded: list[str] = []
    sources = data_sources(Choices(is_stack=True))["datasources"]
    for source in sources if with_sources else ():
        answer = _source(client, source)
        if not answer.is_success:
            return FlextResult[list[str]].fail(_refusal(answer))
        loaded.append(f"data source {source['name']}")
    for dashboard in dashboards(service):
        body = {"dashboard": dashboard.model(), "overwrite": True}
        answer = _send(client, "POST", "/api/dashboards/db", body)
        if not answer.is_success:
            return FlextResult[list[str]].fail(_refusal(answer))
        loaded.append(f"dashboard {dashboard.title}")
    return FlextResult[list[str]].ok(loaded)


def _source(client: WebClient, source: dict[str, Any]) -> Answer:
    answer = _send(client, "POST", "/api/datasources", source)
    if answer.status != _CONFLICT:
        return answer
    uid = quote(str(source["uid"]), safe="")
    return _send(client, "PUT", f"/api/datasources/uid/{uid}", source)


def _send(client: WebClient, method: str, path: str, body: object) -> Answer:
    text = json.dumps(body).encode()
    return client.send(method, path, text, "application/json", _TIMEOUT_S)


def _refusal(answer: Answer) -> str:
    hint = ""
    if answer.status in {401, 403}:
        hint = "; GRAFANA_API_KEY must be a token that may edit dashboards"
    return f"Grafana: {answer.message}{hint}"
