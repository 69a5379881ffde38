"""A record whose Tenant went at once: it goes where nothing was made, and what can't be told is asked again soon."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime
from tests.unit.test_cli_deletions import record

from tenantry.api.names import TENANT_FINALIZER
from tenantry.api.resources import TENANT_RECORDS, TENANTS, Ref
from tenantry.ports import ConflictError, DatabaseError, Json, NotFoundError
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.memory import Memory
from tenantry.reconcile.result import Result
from tenantry.reconcile.tenantrecord import TenantRecordReconciler
from tenantry.reconcile.world import Settings, World

UP, DOWN = SimpleNamespace(ok=True), SimpleNamespace(ok=False)


class Scene:
    """One Active record without a Tenant, a target with nothing on it, and a server whose claims are as told."""

    def __init__(self, *, target: bool = True, server: bool = True, claims: list[str] | DatabaseError) -> None:
        database = {"mode": "Shared", "server": "fra", "id": "1", "name": "tenantry_x"}
        self.record = record(state="Active", database=database)
        self.ref = Ref(TENANT_RECORDS, "", self.record.name)
        self.deleted: list[Ref] = []
        self.events: list[str] = []
        self.patches: list[Json] = []
        self._claims = [name.format(self.record.name) for name in claims] if isinstance(claims, list) else claims
        empty = SimpleNamespace(of_tenant=lambda _: [])
        cluster = SimpleNamespace(availability=UP if target else DOWN, live=empty)
        postgres = SimpleNamespace(availability=UP if server else DOWN, admin=SimpleNamespace(claims=self.claims))
        port, nothing = cast("Any", self), cast("Any", None)
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=cast("Any", _Management(self)), live=port,
            ledger=Ledger(), targets=cast("Any", SimpleNamespace(get=lambda _: cluster)),
            servers=cast("Any", SimpleNamespace(get=lambda _: postgres)), own_servers=nothing,
            clock=FakeTime(), dns=nothing, events=port,
            wake=port, token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip

    async def claims(self, _: str) -> list[Any]:
        if isinstance(self._claims, DatabaseError):
            raise self._claims
        return [SimpleNamespace(record=name) for name in self._claims]

    # --- the management cluster's cache, and the Events ---------------------------------------------------------------
    def get(self, ref: Ref) -> Json | None:
        return self.record.model_dump(by_alias=True, mode="json") if ref == self.ref else None

    def wake(self, key: Ref) -> None:
        raise AssertionError(f"nobody waits: {key}")

    def writing(self, _: Ref) -> Any:
        return contextlib.nullcontext()

    def forget(self, ref: Ref, *, uid: str) -> None:
        assert (ref, uid) == (self.ref, "r")

    def emit(self, _: Json, *, warning: bool, reason: str, message: str) -> None:
        assert warning
        assert message
        self.events.append(reason)

    async def reconcile(self) -> Result:
        return await TenantRecordReconciler(self.world, Memory(self.world)).reconcile(self.ref)


class _Management:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def get(self, ref: Ref) -> Json:
        assert ref == Ref(TENANTS, "shop", "acme")
        raise NotFoundError("gone", status=404, reason="NotFound")

    async def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def merge_patch(self, ref: Ref, patch: Json) -> Json:
        assert ref.resource == TENANT_RECORDS
        assert patch["metadata"] == {"resourceVersion": "1"}
        self._scene.patches.append(patch["spec"])
        raise ConflictError("somebody else", status=409, reason="Conflict")

    async def delete(self, ref: Ref, *, uid: str, resource_version: str) -> None:
        assert (uid, resource_version) == ("r", "1")
        self._scene.deleted.append(ref)


REFUSED = DatabaseError("too many connections")
UNTOLD = {
    "the target does not answer": Scene(target=False, claims=[]),
    "the server does not answer": Scene(server=False, claims=[]),
    "the server refuses": Scene(claims=REFUSED),
}


async def test_a_record_of_which_nothing_was_made_goes_at_once() -> None:
    scene = Scene(claims=["someone-else"])
    assert await scene.reconcile() == Result()
    assert scene.deleted == [scene.ref]


@pytest.mark.parametrize("scene", UNTOLD.values(), ids=UNTOLD)
async def test_what_can_not_be_told_now_is_asked_again_soon_and_alarms_nobody(scene: Scene) -> None:
    assert await scene.reconcile() == Result(retry=True)
    assert (scene.deleted, scene.events) == ([], [])


async def test_one_that_was_deleted_while_it_got_its_finalizer_goes_its_way_as_if_it_had_been_held() -> None:
    scene = Scene(claims=["{}"])
    scene.world.endings.take({"metadata": {"uid": "t1", "finalizers": [TENANT_FINALIZER]}, "spec": {"plan": "x"}})
    with pytest.raises(ConflictError):  # from here on it is a deletion as any other
        await scene.reconcile()
    assert scene.patches == [
        {
            "deletedAt": "2026-01-01T00:00:00Z",
            "purgeAfter": "2026-01-02T00:00:00Z",
            "state": "Deleted",
            "lastSpec": {"plan": "x"},
        }
    ]


@pytest.mark.parametrize("metadata", [{"finalizers": []}, {"deletionTimestamp": "x"}], ids=["by hand", "held"])
async def test_one_whose_finalizer_somebody_removed_runs_on(metadata: Json) -> None:
    scene = Scene(claims=["{}"])
    usual = {"uid": "t1", "finalizers": [TENANT_FINALIZER]}
    scene.world.endings.take({"metadata": {**usual, **metadata}, "spec": {}})
    await scene.reconcile()
    assert (scene.patches, scene.events) == ([], ["TenantMissing"])


async def test_what_has_a_claim_is_kept_and_told() -> None:
    scene = Scene(claims=["{}"])
    assert (await scene.reconcile()).requeue_after == scene.world.settings.resync
    assert (scene.deleted, scene.events) == ([], ["TenantMissing"])
