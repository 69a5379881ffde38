"""A BackupStore looked through for backups without TenantBackups: after a management cluster was lost, or one object.

Nothing in the store is written, moved or deleted. TenantBackups with `source.stored` are made: each is
believed, or not, by its own reconcile. So it can be broken off anywhere and begun again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from tenantry.api.backupstore import Quarantined, StoreSync, UnmappedWorkspace
from tenantry.api.base import AllowedWorkspaces
from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE, ANNOTATION_SLOT, LABEL_SCHEDULED
from tenantry.api.resources import NAMESPACES, TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import TenantBackup
from tenantry.decide.deletion import parse_time
from tenantry.decide.recovering import Found, with_newest
from tenantry.decide.workspaces import allows
from tenantry.desired.manifest import MANIFEST, Manifest, ManifestError, dump_name, place_of
from tenantry.ports.backup import ObjectMissingError, StoreError, StoreUnreachableError
from tenantry.ports.kube import AlreadyExistsError, ForbiddenError, InvalidError
from tenantry.ports.world import Json
from tenantry.reconcile.backupobject import accepted_ids, path_within
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.takingup import whole_manifest
from tenantry.reconcile.workspace import Workspace, workspaces_by_uid
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Manifests that are read, and held, at the same time."""
WRITE_SECONDS: Final = 0.1
"""Between two TenantBackups that are made."""
TOLD: Final = 20
_PARTS: Final = (MANIFEST, dump_name(encrypted=False), dump_name(encrypted=True))
LOGGED: Final = 200


@dataclass(slots=True)
class Tally:
    """What was found so far."""

    found: int = 0
    present: int = 0
    made: int = 0
    good: int = 0
    quarantined: int = 0
    quarantine: list[Quarantined] = field(default_factory=list)
    unmapped: Counter[str] = field(default_factory=Counter)
    unmapped_names: dict[str, str] = field(default_factory=dict)

    def reject(self, path: str, reason: str) -> None:
        """Something is not believed."""
        self.quarantined += 1
        self.tell(path, reason)

    def tell(self, path: str, reason: str) -> None:
        """Something is to be looked at by people."""
        if len(self.quarantine) < TOLD:
            self.quarantine.append(Quarantined(path=path[:512], reason=reason[:1024]))
        if self.quarantined <= LOGGED:
            logger.warning("%s in the store is left alone: %s", path, reason)


class Walk:
    """One look through one store."""

    def __init__(self, world: World, kit: BackupKit, store: str, opened: OpenStore, allowed: AllowedWorkspaces) -> None:
        self._world = world
        self._kit = kit
        self._store = store
        self._opened = opened
        self._allowed = allowed
        self._homes = workspaces_by_uid(world)
        self._present = _present(world, store, self._homes)
        self._newest: dict[object, tuple[Found, ...]] = {}
        self._tally = Tally()

    async def run(self, request: str, started_at: str) -> StoreSync:
        """All of it; the answer lacks the time of its end.

        Raises:
            StoreError: the store refused, or did not answer.
            KubeError: of the management cluster.
        """
        ids = accepted_ids(self._world, self._store)
        for management_id in ids:
            batch: list[tuple[str, Mapping[str, int]]] = []
            async with aclosing(self._manifests(f"{management_id}/")) as manifests:
                async for each in manifests:
                    batch.append(each)
                    if len(batch) == AT_ONCE:
                        await self._look_at(batch)
                        batch = []
            await self._look_at(batch)
        for few in self._newest.values():
            for found in few:
                if not found.present:
                    await self._make(found)
        return self._told(request, started_at, ids)

    # --- looking --------------------------------------------------------------------------------------------------
    async def _manifests(self, prefix: str) -> AsyncGenerator[tuple[str, Mapping[str, int]], None]:
        """Path of each, and the sizes of what was listed just before it: stores list by name, folders as they like."""
        current, sizes = "", dict[str, int]()
        async for each in self._opened.store.walk(prefix):
            path, _, name = each.key.rpartition("/")
            if path != current:
                current, sizes = path, {}
            if name in _PARTS:  # whatever else somebody has put there, and however much
                sizes[name] = each.size
            if name == MANIFEST:
                yield path, dict(sizes)

    async def _look_at(self, batch: list[tuple[str, Mapping[str, int]]]) -> None:
        findings = await asyncio.gather(*(self._examined(path, sizes) for path, sizes in batch))
        for (path, _), finding in zip(batch, findings, strict=True):
            if finding is None:
                continue
            self._tally.found += 1
            if isinstance(finding, str):
                self._tally.reject(path, finding)
            else:
                self._take(finding)

    async def _examined(self, path: str, sizes: Mapping[str, int]) -> Manifest | str | None:
        """The manifest; why it is not believed; or nothing, if it went meanwhile."""
        if place_of(path) is None:
            return "its path is none that backups have"
        try:
            return await whole_manifest(self._opened, path, sizes)
        except ObjectMissingError:
            return None
        except ManifestError as error:
            return error.message
        except StoreUnreachableError:
            raise
        except StoreError as error:  # of this one object: it may be in an archive that has to be thawed
            return f"it can't be read: {error.message}"

    def _take(self, manifest: Manifest) -> None:
        tally, identity = self._tally, manifest.identity
        home = self._homes.get(identity.workspace_uid)
        if home is None or not allows(self._allowed, home.labels):
            tally.unmapped[identity.workspace_uid] += 1
            tally.unmapped_names[identity.workspace_uid] = identity.workspace
            return
        tally.good += 1
        present = manifest.path in self._present
        tally.present += present
        slot = manifest.slot if parse_time(manifest.slot) is not None else ""
        found = Found(home.name, identity, manifest.run, manifest.backup, slot, manifest.completed_at, present)
        self._newest[found.sort] = with_newest(self._newest.get(found.sort, ()), found)

    # --- making ---------------------------------------------------------------------------------------------------
    async def _make(self, found: Found) -> None:
        """One backup, one name: whoever makes it twice finds it there."""
        world, body = self._world, tenant_backup(found, self._store, self._world.settings.management_id)
        ref = Ref(TENANT_BACKUPS, found.workspace, body["metadata"]["name"])
        try:
            made = await world.management.create(body)
            self._tally.made += 1
        except AlreadyExistsError:
            made = await world.management.get(ref)
            if TenantBackup.read(made).spec.source.stored is None:
                self._tally.tell(str(ref), "another TenantBackup has this name: delete it, and ask again")
                return
            self._tally.present += 1
        except (ForbiddenError, InvalidError) as error:
            self._tally.tell(str(ref), f"no TenantBackup could be made: {error.message}")
            return
        world.live.observe(made)
        self._kit.shelf.note(TenantBackup.read(made))
        world.wake.wake(ref)
        await asyncio.sleep(WRITE_SECONDS)

    # --- telling --------------------------------------------------------------------------------------------------
    def _told(self, request: str, started_at: str, ids: tuple[str, ...]) -> StoreSync:
        tally = self._tally
        unmapped = sum(tally.unmapped.values())
        left = tally.good - tally.present - tally.made
        message = (
            f"{tally.found} manifests: {tally.present} had TenantBackups, {tally.made} were given one, {left} are in "
            f"the store only, {unmapped} are of workspaces that are not there, {tally.quarantined} are not believed"
        )
        if not tally.found:
            message = f"nothing was found of management id {', '.join(ids)}: is it that of the cluster that was lost?"
        return StoreSync(
            request=request,
            started_at=started_at,
            message=message[:1024],
            found=tally.found,
            present=tally.present,
            made=tally.made,
            left=left,
            unmapped=unmapped,
            quarantined=tally.quarantined,
            quarantine=tally.quarantine,
            unmapped_workspaces=[self._unmapped(uid, count) for uid, count in tally.unmapped.most_common(TOLD)],
        )

    def _unmapped(self, uid: str, count: int) -> UnmappedWorkspace:
        name = self._tally.unmapped_names[uid]
        reason = f"no namespace has this UID; {ANNOTATION_ADOPT_WORKSPACE}={uid} on one that is to have them maps it"
        if uid in self._homes:
            reason = f"the workspace {self._homes[uid].name!r} may not use this BackupStore: see allowedWorkspaces"
        elif self._world.live.get(Ref(NAMESPACES, "", name)) is not None:
            reason = f"the namespace {name!r} is another one, which only has the name; {reason}"
        return UnmappedWorkspace(uid=uid, name=name, backups=count, reason=reason)


def tenant_backup(found: Found, store: str, management_id: str) -> Json:
    """The TenantBackup of a backup that is in a store."""
    identity = found.identity
    stored: Json = {"run": found.run, "incarnation": identity.incarnation}
    if identity.workspace != found.workspace:
        stored["workspace"] = identity.workspace
    if identity.management_id != management_id:
        stored["managementId"] = identity.management_id
    metadata: Json = {"name": f"{identity.name}-{found.run}", "namespace": found.workspace}
    if found.slot:
        metadata |= {"labels": {LABEL_SCHEDULED: "true"}, "annotations": {ANNOTATION_SLOT: found.slot}}
    return {
        "apiVersion": TENANT_BACKUPS.api_version,
        "kind": TENANT_BACKUPS.kind,
        "metadata": metadata,
        "spec": {
            "source": {"tenant": {"name": identity.name}, "stored": stored},
            "store": store,
            "description": f"found in the store: {found.name}"[:1024],
        },
    }


def _present(world: World, store: str, homes: Mapping[str, Workspace]) -> frozenset[str]:
    """Where the TenantBackups of a store are."""
    uids = {home.name: uid for uid, home in homes.items()}
    found = set[str]()
    for body in world.live.all(TENANT_BACKUPS):
        backup = TenantBackup.read(body)
        uid = uids.get(backup.metadata.namespace)
        path = path_within(world, backup, uid) if backup.spec.store == store and uid is not None else None
        found |= {path} if path is not None else set()
    return frozenset(found)
