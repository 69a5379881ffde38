"""Verification by the clock: chooses the backups that are restored on trial, one at a time a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tenantry.api.databaseserver import DatabaseServer
from tenantry.api.resources import BACKUP_STORES, DATABASE_SERVERS, TENANT_RECORDS, Ref, Resource
from tenantry.api.tenantbackup import TenantBackup
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.trial import NO_CAPACITY, due_at
from tenantry.ports.postgres import DatabaseError
from tenantry.ports.servers import Server
from tenantry.reconcile.backupobject import path_of
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.scratch import scratch_named, sweep
from tenantry.reconcile.shelf import Shelved, disproven, is_newer, last_proven, of_incarnation
from tenantry.reconcile.trial import NotPossibleError, TrialJob, TrialWork
from tenantry.reconcile.trialpauses import TrialPauses
from tenantry.reconcile.trials import Trial, Verdict
from tenantry.reconcile.trialterms import Terms, capacity_of, terms_of
from tenantry.reconcile.world import World

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 5.0
AT_ONCE: Final = 2
"""Trials under way, on different servers: all their bytes go through this process."""
SWEEP_SECONDS: Final = 600.0
SWEEP_PATIENCE: Final = 60.0
SWEEP_RETRY: Final = 15.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup that is due to be restored on trial."""

    shelved: Shelved
    due: datetime
    terms: Terms


class Verifying:
    """Acts on the verification of all stores."""

    def __init__(self, world: World, kit: BackupKit) -> None:
        self._world = world
        self._kit = kit
        self._sweep_at: dict[str, float] = {}
        self._stuck: dict[str, str] = {}
        self._pauses = TrialPauses(world.clock, world.jitter)
        self._circumstances: frozenset[object] = frozenset()

    async def run(self) -> None:
        """Until it is cancelled; then what is under way is broken off, and cleaned up after."""
        try:
            while True:
                try:
                    await self.tick()
                except Exception:  # one bad tick must not be the last
                    logger.exception("the verification of backups could not be acted upon")
                await asyncio.sleep(TICK_SECONDS)
        finally:
            await self._world.trials.stop_all()

    async def tick(self) -> None:
        """Hear of what has ended, drop what was left, and begin what is due."""
        self._hear()
        await self._look_around()
        self._think_again()
        for candidate in sorted(self._due(), key=self._turn):
            if self._world.trials.count >= AT_ONCE:
                return
            try:
                begun = self._begin(candidate)
            except NotPossibleError as error:
                self._put_off(candidate.shelved.ref, candidate.shelved.tenant, error.message, error.detail)
            else:
                if begun:
                    self._tell(candidate.shelved.tenant, "", "")

    def _turn(self, candidate: Candidate) -> tuple[float, datetime, str]:
        """Who was tried longest ago comes first: one with many backups does not hold up all others."""
        shelved = candidate.shelved
        return self._pauses.last_begun(shelved.tenant), candidate.due, str(shelved.ref)

    # --- what has ended -------------------------------------------------------------------------------------------
    def _hear(self) -> None:
        world = self._world
        for server, trial in world.trials.take_ended():
            self._sweep_at.pop(server, None)  # it may have left something, which goes before the next one begins
            if trial.task.cancelled() or not self._is_there(trial.backup, trial.uid):
                continue  # what goes is not told of: what is in the store may have gone before it
            finding = trial.task.result()
            told = f"{finding.message} ({finding.detail})" if finding.detail else finding.message
            logger.info("trial of %s on %s: %s, %s", trial.backup.name, server, finding.verdict, told)
            self._kit.observer.verification_ended(trial.store, finding.verdict.value, finding.seconds)
            self._pauses.ended(trial.tenant, finding)
            if finding.verdict == Verdict.NOT_POSSIBLE:
                self._put_off(trial.backup, trial.tenant, finding.message, f"on {server}: {finding.detail}")
                continue
            self._pauses.end(trial.backup)
            world.trials.found(trial.backup, trial.uid, finding)
            world.wake.wake(trial.backup)

    def _is_there(self, backup: Ref, uid: str) -> bool:
        """Whether it is the one that it was, and is not being deleted."""
        body = self._world.live.get(backup)
        return body is not None and body["metadata"]["uid"] == uid and "deletionTimestamp" not in body["metadata"]

    def _put_off(self, backup: Ref, tenant: Ref, why: str, detail: str) -> None:
        self._pauses.put_off(backup, tenant)
        self._tell(tenant, why, detail)
        self._world.wake.wake(backup)

    def _tell(self, tenant: Ref, why: str, detail: str) -> None:
        if self._world.trials.hinder(tenant, why):
            if why:
                logger.info("no backup of %s is restored on trial now: %s (%s)", tenant.name, why, detail)
            self._world.wake.wake(tenant)

    def _think_again(self) -> None:
        """What stood in the way may not any more, once a server or a store was changed, came back, or was swept."""
        world = self._world
        now = frozenset[object](self._stuck) | frozenset[object](
            (resource.kind, metadata["name"], metadata.get("generation"), self._is_up(resource, metadata["name"]))
            for resource in (DATABASE_SERVERS, BACKUP_STORES)
            for metadata in (body["metadata"] for body in world.live.all(resource))
        )
        if now != self._circumstances:
            self._circumstances = now
            self._pauses.clear()  # those of backups: what tenants have coming has nothing to do with it
        for backup, tenant in self._pauses.backups():
            if world.live.get(backup) is None:
                self._pauses.end(backup)
                world.trials.hinder(tenant, "")
        self._pauses.forget_tenants(lambda tenant: bool(self._kit.shelf.of(tenant)))
        for tenant in world.trials.hindered():
            if not self._kit.shelf.of(tenant):
                world.trials.hinder(tenant, "")

    def _is_up(self, resource: Resource, name: str) -> bool:
        if resource == BACKUP_STORES:
            return self._kit.opened.get(name) is not None
        server = self._world.servers.get(name)
        return server is not None and server.availability.ok

    # --- what was left --------------------------------------------------------------------------------------------
    async def _look_around(self) -> None:
        """Drop what dead processes have left, before anything is begun on a server; and stop where a server goes."""
        trials, now = self._world.trials, self._world.clock.monotonic()
        for name in trials.take_unswept():
            self._sweep_at.pop(name, None)
        idle = []
        for server in self._world.servers.all():
            if trials.on_server(server.name) is None:
                due = self._sweep_at.get(server.name, now) <= now
                idle += [server] if due and server.availability.ok and server.facts is not None else []
            elif self._leaves(server.name):
                await trials.stop_on(server.name)
        await asyncio.gather(*(self._sweep(server) for server in idle))

    async def _sweep(self, server: Server) -> None:
        """Nothing of this process's is on it."""
        world = self._world
        try:
            async with asyncio.timeout(SWEEP_PATIENCE):
                await sweep(self._kit, server, world.settings.management_id, world.trials.databases())
        except (DatabaseError, TimeoutError) as error:
            if server.name not in self._stuck:
                logger.warning("what trials have left on %s stays for now: %s", server.name, error)
            self._stuck[server.name] = str(error)
            seconds = SWEEP_RETRY
        else:
            self._stuck.pop(server.name, None)
            seconds = SWEEP_SECONDS
        self._sweep_at[server.name] = world.clock.monotonic() + world.jitter(seconds)

    def _leaves(self, server: str) -> bool:
        body = self._world.live.get(Ref(DATABASE_SERVERS, "", server))
        return body is None or "deletionTimestamp" in body["metadata"]

    # --- what is due ----------------------------------------------------------------------------------------------
    def _due(self) -> Iterator[Candidate]:
        """One a tenant at most, of those that are not to be waited for."""
        now, seen = self._world.clock.now(), self._world.trials.tenants()
        terms: dict[str, Terms | None] = {}
        for candidate in (*self._asked(terms), *self._scheduled(terms, now)):
            tenant, ref, uid = candidate.shelved.tenant, candidate.shelved.ref, candidate.shelved.uid
            waits = candidate.due > now or tenant in seen or self._pauses.waits(ref, tenant)
            waits = waits or not self._is_there(ref, uid)
            if not waits and self._world.trials.finding(ref, uid) is None and not self._world.trials.of(ref):
                seen.add(tenant)
                yield candidate

    def _asked(self, terms: dict[str, Terms | None]) -> Iterator[Candidate]:
        for shelved in self._kit.shelf.asked():
            of_store = self._terms(shelved.store, terms)
            if of_store is not None and shelved.completed_at is not None:
                yield Candidate(shelved, shelved.completed_at, of_store)

    def _scheduled(self, terms: dict[str, Terms | None], now: datetime) -> Iterator[Candidate]:
        for scheduled in self._kit.schedules.all():
            own = of_incarnation(self._kit.shelf.of(scheduled.tenant), scheduled.identity, scheduled.since, now)
            newest, bad = newest_good(own), disproven(own)
            of_store = self._terms(newest.store, terms) if newest is not None else None
            if newest is None or of_store is None or of_store.interval is None or scheduled.suspended:
                continue
            due = due_at(last_proven(own, now), scheduled.since, of_store.interval, scheduled.identity.tenant_hash)
            if bad is None:
                yield Candidate(newest, due, of_store)
            elif is_newer(newest, bad):  # whether it is any better is to be known soon
                yield Candidate(newest, now, of_store)

    def _terms(self, store: str, known: dict[str, Terms | None]) -> Terms | None:
        """None where there is no such store, or its window is closed: what waits for that holds up nothing else."""
        if store not in known:
            terms, now = terms_of(self._world, store), self._world.clock.now()
            closed = terms is not None and terms.window is not None and not terms.window.is_open(now)
            known[store] = None if closed else terms
        return known[store]

    # --- beginning ------------------------------------------------------------------------------------------------
    def _begin(self, candidate: Candidate) -> bool:
        """Begin a trial; False where it waits for another one.

        Raises:
            NotPossibleError: something stands in the way.
        """
        world, kit, shelved, terms = self._world, self._kit, candidate.shelved, candidate.terms
        if terms.problem:
            raise NotPossibleError(terms.problem)
        server, spec = self._server(shelved.tenant, terms)
        swept = server.name in self._sweep_at and not world.trials.is_unswept(server.name)
        if world.trials.on_server(server.name) is not None or not swept:
            return False
        if server.name in self._stuck:
            told = "what an earlier trial has left on its server can't be dropped yet"
            raise NotPossibleError(told, f"{server.name}: {self._stuck[server.name]}")
        capacity = capacity_of(spec)
        if capacity is None:
            raise NotPossibleError(NO_CAPACITY, server.name)
        opened = kit.opened.get(shelved.store)
        if opened is None:
            why = kit.opened.why_not(shelved.store)
            raise NotPossibleError(f"BackupStore {shelved.store!r} is not ready: {why}")
        path = self._path(shelved)
        wanted = scratch_named(world.settings.management_id, world.token())
        discreet = terms.server is not None
        work = TrialWork(kit, world.clock, TrialJob(path, opened, server, capacity, wanted, world.token, discreet))
        task = asyncio.create_task(work.run(), name=f"trial {shelved.ref.namespace}/{shelved.ref.name}")
        trial = Trial(shelved.ref, shelved.uid, shelved.tenant, shelved.store, wanted.database, task)
        world.trials.begin(server.name, trial)
        self._pauses.began(shelved.tenant)
        return True

    def _server(self, tenant: Ref, terms: Terms) -> tuple[Server, DatabaseServer]:
        world, pinned = self._world, None
        name = terms.server
        if name is None:
            record = world.ledger.record_of(tenant)
            body = world.live.get(Ref(TENANT_RECORDS, "", record)) if record is not None else None
            pinned = TenantRecord.model_validate(body).spec.database if body is not None else None
            if pinned is None or not pinned.server:
                raise NotPossibleError("the tenant has no shared server that it could be restored on")
            name = pinned.server
        body, server = world.live.get(Ref(DATABASE_SERVERS, "", name)), world.servers.get(name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            raise NotPossibleError("the server for trials is not there, or is being deleted", name)
        if server is None or not server.availability.ok or server.facts is None:
            why = f": {server.availability.message}" if server is not None else ""
            raise NotPossibleError("the server for trials is not ready", f"{name}{why}")
        if pinned is not None and server.facts.system_identifier != pinned.id:
            raise NotPossibleError("the tenant's server is not the one that it was", name)
        return server, DatabaseServer.model_validate(body)

    def _path(self, shelved: Shelved) -> str:
        """Where the backup is, worked out anew.

        Raises:
            NotPossibleError: it may be anywhere.
        """
        body = self._world.live.get(shelved.ref)
        path = path_of(self._world, TenantBackup.read(body)) if body is not None else None
        if path is None:
            raise NotPossibleError("its status does not say truly where it is in its store")
        return path


def newest_good(shelved: list[Shelved]) -> Shelved | None:
    """The newest good backup that can be found in its store."""
    good = [
        (each.completed_at, str(each.ref), each)
        for each in shelved
        if each.good and each.completed_at is not None and each.path
    ]
    return max(good, key=lambda found: found[:2])[2] if good else None
