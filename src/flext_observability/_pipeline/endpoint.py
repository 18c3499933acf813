"""Where the OTLP requests of one signal go, and how."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from ..connection import checked_endpoint, checked_header, checked_pem
from ..constants import FlextObservabilityConstants as C
from ..constants import Signal
from ..errors import FlextObservabilityConfigurationError
from ..settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


# No tuple: whoever walks through it, to log it or as JSON, must not find the headers.
@dataclass(frozen=True, repr=False)
class Endpoint:
    """One OTLP destination. It carries secrets, so it has no repr of its fields."""

    signal: Signal
    protocol: str
    """``grpc`` or ``http/protobuf``."""
    url: str
    """Full URL for HTTP, with the signal's path; scheme and authority for gRPC."""
    headers: "Mapping[str, str]"
    compression: str
    """``none``, ``gzip`` or ``deflate``."""
    timeout_s: float
    insecure: bool
    """Whether the connection is made without TLS."""
    certificate: str | None
    client_certificate: str | None
    client_key: str | None

    @property
    def authority(self) -> str:
        """Host and port, without credentials."""
        parts = urlsplit(self.url)
        return parts.netloc.rpartition("@")[2]

    @property
    def shown(self) -> str:
        """The URL as it may be shown: no credentials, no query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, self.authority, parts.path, "", ""))


def endpoint_for(config: Settings, signal: Signal) -> Endpoint:
    """Resolve a signal's destination.

    A field that an argument or one of our variables names holds for every signal. Else
    ``OTEL_EXPORTER_OTLP_<SIGNAL>_*`` wins over ``OTEL_EXPORTER_OTLP_*``
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

    Raises:
        FlextObservabilityConfigurationError: A variable holds no legal value.
    """
    own = _OwnVariables(config, signal)
    url = own.text("endpoint", "ENDPOINT")
    raw = url or config.endpoint or ""
    try:
        raw = checked_endpoint(raw) if raw else ""
    except ValueError as error:
        message = f"endpoint: {error} (from {own.name('ENDPOINT')})"
        raise FlextObservabilityConfigurationError(message) from None
    protocol = own.text("protocol", "PROTOCOL") or config.protocol or _inferred(raw)
    if protocol not in C.PROTOCOLS:
        message = (
            f"protocol: must be 'grpc' or 'http/protobuf', got {protocol!r} "
            f"(from {own.name('PROTOCOL')})"
        )
        raise FlextObservabilityConfigurationError(message)
    insecure_variable = own.text("insecure", "INSECURE") or os.environ.get(
        "OTEL_EXPORTER_OTLP_INSECURE"
    )
    address, insecure = _address(raw, protocol, insecure_variable)
    if protocol != "grpc" and not url:
        address = f"{address.rstrip('/')}/v1/{signal.value}"
    return Endpoint(
        signal=signal,
        protocol=protocol,
        url=address,
        headers=own.headers(),
        compression=own.compression(),
        timeout_s=own.timeout_s(),
        insecure=insecure,
        certificate=own.file("certificate", "CERTIFICATE"),
        client_certificate=own.file("client_certificate", "CLIENT_CERTIFICATE"),
        client_key=own.file("client_key", "CLIENT_KEY"),
    )


def _inferred(url: str) -> str:
    """Infer the protocol: gRPC has its own port and never a path."""
    if not url:
        return "grpc"
    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.port == C.PORT_OTLP_HTTP:
        return "http/protobuf"
    if parts.port == C.PORT_OTLP_GRPC:
        return "grpc"
    return "http/protobuf" if parts.path.strip("/") else "grpc"


def _address(raw: str, protocol: str, insecure: str | None) -> tuple[str, bool]:
    """Give the URL and whether it is without TLS."""
    if not raw:
        port = C.PORT_OTLP_GRPC if protocol == "grpc" else C.PORT_OTLP_HTTP
        return f"http://localhost:{port}", True
    if "://" in raw:
        return raw, not raw.startswith("https://")
    # host:port says nothing about TLS. Loopback has no certificate, elsewhere TLS is
    # the safe reading, and OTEL_EXPORTER_OTLP_INSECURE decides when it is set.
    host = urlsplit(f"//{raw}").hostname
    plain = insecure.strip().lower() == "true" if insecure else host in _LOOPBACK
    return f"{'http' if plain else 'https'}://{raw}", plain


class _OwnVariables:
    """The ``OTEL_EXPORTER_OTLP_<SIGNAL>_*`` variables, where they may speak."""

    def __init__(self, config: Settings, signal: Signal) -> None:
        self._config = config
        self._signal = signal

    def name(self, suffix: str) -> str:
        return f"OTEL_EXPORTER_OTLP_{self._signal.name}_{suffix}"

    def text(self, field: str, suffix: str) -> str | None:
        if self._config.is_stated(field):
            return None
        return os.environ.get(self.name(suffix), "").strip() or None

    def headers(self) -> dict[str, str]:
        own = self.text("headers", "HEADERS")
        if own is None:
            return {name.lower(): value for name, value in self._config.headers.items()}
        pairs = (item.partition("=") for item in own.split(",") if "=" in item)
        found: dict[str, str] = {}
        for raw_name, _, raw_value in pairs:
            name = unquote(raw_name.strip()).lower()
            try:
                found[name] = checked_header(name, unquote(raw_value.strip()))
            except ValueError as error:
                message = f"headers: {error} (from {self.name('HEADERS')})"
                raise FlextObservabilityConfigurationError(message) from None
        return found

    def compression(self) -> str:
        own = self.text("compression", "COMPRESSION")
        found = (own or self._config.compression or "none").lower()
        if found not in C.COMPRESSIONS:
            message = (
                f"compression: must be one of {', '.join(C.COMPRESSIONS)}, "
                f"got {found!r} (from {self.name('COMPRESSION')})"
            )
            raise FlextObservabilityConfigurationError(message)
        return found

    def timeout_s(self) -> float:
        own = self.text("timeout_s", "TIMEOUT")
        try:
            return float(own) if own else self._config.timeout_s
        except ValueError:
            message = (
                f"timeout_s: must be seconds, got {own!r} (from {self.name('TIMEOUT')})"
            )
            raise FlextObservabilityConfigurationError(message) from None

    def file(self, field: str, suffix: str) -> str | None:
        own = self.text(field, suffix)
        if own is None:
            path = cast("object", getattr(self._config, field))
            return None if path is None else str(path)
        try:
            return checked_pem(own)
        except ValueError as error:
            message = f"{field}: {error} (from {self.name(suffix)})"
            raise FlextObservabilityConfigurationError(message) from None


_SECRET_WORDS = re.compile(
    r"auth|token|key|secret|passw|cookie|credential|dsn|honeycomb-team"
)


def insecure_credentials_warning(endpoint: Endpoint) -> str | None:
    """Say that credentials would travel readable for everyone on the way.

    Returns:
        A line for the log, without the credentials; ``None`` when all is well.
    """
    parts = urlsplit(endpoint.url)
    if not endpoint.insecure or _is_loopback(parts.hostname or ""):
        return None
    names = sorted(filter(_SECRET_WORDS.search, map(str.lower, endpoint.headers)))
    if parts.password:
        names.append("the password in the address")
    if not names:
        return None
    return (
        f"{endpoint.shown}: credentials ({', '.join(names)}) are sent without TLS, "
        "readable on the way; use https://"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host in _LOOPBACK or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
