"""A client of a server that answers as a test says, and what such answers are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests.controlplane.certificates import Authority
from tests.integration.wire import (
    Answer,
    WireServer,
    wire,
)

from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.transport import Transport
from tenantry.api.resources import CONFIG_MAPS, Ref
from tenantry.ports.kube import KubeError

Json = dict[str, Any]
A = Ref(CONFIG_MAPS, "n", "a")
TOKEN = "s3cr3t-bearer-token"
AUTHORITY = Authority.new("wire")


def config_map(version: int, name: str = "a", **data: str) -> Json:
    metadata = {"name": name, "namespace": "n", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def event(version: int, kind: str = "MODIFIED", **data: str) -> bytes:
    return orjson.dumps({"type": kind, "object": config_map(version, **data)}) + b"\n"


@asynccontextmanager
async def client_of(answer: Answer, *, seconds: float = 5.0) -> AsyncIterator[tuple[KubeClient, WireServer]]:
    """A client of a plain-HTTP server that answers like this."""
    async with wire(answer) as server:
        transport = Transport(f"http://127.0.0.1:{server.port}", authorization=f"Bearer {TOKEN}", seconds=seconds)
        client = KubeClient(transport)
        try:
            yield client, server
        finally:
            await client.close()


async def error_of(doing: Awaitable[object]) -> KubeError:
    with pytest.raises(KubeError) as caught:
        await doing
    assert TOKEN not in caught.value.message
    assert caught.value.__cause__ is None
    return caught.value
