"""Sessions of ``requests`` whose requests keep one deadline from first to last byte."""

import socket
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from .timed_exchange import TimedReply, current_exchange, open_socket, send_slices


class _TimedReply(TimedReply):
    """A reply that urllib3 takes without a word."""

    def begin(self) -> None:
        super().begin()
        # urllib3 logs a warning about headers it does not like, at every request: a
        # server could fill the user's log.
        self.msg.defects = []
        self.msg.set_payload("")
        if self.chunked:
            del self.msg["Content-Length"]


class _TimedConnection(HTTPConnection):
    """A connection each of whose steps gets what is left of the whole."""

    response_class = _TimedReply
    _is_connecting = False
    _is_cut = False
    _is_plain = True

    def connect(self) -> None:
        """Connect; what a tunnel through a proxy says is no request yet."""
        self._is_connecting = True
        self._is_cut = False
        current = current_exchange()
        if current is not None:
            current.is_watched = True
        try:
            super().connect()
        finally:
            self._is_connecting = False

    def _new_conn(self) -> socket.socket:
        if current_exchange() is None:
            return super()._new_conn()
        options = self.socket_options or ()
        return open_socket(self._dns_host, self.port, options, self.source_address)

    def send(self, data: Any) -> None:
        """Send in slices, and stop when the server answers before it has all."""
        if self.sock is None:
            self.connect()
        current = current_exchange()
        if current is None or not isinstance(data, bytes | bytearray):
            super().send(data)
            return
        current.is_watched = True
        current.has_begun = current.has_begun or not self._is_connecting
        try:
            send_slices(self.sock, data, is_plain=self._is_plain)
        except BrokenPipeError:
            self._is_cut = True
            raise  # urllib3 goes on to read the answer

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request, never after half of another one."""
        if self._is_cut:
            self.close()
        super().request(*args, **kwargs)


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    """The same over TLS."""

    _is_plain = False


class _TimedPool(HTTPConnectionPool):
    ConnectionCls: Any = _TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TimedTlsConnection


_STOCK = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
_TIMED = {"http": _TimedPool, "https": _TimedTlsPool}


def _time(manager: Any) -> None:
    """Make a pool manager's connections timed, unless it makes its own (SOCKS)."""
    if getattr(manager, "pool_classes_by_scheme", None) == _STOCK:
        manager.pool_classes_by_scheme = _TIMED


class TimedAdapter(HTTPAdapter):
    """The stock adapter over timed connections, direct or through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the manager of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _time(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make or find the manager of a proxy's connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _time(manager)
        return manager


def own_session(credentials: tuple[str, str] | None) -> Session:
    """Make a session of ours; see also :func:`timed`.

    Proxy variables hold, but ``~/.netrc`` must not speak for us, and a server has
    nothing to store here.

    Args:
        credentials: User and password for basic authentication.
    """
    session = Session()
    session.auth = credentials or _unchanged
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return timed(session)


def timed(session: Session) -> Session:
    """Let a session keep deadlines, and stay where it was sent.

    Adapters that a plugin wrote stay as they are.
    """
    for prefix, adapter in list(session.adapters.items()):
        if type(adapter) is HTTPAdapter:
            session.mount(prefix, TimedAdapter(max_retries=adapter.max_retries))
        else:
            with suppress(Exception):  # it may be anything
                _time(adapter.poolmanager)  # type: ignore[attr-defined]
    # First: hooks of a credential provider may look at the body.
    session.hooks["response"].insert(0, _stay)
    return session


def _unchanged(request: Any) -> Any:
    return request


def _stay(response: Any, *_args: Any, **_kwargs: Any) -> None:
    """Forget where a redirect leads: ``requests`` would read its whole body."""
    response.headers.pop("Location", None)
