"""The work of a trial: a backup is restored into a scratch database, its rows are counted, and all of it is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from tenantry.decide.trial import (
    LONGEST_TIME,
    Ground,
    Specimen,
    blames_content,
    free,
    obstacle,
    readable,
    room_for,
    time_for,
)
from tenantry.desired.manifest import MANIFEST, MOST_BYTES, Manifest, ManifestError
from tenantry.ports.backup import DumpImpossibleError, ObjectMissingError, SealError, ServerUse, StoreError
from tenantry.ports.postgres import DatabaseError, ProgramFailedError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.ports.world import Clock
from tenantry.reconcile.backing_up import read_manifest
from tenantry.reconcile.database import DROPPING, is_own
from tenantry.reconcile.filling import ContentChangedError, differing_rows, fill, read_whole
from tenantry.reconcile.openstores import BackupKit, OpenStore, probe_key
from tenantry.reconcile.scratch import Scratch, made
from tenantry.reconcile.trials import Finding, Verdict

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 15.0
ATTEMPTS: Final = 2
"""A backup is only said to be bad when it could not be restored so many times in a row."""
REFUSED: Final = "it can't be restored: PostgreSQL refuses its content; the operator's log has what it says"
"""What it says is told to no workspace: there may be a row in it, or what the tenant's code has found out there."""
NOT_HELD: Final = "the server for trials could not go on with it, and the operator's log has why"
DIFFERS: Final = "what was restored has not the rows that were backed up"


class BadBackupError(Exception):
    """A backup that can't be restored, whatever is tried.

    Attributes:
        message: What was found, for the workspace.
        detail: What only the platform team is to know of it.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class NotPossibleError(Exception):
    """A backup can't be restored now, which says nothing about it.

    Attributes:
        message: Why, for the workspace.
        detail: What only the platform team is to know of it.
        spent: It has taken too much.
    """

    def __init__(self, message: str, detail: str = "", *, spent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.spent = spent


@dataclass(frozen=True, slots=True)
class TrialJob:
    """One trial.

    Attributes:
        path: Where the backup is in its store.
        capacity: In bytes, what the databases of the server may take together; None where nobody has said it.
        wanted: The names of the scratch database.
        token: Makes passwords.
        discreet: The server is one that the workspace may know nothing of.
    """

    path: str
    opened: OpenStore
    server: Server
    capacity: int | None
    wanted: WantedDatabase
    token: Callable[[], str]
    discreet: bool = False


class TrialWork:
    """Makes one trial; what it leaves is nothing, as far as the server lets it."""

    def __init__(self, kit: BackupKit, clock: Clock, job: TrialJob) -> None:
        self._kit = kit
        self._clock = clock
        self._job = job

    async def run(self) -> Finding:
        """All of it; only what is the backup's own fault is Failed."""
        began = self._clock.monotonic()
        verdict, detail, spent = Verdict.NOT_POSSIBLE, "", False
        try:
            message = await self._within_time()
            verdict = Verdict.PASSED
        except BadBackupError as error:
            verdict, message, detail = Verdict.FAILED, error.message, error.detail
        except NotPossibleError as error:
            message, detail, spent = error.message, error.detail, error.spent
        except (DatabaseError, DumpImpossibleError) as error:
            message, detail = error.message, error.message
            if self._job.discreet:  # it may have the server's address in it
                message = "the server for trials refused it, or did not answer"
        except (StoreError, SealError) as error:
            message = error.message
        except Exception:  # it says nothing against the backup, and the server is free again
            logger.exception("a trial ended in an error that nobody thought of")
            message = "an error of the operator's own: see its log"
        return Finding(verdict, message[:1024], self._clock.now(), self._clock.monotonic() - began, detail, spent)

    async def _within_time(self) -> str:
        """After the last byte constraints and indexes are made, which may be an endless loop of the tenant's."""
        allowed = LONGEST_TIME
        limit = asyncio.timeout(allowed.total_seconds())
        try:
            async with limit:
                manifest = await self._manifest()
                allowed = time_for(manifest.database_size)
                limit.reschedule(asyncio.get_running_loop().time() + allowed.total_seconds())
                return await self._run(manifest)
        except TimeoutError as error:
            if not limit.expired():
                raise
            told = f"it took longer than {allowed.total_seconds() / 60:.0f} minutes: it was broken off"
            raise NotPossibleError(told, spent=True) from error

    async def _run(self, manifest: Manifest) -> str:
        before = await self._look(manifest)
        await self._read(manifest)
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._restore(manifest)
            except ProgramFailedError as error:
                if not blames_content(error.message) or not await self._has_held(before):
                    raise NotPossibleError(NOT_HELD, error.message) from error
                if not left:
                    raise BadBackupError(REFUSED, error.message) from error
        raise AssertionError("the last attempt returns or raises")

    # --- before it ------------------------------------------------------------------------------------------------
    async def _manifest(self) -> Manifest:
        job = self._job
        try:
            return await read_manifest(job.opened, job.path)
        except ManifestError as error:
            raise BadBackupError(f"its manifest can't be believed: {error.message}") from error
        except ObjectMissingError as error:
            raise await self._missing(MANIFEST) from error

    async def _missing(self, name: str) -> Exception:
        """Of an object that is not there: the store itself may be gone, or be another, which says nothing about it."""
        try:
            await self._job.opened.store.get(probe_key(self._job.path.partition("/")[0]), most=MOST_BYTES)
        except StoreError as error:
            return NotPossibleError(f"its {name} is not there, nor is the operator's own probe: {error.message}")
        return BadBackupError(f"its {name} is not in the store any more")

    async def _look(self, manifest: Manifest) -> ServerUse:
        job = self._job
        facts = job.server.facts
        if facts is None:
            raise NotPossibleError("the server for trials was not probed yet")
        use = await self._kit.loader.use_of(job.server)
        specimen = Specimen(
            server_version=manifest.server_version,
            extensions=frozenset(extensions_of(manifest)),
            readable=not manifest.encrypted or bool(job.opened.identities),
            size=manifest.database_size,
        )
        ground = Ground(facts.version, facts.extensions, job.capacity, use.used)
        if why := obstacle(specimen, ground):
            figures = (
                f"{readable(use.used)} of {readable(job.capacity or 0)} taken, {readable(free(ground))} for trials"
            )
            raise NotPossibleError(why, figures)
        await self._kit.loader.check(job.server, manifest.tool_major)
        return use

    async def _read(self, manifest: Manifest) -> None:
        for left in reversed(range(ATTEMPTS)):
            try:
                return await read_whole(self._job.opened, manifest)
            except ContentChangedError as error:
                if not left:
                    raise BadBackupError(error.message) from error
            except ObjectMissingError as error:
                raise await self._missing(manifest.database.name) from error
        return None

    # --- the restore ----------------------------------------------------------------------------------------------
    async def _restore(self, manifest: Manifest) -> str:
        job = self._job
        wanted = replace(job.wanted, extensions=extensions_of(manifest))
        async with made(self._kit, Scratch(job.server, wanted)):
            filling = fill(self._kit, job.opened, manifest, job.server, wanted, job.token())
            try:
                await guarded(filling, lambda: self._check_growth(manifest))
            except ContentChangedError as error:
                raise BadBackupError(error.message) from error
            except ProgramFailedError as error:
                if not await self._is_ours(wanted):
                    told = "its scratch database was dropped meanwhile, as another operator does that begins"
                    raise NotPossibleError(told) from error
                raise
            found = await self._kit.dumper.count(job.server, wanted)
        if differs := differing_rows(manifest, found):
            raise BadBackupError(DIFFERS if job.discreet else differs, differs)
        return f"{sum(found.values())} rows of {len(found)} tables, as many as were backed up"

    async def _is_ours(self, wanted: WantedDatabase) -> bool:
        """Whether nobody has begun to drop the scratch database, in which nothing can be restored then."""
        state = await self._job.server.admin.inspect(wanted)
        claim = state.claim
        return state.exists and claim is not None and is_own(claim, wanted) and claim.state != DROPPING

    async def _check_growth(self, manifest: Manifest) -> None:
        """What is in an archive is the tenant's code: it may fill a server on purpose."""
        job, most = self._job, room_for(manifest.database_size)
        if await self._kit.loader.size(job.server, job.wanted) > most:
            told = f"while it was restored it took more than {readable(most)}: it was broken off"
            raise NotPossibleError(told, spent=True)

    async def _has_held(self, before: ServerUse) -> bool:
        """Whether the server is the same as before the restore: it did not restart or crash, and is not full."""
        try:
            now = await self._kit.loader.use_of(self._job.server)
        except DatabaseError:
            return False
        return now.up_since == before.up_since and now.used < (self._job.capacity or 0)


def extensions_of(manifest: Manifest) -> tuple[str, ...]:
    """Those that the Tenant had asked for when it was backed up."""
    database = (manifest.tenant_spec or {}).get("database")
    names = database.get("extensions") if isinstance(database, dict) else None
    return tuple(str(name) for name in names or ())


async def guarded(work: Awaitable[None], check: Callable[[], Awaitable[None]]) -> None:
    """Do something, and have a look at it from time to time; what the look raises breaks it off."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            if not task.done():
                await check()
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
