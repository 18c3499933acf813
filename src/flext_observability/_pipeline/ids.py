"""Ids of spans: random ones, or those that whoever starts a span offers."""

import random
from contextvars import ContextVar
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

# Trace id and span id for the next span that this context starts.
_offered: ContextVar[tuple[int, int] | None] = ContextVar(
    "flext_offered_ids", default=None
)

# Not the module's own source, which a program may seed: equal seeds would make equal
# ids in several processes, and our draws would change what the program draws.
_source = random.Random()  # noqa: S311 - ids are no secret
random_bits: Final = _source.getrandbits


def start_over() -> None:
    """Make other ids than the parent, in a forked child; its fork hook calls this."""
    _source.seed()


class _OwnRandomIds(RandomIdGenerator):
    """The SDK's generator over a source of our own."""

    def generate_trace_id(self) -> int:
        return random_bits(128) or 1

    def generate_span_id(self) -> int:
        return random_bits(64) or 1


_random: Final = _OwnRandomIds()


class OfferedIds(IdGenerator):
    """A generator that gives an offered pair of ids to one span, else its own.

    The API has no other way to start a span whose ids are known before.
    """

    def __init__(self, inner: IdGenerator | None = None) -> None:
        """Wrap a generator.

        Args:
            inner: Makes the ids of all other spans; random ones when not given.
        """
        self._inner = inner or _random

    def generate_trace_id(self) -> int:
        """Give the offered trace id, or a new one."""
        offer = _offered.get()
        return self._inner.generate_trace_id() if offer is None else offer[0]

    def generate_span_id(self) -> int:
        """Give the offered span id, once, or a new one."""
        offer = _offered.get()
        if offer is None:
            return self._inner.generate_span_id()
        _offered.set(None)  # a processor may start another span before ours is there
        return offer[1]

    def is_trace_id_random(self) -> bool:
        """Whether trace ids are random; of an offered one nobody knows."""
        return _offered.get() is None and self._inner.is_trace_id_random()


def offer_ids(trace_id: int, span_id: int) -> None:
    """Let the next span of this context have these ids; a root takes both."""
    _offered.set((trace_id, span_id))


def take_offer() -> tuple[int, int] | None:
    """Take the offered ids, once; ``None`` when there are none."""
    offer = _offered.get()
    if offer is not None:
        _offered.set(None)
    return offer


def withdraw_ids() -> None:
    """Take an offer back, whether it was used or not."""
    _offered.set(None)


def random_ids() -> IdGenerator:
    """Give the generator of ids where no pipeline has one."""
    return _random
