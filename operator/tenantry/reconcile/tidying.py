"""What becomes of scheduled backups that are old: what retention keeps stays in the store, and few of it as objects."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tenantry.api.tenantbackup import BackupPhase
from tenantry.decide.deletion import parse_time
from tenantry.decide.retention import Candidate, kept
from tenantry.desired.manifest import MANIFEST, ManifestError, tenant_path
from tenantry.ports.backup import ObjectMissingError
from tenantry.reconcile.backing_up import read_manifest, remove
from tenantry.reconcile.backupobject import is_in_use
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.schedules import Scheduled
from tenantry.reconcile.shelf import Shelved, disproven
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

SHOWN: Final = 5
"""Good scheduled backups of a tenant that are TenantBackups; the others are in the store only."""
SHOWN_FAILED: Final = 3
MOST_OBJECTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A backup in the store, as its signed manifest has it; slot is empty for one that no schedule has made."""

    slot: str
    completed_at: datetime | None


class Tidying:
    """Looks after the scheduled backups of one tenant at a time."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._known: dict[str, Stored | None] = {}

    async def tidy(self, scheduled: Scheduled) -> None:
        """Remove what is not to be kept from the store, and what is to be kept from the objects but for the newest.

        Only what the signed manifest says that a schedule has made is ever removed: labels can be set by anybody.

        Raises:
            StoreError: the store refused.
            KubeError: of the management cluster.
        """
        opened = self._kit.opened.get(scheduled.store)
        if opened is None:
            return
        found = await self._stored(opened, scheduled)
        incarnation = scheduled.identity.incarnation
        objects = {each.run: each for each in self._kit.shelf.of(scheduled.tenant)}
        candidates = [
            _candidate(run, incarnation, stored, objects.get(run)) for run, stored in found.items() if stored.slot
        ]
        stays = kept(candidates, scheduled.retention, scheduled.zone, incarnation)
        for candidate in candidates:
            if candidate.name not in stays:
                await self._let_go(opened, scheduled, candidate.name, objects.get(candidate.name))
        await self._trim(scheduled)

    async def _stored(self, opened: OpenStore, scheduled: Scheduled) -> dict[str, Stored]:
        """All good backups of this incarnation, by run."""
        prefix = f"{tenant_path(scheduled.identity)}/"
        found: dict[str, Stored] = {}
        for each in await opened.store.list(prefix, most=MOST_OBJECTS):
            run, _, name = each.key.removeprefix(prefix).partition("/")
            if name != MANIFEST:
                continue
            path = f"{prefix}{run}"
            if path not in self._known:
                self._known[path] = await _read(opened, path)
            stored = self._known[path]
            if stored is not None:
                found[run] = stored
        for path in [path for path in self._known if path.startswith(prefix)]:
            if path.removeprefix(prefix) not in found:
                del self._known[path]
        return found

    async def _let_go(self, opened: OpenStore, scheduled: Scheduled, run: str, shelved: Shelved | None) -> None:
        """The object first: without what is in the store it would promise what can't be had."""
        if shelved is not None:
            if is_in_use(self._world, shelved.ref) is not None or self._world.trials.of(shelved.ref):
                return
            await self._world.management.delete(shelved.ref, uid=shelved.uid)
        path = f"{tenant_path(scheduled.identity)}/{run}"
        await remove(opened.store, path)
        self._known.pop(path, None)
        logger.info("a backup of %s is not to be kept any more and is removed: %s", scheduled.identity.tenant_id, run)

    async def _trim(self, scheduled: Scheduled) -> None:
        own = [each for each in self._kit.shelf.of(scheduled.tenant) if each.slot is not None and each.ended]
        own.sort(key=lambda each: each.slot or scheduled.since, reverse=True)
        good = [each for each in own if each.phase == BackupPhase.COMPLETED]
        bad = [each for each in own if each.phase == BackupPhase.FAILED]
        proven = next((each for each in good if each.proven_at is not None), None)  # nobody else knows when that was
        worst = disproven(self._kit.shelf.of(scheduled.tenant))
        for each in (*good[SHOWN:], *bad[SHOWN_FAILED:]):
            needed = each in (proven, worst) or self._world.trials.of(each.ref)
            if not needed and is_in_use(self._world, each.ref) is None:
                await self._world.management.delete(each.ref, uid=each.uid)


def _candidate(run: str, incarnation: int, stored: Stored, shelved: Shelved | None) -> Candidate:
    """One that was found out not to be well neither counts nor goes, as long as its object tells of that."""
    bad = shelved is not None and shelved.disproven_at is not None
    proven = shelved is not None and shelved.proven_at is not None
    return Candidate(run, incarnation, None if bad else stored.completed_at, verified=not bad, proven=proven)


async def _read(opened: OpenStore, path: str) -> Stored | None:
    """None for one that is not believed: it is neither counted nor removed."""
    try:
        manifest = await read_manifest(opened, path)
    except (ManifestError, ObjectMissingError):
        return None
    return Stored(manifest.slot, parse_time(manifest.completed_at))
