"""Passing on a WebSocket, such as a port-forward is: what comes from either side goes to the other, as it is."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

PROTOCOLS = "Sec-WebSocket-Protocol"


def asks_for_tunnel(request: web.BaseRequest) -> bool:
    """Whether a request wants its connection to become a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def pass_tunnel(
    request: web.BaseRequest, session: aiohttp.ClientSession, url: URL, authorization: str
) -> web.StreamResponse:
    """Open the same to the server, and carry messages until one of both sides ends it."""
    protocols = tuple(name.strip() for name in request.headers.get(PROTOCOLS, "").split(",") if name.strip())
    try:
        upstream = await session.ws_connect(url, protocols=protocols, headers={"Authorization": authorization})
    except aiohttp.WSServerHandshakeError as refusal:
        return web.Response(status=refusal.status)
    client = web.WebSocketResponse(protocols=protocols)
    await client.prepare(request)
    there = asyncio.create_task(_carry(client, upstream))
    back = asyncio.create_task(_carry(upstream, client))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (there, back):
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        await upstream.close()
        await client.close()
    return client


async def _carry(source: Any, sink: Any) -> None:
    async for message in source:
        if message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
