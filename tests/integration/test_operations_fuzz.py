"""The REST API under schemathesis: no 500, and no answer that its document lacks."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import allow_header_conformance

import flext_observability as fo
from flext_observability import server as operations
from tests.fixtures.web import free_port

schema = schemathesis.openapi.from_dict(operations.create_app().openapi())
fo.FlextObservabilityConfig.reset_global_instance()  # what tests see is not read here


@pytest.fixture
def base_url() -> Iterator[str]:
    """A running server with something in its stores."""
    fo.reset_global_factory()
    port = free_port()
    fo.setup("shop", exporters=["none"], server_port=port).unwrap()
    services = fo.FlextObservabilityServices()
    services.metrics.record_metric("orders", 1, "count", {"region": "eu"}, "counter")
    services.tracing.start_trace("load")
    services.logging.log_entry("info", "started")
    services.alerts.process_alert(
        fo.FlextAlert(id="a1", name="disk", severity="error", message="full")
    )
    yield f"http://127.0.0.1:{port}"
    fo.shutdown(0.5)
    fo.reset_global_factory()


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)
def test_every_answer_is_documented(
    case: schemathesis.Case[Any], base_url: str
) -> None:
    """Whatever is sent, legal or not: no 500, and one of the answers that are told."""
    case.call_and_validate(
        base_url=base_url,
        timeout=10,
        # Starlette names the methods of the first route on a path only.
        excluded_checks=[allow_header_conformance],
    )
