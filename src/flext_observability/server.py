"""The operations server: metrics, health and a REST API.

``python -m flext_observability.server`` runs it as a program of its own,
:func:`create_app` gives it as an application to mount, and ``setup(server_port=9464)``
serves it inside a program.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from . import runtime
from .errors import FlextObservabilityConfigurationError
from .lifecycle import setup, shutdown
from .settings import Settings
from .settings_reader import read_settings
from .web import surface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .access import AccessRules
    from .container import FlextContainer
    from .web.operations import OperationsApp

__all__ = ["create_app", "create_wsgi_app", "main"]

_EXIT_CANNOT_BEGIN = 2
_CHECK_TIMEOUT_S = 4.0  # the image gives its health check 5 s
_IPV4 = 4


def create_app(
    container: "FlextContainer | None" = None,
    *,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    metrics_path: str = "/metrics",
) -> "OperationsApp":
    """Make an ASGI application of everything operators ask for.

    ``/metrics``, ``/health``, ``/health/live``, ``/health/ready`` and the REST API
    under ``/api/v1``, whose OpenAPI document is ``/api/v1/openapi.json``. It mounts
    into any ASGI application. Without a token it answers callers on this machine alone,
    but for the health endpoints, which give others the one word.

    Args:
        container: Whose services answer; the one of the process when not given.
        token: Bearer token of all callers; ``server_token`` when not given.
        allowed_hosts: Names that may stand in ``Host`` and ``Origin``, beside those of
            this machine; ``server_allowed_hosts`` when not given.
        metrics_path: Where the metrics are.

    Raises:
        FlextObservabilityConfigurationError: A setting is wrong; it is named.
        ImportError: The extra ``server`` is not installed.

    Example:
        >>> app.mount("/operations", create_app())  # doctest: +SKIP
    """
    try:
        from .web.operations import make_operations
    except ImportError as error:
        from .web.hosting import MISSING

        raise ImportError(MISSING) from error
    runtime.state.keep_recent()
    return make_operations(container, _rules(token, allowed_hosts), metrics_path)


def create_wsgi_app(
    container: "FlextContainer | None" = None,
    *,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    metrics_path: str = "/metrics",
) -> "Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]":
    """Make a WSGI application of the metrics and health endpoints.

    It needs no extra. Who may ask is decided as for :func:`create_app`.

    Args:
        container: Whose services answer; the one of the process when not given.
        token: Bearer token of all callers; ``server_token`` when not given.
        allowed_hosts: Names that may stand in ``Host`` and ``Origin``.
        metrics_path: Where the metrics are.

    Raises:
        FlextObservabilityConfigurationError: A setting is wrong; it is named.
    """
    from .web.operations_wsgi import WsgiOperations

    return WsgiOperations(container, _rules(token, allowed_hosts), metrics_path)


def _rules(token: str | None, allowed_hosts: Sequence[str]) -> "AccessRules":
    """Take what was given, else what the settings say; join metrics where they do."""
    from .access import AccessRules

    config = _config()
    surface.install().share(config)
    if token is not None and not token.strip():  # a variable that was not set
        raise FlextObservabilityConfigurationError("token: must not be empty")
    if token is None and config.server_token is not None:
        token = config.server_token
    return AccessRules(token, allowed_hosts or config.server_allowed_hosts)


def _config() -> Settings:
    """Give the settings in force; before setup, those of the environment."""
    config = runtime.current_config()
    if config is not None:
        return config
    return read_settings({}).unwrap()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server as a program; ``HOST``, ``PORT``, ``PROMETHEUS_PATH`` say where.

    Args:
        arguments: Of the command line; those of the process when not given.

    Returns:
        The exit code: 2 when it cannot begin.
    """
    options = _parser().parse_args(arguments)
    if options.check:
        return _check(options)
    from .web.hosting import HostingPlan, serve_forever

    surface.install()
    # Telemetry of its own is sent where somebody said where to.
    quiet = {} if _has_destination() else {"exporters": ["none"]}
    made = setup(None, **quiet)  # type: ignore[arg-type]  # one keyword, or none
    try:
        if made.is_failure:
            return _cannot_begin(made.error)
        plan = HostingPlan.of(
            _config(), options.host, options.port, options.metrics_path
        )
        # uvicorn ends in order, then sends itself the signal once more.
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        runtime.state.keep_recent()
        serve_forever(plan)
    except FlextObservabilityConfigurationError as error:
        return _cannot_begin(str(error))
    except KeyboardInterrupt:
        pass  # uvicorn has shut down by then
    finally:
        shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flext_observability.server",
        description="Serve /metrics, /health and /api/v1.",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("HOST") or "127.0.0.1",
        help="address to listen on (HOST); one that others reach needs a token",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("PORT") or "9090",
        help="port (PORT)",
    )
    parser.add_argument(
        "--metrics-path",
        type=_path,
        default=os.environ.get("PROMETHEUS_PATH") or "/metrics",
        help="path of the metrics page (PROMETHEUS_PATH)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="ask the server that runs there; exit 0 when it gives metrics",
    )
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535:  # noqa: PLR2004 - ports
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65535)")


def _path(text: str) -> str:
    if text.startswith("/") and text.isprintable() and not set(text) & set(" {}?#"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no path such as /metrics")


def _has_destination() -> bool:
    return any(
        value
        for name, value in os.environ.items()
        if (name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT"))
        or (name.startswith("OTEL_") and name.endswith("S_EXPORTER"))
        or name.endswith(("OBSERVABILITY_ENDPOINT", "OBSERVABILITY_EXPORTERS"))
    )


def _check(options: argparse.Namespace) -> int:
    """Ask the server for its metrics, as the health check of a container does."""
    from http.client import HTTPConnection, HTTPException

    token = os.environ.get("FLEXT_OBSERVABILITY_SERVER_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    host = _reachable(options.host)
    connection = HTTPConnection(host, options.port, timeout=_CHECK_TIMEOUT_S)
    try:
        connection.request("GET", options.metrics_path, headers=headers)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"no answer from {host}:{options.port}: {error}\n")
        return 1
    finally:
        connection.close()
    if status != 200:  # noqa: PLR2004 - HTTP
        sys.stderr.write(f"{host}:{options.port} answered {status}\n")
        return 1
    return 0


def _reachable(host: str) -> str:
    """Give the address by which this machine reaches its own server."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == _IPV4 else "::1"


def _cannot_begin(reason: str | None) -> int:
    sys.stderr.write(f"flext_observability.server: {reason}\n")
    return _EXIT_CANNOT_BEGIN


if __name__ == "__main__":
    raise SystemExit(main())
