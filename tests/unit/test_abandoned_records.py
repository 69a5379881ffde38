"""A record whose Tenant went at once: it goes where nothing was made, and what can't be told is asked again soon."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime
from tests.unit.test_cli_deletions import record

from tenantry.api.names import DELETIONS_CONFIG_MAP, TENANT_FINALIZER
from tenantry.api.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    TENANT_RECORDS,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.decide.deletion import StopRule
from tenantry.ports.kube import ConflictError, NotFoundError
from tenantry.ports.postgres import DatabaseError
from tenantry.ports.world import Json
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
        self.time = FakeTime()
        self._claims = [name.format(self.record.name) for name in claims] if isinstance(claims, list) else claims
        empty = SimpleNamespace(of_tenant=lambda _: [])
        cluster = SimpleNamespace(availability=UP if target else DOWN, live=empty)
        postgres = SimpleNamespace(availability=UP if server else DOWN, admin=SimpleNamespace(claims=self.claims))
        port, nothing = cast("Any", self), cast("Any", None)
        self.world = World(
            settings=Settings("m", "tenantry-system"), management=cast("Any", _Management(self)), live=port,
            ledger=Ledger(), targets=cast("Any", SimpleNamespace(get=lambda _: cluster)),
            servers=cast("Any", SimpleNamespace(get=lambda _: postgres)), own_servers=nothing,
            clock=self.time, dns=nothing, events=port,
            wake=port, token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip

    async def claims(self, _: str) -> list[Any]:
        if isinstance(self._claims, DatabaseError):
            raise self._claims
        return [SimpleNamespace(record=name) for name in self._claims]

    def removed(self, uid: str = "t1", tenant: str = "acme", **changes: Any) -> None:
        """The API server removed a Tenant that had just got our finalizer."""
        body = record(f"{tenant}-1", state="Active", tenant=tenant, tenantUid=uid)
        self.world.ledger.note(body.name, body.model_dump(by_alias=True, mode="json"))
        usual = {"name": tenant, "namespace": "shop", "uid": uid, "finalizers": [TENANT_FINALIZER]}
        usual["creationTimestamp"] = "2026-01-01T00:00:00Z"
        gone: Json = {"metadata": usual, "spec": {"plan": "x"}}
        assert self.world.endings.take({**gone, **changes}, self.time.now())

    # --- the management cluster's cache, and the Events ---------------------------------------------------------------
    def all(self, _: Resource) -> list[Json]:
        return []

    def get(self, ref: Ref) -> Json | None:
        if ref == Ref(NAMESPACES, "", "shop"):
            return {"metadata": {"name": "shop", "uid": "u1"}}
        return self.record.model_dump(by_alias=True, mode="json") if ref == self.ref else None

    def wake(self, key: Ref) -> None:
        raise AssertionError(f"nobody waits: {key}")

    def writing(self, _: Ref) -> Any:
        return contextlib.nullcontext()

    def observe(self, body: Json) -> None:
        assert body["metadata"]["name"] == self.record.name

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
        if ref.resource == CUSTOM_RESOURCE_DEFINITIONS:
            return {"metadata": {"name": ref.name}}
        assert ref in (Ref(TENANTS, "shop", "acme"), Ref(CONFIG_MAPS, "tenantry-system", DELETIONS_CONFIG_MAP))
        raise NotFoundError("gone", status=404, reason="NotFound")

    async def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def merge_patch(self, ref: Ref, patch: Json) -> Json:
        assert ref.resource == TENANT_RECORDS
        assert patch["metadata"] == {"resourceVersion": "1"}
        self._scene.patches.append(patch["spec"])
        if patch["spec"].get("heldSince"):
            self._scene.record = self._scene.record.model_copy(
                update={"spec": self._scene.record.spec.model_copy(update={"message": patch["spec"]["message"]})}
            )
            return self._scene.record.model_dump(by_alias=True, mode="json")
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
    scene.removed()
    assert await scene.reconcile() == Result(requeue_after=2.0), "it may be one of many"
    scene.time.advance(3)
    with pytest.raises(ConflictError):  # from here on it is a deletion as any other
        await scene.reconcile()
    assert scene.patches == [
        {
            "deletedAt": "2026-01-01T00:00:03Z",
            "purgeAfter": "2026-01-02T00:00:03Z",
            "state": "Deleted",
            "lastSpec": {"plan": "x"},
        }
    ]


@pytest.mark.parametrize(("others", "why"), [(9, None), (10, "11 tenants were deleted within 10 minutes")])
async def test_many_that_went_that_way_are_stopped_and_run_on_as_if_their_deletion_had_been_aborted(
    others: int, why: str | None
) -> None:
    scene = Scene(claims=["{}"])
    scene.world = replace(scene.world, settings=replace(scene.world.settings, stop=StopRule(share=1.0)))
    scene.removed()
    for number in range(others):
        scene.removed(f"other-{number}", f"other{number}")
    scene.time.advance(3)
    with pytest.raises(ConflictError):
        await scene.reconcile()
    last = scene.patches[-1]
    assert last["state"] == ("Deleted" if why is None else "Retained")
    assert "deletedAt" in last, "it counts for those that come"
    if why is not None:
        assert [each["state"] for each in scene.patches[1:]] == ["Retained"]
        assert why in last["message"]
        assert "tenantry undelete acme-1" in last["message"]


async def test_a_protected_one_that_went_that_way_runs_on() -> None:
    scene = Scene(claims=["{}"])
    scene.removed(spec={"deletion": {"protected": True}})
    scene.time.advance(3)
    with pytest.raises(ConflictError):
        await scene.reconcile()
    (only,) = scene.patches
    assert only["state"] == "Retained"
    assert "spec.deletion.protected is true" in only["message"]


async def test_the_end_of_an_ephemeral_one_that_went_that_way_is_not_counted() -> None:
    scene = Scene(claims=["{}"])
    scene.removed(spec={"ephemeral": {"ttl": "1h"}})
    scene.time.advance(3601)
    with pytest.raises(ConflictError):
        await scene.reconcile()
    assert scene.patches[-1]["expired"] is True


@pytest.mark.parametrize("metadata", [{"finalizers": []}, {"deletionTimestamp": "x"}], ids=["by hand", "held"])
async def test_one_whose_finalizer_somebody_removed_runs_on(metadata: Json) -> None:
    scene = Scene(claims=["{}"])
    usual = {"uid": "t1", "finalizers": [TENANT_FINALIZER]}
    scene.world.endings.take({"metadata": {**usual, **metadata}, "spec": {}}, scene.time.now())
    await scene.reconcile()
    assert (scene.patches, scene.events) == ([], ["TenantMissing"])


async def test_what_has_a_claim_is_kept_and_told() -> None:
    scene = Scene(claims=["{}"])
    assert (await scene.reconcile()).requeue_after == scene.world.settings.resync
    assert (scene.deleted, scene.events) == ([], ["TenantMissing"])
