"""The copying of databases, which takes longer than a pass: one task each, told of when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from tenantry.api.resources import Ref
from tenantry.decide.halt import Halt
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Copied, Server
from tenantry.reconcile.arriving import Arrival
from tenantry.reconcile.database import SharedDatabase
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Copies under way: each is a dump, a restore, and all their bytes through this process."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A copy that came to nothing, and why."""

    message: str


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
            async with self._slots:
                return await self._copy(arrival, old)
        except (Halt, DatabaseError) as error:
            return Failed(error.message)
        except Exception:
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
