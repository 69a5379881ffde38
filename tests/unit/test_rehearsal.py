"""A rehearsal: what it says would be written is what then is written, and it writes nothing."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from tests.unit.fake_time import FakeTime
from tests.unit.strategies import blueprints, calmly
from tests.unit.test_drift import objects

from tenantry.api.names import LABEL_TENANT_HASH
from tenantry.api.resources import CONFIG_MAPS, INGRESSES, NAMESPACES, RESOURCE_QUOTAS, Ref, Resource
from tenantry.decide.preview import Write, items_of
from tenantry.desired.blueprint import Blueprint
from tenantry.ports.kube import AlreadyExistsError, InvalidError, Kube, Listing, NotFoundError, Target
from tenantry.ports.world import Json
from tenantry.reconcile.apply import Applier, ref_of
from tenantry.reconcile.overlay import Overlay, RehearsedKube, RehearsedLive
from tenantry.reconcile.rehearsal import RehearsedTarget


class Store:
    """A target in memory: an API server and what its watches have seen, with what is asked of it in the rehearsal."""

    def __init__(self) -> None:
        self.bodies: dict[Ref, Json] = {}
        self.rehearsed: list[Ref] = []
        self.refusal: InvalidError | None = None

    @property
    def kube(self) -> Kube:
        return cast("Kube", StoredKube(self))

    @property
    def live(self) -> Store:
        return self

    def get(self, ref: Ref) -> Json | None:
        return copy.deepcopy(self.bodies.get(ref))

    def of_tenant(self, tenant_hash: str) -> list[Json]:
        return [body for body in self.bodies.values() if body["metadata"]["labels"][LABEL_TENANT_HASH] == tenant_hash]

    def all(self, resource: Resource) -> list[Json]:
        return [body for ref, body in self.bodies.items() if ref.resource == resource]

    def observe(self, body: Json) -> None:
        """It has seen it already."""

    def forget(self, ref: Ref, *, uid: str = "") -> None:
        """It has seen it go already."""

    def writing(self, _: Ref) -> AbstractContextManager[None]:
        return nullcontext()


class StoredKube:
    """The API server of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ref: Ref) -> Json:
        if ref not in self._store.bodies:
            raise NotFoundError("gone", status=404)
        return copy.deepcopy(self._store.bodies[ref])

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "") -> Listing:
        assert not labels
        found = [
            body for ref, body in self._store.bodies.items() if (ref.resource, ref.namespace) == (resource, namespace)
        ]
        return Listing(copy.deepcopy(found), "1")

    async def create(self, body: Json) -> Json:
        return await self.apply(body)

    async def apply(self, body: Json) -> Json:
        self._store.bodies[ref_of(body)] = {
            **body,
            "metadata": {**body["metadata"], "uid": "u", "resourceVersion": "1"},
        }
        return await self.get(ref_of(body))

    async def rehearse(self, body: Json) -> Json:
        self._store.rehearsed.append(ref_of(body))
        if self._store.refusal is not None:
            raise self._store.refusal
        return {**body, "metadata": {**body["metadata"], "uid": "u", "managedFields": [{"manager": "tenantry"}]}}

    async def delete(self, ref: Ref, **_: Any) -> None:
        del self._store.bodies[ref]


async def bring_about(target: Target, blueprint: Blueprint) -> None:
    applier = Applier(target, blueprint.identity, FakeTime())
    bodies = [body for body in objects(blueprint) if body["kind"] != "Secret"]
    await applier.apply_all(bodies)
    await applier.prune(bodies, namespace=blueprint.namespace)


def rehearsal_of(store: Store) -> RehearsedTarget:
    return RehearsedTarget(cast("Target", store))


@calmly
@given(blueprints(), blueprints())
async def test_what_a_rehearsal_tells_is_what_then_happens_and_it_does_nothing_itself(
    one: Blueprint, other: Blueprint
) -> None:
    other = replace(other, identity=one.identity, namespace=one.namespace)
    store = Store()
    await bring_about(cast("Target", store), one)
    before = copy.deepcopy(store.bodies)
    rehearsed = rehearsal_of(store)
    await bring_about(rehearsed, other)
    assert store.bodies == before
    await bring_about(cast("Target", store), other)
    happened = [Write(ref, before.get(ref), store.bodies.get(ref)) for ref in before.keys() | store.bodies.keys()]
    told = {(each.action, each.what) for each in items_of(rehearsed.overlay.writes())}
    assert told == {(each.action, each.what) for each in items_of(happened)}
    again = rehearsal_of(store)
    await bring_about(again, other)
    assert items_of(again.overlay.writes()) == []


@calmly
@given(blueprints())
async def test_what_is_taken_back_in_the_same_pass_is_not_told(blueprint: Blueprint) -> None:
    rehearsed = rehearsal_of(Store())
    bodies = objects(blueprint)
    for body in bodies:
        await rehearsed.kube.apply(body)
    assert len(items_of(rehearsed.overlay.writes())) == len(bodies)
    for body in bodies:
        await rehearsed.kube.delete(ref_of(body))
    assert items_of(rehearsed.overlay.writes()) == []


def body_of(resource: Resource, name: str, namespace: str = "n", **content: Any) -> Json:
    metadata = {"name": name, "labels": {LABEL_TENANT_HASH: "h"}, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}


async def test_reads_see_the_writes_before_them_and_the_real_world_does_not() -> None:
    store = Store()
    real = body_of(CONFIG_MAPS, "real", data={"a": "1"})
    await store.kube.apply(real)
    target = rehearsal_of(store)
    made = body_of(CONFIG_MAPS, "made", data={"b": "1"})
    await target.kube.create(made)
    with pytest.raises(AlreadyExistsError):
        await target.kube.create(made)
    with pytest.raises(AlreadyExistsError):
        await target.kube.create(real)
    await target.kube.merge_patch(ref_of(real), {"data": {"a": None, "c": "2"}})
    assert (await target.kube.get(ref_of(real)))["data"] == {"c": "2"}
    listed = (await target.kube.list(CONFIG_MAPS, namespace="n")).items
    assert {each["metadata"]["name"]: each["data"] for each in listed} == {"real": {"c": "2"}, "made": {"b": "1"}}
    assert {each["metadata"]["name"] for each in target.live.of_tenant("h")} == {"real", "made"}
    assert {each["metadata"]["name"] for each in target.live.all(CONFIG_MAPS)} == {"real", "made"}
    await target.kube.delete(ref_of(real))
    with pytest.raises(NotFoundError):
        await target.kube.get(ref_of(real))
    with pytest.raises(NotFoundError):
        await target.kube.merge_patch(ref_of(real), {})
    assert target.live.get(ref_of(real)) is None
    assert [each["metadata"]["name"] for each in target.live.all(CONFIG_MAPS)] == ["made"]
    assert store.bodies.keys() == {ref_of(real)}
    assert store.bodies[ref_of(real)]["data"] == {"a": "1"}


async def test_the_target_is_asked_about_what_it_can_judge_and_nothing_of_a_namespace_that_is_not_there() -> None:
    store = Store()
    space, quota = body_of(NAMESPACES, "n", ""), body_of(RESOURCE_QUOTAS, "tenant")
    target = rehearsal_of(store)
    await target.kube.create(space)
    await target.kube.apply(quota)
    assert store.rehearsed == [ref_of(space)]
    with pytest.raises(NotFoundError):
        await target.kube.get(Ref(CONFIG_MAPS, "n", "any"))
    assert (await target.kube.list(CONFIG_MAPS, namespace="n")).items == []
    await store.kube.apply(space)
    store.rehearsed.clear()
    target = rehearsal_of(store)
    ingress = body_of(INGRESSES, "tenant")
    await target.kube.apply(ingress)
    await target.kube.apply({**space, "metadata": {**space["metadata"], "annotations": {"tenantry.io/hosts": "a"}}})
    await target.kube.apply(quota)
    assert store.rehearsed == [ref_of(ingress), ref_of(space), ref_of(quota)]
    target = rehearsal_of(store)
    store.rehearsed.clear()
    await target.kube.apply(space)
    await target.kube.apply(ingress)
    assert store.rehearsed == [ref_of(space)], "its hosts are judged by a namespace that is not as it would be"


async def test_a_refusal_of_the_target_is_one_and_a_webhook_that_knows_no_dry_run_is_none() -> None:
    store = Store()
    quota = body_of(RESOURCE_QUOTAS, "tenant")
    store.refusal = InvalidError("spec.hard: no", status=422)
    with pytest.raises(InvalidError):
        await rehearsal_of(store).kube.apply(quota)
    store.refusal = InvalidError('admission webhook "x" does not support dry run', status=400)
    target = rehearsal_of(store)
    await target.kube.apply(quota)
    assert [each.action for each in items_of(target.overlay.writes())] == ["Create"]


async def test_on_the_management_cluster_nothing_is_asked_for() -> None:
    store, overlay = Store(), Overlay()
    kube = RehearsedKube(store.kube, RehearsedLive(store, overlay), overlay, asks=False)
    answer = await kube.apply(body_of(CONFIG_MAPS, "a"))
    assert answer["metadata"]["resourceVersion"]
    assert (store.rehearsed, store.bodies) == ([], {})
