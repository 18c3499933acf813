"""Connections of the operations server: none of them waits for ever."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_HEAD_DEADLINE_S: Final = 10.0
_WRITE_DEADLINE_S: Final = 10.0


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn, with deadlines for heads and for reading answers.

    uvicorn closes connections that are idle between two requests, but waits for the
    first one, and for a client that reads nothing, as long as it takes.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._head_timer = self._later(_HEAD_DEADLINE_S)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head must be whole in time."""
        super().data_received(data)
        # uvicorn says that it is never None; it is, before the first request.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering:
            self._stop(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self._later(_HEAD_DEADLINE_S)

    def pause_writing(self) -> None:
        """Note that the client does not read what was sent."""
        super().pause_writing()
        self._stop(self._write_timer)
        self._write_timer = self._later(_WRITE_DEADLINE_S)

    def resume_writing(self) -> None:
        """Note that it does."""
        super().resume_writing()
        self._stop(self._write_timer)
        self._write_timer = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next head, whose first bytes may be here already."""
        super().on_response_complete()
        self._stop(self._head_timer)
        self._head_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop(self._head_timer)
        self._stop(self._write_timer)
        super().connection_lost(exc)

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        abort: Callable[[], None] = self.transport.abort
        return self.loop.call_later(seconds, abort)

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
