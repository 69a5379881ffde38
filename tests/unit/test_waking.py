"""Who is woken by what: the object itself and what hangs on it, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.fake_time import FakeTime
from tests.unit.test_ledger import record

from tenantry.adapters.kube.live import LiveCache
from tenantry.api.resources import (
    CLUSTERS,
    CONTROLLER_REVISIONS,
    DATABASE_SERVERS,
    NAMESPACES,
    SECRETS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANTS,
    Ref,
    Resource,
)
from tenantry.reconcile.ledger import Ledger
from tenantry.runtime.management import Change
from tenantry.runtime.queue import WorkQueue
from tenantry.runtime.waking import COUNTER_SECONDS, Waker

Json = dict[str, Any]


def body(resource: Resource, name: str, namespace: str = "", version: str = "1", **spec: Any) -> Json:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": version, "uid": f"{name}-uid"}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


class Scene:
    """A waker over three tenants: placed with a database, placed without one, and not placed yet."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.queue = WorkQueue(
            lane_of=lambda _: "",
            clock=self.time,
            roll=lambda: 0.0,
            limit=99,
            lane_limit=99,
            call_later=self.time.call_later,
        )
        self.ledger = Ledger()
        self.waker = Waker(self.queue, self.ledger, "tenantry-system")
        self.waker.live = self.live = LiveCache(lambda *_: None)
        for name in ("acme", "bare", "new"):
            self.see(body(TENANTS, name, "shop", plan="basic" if name == "acme" else None))
        own = {"mode": "External", "external": {"secretRef": {"name": "own"}}}
        self.see(body(TENANTS, "other", "lab", envFrom=[{"secretRef": {"name": "env"}}], plan="basic", database=own))
        self.see(body(CLUSTERS, "eu-1", kubeconfigSecretRef={"name": "kubeconfig"}))
        self.see(body(DATABASE_SERVERS, "pg", adminSecretRef={"name": "admin"}, caSecretRef={"name": "ca"}))
        self.see(body(TENANT_PLANS, "basic"))
        self.ledger.note(*record("acme"))
        self.ledger.note(*record("bare", cluster="eu-2", server=""))

    def see(self, seen: Json) -> None:
        self.live.observe(seen)

    def woken(self) -> set[str]:
        """Kind and name of all that is to be looked at now; the queue is empty afterwards."""
        found = set()
        while (key := self.queue.take()) is not None:
            found.add(f"{key.resource.kind} {key.name}")
            self.queue.done(key)
        return found

    def change(
        self, resource: Resource, name: str, namespace: str = "", *, new: bool = True, gone: bool = False
    ) -> set[str]:
        there = None if gone else body(resource, name, namespace)
        self.waker.changed(Change(Ref(resource, namespace, name), there, new_generation=new))
        return self.woken()


def test_a_tenant_wakes_itself_and_later_the_counters_of_plans() -> None:
    scene = Scene()
    assert scene.change(TENANTS, "acme", "shop") == {"Tenant acme"}
    scene.time.advance(COUNTER_SECONDS)
    assert scene.woken() == {"TenantPlan basic"}
    assert scene.change(TENANTS, "acme", "shop", new=False) == {"Tenant acme"}
    scene.time.advance(COUNTER_SECONDS)
    assert scene.woken() == set()


def test_the_end_of_a_tenant_wakes_its_record() -> None:
    name, _ = record("acme")
    assert Scene().change(TENANTS, "acme", "shop", gone=True) == {"Tenant acme", f"TenantRecord {name}"}


def test_a_new_spec_of_a_cluster_wakes_who_is_on_it_and_who_has_no_place_yet() -> None:
    assert Scene().change(CLUSTERS, "eu-1") == {"Cluster eu-1", "Tenant acme", "Tenant new", "Tenant other"}
    assert Scene().change(CLUSTERS, "eu-1", new=False) == {"Cluster eu-1"}
    assert "Tenant acme" in Scene().change(CLUSTERS, "eu-1", new=False, gone=True)


def test_a_new_spec_of_a_server_wakes_who_is_on_it_and_who_may_wait_for_one() -> None:
    everyone = {"Tenant acme", "Tenant bare", "Tenant new", "Tenant other"}
    assert Scene().change(DATABASE_SERVERS, "pg") == {"DatabaseServer pg", *everyone}
    assert Scene().change(DATABASE_SERVERS, "pg-2") == {"DatabaseServer pg-2", *everyone - {"Tenant acme"}}


def test_a_new_spec_of_a_plan_wakes_who_is_on_it_also_by_default() -> None:
    assert Scene().change(TENANT_PLANS, "basic") == {"TenantPlan basic", "Tenant acme", "Tenant other"}
    assert Scene().change(TENANT_PLANS, "default") == {"TenantPlan default", "Tenant bare", "Tenant new"}


def test_a_workspace_wakes_its_tenants_only() -> None:
    assert Scene().change(NAMESPACES, "lab") == {"Tenant other"}


@pytest.mark.parametrize(
    ("name", "namespace", "woken"),
    [
        ("kubeconfig", "tenantry-system", {"Cluster eu-1"}), ("admin", "tenantry-system", {"DatabaseServer pg"}),
        ("ca", "tenantry-system", {"DatabaseServer pg"}), ("env", "lab", {"Tenant other"}), ("env", "shop", set()),
        ("env", "tenantry-system", set()), ("kubeconfig", "lab", set()), ("own", "lab", {"Tenant other"}),
        ("own", "shop", set()), ("own", "tenantry-system", set()),
    ],
)  # fmt: skip
def test_a_secret_wakes_who_refers_to_it(name: str, namespace: str, woken: set[str]) -> None:
    assert Scene().change(SECRETS, name, namespace) == woken


def test_a_record_is_counted_and_wakes_itself_and_its_tenant_also_at_its_end() -> None:
    scene = Scene()
    name, there = record("new")
    for now, count in ((there, 2), (None, 1)):
        scene.waker.changed(Change(Ref(TENANT_RECORDS, "", name), now, new_generation=False))
        assert scene.woken() == {f"TenantRecord {name}", "Tenant new"}
        assert scene.ledger.tenants_on_cluster("eu-1") == count


def test_a_revision_that_somebody_changes_or_deletes_wakes_its_plan() -> None:
    assert Scene().change(CONTROLLER_REVISIONS, "basic-0123abcd", "tenantry-system") == {"TenantPlan basic"}
    assert Scene().change(CONTROLLER_REVISIONS, "my-plan-0123abcd", gone=True) == {"TenantPlan my-plan"}


def test_plans_that_went_while_nobody_looked_are_found_by_their_revisions() -> None:
    scene = Scene()
    scene.see(body(CONTROLLER_REVISIONS, "gone-0123abcd", "tenantry-system"))
    scene.waker.plans_of_revisions()
    assert scene.woken() == {"TenantPlan gone"}


def test_a_record_that_somebody_deletes_wakes_the_plan_whose_slot_it_held() -> None:
    scene = Scene()
    name, with_plan = record("acme")
    with_plan["spec"]["plan"] = {"name": "pro", "revision": "pro-0123abcd"}
    scene.ledger.note(name, with_plan)
    assert "TenantPlan pro" in scene.change(TENANT_RECORDS, name, gone=True)


def test_a_change_on_a_target_wakes_the_tenant_whose_stamp_it_bears() -> None:
    scene = Scene()
    tenant_hash = record("acme")[0].rpartition("-")[2]
    where = Ref(NAMESPACES, "", "shop-acme")
    scene.waker.target_changed("eu-1", where, tenant_hash, None)
    assert scene.woken() == {"Tenant acme"}
    scene.waker.target_changed("eu-1", where, "aaaaaaaa", None)
    assert scene.woken() == set()


@pytest.mark.parametrize(
    ("act", "woken"),
    [
        (lambda waker: waker.wake(Ref(TENANTS, "shop", "gone")), {"Tenant gone"}),
        (lambda waker: waker.every(CLUSTERS), {"Cluster eu-1"}),
        (lambda waker: waker.tenants_of_cluster("eu-2"), {"Tenant bare", "Tenant new", "Tenant other"}),
    ],
)
def test_reconcilers_wake_by_name_by_kind_and_by_place(act: Callable[[Waker], None], woken: set[str]) -> None:
    scene = Scene()
    act(scene.waker)
    assert scene.woken() == woken


def test_while_a_change_is_held_the_tenant_hears_of_what_its_applied_spec_names_and_of_what_the_held_one_does() -> None:
    scene = Scene()
    held = body(TENANTS, "acme", "shop", version="2", plan="new", envFrom=[{"secretRef": {"name": "new"}}])
    held["metadata"]["annotations"] = {"tenantry.io/dry-run": "true"}
    name, known = record("acme")
    last = {"plan": "basic", "envFrom": [{"secretRef": {"name": "old"}}]}
    scene.see(held)
    scene.see({**body(TENANT_RECORDS, name), "spec": {**known["spec"], "lastSpec": last}})
    assert scene.ledger.record_of(Ref(TENANTS, "shop", "acme")) == name
    assert scene.change(SECRETS, "old", "shop") == {"Tenant acme"}
    assert scene.change(SECRETS, "new", "shop") == {"Tenant acme"}
    assert "Tenant acme" in scene.change(TENANT_PLANS, "basic")
    assert "Tenant acme" in scene.change(TENANT_PLANS, "new")
    assert scene.change(SECRETS, "other", "shop") == set()
