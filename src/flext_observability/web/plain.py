"""Entities and reports as JSON: bounded, and without secrets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from .._pipeline.redaction import Redactor
from .._pipeline.values import clean_value
from ..entities import FlextEntity


def plain(name: str, value: object, redactor: Redactor) -> Any:
    """Give a value as JSON has it.

    Args:
        name: It goes under; names may say that a value is secret.
        value: Anything.
        redactor: Takes secrets out.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    return _json(redactor.value(name, clean_value(value)))


def _json(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return {key: _json(each) for key, each in pairs.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_json(each) for each in cast("Sequence[object]", value)]
    return value


def plain_entity(
    entity: FlextEntity, fields: Iterable[str], redactor: Redactor
) -> dict[str, Any]:
    """Give fields of an entity as JSON has them."""
    return {name: plain(name, getattr(entity, name), redactor) for name in fields}


def plain_record(record: Mapping[str, object], redactor: Redactor) -> dict[str, Any]:
    """Give a report as JSON has it, whatever the number of its entries."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found[name] = plain_record(cast("Mapping[str, object]", value), redactor)
        else:
            found[name] = plain(name, value, redactor)
    return found
