"""A bare client of one API server: aiohttp with one token, nothing between the caller and the wire."""

from __future__ import annotations

import json
import ssl
from typing import Any, Final, Self

import aiohttp
from tests.controlplane.access import ClusterAccess
from yarl import URL

CONCURRENCY: Final = 32
SECONDS: Final = 60.0


class RefusedError(RuntimeError):
    """An API server refused what must work."""


def token_of(kubeconfig: str) -> str:
    """The bearer token of a kubeconfig that is JSON."""
    return str(json.loads(kubeconfig)["users"][0]["user"]["token"])


class Client:
    """Sends requests; an async context manager.

    Args:
        access: The API server.
        token: Of the identity to be; by default the administrator's.
    """

    def __init__(self, access: ClusterAccess, token: str = "") -> None:
        self._server = access.server
        self._headers = {
            "Authorization": f"Bearer {token or token_of(access.kubeconfig)}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "tenantry-bench",
        }
        self._tls = ssl.create_default_context(cadata=access.ca_pem)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=SECONDS),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Raises RuntimeError outside of the context."""
        if self._session is None:
            raise RuntimeError("the client is not open")
        return self._session

    def url(self, target: str) -> URL:
        """Of a path and query that are encoded already."""
        return URL(self._server + target, encoded=True)

    async def send(
        self, method: str, target: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body of the answer, whatever it is."""
        headers = {"Content-Type": content_type} if body is not None else {}
        async with self.session.request(method, self.url(target), data=body, headers=headers) as response:
            return response.status, await response.read()

    async def must(
        self, method: str, target: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> Any:
        """The parsed answer.

        Raises:
            RefusedError: if it is not 2xx.
        """
        status, answer = await self.send(method, target, body, content_type)
        if not 200 <= status < 300:
            raise RefusedError(f"{method} {target}: {status} {answer[:500].decode(errors='replace')}")
        return json.loads(answer)
