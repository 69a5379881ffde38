"""What is worked out about a TenantBackup: where it is in its store, and who needs it; never believed from a status."""

from __future__ import annotations

from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import BACKUP_STORES, TENANT_BACKUPS, TENANT_RESTORES, Ref
from tenantry.api.tenantbackup import BackupPhase, StoredBackup, TenantBackup
from tenantry.api.tenantrestore import ENDS, TenantRestore
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Halt
from tenantry.desired.manifest import backup_path, run_id
from tenantry.reconcile.trialtelling import is_disproven
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World


def path_of(world: World, backup: TenantBackup) -> str | None:
    """Where its objects are, if what its status says of that can be true.

    The path is bound to this management cluster, this workspace and this very object: a status that somebody has
    forged leads to nobody else's backup.
    """
    try:
        workspace = find_workspace(world, backup.metadata.namespace).uid
    except Halt:
        return None
    return path_within(world, backup, workspace)


def path_within(world: World, backup: TenantBackup, workspace: str) -> str | None:
    """That, for a workspace whose UID, or the one that it takes over, is known."""
    if backup.spec.source.stored is not None:
        return _stored_path(world, backup, backup.spec.source.stored, workspace)
    key = backup.status.object_key
    own = f"{world.settings.management_id}/{workspace}/"
    run = run_of(backup)
    if key is None or not key.startswith(own) or not key.endswith(f"/{run}") or key.count("/") != own.count("/") + 2:
        return None
    return key


def accepted_ids(world: World, store: str) -> tuple[str, ...]:
    """The management ids whose backups in a BackupStore are ours: this one's, and those that it names."""
    body = world.live.get(Ref(BACKUP_STORES, "", store)) or {}
    former = (body.get("spec") or {}).get("formerManagementIds") or ()
    return tuple(dict.fromkeys((world.settings.management_id, *former)))


def _stored_path(world: World, backup: TenantBackup, stored: StoredBackup, workspace_uid: str) -> str | None:
    """Whatever the object says, it leads to its own workspace's UID, which only the platform team can set."""
    management_id = stored.management_id or world.settings.management_id
    if management_id not in accepted_ids(world, backup.spec.store):
        return None
    identity = TenantIdentity(
        management_id=management_id,
        workspace=stored.workspace or backup.metadata.namespace,
        workspace_uid=workspace_uid,
        name=backup.spec.source.tenant.name,
        incarnation=stored.incarnation,
    )
    return backup_path(identity, stored.run)


def run_of(backup: TenantBackup) -> str:
    """The id of its run."""
    stored = backup.spec.source.stored
    return stored.run if stored is not None else run_id(backup.metadata.creation_timestamp, backup.metadata.uid)


def is_followed(world: World, backup: TenantBackup) -> bool:
    """Whether there is a newer good one of the same tenant."""
    mine = parse_time(backup.status.completed_at)
    for body in world.live.all(TENANT_BACKUPS):
        other = TenantBackup.read(body)
        theirs = parse_time(other.status.completed_at)
        good = other.status.phase == BackupPhase.COMPLETED and not other.metadata.deletion_timestamp
        good = good and not is_disproven(other)
        if good and other.tenant == backup.tenant and mine is not None and theirs is not None and theirs > mine:
            return True
    return False


def is_there(world: World, key: Ref, backup: TenantBackup) -> bool:
    """Whether the object is still the one that it was when it was read."""
    body = world.live.get(key)
    return body is not None and body["metadata"]["uid"] == backup.metadata.uid


def is_in_use(world: World, backup: Ref) -> str | None:
    """The TenantRestore that a backup is needed by, if there is one that has not ended."""
    for body in world.live.all(TENANT_RESTORES):
        restore = TenantRestore.read(body)
        ended = restore.status.phase in ENDS or restore.metadata.deletion_timestamp is not None
        if restore.backup == backup and not ended:
            return restore.name
    return None
