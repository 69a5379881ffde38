"""The raw floor: the operator's own writes again, under fresh names, by a bare client with the operator's token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
from tests.bench.client import CONCURRENCY, Client, RefusedError
from tests.bench.tenants import WORKSPACE, tenant_body
from tests.bench.writes import Write, fresh_name, renamed

from tenantry.api.resources import TENANT_RECORDS, TENANTS

FRESH_RIGHTS: Final = 10.0
"""Seconds for which a 403 means that the fresh RoleBinding has not been noticed yet; as in the operator."""
FIRST_PAUSE: Final = 0.02
LAST_PAUSE: Final = 1.0


class Sql(Protocol):
    """Replays the statements of a tenant; see `tests.bench.sql`."""

    async def replay(self, tenant: str) -> None:
        """All of one tenant's statements, in their order."""


@dataclass(frozen=True, slots=True)
class FloorTenant:
    """What is sent for one tenant of the replay, made before the clock starts.

    Attributes:
        name: Of the tenant that the operator made.
        create: The user's own apply.
        writes: The operator's, in order.
        awaited: Paths of objects whose resourceVersion a later write names.
    """

    name: str
    create: bytes
    writes: tuple[Write, ...]
    awaited: frozenset[str]


def floor_tenant(name: str, writes: Sequence[Write], mode: str) -> FloorTenant:
    """The replay of one tenant."""
    fresh = tuple(renamed(name, writes))
    create = orjson.dumps(tenant_body(fresh_name(name), mode))
    return FloorTenant(name, create, fresh, frozenset(write.path for write in fresh if write.guarded))


def record_path(tenant: FloorTenant) -> str:
    """The path of the TenantRecord that the replay makes."""
    collection = TENANT_RECORDS.path()
    created = next(write for write in tenant.writes if write.method == "POST" and write.path == collection)
    return f"{collection}/{orjson.loads(created.body)['metadata']['name']}"


async def replay(
    user: Client, operators: Mapping[str, Client], tenants: Sequence[FloorTenant], sql: Sql | None = None
) -> float:
    """Replay tenants, 32 at a time; the seconds from the first write to the last.

    Args:
        user: Applies the Tenants.
        operators: By the name of the API server, the client with the operator's token.
        tenants: What to send.
        sql: Replays what each tenant's database took, beside its writes.

    Raises:
        RefusedError: if a write is refused for good.
    """
    queue = list(reversed(tenants))

    async def work() -> None:
        while queue:
            tenant = queue.pop()
            if sql is None:
                await _replay(user, operators, tenant)
            else:
                await asyncio.gather(_replay(user, operators, tenant), sql.replay(tenant.name))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(min(CONCURRENCY, len(tenants)))))
    return time.perf_counter() - started


async def _replay(user: Client, operators: Mapping[str, Client], tenant: FloorTenant) -> None:
    versions: dict[str, str] = {}
    answer = await user.must("POST", TENANTS.path(WORKSPACE), tenant.create)
    versions[TENANTS.path(WORKSPACE, answer["metadata"]["name"])] = answer["metadata"]["resourceVersion"]
    for write in tenant.writes:
        body = write.body
        if write.guarded:
            patch = orjson.loads(body)
            patch["metadata"]["resourceVersion"] = versions[write.path]
            body = orjson.dumps(patch)
        raw = await _patiently(operators[write.cluster], write, body)
        if write.path in tenant.awaited:
            versions[write.path] = orjson.loads(raw)["metadata"]["resourceVersion"]


async def _patiently(client: Client, write: Write, body: bytes) -> bytes:
    """Send it, again while rights that were just given are not noticed or quota admission clashes with itself."""
    pause, deadline = FIRST_PAUSE, time.monotonic() + FRESH_RIGHTS
    while True:
        status, answer = await client.send(write.method, write.uri, body, write.content_type)
        if 200 <= status < 300:
            return answer
        if status not in (403, 409) or time.monotonic() > deadline:
            said = answer[:500].decode(errors="replace")
            raise RefusedError(f"replay of {write.method} {write.uri}: {status} {said}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE)
