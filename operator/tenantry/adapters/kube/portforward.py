"""A stream to a port of a pod inside a WebSocket, as Kubernetes' port-forward has it."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from tenantry.ports.kube import UnreachableError

PROTOCOL: Final = "v4.channel.k8s.io"
"""Each message is one byte for the channel, then its data."""
DATA: Final = 0
TROUBLE: Final = 1
PORT_BYTES: Final = 2
"""What a channel starts with: the port's number, little-endian."""
MAX_TROUBLE: Final = 300
WRITE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0


class PodTunnel:
    """See `tenantry.ports.kube.Tunnel`. One port, so two channels: what it carries, and why it does not."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._skip = {DATA: PORT_BYTES, TROUBLE: PORT_BYTES}

    async def read(self) -> bytes:
        """What came next; nothing when the pod's side has ended.

        Raises:
            UnreachableError: the node says why the port can't be reached.
        """
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return b""
            data: bytes = message.data
            if not data or data[0] not in self._skip:
                continue
            channel, content = data[0], data[1:]
            skipped = min(self._skip[channel], len(content))
            self._skip[channel] -= skipped
            content = content[skipped:]
            if content and channel == TROUBLE:
                raise UnreachableError(f"the pod's node: {content.decode(errors='replace')[:MAX_TROUBLE]}")
            if content:
                return content

    async def write(self, data: bytes) -> None:
        """Send some.

        Raises:
            UnreachableError: the connection is gone, or takes nothing.
        """
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._socket.send_bytes(bytes((DATA,)) + data)
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise UnreachableError("the tunnel to the pod broke off") from None

    async def close(self) -> None:
        """End it; a node that does not answer is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
