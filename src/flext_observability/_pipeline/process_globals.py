"""What OpenTelemetry has one of in a process: its providers and its propagator."""

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from opentelemetry import _logs, metrics, trace
from opentelemetry.propagators.textmap import TextMapPropagator

from ..own_log import WARNING, say


def install_providers(providers: Sequence[object]) -> None:
    """Give OpenTelemetry its providers; one that somebody else gave it stays.

    Args:
        providers: Of tracers, of meters and of loggers.
    """
    api = (
        (trace.set_tracer_provider, trace.get_tracer_provider),
        (metrics.set_meter_provider, metrics.get_meter_provider),
        (_logs.set_logger_provider, _logs.get_logger_provider),
    )
    for provider, (setter, getter) in zip(providers, api, strict=True):
        # Not asked first: where there is none yet, the getter installs the one that
        # OTEL_PYTHON_*_PROVIDER names, or raises for a name that is not there.
        cast("Callable[[Any], None]", setter)(provider)
        found = getter()
        if found is not provider:
            say(
                WARNING,
                "another %s was installed before setup(); telemetry made through "
                "plain OpenTelemetry calls goes there, ours goes to our pipeline",
                type(found).__name__,
            )


def idle_provider(like: object) -> Any:
    """Give a provider of the same signal whose parts do nothing."""
    if isinstance(like, trace.TracerProvider):
        return trace.NoOpTracerProvider()
    if isinstance(like, metrics.MeterProvider):
        return metrics.NoOpMeterProvider()
    return _logs.NoOpLoggerProvider()


def exchange_propagator(propagator: TextMapPropagator) -> TextMapPropagator:
    """Put a propagator in place of OpenTelemetry's; give the one that was there."""
    former = global_propagator()
    from opentelemetry import propagate

    propagate.set_global_textmap(propagator)
    return former


def global_propagator() -> TextMapPropagator:
    """Give the propagator of OpenTelemetry.

    Its module raises when it is first imported with a value of OTEL_PROPAGATORS that it
    cannot load. A blank one counts as unset, and others are judged by the settings.
    """
    try:
        from opentelemetry import propagate
    except Exception:  # noqa: BLE001 - whatever a propagator raises
        stated = os.environ.pop("OTEL_PROPAGATORS", "")
        try:
            from opentelemetry import propagate
        finally:
            os.environ["OTEL_PROPAGATORS"] = stated
    return propagate.get_global_textmap()
