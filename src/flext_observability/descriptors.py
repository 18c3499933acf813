"""What stands in a class in place of a function: the same, around monitored ones."""

import functools
from collections.abc import Callable
from typing import Any

_WITH_FUNC = (functools.cached_property, functools.partialmethod)
# As plain types they narrow nothing for type checkers.
DESCRIPTORS: tuple[type[object], ...] = (
    staticmethod,
    classmethod,
    property,
    *_WITH_FUNC,
)


def rebuilt_around(descriptor: Any, decorate: Callable[[Any], Any]) -> Any:
    """Give a descriptor of the same class around monitored functions.

    A subclass goes on doing things its own way, with all that an instance of it knows.
    Its constructor is not asked: it may want other arguments than the functions.

    Returns:
        ``None`` where that cannot be done.
    """
    if any(vars(each).get("__slots__") for each in type(descriptor).__mro__):
        return None  # what stands there would be lost
    try:
        base, *arguments = _parts(descriptor, decorate)
        rebuilt: Any = base.__new__(type(descriptor))
        known: dict[str, Any] = getattr(descriptor, "__dict__", {})
        for name, value in known.items():  # a plain property knows nothing
            vars(rebuilt)[name] = value
        if base is object:
            rebuilt.func = arguments[0]
        else:
            base.__init__(rebuilt, *arguments)
    except Exception:  # noqa: BLE001 - whatever a subclass does
        return None
    return rebuilt


def _parts(descriptor: Any, decorate: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Give the builtin class of a descriptor, and the arguments that make another."""
    if isinstance(descriptor, property):
        parts = (descriptor.fget, descriptor.fset, descriptor.fdel)
        functions = [part and decorate(part) for part in parts]
        if not any(functions):
            raise TypeError("a subclass keeps its function elsewhere")
        return property, *functions, descriptor.__doc__
    if isinstance(descriptor, _WITH_FUNC):
        return object, decorate(descriptor.func)  # they are written in Python
    base = staticmethod if isinstance(descriptor, staticmethod) else classmethod
    return base, decorate(descriptor.__func__)
