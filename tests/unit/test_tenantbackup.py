"""A TenantBackup's life where its object goes at a bad moment, or what a dead dump has left can't be cleared away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from prometheus_client import CollectorRegistry
from tests.unit.fake_time import FakeTime
from tests.unit.test_cli_deletions import record

from tenantry.api.names import BACKUP_FINALIZER
from tenantry.api.resources import BACKUP_STORES, NAMESPACES, TENANT_BACKUPS, TENANT_RECORDS, TENANTS, Ref, Resource
from tenantry.ports.backup import DumpImpossibleError
from tenantry.ports.kube import NotFoundError
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.world import Availability
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.openstores import BackupKit, OpenStore
from tenantry.reconcile.tenantbackup import TenantBackupReconciler
from tenantry.reconcile.world import Settings, World
from tenantry.runtime.backupmetrics import BackupMetrics

Json = dict[str, Any]
ACME = Ref(TENANTS, "shop", "acme")
DAY = 24 * 3600.0


class Scene:
    """One tenant on a server that is up, a store that answers, and a management cluster that is a dictionary."""

    def __init__(self) -> None:
        self.live: dict[Ref, Json] = {}
        self.gone: set[Ref] = set()
        self.woken: list[Ref] = []
        self.dumped: list[str] = []
        self.time = FakeTime()
        self.may_forget = asyncio.Event()
        self.forgetting = asyncio.Event()
        self.away = False
        self.hold_writes = False
        self.writing = asyncio.Event()
        self.may_write = asyncio.Event()
        self.tries: list[float] = []
        database = {"mode": "Shared", "server": "fra", "id": "1", "name": "tenantry_x"}
        held = record(state="Active", database=database)
        self.live[Ref(TENANT_RECORDS, "", held.name)] = held.model_dump(by_alias=True, mode="json")
        self.live[Ref(NAMESPACES, "", "shop")] = {"metadata": {"name": "shop", "uid": "u1"}}
        self.live[Ref(BACKUP_STORES, "", "s")] = {
            "metadata": {"name": "s"},
            "spec": {
                "url": "file:///backups",
                "signingSecretRef": {"name": "signing"},
                "allowedWorkspaces": {"from": "All"},
            },
        }
        port, nothing = cast("Any", self), cast("Any", None)
        dumper = SimpleNamespace(open=self._open, forget=self._forget)
        self.kit = BackupKit(nothing, nothing, cast("Any", dumper), nothing, "me", BackupMetrics(CollectorRegistry()))
        self.kit.opened.judge("s", OpenStore(cast("Any", SimpleNamespace()), "k" * 32), Availability(ok=True))
        server = SimpleNamespace(
            name="fra", availability=Availability(ok=True), facts=SimpleNamespace(system_identifier="1")
        )
        ledger = Ledger()
        ledger.note(held.name, self.live[Ref(TENANT_RECORDS, "", held.name)])
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=port,
            live=cast("Any", SimpleNamespace(get=self.live.get, all=self._all, observe=self._take, forget=self._drop)),
            ledger=ledger, targets=nothing, servers=cast("Any", SimpleNamespace(get=lambda _: server)),
            own_servers=nothing, clock=self.time, dns=nothing, events=port, wake=port, token=lambda: "",
            certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip
        self.reconciler = TenantBackupReconciler(self.world, self.kit)

    def backup(self, name: str, **status: Any) -> Ref:
        """A TenantBackup of the tenant."""
        ref = Ref(TENANT_BACKUPS, "shop", name)
        self.live[ref] = {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": f"uid-of-{name}",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "finalizers": [BACKUP_FINALIZER],
            },
            "spec": {"source": {"tenant": {"name": "acme"}}, "store": "s"},
            "status": status,
        }
        return ref

    def status(self, ref: Ref) -> Json:
        """What is told of a TenantBackup."""
        told: Json = self.live[ref]["status"]
        return told

    def ready(self, ref: Ref) -> str:
        """What its Ready says."""
        return next(str(each["message"]) for each in self.status(ref)["conditions"] if each["type"] == "Ready")

    async def settled(self, ref: Ref) -> None:
        """Passes over a TenantBackup until its run has come to its end."""
        async with asyncio.timeout(10):
            while self.status(ref).get("phase") not in ("Completed", "Failed"):
                await self.reconciler.reconcile(ref)
                await asyncio.sleep(0)

    # --- the management cluster, and who is told --------------------------------------------------------------------
    async def merge_patch(self, ref: Ref, patch: Json, subresource: str = "") -> Json:
        assert subresource in ("", "status")
        if self.hold_writes:
            self.writing.set()
            await self.may_write.wait()
        if ref in self.gone:
            raise NotFoundError("it is gone")
        return merged(self.live[ref], patch)

    def wake(self, ref: Ref) -> None:
        self.woken.append(ref)

    def emit(self, *_: object, **__: object) -> None:
        pass

    def _all(self, resource: Resource) -> list[Json]:
        return [body for ref, body in self.live.items() if ref.resource == resource]

    def _take(self, body: Json) -> None:
        self.live[Ref(TENANT_BACKUPS, "shop", body["metadata"]["name"])] = body

    def _drop(self, ref: Ref, uid: str) -> None:
        assert self.live[ref]["metadata"]["uid"] == uid
        del self.live[ref]

    # --- the tenant's server ------------------------------------------------------------------------------------------
    def _open(self, _: object, wanted: WantedDatabase) -> NoReturn:
        self.dumped.append(wanted.database)
        raise DumpImpossibleError("it is of no use here")

    async def _forget(self, *_: object) -> None:
        self.tries.append(self.time.monotonic())
        self.forgetting.set()
        if self.away:
            raise DatabaseError("the server is away")
        await self.may_forget.wait()


def merged(body: Json, patch: Json) -> Json:
    """As RFC 7386 has it."""
    result = dict(body)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


async def test_what_a_write_finds_gone_is_looked_at_once_more_and_leaves_the_shelf() -> None:
    scene = Scene()
    ref = scene.backup("first")
    del scene.live[Ref(BACKUP_STORES, "", "s")]
    scene.gone.add(ref)
    await scene.reconciler.reconcile(ref)
    assert ref in scene.woken
    await scene.reconciler.reconcile(ref)
    assert scene.kit.shelf.of(ACME) == []


async def test_what_our_finalizer_finds_gone_is_not_told_to_run() -> None:
    scene = Scene()
    ref = scene.backup("first")
    scene.live[ref]["metadata"]["finalizers"] = []
    scene.gone.add(ref)
    await scene.reconciler.reconcile(ref)
    assert ref in scene.woken
    await scene.reconciler.reconcile(ref)
    assert scene.kit.shelf.of(ACME) == []


async def test_no_backup_is_made_whose_object_is_gone_when_it_is_told_to_run() -> None:
    scene = Scene()
    ref = scene.backup("first")
    scene.gone.add(ref)
    await scene.reconciler.reconcile(ref)
    for _ in range(3):
        await asyncio.sleep(0)
    assert scene.dumped == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("backup ")]


async def test_a_backup_that_ends_is_told_and_what_it_left_is_cleared_away_once() -> None:
    scene = Scene()
    scene.may_forget.set()
    ref = scene.backup("first")
    await scene.settled(ref)
    assert (scene.status(ref)["phase"], scene.dumped) == ("Failed", ["tenantry_x"])
    for _ in range(3):
        await scene.reconciler.reconcile(ref)
    assert len(scene.tries) == 1


async def test_no_backup_of_a_tenant_begins_while_what_another_one_has_left_is_cleared_away() -> None:
    scene = Scene()
    failed = scene.backup("first")
    await scene.settled(failed)
    clearing = asyncio.create_task(scene.reconciler.reconcile(failed))
    await scene.forgetting.wait()
    second = scene.backup("second")
    await scene.reconciler.reconcile(second)
    assert scene.status(second)["phase"] == "Pending"
    assert "being cleared away" in scene.ready(second)
    scene.may_forget.set()
    await clearing
    await scene.reconciler.reconcile(second)
    assert scene.status(second)["phase"] == "Running"
    await scene.settled(second)


async def test_no_dump_begins_where_clearing_up_began_while_it_was_told_to_run() -> None:
    scene = Scene()
    failed = scene.backup("first")
    await scene.settled(failed)
    second = scene.backup("second")
    scene.hold_writes = True
    beginning = asyncio.create_task(scene.reconciler.reconcile(second))
    await scene.writing.wait()
    clearing = asyncio.create_task(scene.reconciler.reconcile(failed))
    await scene.forgetting.wait()
    scene.hold_writes = False
    scene.may_write.set()
    await beginning
    assert scene.dumped == ["tenantry_x"]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("backup ")]
    scene.may_forget.set()
    await clearing
    await scene.settled(second)
    assert scene.dumped == ["tenantry_x", "tenantry_x"]


async def test_what_can_not_be_cleared_away_is_looked_for_ever_more_seldom_and_for_a_day_only() -> None:
    scene = Scene()
    scene.away = True
    ref = scene.backup("first")
    await scene.settled(ref)
    while scene.time.monotonic() < 3 * DAY:
        result = await scene.reconciler.reconcile(ref)
        await scene.reconciler.reconcile(ref)  # whoever wakes it meanwhile
        scene.time.advance(result.requeue_after or 600.0)
    pauses = [after - before for before, after in zip(scene.tries, scene.tries[1:], strict=False)]
    assert pauses[:3] == [10.0, 20.0, 40.0]
    assert max(pauses) == 600.0
    assert DAY <= scene.tries[-1] < DAY + 601
