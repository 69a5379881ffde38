"""Trials: the backups that are just being restored to see whether they can be, and what was found out of others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tenantry.api.resources import Ref


class Verdict(StrEnum):
    """What a trial says of a backup."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_POSSIBLE = "not_possible"
    """Nothing: it could not be tried."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a trial ended.

    Attributes:
        message: What was found, for the workspace; no secrets.
        detail: What only the platform team is to know of it.
        ended_at: In UTC.
        seconds: It took.
        spent: It was broken off for the time or the room that it took, which are its tenant's doing.
    """

    verdict: Verdict
    message: str
    ended_at: datetime
    seconds: float
    detail: str = ""
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One under way.

    Attributes:
        backup: The TenantBackup.
        uid: Its UID: another one may get its name.
        tenant: Whose it is.
        store: The BackupStore that it is in.
        database: That it is restored into.
    """

    backup: Ref
    uid: str
    tenant: Ref
    store: str
    database: str
    task: asyncio.Task[Finding]


class Trials:
    """One a server at most. In memory only: what dies with the process has told nothing, and is begun anew."""

    def __init__(self) -> None:
        self._by_server: dict[str, Trial] = {}
        self._unswept: set[str] = set()
        self._findings: dict[tuple[Ref, str], Finding] = {}
        self._obstacles: dict[Ref, str] = {}

    # --- under way ------------------------------------------------------------------------------------------------
    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._by_server)

    def on_server(self, server: str) -> Trial | None:
        """The one that is under way on a server."""
        return self._by_server.get(server)

    def of(self, backup: Ref) -> bool:
        """Whether a backup is just being read for one."""
        return any(trial.backup == backup for trial in self._by_server.values())

    def tenants(self) -> set[Ref]:
        """Those of whom a backup is just being tried."""
        return {trial.tenant for trial in self._by_server.values()}

    def databases(self) -> set[str]:
        """The scratch databases that are in use."""
        return {trial.database for trial in self._by_server.values()}

    def begin(self, server: str, trial: Trial) -> None:
        """Note one that has begun; there must be none on that server."""
        self._by_server[server] = trial

    def take_ended(self) -> list[tuple[str, Trial]]:
        """Those that have come to their end since this was asked last, with their servers."""
        ended = [(server, trial) for server, trial in self._by_server.items() if trial.task.done()]
        for server, _ in ended:
            del self._by_server[server]
        return ended

    def is_unswept(self, server: str) -> bool:
        """Whether one that was broken off may have left something on a server, which nobody took note of yet."""
        return server in self._unswept

    def take_unswept(self) -> set[str]:
        """The servers on which one was broken off since this was asked last."""
        taken, self._unswept = self._unswept, set()
        return taken

    async def stop(self, backup: Ref) -> None:
        """The backup goes: break its trial off, wait until nothing of it is left, and forget what was found."""
        self._findings = {key: finding for key, finding in self._findings.items() if key[0] != backup}
        for server, trial in list(self._by_server.items()):
            if trial.backup == backup:
                await self.stop_on(server)

    async def stop_on(self, server: str) -> None:
        """Break off what is under way on a server, and wait until nothing of it is left; no error if nothing is."""
        trial = self._by_server.get(server)
        if trial is None:
            return
        trial.task.cancel()
        await asyncio.gather(trial.task, return_exceptions=True)
        if self._by_server.get(server) is trial:
            self._unswept.add(server)  # it may have left something, as far as the server did not let it be dropped
            del self._by_server[server]

    async def stop_all(self) -> None:
        """Break all of them off."""
        await asyncio.gather(*(self.stop_on(server) for server in list(self._by_server)))

    # --- found out ------------------------------------------------------------------------------------------------
    def found(self, backup: Ref, uid: str, finding: Finding) -> None:
        """What is to be told of a backup."""
        self._findings[backup, uid] = finding

    def finding(self, backup: Ref, uid: str) -> Finding | None:
        """What is to be told of a backup, and was not yet."""
        return self._findings.get((backup, uid))

    def told(self, backup: Ref, uid: str) -> None:
        """It was."""
        self._findings.pop((backup, uid), None)

    def hinder(self, tenant: Ref, why: str) -> bool:
        """Note why a tenant's backup can't be restored on trial now (empty: it can); whether that is news."""
        former = self._obstacles.get(tenant, "")
        if why:
            self._obstacles[tenant] = why
        else:
            self._obstacles.pop(tenant, None)
        return former != why

    def hindered(self) -> list[Ref]:
        """The tenants for whom something stands in the way."""
        return list(self._obstacles)

    def obstacle(self, tenant: Ref) -> str:
        """Why a tenant's backup can't be restored on trial now; empty where nothing is known to stand in the way."""
        return self._obstacles.get(tenant, "")
