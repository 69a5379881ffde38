"""Backups that are in a store already: believed by their signed manifests, whoever asks for objects of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import TenantBackup
from tenantry.decide.halt import Terminal, Waiting
from tenantry.desired.manifest import MANIFEST, MOST_BYTES, Manifest, ManifestError
from tenantry.ports.backup import ObjectMissingError, StoreError
from tenantry.reconcile.backing_up import read_manifest
from tenantry.reconcile.backupobject import path_of, run_of
from tenantry.reconcile.openstores import BackupKit, OpenStore, choose_store
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World

MOST_PARTS: Final = 100


async def take_up(world: World, kit: BackupKit, backup: TenantBackup) -> Manifest:
    """What a TenantBackup with `source.stored` is of.

    Where that is, is worked out of its workspace's UID, which nobody in the workspace can choose.

    Raises:
        Waiting: the store, or what the platform team has to say of it, is not there yet; or another object is of it.
        Terminal: NotInStore: there is none, or none to be believed.
    """
    workspace = find_workspace(world, backup.metadata.namespace)
    opened = choose_store(world, kit, backup.spec.store, workspace.labels, new=False)
    path = path_of(world, backup)
    if path is None:
        raise Waiting(
            ConditionType.READY,
            Reason.NOT_IN_STORE,
            f"spec.source.stored.managementId: BackupStore {backup.spec.store!r} does not have it among its "
            "formerManagementIds: the platform team has to name it there",
            retry_after=60.0,
        )
    if (other := _other_of(world, kit, backup, path)) is not None:
        told = f"spec.source.stored: TenantBackup {other!r} is of this very backup: use that one, or delete it first"
        raise Waiting(ConditionType.READY, Reason.IN_USE, told, retry_after=15.0)
    try:
        return await whole_manifest(opened, path)
    except ObjectMissingError as error:
        told = f"BackupStore {backup.spec.store!r} has no such backup of this tenant"
        raise _not_there(f"{told}: see that run, incarnation and workspace are as they were then") from error
    except ManifestError as error:
        raise _not_there(f"what is in BackupStore {backup.spec.store!r} is not believed: {error.message}") from error
    except StoreError as error:
        told = f"BackupStore {backup.spec.store!r}: {error.message}"
        raise Waiting(ConditionType.READY, Reason.STORE_NOT_READY, told, retry_after=10.0) from error


async def whole_manifest(opened: OpenStore, path: str, sizes: Mapping[str, int] | None = None) -> Manifest:
    """The manifest at a path, if what it tells of is there, too.

    Args:
        opened: The store.
        path: Of the backup.
        sizes: In bytes, of the objects below the path, by name, as far as they were listed already.

    Raises:
        StoreError: the store refused; ObjectMissingError where there is no manifest.
        ManifestError: it is not believed, or its part is not there as it says.
    """
    known = dict(sizes or {})
    if known.get(MANIFEST, 0) > MOST_BYTES:
        raise ManifestError(f"its manifest has {known[MANIFEST]} bytes, more than any")
    manifest = await read_manifest(opened, path)
    part = manifest.database
    if part.name not in known:
        listed = await opened.store.list(f"{path}/", most=MOST_PARTS)
        known = {each.key.removeprefix(f"{path}/"): each.size for each in listed}
    size = known.get(part.name)
    if size is None:
        raise ManifestError(f"its {part.name} is not there")
    if size != part.size:
        raise ManifestError(f"its {part.name} has {size} bytes, and was written with {part.size}")
    return manifest


def _other_of(world: World, kit: BackupKit, backup: TenantBackup, path: str) -> str | None:
    """The TenantBackup that the same backup is Completed under."""
    own, run = Ref(TENANT_BACKUPS, backup.metadata.namespace, backup.name), run_of(backup)
    for each in kit.shelf.of(backup.tenant):
        same = each.run == run and each.store == backup.spec.store and each.path == path
        if each.ref != own and same and each.good and world.live.get(each.ref) is not None:
            return each.ref.name
    return None


def _not_there(message: str) -> Terminal:
    return Terminal(ConditionType.READY, Reason.NOT_IN_STORE, f"spec.source.stored: {message}")
