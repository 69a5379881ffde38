"""TenantBackup: one run, from Pending to Completed or Failed; what a dead process left is found out in the store."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.api.base import parse_duration
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_SLOT, BACKUP_FINALIZER
from tenantry.api.resources import TENANT_BACKUPS, TENANT_RECORDS, Ref
from tenantry.api.tenantbackup import BackupPhase, BackupVerification, TenantBackup, TenantBackupStatus
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.backup import Seen, Step, expiry, next_step
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import parse_time, time_text
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.desired.manifest import Manifest, ManifestError, run_id
from tenantry.ports.backup import ObjectMissingError, StoreError
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.backing_up import Job, clean, read_manifest
from tenantry.reconcile.backupobject import is_followed, is_in_use, path_of
from tenantry.reconcile.backups import Backups, Failure
from tenantry.reconcile.clearing import Clearing
from tenantry.reconcile.database import check_server_identity
from tenantry.reconcile.openstores import BackupKit, choose_store
from tenantry.reconcile.platform import set_finalizer
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import told_of, write_status
from tenantry.reconcile.takingup import take_up
from tenantry.reconcile.trialtelling import is_disproven, of_trial, told_complete, waits_for_trial
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World

WATCH_SECONDS: Final = 15.0
ROOM_SECONDS: Final = 5.0
RECOVERY_SECONDS: Final = 45.0
"""How long a store may keep silent about what a dead process has done, before that counts as failed."""
RECOVERY_RETRY: Final = 3.0
OWING_RETRY: Final = 10.0
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
        self._owing: set[Ref] = set()
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
                await self._tell_of_trial(key, backup)
                if key in self._owing:
                    return await self._pay(key, backup)
                left = (seen.expires_at - now).total_seconds() if seen.expires_at is not None else None
                return Result(requeue_after=min(left, LAST_ONE_SECONDS) if left is not None else None)

    # --- its life -------------------------------------------------------------------------------------------------
    async def _begin(self, key: Ref, backup: TenantBackup) -> Result:
        if backup.spec.source.stored is not None:
            return await self._take_up(key, backup)
        try:
            job = self._job(backup)
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
            self._owing.add(key)
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
        self._owing.add(key)
        return await self._pay(key, backup)

    async def _pay(self, key: Ref, backup: TenantBackup) -> Result:
        """Clear away what a dump that failed may have left on the server, which may have been away then."""
        if not await self._forget_dump(backup):
            return Result(requeue_after=OWING_RETRY)
        self._owing.discard(key)
        return Result(requeue_after=RECOVERY_RETRY)  # what else there is to be done with it

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
        self._owing.discard(key)

    # --- what it is about -----------------------------------------------------------------------------------------
    def _job(self, backup: TenantBackup) -> Job:
        """What is to be done.

        Raises:
            Waiting, Terminal: it can't be done now.
        """
        workspace = find_workspace(self._world, backup.metadata.namespace)
        opened = choose_store(self._world, self._kit, backup.spec.store, workspace.labels, new=True)
        record = self._record(backup)
        if record is None or record.spec.workspace_uid != workspace.uid:
            raise Waiting(
                ConditionType.READY,
                Reason.TENANT_NOT_FOUND,
                f"spec.source.tenant: Tenant {backup.spec.source.tenant.name!r} is not there, or was not placed yet",
                retry_after=30.0,
            )
        server, wanted = self._database(record)
        return Job(
            identity=record.identity,
            run=run_id(backup.metadata.creation_timestamp, backup.metadata.uid),
            backup=backup.name,
            store=backup.spec.store,
            opened=opened,
            server=server,
            wanted=wanted,
            tenant_spec=record.spec.last_spec,
            started_at=time_text(self._world.clock.now()),
            slot=backup.metadata.annotations.get(ANNOTATION_SLOT, ""),
        )

    def _record(self, backup: TenantBackup) -> TenantRecord | None:
        name = self._world.ledger.record_of(backup.tenant)
        body = self._world.live.get(Ref(TENANT_RECORDS, "", name)) if name is not None else None
        return TenantRecord.model_validate(body) if body is not None else None

    def _database(self, record: TenantRecord) -> tuple[Server, WantedDatabase]:
        pinned = record.spec.database
        if pinned.mode != "Shared":
            raise Terminal(
                ConditionType.READY,
                Reason.NO_DATABASE,
                f"spec.source.tenant: its database is of mode {pinned.mode}; only Shared ones can be backed up yet",
            )
        if record.spec.state != RecordState.ACTIVE or record.spec.move is not None:
            told = "the tenant is being deleted" if record.spec.move is None else "the tenant is being moved"
            raise Waiting(ConditionType.READY, Reason.NO_DATABASE, told, retry_after=30.0)
        server = self._world.servers.get(pinned.server)
        if server is None or not server.availability.ok or server.facts is None:
            told = f"DatabaseServer {pinned.server!r} is not ready"
            raise Waiting(ConditionType.READY, Reason.SERVER_NOT_READY, told, retry_after=30.0)
        check_server_identity(server, pinned.server, pinned.id)
        identity = record.identity
        wanted = WantedDatabase(
            database=pinned.name,
            management_id=identity.management_id,
            tenant_hash=identity.tenant_hash,
            record=identity.record,
            connection_limit=-1,  # it is read, not settled
        )
        return server, wanted

    async def _forget_dump(self, backup: TenantBackup) -> bool:
        """Remove the role of a dump that died; False if it could not be. What is left opens nothing for long."""
        record = self._record(backup)
        if record is None or backup.status.started_at is None or backup.spec.source.stored is not None:
            return True
        try:
            server, wanted = self._database(record)
            if not self._runs.at_work(wanted.tenant_hash):  # else it is that one's role by now
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
        if about is not None:
            self._kit.note(TenantBackup.read(about))  # before its tenant is woken, which tells of it
        if written and about is not None and former.phase != phase and phase in _ENDS:
            warning = phase == BackupPhase.FAILED
            world.events.emit(about, warning=warning, reason=outcome.reason, message=outcome.message)
            if backup.spec.source.stored is None:
                self._kit.observe(TenantBackup.read(about))
            world.wake.wake(backup.tenant)  # it tells of its newest one


_ENDS: Final = (BackupPhase.COMPLETED, BackupPhase.FAILED)
