"""Servers of tenants' own that take connections and say nothing: who has none is not held up by them."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest
from tests.integration.test_postgres_own import Straight

from tenantry.adapters.postgres.own import TunnelledServers
from tenantry.api.resources import TENANTS, Ref
from tenantry.ports.postgres import DatabaseUnreachableError
from tenantry.ports.servers import OwnServer, ServerEndpoint
from tenantry.reconcile.result import Result
from tenantry.runtime.clock import SystemClock
from tenantry.runtime.queue import WorkQueue
from tenantry.runtime.workers import run_workers

HANGING: Final = 6
WORKERS: Final = 6
ORDINARY: Final = Ref(TENANTS, "shop", "ordinary")
SECONDS: Final = 4.0
"""Without a limit it is ten and more: as long as libpq waits for a server."""

pytestmark = pytest.mark.timeout(120)


def own(name: str) -> OwnServer:
    endpoint = ServerEndpoint(f"tenant-postgres.{name}.svc", 5432, "tenantry", "a", "verify-full")
    return OwnServer(endpoint, "postgres", "b")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.close()


async def test_six_that_hang_do_not_delay_an_ordinary_tenant_and_are_asked_less_and_less_often() -> None:
    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    clock, done, all_told = SystemClock(), asyncio.Event(), asyncio.Event()
    servers, waits = TunnelledServers(clock), list[float]()

    async def dial() -> Straight:
        return Straight(*await asyncio.open_connection("127.0.0.1", port))

    async def reconcile(key: Ref) -> Result:
        if key == ORDINARY:
            done.set()
            return Result()
        try:
            async with servers.open(own(key.name), dial):
                pytest.fail("it does not answer")
        except DatabaseUnreachableError as error:
            waits.append(error.retry_after or 0.0)
            if len(waits) == HANGING:
                all_told.set()
        return Result()

    queue = WorkQueue(lane_of=lambda _: "main", clock=clock, roll=lambda: 0.5, limit=WORKERS, lane_limit=WORKERS)
    workers = asyncio.create_task(run_workers(queue, reconcile, concurrency=WORKERS, grace=30.0))
    try:
        for number in range(HANGING):
            queue.add(Ref(TENANTS, "shop", f"own-{number}"))
        await asyncio.sleep(0.2)  # they have begun; nothing tells how far they are
        began = time.monotonic()
        queue.add(ORDINARY)
        async with asyncio.timeout(SECONDS):
            await done.wait()
        assert time.monotonic() - began < SECONDS
        async with asyncio.timeout(30):
            await all_told.wait()
        assert min(waits) > 0
    finally:
        queue.shut_down()
        await workers
        listener.close()
