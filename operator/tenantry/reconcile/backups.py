"""The backups under way in this process: a task each, a few at once, told of when something about them changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tenantry.api.conditions import Reason
from tenantry.api.resources import Ref
from tenantry.api.tenantbackup import BackupPhase
from tenantry.desired.manifest import Manifest, ManifestError
from tenantry.ports.backup import DumpImpossibleError, SealError, StoreError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.backing_up import BackupWork, Job
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Backups at work: each is a dump, an upload and a read back, all their bytes through this process."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A backup that came to nothing, and why."""

    reason: Reason
    message: str


@dataclass(slots=True)
class _Run:
    tenant_hash: str
    task: asyncio.Task[Manifest | Failure]
    phase: BackupPhase = BackupPhase.RUNNING


class Backups:
    """By TenantBackup. In memory only: what dies with the process is found in its status by the next."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._runs: dict[Ref, _Run] = {}
        self._held_up: list[str] = []
        self._slots = asyncio.Semaphore(AT_ONCE)

    def under_way(self, key: Ref) -> bool:
        """Whether one was begun whose end was not taken yet."""
        return key in self._runs

    def has_room(self, tenant_hash: str) -> str:
        """Empty if a backup of a tenant can begin now; else what it waits for."""
        if self.at_work(tenant_hash):
            return "another backup of this tenant is under way"
        if tenant_hash in self._held_up:
            return "what an earlier backup of this tenant has left on its server is being cleared away"
        working = [run for run in self._runs.values() if not run.task.done()]
        return f"{len(working)} others are under way" if len(working) >= AT_ONCE else ""

    def at_work(self, tenant_hash: str) -> bool:
        """Whether a backup of a tenant is being made here."""
        return any(run.tenant_hash == tenant_hash and not run.task.done() for run in self._runs.values())

    @contextmanager
    def held_up(self, tenant_hash: str) -> Iterator[None]:
        """Meanwhile no backup of a tenant has room to begin; more than one may ask for that at a time."""
        self._held_up.append(tenant_hash)
        try:
            yield
        finally:
            self._held_up.remove(tenant_hash)

    def phase(self, key: Ref) -> BackupPhase:
        """How far it has come."""
        return self._runs[key].phase

    def result(self, key: Ref) -> Manifest | Failure | None:
        """What came of it; None while it is under way."""
        task = self._runs[key].task
        if not task.done():
            return None
        return _BROKEN_OFF if task.cancelled() else task.result()

    def take(self, key: Ref) -> None:
        """Its end was told."""
        self._runs.pop(key, None)

    def begin(self, key: Ref, job: Job) -> None:
        """Begin one."""
        task = asyncio.create_task(self._work(key, job), name=f"backup {key.namespace}/{key.name}")
        self._runs[key] = _Run(job.identity.tenant_hash, task)
        task.add_done_callback(lambda _: self._world.wake.wake(key))

    async def stop(self, key: Ref) -> None:
        """Break one off, and wait until nothing of it runs; no error if there is none."""
        run = self._runs.get(key)
        if run is not None:
            run.task.cancel()
            await asyncio.gather(run.task, return_exceptions=True)
            self._runs.pop(key, None)  # not before: while it clears up, no other one of its tenant must begin

    async def _work(self, key: Ref, job: Job) -> Manifest | Failure:
        def verifying() -> None:
            if key in self._runs:
                self._runs[key].phase = BackupPhase.VERIFYING
                self._world.wake.wake(key)

        try:
            async with self._slots:
                return await BackupWork(self._kit, self._world.clock, job, verifying).run()
        except DumpImpossibleError as error:
            return Failure(Reason.DUMP_IMPOSSIBLE, error.message)
        except (DatabaseError, StoreError, SealError, ManifestError) as error:
            return Failure(Reason.BACKUP_FAILED, error.message)
        except Exception:  # a backup that has ended badly must say so, or it would be Running for ever
            logger.exception("a backup ended in an error that nobody thought of")
            return Failure(Reason.BACKUP_FAILED, "an error of the operator's own: see its log")


_BROKEN_OFF: Final = Failure(Reason.BACKUP_INTERRUPTED, "it was broken off")
