"""Names and labels as Prometheus takes them."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from json import dumps

from ..constants import FlextObservabilityConstants as C

Labels = dict[str, str]


def legal_name(name: str, also: str = "") -> str:
    """Give a legal name; every character that is refused becomes ``_``.

    Args:
        name: Any text.
        also: Further legal characters: a colon stands in metric names, but Prometheus
            keeps it for recording rules.
    """
    if len(name) > C.METRIC_NAME_LENGTH_LIMIT:
        return _legal_name(name, also)
    return _known_legal_name(name, also)


def _legal_name(name: str, also: str) -> str:
    legal = re.sub(rf"[^a-zA-Z0-9_{also}]", "_", name)
    return f"_{legal}" if not legal or legal[0].isdigit() else legal


_known_legal_name = lru_cache(maxsize=4096)(_legal_name)


def legal_labels(
    attributes: Mapping[str, object], reserved: Collection[str] = ()
) -> Labels:
    """Give legal labels, sorted by name.

    Args:
        attributes: Names that become one when made legal share a label, ``;`` between.
        reserved: Names that get ``exported_`` before them.
    """
    found: Labels = {}
    for key in sorted(attributes):
        name = legal_name(key)
        if name.startswith("__"):
            name = f"_{name.lstrip('_')}"  # Prometheus keeps `__` for itself
        name = f"exported_{name}" if name in reserved else name
        text = legal_text(attributes[key])
        found[name] = f"{found[name]};{text}" if name in found else text
    # To Prometheus an empty label is no label: kept, it would make two series of one.
    return {name: text for name, text in found.items() if text}


def legal_text(value: object) -> str:
    """Give text that can be encoded; what is no text is shown as JSON."""
    text = value if isinstance(value, str) else dumps(value, default=str)
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()
