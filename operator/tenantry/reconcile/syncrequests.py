"""The requests to look through BackupStores: each value of the annotation once, a task at a time a store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from tenantry.api.backupstore import BackupStore, StoreSync
from tenantry.api.conditions import Reason
from tenantry.api.names import ANNOTATION_SYNC_FROM_STORE
from tenantry.api.resources import BACKUP_STORES, Ref
from tenantry.decide.deletion import time_text
from tenantry.ports.backup import StoreError
from tenantry.ports.kube import KubeError
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.storesync import Walk
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

MOST_CHARACTERS: Final = 128
RETRY_SECONDS: Final = 30.0
UNDER_WAY: Final = "the store is being looked through"


@dataclass(frozen=True, slots=True)
class _Running:
    request: str
    started_at: str
    task: asyncio.Task[StoreSync | str]


class SyncRequests:
    """By BackupStore. In memory only: what dies with the process is begun again, for its status lacks an end."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._running: dict[str, _Running] = {}
        self._not_before: dict[str, float] = {}

    def look_after(self, spec: BackupStore, opened: OpenStore | None) -> StoreSync | None:
        """Begin, or hear of, what is asked for; what the status is to say of it.

        Args:
            spec: The BackupStore.
            opened: None where it does not answer now.
        """
        former, running = spec.status.sync, self._running.get(spec.name)
        if running is not None:
            return self._heard(spec, running)
        request = spec.metadata.annotations.get(ANNOTATION_SYNC_FROM_STORE, "")[:MOST_CHARACTERS]
        same = former is not None and former.request == request
        if not request or (same and former is not None and former.completed_at is not None):
            return former
        started_at = former.started_at if same and former is not None else time_text(self._world.clock.now())
        if same and self._world.clock.monotonic() < self._not_before.get(spec.name, 0.0):
            return former
        if opened is None:
            why = former.message if same and former is not None and former.message != UNDER_WAY else ""
            return StoreSync(request=request, started_at=started_at, message=why or "it waits until the store is Ready")
        self._begin(spec, opened, request, started_at)
        return StoreSync(request=request, started_at=started_at, message=UNDER_WAY)

    def stop(self, name: str) -> None:
        """Break off what is under way: the store is let go of."""
        self._not_before.pop(name, None)
        running = self._running.pop(name, None)
        if running is not None:
            running.task.cancel()

    def _heard(self, spec: BackupStore, running: _Running) -> StoreSync:
        """The result of one that has ended; or that it has not."""
        told = StoreSync(request=running.request, started_at=running.started_at, message=UNDER_WAY)
        if not running.task.done():
            return told
        del self._running[spec.name]
        result = "it was broken off" if running.task.cancelled() else running.task.result()
        if isinstance(result, str):
            self._not_before[spec.name] = self._world.clock.monotonic() + RETRY_SECONDS
            return told.model_copy(update={"message": f"it is begun again: {result}"[:1024]})
        self._announce(spec, result)
        self._world.wake.wake(Ref(BACKUP_STORES, "", spec.name))  # there may be a newer request
        return result.model_copy(update={"completed_at": time_text(self._world.clock.now())})

    def _announce(self, spec: BackupStore, result: StoreSync) -> None:
        logger.info("BackupStore %s was looked through: %s", spec.name, result.message)
        about = self._world.live.get(Ref(BACKUP_STORES, "", spec.name))
        if about is not None:
            bad = bool(result.quarantine or result.unmapped or not result.found)
            self._world.events.emit(about, warning=bad, reason=Reason.STORE_SYNCED, message=result.message)

    def _begin(self, spec: BackupStore, opened: OpenStore, request: str, started_at: str) -> None:
        work = self._work(spec, opened, request, started_at)
        task = asyncio.create_task(work, name=f"sync from {spec.name}")
        self._running[spec.name] = _Running(request, started_at, task)
        task.add_done_callback(lambda _: self._world.wake.wake(Ref(BACKUP_STORES, "", spec.name)))

    async def _work(self, spec: BackupStore, opened: OpenStore, request: str, started_at: str) -> StoreSync | str:
        try:
            walk = Walk(self._world, self._kit, spec.name, opened, spec.spec.allowed_workspaces)
            return await walk.run(request, started_at)
        except (StoreError, KubeError) as error:
            return error.message
        except Exception:  # who asked for it is to be told, and asks again
            logger.exception("a look through a store ended in an error that nobody thought of")
            return "an error of the operator's own: see its log"
