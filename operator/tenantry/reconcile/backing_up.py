"""The work of a backup: dumped, measured, encrypted and uploaded as one stream, then read back before it counts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tenantry.api.identity import TenantIdentity
from tenantry.decide.deletion import time_text
from tenantry.desired.manifest import (
    MANIFEST,
    MOST_BYTES,
    Manifest,
    ManifestError,
    Part,
    backup_path,
    decode,
    dump_name,
    encode,
)
from tenantry.ports.backup import AgeKey, DumpFacts, ObjectStore, StoreError
from tenantry.ports.postgres import WantedDatabase
from tenantry.ports.servers import Server
from tenantry.ports.world import Clock
from tenantry.reconcile.openstores import BackupKit, OpenStore

logger = logging.getLogger(__name__)

STALLED_SECONDS: Final = 300.0
"""With no byte moved for so long, whoever holds it up is given up."""
LOOK_SECONDS: Final = 5.0
CLEANING_SECONDS: Final = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One backup to be made.

    Attributes:
        backup: The name of its TenantBackup.
        store: The name of the BackupStore.
        tenant_spec: The Tenant's spec as it was applied last.
        started_at: As statuses have it.
        slot: For which a schedule has made it; empty for one that was asked for.
    """

    identity: TenantIdentity
    run: str
    backup: str
    store: str
    opened: OpenStore
    server: Server
    wanted: WantedDatabase
    tenant_spec: dict[str, Any] | None
    started_at: str
    slot: str = ""

    @property
    def path(self) -> str:
        """Where its objects go."""
        return backup_path(self.identity, self.run)


class Meter:
    """Counts and digests what passes."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what has passed so far, in hex."""
        return self._digest.hexdigest()

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass it on."""
        async for chunk in chunks:
            self.size += len(chunk)
            self._digest.update(chunk)
            yield chunk


class BackupWork:
    """Makes one backup; what it leaves after an error is nothing."""

    def __init__(self, kit: BackupKit, clock: Clock, job: Job, on_verifying: Callable[[], None]) -> None:
        self._kit = kit
        self._clock = clock
        self._job = job
        self._on_verifying = on_verifying
        self._meters: list[Meter] = []

    async def run(self) -> Manifest:
        """All of it.

        Raises:
            DatabaseError, StoreError, SealError, DumpImpossibleError, ManifestError: what went wrong.
        """
        try:
            return await watched(self._run(), lambda: sum(meter.size for meter in self._meters))
        except BaseException:
            await clean(self._job.opened.store, self._job.path)
            raise

    async def _run(self) -> Manifest:
        job = self._job
        # A key of this run's own, never kept: it reads back what only others' keys can open later.
        own = self._kit.sealer.new_key() if job.opened.recipients else None
        part, facts = await self._write(own)
        self._on_verifying()
        await self._read_back(part, facts, own)
        manifest = Manifest(
            identity=job.identity,
            run=job.run,
            backup=job.backup,
            started_at=job.started_at,
            completed_at=time_text(self._clock.now()),
            server_version=facts.server_version,
            tool_major=facts.tool_major,
            rows=dict(facts.rows),
            database=part,
            encrypted=own is not None,
            tenant_spec=job.tenant_spec,
            slot=job.slot,
            database_size=facts.database_size,
        )
        key = f"{job.path}/{MANIFEST}"
        await job.opened.store.put(key, encode(manifest, job.opened.signing_key))
        if await read_manifest(job.opened, job.path) != manifest:
            raise ManifestError("what was written to the store is not what is read from it")
        return manifest

    async def _write(self, own: AgeKey | None) -> tuple[Part, DumpFacts]:
        job = self._job
        content, stored = self._meter(), self._meter()
        name = dump_name(encrypted=own is not None)
        async with self._kit.dumper.open(job.server, job.wanted) as dump:
            chunks = content.through(dump.chunks())
            if own is not None:
                chunks = self._kit.sealer.seal(chunks, [*job.opened.recipients, own.recipient])
            upload = job.opened.store.put_stream(f"{job.path}/{name}", stored.through(chunks))
            facts = await both(upload, dump.facts())
        return Part(name, stored.size, stored.sha256, content.size, content.sha256), facts

    async def _read_back(self, part: Part, facts: DumpFacts, own: AgeKey | None) -> None:
        job = self._job
        content, stored = self._meter(), self._meter()
        chunks = stored.through(job.opened.store.read(f"{job.path}/{part.name}"))
        if own is not None:
            chunks = self._kit.sealer.unseal(chunks, [own.identity])
        await self._kit.dumper.check(content.through(chunks), facts.tool_major)
        found = Part(part.name, stored.size, stored.sha256, content.size, content.sha256)
        if found != part:
            raise StoreError(f"the store holds {found.size} bytes that are not the {part.size} that were written")

    def _meter(self) -> Meter:
        meter = Meter()
        self._meters.append(meter)
        return meter


async def read_manifest(opened: OpenStore, path: str) -> Manifest:
    """The manifest at a path.

    Raises:
        StoreError: it can't be read; ObjectMissingError where there is none.
        ManifestError: it is not believed.
    """
    data = await opened.store.get(f"{path}/{MANIFEST}", most=MOST_BYTES)
    return decode(data, path, opened.signing_key)


async def clean(store: ObjectStore, path: str) -> bool:
    """Remove all that is of a backup, its manifest first; whether the store let us."""
    try:
        async with asyncio.timeout(CLEANING_SECONDS):
            await remove(store, path)
    except (StoreError, TimeoutError) as error:
        logger.warning("what a failed backup left in the store stays there (%s): %s", path, error)
        return False
    return True


async def remove(store: ObjectStore, path: str) -> None:
    """Remove all objects of a backup, and what is half written: its manifest first, without one it is no backup.

    Raises:
        StoreError: the store refused.
    """
    await store.delete(f"{path}/{MANIFEST}")
    await store.abort_uploads(f"{path}/")
    for each in await store.list(f"{path}/", most=100):
        await store.delete(each.key)


async def both(first: Awaitable[object], second: Awaitable[T]) -> T:
    """Both at once; the result of the second. An error of one ends the other before it is raised."""
    tasks = (asyncio.ensure_future(first), asyncio.ensure_future(second))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks[1].result()


async def watched(work: Awaitable[T], moved: Callable[[], int]) -> T:
    """Do something as long as it moves.

    Raises:
        StoreError: nothing has moved for a while: the store, or the database server, hangs.
    """
    task = asyncio.ensure_future(work)
    still, last = 0.0, moved()
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            now = moved()
            still, last = (still + LOOK_SECONDS if now == last else 0.0), now
            if still >= STALLED_SECONDS and not task.done():
                raise StoreError(f"nothing has moved for {STALLED_SECONDS:g} s: the store or the database server hangs")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
