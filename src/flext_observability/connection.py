"""What a connection to a collector may be made with."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from .secret_text import REDACTED, usual_text

# Compiled by whoever needs it first; most programs set no header.
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}"


def is_header_name(name: str) -> bool:
    """Whether a name is legal for a header of HTTP."""
    return re.fullmatch(_HEADER_NAME, name) is not None


def checked_header(name: str, value: str) -> str:
    """Give a header's value without space around it.

    Raises:
        ValueError: Name or value is not legal in HTTP; the text shows no value.
    """
    if not is_header_name(name):
        message = "a name is no legal header name"
        raise ValueError(message)
    value = value.strip(" \t")
    if not value.isprintable() or not value.isascii():
        message = f"the value of {name!r} holds other than printable ASCII characters"
        raise ValueError(message)
    return value


def checked_pem(path: str) -> str:
    """Give the path of a readable PEM file.

    Raises:
        ValueError: There is no such file, or it holds no PEM.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        message = f"file not found: {path}"
        raise ValueError(message) from None
    except OSError as error:
        message = f"file cannot be read: {path} ({error.strerror})"
        raise ValueError(message) from None
    if b"-----BEGIN " not in content:
        message = f"file holds no PEM: {path}"
        raise ValueError(message)
    return path


def check_pair(certificate: Path, key: Path) -> None:
    """Check that a certificate and a key belong together.

    Raises:
        ValueError: They do not, or the key is encrypted.
    """
    from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError

    try:
        # A password function, so that an encrypted key fails instead of asking.
        context = SSLContext(PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (SSLError, OSError) as error:
        message = f"client_certificate: certificate and key do not fit: {error}"
        raise ValueError(message) from None


def checked_endpoint(endpoint: str) -> str:
    """Give the endpoint without surrounding space.

    Args:
        endpoint: A URL with http or https; ``host:port`` is accepted too, as gRPC
            exporters do.

    Raises:
        ValueError: It is neither, or its port is no port.
    """
    endpoint = endpoint.strip()
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        port = parts.port
    except ValueError:
        message = "the port is not a number from 0 to 65535"
        raise ValueError(message) from None
    has_scheme = "://" in endpoint
    if (has_scheme and parts.scheme not in {"http", "https"}) or (
        not has_scheme and port is None
    ):
        message = "must be a URL with http:// or https://"
        raise ValueError(message)
    if not parts.hostname or any(character.isspace() for character in endpoint):
        message = "must be a URL with a host"
        raise ValueError(message)
    return endpoint


def checked_web_address(address: str) -> str:
    """Give the base URL of a web service, without the slash at its end.

    Raises:
        ValueError: It is no URL with http or https, or asks for more than a path.
    """
    address = checked_endpoint(address)
    parts = urlsplit(address)
    if "://" not in address:
        message = "must be a URL with http:// or https://"
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "must be a URL without query and fragment"
        raise ValueError(message)
    return address.rstrip("/")


def shown_address(address: str) -> str:
    """Give a URL as people may see it: without credentials, wherever they stand."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
    except ValueError:
        return REDACTED  # who knows what it is
    user, at, _ = parts.netloc.rpartition("@")
    if at:
        address = address.replace(f"{user}@", f"{REDACTED}@", 1)
    return usual_text().redacted(address)
