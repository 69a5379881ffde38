"""What goes from a store with a TenantBackup: all if that is its policy, and always what never became a backup."""

from __future__ import annotations

from typing import Final

from tenantry.api.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, Ref
from tenantry.api.tenantbackup import BackupPhase, TenantBackup
from tenantry.desired.manifest import ManifestError
from tenantry.ports.backup import ObjectMissingError, StoreError
from tenantry.ports.kube import NotFoundError
from tenantry.reconcile.backing_up import read_manifest, remove
from tenantry.reconcile.backupobject import path_of
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.world import World

KIND: Final = Ref(CUSTOM_RESOURCE_DEFINITIONS, "", "tenantbackups.tenantry.io")
PATIENCE_SECONDS: Final = 45.0
"""How long a store, or a server, may keep silent about what nobody will ask for, before the TenantBackup goes."""


class Clearing:
    """Clears away after TenantBackups that are being deleted."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._since: dict[Ref, float] = {}

    def forget(self, key: Ref) -> None:
        """It is gone."""
        self._since.pop(key, None)

    async def clear(self, key: Ref, backup: TenantBackup) -> bool:
        """Take out what goes with it; False if that is to be tried again soon.

        Raises:
            StoreError: what its policy says is to go can't be deleted.
        """
        path = path_of(self._world, backup)
        all_of_it = backup.spec.deletion_policy == "Delete" and not await self._is_swept_away(backup)
        if path is None or (backup.status.phase == BackupPhase.COMPLETED and not all_of_it):
            return True
        if backup.spec.source.stored is not None:
            return True  # this object has not made it: another one may be about it, or just making it
        opened = self._kit.opened.get(backup.spec.store)
        try:
            if opened is None:
                raise StoreError(self._kit.opened.why_not(backup.spec.store))  # noqa: TRY301 - told like the store's own
            if all_of_it or await _is_unfinished(opened, path):
                await remove(opened.store, path)
        except StoreError:
            if all_of_it:
                raise
            return not self.is_patient(key)
        return True

    def is_patient(self, key: Ref) -> bool:
        """Whether somebody who does not answer is still waited for."""
        now = self._world.clock.monotonic()
        return now - self._since.setdefault(key, now) < PATIENCE_SECONDS

    async def _is_swept_away(self, backup: TenantBackup) -> bool:
        """It goes because its workspace or its kind goes: what is in the store is not meant by that."""
        workspace = self._world.live.get(Ref(NAMESPACES, "", backup.metadata.namespace))
        if workspace is None or "deletionTimestamp" in workspace["metadata"]:
            return True
        try:
            kind = await self._world.management.get(KIND)
        except NotFoundError:
            return True
        return "deletionTimestamp" in kind["metadata"]


async def _is_unfinished(opened: OpenStore, path: str) -> bool:
    """Whether there is no manifest: what is there then is no backup. One that is not believed is left to people.

    Raises:
        StoreError: it can't be told.
    """
    try:
        await read_manifest(opened, path)
    except ObjectMissingError:
        return True
    except ManifestError:
        pass
    return False
