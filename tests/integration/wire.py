"""A server that answers with whatever bytes a test wants: for faults that no real API server can be made to show."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from tests.controlplane.certificates import Authority


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; header names are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class WireServer:
    """A running server.

    Attributes:
        port: On 127.0.0.1.
        requests: All so far.
        hung_up: Set when a client has ended a connection.
    """

    port: int
    requests: list[Request] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)


def replying(
    body: bytes | dict[str, Any], status: int = 200, content_type: str = "application/json", **headers: str
) -> Answer:
    """Answers every request with the same, as HTTP wants it."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(body, status, content_type, **headers))
        await writer.drain()

    return answer


def http_reply(
    body: bytes | dict[str, Any], status: int = 200, content_type: str = "application/json", **headers: str
) -> bytes:
    """The bytes of a reply; a keyword is a header, `_` for `-`."""
    content = orjson.dumps(body) if isinstance(body, dict) else body
    fields = {"Content-Type": content_type, "Content-Length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    phrase = HTTPStatus(status).phrase
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + content


def raw(content: bytes, *, then_close: bool = True) -> Answer:
    """Sends bytes as they are, and closes or hangs."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        if then_close:
            writer.close()

    return answer


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


LAST_CHUNK = b"0\r\n\r\n"


def server_context(authority: Authority, *names: str) -> ssl.SSLContext:
    """A server's TLS context with a certificate for the names; asks no client for one."""
    pair = authority.server(*names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_text(pair.certificate_pem + pair.key_pem)
        context.load_cert_chain(path)
    return context


TLS_HELLO = b"\x16"


class TlsHelloError(Exception):
    """A client speaks TLS where none is spoken."""


@asynccontextmanager
async def wire(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[WireServer]:
    """Runs a server; what still runs in it when the block ends is cancelled."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            while not writer.is_closing():
                request = await _request(reader)
                found.requests.append(request)
                await answer(request, writer)
        except TlsHelloError:
            writer.write(http_reply(b"TLS sent to a plain port", 400, "text/plain"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            found.hung_up.set()
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    found = WireServer(server.sockets[0].getsockname()[1])
    try:
        yield found
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Request:
    begin = await reader.readexactly(1)
    if begin == TLS_HELLO:
        raise TlsHelloError
    head = (begin + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)
