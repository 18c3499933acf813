"""Requests by a session of ``requests``: through a proxy, or with a plugin's own."""

from http.cookiejar import DefaultCookiePolicy
from typing import Any

from requests import Session

from .endpoint import Endpoint
from .http_client import HttpReply, read_reply
from .timed_session import timed


class SessionClient:
    """Makes requests by a session."""

    def __init__(
        self,
        endpoint: Endpoint,
        headers: dict[str, str],
        credentials: tuple[str, str] | None,
        session: Session | None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            endpoint: Where requests go, and its certificates.
            headers: Of every request.
            credentials: User and password for basic authentication.
            session: Of a credential provider, which says itself who we are; one of our
                own when not given.
        """
        self._endpoint = endpoint
        self._session = timed(Session() if session is None else session)
        if session is None:
            # Proxy variables hold, but ~/.netrc must not replace our headers, and a
            # server has nothing to store here.
            self._session.auth = credentials or _unchanged
            self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # First: hooks of a credential provider may look at the body.
        self._session.hooks["response"].insert(0, _stay)
        self._session.headers.update(headers)
        self._client: tuple[str, str] | None = None
        if endpoint.client_certificate and endpoint.client_key:
            self._client = (endpoint.client_certificate, endpoint.client_key)

    def post(self, body: bytes, timeout_s: float) -> HttpReply:
        """Make one request; its connection is fit for the next if it is read whole."""
        response: Any = self._session.post(
            self._endpoint.url,
            data=body,
            timeout=timeout_s,
            allow_redirects=False,
            stream=True,
            # Per request: on the session, REQUESTS_CA_BUNDLE would win.
            verify=self._endpoint.certificate or True,
            cert=self._client,
        )
        raw = response.raw
        reply = read_reply(
            response.status_code,
            response.headers,
            lambda size: raw.read(size, decode_content=False),
        )
        if reply.body is None:
            raw.close()
        else:
            raw.release_conn()
        return reply

    def close(self) -> None:
        """Drop the connection."""
        self._session.close()


def _unchanged(request: Any) -> Any:
    return request


def _stay(response: Any, *_args: Any, **_kwargs: Any) -> None:
    """Forget where a redirect leads: ``requests`` would read its whole body."""
    response.headers.pop("Location", None)
