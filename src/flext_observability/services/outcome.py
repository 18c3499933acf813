"""What keeps a service from raising."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

from .._pipeline.values import clean_text
from ..entities import FlextEntity
from ..result import FlextResult

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=FlextEntity)


def never_raises(
    method: Callable[P, FlextResult[T]],
) -> Callable[P, FlextResult[T]]:
    """Turn whatever a method raises, wrong arguments included, into its failure."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> FlextResult[T]:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the failure is the result
            return FlextResult[T].fail(
                f"{method.__name__} failed: {type(error).__name__}: "
                f"{clean_text(error)}",
                exception=error,
            )

    return wrapper


def made(kind: type[E], fields: Mapping[str, Any]) -> FlextResult[E]:
    """Make an entity of a caller's values; its rules are not checked yet.

    Args:
        kind: Of the entity.
        fields: Its values.
    """
    try:
        return FlextResult[E].ok(kind(**fields))
    except ValidationError as error:
        message = kind.explain(fields, error)
        return FlextResult[E].fail(message, exception=error)
    except Exception as error:  # noqa: BLE001 - e.g. a tag whose __str__ raises
        return FlextResult[E].fail(type(error).__name__, exception=error)


def is_text(value: object) -> bool:
    """Whether a caller gave text that says something."""
    return isinstance(value, str) and bool(value.strip())


def newest_limit(limit: object) -> int:
    """Give how many entities a query wants.

    Raises:
        ValueError: It is no whole number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        message = f"limit must be a whole number, got {clean_text(limit)}"
        raise ValueError(message)  # noqa: TRY004 - told like any wrong value
    return limit


def word_asked(word: object) -> str | None:
    """Give a word that a query asks for, in lower case; ``None`` when it asks for any.

    Raises:
        ValueError: It is no text.
    """
    if word is None:
        return None
    if not isinstance(word, str):
        message = f"must be text, got {clean_text(word)}"
        raise ValueError(message)  # noqa: TRY004 - told like any wrong value
    return word.lower()
