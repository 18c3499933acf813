"""What every setting is by default, its bounds, and how its plain values are read.

``FlextObservabilityConfig`` says the same with Pydantic, from these very figures, and
reads whatever people may write. Pydantic takes longer to load than the OpenTelemetry
SDK, and hardly any program writes more than plain values; these readers take them, and
leave everything they do not know for certain to Pydantic.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from .connection import (
    checked_endpoint,
    checked_header,
    checked_pem,
    checked_web_address,
    is_header_name,
)
from .constants import FlextObservabilityConstants as C
from .environment import from_list, from_pairs

_YES = frozenset({"1", "on", "t", "true", "y", "yes"})
_NO = frozenset({"0", "off", "f", "false", "n", "no"})
_DIGITS = 15
_HEADER_NAME_LENGTH = 128


class UnsureError(ValueError):
    """A value is none of the plain ones: wrong, or legal for Pydantic only."""


class Setting(NamedTuple):
    """What is known about one setting beside its type and its description."""

    default: Any
    read: Callable[[Any], Any]
    """Gives the value; raises an exception where it is not sure."""
    bounds: Mapping[str, Any] = {}
    """Of the value, by the names that Pydantic has for them."""

    def fresh(self) -> Any:
        """Give the default, a copy where it can be changed."""
        default = self.default
        return default.copy() if self.is_mutable() else default

    def is_mutable(self) -> bool:
        """Whether whoever holds the default could change it."""
        return type(self.default) in {list, dict}


def _is_plain(value: object) -> bool:
    # Not every other text can be written as UTF-8.
    return type(value) is str and value.isascii()


def _text(value: object) -> str:
    if not _is_plain(value):
        raise UnsureError
    return cast("str", value)


def _flag(value: object) -> bool:
    if type(value) is bool:
        return value
    word = _text(value).lower()
    if word not in _YES and word not in _NO:
        raise UnsureError
    return word in _YES


def _whole(value: object) -> int:
    if type(value) is int:
        return value
    text = _text(value)
    if not text.isdigit() or len(text) > _DIGITS or (text[0] == "0" and text != "0"):
        raise UnsureError
    return int(text)


def _number(value: object) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    text = _text(value)
    before, point, after = text.partition(".")
    if len(text) > _DIGITS or not all(map(str.isdigit, (before, after or "0"))):
        raise UnsureError
    if point and not after:
        raise UnsureError
    return float(text)


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    return Path(_text(value))


def _pem(value: object) -> Path:
    return Path(checked_pem(str(_path(value))))


def _directory(value: object) -> Path:
    return absolute(_path(value))


def absolute(path: Path) -> Path:
    """Give the whole path from the start: the program may change its directory.

    Raises:
        ValueError: There is no home directory for its ``~``.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        message = "there is no home directory here, so write the path without ~"
        raise ValueError(message) from error


def _texts(value: object) -> list[str]:
    found = from_list(value)
    if not isinstance(found, list | tuple):
        raise UnsureError
    return [_text(each) for each in cast("list[object]", found)]


def _numbers(value: object) -> list[float]:
    found = from_list(value)
    if not isinstance(found, list | tuple):
        raise UnsureError
    numbers = [_number(each) for each in cast("list[object]", found)]
    if not are_buckets(numbers):
        raise UnsureError
    return numbers


def _attributes(value: object) -> dict[str, str | bool | int | float]:
    found = from_pairs(value)
    if type(found) is not dict:
        raise UnsureError
    pairs = cast("dict[object, object]", found)
    if not all(type(each) in {str, bool, int, float} for each in pairs.values()):
        raise UnsureError
    return {
        _text(name): _text(each) if isinstance(each, str) else cast("int", each)
        for name, each in pairs.items()
    }


def _headers(value: object) -> dict[str, str]:
    found = from_pairs(value)
    if type(found) is not dict:
        raise UnsureError
    return {
        _text(name): checked_header(cast("str", name), _text(each))
        for name, each in cast("dict[object, object]", found).items()
    }


def _header_name(value: object) -> str:
    name = _text(value)
    if not is_header_name(name) or len(name) > _HEADER_NAME_LENGTH:
        raise UnsureError
    return name


def _token(value: object) -> str:
    if not is_token(value):
        raise UnsureError
    return _text(value)


def _endpoint(value: object) -> str:
    return checked_endpoint(_text(value))


def _web_address(value: object) -> str:
    return checked_web_address(_text(value))


def _protocol(value: object) -> str:
    return protocol_name(_text(value))


def is_token(text: object) -> bool:
    """Whether it may stand in an ``Authorization`` header."""
    return (
        isinstance(text, str)
        and bool(text)
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


def are_buckets(bounds: list[float]) -> bool:
    """Whether numbers may bound the buckets of a histogram."""
    return bool(bounds) and bounds == sorted(set(bounds))


def protocol_name(text: str) -> str:
    """Take ``http`` for ``http/protobuf``, as people write it."""
    lowered = text.strip().lower()
    return "http/protobuf" if lowered == "http" else lowered


# -- kinds of settings


def _bounded(read: Callable[[Any], Any], **bounds: float) -> Callable[[Any], Any]:
    low = bounds.get("ge", bounds.get("gt", float("-inf")))
    high = bounds.get("le", float("inf"))
    is_open = "gt" in bounds

    def read_within(value: object) -> Any:
        number = read(value)
        if not low <= number <= high or (is_open and number == low):
            raise UnsureError
        return number

    return read_within


def _a_number(default: float, **bounds: float) -> Setting:
    return Setting(default, _bounded(_number, **bounds), bounds)


def _a_whole(default: int | None, **bounds: int) -> Setting:
    return Setting(default, _bounded(_whole, **bounds), bounds)


def _a_text(default: str, **bounds: int) -> Setting:
    low, high = bounds.get("min_length", 0), bounds.get("max_length")

    def read(value: object) -> str:
        text = _text(value)
        if len(text) < low or (high is not None and len(text) > high):
            raise UnsureError
        return text

    return Setting(default, read, bounds)


def _a_word(
    default: str | None,
    *words: str,
    fold: Callable[[str], str] = lambda text: text.strip().lower(),
) -> Setting:
    def read(value: object) -> str:
        word = fold(_text(value))
        if word not in words:
            raise UnsureError
        return word

    return Setting(default, read)


_ON, _OFF = Setting(True, _flag), Setting(False, _flag)  # noqa: FBT003 - defaults
_LIMIT = _a_whole(128, ge=1, le=1000)
_OPTIONAL_TEXT = Setting(None, _text)
_OPTIONAL_PEM = Setting(None, _pem)
_OPTIONAL_DIRECTORY = Setting(None, _directory)
_NO_TEXTS = Setting([], _texts)

SETTINGS: Mapping[str, Setting] = {
    "service_name": _a_text(C.DEFAULT_SERVICE_NAME, min_length=1, max_length=255),
    "service_version": _OPTIONAL_TEXT,
    "service_namespace": _OPTIONAL_TEXT,
    "environment": _a_text(C.DEFAULT_ENVIRONMENT),
    "resource_attributes": Setting({}, _attributes),
    "endpoint": Setting(None, _endpoint),
    "protocol": _a_word(None, "grpc", "http/protobuf", fold=_protocol),
    "headers": Setting({}, _headers),
    "compression": _a_word(None, "none", "gzip", "deflate"),
    "timeout_s": _a_number(C.DEFAULT_TIMEOUT_S, gt=0, le=600),
    "certificate": _OPTIONAL_PEM,
    "client_certificate": _OPTIONAL_PEM,
    "client_key": _OPTIONAL_PEM,
    "exporters": Setting(["otlp"], _texts),
    "tracing_enabled": _ON,
    "metrics_enabled": _ON,
    "logs_enabled": _ON,
    "sample_ratio": _a_number(1.0, ge=0, le=1),
    "propagators": Setting(["tracecontext", "baggage"], _texts),
    "correlation_id_header": Setting(C.HEADER_CORRELATION_ID, _header_name),
    "log_level": _a_word(
        "INFO",
        *(level.upper() for level in C.LOG_LEVELS),
        fold=lambda text: text.strip().upper(),
    ),
    "structured_logging": _ON,
    "metrics_export_interval_s": _a_number(
        C.DEFAULT_METRICS_EXPORT_INTERVAL_S, ge=1, le=3600
    ),
    "histogram_buckets_s": Setting(list(C.BUCKETS_S), _numbers),
    "max_span_attributes": _LIMIT,
    "max_span_events": _LIMIT,
    "max_span_links": _LIMIT,
    "max_event_attributes": _LIMIT,
    "max_link_attributes": _LIMIT,
    "max_log_attributes": _LIMIT,
    "max_attribute_length": _a_whole(None, ge=1),
    "exit_budget_s": _a_number(C.DEFAULT_EXIT_BUDGET_S, ge=0, le=600),
    "durability": _a_word(None, "memory", "batch", "record"),
    "spool_dir": _OPTIONAL_DIRECTORY,
    "spool_limit_bytes": _a_whole(C.SPOOL_LIMIT_BYTES, ge=1 << 20, le=1 << 40),
    "fsync": _a_word("never", "never", "segment", "batch"),
    "handle_signals": _OFF,
    "redaction": _ON,
    "redact_keys": _NO_TEXTS,
    "redact_patterns": _NO_TEXTS,
    "alertmanager_url": Setting(None, _web_address),
    "alert_resend_s": _a_number(C.DEFAULT_ALERT_RESEND_S, ge=1, le=3600),
    "push_gateway_url": Setting(None, _web_address),
    "service_discovery_dir": _OPTIONAL_DIRECTORY,
    "metrics_store_limit": _a_whole(C.STORE_LIMIT, ge=1, le=1_000_000),
    "metrics_store_cleanup": _a_whole(C.STORE_KEPT, ge=0, le=1_000_000),
    "health_check_interval_s": _a_number(
        C.DEFAULT_HEALTH_CHECK_INTERVAL_S, ge=1, le=3600
    ),
    "health_failure_threshold": _a_whole(3, ge=1, le=10),
    "health_alert_on_failure": _ON,
    "server_host": _a_text("127.0.0.1", min_length=1),
    "server_port": _a_whole(None, ge=1, le=65_535),
    "server_token": Setting(None, _token),
    "server_allowed_hosts": _NO_TEXTS,
    "server_metrics_dir": _OPTIONAL_DIRECTORY,
}
"""All settings by name, in the order in which they are shown."""
