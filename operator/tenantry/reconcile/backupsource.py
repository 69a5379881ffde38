"""What a TenantBackup is about: the tenant's record, its database, and the job that follows from them."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.names import ANNOTATION_SLOT
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenantbackup import TenantBackup
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.deletion import time_text
from tenantry.decide.halt import Terminal, Waiting
from tenantry.desired.manifest import run_id
from tenantry.ports.postgres import WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.backing_up import Job
from tenantry.reconcile.database import check_server_identity
from tenantry.reconcile.openstores import BackupKit, choose_store
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World


def job_of(world: World, kit: BackupKit, backup: TenantBackup) -> Job:
    """What is to be done.

    Raises:
        Waiting, Terminal: it can't be done now.
    """
    workspace = find_workspace(world, backup.metadata.namespace)
    opened = choose_store(world, kit, backup.spec.store, workspace.labels, new=True)
    record = record_of(world, backup)
    if record is None or record.spec.workspace_uid != workspace.uid:
        raise Waiting(
            ConditionType.READY,
            Reason.TENANT_NOT_FOUND,
            f"spec.source.tenant: Tenant {backup.spec.source.tenant.name!r} is not there, or was not placed yet",
            retry_after=30.0,
        )
    server, wanted = database_of(world, record)
    return Job(
        identity=record.identity,
        run=run_id(backup.metadata.creation_timestamp, backup.metadata.uid),
        backup=backup.name,
        store=backup.spec.store,
        opened=opened,
        server=server,
        wanted=wanted,
        tenant_spec=record.spec.last_spec,
        started_at=time_text(world.clock.now()),
        slot=backup.metadata.annotations.get(ANNOTATION_SLOT, ""),
    )


def record_of(world: World, backup: TenantBackup) -> TenantRecord | None:
    """The record of its tenant; None where there is no such tenant, or it was not placed yet."""
    name = world.ledger.record_of(backup.tenant)
    body = world.live.get(Ref(TENANT_RECORDS, "", name)) if name is not None else None
    return TenantRecord.model_validate(body) if body is not None else None


def database_of(world: World, record: TenantRecord) -> tuple[Server, WantedDatabase]:
    """The database of a tenant, to be read, and its server.

    Raises:
        Waiting, Terminal: it can't be backed up, now or at all.
    """
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
    server = world.servers.get(pinned.server)
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
