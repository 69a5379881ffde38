"""The part of a kubelet that carries port-forwards: its WebSocket protocol, to ports of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from aiohttp import WSMsgType, web
from tests.controlplane.certificates import Authority
from tests.controlplane.processes import LOOPBACK

PROTOCOL: Final = "v4.channel.k8s.io"
DATA: Final = 0
TROUBLE: Final = 1
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
CHUNK: Final = 32768

PortOf = Callable[[str, str], int | None]
"""The port of this machine that a pod's port is on, by namespace and pod; None where nothing listens."""


class PortForwards:
    """Serves `/portForward/<namespace>/<pod>` over TLS, as an API server asks a kubelet for it.

    Attributes:
        port: Where it listens.
        carried: How many streams were asked for.
    """

    def __init__(self, port_of: PortOf) -> None:
        self._port_of = port_of
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="port-forwards")
        self.port = 0
        self.carried = 0

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        assert self._ready.wait(START_SECONDS), "the port-forwards do not start"
        return self

    def stop(self) -> None:
        """End it with all streams."""
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_get("/portForward/{namespace}/{pod}", self._forward)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=kubelet_context())
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._done.wait()
        await runner.cleanup()
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in rest:
                task.cancel()
            await asyncio.wait(rest, timeout=STOP_SECONDS)
        await asyncio.sleep(0.05)  # connections end in the loop's next rounds; it must not be closed before

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        self.carried += 1
        asked = int(request.query["port"])
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        for channel in (DATA, TROUBLE):
            await socket.send_bytes(bytes((channel,)) + asked.to_bytes(2, "little"))
        port = self._port_of(request.match_info["namespace"], request.match_info["pod"])
        try:
            if port is None:
                raise ConnectionRefusedError(f"dial tcp4 127.0.0.1:{asked}: connect: connection refused")
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError as error:
            await socket.send_bytes(bytes((TROUBLE,)) + f"error forwarding port {asked}: {error}".encode())
            await socket.close()
            return socket
        back = asyncio.create_task(_back(reader, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data[:1] == bytes((DATA,)):
                    writer.write(message.data[1:])
                    await writer.drain()
        except OSError:
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return socket


async def _back(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    while data := await reader.read(CHUNK):
        await socket.send_bytes(bytes((DATA,)) + data)
    await socket.close()


def kubelet_context() -> ssl.SSLContext:
    """A certificate of nobody's: an API server that is not told otherwise believes its kubelets."""
    pair = Authority.new("kubelet").server("localhost", LOOPBACK)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "crt", Path(folder) / "key"
        certificate.write_text(pair.certificate_pem)
        key.write_text(pair.key_pem)
        context.load_cert_chain(certificate, key)
    return context
