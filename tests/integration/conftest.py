"""Fixtures of the integration tests."""

import pytest

from tests.fixtures.collector import Collector
from tests.fixtures.library import start


@pytest.fixture
def server(http_collector: Collector) -> Collector:
    """A collector with the library already set up against it."""
    start(http_collector)
    return http_collector
