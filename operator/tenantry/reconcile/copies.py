"""The copying of databases, which takes longer than a pass: one task each, told of when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from tenantry.api.move import MovePhase
from tenantry.api.resources import TENANT_RECORDS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.halt import Halt
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Copied, Server
from tenantry.reconcile.arriving import Arrival
from tenantry.reconcile.database import SharedDatabase
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Copies under way: each is a dump, a restore, and all their bytes through this process."""
LONGEST: Final = 24 * 3600
"""Seconds; what a tenant's own indexes compute while they are filled can take for ever."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A copy that came to nothing, and why."""

    message: str


def copies_of_others(world: World, record: TenantRecord) -> int:
    """How many other tenants are stopped because their databases are copied, or about to be."""
    records = (TenantRecord.model_validate(body) for body in world.live.all(TENANT_RECORDS))
    return sum(is_copied(other) for other in records if other.name != record.name)


def is_copied(record: TenantRecord) -> bool:
    """Whether a tenant is stopped for a copy of its database; a restore stops it when all is copied."""
    move = record.spec.move
    if move is None or move.database is None or move.restore is not None:
        return False
    return move.phase in (MovePhase.STOPPING, MovePhase.COPYING)


class Copies:
    """The copies under way, by record. In memory only: one that dies with the process is begun anew by the next."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: dict[str, asyncio.Task[Copied | Failed]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def result(self, record: str) -> Copied | Failed | None:
        """What came of it; None while it is under way, or where none was begun. Told until `stop`."""
        task = self._tasks.get(record)
        if task is None or not task.done():
            return None
        return Failed("it was broken off") if task.cancelled() else task.result()

    def under_way(self, record: str) -> bool:
        """Whether one was begun, and not stopped since."""
        return record in self._tasks

    def begin(self, record: str, tenant: Ref, arrival: Arrival, old: tuple[Server, WantedDatabase]) -> None:
        """Begin one."""
        task = asyncio.create_task(self._run(arrival, old), name=f"copy {record}")
        task.add_done_callback(lambda _: self._world.wake.wake(tenant))
        self._tasks[record] = task

    async def stop(self, record: str) -> None:
        """Break one off, wait until nothing of it runs, and forget its result; no error if there is none."""
        task = self._tasks.pop(record, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, arrival: Arrival, old: tuple[Server, WantedDatabase]) -> Copied | Failed:
        try:
            async with self._slots, asyncio.timeout(LONGEST):
                return await self._copy(arrival, old)
        except TimeoutError:
            return Failed(f"it took longer than {LONGEST // 3600} hours")
        except (Halt, DatabaseError) as error:
            return Failed(error.message)
        except Exception:  # whatever it is: a tenant that is stopped has to be opened again
            logger.exception("a copy ended in an error that nobody thought of")
            return Failed("an error of the operator's own: see its log")

    async def _copy(self, arrival: Arrival, old: tuple[Server, WantedDatabase]) -> Copied | Failed:
        new: SharedDatabase | None = arrival.shared()
        if new is None:
            return Failed("this tenant has no database to be copied")
        await arrival.make_empty(new)
        admin, wanted, password = new.server.admin, new.wanted, self._world.token()
        # Known to nobody else, and locked again before anybody else is told of the new side.
        await admin.set_password(wanted, wanted.logins[0], password)
        copied = await self._world.copier.copy(*old, new.server, wanted, password)
        await admin.lock_logins(wanted)
        return copied
