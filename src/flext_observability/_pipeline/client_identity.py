"""Who we are to a collector: the user agent, and plugins that bring credentials."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..constants import Signal
from .registry import named_by


@cache  # the package's description is long, and read each time
def user_agent() -> str:
    """Name this package and its release."""
    try:
        return f"flext-observability/{version('flext-observability')}"
    except PackageNotFoundError:
        return "flext-observability"  # run from a source tree


def credential_provider(protocol: str, signal: Signal) -> Any:
    """Load who makes sessions or channel credentials, if a variable names one.

    Args:
        protocol: ``HTTP`` or ``GRPC``.
        signal: Whose variable wins over the general one.
    """
    prefix = f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}"
    variables = (
        f"{prefix}_CREDENTIAL_PROVIDER",
        f"{prefix}_{signal.name}_CREDENTIAL_PROVIDER",
    )
    return named_by(variables, "opentelemetry_otlp_credential_provider")
