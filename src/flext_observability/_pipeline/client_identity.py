"""Who we are to a collector: the user agent, and plugins that bring credentials."""

from typing import Any

from ..constants import VERSION, Signal
from .registry import named_by


def user_agent() -> str:
    """Name this package and its release."""
    return f"flext-observability/{VERSION}"


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
