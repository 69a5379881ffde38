"""Whether a TenantRestore can begin now, and the one write to its tenant's record by which it does."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.move import MovePhase
from tenantry.api.resources import TENANT_RECORDS, TENANT_RESTORES, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.api.tenantrecord import FormerSide, Move, PinnedDatabase, PinnedRestore, RecordState, TenantRecord
from tenantry.api.tenantrestore import RestorePhase, TenantRestore
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.move import MOST_SIDES, next_epoch
from tenantry.decide.restore import Destination, Origin, check
from tenantry.desired.manifest import Manifest, ManifestError
from tenantry.ports.backup import ObjectMissingError, StoreError
from tenantry.ports.postgres import DatabaseError
from tenantry.reconcile.arriving import check_unused
from tenantry.reconcile.backing_up import read_manifest
from tenantry.reconcile.backupobject import path_of
from tenantry.reconcile.database import check_server_identity
from tenantry.reconcile.openstores import BackupKit, OpenStore, choose_store
from tenantry.reconcile.parking import ready_server, wanted_of
from tenantry.reconcile.records import swap
from tenantry.reconcile.workspace import Workspace, find_workspace
from tenantry.reconcile.world import World


@dataclass(frozen=True, slots=True)
class Wanted:
    """A restore that can begin.

    Attributes:
        path: Where the backup is in the store.
    """

    record: TenantRecord
    store: str
    path: str


class Restorable:
    """Looks whether restores can begin."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit

    def record_of(self, restore: TenantRestore) -> TenantRecord | None:
        """The record of the tenant whose database is exchanged."""
        name = self._world.ledger.record_of(restore.tenant)
        body = self._world.live.get(Ref(TENANT_RECORDS, "", name)) if name is not None else None
        return TenantRecord.model_validate(body) if body is not None else None

    async def check(self, restore: TenantRestore) -> Wanted:
        """That all of it makes sense, as the signed manifest in the store says and not as any status does.

        Raises:
            Waiting: for what is not there yet.
            Terminal: it will never go.
        """
        workspace = find_workspace(self._world, restore.metadata.namespace)
        backup = self._backup(restore)
        record = self._tenant(restore, workspace)
        opened = choose_store(self._world, self._kit, backup.spec.store, workspace.labels, new=False)
        manifest = await self._manifest(backup, opened)
        server = ready_server(self._world, record)
        check_server_identity(server, record.spec.database.server, record.spec.database.id)
        spec = manifest.tenant_spec or {}
        check(
            Origin(
                workspace_uid=manifest.identity.workspace_uid,
                tenant=manifest.identity.name,
                incarnation=manifest.identity.incarnation,
                server_version=manifest.server_version,
                extensions=_extensions(spec),
                readable=not manifest.encrypted or bool(opened.identities),
            ),
            Destination(
                workspace_uid=workspace.uid,
                tenant=record.spec.tenant,
                incarnation=record.spec.incarnation,
                server_version=server.facts.version if server.facts is not None else 0,
                extensions=_extensions(record.spec.last_spec or {}),
                former_tenant=restore.spec.former_tenant,
            ),
        )
        try:
            await self._kit.loader.check(server, manifest.tool_major)
        except DatabaseError as error:
            raise Waiting(ConditionType.READY, Reason.RESTORE_NOT_POSSIBLE, error.message, retry_after=60.0) from error
        return Wanted(record, backup.spec.store, manifest.path)

    async def begin(self, restore: TenantRestore, wanted: Wanted) -> None:
        """Write down what is to be restored, before anything is made for it.

        Raises:
            Waiting: something else is under way with the tenant; UnknownSideError, if the record does not know where
                it lives.
            ConflictError: somebody else wrote.
        """
        record = wanted.record
        self._check_free(record, restore)
        epoch = next_epoch(record.spec)
        database = replace(record.identity, epoch=epoch).database
        # Else what comes to nothing would be taken back: the database that the tenant lives in.
        await check_unused(
            ready_server(self._world, record), replace(wanted_of(record), database=database), record.name
        )
        pinned = PinnedDatabase(
            mode="Shared", server=record.spec.database.server, id=record.spec.database.id, name=database
        )
        part = PinnedRestore(name=restore.name, uid=restore.metadata.uid, store=wanted.store, path=wanted.path)
        await self._write(record, epoch, pinned, part)

    async def begin_undo(self, restore: TenantRestore, record: TenantRecord, side: FormerSide) -> None:
        """Write down that a tenant goes back to the database that it had before a restore.

        Raises:
            Waiting: something else is under way with the tenant.
            ConflictError: somebody else wrote.
        """
        self._check_free(record, restore)
        assert side.database is not None  # noqa: S101 - only such a side is gone back to
        part = PinnedRestore(name=restore.name, uid=restore.metadata.uid, returns_to=side.epoch)
        await self._write(record, next_epoch(record.spec), side.database, part)

    async def _write(self, record: TenantRecord, epoch: int, database: PinnedDatabase, part: PinnedRestore) -> None:
        move = Move(
            phase=MovePhase.PREPARING,
            epoch=epoch,
            origin=record.spec.database.name,
            destination=database.name,
            database=database,
            started_at=time_text(self._world.clock.now()),
            restore=part,
        )
        await swap(self._world, record, {"move": move.model_dump(by_alias=True, mode="json", exclude_none=True)})

    # --- what it is about -----------------------------------------------------------------------------------------
    def _backup(self, restore: TenantRestore) -> TenantBackup:
        body = self._world.live.get(restore.backup)
        if body is None:
            raise Waiting(
                ConditionType.READY,
                Reason.BACKUP_NOT_FOUND,
                f"spec.backupRef: there is no TenantBackup {restore.backup.name!r} in this workspace",
                retry_after=30.0,
            )
        backup = TenantBackup.read(body)
        if backup.status.phase == BackupPhase.FAILED or backup.metadata.deletion_timestamp:
            why = "failed" if backup.status.phase == BackupPhase.FAILED else "is being deleted"
            raise Terminal(
                ConditionType.READY, Reason.RESTORE_NOT_POSSIBLE, f"spec.backupRef: {restore.backup.name!r} {why}"
            )
        if backup.status.phase != BackupPhase.COMPLETED:
            raise Waiting(
                ConditionType.READY,
                Reason.BACKUP_NOT_READY,
                f"spec.backupRef: {restore.backup.name!r} is not Completed yet",
                retry_after=5.0,
            )
        return backup

    def _tenant(self, restore: TenantRestore, workspace: Workspace) -> TenantRecord:
        record = self.record_of(restore)
        if record is None or record.spec.workspace_uid != workspace.uid or record.spec.state != RecordState.ACTIVE:
            raise Waiting(
                ConditionType.READY,
                Reason.TENANT_NOT_FOUND,
                f"spec.tenantRef: Tenant {restore.tenant.name!r} is not there, was not placed yet, or is being deleted",
                retry_after=10.0,
            )
        if (halt := self.suspended(restore)) is not None:
            raise halt
        if record.spec.database.mode != "Shared":
            raise Terminal(
                ConditionType.READY,
                Reason.NO_DATABASE,
                f"spec.tenantRef: its database is of mode {record.spec.database.mode}; only Shared ones can be "
                "restored into yet",
            )
        return record

    def suspended(self, restore: TenantRestore) -> Waiting | None:
        """What it waits for while its tenant is left as it is, whether it has begun or not; else None."""
        body = self._world.live.get(restore.tenant) or {}
        if not (body.get("spec") or {}).get("suspend"):
            return None
        told = f"spec.tenantRef: Tenant {restore.tenant.name!r} is left as it is, for its spec.suspend is true"
        return Waiting(ConditionType.READY, Reason.SUSPENDED, f"{told}: set it to false", retry_after=10.0)

    async def _manifest(self, backup: TenantBackup, opened: OpenStore) -> Manifest:
        path = path_of(self._world, backup)
        if path is None:
            raise Terminal(
                ConditionType.READY,
                Reason.RESTORE_NOT_POSSIBLE,
                "spec.backupRef: its status.objectKey is not the place of this very backup",
            )
        try:
            return await read_manifest(opened, path)
        except (ObjectMissingError, ManifestError) as error:
            raise Terminal(
                ConditionType.READY,
                Reason.RESTORE_NOT_POSSIBLE,
                f"spec.backupRef: its manifest in BackupStore {backup.spec.store!r} can't be believed: {error}",
            ) from error
        except StoreError as error:
            raise Waiting(
                ConditionType.READY,
                Reason.STORE_NOT_READY,
                f"BackupStore {backup.spec.store!r}: {error.message}",
                retry_after=10.0,
            ) from error

    def _check_free(self, record: TenantRecord, restore: TenantRestore) -> None:
        if record.spec.move is not None:
            raise Waiting(
                ConditionType.READY,
                Reason.RESTORE_RUNNING,
                "the tenant is being moved, or another restore is under way",
                retry_after=5.0,
            )
        if len(record.spec.former) >= MOST_SIDES:
            raise Waiting(
                ConditionType.READY,
                Reason.RESTORE_NOT_POSSIBLE,
                f"{len(record.spec.former)} databases or namespaces that this tenant has left still wait for their "
                "purge; wait for one",
                retry_after=60.0,
            )
        result = record.spec.last_restore
        if result is not None and result.uid != restore.metadata.uid and self._is_untold(record, result.uid):
            raise Waiting(
                ConditionType.READY, Reason.RESTORE_RUNNING, "another restore is just ending", retry_after=1.0
            )

    def _is_untold(self, record: TenantRecord, uid: str) -> bool:
        """How the last one ended is only in the record yet, where the next one would take its place."""
        for body in self._world.live.all(TENANT_RESTORES):
            metadata = body["metadata"]
            if metadata["uid"] == uid and metadata["namespace"] == record.spec.workspace:
                return (body.get("status") or {}).get("phase") in (None, "Pending", "Saving", RestorePhase.RESTORING)
        return False


def _extensions(spec: dict[str, object]) -> frozenset[str]:
    """That a Tenant's spec asks for."""
    database = spec.get("database")
    names = database.get("extensions") if isinstance(database, dict) else None
    return frozenset(str(name) for name in names or ())
