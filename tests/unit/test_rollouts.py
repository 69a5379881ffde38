"""Rollouts as they are carried out: who follows a plan, what counts as a proof of it, and what a restart waits for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime
from tests.unit.test_ledger import record

from tenantry.adapters.kube.live import LiveCache
from tenantry.api.names import ANNOTATION_DRY_RUN
from tenantry.api.resources import CONTROLLER_REVISIONS, NAMESPACES, TENANT_RECORDS, TENANTS, Ref
from tenantry.api.tenantplan import TenantPlan
from tenantry.decide.rollout import Health, Pace
from tenantry.reconcile.ledger import Ledger
from tenantry.reconcile.revisions import Revisions
from tenantry.reconcile.rollout import Progress, Rollouts
from tenantry.reconcile.verdicts import Verdicts
from tenantry.reconcile.world import Settings, World

Json = dict[str, Any]

PLAN = TenantPlan.model_validate(
    {
        "metadata": {"name": "pro", "generation": 2},
        "spec": {
            "allowedWorkspaces": {"from": "Selector", "selector": {"matchLabels": {"stage": "prod"}}},
            "rollout": {"type": "Waves"},
        },
    }
)
PACE = Pace(settle=60.0, patience=300.0)


class Scene:
    """Tenants on a plan whose content has just changed; each has been Ready on the former one for long."""

    def __init__(self, tenants: int = 20, **labels: str) -> None:
        self.time, self.woken = FakeTime(), list[Ref]()
        self.live = LiveCache(lambda *_: None)
        nothing = cast("Any", None)
        self.world = World(
            settings=Settings("m", "tenantry-system", rollout=PACE), management=cast("Any", self), live=self.live,
            ledger=Ledger(), targets=nothing, servers=nothing, own_servers=nothing, clock=self.time, dns=nothing,
            events=nothing,
            wake=cast("Any", self), token=lambda: "", certificate=nothing, jitter=float, copier=nothing,
        )  # fmt: skip
        self._versions = 0
        self.see(NAMESPACES, "shop", labels=labels or {"stage": "prod"})
        self.names = [self._add(f"t{number:02}") for number in range(tenants)]
        for revision in ("pro-old", "pro-new"):
            self.see(CONTROLLER_REVISIONS, revision, "tenantry-system")
        self.restart()

    def pinned(self, name: str) -> Json:
        """What the record says is to happen at the tenant's deletion."""
        body = self.live.get(Ref(TENANT_RECORDS, "", name)) or {}
        return cast("Json", body["spec"].get("deletion", {}))

    def note(self, name: str, **spec: Any) -> None:
        """The record says this, too."""
        body = self.live.get(Ref(TENANT_RECORDS, "", name)) or {}
        self.see(TENANT_RECORDS, name, spec={**body["spec"], **spec})
        self.world.ledger.note(name, self.live.get(Ref(TENANT_RECORDS, "", name)))

    def _add(self, tenant: str) -> str:
        name, body = record(tenant)
        self.see(TENANTS, tenant, "shop", spec={})
        self.see(TENANT_RECORDS, name, spec={**body["spec"], "plan": {"name": "pro", "revision": "pro-old"}})
        self.world.ledger.note(name, self.live.get(Ref(TENANT_RECORDS, "", name)))
        return name

    def see(self, resource: Any, name: str, namespace: str = "", *, spec: Json | None = None, **metadata: Any) -> None:
        self._versions += 1
        version = {"resourceVersion": str(self._versions), "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        where = {"namespace": namespace} if namespace else {}
        body: Json = {"apiVersion": resource.api_version, "kind": resource.kind}
        self.live.observe({**body, "metadata": {"name": name, **where, **version, **metadata}, "spec": spec or {}})

    async def merge_patch(self, ref: Ref, patch: Json) -> Json:
        """The management cluster, as far as records are concerned."""
        body = self.live.get(ref)
        assert body is not None
        self._versions += 1
        body["metadata"]["resourceVersion"] = str(self._versions)
        body["spec"] |= patch.get("spec", {})
        if "annotations" in patch["metadata"]:
            body["metadata"]["annotations"] = patch["metadata"]["annotations"]
        return body

    def wake(self, key: Ref) -> None:
        self.woken.append(key)

    def restart(self) -> None:
        """A new process knows nothing but what is written."""
        self.world = replace(self.world, verdicts=Verdicts())
        self._rollouts = Rollouts(self.world, Revisions(self.world))

    def judge(self, *names: str, health: Health = Health.READY) -> None:
        """A pass over each of these tenants found this out."""
        for name in names or self.names:
            entry = self.world.ledger.entry(name)
            assert entry is not None
            assert entry.plan is not None
            self.world.verdicts.note(name, entry.plan.revision, health, self.time.monotonic())

    def look(self) -> Progress:
        """A pass over the plan."""
        return asyncio.run(self._rollouts.go_on(PLAN, "pro-new"))

    @property
    def updated(self) -> list[str]:
        entries = ((name, self.world.ledger.entry(name)) for name in self.names)
        return [name for name, entry in entries if entry and entry.plan and entry.plan.revision == "pro-new"]


def test_each_wave_waits_until_the_one_before_was_well_and_wakes_whom_it_reached() -> None:
    scene = Scene()
    for size in (1, 5, 20):
        scene.judge()
        scene.look()
        assert len(scene.updated) == size
        scene.time.advance(59)
        scene.judge()
        assert len(scene.updated) == size
        scene.look()
        assert len(scene.updated) == size, "59 s are not known to be well: the first verdict came with this look"
        scene.time.advance(60)
    assert scene.look().status.phase == "Complete"
    assert sorted(key.name for key in scene.woken) == sorted(f"t{number:02}" for number in range(20))


def test_whoever_leaves_or_may_not_use_the_plan_any_more_is_left_as_it_is() -> None:
    scene = Scene(3)
    leaving, retained, staying = scene.names
    scene.see(TENANTS, "t00", "shop", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["tenantry.io/tenant"])
    body = scene.live.get(Ref(TENANT_RECORDS, "", retained)) or {}
    scene.world.ledger.note(retained, {**body, "spec": {**body["spec"], "state": "Retained"}})
    scene.judge(staying)
    status = scene.look().status
    assert (scene.updated, status.total) == ([staying], 1), f"{leaving} is only held"
    stranger = Scene(3, stage="test")
    stranger.judge()
    assert (stranger.look().status.total, stranger.updated) == (0, [])


@pytest.mark.parametrize(
    ("annotations", "applied", "policy", "window"),
    [
        ({}, {"deletion": {"policy": "Retain"}}, "Delete", "1h"),
        ({ANNOTATION_DRY_RUN: "true"}, {"deletion": {"policy": "Retain", "window": "3h"}}, "Retain", "3h"),
        ({ANNOTATION_DRY_RUN: "true"}, None, "Retain", "2h"),
    ],
    ids=["applied", "held", "held, and nobody knows what was applied"],
)
def test_what_a_dry_run_holds_is_not_what_a_rollout_pins_for_the_deletion(
    annotations: dict[str, str], applied: Json | None, policy: str, window: str
) -> None:
    scene = Scene(1)
    (name,) = scene.names
    asked = {"deletion": {"policy": "Delete", "window": "1h"}}
    scene.see(TENANTS, "t00", "shop", spec=asked, annotations=annotations)
    known = {"lastSpec": applied} if applied is not None else {}
    scene.note(name, tenantUid="t00", deletion={"policy": "Retain", "window": "2h"}, **known)
    scene.judge()
    scene.look()
    assert scene.updated == [name]
    assert (scene.pinned(name)["policy"], scene.pinned(name)["window"]) == (policy, window)


def test_a_canary_that_its_owner_suspends_is_replaced_by_another() -> None:
    scene = Scene()
    scene.judge()
    scene.look()
    (canary,) = scene.updated
    scene.judge(canary, health=Health.IDLE)
    scene.time.advance(600)
    scene.look()
    assert len(scene.updated) == 2, "one more, and not a wave"
    scene.look()
    assert len(scene.updated) == 2


def test_after_a_restart_all_are_looked_at_before_the_next_wave_and_each_proves_itself_again() -> None:
    scene = Scene()
    scene.judge()
    scene.look()
    (canary,) = scene.updated
    scene.time.advance(60)
    scene.restart()
    assert scene.look().outcome.status is None
    assert scene.updated == [canary]
    scene.judge()
    scene.time.advance(59)
    scene.look()
    assert scene.updated == [canary]
    scene.time.advance(1)
    scene.look()
    assert len(scene.updated) == 5


def test_a_tenant_that_is_not_looked_at_for_too_long_stops_it_and_that_is_written_down() -> None:
    scene = Scene()
    scene.judge()
    scene.look()
    scene.time.advance(300)
    progress = scene.look()
    assert progress.status.phase == "Paused"
    scene.restart()
    scene.judge()
    scene.time.advance(1000)
    assert scene.look().status.phase == "Paused", "although all are well by now"
    assert len(scene.updated) == 1
