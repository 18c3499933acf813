"""The current context, read and switched in as few steps as public calls allow.

Two facts that OpenTelemetry keeps in private names are found once, through public
calls, and checked: the key under which a context holds the current span, and the
context variable behind the runtime context. Where either cannot be found (another
runtime context is configured, a newer API works otherwise), spans are the SDK's.
"""

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context

from ..correlation import restore


def _find_span_key() -> str | None:
    """Give the one key of a context that holds nothing but a span."""
    keys = list(trace.set_span_in_context(trace.INVALID_SPAN, Context()))
    return keys[0] if len(keys) == 1 else None


def _find_variable() -> "ContextVar[Context] | None":
    """Give the variable whose token ``attach`` returns, if it is what is read."""
    token = context_api.attach(context_api.get_current())
    try:
        if not isinstance(token, Token):
            return None
        variable = token.var
        probe = Context()
        inner = variable.set(probe)
        is_found = context_api.get_current() is probe
        variable.reset(inner)
        return variable if is_found else None
    finally:
        context_api.detach(token)


SPAN_KEY = _find_span_key() or ""
"""Under which a context holds its span; ``""`` where that could not be found."""

CONTEXT_VARIABLE = _find_variable()
"""Holds the current context; ``None`` where that could not be found."""

read_current: Callable[[], Context] = (
    context_api.get_current if CONTEXT_VARIABLE is None else CONTEXT_VARIABLE.get
)
"""Gives the current context."""

reset_current: Callable[[Any], None] = (
    restore if CONTEXT_VARIABLE is None else CONTEXT_VARIABLE.reset
)
"""Restores what was current; raises where :func:`leave` knows a way."""


def is_known() -> bool:
    """Whether both were found, so that contexts can be switched directly."""
    return bool(SPAN_KEY) and CONTEXT_VARIABLE is not None


def leave(token: Any, span: object) -> None:
    """Restore what was current before a span of ours; never raises.

    Args:
        token: Of the switch.
        span: That was made current.
    """
    try:
        reset_current(token)
    except (TypeError, ValueError, RuntimeError):
        # A foreign token; or one of another context, or used before.
        current = context_api.get_current()
        restore(token, current if current.get(SPAN_KEY) is span else None)
