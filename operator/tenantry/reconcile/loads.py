"""The filling of databases out of backups, which takes longer than a pass: one task each, told of when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import Ref
from tenantry.api.tenantrecord import PinnedRestore
from tenantry.decide.halt import Halt, Waiting
from tenantry.desired.manifest import ManifestError
from tenantry.ports.backup import DumpImpossibleError, SealError, StoreError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.arriving import Arrival
from tenantry.reconcile.backing_up import read_manifest
from tenantry.reconcile.database import SharedDatabase
from tenantry.reconcile.filling import differing_rows, fill, read_whole
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Restores under way: all their bytes go through this process."""
LONGEST_SECONDS: Final = 12 * 3600.0
"""After the last byte constraints and indexes are made, which is silent, and may be an endless loop of the tenant's."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was restored: it is all there, and as many rows as there were."""

    tables: int
    rows: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A restore that came to nothing, and why."""

    message: str


class Loads:
    """By record. In memory only: one that dies with the process is begun anew by the next, into an empty database."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._tasks: dict[str, asyncio.Task[Loaded | LoadFailed]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def result(self, record: str) -> Loaded | LoadFailed | None:
        """What came of it; None while it is under way, or where none was begun. Told until `stop`."""
        task = self._tasks.get(record)
        if task is None or not task.done():
            return None
        return LoadFailed("it was broken off") if task.cancelled() else task.result()

    def under_way(self, record: str) -> bool:
        """Whether one was begun, and not stopped since."""
        return record in self._tasks

    def store(self, restore: PinnedRestore) -> OpenStore:
        """The store that a backup is in.

        Raises:
            Waiting: it is not ready.
        """
        opened = self._kit.opened.get(restore.store)
        if opened is None:
            raise Waiting(
                ConditionType.READY,
                Reason.STORE_NOT_READY,
                f"BackupStore {restore.store!r} is not ready: {self._kit.opened.why_not(restore.store)}",
                retry_after=10.0,
            )
        return opened

    def begin(self, record: str, tenant: Ref, arrival: Arrival, restore: PinnedRestore) -> None:
        """Begin one.

        Raises:
            Waiting: the store is not ready.
        """
        opened = self.store(restore)
        task = asyncio.create_task(self._run(arrival, opened, restore.path), name=f"restore {record}")
        task.add_done_callback(lambda _: self._world.wake.wake(tenant))
        self._tasks[record] = task

    async def stop(self, record: str) -> None:
        """Break one off, wait until nothing of it runs, and forget its result; no error if there is none."""
        task = self._tasks.pop(record, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, arrival: Arrival, opened: OpenStore, path: str) -> Loaded | LoadFailed:
        try:
            async with self._slots, asyncio.timeout(LONGEST_SECONDS):
                return await self._load(arrival, opened, path)
        except TimeoutError:
            return LoadFailed(f"it took longer than {LONGEST_SECONDS / 3600:g} hours")
        except (Halt, DatabaseError, StoreError, SealError, ManifestError, DumpImpossibleError) as error:
            return LoadFailed(error.message)
        except Exception:  # the tenant waits for an end, whatever it is
            logger.exception("a restore ended in an error that nobody thought of")
            return LoadFailed("an error of the operator's own: see its log")

    async def _load(self, arrival: Arrival, opened: OpenStore, path: str) -> Loaded | LoadFailed:
        shared = arrival.shared()
        if shared is None:
            return LoadFailed("this tenant has no database that a backup could be restored into")
        manifest = await read_manifest(opened, path)
        # Read once before: nothing that was changed in the store ever gets into a database, or into pg_restore.
        await read_whole(opened, manifest)
        await arrival.make_empty(shared)
        await fill(self._kit, opened, manifest, shared.server, shared.wanted, self._world.token())
        found = await self._kit.dumper.count(shared.server, shared.wanted)
        if differs := differing_rows(manifest, found):
            raise DatabaseError(differs)
        await _settle(arrival, shared)
        return Loaded(len(found), sum(found.values()))


async def _settle(arrival: Arrival, shared: SharedDatabase) -> None:
    """What the tenant's code may have done to rights and settings meanwhile is put right, and seen to be."""
    admin, wanted = shared.server.admin, shared.wanted
    await admin.reassign(wanted)
    await arrival.provision(shared)
    if not (await admin.inspect(wanted)).settled:
        raise DatabaseError(f"rights and settings of {wanted.database} are not as they have to be")
