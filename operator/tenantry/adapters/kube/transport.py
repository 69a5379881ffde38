"""HTTP to one API server: bounded connections, deadlines and bodies; every failure is an error of the port."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from tenantry import __version__
from tenantry.adapters.kube.addresses import PinnedResolver
from tenantry.adapters.kube.answers import cleaned, error_of_answer, error_of_failure, error_of_status, secret_values
from tenantry.ports.kube import KubeError, UnreachableError

REQUEST_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 32
MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of an answer. etcd takes no object over 1.5 MiB."""

AuthorizationSource = Callable[[], Awaitable[str | None]]
"""Gives the present value of the Authorization header, such as `Bearer xyz`: for tokens that rotate."""

OnRequest = Callable[[str, int, float], None]
"""Told of every request: the method (WATCH for a watch), the HTTP status (0: no answer), seconds until it was read."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends the requests.

    Attributes:
        instance: Which of several processes; the server's audit log has it in the User-Agent.
        may_write: Asked before each request that is no mere read, and before each tunnel: one that may not is not sent.
    """

    instance: str = ""
    may_write: Callable[[], bool] | None = None

    @property
    def user_agent(self) -> str:
        """The header."""
        product = f"tenantry/{__version__}"
        return f"{product} ({_UNFIT.sub('', self.instance)})" if self.instance else product

    def check(self, method: str) -> None:
        """Raises UnreachableError if such a request may not be sent now."""
        if method != "GET" and self.may_write is not None and not self.may_write():
            raise UnreachableError("not sent: this process is not the leader")


NOBODY_SPECIAL: Final = Caller()
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._:-]")
"""What has no place in a comment of a header."""

_FAILURES: Final = (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError)


class Transport:
    """The connections to one API server as one identity. Must be made where an event loop runs, and closed.

    Watches have connections of their own, so that no number of them keeps a request waiting.

    Args:
        server: `https://host:port/path`, without a slash at its end.
        tls: None for plain http, which only the operator's own kubeconfig may ask for.
        addresses: What `host` is dialled at; None leaves it to DNS.
        server_name: The name that the certificate must be for, where it is not the host.
        authorization: The header's value, or where to get it before each request.
        seconds: Deadline of a request, answer included.
        on_request: For metrics.
        proxy: URL of an HTTP proxy; the operator's own kubeconfig may have one.
        caller: Who sends the requests, and may perhaps not.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each of the many ways in which servers are reached
        self,
        server: str,
        *,
        tls: ssl.SSLContext | None = None,
        addresses: Sequence[str] | None = None,
        server_name: str | None = None,
        authorization: str | AuthorizationSource | None = None,
        seconds: float = REQUEST_SECONDS,
        on_request: OnRequest | None = None,
        proxy: str | None = None,
        caller: Caller = NOBODY_SPECIAL,
    ) -> None:
        self.server = server
        self._caller = caller
        self.seconds = seconds
        self._source = authorization if callable(authorization) else None
        self._authorization = authorization if isinstance(authorization, str) else None
        self._on_request = on_request or (lambda _method, _status, _seconds: None)
        self._options: dict[str, Any] = {"allow_redirects": False}
        if server_name:
            self._options["server_hostname"] = server_name

        def session(limit: int) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=limit,
                    ssl=tls if tls is not None else True,
                    resolver=PinnedResolver(addresses) if addresses is not None else None,
                    use_dns_cache=addresses is None,
                    keepalive_timeout=30,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # identity: nothing to unpack, so a small answer can't turn into a big one
                headers={
                    "User-Agent": caller.user_agent,
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                },
                timeout=aiohttp.ClientTimeout(total=seconds),
                auto_decompress=False,
                proxy=proxy,
                trace_configs=[_no_redirects()],
            )

        self._session = session(MAX_CONNECTIONS)
        self._watches = session(0)

    async def close(self) -> None:
        """End all connections. Requests under way fail."""
        await self._session.close()
        await self._watches.close()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        limit: int = MAX_BODY,
    ) -> bytes:
        """The body of a 2xx answer.

        Args:
            method: Of HTTP.
            target: Path and query, already encoded.
            body: What is sent.
            content_type: Of the body.
            limit: Bytes that the answer may have.

        Raises:
            KubeError: for everything else; its message has neither the token nor a value of a Secret sent.
        """
        async with self._exchange(target, body):
            status = 0
            started = time.perf_counter()
            try:
                headers = await self._headers()
                if body is not None:
                    headers["Content-Type"] = content_type
                self._caller.check(method)
                async with self._session.request(
                    method, self._url(target), data=body, headers=headers, **self._options
                ) as response:
                    status = response.status
                    answer = await _bounded(response, limit)
            finally:
                self._on_request(method, status, time.perf_counter() - started)
            if 200 <= status < 300:
                return answer
            raise error_of_answer(status, answer, response.headers.get("Retry-After"))

    async def date(self, target: str) -> str:
        """The header `Date` of the answer to a GET, whatever its status; empty where it has none.

        Raises:
            KubeError: no answer came.
        """
        async with self._exchange(target, None):
            status = 0
            started = time.perf_counter()
            try:
                async with self._session.get(
                    self._url(target), headers=await self._headers(), **self._options
                ) as response:
                    status = response.status
                    return response.headers.get("Date", "")
            finally:
                self._on_request("GET", status, time.perf_counter() - started)

    async def stream(self, target: str, *, silence: float) -> AsyncGenerator[bytes, None]:
        """The body of a 2xx answer, piece by piece as it comes, until the server ends it.

        Args:
            target: Path and query, already encoded.
            silence: Seconds without a byte after which the connection counts as dead.

        Raises:
            KubeError: as `request` does.
        """
        async with self._exchange(target, None):
            response = await self._open(target, silence)
            try:
                async for piece in response.content.iter_any():
                    yield piece
            except aiohttp.ServerTimeoutError:
                raise UnreachableError(f"the watch was silent for {silence:g} s") from None
            finally:
                response.close()

    async def _open(self, target: str, silence: float) -> aiohttp.ClientResponse:
        status = 0
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.seconds):
                response = await self._watches.get(
                    self._url(target),
                    headers=await self._headers(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=silence),
                    **self._options,
                )
                status = response.status
                if 200 <= status < 300:
                    return response
                try:
                    answer = await _bounded(response, MAX_BODY)
                finally:
                    response.close()
        finally:
            self._on_request("WATCH", status, time.perf_counter() - started)
        raise error_of_answer(status, answer, response.headers.get("Retry-After"))

    async def websocket(self, target: str, protocol: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket with a subprotocol; whoever gets it closes it.

        Args:
            target: Path and query, already encoded.
            protocol: The one subprotocol that both sides must speak.

        Raises:
            KubeError: as `request` does.
        """
        async with self._exchange(target, None):
            status = 0
            started = time.perf_counter()
            try:
                self._caller.check("TUNNEL")
                async with asyncio.timeout(self.seconds):
                    socket = await self._watches.ws_connect(
                        self._url(target),
                        protocols=(protocol,),
                        headers=await self._headers(),
                        server_hostname=self._options.get("server_hostname"),
                        max_msg_size=MAX_BODY,
                    )
            except aiohttp.WSServerHandshakeError as refusal:
                status = refusal.status
                raise error_of_status(status, "", f"no tunnel to the pod: the API server answered {status}") from None
            else:
                status = 101
            finally:
                self._on_request("TUNNEL", status, time.perf_counter() - started)
            if socket.protocol != protocol:
                await socket.close()
                raise UnreachableError(f"no tunnel to the pod: its node does not speak {protocol}")
            return socket

    @asynccontextmanager
    async def _exchange(self, target: str, body: bytes | None) -> AsyncGenerator[None, None]:
        """Whatever goes wrong inside leaves as a KubeError in safe words."""
        try:
            yield
        except KubeError as error:
            raise cleaned(error, self._secrets(target, body)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: aiohttp lets go like this of who waits for a connection when it is closed.
            raise UnreachableError("the client was closed before the request was sent") from None
        except _FAILURES as failure:
            # from None: aiohttp's errors carry our headers
            raise cleaned(error_of_failure(failure, self.seconds), self._secrets(target, body)) from None

    async def _headers(self) -> dict[str, str]:
        if self._source is not None:
            self._authorization = await self._source()
        return {"Authorization": self._authorization} if self._authorization else {}

    def _url(self, target: str) -> URL:
        if self._session.closed:
            raise UnreachableError("the client is closed: its credentials were replaced or its cluster is gone")
        return URL(self.server + target, encoded=True)

    def cleaned(self, error: KubeError) -> KubeError:
        """The error without our token in it."""
        return cleaned(error, self._secrets("", None))

    def _secrets(self, target: str, body: bytes | None) -> Iterable[str]:
        token = (self._authorization or "").partition(" ")[2]
        return [token, *(secret_values(body) if body and "/secrets" in target else ())]


def _no_redirects() -> aiohttp.TraceConfig:
    """For WebSockets, which can't be asked for without following them: our token goes nowhere else."""

    async def refuse(*_: object) -> None:
        raise UnreachableError("the server answered with a redirect: is its address right?")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, read only as far as the limit."""
    if (response.content_length or 0) > limit:
        raise UnreachableError(f"the server's answer is larger than {limit // 1024 // 1024} MiB")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise UnreachableError(f"the server's answer is larger than {limit // 1024 // 1024} MiB")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
