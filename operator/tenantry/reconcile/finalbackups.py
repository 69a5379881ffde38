"""The final backup of a tenant that is about to be destroyed: made from its record, for nothing else is left of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import CLUSTERS, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Waiting
from tenantry.desired.manifest import Manifest, ManifestError, backup_path, run_id
from tenantry.ports.backup import DumpImpossibleError, ObjectMissingError, SealError, StoreError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.backing_up import BackupWork, Job, clean, read_manifest
from tenantry.reconcile.database import refused
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.parking import park_database, ready_server, wanted_of
from tenantry.reconcile.records import swap
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 2
WATCH_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 60.0


class FinalBackups:
    """By path in the store. In memory only: one that dies with the process is found in the store, or begun anew."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._tasks: dict[str, asyncio.Task[Manifest | str]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def see_to_it(self, record: TenantRecord) -> TenantRecord:
        """Make sure of it: what is to be destroyed is in the store.

        Raises:
            Waiting: it is not yet; says why.
        """
        # Of this deletion: one that was undone, and its tenant lived on, may have had a last backup, too.
        run = run_id(record.metadata.creation_timestamp, f"{record.metadata.uid}/{record.spec.deleted_at}")
        done = record.spec.final_backup.endswith(f"/{run}")
        if done or not record.spec.deletion.final_backup or record.spec.database.mode not in ("Shared", "Dedicated"):
            return record
        if record.spec.database.mode == "Dedicated":  # it goes with its namespace
            told = "of a database of mode Dedicated no final backup can be made yet, so it is not destroyed"
            raise _waiting(f"{told}: save it by hand; {_way_out(record)}", RETRY_SECONDS)
        # At rest before it is read: nothing can be written any more that would not be in it.
        await park_database(self._world, record)
        server, wanted = ready_server(self._world, record), wanted_of(record)
        try:
            if not (await server.admin.inspect(wanted)).exists:
                return record  # nothing is there that could be lost
        except DatabaseError as error:
            raise refused(error) from error
        name, opened = self._store(record)
        job = Job(
            identity=record.identity,
            run=run,
            backup=f"final backup of {record.name}",
            store=name,
            opened=opened,
            server=server,
            wanted=wanted,
            tenant_spec=record.spec.last_spec,
            started_at=time_text(self._world.clock.now()),
        )
        await self._done(record, job)
        self._tasks.pop(job.path, None)
        self._failed.pop(job.path, None)
        path = backup_path(record.identity, job.run)
        logger.info("the final backup of %s is %s in %s", record.identity.tenant_id, path, name)
        return await swap(self._world, record, {"finalBackup": f"{name}/{path}"})

    async def _done(self, record: TenantRecord, job: Job) -> None:
        """Returns once it is in the store.

        Raises:
            Waiting: it is not.
        """
        task = self._tasks.get(job.path)
        if task is None:
            self._check_patience(record, job)
            if await self._is_there(job):
                return
            task = asyncio.create_task(self._work(job), name=f"final backup {record.name}")
            task.add_done_callback(lambda _: self._wake(record))
            self._tasks[job.path] = task
        if not task.done():
            raise _waiting("its final backup is being made", WATCH_SECONDS)
        result = "it was broken off" if task.cancelled() else task.result()
        if isinstance(result, str):
            del self._tasks[job.path]
            self._failed[job.path] = (self._world.clock.monotonic(), result)
            raise _waiting(_failure(record, result), RETRY_SECONDS)

    def _wake(self, record: TenantRecord) -> None:
        """Its Tenant may still be there, with `window: 0s`; else its record is by itself."""
        self._world.wake.wake(Ref(TENANTS, record.spec.workspace, record.spec.tenant))
        self._world.wake.wake(Ref(TENANT_RECORDS, "", record.name))

    def _check_patience(self, record: TenantRecord, job: Job) -> None:
        failed_at, why = self._failed.get(job.path, (0.0, ""))
        left = RETRY_SECONDS - (self._world.clock.monotonic() - failed_at)
        if why and left > 0:
            raise _waiting(_failure(record, why), left)

    async def _is_there(self, job: Job) -> bool:
        """Whether one that died with its process, or whose answer was lost, has come to its end."""
        try:
            await read_manifest(job.opened, job.path)
        except ObjectMissingError:
            await clean(job.opened.store, job.path)
            return False
        except ManifestError as error:
            raise _waiting(f"what is at its place in the store can't be believed: {error.message}", 60.0) from error
        except StoreError as error:
            raise _waiting(f"the store does not answer: {error.message}", 10.0) from error
        return True

    async def _work(self, job: Job) -> Manifest | str:
        began = self._world.clock.monotonic()
        result = await self._made(job)
        size = 0 if isinstance(result, str) else result.database.size
        seconds = self._world.clock.monotonic() - began
        self._kit.observer.backup_ended(job.store, good=size > 0, seconds=seconds, size=size)
        return result

    async def _made(self, job: Job) -> Manifest | str:
        try:
            async with self._slots:
                return await BackupWork(self._kit, self._world.clock, job, lambda: None).run()
        except (DatabaseError, StoreError, SealError, ManifestError, DumpImpossibleError) as error:
            return error.message
        except Exception:  # the deletion that waits for it is to be told
            logger.exception("a final backup ended in an error that nobody thought of")
            return "an error of the operator's own: see its log"

    def _store(self, record: TenantRecord) -> tuple[str, OpenStore]:
        """Where it goes: what its Cluster names now."""
        body = self._world.live.get(Ref(CLUSTERS, "", record.spec.cluster.name))
        name = ((body or {}).get("spec") or {}).get("backupStore")
        if name is None:
            told = f"Cluster {record.spec.cluster.name!r} names no backupStore for its final backup"
            raise _waiting(f"{told}; {_way_out(record)}", RETRY_SECONDS)
        opened = self._kit.opened.get(name)
        if opened is None:
            told = f"BackupStore {name!r} is not ready for its final backup: {self._kit.opened.why_not(name)}"
            raise _waiting(told, 30.0)
        return name, opened


def _failure(record: TenantRecord, why: str) -> str:
    return f"its final backup failed and is tried again: {why}; {_way_out(record)}"


def _way_out(record: TenantRecord) -> str:
    return f"to destroy it without, set spec.deletion.finalBackup of TenantRecord {record.name!r} to false"


def _waiting(message: str, retry_after: float) -> Waiting:
    return Waiting(ConditionType.DATABASE_READY, Reason.FINAL_BACKUP, message, retry_after=retry_after)
