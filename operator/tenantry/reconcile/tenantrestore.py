"""TenantRestore: what it asks for is checked, what is there is saved, and then its tenant's record says the rest.

What is under way, and how it ended, is in the TenantRecord: there it is compare-and-swap with all else that happens to
the tenant. This object only begins it, and tells.
"""

from __future__ import annotations

from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_UNDO_RESTORE, LABEL_RESTORE
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.api.tenantrecord import RestoreResult, TenantRecord
from tenantry.api.tenantrestore import ENDS, RANKS, RestorePhase, TenantRestore, TenantRestoreStatus
from tenantry.decide.conditions import Outcome
from tenantry.decide.deletion import parse_time, time_text
from tenantry.decide.halt import Halt, Terminal, Waiting
from tenantry.decide.restore import side_to_return_to
from tenantry.ports.kube import AlreadyExistsError
from tenantry.ports.world import Json
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.restorable import Restorable
from tenantry.reconcile.result import Result
from tenantry.reconcile.status import told_of, write_status
from tenantry.reconcile.world import World

RETRY: Final = 2.0
WATCH_SECONDS: Final = 10.0
UNDO_RETRY: Final = 60.0
LONGEST_WAIT: Final = 3600.0

BEGUN: Final = (RestorePhase.RESTORING, RestorePhase.COMPLETED, RestorePhase.UNDONE)
"""Phases that nothing comes to before its safety backup is complete."""


class TenantRestoreReconciler:
    """Reconciles TenantRestores."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._restorable = Restorable(world, kit)

    async def reconcile(self, key: Ref) -> Result:
        """One pass over one TenantRestore."""
        body = self._world.live.get(key)
        if body is None:
            return Result()
        restore = TenantRestore.read(body)
        phase = restore.status.phase
        if restore.metadata.deletion_timestamp or phase in (RestorePhase.FAILED, RestorePhase.UNDONE):
            return Result()
        record = self._restorable.record_of(restore)
        if phase == RestorePhase.COMPLETED:
            return await self._completed(key, restore, record)
        if record is not None:
            result = record.spec.last_restore
            if result is not None and result.uid == restore.metadata.uid:
                return await self._ended(key, restore, result)
            if self._is_under_way(record, restore):
                halt = self._restorable.suspended(restore)
                told = Outcome(None, Reason.RESTORE_RUNNING, "the backup is being restored beside the live database")
                told = Outcome.of(halt) if halt is not None else told
                await self._tell(key, restore, RestorePhase.RESTORING, told, started_at=self._started(restore))
                return Result(requeue_after=WATCH_SECONDS)
        if phase == RestorePhase.RESTORING:
            why = "the tenant was deleted, or let go of, meanwhile; what it had is as its TenantRecord says"
            return await self._fail(key, restore, Reason.RESTORE_FAILED, why)
        return await self._prepare(key, restore)

    # --- before it begins -----------------------------------------------------------------------------------------
    async def _prepare(self, key: Ref, restore: TenantRestore) -> Result:
        due = parse_time(restore.spec.not_before)
        left = (due - self._world.clock.now()).total_seconds() if due is not None else 0.0
        if left > 0:
            told = Outcome(None, Reason.NOT_YET_TIME, f"spec.notBefore: it begins at {restore.spec.not_before}")
            await self._tell(key, restore, RestorePhase.PENDING, told)
            return Result(requeue_after=min(left, LONGEST_WAIT))
        try:
            wanted = await self._restorable.check(restore)
            if restore.spec.safety_backup:
                await self._save(key, restore)
            await self._restorable.begin(restore, wanted)
        except Waiting as halt:
            await self._tell(key, restore, self._no_less(restore, RestorePhase.PENDING), Outcome.of(halt))
            return Result(requeue_after=halt.retry_after or self._world.jitter(30.0))
        except Halt as halt:
            return await self._fail(key, restore, halt.reason, halt.message)
        told = Outcome(None, Reason.RESTORE_RUNNING, "the backup is being restored beside the live database")
        await self._tell(key, restore, RestorePhase.RESTORING, told, started_at=self._started(restore))
        self._world.wake.wake(restore.tenant)
        return Result(requeue_after=WATCH_SECONDS)

    async def _save(self, key: Ref, restore: TenantRestore) -> None:
        """A backup of what is there now, under a name that is this restore's own.

        Raises:
            Waiting: it is under way.
            Terminal: it failed, or its name is another's.
        """
        ref = Ref(TENANT_BACKUPS, key.namespace, safety_name(restore))
        body = self._world.live.get(ref)
        if body is None:
            try:
                body = await self._world.management.create(self._safety(restore, ref))
            except AlreadyExistsError:
                body = await self._world.management.get(ref)
            self._world.live.observe(body)
            self._world.wake.wake(ref)  # the watch tells nothing new of what was observed already
        if (body["metadata"].get("labels") or {}).get(LABEL_RESTORE) != restore.metadata.uid:
            raise Terminal(
                ConditionType.READY,
                Reason.SAFETY_BACKUP_FAILED,
                f"a TenantBackup {ref.name!r} is there that this restore has not made: delete it, and make another "
                "TenantRestore",
            )
        saved = TenantBackup.read(body)
        if saved.status.phase == BackupPhase.FAILED:
            why = next((each.message for each in saved.status.conditions if each.type == ConditionType.READY), "")
            raise Terminal(
                ConditionType.READY,
                Reason.SAFETY_BACKUP_FAILED,
                f"the present database could not be backed up, so nothing was restored ({ref.name}: {why}); make "
                "another TenantRestore, with safetyBackup: false if there is nothing worth keeping",
            )
        if saved.status.phase != BackupPhase.COMPLETED:
            told = f"the present database is backed up first, as TenantBackup {ref.name!r}"
            outcome = Outcome(None, Reason.SAFETY_BACKUP_RUNNING, told)
            await self._tell(key, restore, RestorePhase.SAVING, outcome, safety_backup=ref.name)
            raise Waiting(ConditionType.READY, Reason.SAFETY_BACKUP_RUNNING, told, retry_after=RETRY)

    def _safety(self, restore: TenantRestore, ref: Ref) -> Json:
        store = TenantBackup.read(self._world.live.get(restore.backup) or {}).spec.store
        return {
            "apiVersion": TENANT_BACKUPS.api_version,
            "kind": TENANT_BACKUPS.kind,
            "metadata": {
                "name": ref.name,
                "namespace": ref.namespace,
                "labels": {LABEL_RESTORE: restore.metadata.uid},
            },
            "spec": {
                "source": {"tenant": {"name": restore.spec.tenant_ref.name}},
                "store": store,
                "description": f"before TenantRestore {restore.name}",
            },
        }

    # --- its end, and after that ----------------------------------------------------------------------------------
    async def _ended(self, key: Ref, restore: TenantRestore, result: RestoreResult) -> Result:
        if result.outcome == "Failed":
            return await self._fail(key, restore, Reason.RESTORE_FAILED, result.message)
        told = Outcome(True, Reason.RESTORE_COMPLETED, result.message)
        await self._tell(
            key,
            restore,
            RestorePhase.COMPLETED,
            told,
            completed_at=result.ended_at,
            database=result.database,
            tables=result.tables,
            rows=result.rows,
            write_stop_milliseconds=result.write_stop_milliseconds,
            undo_until=result.undo_until,
        )
        return Result()

    async def _completed(self, key: Ref, restore: TenantRestore, record: TenantRecord | None) -> Result:
        """Nothing more, but where somebody wants it undone."""
        asked = restore.metadata.annotations.get(ANNOTATION_UNDO_RESTORE)
        result = record.spec.last_restore if record is not None else None
        mine = result if result is not None and result.uid == restore.metadata.uid else None
        if mine is not None and mine.outcome == "Undone":
            told = Outcome(True, Reason.RESTORE_UNDONE, mine.message)
            await self._tell(key, restore, RestorePhase.UNDONE, told, undone_at=mine.ended_at, undo_until=None)
            return Result()
        if record is not None and self._is_under_way(record, restore):
            told = Outcome(None, Reason.RESTORE_RUNNING, "it is being undone")
            await self._tell(key, restore, RestorePhase.COMPLETED, told)
            return Result(requeue_after=WATCH_SECONDS)
        if asked is None:
            return Result()
        why = f"{ANNOTATION_UNDO_RESTORE} must have this object's UID, {restore.metadata.uid}"
        if asked == restore.metadata.uid:
            why = await self._undo(restore, record)
        if mine is not None and mine.outcome == "NotUndone" and why:
            why = f"{why}; the last try: {mine.message}"
        told = Outcome(None, Reason.RESTORE_RUNNING, "it is being undone")
        if why:
            told = Outcome(True, Reason.UNDO_NOT_POSSIBLE, f"it is restored, and can't be undone: {why}")
        await self._tell(key, restore, RestorePhase.COMPLETED, told)
        return Result(requeue_after=UNDO_RETRY if why else WATCH_SECONDS)

    async def _undo(self, restore: TenantRestore, record: TenantRecord | None) -> str:
        """Begin it; why that can't be, or nothing."""
        if record is None:
            return "the tenant is not there any more"
        side = side_to_return_to(record.spec, restore.metadata.uid, self._world.clock.now())
        if isinstance(side, str):
            return side
        try:
            await self._restorable.begin_undo(restore, record, side)
        except Halt as halt:
            return halt.message
        self._world.wake.wake(restore.tenant)
        return ""

    # --- telling --------------------------------------------------------------------------------------------------
    @staticmethod
    def _is_under_way(record: TenantRecord, restore: TenantRestore) -> bool:
        move = record.spec.move
        return move is not None and move.restore is not None and move.restore.uid == restore.metadata.uid

    @staticmethod
    def _no_less(restore: TenantRestore, phase: RestorePhase) -> RestorePhase:
        former = restore.status.phase
        return former if former is not None and RANKS[former] > RANKS[phase] else phase

    def _started(self, restore: TenantRestore) -> str:
        return restore.status.started_at or time_text(self._world.clock.now())

    async def _fail(self, key: Ref, restore: TenantRestore, reason: Reason, message: str) -> Result:
        told = Outcome(False, reason, message, terminal=True)
        await self._tell(key, restore, RestorePhase.FAILED, told, completed_at=time_text(self._world.clock.now()))
        return Result()

    async def _tell(
        self, key: Ref, restore: TenantRestore, phase: RestorePhase, outcome: Outcome, **found: object
    ) -> None:
        world = self._world
        body = world.live.get(key)
        former = TenantRestore.read(body).status if body is not None else restore.status
        phase = self._no_less(restore.model_copy(update={"status": former}), phase)
        if restore.spec.safety_backup and phase in BEGUN:
            found = {"safety_backup": safety_name(restore), **found}  # what was told while it was made may be lost
        conditions = told_of(outcome, former.conditions, restore.metadata.generation, world.clock.now())
        status: TenantRestoreStatus = former.model_copy(
            update={
                **found,
                "phase": phase,
                "conditions": conditions,
                "observed_generation": restore.metadata.generation,
            }
        )
        written = await write_status(world.management, world.live, key, status)
        if written and body is not None and former.phase != phase and phase in ENDS:
            warning = phase == RestorePhase.FAILED
            world.events.emit(body, warning=warning, reason=outcome.reason, message=outcome.message)
            world.wake.wake(restore.backup)  # its deletion may have waited for this


def safety_name(restore: TenantRestore) -> str:
    """The TenantBackup that a restore makes first."""
    return f"{restore.name[:200].rstrip('-.')}-before-{restore.metadata.uid[:8]}"
