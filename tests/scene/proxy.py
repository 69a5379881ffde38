"""FaultProxy: an HTTPS proxy before a real API server, with faults that tests switch on and off while it runs.

Watches are passed on line by line. It lives in a thread with an event loop of its own, so blocking tests can use it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiohttp
import multidict
from aiohttp import web
from tests.controlplane.access import ClusterAccess
from tests.controlplane.certificates import Authority
from tests.scene.proxy_faults import Answer, Cut, Fault, Hang, Journal, Passing, Rule, Rules, Slow, error_event
from tests.scene.proxy_tunnel import asks_for_tunnel, pass_tunnel
from yarl import URL

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 10.0
LARGEST: Final = 2**24
"""Bytes of a request's body, and of one event."""
HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"})

T = TypeVar("T")

OnWrite = Callable[[Passing], None]
"""Called in a thread of its own around a write, which waits for it: it may block, kill the operator, and raise
CutConnection, so that the write is never passed on or never answered."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The API server that requests are passed on to.

    Attributes:
        token: Takes the place of the client's bearer token; None leaves that as it is.
    """

    server: str
    ca_pem: str
    token: str | None = None

    @classmethod
    def of(cls, access: ClusterAccess, token: str | None = None) -> Backend:
        """A running test cluster."""
        return cls(access.server, access.ca_pem, token)


@dataclass(slots=True, eq=False)
class _Stream:
    """A running watch."""

    request: Passing
    orders: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


class CutConnection(Exception):  # noqa: N818 - not an error: what was asked for
    """The client's connection is to be ended without an answer."""


class FaultProxy:
    """A proxy with an address of its own.

    Attributes:
        journal: All requests that came.
        before_write, after_write: Called before a write is passed on and after it was answered, before the client
            gets the answer. For tests that kill the operator at every single write.
    """

    def __init__(self, access: ClusterAccess) -> None:
        self.journal = Journal()
        self.before_write: OnWrite | None = None
        self.after_write: OnWrite | None = None
        self._backend = Backend.of(access)
        self._authority = Authority.new("fault proxy")
        self._rules = Rules()
        self._streams: set[_Stream] = set()
        self._transports: set[asyncio.BaseTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="fault-proxy")
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None
        self.port = 0

    # --- for tests ------------------------------------------------------------------------------------------------
    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Cut all connections and listen no more. Harmless when repeated."""
        if not self._thread.is_alive():
            return
        self._rules.clear()
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kubeconfig(self, original: str) -> str:
        """A kubeconfig (JSON, as ClusterAccess makes it) that leads through this proxy."""
        body: dict[str, Any] = json.loads(original)
        for entry in body["clusters"]:
            entry["cluster"]["server"] = f"https://{LOOPBACK}:{self.port}"
            ca = base64.b64encode(self._authority.certificate_pem.encode()).decode()
            entry["cluster"]["certificate-authority-data"] = ca
        return json.dumps(body)

    @contextlib.contextmanager
    def fault(
        self, fault: Fault, path: str = "", *, method: str = "", times: int | None = None, skip: int = 0
    ) -> Iterator[Rule]:
        """A fault that is on while the block runs.

        Args:
            fault: What happens.
            path: A regular expression that is searched in path and query.
            method: Of HTTP; empty for any.
            times: How many requests (events, of a Swallow) it befalls; None for all.
            skip: How many of them pass before.
        """
        rule = Rule(fault, method, path, times, skip)
        self._rules.add(rule)
        try:
            yield rule
        finally:
            self._rules.remove(rule)

    def inject_error(self, code: int, path: str = "") -> int:
        """Tell running watches an ERROR event and end them; how many. The path is a regular expression."""

        async def inject() -> int:
            found = [stream for stream in self._streams if Rule(Hang(), "", path, None, 0).matches(stream.request)]
            for stream in found:
                stream.orders.put_nowait(error_event(code))
            return len(found)

        return self._call(inject())

    def cut_connections(self) -> None:
        """End all connections of clients, watches among them."""

        async def cut() -> None:
            for transport in list(self._transports):
                if isinstance(transport, asyncio.Transport):
                    transport.abort()

        self._call(cut())

    def lead_to(self, backend: Backend) -> None:
        """From now on be the door to another API server; all connections are cut."""

        async def swap() -> None:
            former, self._session = self._session, _session(backend)
            self._backend = backend
            if former is not None:
                await former.close()

        self._call(swap())
        self.cut_connections()

    @property
    def watches(self) -> list[Passing]:
        """The watches that run now."""
        return [stream.request for stream in list(self._streams)]

    # --- the thread -----------------------------------------------------------------------------------------------
    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    async def _start(self) -> None:
        self._session = _session(self._backend)
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=_server_context(self._authority))
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        for transport in list(self._transports):
            if isinstance(transport, asyncio.Transport):
                transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        await asyncio.sleep(0.05)  # TLS connections end in the loop's next rounds; it must not be closed before

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
            self._transports = {transport for transport in self._transports if not transport.is_closing()}
        token = request.headers.get("Authorization", "").partition(" ")[2]
        passing = self.journal.note(request.method, request.raw_path, token)
        try:
            return await self._pass(request, passing)
        except (CutConnection, aiohttp.ClientError, ConnectionError):
            if isinstance(request.transport, asyncio.Transport):
                request.transport.abort()
            return web.Response(status=502)

    async def _pass(self, request: web.BaseRequest, passing: Passing) -> web.StreamResponse:
        body = await request.read()
        rule = self._rules.met_by(passing)
        match rule.fault if rule is not None else None:
            case Answer() as answer:
                return web.Response(
                    status=answer.status,
                    text=answer.body,
                    content_type=answer.content_type,
                    headers=dict(answer.headers),
                )
            case Hang():
                assert rule is not None
                await rule.until_lifted()
                raise CutConnection
            case Cut(after=False):
                raise CutConnection
            case Slow(seconds=seconds):
                await asyncio.sleep(seconds)
            case _:
                pass
        if passing.watch:
            return await self._stream(request, passing)
        if asks_for_tunnel(request):
            assert self._session is not None
            return await pass_tunnel(request, self._session, self._url(request), self._authorization(request))
        await self._told(self.before_write, passing)
        answered = await self._forward(request, body)
        await self._told(self.after_write, passing)
        if rule is not None and isinstance(rule.fault, Cut):
            raise CutConnection
        return answered

    async def _told(self, callback: OnWrite | None, passing: Passing) -> None:
        if passing.write and callback is not None:
            await asyncio.to_thread(callback, passing)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        async with self._ask(request, body) as answer:
            content = await answer.read()
            return web.Response(status=answer.status, body=content, headers=_passed_on(answer.headers))

    async def _stream(self, request: web.BaseRequest, passing: Passing) -> web.StreamResponse:
        async with self._ask(request, b"") as upstream:
            answer = web.StreamResponse(status=upstream.status, headers=_passed_on(upstream.headers))
            await answer.prepare(request)
            stream = _Stream(passing)
            self._streams.add(stream)
            try:
                await self._copy(passing, stream, upstream.content, answer)
            finally:
                self._streams.discard(stream)
            await answer.write_eof()
            return answer

    async def _copy(
        self, passing: Passing, stream: _Stream, source: aiohttp.StreamReader, answer: web.StreamResponse
    ) -> None:
        """Line by line, until the server ends the watch or a test does."""
        order = asyncio.ensure_future(stream.orders.get())
        line = asyncio.ensure_future(source.readline())
        try:
            while True:
                await asyncio.wait({line, order}, return_when=asyncio.FIRST_COMPLETED)
                if order.done():
                    await answer.write(order.result())
                    return
                if not (event := await line):
                    return
                line = asyncio.ensure_future(source.readline())
                if not self._rules.swallows(passing, event):
                    await answer.write(event)
        finally:
            order.cancel()
            line.cancel()
            await asyncio.gather(order, line, return_exceptions=True)

    def _ask(self, request: web.BaseRequest, body: bytes) -> Any:
        assert self._session is not None
        headers = _passed_on(request.headers)
        headers.popall("Host", None)
        if authorization := self._authorization(request):
            headers["Authorization"] = authorization
        return self._session.request(
            request.method,
            self._url(request),
            data=body or None,
            headers=headers,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        )

    def _url(self, request: web.BaseRequest) -> URL:
        return URL(f"{self._backend.server}{request.raw_path}", encoded=True)

    def _authorization(self, request: web.BaseRequest) -> str:
        token = self._backend.token
        return f"Bearer {token}" if token is not None else request.headers.get("Authorization", "")


def _session(backend: Backend) -> aiohttp.ClientSession:
    tls = ssl.create_default_context(cadata=backend.ca_pem)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=LARGEST,
    )


def _passed_on(headers: Any) -> multidict.CIMultiDict[str]:
    return multidict.CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


def _server_context(authority: Authority) -> ssl.SSLContext:
    pair = authority.server(LOOPBACK, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_text(pair.certificate_pem + pair.key_pem)
        context.load_cert_chain(path)
    return context
