"""A DatabaseServer that is being deleted: swept before it is let go, and not for ever waited for."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.fake_time import FakeTime
from tests.unit.test_cli_deletions import record
from tests.unit.test_tenantbackup import merged

from tenantry.api.names import SERVER_FINALIZER
from tenantry.api.resources import DATABASE_SERVERS, SECRETS, TENANT_BACKUPS, TENANTS, Ref, Resource
from tenantry.ports.postgres import DatabaseClaim, DatabaseError, DatabaseUnreachableError, WantedDatabase
from tenantry.ports.world import Availability
from tenantry.reconcile.databaseserver import DatabaseServerReconciler
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.partings import PATIENCE_SECONDS
from tenantry.reconcile.scratch import scratch_named
from tenantry.reconcile.trials import Finding, Trial
from tenantry.reconcile.world import Settings, World
from tenantry.runtime.backupmetrics import BackupMetrics

Json = dict[str, Any]
FRA = Ref(DATABASE_SERVERS, "", "fra")
ADMIN = Ref(SECRETS, "tenantry-system", "admin")
LEFT = scratch_named("m", "token")


class Server:
    """A database server on which a process that died has left a scratch database, and a connection to it."""

    name = "fra"

    def __init__(self) -> None:
        self.claimed: WantedDatabase | None = LEFT
        self.state = "ready"
        self.away = False
        self.refuses = ""
        self.facts: Any = None
        self.admin = self
        self.endpoint = None
        self.availability = Availability(ok=False)

    def judge(self, availability: Availability) -> None:
        self.availability = availability

    async def probe(self) -> Any:
        if self.away:
            raise DatabaseUnreachableError("nobody answers")
        self.facts = SimpleNamespace(
            missing_rights=(), version=180001, public_connect=(), system_identifier="1", databases=0
        )
        return self.facts

    async def claims(self, management_id: str) -> list[DatabaseClaim]:
        if self.away:
            raise DatabaseUnreachableError("nobody answers")
        return [claim] if (claim := self._claim(management_id)) is not None else []

    async def inspect(self, wanted: WantedDatabase) -> Any:
        return SimpleNamespace(claim=self._claim(wanted.management_id), exists=True)

    async def mark(self, _: WantedDatabase, *, before: str, after: str) -> bool:
        assert before == self.state
        self.state = after
        return True

    async def drop(self, wanted: WantedDatabase) -> None:
        assert self.claimed is not None
        assert wanted.database == self.claimed.database
        if self.refuses:
            raise DatabaseError(self.refuses)

    async def release(self, _: WantedDatabase) -> None:
        self.claimed = None

    def _claim(self, management_id: str) -> DatabaseClaim | None:
        if self.claimed is None:
            return None
        return cast(
            "DatabaseClaim",
            SimpleNamespace(
                database=self.claimed.database,
                management_id=management_id,
                tenant_hash=self.claimed.tenant_hash,
                record=self.claimed.record,
                state=self.state,
            ),
        )


class Scene:
    """A process that has just begun, and a DatabaseServer that was deleted meanwhile."""

    def __init__(self) -> None:
        self.server = Server()
        self.connected: list[str] = []
        self.events: list[tuple[bool, str]] = []
        self.time = FakeTime()
        self.live: dict[Ref, Json] = {
            FRA: {
                "metadata": {
                    "name": "fra",
                    "uid": "u",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "deletionTimestamp": "2026-01-01T00:00:00Z",
                    "finalizers": [SERVER_FINALIZER],
                },
                "spec": {"host": "pg.example.org", "adminSecretRef": {"name": "admin"}},
                "status": {"systemIdentifier": "1"},
            },
            ADMIN: {"data": {key: base64.b64encode(b"x").decode() for key in ("username", "password")}},
        }
        port, nothing = cast("Any", self), cast("Any", None)
        dumper = cast("Any", SimpleNamespace(forget=self._forget))
        kit = BackupKit(nothing, nothing, dumper, nothing, "me", BackupMetrics(CollectorRegistry()))
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=port,
            live=cast("Any", SimpleNamespace(get=self.live.get, all=self._all, observe=self._take, forget=self._drop)),
            ledger=Ledger(), targets=nothing, servers=port, own_servers=nothing, clock=self.time, dns=nothing,
            events=port, wake=port, token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip
        self.reconciler = DatabaseServerReconciler(self.world, kit)

    async def look(self) -> None:
        """One pass."""
        await self.reconciler.reconcile(FRA)

    def is_there(self) -> bool:
        """Whether the DatabaseServer was not let go yet."""
        return FRA in self.live

    def is_swept(self) -> bool:
        """Whether nothing of the scratch database is left."""
        return self.server.claimed is None

    @property
    def told(self) -> tuple[str, str]:
        """Reason and message of its Ready."""
        ready = next(each for each in self.live[FRA]["status"]["conditions"] if each["type"] == "Ready")
        return ready["reason"], ready["message"]

    # --- the management cluster, and who is told --------------------------------------------------------------------
    async def merge_patch(self, ref: Ref, patch: Json, subresource: str = "") -> Json:
        assert subresource in ("", "status")
        return merged(self.live[ref], patch)

    def emit(self, _: object, *, warning: bool, reason: str, message: str) -> None:
        assert reason
        self.events.append((warning, message))

    def tenants_of_server(self, _: str) -> None:
        pass

    def _all(self, resource: Resource) -> list[Json]:
        return [body for ref, body in self.live.items() if ref.resource == resource]

    def _take(self, body: Json) -> None:
        self.live[FRA] = body

    def _drop(self, ref: Ref, uid: str) -> None:
        assert uid == "u"
        del self.live[ref]

    # --- the servers --------------------------------------------------------------------------------------------------
    async def connect(self, name: str, _: object) -> Server:
        self.connected.append(name)
        return self.server

    def all(self) -> list[Server]:
        return [self.server] if self.connected else []

    def get(self, _: str) -> Server | None:
        return self.server if self.connected else None

    async def disconnect(self, _: str) -> None:
        self.connected.clear()

    async def _forget(self, *_: object) -> None:
        pass


async def test_what_a_dead_process_has_left_on_a_server_is_dropped_before_that_is_let_go() -> None:
    scene = Scene()
    await scene.look()
    assert scene.is_swept()
    assert not scene.is_there()
    assert scene.connected == []
    assert not [message for warning, message in scene.events if warning]


@pytest.mark.parametrize("how", ["away", "refuses", "no secret"])
async def test_a_server_that_can_not_be_swept_is_waited_for_a_while_and_then_let_go_with_a_warning(how: str) -> None:
    scene = Scene()
    match how:
        case "away":
            scene.server.away, why = True, "nobody answers"
        case "refuses":
            scene.server.refuses = why = "somebody prepares a transaction there"
        case _:
            why = "there is no Secret 'admin'"
            del scene.live[ADMIN]
    await scene.look()
    assert scene.is_there()
    reason, message = scene.told
    assert reason == "InUse"
    assert message.startswith("it is let go when what restores on trial may have left there was dropped")
    assert why in message
    scene.time.advance(PATIENCE_SECONDS - 1)
    await scene.look()
    assert scene.is_there()
    scene.time.advance(1)
    scene.events.clear()
    await scene.look()
    assert not scene.is_there()
    ((warning, message),) = scene.events
    assert warning
    assert "may have left databases and roles tenantry_verify_* there" in message
    assert why in message


async def test_a_server_that_comes_back_in_time_is_swept() -> None:
    scene = Scene()
    scene.server.away = True
    await scene.look()
    scene.server.away = False
    scene.time.advance(PATIENCE_SECONDS)
    await scene.look()
    assert scene.is_swept()
    assert not scene.is_there()


async def test_a_server_whose_secret_went_first_is_swept_by_the_connection_that_there_is() -> None:
    scene = Scene()
    del scene.live[FRA]["metadata"]["deletionTimestamp"]
    await scene.look()
    scene.live[FRA]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    del scene.live[ADMIN]
    await scene.look()
    assert scene.is_swept()
    assert not scene.is_there()


async def test_a_server_that_never_answered_is_let_go_at_once() -> None:
    scene = Scene()
    scene.live[FRA]["status"] = {}
    scene.server.away = True
    await scene.look()
    assert not scene.is_there()
    assert not scene.events


async def test_a_server_with_tenants_is_connected_while_it_waits_for_them_to_go() -> None:
    scene = Scene()
    held = record(state="Active", database={"mode": "Shared", "server": "fra", "id": "1", "name": "tenantry_x"})
    scene.world.ledger.note(held.name, held.model_dump(by_alias=True, mode="json"))
    await scene.look()
    assert scene.is_there()
    assert scene.connected == ["fra"]
    assert scene.server.availability.ok
    assert scene.told == ("InUse", "it is let go when the tenants with databases on it (1) are deleted or moved")


async def test_a_server_is_not_swept_under_a_trial_that_is_under_way_there() -> None:
    scene = Scene()
    event = asyncio.Event()

    async def work() -> Finding:
        await event.wait()
        raise AssertionError("nobody sets it")

    task = asyncio.create_task(work())
    backup = Ref(TENANT_BACKUPS, "shop", "b")
    scene.world.trials.begin("fra", Trial(backup, "u", Ref(TENANTS, "shop", "acme"), "s", LEFT.database, task))
    await scene.look()
    assert scene.is_there()
    assert not scene.is_swept()
    await scene.world.trials.stop_on("fra")
    await scene.look()
    assert scene.is_swept()
    assert not scene.is_there()
