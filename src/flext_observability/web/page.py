"""The metrics page: everything this process, and its siblings, hold."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from .. import runtime
from .._pipeline.pipeline import Pipeline
from .._pipeline.prometheus import target_family
from .._pipeline.redaction import Redactor
from .._pipeline.values import clean_text
from ..constants import FlextObservabilityConstants as C
from ..container import FlextContainer
from ..lifecycle import status
from ..result import FlextResult
from ..services.exposition import Row, prometheus_families
from ..services.health import FlextHealthService
from ..services.metrics import shown_rows
from ..settings_reader import settings_in_force
from .families import joined

if TYPE_CHECKING:
    from .shared_metrics import SharedMetrics

_HEALTH_FIGURES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


def current_redactor() -> Redactor:
    """Give what takes secrets out, by the settings in force."""
    pipeline = runtime.state.live()
    if pipeline is not None:
        return pipeline.cleaner.redactor
    made = FlextResult.ok(None).map(lambda _: Redactor.of(settings_in_force()))
    return made.unwrap_or(Redactor())  # a broken environment is told by setup()


def page_of(container: FlextContainer) -> tuple[list[Metric], set[str]]:
    """Give all metric families of this process.

    Args:
        container: Whose services are asked.

    Returns:
        Families, and the names of gauges that are sums.
    """
    pipeline = runtime.state.live()
    if pipeline is not None:  # it may be newer than the wish for a page
        pipeline.open_page()
    reader = None if pipeline is None else pipeline.page
    measured = [] if pipeline is None else _measured(pipeline)
    redactor = current_redactor()
    rows = [
        _without_secrets(row, redactor)
        for row in (*shown_rows(container), *_ledger_rows(), *_health_rows(container))
    ]
    families = joined(measured, prometheus_families(rows))
    for family in families:  # an instrument need not have a description
        if not family.documentation:
            family.documentation = f"{family.type.capitalize()} {family.name}."
    return families, set() if reader is None else set(reader.additive)


def _measured(pipeline: Pipeline) -> list[Metric]:
    """Give what was measured; where nothing is, at least who this is."""
    if pipeline.page is None:
        return [target_family(pipeline.resource)]
    return pipeline.page.families()


def render(families: list[Metric], accept: str) -> tuple[bytes, str]:
    """Write families in the format that is asked for.

    Args:
        families: To show.
        accept: The ``Accept`` header: OpenMetrics brings exemplars.

    Returns:
        The text and its content type.
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(_Families(families))
    return encode(registry), content_type


class PageUnavailableError(Exception):
    """There is no page that would be true."""


class MetricsPage:
    """Answers scrapes for a container, and for sibling processes where they share.

    Args:
        container: The one of the process when not given.
    """

    def __init__(self, container: FlextContainer | None = None) -> None:
        self._container = container
        runtime.state.open_page(self)

    def families(self) -> list[Metric]:
        """Give all metric families.

        Raises:
            PageUnavailableError: Those of other processes cannot be had; sums of the
                others alone would look like counters that fell.
        """
        shared = _shared()
        if shared is not None:
            try:
                return shared.families()
            except OSError as error:
                message = f"the metrics of all processes cannot be read: {error}"
                raise PageUnavailableError(message) from error
        return page_of(self._container or FlextContainer.get_global())[0]

    def answer(self, accept: str) -> tuple[bytes, str]:
        """Give text and content type for an ``Accept`` header."""
        return render(self.families(), accept)


def _shared() -> "SharedMetrics | None":
    surface = runtime.state.surface
    return None if surface is None else cast("SharedMetrics | None", surface.shared())


class _Families:
    """What the registry asks."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Give the families."""
        return self._families


def _without_secrets(row: Row, redactor: Redactor) -> Row:
    return row._replace(
        labels={
            name: clean_text(redactor.value(name, clean_text(value)))
            for name, value in row.labels.items()
        }
    )


def _ledger_rows() -> Iterator[Row]:
    """Give what became of telemetry, also where no collector is told of it.

    Zeros too: what begins to count with its first loss has no increase to be seen.
    """
    now = status()
    for signal, ledger in now.signals.items():
        if not (now.running or ledger.accepted):
            continue
        counts = {
            (C.OUTCOME_ACCEPTED, ""): ledger.accepted,
            (C.OUTCOME_DELIVERED, ""): ledger.delivered,
            (C.OUTCOME_REJECTED, ""): ledger.rejected,
            **{(C.OUTCOME_DROPPED, why): n for why, n in ledger.dropped.items()},
        }
        for (outcome, reason), count in counts.items():
            labels = {C.ATTR_SIGNAL: signal, C.ATTR_OUTCOME: outcome}
            if reason:
                labels[C.ATTR_REASON] = reason
            yield Row(C.METRIC_RECORDS, "counter", labels, float(count), 0, "{record}")
        labels = {C.ATTR_SIGNAL: signal}
        pending = float(ledger.pending)
        yield Row(C.METRIC_PENDING, "gauge", labels, pending, 0, "{record}")


def _health_rows(container: FlextContainer) -> Iterator[Row]:
    """Give the status of components, also where nothing is emitted."""
    overall = (
        FlextHealthService(container).get_overall_health().unwrap_or(dict[str, Any]())
    )
    for name, record in overall.get("components", {}).items():
        figure = _HEALTH_FIGURES.get(record["status"])
        if figure is not None:
            labels = {"component": name}
            yield Row(C.METRIC_HEALTH_STATUS, "gauge", labels, figure, 0, "1")
