"""Before a DatabaseServer is let go: what restores on trial have left there is dropped, within a limited patience."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenantry.api.conditions import Reason
from tenantry.api.databaseserver import DatabaseServer
from tenantry.api.resources import DATABASE_SERVERS, Ref
from tenantry.ports.postgres import DatabaseError
from tenantry.ports.servers import Server
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.scratch import PREFIX, sweep
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 60.0
PARTING_RETRY: Final = 15.0
PATIENCE_SECONDS: Final = 120.0
"""So long a server is tried that does not answer, or does not let itself be swept: it may be gone for good."""


class Partings:
    """By the UID of the DatabaseServer. In memory only: the patience begins anew with each start."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._since: dict[str, float] = {}

    async def wait(self, spec: DatabaseServer, server: Server | None, why_not: str) -> str:
        """Sweep a server that nothing is under way on.

        Args:
            spec: It.
            server: Its connection, as far as there is one.
            why_not: What is known of why it can't be used, if it can't.

        Returns:
            Empty if it can be let go; else what it waits for.
        """
        if spec.status.system_identifier is None and (server is None or server.facts is None):
            return ""  # it never was ready: nothing was ever made there
        problem = await self._sweep(server, why_not)
        if not problem:
            self._since.pop(spec.metadata.uid, None)
            return ""
        now = self._world.clock.monotonic()
        logger.warning("what restores on trial may have left on %s can't be dropped: %s", spec.name, problem)
        if now - self._since.setdefault(spec.metadata.uid, now) < PATIENCE_SECONDS:
            return (
                f"it is let go when what restores on trial may have left there was dropped, which is tried for "
                f"{PATIENCE_SECONDS:g} s: {problem}"
            )
        self._since.pop(spec.metadata.uid, None)
        self._tell_what_is_left(spec, problem)
        return ""

    async def _sweep(self, server: Server | None, why_not: str) -> str:
        """What stands in the way; empty if nothing did."""
        if server is None or server.facts is None:
            return why_not or "it was not probed yet"
        world = self._world
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                await sweep(self._kit, server, world.settings.management_id, world.trials.databases())
        except DatabaseError as error:
            return error.message
        except TimeoutError:
            return f"it took longer than {SWEEP_SECONDS:g} s"
        return ""

    def _tell_what_is_left(self, spec: DatabaseServer, problem: str) -> None:
        about = self._world.live.get(Ref(DATABASE_SERVERS, "", spec.name))
        if about is not None:
            told = (
                f"let go, though restores on trial may have left databases and roles {PREFIX}* there, with tenants' "
                f"data, and their claims: register the server again once it answers, and they are dropped ({problem})"
            )
            self._world.events.emit(about, warning=True, reason=Reason.ORPHANED, message=told)
