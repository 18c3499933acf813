"""The commands that ask the present system: does telemetry arrive, and how is it."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from logging import NullHandler, getLogger
from typing import Any, cast

from .lifecycle import flush, setup, shutdown, status
from .result import FlextResult

_FAILED = 1


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``probe``, ``trace``, ``figures`` and ``health``."""
    probe = add("probe", help="send one record per signal to the configured endpoint")
    trace = add("trace", help="send one demo trace and print its id")
    for parser, command in ((probe, _probe), (trace, _trace)):
        parser.add_argument(
            "--seconds",
            type=float,
            default=5.0,
            metavar="N",
            help="longest time to wait for the collector (5)",
        )
        parser.set_defaults(run=command)
    figures = add("figures", help="print system and application figures as JSON")
    figures.set_defaults(run=_figures)
    health = add(
        "health", help="print the health of this system; exit 1 when unhealthy"
    )
    health.set_defaults(run=_health)


def _started() -> FlextResult[Any]:
    # What we would log, the command says itself, in one line.
    own = getLogger("flext_observability")
    own.addHandler(NullHandler())
    own.propagate = False
    # In memory: a probe must neither leave records behind nor send those of others.
    return setup(durability="memory", exporters=["otlp"]).map(lambda _: None)


def _probe(options: argparse.Namespace) -> int:
    from .creation import flext_create_log_entry
    from .instruments import flext_counter
    from .spans import flext_span

    started = _started()
    if started.is_failure:
        return _said(started.error)
    with flext_span("flext.probe"):
        flext_create_log_entry("critical", "flext.probe")  # whatever log_level says
    flext_counter("flext.probe").add(1)
    sent = flush(options.seconds)
    now = status()
    for name, ledger in now.signals.items():
        word = (
            "delivered" if ledger.delivered and not ledger.pending else "NOT delivered"
        )
        sys.stdout.write(f"{name}: {word} to {now.endpoint}\n")
    shutdown(0.0)
    return 0 if sent.success else _said(sent.error)


def _trace(options: argparse.Namespace) -> int:
    from .spans import flext_span

    started = _started()
    if started.is_failure:
        return _said(started.error)
    with flext_span("flext.demo") as span:
        for step in ("prepare", "work"):
            with flext_span(f"flext.demo.{step}"):
                pass
        trace_id = f"{span.get_span_context().trace_id:032x}"
    sent = flush(options.seconds)
    sys.stdout.write(f"{trace_id}\n")
    shutdown(0.0)
    return 0 if sent.success else _said(sent.error)


def _figures(options: argparse.Namespace) -> int:
    del options
    from .container import FlextContainer
    from .system import FlextMetricsCollector

    collector = FlextMetricsCollector(FlextContainer())
    system = collector.collect_system_metrics()
    application = collector.collect_application_metrics()
    found = {
        "system": system.unwrap_or({"missing": str(system.error)}),
        "application": application.unwrap_or(dict[str, Any]()),
    }
    sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    return 0


def _health(options: argparse.Namespace) -> int:
    del options
    from .container import FlextContainer
    from .entities import FlextHealthCheck
    from .services.health import FlextHealthService

    health = FlextHealthService(FlextContainer())
    found: Mapping[str, Any] = health.perform_system_health_check().unwrap_or(
        dict[str, Any]()
    )
    for name, figures in found.items():
        if not isinstance(figures, Mapping):
            continue  # what was skipped
        word = str(cast("Mapping[str, Any]", figures)["status"])
        health.execute_health_check(FlextHealthCheck(name=name, status=word))
        sys.stdout.write(f"{name}: {word}\n")
    overall = health.get_overall_health().unwrap_or(dict[str, Any]())
    word = overall.get("overall_status", "unknown")
    sys.stdout.write(f"overall: {word}\n")
    return _FAILED if word == "unhealthy" else 0


def _said(message: object) -> int:
    sys.stderr.write(f"flext-observability: {message}\n")
    return _FAILED
