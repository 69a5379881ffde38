"""TenantBackup: one run, from Pending to Completed or Failed; what a dead process left is found out in the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import BACKUP_FINALIZER
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import BackupPhase, BackupVerification, TenantBackup, TenantBackupStatus
from tenantry.decide.backup import Seen, Step, expiry, next_step
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import parse_time, time_text
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.desired.manifest import Manifest, ManifestError
from tenantry.ports.backup import ObjectMissingError, StoreError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.backing_up import clean, read_manifest
from tenantry.reconcile.backupobject import is_followed, is_in_use, is_there, path_of
from tenantry.reconcile.backups import Backups, Failure
from tenantry.reconcile.backupsource import database_of, job_of, record_of
from tenantry.reconcile.clearing import Clearing
from tenantry.reconcile.debts import Debts
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.platform import set_finalizer
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import told_of, write_status
from tenantry.reconcile.takingup import take_up
from tenantry.reconcile.trialtelling import is_disproven, of_trial, told_complete, waits_for_trial
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 15.0
ROOM_SECONDS: Final = 5.0
RECOVERY_SECONDS: Final = 45.0
"""How long a store may keep silent about what a dead process has done, before that counts as failed."""
RECOVERY_RETRY: Final = 3.0
REFUSED_SECONDS: Final = 300.0
"""After a store has refused to delete something: it may be locked there for years."""
LAST_ONE_SECONDS: Final = 3600.0


class TenantBackupReconciler:
    """Reconciles TenantBackups."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._runs = Backups(world, kit)
        self._clearing = Clearing(world, kit)
        self._recovering: dict[Ref, float] = {}
        self._debts = Debts()
        self._beginning = asyncio.Lock()

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantBackup."""
        body = self._world.live.get(key)
        if body is None:
            await self._runs.stop(key)
            await self._world.trials.stop(key)
            self._forget(key)
            return Result()
        backup = TenantBackup.read(body)
        self._kit.note(backup)
        if backup.metadata.deletion_timestamp:
            return await self._delete(key, backup)
        await set_finalizer(self._world, key, backup.metadata, BACKUP_FINALIZER, present=True)
        if not is_there(self._world, key, backup):
            self._world.wake.wake(key)  # no watch tells of what a write has found gone
            return Result()
        now = self._world.clock.now()
        told_here = backup.status.worker == self._kit.worker
        seen = Seen(backup.status.phase, self._runs.under_way(key), parse_time(backup.status.expires_at), told_here)
        match next_step(seen, now):
            case Step.BEGIN:
                async with self._beginning:  # between the look for room and the taking of it, nobody else looks
                    return await self._begin(key, backup)
            case Step.WATCH:
                return await self._watch(key, backup)
            case Step.RECOVER:
                return await self._recover(key, backup)
            case Step.EXPIRE:
                return await self._expire(key, backup)
            case Step.NOTHING:
                left = (seen.expires_at - now).total_seconds() if seen.expires_at is not None else None
                return await self._rest(key, backup, left)

    # --- its life -------------------------------------------------------------------------------------------------
    async def _begin(self, key: Ref, backup: TenantBackup) -> Result:
        if backup.spec.source.stored is not None:
            return await self._take_up(key, backup)
        try:
            job = job_of(self._world, self._kit, backup)
            if waits := self._runs.has_room(job.identity.tenant_hash):
                raise Waiting(ConditionType.READY, Reason.BACKUP_RUNNING, waits, retry_after=ROOM_SECONDS)
        except Halt as halt:
            # Never back: of one that was told to be running nobody may have heard that it was.
            await self._tell(key, backup, backup.status.phase or BackupPhase.PENDING, Outcome.of(halt))
            again = halt.retry_after if isinstance(halt, Waiting) else None
            return Result(requeue_after=again or self._world.jitter(30.0))
        # Told before it is begun: a process that dies in between leaves a run that failed, not one that nobody knows.
        running = Outcome(None, Reason.BACKUP_RUNNING, "the database is being dumped")
        await self._tell(
            key,
            backup,
            BackupPhase.RUNNING,
            running,
            run=job.run,
            worker=self._kit.worker,
            started_at=job.started_at,
            object_key=job.path,
            encrypted=bool(job.opened.recipients),
        )
        if not is_there(self._world, key, backup):  # else there would be a backup in the store that no object tells of
            return Result()
        if self._runs.has_room(job.identity.tenant_hash):  # meanwhile it is being cleared up after another one
            return Result(requeue_after=ROOM_SECONDS)
        self._runs.begin(key, job)
        return Result(requeue_after=WATCH_SECONDS)

    async def _take_up(self, key: Ref, backup: TenantBackup) -> Result:
        try:
            manifest = await take_up(self._world, self._kit, backup)
        except Waiting as halt:
            await self._tell(key, backup, BackupPhase.PENDING, Outcome.of(halt))
            return Result(requeue_after=halt.retry_after or self._world.jitter(30.0))
        except Halt as halt:
            await self._fail(key, backup, Failure(halt.reason, halt.message))
        else:
            await self._complete(key, backup, manifest)
        return Result()

    async def _watch(self, key: Ref, backup: TenantBackup) -> Result:
        result = self._runs.result(key)
        if result is None:
            if self._runs.phase(key) == BackupPhase.VERIFYING:
                reading = Outcome(None, Reason.BACKUP_RUNNING, "it is being read back from the store")
                await self._tell(key, backup, BackupPhase.VERIFYING, reading)
            return Result(requeue_after=WATCH_SECONDS)
        if isinstance(result, Failure):
            await self._fail(key, backup, result)
            self._debts.owe(key, self._world.clock.monotonic())
            self._world.wake.wake(key)
        else:
            await self._complete(key, backup, result)
        self._runs.take(key)
        self._wake_waiting()
        return Result()

    async def _recover(self, key: Ref, backup: TenantBackup) -> Result:
        """Whether a run of a process that is gone came to its end is seen in the store; until then it is not told."""
        since = self._recovering.setdefault(key, self._world.clock.monotonic())
        patient = self._world.clock.monotonic() - since < RECOVERY_SECONDS
        opened, path = self._kit.opened.get(backup.spec.store), path_of(self._world, backup)
        if opened is None and patient:
            return Result(requeue_after=RECOVERY_RETRY)
        manifest: Manifest | None = None
        if opened is not None and path is not None:
            try:
                manifest = await read_manifest(opened, path)
            except ObjectMissingError:
                await clean(opened.store, path)
            except ManifestError:
                pass  # not one to be believed: left for people to look at
            except StoreError:
                if patient:
                    return Result(requeue_after=RECOVERY_RETRY)
        if manifest is not None:
            await self._complete(key, backup, manifest)
        else:
            told = "the operator was ended or restarted during this backup; make another one"
            await self._fail(key, backup, Failure(Reason.BACKUP_INTERRUPTED, told))
        self._recovering.pop(key, None)
        self._debts.owe(key, self._world.clock.monotonic())
        return await self._pay(key, backup)

    async def _pay(self, key: Ref, backup: TenantBackup) -> Result:
        """Clear away what a dump that failed may have left on the server, which may have been away then."""
        debts, clock = self._debts, self._world.clock
        if (early := debts.seconds_left(key, clock.monotonic())) > 0:
            return Result(requeue_after=early)
        if not await self._forget_dump(backup):
            again = debts.put_off(key, clock.monotonic())
            if again is not None:
                return Result(requeue_after=self._world.jitter(again))
            logger.warning("what the dump of %s may have left on its server is not looked for any more", key)
        debts.forget(key)
        return Result(requeue_after=RECOVERY_RETRY)  # what else there is to be done with it

    async def _rest(self, key: Ref, backup: TenantBackup, left: float | None) -> Result:
        """It has ended, and has this many seconds left, or for ever."""
        await self._tell_of_trial(key, backup)
        if self._debts.owes(key):
            return await self._pay(key, backup)
        return Result(requeue_after=min(left, LAST_ONE_SECONDS) if left is not None else None)

    async def _expire(self, key: Ref, backup: TenantBackup) -> Result:
        """Its time is over; but the last good one of a tenant stays until there is a newer one."""
        if backup.status.phase == BackupPhase.COMPLETED and not is_followed(self._world, backup):
            return Result(requeue_after=LAST_ONE_SECONDS)
        await self._world.management.delete(key, uid=backup.metadata.uid)
        return Result()

    async def _delete(self, key: Ref, backup: TenantBackup) -> Result:
        if (needed_by := is_in_use(self._world, key)) is not None:
            told = f"it is not deleted before TenantRestore {needed_by!r} has ended, or is deleted"
            outcome = Outcome(None, Reason.IN_USE, told)
            await self._tell(key, backup, backup.status.phase or BackupPhase.PENDING, outcome)
            return Result(requeue_after=WATCH_SECONDS)
        await self._runs.stop(key)
        await self._world.trials.stop(key)
        try:
            if not await self._clearing.clear(key, backup):
                return Result(requeue_after=RECOVERY_RETRY)
        except StoreError as error:
            told = (
                f"what is in BackupStore {backup.spec.store!r} can't be deleted: {error.message}; to leave it "
                f"there, remove the finalizer {BACKUP_FINALIZER}"
            )
            outcome = Outcome(None, Reason.STORE_NOT_READY, told)
            await self._tell(key, backup, backup.status.phase or BackupPhase.PENDING, outcome)
            return Result(requeue_after=REFUSED_SECONDS)
        was_at_work = backup.status.phase in (BackupPhase.RUNNING, BackupPhase.VERIFYING)
        if not await self._forget_dump(backup) and was_at_work and self._clearing.is_patient(key):
            return Result(requeue_after=RECOVERY_RETRY)
        await set_finalizer(self._world, key, backup.metadata, BACKUP_FINALIZER, present=False)
        self._forget(key)  # nobody tells us of the end of what we have let go of ourselves
        self._world.wake.wake(backup.tenant)  # it tells of its newest one
        return Result()

    def _forget(self, key: Ref) -> None:
        self._kit.shelf.forget(key)
        self._clearing.forget(key)
        self._recovering.pop(key, None)
        self._debts.forget(key)

    # --- what else it is about ------------------------------------------------------------------------------------
    async def _forget_dump(self, backup: TenantBackup) -> bool:
        """Remove the role of a dump that died; False if it could not be. What is left opens nothing for long."""
        record = record_of(self._world, backup)
        if record is None or backup.status.started_at is None or backup.spec.source.stored is not None:
            return True
        try:
            server, wanted = database_of(self._world, record)
            if not self._runs.at_work(wanted.tenant_hash):  # else it is that one's role by now
                with self._runs.held_up(wanted.tenant_hash):  # nor must one begin meanwhile: its role has that name
                    await self._kit.dumper.forget(server, wanted)
        except Terminal:
            return True
        except (Halt, DatabaseError):
            return False
        return True

    def _wake_waiting(self) -> None:
        for body in self._world.live.all(TENANT_BACKUPS):
            if (body.get("status") or {}).get("phase") in (None, BackupPhase.PENDING):
                metadata = body["metadata"]
                self._world.wake.wake(Ref(TENANT_BACKUPS, metadata["namespace"], metadata["name"]))

    # --- telling --------------------------------------------------------------------------------------------------
    async def _complete(self, key: Ref, backup: TenantBackup, manifest: Manifest) -> None:
        completed = parse_time(manifest.completed_at) or self._world.clock.now()
        ttl = parse_duration(backup.spec.ttl) if backup.spec.ttl is not None else None
        ends = expiry(completed, ttl)
        rows, part = sum(manifest.rows.values()), manifest.database
        told = told_complete(backup, rows, len(manifest.rows), part.size)
        await self._tell(
            key,
            backup,
            BackupPhase.COMPLETED,
            Outcome(True, Reason.BACKUP_COMPLETED, told),
            run=manifest.run,
            started_at=manifest.started_at,
            object_key=manifest.path,
            completed_at=manifest.completed_at,
            size_bytes=part.size,
            sha256=part.sha256,
            encrypted=manifest.encrypted,
            pg_version=f"{manifest.server_version // 10000}.{manifest.server_version % 10000}",
            tables=len(manifest.rows),
            rows=rows,
            verification=BackupVerification(method="Read", time=manifest.completed_at, result="Passed"),
            expires_at=time_text(ends) if ends is not None else None,
        )

    async def _fail(self, key: Ref, backup: TenantBackup, failure: Failure) -> None:
        now = self._world.clock.now()
        ttl = parse_duration(backup.spec.ttl) if backup.spec.ttl is not None else None
        ends = expiry(now, ttl)
        await self._tell(
            key,
            backup,
            BackupPhase.FAILED,
            Outcome(False, failure.reason, failure.message, terminal=True),
            completed_at=time_text(now),
            expires_at=time_text(ends) if ends is not None else None,
        )

    async def _tell_of_trial(self, key: Ref, backup: TenantBackup) -> None:
        """What a restore on trial has found out, or why there was none yet though one was asked for."""
        trials, phase, uid = self._world.trials, BackupPhase.COMPLETED, backup.metadata.uid
        if backup.status.phase != phase or is_disproven(backup):
            trials.told(key, uid)
            return
        finding = trials.finding(key, uid)
        if finding is None:
            if waiting := waits_for_trial(backup, trials.obstacle(backup.tenant)):
                await self._tell(key, backup, phase, waiting)
            return
        outcome, verification = of_trial(backup, finding)
        await self._tell(key, backup, phase, outcome, verification=verification)
        trials.told(key, uid)
        about = self._world.live.get(key)
        if about is not None:
            good = verification.result == "Passed"
            reason = Reason.VERIFICATION_PASSED if good else Reason.VERIFICATION_FAILED
            self._world.events.emit(about, warning=not good, reason=reason, message=finding.message)
        self._world.wake.wake(backup.tenant)

    async def _tell(
        self, key: Ref, backup: TenantBackup, phase: BackupPhase, outcome: Outcome, **found: object
    ) -> None:
        world, former = self._world, backup.status
        conditions = told_of(outcome, former.conditions, backup.metadata.generation, world.clock.now())
        status: TenantBackupStatus = former.model_copy(
            update={
                **found,
                "phase": phase,
                "conditions": conditions,
                "observed_generation": backup.metadata.generation,
            }
        )
        written = await write_status(world.management, world.live, key, status)
        about = world.live.get(key)
        if about is None:
            world.wake.wake(key)  # no watch tells of what a write has found gone: the next pass forgets all of it
            return
        self._kit.note(TenantBackup.read(about))  # before its tenant is woken, which tells of it
        if written and former.phase != phase and phase in _ENDS:
            warning = phase == BackupPhase.FAILED
            world.events.emit(about, warning=warning, reason=outcome.reason, message=outcome.message)
            if backup.spec.source.stored is None:
                self._kit.observe(TenantBackup.read(about))
            world.wake.wake(backup.tenant)  # it tells of its newest one


_ENDS: Final = (BackupPhase.COMPLETED, BackupPhase.FAILED)
