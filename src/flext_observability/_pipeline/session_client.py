"""Requests by a session of ``requests``: through a proxy, or with a plugin's own."""

from typing import Any

from requests import Session

from .endpoint import Endpoint
from .http_client import HttpReply, read_reply
from .timed_session import own_session, timed


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
        self._session = own_session(credentials) if session is None else timed(session)
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
