"""Object stores as backups use them: two S3 servers of different sorts, and a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.controlplane.object_stores import MINISTACK, RCLONE, StoreServer

from tenantry.adapters.stores.client import PAGE, PART_BYTES, ObstoreStores
from tenantry.adapters.stores.sealing import AgeSealer
from tenantry.ports.backup import (
    ObjectMissingError,
    ObjectStore,
    SealError,
    StoreCredentialsError,
    StoreError,
    StoreLocation,
    StoreUnreachableError,
)

KINDS = (RCLONE, MINISTACK, "folder")
CHUNK = 256 * 1024
LARGE = 2 * PART_BYTES + 12345


@dataclass(frozen=True, slots=True)
class Place:
    """A store, its location, and the server behind it if there is one."""

    location: StoreLocation
    store: ObjectStore
    server: StoreServer | None
    folder: Path | None


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, StoreServer]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(StoreServer(kind)) for kind in (RCLONE, MINISTACK)}


@pytest.fixture
def place(servers: dict[str, StoreServer], request: pytest.FixtureRequest, tmp_path: Path, name_prefix: str) -> Place:
    kind: str = request.param
    if kind == "folder":
        location = StoreLocation(f"file://{tmp_path}/kept")
        return Place(location, ObstoreStores().open(location), None, tmp_path / "kept")
    server = servers[kind]
    access = server.access
    location = StoreLocation(
        f"s3://{access.bucket}/{name_prefix}", endpoint=access.endpoint, credentials=access.credentials
    )
    folder = access.folder / name_prefix if access.folder is not None else None
    return Place(location, ObstoreStores().open(location), server, folder)


everywhere = pytest.mark.parametrize("place", KINDS, indirect=True)


async def random_chunks(size: int, digest: hashlib._Hash | None = None) -> AsyncIterator[bytes]:
    while size > 0:
        chunk = os.urandom(min(CHUNK, size))
        size -= len(chunk)
        if digest is not None:
            digest.update(chunk)
        yield chunk


async def digest_of(chunks: AsyncIterator[bytes]) -> str:
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


@everywhere
async def test_a_large_object_is_read_back_as_it_was_written(place: Place) -> None:
    written = hashlib.sha256()
    await place.store.put_stream("a/b/large", random_chunks(LARGE, written))
    await place.store.put("a/small", b"hello")
    assert await digest_of(place.store.read("a/b/large")) == written.hexdigest()
    assert await place.store.get("a/small", most=5) == b"hello"
    assert {(each.key, each.size) for each in await place.store.list("a/", most=10)} == {
        ("a/b/large", LARGE),
        ("a/small", 5),
    }
    assert len(await place.store.list("", most=1)) == 1
    with pytest.raises(StoreError, match="should be small has 5 bytes"):
        await place.store.get("a/small", most=4)
    for _ in range(2):
        await place.store.delete("a/small")
        await place.store.delete("a/b/large")
    assert await place.store.list("a/", most=10) == []


@everywhere
async def test_a_walk_meets_every_object_below_a_prefix_once_also_beyond_a_page(place: Place) -> None:
    keys = [f"a/{number % 7}/{number:04}" for number in range(PAGE + 50)]
    for begin in range(0, len(keys), 50):
        await asyncio.gather(*(place.store.put(key, b"x") for key in keys[begin : begin + 50]))
    await place.store.put("ab/other", b"x")
    met = [each.key async for each in place.store.walk("a/")]
    assert sorted(met) == sorted(keys)
    assert [each.key async for each in place.store.walk("nothing/")] == []
    if place.server is not None:
        wrong = replace(place.location, endpoint="http://127.0.0.1:1")
        with pytest.raises(StoreUnreachableError):
            await anext(aiter(ObstoreStores().open(wrong).walk("a/")))


@everywhere
async def test_what_is_not_there_is_said_to_be_missing(place: Place) -> None:
    with pytest.raises(ObjectMissingError):
        await place.store.get("nothing", most=10)
    with pytest.raises(ObjectMissingError):
        await digest_of(place.store.read("nothing"))
    assert await place.store.list("nothing/", most=10) == []


@everywhere
async def test_an_upload_whose_source_fails_leaves_nothing(place: Place) -> None:
    class DumpDiedError(Exception):
        pass

    async def dying() -> AsyncIterator[bytes]:
        async for chunk in random_chunks(LARGE):
            yield chunk
        raise DumpDiedError

    with pytest.raises(DumpDiedError):
        await place.store.put_stream("x/dump", dying())
    await nothing_is_left(place)


@everywhere
async def test_an_upload_that_is_broken_off_leaves_nothing(place: Place) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        async for chunk in random_chunks(LARGE):
            yield chunk
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(place.store.put_stream("x/dump", endless()))
    async with asyncio.timeout(30):
        await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await nothing_is_left(place)


async def nothing_is_left(place: Place) -> None:
    assert await place.store.list("", most=10) == []
    if place.server is not None and place.folder is None:
        assert place.server.open_uploads() == 0
    if place.folder is not None:
        assert [path for path in place.folder.rglob("*") if path.is_file()] == []


WRITER = """
import asyncio, os, sys
from tenantry.adapters.stores.client import PAGE, PART_BYTES, ObstoreStores
from tenantry.ports.backup import StoreLocation

async def endless():
    for _ in range(3):
        yield os.urandom(PART_BYTES)
    print("begun", flush=True)
    await asyncio.Event().wait()

url, endpoint, key, secret = sys.argv[1:]
credentials = {"accessKeyId": key, "secretAccessKey": secret} if key else {}
store = ObstoreStores().open(StoreLocation(url, endpoint, credentials=credentials))
asyncio.run(store.put_stream("x/dump", endless()))
"""


@pytest.mark.parametrize("place", [MINISTACK, "folder"], indirect=True)
async def test_what_a_killed_process_left_half_written_can_be_aborted(place: Place) -> None:
    location = place.location
    values = [location.credentials.get(name, "") for name in ("accessKeyId", "secretAccessKey")]
    command = [sys.executable, "-c", WRITER, location.url, location.endpoint, *values]
    writer = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"begun\n"
    writer.kill()
    await writer.wait()
    assert await place.store.abort_uploads("y/") == 0
    assert await place.store.abort_uploads("x/") == 1
    await nothing_is_left(place)
    assert await place.store.abort_uploads("x/") == 0


@pytest.mark.parametrize("place", [RCLONE], indirect=True)
async def test_a_store_that_checks_signatures_takes_those_of_our_own(place: Place) -> None:
    assert await place.store.abort_uploads("x/") == 0
    wrong = replace(place.location, credentials={**place.location.credentials, "secretAccessKey": "wrong"})
    with pytest.raises(StoreCredentialsError):
        await ObstoreStores().open(wrong).abort_uploads("x/")


@pytest.mark.parametrize("place", [RCLONE], indirect=True)
async def test_wrong_credentials_are_told_from_a_store_that_does_not_answer(place: Place) -> None:
    wrong = replace(place.location, credentials={"accessKeyId": "AKNOBODY", "secretAccessKey": "s3cr3t-of-mine"})
    with pytest.raises(StoreCredentialsError, match="403 Forbidden, InvalidAccessKeyId") as caught:
        await ObstoreStores().open(wrong).put("x", b"y")
    assert "s3cr3t" not in caught.value.message
    elsewhere = replace(place.location, url="s3://nobodys-bucket")
    with pytest.raises(ObjectMissingError, match="NoSuchBucket"):
        await ObstoreStores().open(elsewhere).put("x", b"y")


async def test_a_store_that_refuses_is_given_up_in_time_and_used_again_when_it_is_back() -> None:
    with StoreServer(RCLONE) as server:
        access = server.access
        location = StoreLocation(f"s3://{access.bucket}", endpoint=access.endpoint, credentials=access.credentials)
        server.stop_server()
        began = time.monotonic()
        with pytest.raises(StoreUnreachableError):
            await ObstoreStores().open(location).put("x", b"y")
        assert time.monotonic() - began < 150
        server.start_server()
        await ObstoreStores().open(location).put("x", b"y")


async def test_what_is_sealed_is_read_by_each_key_and_by_no_other() -> None:
    sealer, size = AgeSealer(), 3 * 1024 * 1024 + 17
    one, two, stranger = sealer.new_key(), sealer.new_key(), sealer.new_key()
    written = hashlib.sha256()
    sealed = b"".join(
        [piece async for piece in sealer.seal(random_chunks(size, written), [one.recipient, two.recipient])]
    )
    assert sealed.startswith(b"age-encryption.org/v1\n")
    for key in (one, sealer.key_of(two.identity)):
        assert await digest_of(sealer.unseal(pieces_of(sealed), [key.identity])) == written.hexdigest()
    with pytest.raises(SealError, match="none of the keys"):
        await digest_of(sealer.unseal(pieces_of(sealed), [stranger.identity]))
    for broken in (sealed[:-1], sealed[: size // 2], sealed[:-9] + b"X" + sealed[-8:], b"", b"plain text"):
        with pytest.raises(SealError, match="cut or changed"):
            await digest_of(sealer.unseal(pieces_of(broken), [one.identity]))


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


async def test_an_error_of_what_is_sealed_comes_out_as_it_is_and_ends_the_thread() -> None:
    sealer = AgeSealer()

    class DumpDiedError(Exception):
        pass

    async def dying() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise DumpDiedError

    with pytest.raises(DumpDiedError):
        await digest_of(sealer.seal(dying(), [sealer.new_key().recipient]))


async def test_sealing_that_nobody_reads_any_more_ends() -> None:
    sealer = AgeSealer()
    sealed = sealer.seal(random_chunks(50 * 1024 * 1024), [sealer.new_key().recipient])
    await anext(sealed)
    await sealed.aclose()  # type: ignore[attr-defined]  # an async generator, which an AsyncIterator need not be
    async with asyncio.timeout(10):
        while any(thread.name == "age" for thread in threading.enumerate()):  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.01)
