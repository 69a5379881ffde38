"""Users who apply Tenants and watch until they are Ready, by a bare client so that they are no bottleneck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from tests.bench.client import CONCURRENCY, Client

from tenantry.api.names import API_VERSION
from tenantry.api.resources import TENANTS

WORKSPACE: Final = "shop"
READY_SECONDS: Final = 120.0
PER_TENANT_SECONDS: Final = 5.0
"""Generous: the machine may have much else to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """How tenants came about.

    Attributes:
        seconds: From the first apply to the last Ready.
        applied: Seconds until the last apply was answered.
        waits: Of each tenant, seconds from its apply to Ready.
    """

    seconds: float
    applied: float
    waits: tuple[float, ...]


def tenant_body(name: str, mode: str, **spec: Any) -> dict[str, Any]:
    """A Tenant as users write it."""
    return {
        "apiVersion": API_VERSION,
        "kind": TENANTS.kind,
        "metadata": {"name": name, "namespace": WORKSPACE},
        "spec": {
            "displayName": f"Customer {name}",
            "plan": "basic",
            "tags": {"team": "blue"},
            "ingress": {"backend": {"service": "shop", "port": 8080}},
            "rbac": {"bindings": [{"role": "Admin", "subjects": [{"kind": "User", "name": "anna@acme.example"}]}]},
            "env": {"LOG_LEVEL": "info"},
            "limits": {"MAX_USERS": "5"},
            "database": {"mode": mode},
            **spec,
        },
    }


def is_ready(tenant: dict[str, Any]) -> bool:
    """Whether the status says Ready of the present generation."""
    status = tenant.get("status") or {}
    return status.get("observedGeneration") == tenant["metadata"]["generation"] and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions") or ()
    )


async def make_tenants(client: Client, tenants: Sequence[dict[str, Any]]) -> Run:
    """Apply tenants, 32 at a time, and wait until all are Ready.

    Raises:
        TimeoutError: if that takes too long.
    """
    collection = TENANTS.path(WORKSPACE)
    bodies = {tenant["metadata"]["name"]: tenant for tenant in tenants}
    names = list(bodies)
    waiting, ready = set(names), dict[str, float]()
    applied: dict[str, float] = {}
    watching = asyncio.create_task(_watch(client, collection, waiting, ready))
    queue = list(reversed(names))

    async def apply() -> None:
        while queue:
            name = queue.pop()
            applied[name] = time.perf_counter()
            await client.must("POST", collection, orjson.dumps(bodies[name]))

    started = time.perf_counter()
    try:
        async with asyncio.timeout(READY_SECONDS + PER_TENANT_SECONDS * len(names)):
            await asyncio.gather(*(apply() for _ in range(min(CONCURRENCY, len(names)))))
            all_applied = time.perf_counter() - started
            await watching
    except TimeoutError:
        late = await client.must("GET", TENANTS.path(WORKSPACE, min(waiting))) if waiting else {}
        conditions = late.get("status", {}).get("conditions")
        raise TimeoutError(f"{len(waiting)} of {len(names)} tenants are not Ready, such as: {conditions}") from None
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return Run(
        seconds=max(ready.values()) - started,
        applied=all_applied,
        waits=tuple(ready[name] - applied[name] for name in names),
    )


async def _watch(client: Client, collection: str, waiting: set[str], ready: dict[str, float]) -> None:
    """Until all are ready; notes when each was seen to be. A watch that the API server ends is begun anew."""

    def look(tenant: dict[str, Any]) -> None:
        name = tenant["metadata"].get("name")
        if name in waiting and is_ready(tenant):
            ready[name] = time.perf_counter()
            waiting.remove(name)

    while waiting:
        listing = await client.must("GET", collection)
        for tenant in listing["items"]:
            look(tenant)
        target = f"{collection}?watch=1&resourceVersion={listing['metadata']['resourceVersion']}"
        async for event in _events(client, target):
            if event["type"] == "ERROR":
                break
            look(event["object"])
            if not waiting:
                return


async def _events(client: Client, target: str) -> AsyncGenerator[dict[str, Any], None]:
    timeout = aiohttp.ClientTimeout(total=None)
    async with client.session.get(client.url(target), timeout=timeout) as response:
        rest = b""
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield orjson.loads(line)


async def remove_tenants(client: Client, names: Sequence[str], records: Sequence[str]) -> None:
    """Take Tenants and TenantRecords of a replay away, so that the operator never sees them."""
    queue = list(zip(names, records, strict=True))
    freed = orjson.dumps({"metadata": {"finalizers": None}})

    async def remove() -> None:
        while queue:
            name, record = queue.pop()
            tenant = TENANTS.path(WORKSPACE, name)
            await client.must("PATCH", tenant, freed, "application/merge-patch+json")
            await client.must("DELETE", tenant)
            await client.must("DELETE", record)

    await asyncio.gather(*(remove() for _ in range(CONCURRENCY)))
