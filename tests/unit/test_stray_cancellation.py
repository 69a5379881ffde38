"""What looks like a cancellation but is none, such as aiohttp's way to close a client, ends neither worker nor key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tenantry.adapters.kube.transport import MAX_CONNECTIONS, Transport
from tenantry.api.resources import TENANTS, Ref
from tenantry.ports.kube import UnreachableError
from tenantry.reconcile.result import Result
from tenantry.runtime.clock import SystemClock
from tenantry.runtime.queue import WorkQueue
from tenantry.runtime.workers import run_workers

KEY = Ref(TENANTS, "shop", "acme")
SECONDS = 20.0


@asynccontextmanager
async def silent_server(connections: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that never answers: its URL, and what is set when so many connections were made."""
    made, enough = 0, asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        if made == connections:
            enough.set()
        async with asyncio.timeout(SECONDS):
            await reader.read()  # all that comes until the client hangs up
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server, asyncio.timeout(SECONDS):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", enough


async def test_requests_that_wait_for_a_connection_when_the_client_is_closed_are_unreachable_and_not_cancelled() -> (
    None
):
    more = MAX_CONNECTIONS + 8
    async with silent_server(MAX_CONNECTIONS) as (url, taken):
        transport = Transport(url)
        requests = [asyncio.create_task(transport.request("GET", "/")) for _ in range(more)]
        await taken.wait()
        await transport.close()
        answers = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnreachableError] * more


async def test_a_request_whose_task_is_cancelled_is_cancelled() -> None:
    async with silent_server(1) as (url, taken):
        transport = Transport(url)
        request = asyncio.create_task(transport.request("GET", "/"))
        await taken.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await transport.close()


async def test_a_reconcile_that_ends_like_a_cancelled_one_is_run_again_by_the_same_worker() -> None:
    queue = WorkQueue(lane_of=lambda _: "", clock=SystemClock(), roll=random.random)
    runs = 0

    async def reconcile(_key: Ref) -> Result:
        nonlocal runs
        runs += 1
        if runs == 1:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        queue.shut_down()
        return Result()

    queue.add(KEY)
    async with asyncio.timeout(SECONDS):
        await run_workers(queue, reconcile, concurrency=1)
    assert runs == 2
