"""Stores that answer badly: what was uploaded is there and whole, or the upload failed; it is never short."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from tests.controlplane.object_stores import MINISTACK, StoreAccess, StoreServer
from yarl import URL

from tenantry.adapters.stores import client
from tenantry.adapters.stores.client import PART_BYTES, ObstoreStores
from tenantry.ports.backup import ObjectStore, StoreError, StoreLocation, StoreUnreachableError

SIZE = 2 * PART_BYTES + 12345
PATIENCE = 240.0
"""Seconds; a store is tried again for one minute."""

Pass = Callable[[], Awaitable[web.Response]]
Fault = Callable[[web.Request, Pass], Awaitable[web.StreamResponse]]

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def server() -> Iterator[StoreServer]:
    with StoreServer(MINISTACK) as running:
        yield running


@asynccontextmanager
async def before(access: StoreAccess, fault: Fault, prefix: str) -> AsyncIterator[ObjectStore]:
    """The store as seen through something that gets in the way of its requests."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            async def pass_on() -> web.Response:
                body = io.BytesIO(await request.read())
                url = URL(f"{access.endpoint}{request.raw_path}", encoded=True)
                headers = {
                    name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"
                }
                async with session.request(request.method, url, headers=headers, data=body) as answer:
                    kept = {name: answer.headers[name] for name in ("ETag", "Content-Type") if name in answer.headers}
                    return web.Response(status=answer.status, body=await answer.read(), headers=kept)

            return await fault(request, pass_on)

        application = web.Application(client_max_size=2 * PART_BYTES)
        application.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield at(f"http://127.0.0.1:{port}", access, prefix)
        finally:
            await runner.cleanup()


def at(endpoint: str, access: StoreAccess, prefix: str) -> ObjectStore:
    location = StoreLocation(f"s3://{access.bucket}/{prefix}", endpoint=endpoint, credentials=access.credentials)
    return ObstoreStores().open(location)


def cut(request: web.Request) -> web.StreamResponse:
    """End the connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def pieces(digest: hashlib._Hash) -> AsyncIterator[bytes]:
    for start in range(0, SIZE, PART_BYTES):
        piece = os.urandom(min(PART_BYTES, SIZE - start))
        digest.update(piece)
        yield piece


async def read(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    async for chunk in store.read(key):
        digest.update(chunk)
    return digest.hexdigest()


async def nothing_is_there(server: StoreServer, prefix: str) -> None:
    direct = at(server.access.endpoint, server.access, prefix)
    await direct.abort_uploads("x/")  # as whoever cleans up does it: the store let nobody abort before
    assert await direct.list("", most=10) == []
    assert await asyncio.to_thread(server.open_uploads) == 0


def is_part(request: web.Request) -> bool:
    return request.method == "PUT" and "partNumber" in request.query


def is_completion(request: web.Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


async def unavailable(request: web.Request, pass_on: Pass) -> web.StreamResponse:
    return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")


async def full(request: web.Request, pass_on: Pass) -> web.StreamResponse:
    if is_part(request) and request.query["partNumber"] != "1":
        await request.read()
        return web.Response(status=507, text="<Error><Code>XMinioStorageFull</Code></Error>")
    return await pass_on()


async def hanging(request: web.Request, pass_on: Pass) -> web.StreamResponse:
    if is_part(request):
        await asyncio.Event().wait()
    return await pass_on()


@pytest.mark.parametrize(("fault", "told"), [(unavailable, "503"), (full, "507"), (hanging, "store")])
async def test_a_store_that_is_busy_full_or_hangs_fails_the_upload_and_has_nothing_of_it(
    server: StoreServer, name_prefix: str, fault: Fault, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REQUEST_SECONDS", 3)
    async with before(server.access, fault, name_prefix) as store, asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnreachableError, match=told):
            await store.put_stream("x/dump", pieces(hashlib.sha256()))
    await nothing_is_there(server, name_prefix)


async def test_a_connection_that_is_cut_within_a_part_is_made_good(server: StoreServer, name_prefix: str) -> None:
    left = {"1", "2"}

    async def resetting(request: web.Request, pass_on: Pass) -> web.StreamResponse:
        if is_part(request) and request.query["partNumber"] in left:
            left.discard(request.query["partNumber"])
            await request.content.readany()
            return cut(request)
        return await pass_on()

    written = hashlib.sha256()
    async with before(server.access, resetting, name_prefix) as store, asyncio.timeout(PATIENCE):
        await store.put_stream("x/dump", pieces(written))
        assert left == set()
    assert await read(at(server.access.endpoint, server.access, name_prefix), "x/dump") == written.hexdigest()


async def test_an_upload_whose_completion_was_answered_to_nobody_is_whole_or_failed(
    server: StoreServer, name_prefix: str
) -> None:
    lost = 0

    async def losing(request: web.Request, pass_on: Pass) -> web.StreamResponse:
        nonlocal lost
        answer = await pass_on()
        if is_completion(request) and not lost:
            lost += 1
            return cut(request)
        return answer

    written, failed = hashlib.sha256(), False
    async with before(server.access, losing, name_prefix) as store, asyncio.timeout(PATIENCE):
        try:
            await store.put_stream("x/dump", pieces(written))
        except StoreError:
            failed = True
    assert lost == 1
    direct = at(server.access.endpoint, server.access, name_prefix)
    there = {each.key: each.size for each in await direct.list("", most=10)}
    assert there == {"x/dump": SIZE} or (failed and there == {})
    if there:
        assert await read(direct, "x/dump") == written.hexdigest()
    assert await asyncio.to_thread(server.open_uploads) == 0
