"""What is worked out about a TenantBackup: where it is in its store, and who needs it; never believed from a status."""

from __future__ import annotations

from tenantry.api.resources import TENANT_RESTORES, Ref
from tenantry.api.tenantbackup import TenantBackup
from tenantry.api.tenantrestore import ENDS, TenantRestore
from tenantry.decide.halt import Halt
from tenantry.desired.manifest import run_id
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World


def path_of(world: World, backup: TenantBackup) -> str | None:
    """Where its objects are, if what its status says of that can be true.

    The path is bound to this management cluster, this workspace and this very object: a status that somebody has
    forged leads to nobody else's backup.
    """
    key = backup.status.object_key
    try:
        workspace = find_workspace(world, backup.metadata.namespace).uid
    except Halt:
        return None
    own = f"{world.settings.management_id}/{workspace}/"
    run = run_id(backup.metadata.creation_timestamp, backup.metadata.uid)
    if key is None or not key.startswith(own) or not key.endswith(f"/{run}") or key.count("/") != own.count("/") + 2:
        return None
    return key


def is_in_use(world: World, backup: Ref) -> str | None:
    """The TenantRestore that a backup is needed by, if there is one that has not ended."""
    for body in world.live.all(TENANT_RESTORES):
        restore = TenantRestore.read(body)
        ended = restore.status.phase in ENDS or restore.metadata.deletion_timestamp is not None
        if restore.backup == backup and not ended:
            return restore.name
    return None
