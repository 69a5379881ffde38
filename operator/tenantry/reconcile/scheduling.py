"""Backups by the clock: makes the TenantBackups that are due, not too many at a time, and lets go of old ones."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from tenantry.api.names import ANNOTATION_SLOT, LABEL_SCHEDULED
from tenantry.api.resources import TENANT_BACKUPS, Ref
from tenantry.api.tenantbackup import TenantBackup
from tenantry.decide.deletion import time_text
from tenantry.decide.schedule import due
from tenantry.ports.backup import StoreError
from tenantry.ports.kube import AlreadyExistsError, KubeError
from tenantry.ports.world import Json
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.schedules import Scheduled
from tenantry.reconcile.tidying import Tidying
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 5.0
MOST_WAITING: Final = 4
"""Scheduled backups of one store, or of one server, that have not ended: what is due beyond that waits its turn."""
TIDY_SECONDS: Final = 120.0


class Scheduling:
    """Acts on the schedules of all tenants."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._tidying = Tidying(world, kit)
        self._last_look: datetime | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.tick()
            except KubeError as error:
                logger.warning("schedules of backups could not be acted upon: %s", error.message)
            except Exception:  # one bad tick must not be the last: nobody would be backed up any more
                logger.exception("schedules of backups could not be acted upon")
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        """Make what is due, and tidy up after what has ended.

        Raises:
            KubeError: of the management cluster; what was not made is due at the next tick.
        """
        kit, now = self._kit, self._world.clock.now()
        if self._last_look is not None and now < self._last_look - timedelta(minutes=1):
            kit.schedules.look_soon()
        self._last_look = now
        stores, servers = self._load()
        for scheduled in kit.schedules.to_be_looked_at(now):
            if stores[scheduled.store] >= MOST_WAITING or servers[scheduled.server] >= MOST_WAITING:
                continue  # its turn comes: nothing is worked out for it before that
            slot, coming = due(scheduled.schedule, self._last(scheduled, now), now, scheduled.zone, scheduled.delay)
            if slot is None:
                kit.schedules.look_again(scheduled.tenant, coming)
            else:
                await self._make(scheduled, slot)
                stores[scheduled.store] += 1
                servers[scheduled.server] += 1
        await self._tidy_up()

    def _load(self) -> tuple[Counter[str], Counter[str]]:
        waiting = self._kit.shelf.waiting()
        of = self._kit.schedules.get
        servers = (found.server for each in waiting if (found := of(each.tenant)) is not None)
        return Counter(each.store for each in waiting), Counter(servers)

    def _last(self, scheduled: Scheduled, now: datetime) -> datetime:
        """The last slot that was run. One that is yet to come was run by a clock that had jumped: it does not count."""
        slots = (each.slot for each in self._kit.shelf.of(scheduled.tenant))
        return max((slot for slot in slots if slot is not None and slot <= now), default=scheduled.since)

    async def _make(self, scheduled: Scheduled, slot: datetime) -> None:
        """One slot, one name: whoever makes it twice finds it there."""
        ref = Ref(TENANT_BACKUPS, scheduled.tenant.namespace, backup_name(scheduled, slot))
        try:
            body = await self._world.management.create(_manifest(scheduled, slot, ref))
            logger.info("%s is backed up for its slot of %s", scheduled.tenant.name, time_text(slot))
        except AlreadyExistsError:
            body = await self._world.management.get(ref)
        self._world.live.observe(body)
        backup = TenantBackup.read(body)
        self._kit.shelf.note(backup)
        if backup.metadata.annotations.get(ANNOTATION_SLOT) != time_text(slot):
            # Somebody has taken the name: this slot is lost to it, and the next one is not.
            self._kit.schedules.look_again(scheduled.tenant, scheduled.next_run(self._world.clock.now()))
        self._world.wake.wake(ref)

    async def _tidy_up(self) -> None:
        for tenant in self._kit.take_untidy():
            scheduled = self._kit.schedules.get(tenant)
            if scheduled is None:
                continue
            try:
                async with asyncio.timeout(TIDY_SECONDS):
                    await self._tidying.tidy(scheduled)
            except (StoreError, TimeoutError) as error:
                # Not again before the next good backup: a store that refuses, as one with object lock does, goes on so.
                logger.warning("old backups of %s stay for now: %s", scheduled.identity.tenant_id, error)


def backup_name(scheduled: Scheduled, slot: datetime) -> str:
    """Of the TenantBackup for one slot."""
    return f"{scheduled.tenant.name}-{slot:%Y%m%d%H%M}-{scheduled.identity.tenant_hash[:4]}"


def _manifest(scheduled: Scheduled, slot: datetime, ref: Ref) -> Json:
    return {
        "apiVersion": TENANT_BACKUPS.api_version,
        "kind": TENANT_BACKUPS.kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {LABEL_SCHEDULED: "true"},
            "annotations": {ANNOTATION_SLOT: time_text(slot)},
        },
        "spec": {
            "source": {"tenant": {"name": scheduled.tenant.name}},
            "store": scheduled.store,
            "description": f"scheduled for {time_text(slot)}",
        },
    }
