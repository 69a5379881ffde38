"""Which backup is restored on trial next, and of which trials nothing is told."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from tenantry.api.identity import TenantIdentity
from tenantry.api.resources import BACKUP_STORES, DATABASE_SERVERS, TENANT_BACKUPS, TENANTS, Ref
from tenantry.decide.retention import Retention
from tenantry.decide.schedule import parse
from tenantry.decide.trial import NO_CAPACITY
from tenantry.desired.manifest import tenant_path
from tenantry.ports.postgres import DatabaseClaim, DatabaseError
from tenantry.ports.world import Availability
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.schedules import Scheduled
from tenantry.reconcile.trials import Finding, Trial, Trials, Verdict
from tenantry.reconcile.verifying import SWEEP_RETRY, Verifying
from tenantry.reconcile.world import World
from tenantry.runtime.backupmetrics import BackupMetrics

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
IDENTITY = TenantIdentity("m", "shop", "00000000-0000-0000-0000-000000000000", "acme")
ACME = Ref(TENANTS, "shop", "acme")
NEVER = {"schedule": "0 0 29 2 *", "duration": "1m"}
Json = dict[str, Any]


class Scene:
    """As much of a world as choosing takes: stores and backups, and no server at all."""

    def __init__(self) -> None:
        self.live: dict[Ref, Json] = {}
        self.trials = Trials()
        self._registry = CollectorRegistry()
        none = cast(Any, None)  # nothing is ever begun
        self.kit = BackupKit(none, none, none, none, "test", BackupMetrics(self._registry))
        self.servers: dict[str, Any] = {}
        self.monotonic = 1.0
        self.sweeps: list[str] = []
        self.world = self._world()
        self._verifying = Verifying(self.world, self.kit)

    def store(self, name: str, **verification: Any) -> None:
        """A BackupStore."""
        spec = {
            "url": "file:///backups",
            "signingSecretRef": {"name": "signing"},
            "verification": {"server": f"of-{name}", **verification},
        }
        self.live[Ref(BACKUP_STORES, "", name)] = {"metadata": {"name": name}, "spec": spec}

    def schedule(self) -> None:
        """The tenant gets one, so that its newest backup is tried by the clock."""
        self.kit.schedules.set(
            Scheduled(
                tenant=ACME,
                identity=IDENTITY,
                store="open",
                server="fra",
                schedule=parse("0 0 1 1 *"),
                zone=UTC,
                delay=timedelta(),
                retention=Retention(),
                since=NOW - timedelta(days=1),
                suspended=False,
            )
        )

    def backup(
        self,
        name: str,
        store: str,
        uid: str = "u",
        verify: str = "Restore",
        status: Json | None = None,
        tenant: str = "acme",
        **metadata: str,
    ) -> Ref:
        """A TenantBackup, asked to be restored on trial if nothing else is said."""
        ref = Ref(TENANT_BACKUPS, "shop", name)
        body = {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": uid,
                "creationTimestamp": "2026-11-22T09:00:00Z",
                **metadata,
            },
            "spec": {"source": {"tenant": {"name": tenant}}, "store": store, "verify": verify},
            "status": {
                "phase": "Completed",
                "completedAt": "2026-11-22T09:00:00Z",
                "objectKey": f"{tenant_path(IDENTITY)}/{name}",
                **(status or {}),
            },
        }
        self.live[ref] = body
        self.kit.shelf.fill([body])
        return ref

    async def ended(self, backup: Ref, verdict: Verdict) -> None:
        """A trial of a backup whose UID was `u` has come to its end."""

        async def work() -> Finding:
            return Finding(verdict, "found", NOW, 1.0)

        task = asyncio.create_task(work())
        await task
        self.trials.begin("fra", Trial(backup, "u", ACME, "s", "tenantry_verify_x", task))

    def counted(self) -> float:
        """The trials of the store `s` that are counted as failed."""
        labels = {"store": "s", "result": "failed"}
        return self._registry.get_sample_value("tenantry_backup_verifications_total", labels) or 0.0

    def server(self, name: str, *refusals: str) -> None:
        """A DatabaseServer without room, which refuses so many times to tell what trials have left on it."""
        refuses = iter(refusals)

        async def claims(_: str) -> list[DatabaseClaim]:
            self.sweeps.append(name)
            if (why := next(refuses, None)) is not None:
                raise DatabaseError(why)
            return []

        self.live[Ref(DATABASE_SERVERS, "", name)] = {
            "metadata": {"name": name, "generation": 1},
            "spec": {"host": "pg", "adminSecretRef": {"name": "admin"}},
        }
        self.servers[name] = SimpleNamespace(
            name=name, availability=Availability(True), facts=object(), admin=SimpleNamespace(claims=claims)
        )

    async def tick(self) -> None:
        """One look."""
        await self._verifying.tick()

    def _world(self) -> World:
        def all_of(resource: object) -> list[Json]:
            return [body for ref, body in self.live.items() if ref.resource == resource]

        def nothing(*_: object) -> None:
            pass

        live = SimpleNamespace(get=self.live.get, all=all_of)
        servers = SimpleNamespace(all=lambda: list(self.servers.values()), get=self.servers.get)
        ticks = itertools.count()  # no two looks at a clock see the same time
        clock = SimpleNamespace(now=lambda: NOW + timedelta(microseconds=next(ticks)), monotonic=lambda: self.monotonic)
        world = SimpleNamespace(
            live=live,
            servers=servers,
            clock=clock,
            trials=self.trials,
            wake=SimpleNamespace(wake=nothing),
            jitter=lambda seconds: seconds,
            settings=SimpleNamespace(management_id="m"),
            token=lambda: "token",
        )
        return cast(World, world)


async def test_a_backup_that_waits_for_its_window_or_is_going_holds_up_no_other_of_its_tenant() -> None:
    scene = Scene()
    scene.store("closed", window=NEVER)
    scene.store("open")
    scene.backup("a-first", "closed")
    scene.backup("a-going", "open", deletionTimestamp="2026-11-22T09:59:00Z")
    await scene.tick()
    assert scene.trials.obstacle(ACME) == ""
    scene.backup("b-second", "open")
    await scene.tick()
    assert scene.trials.obstacle(ACME) == "the server for trials is not there, or is being deleted"


async def test_a_backup_that_is_newer_than_one_that_was_not_well_is_tried_at_once() -> None:
    scene = Scene()
    scene.store("open")
    scene.schedule()
    bad = {"method": "Restore", "time": "2026-11-22T09:30:00Z", "result": "Failed", "message": "rows"}
    scene.backup("bad", "open", verify="Read", status={"verification": bad})
    await scene.tick()
    assert scene.trials.obstacle(ACME) == ""  # there is none to be tried
    scene.backup("newer", "open", verify="Read", status={"completedAt": "2026-11-22T09:59:59Z"})
    await scene.tick()
    assert scene.trials.obstacle(ACME) == "the server for trials is not there, or is being deleted"


async def test_neither_a_former_tenant_of_the_name_nor_a_clock_that_had_jumped_has_a_say() -> None:
    scene = Scene()
    scene.store("open")
    scene.schedule()
    former = f"{tenant_path(replace(IDENTITY, incarnation=2))}/former"
    bad = {"method": "Restore", "time": "2026-11-22T09:30:00Z", "result": "Failed", "message": "rows"}
    scene.backup("own", "open", verify="Read")
    scene.backup("former", "open", verify="Read", status={"objectKey": former, "verification": bad})
    later = {"completedAt": "2027-11-22T09:00:00Z", "verification": bad}
    scene.backup("of-next-year", "open", verify="Read", status=later)
    newer = {"completedAt": "2026-11-22T09:30:00Z", "verification": bad}
    await scene.tick()
    assert scene.trials.obstacle(ACME) == "", "its first trial is not due yet, and nothing is held against it"
    scene.backup("bad", "open", verify="Read", status=newer)
    scene.backup("last", "open", verify="Read", status={"completedAt": "2026-11-22T09:40:00Z"})
    await scene.tick()
    assert scene.trials.obstacle(ACME) != "", "the one after its own bad one is tried at once"


async def test_what_waits_for_what_an_earlier_trial_has_left_is_looked_at_again_once_that_is_gone() -> None:
    scene = Scene()
    scene.store("open")
    scene.server("of-open", "it is starting up", "it is starting up")
    scene.backup("first", "open")
    for _ in range(2):
        await scene.tick()
        assert scene.trials.obstacle(ACME) == "what an earlier trial has left on its server can't be dropped yet"
        scene.monotonic += SWEEP_RETRY + 1
    await scene.tick()
    assert scene.trials.obstacle(ACME) == NO_CAPACITY


async def test_what_stood_in_the_way_is_forgotten_with_the_last_backup_of_the_tenant() -> None:
    scene = Scene()
    scene.store("open")
    ref = scene.backup("only", "open")
    await scene.tick()
    assert scene.trials.obstacle(ACME) != ""
    del scene.live[ref]
    scene.kit.shelf.forget(ref)
    await scene.tick()
    assert scene.trials.obstacle(ACME) == ""


async def test_what_a_trial_finds_is_told_and_counted_once() -> None:
    scene = Scene()
    ref = scene.backup("first", "s")
    await scene.ended(ref, Verdict.FAILED)
    await scene.tick()
    await scene.tick()
    finding = scene.trials.finding(ref, "u")
    assert finding is not None
    assert (finding.verdict, scene.counted()) == (Verdict.FAILED, 1)


async def test_nothing_is_told_of_a_backup_that_goes_or_is_another_one_by_now() -> None:
    scene = Scene()
    for ref in (
        scene.backup("going", "s", deletionTimestamp="2026-11-22T09:59:00Z"),
        scene.backup("namesake", "s", uid="another"),
        Ref(TENANT_BACKUPS, "shop", "gone"),
    ):
        await scene.ended(ref, Verdict.FAILED)
        await scene.tick()
        assert scene.trials.finding(ref, "u") is None
        assert scene.trials.count == 0
    assert scene.counted() == 0


async def test_where_a_trial_was_broken_off_is_swept_before_the_next_one_begins() -> None:
    scene = Scene()
    scene.server("fra")
    await scene.tick()
    await scene.tick()
    assert scene.sweeps == ["fra"]  # it is not due again for long
    ref = scene.backup("first", "s")
    task = asyncio.create_task(never())
    scene.trials.begin("fra", Trial(ref, "u", ACME, "s", "tenantry_verify_x", task))
    await scene.trials.stop(ref)
    assert scene.trials.is_unswept("fra")
    await scene.tick()
    await scene.tick()
    assert scene.sweeps == ["fra", "fra"]
    assert not scene.trials.is_unswept("fra")


async def never() -> Finding:
    """A trial that does not end by itself."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")
