"""What holds while a tenant's plan changes, is full, or is gone: the content that its record names, and its slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import ANNOTATION_TENANT_ID, CLAIM_SLOT, LABEL_CLAIM, LABEL_PLAN, SYSTEM_NAMESPACE
from tenantry.api.resources import CONTROLLER_REVISIONS, LEASES, TENANT_PLANS, TENANT_RECORDS
from tenantry.desired.slots import slot

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]
AT_ONCE: Json = {"deletion": {"maxWindow": "0s"}}
SOONER = 25.0
"""Seconds; who waits for a slot and is not woken looks again after 30."""


def plan_is(workbench: Workbench, name: str = "plan", **spec: Any) -> str:
    """Apply a plan whose deleted tenants are purged at once, unless the spec says otherwise; its name."""
    return workbench.platform("TenantPlan", name, **{**AT_ONCE, **spec})


def pin(workbench: Workbench, name: str = "acme") -> Json:
    """Which plan and revision a tenant's record says it has."""
    pinned: Json = workbench.record(workbench.whereabouts(name))["spec"].get("plan", {})
    return pinned


def forget_pin(workbench: Workbench, record: Json) -> None:
    """Let a record be as a version before wrote it."""
    answer = workbench.management.patch(
        TENANT_RECORDS.path(name=record["metadata"]["name"]), {"spec": {"plan": None}}, dry=False
    )
    assert answer.status < 300, answer.message


def env(workbench: Workbench, name: str = "acme") -> dict[str, str]:
    """The environment that a tenant has."""
    return workbench.secret(workbench.whereabouts(name), "tenant-env")


def labelled(workbench: Workbench, path: str, plan: str) -> list[Json]:
    answer = workbench.management.get(f"{path}?labelSelector={LABEL_PLAN}%3D{plan}")
    assert answer.status == 200, answer.message
    items: list[Json] = answer.body["items"]
    return items


def revisions(workbench: Workbench, plan: str) -> dict[int, str]:
    """The names of a plan's revisions by their numbers."""
    found = labelled(workbench, CONTROLLER_REVISIONS.path(SYSTEM_NAMESPACE), plan)
    return {body["revision"]: body["metadata"]["name"] for body in found}


def holders(workbench: Workbench, plan: str) -> list[str]:
    """The names of the tenants that hold a slot of a plan."""
    found = labelled(workbench, LEASES.path(SYSTEM_NAMESPACE), plan)
    return sorted(body["spec"]["holderIdentity"].rpartition("-")[0] for body in found)


def rolled_out(workbench: Workbench, plan: str) -> Json:
    """The plan, once its present content has reached everybody."""

    def complete() -> Json | None:
        body = workbench.management.get(TENANT_PLANS.path(name=plan)).body
        current = body["status"].get("observedGeneration") == body["metadata"]["generation"]
        return body if current and body["status"]["rollout"]["phase"] == "Complete" else None

    return wait_for(complete, f"{plan} is rolled out")


def full(plan: str, limit: int, held: int) -> str:
    return (
        f"spec.plan: plan {plan!r} has maxTenants: {limit} for a workspace, and this one's tenants hold {held}; "
        "deleted ones count until they are purged. Delete one, choose another plan, or have the platform team raise it"
    )


# --- content ------------------------------------------------------------------------------------------------------
def test_a_changed_plan_reaches_few_tenants_at_once_by_one_write_of_each_record(workbench: Workbench) -> None:
    plan = plan_is(workbench, env={"LEVEL": "1"})
    for name in ("acme", "zeta"):
        tenant = workbench.make(name, plan=plan)
        assert tenant["status"]["effective"]["planRevision"] == pin(workbench, name)["revision"]
    first = pin(workbench)["revision"]
    before = workbench.record(workbench.whereabouts())["metadata"]
    plan_is(workbench, env={"LEVEL": "2"}, deletion={"maxWindow": "1h"})
    for name in ("acme", "zeta"):
        wait_for(lambda name=name: env(workbench, name)["LEVEL"] == "2", "the change is there")  # type: ignore[misc]  # mypy can't type a default of a lambda
    second = pin(workbench)["revision"]
    assert revisions(workbench, plan) == {1: first, 2: second}
    record = workbench.record(workbench.whereabouts())
    assert record["spec"]["deletion"]["window"] == "1h"
    assert record["metadata"]["generation"] == before["generation"] + 1
    status = rolled_out(workbench, plan)["status"]["rollout"]
    assert (status["revision"], status["updated"], status["total"]) == (second, 2, 2)
    told = workbench.when(lambda seen: seen["status"]["effective"]["planRevision"] == second, "it is told")
    assert condition(told)["status"] == "True"


def test_a_content_that_the_plan_had_before_is_the_same_revision_and_the_newest_again(workbench: Workbench) -> None:
    plan = plan_is(workbench, env={"LEVEL": "1"})
    workbench.make(plan=plan)
    first = pin(workbench)["revision"]
    for level, number in (("2", 2), ("1", 3)):
        plan_is(workbench, env={"LEVEL": level})
        wait_for(lambda level=level: env(workbench)["LEVEL"] == level, "the change is there")  # type: ignore[misc]  # as above
        assert number in revisions(workbench, plan)
    assert pin(workbench)["revision"] == first == revisions(workbench, plan)[3]


def test_what_changes_no_tenant_writes_no_record_and_no_revision(workbench: Workbench) -> None:
    plan = plan_is(workbench)
    workbench.make(plan=plan)
    record, kept = workbench.record(workbench.whereabouts()), revisions(workbench, plan)
    plan_is(workbench, displayName="Another", maxTenants=7, rollout={"type": "Waves"})
    rolled_out(workbench, plan)
    workbench.look_now()
    workbench.make("zeta", plan=plan)
    assert workbench.record(workbench.whereabouts()) == record
    assert revisions(workbench, plan) == kept


@pytest.mark.timeout(600)
def test_of_many_revisions_the_last_ten_stay_and_the_one_that_a_tenant_has(workbench: Workbench) -> None:
    plan = plan_is(workbench, env={"LEVEL": "0"})
    workbench.make(plan=plan, deletion={"policy": "Retain"})
    pinned = pin(workbench)["revision"]
    workbench.delete()
    workbench.gone()
    for level in range(1, 14):
        plan_is(workbench, env={"LEVEL": str(level)})
        rolled_out(workbench, plan)
    wait_for(lambda: len(revisions(workbench, plan)) == 11, "the others go")
    kept = revisions(workbench, plan)
    assert kept == {1: pinned, **{number: kept[number] for number in range(5, 15)}}


def test_a_plan_that_is_deleted_goes_on_holding_for_those_that_have_it(workbench: Workbench) -> None:
    plan = plan_is(workbench, env={"LEVEL": "1"})
    workbench.make(plan=plan)
    pinned = pin(workbench)
    workbench.stage.management.kubectl("delete", "tenantplan", plan)
    told = f"there is no TenantPlan {plan!r} any more that this workspace may use; what it gave last holds"
    tenant = workbench.when(lambda seen: told in condition(seen, "Placed")["message"], "it is told")
    assert (condition(tenant)["status"], condition(tenant, "Placed")["reason"]) == ("True", "Ready")
    workbench.make(plan=plan, env={"MINE": "2"})
    assert (env(workbench)["LEVEL"], env(workbench)["MINE"]) == ("1", "2"), "what it may set itself it still may"
    where = workbench.whereabouts()
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "limitrange", "tenant")
    wait_for(lambda: "LimitRange/tenant" in workbench.inventory(where), "what is lost is made again")
    workbench.apply(workbench.tenant("late", plan=plan))
    workbench.told(
        "Unknown",
        "PlanNotFound",
        f"spec.plan: there is no TenantPlan {plan!r} that this workspace may use",
        name="late",
    )
    assert pin(workbench) == pinned
    plan_is(workbench, env={"LEVEL": "3"})
    workbench.ready("late")
    wait_for(lambda: env(workbench)["LEVEL"] == "3", "a plan of that name is followed again")
    workbench.when(lambda seen: "PlanNotFound" not in condition(seen, "Placed")["message"], "it is told no more")


def test_a_revision_that_somebody_deleted_is_made_again_or_the_present_content_comes(workbench: Workbench) -> None:
    plan = plan_is(workbench, env={"LEVEL": "1"})
    workbench.make(plan=plan)
    lost = pin(workbench)["revision"]
    workbench.stage.management.kubectl("-n", SYSTEM_NAMESPACE, "delete", "controllerrevision", lost)
    wait_for(lambda: lost in revisions(workbench, plan).values(), "the plan has it made again")
    workbench.look_now()
    assert condition(workbench.ready())["status"] == "True"


def test_a_record_of_a_version_before_is_pinned_by_one_write_and_counts_also_where_the_plan_is_full(
    workbench: Workbench,
) -> None:
    plan = plan_is(workbench, env={"LEVEL": "1"})
    workbench.make(plan=plan)
    before = workbench.record(workbench.whereabouts())
    plan_is(workbench, env={"LEVEL": "1"}, maxTenants=0)
    forget_pin(workbench, before)
    record = wait_for(lambda: pin(workbench) and workbench.record(workbench.whereabouts()), "it is pinned")
    assert record["metadata"]["generation"] == before["metadata"]["generation"] + 2, "ours, and the operator's"
    assert (record["metadata"]["uid"], record["spec"]) == (before["metadata"]["uid"], before["spec"])
    assert condition(workbench.ready())["status"] == "True"
    workbench.apply(workbench.tenant("late", plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 0, 1), name="late")


def test_a_tenant_that_names_no_plan_has_the_built_in_content_and_can_not_slip_into_a_full_one(
    workbench: Workbench,
) -> None:
    plan = plan_is(workbench, maxTenants=0)
    tenant = workbench.make(plan=None)
    assert pin(workbench) == {"name": "default", "revision": "", "wasReady": False}
    assert (tenant["status"]["effective"]["plan"], tenant["status"]["effective"]["planRevision"]) == ("", "")
    workbench.apply(workbench.tenant(plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 0, 0))
    assert pin(workbench)["name"] == "default"


# --- deletion -----------------------------------------------------------------------------------------------------
def in_waves(workbench: Workbench) -> tuple[str, str, str]:
    """A plan with two tenants in mid-rollout: its name, the tenant that has its new content, the one that has not."""
    names = ("acme", "zeta")
    plan = plan_is(
        workbench, env={"LEVEL": "1"}, rollout={"type": "Waves"}, deletion={"minWindow": "1h", "maxWindow": "1h"}
    )
    for name in names:
        workbench.make(name, plan=plan)
    former = pin(workbench)["revision"]
    plan_is(workbench, env={"LEVEL": "2"}, rollout={"type": "Waves"})
    reached = wait_for(lambda: [name for name in names if pin(workbench, name)["revision"] != former], "the canary")
    assert len(reached) == 1
    return plan, reached[0], next(name for name in names if name not in reached)


def test_a_tenant_that_a_rollout_has_not_reached_is_deleted_by_the_terms_that_it_has(workbench: Workbench) -> None:
    _, reached, other = in_waves(workbench)
    wait_for(lambda: env(workbench, reached)["LEVEL"] == "2", "it has the new content")
    where = workbench.whereabouts(other)
    for name in (other, reached):  # the other way round, the next canary would be the other one
        workbench.delete(name)
        workbench.gone(name)
    workbench.forgotten(workbench.whereabouts(reached))  # without a window
    record = workbench.record(where)["spec"]
    assert (record["state"], record["deletion"]["window"]) == ("Deleted", "1h")


def test_nobody_leaves_by_the_terms_of_a_plan_that_was_named_a_moment_before(workbench: Workbench) -> None:
    plan = plan_is(workbench, deletion={"minWindow": "1h", "maxWindow": "1h"})
    quick = plan_is(workbench, "quick", maxTenants=0)
    workbench.make(plan=plan)
    workbench.apply(workbench.tenant(plan=quick))
    workbench.told("Unknown", "PlanFull", full(quick, 0, 0))
    workbench.delete()
    workbench.gone()
    record = workbench.record(workbench.whereabouts())["spec"]
    assert (record["state"], record["deletion"]["window"], record["plan"]["name"]) == ("Deleted", "1h", plan)


# --- records that are lost ----------------------------------------------------------------------------------------
def test_a_record_that_is_lost_in_mid_rollout_is_pinned_to_what_the_tenant_has(workbench: Workbench) -> None:
    plan, reached, other = in_waves(workbench)
    # However long the search takes, a canary that waits for something proves nothing: the rollout goes no further.
    workbench.apply(workbench.tenant(reached, plan=plan, envFrom=[{"secretRef": {"name": "missing"}}]))
    workbench.told("Unknown", "SecretNotFound", None, name=reached)
    pinned, where = pin(workbench, other), workbench.whereabouts(other)
    uid = workbench.record(where)["metadata"]["uid"]
    assert workbench.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False).status == 200

    def anew() -> Json | None:
        metadata = workbench.record(where).get("metadata", {})
        return metadata if metadata.get("uid", uid) != uid else None

    # Tests beside this one may have clusters that can't be searched: then it is looked for again every 30 s.
    wait_for(anew, "its record is made anew", 150)
    assert pin(workbench, other) == pinned
    workbench.look_now(other)
    workbench.ready(other)
    assert (pin(workbench, other), env(workbench, other)["LEVEL"]) == (pinned, "1")


def test_a_deleted_tenant_whose_record_is_lost_keeps_its_slot(workbench: Workbench) -> None:
    plan = plan_is(workbench, maxTenants=1, deletion={"minWindow": "1h"})
    workbench.make(plan=plan)
    workbench.delete()
    workbench.gone()
    where = workbench.whereabouts()
    workbench.apply(workbench.tenant("next", plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 1, 1), name="next")
    assert workbench.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False).status == 200
    now = "at-once"
    workbench.stage.management.kubectl("annotate", "tenantplan", plan, f"tenantry.io/requestedAt={now}")

    def looked() -> bool:
        body = workbench.management.get(TENANT_PLANS.path(name=plan)).body
        return bool(body["status"].get("lastHandledReconcileAt") == now)

    wait_for(looked, "the plan's slots were looked at")
    assert holders(workbench, plan) == ["acme"]
    workbench.apply(workbench.tenant(plan=plan))
    workbench.ready(seconds=150)  # all is searched first, as above
    assert (holders(workbench, plan), pin(workbench)["name"]) == (["acme"], plan)


# --- slots --------------------------------------------------------------------------------------------------------
def test_one_tenant_too_many_waits_until_another_is_purged_or_the_plan_has_more(workbench: Workbench) -> None:
    plan = plan_is(workbench, maxTenants=2)
    for name in ("one", "two"):
        workbench.make(name, plan=plan)
    workbench.apply(workbench.tenant("three", plan=plan))
    tenant = workbench.told("Unknown", "PlanFull", full(plan, 2, 2), name="three")
    assert condition(tenant, "Reconciling")["reason"] == "PlanFull"
    assert workbench.record(workbench.whereabouts("three")) == {}
    assert "tenantry.io/tenant" not in tenant["metadata"].get("finalizers", [])
    workbench.delete("one")
    workbench.gone("one")
    workbench.ready("three", seconds=SOONER)
    assert holders(workbench, plan) == ["three", "two"]
    workbench.apply(workbench.tenant("four", plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 2, 2), name="four")
    plan_is(workbench, maxTenants=3)
    workbench.ready("four", seconds=SOONER)
    assert holders(workbench, plan) == ["four", "three", "two"]


def test_a_deleted_tenant_counts_while_it_can_be_had_back(workbench: Workbench) -> None:
    plan = plan_is(workbench, maxTenants=1, deletion={"minWindow": "1h"})
    workbench.make(plan=plan)
    workbench.delete()
    workbench.gone()
    workbench.apply(workbench.tenant("next", plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 1, 1), name="next")
    workbench.make(plan=plan)
    assert holders(workbench, plan) == ["acme"]


def test_slots_are_given_back_also_when_the_plan_has_no_limit_any_more(workbench: Workbench) -> None:
    plan = plan_is(workbench, maxTenants=1)
    workbench.make(plan=plan)
    answer = workbench.management.patch(TENANT_PLANS.path(name=plan), {"spec": {"maxTenants": None}}, dry=False)
    assert answer.status < 300, answer.message
    workbench.make("zeta", plan=plan)
    assert holders(workbench, plan) == ["acme"]
    workbench.delete()
    wait_for(lambda: not holders(workbench, plan), "it is given back")


def test_each_workspace_has_slots_of_its_own(workbench: Workbench) -> None:
    plan = plan_is(workbench, maxTenants=1)
    other = workbench.make_workspace(f"{workbench.prefix}-other")
    workbench.make(plan=plan)
    workbench.make("acme", other, plan=plan)
    assert holders(workbench, plan) == ["acme", "acme"]


def test_changing_to_a_full_plan_is_refused_and_the_former_one_holds(workbench: Workbench) -> None:
    small = plan_is(workbench, "small", maxTenants=2, env={"SIZE": "small"})
    big = plan_is(workbench, "big", maxTenants=1, env={"SIZE": "big"})
    workbench.make("first", plan=big)
    workbench.make(plan=small)
    before = workbench.record(workbench.whereabouts())["spec"]
    workbench.apply(workbench.tenant(plan=big))
    workbench.told("Unknown", "PlanFull", full(big, 1, 1))
    assert workbench.record(workbench.whereabouts())["spec"] == before
    assert (env(workbench)["SIZE"], holders(workbench, small)) == ("small", ["acme"])
    workbench.delete("first")
    workbench.gone("first")
    workbench.ready(seconds=SOONER)
    assert (env(workbench)["SIZE"], pin(workbench)["name"]) == ("big", big)
    assert holders(workbench, big) == ["acme"]
    wait_for(lambda: not holders(workbench, small), "the former slot is free")


def test_tenants_that_were_there_before_the_limit_count_and_stay(workbench: Workbench) -> None:
    plan = plan_is(workbench)
    for name in ("one", "two", "three"):
        workbench.make(name, plan=plan)
    assert holders(workbench, plan) == []
    plan_is(workbench, maxTenants=2)
    workbench.apply(workbench.tenant("four", plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 2, 3), name="four")
    assert holders(workbench, plan) == ["one", "three", "two"]
    workbench.delete("two")
    wait_for(lambda: len(holders(workbench, plan)) == 2, "one slot is given back")
    workbench.told("Unknown", "PlanFull", None, name="four")
    for name in ("one", "three"):
        workbench.ready(name)
    workbench.delete("one")
    workbench.gone("one")
    workbench.ready("four", seconds=SOONER)


@pytest.mark.parametrize("tenant", ["acme", "gone"])
def test_a_slot_that_nobody_can_claim_is_given_back(workbench: Workbench, tenant: str) -> None:
    """An operator died after it claimed the slot; then its Tenant went, or was given another plan."""
    plan = plan_is(workbench, maxTenants=1)
    workbench.make(plan=plan_is(workbench, "other"))
    where = workbench.whereabouts(tenant)
    leaked = manifest(
        LEASES,
        f"slot-{workbench.prefix}-0",
        SYSTEM_NAMESPACE,
        labels={LABEL_CLAIM: CLAIM_SLOT, LABEL_PLAN: plan},
        annotations={ANNOTATION_TENANT_ID: where.identity.tenant_id},
        spec={"holderIdentity": where.identity.record},
    )
    workbench.apply(leaked)
    assert holders(workbench, plan) in ([tenant], []), "each change of a tenant has the plan looked at after a while"
    workbench.stage.management.kubectl("annotate", "tenantplan", plan, "tenantry.io/requestedAt=now")
    wait_for(lambda: not holders(workbench, plan), "it is given back")


def test_a_slot_whose_record_was_not_written_yet_is_the_tenants_own(workbench: Workbench) -> None:
    """The operator died between the two; when it is back, the tenant is placed by the slot that it has."""
    plan = plan_is(workbench, maxTenants=0)
    workbench.apply(workbench.tenant(plan=plan))
    workbench.told("Unknown", "PlanFull", full(plan, 0, 0))
    where = workbench.whereabouts()
    workbench.apply(slot(SYSTEM_NAMESPACE, plan, 0, where.identity))
    workbench.look_now()
    workbench.ready()
    assert (holders(workbench, plan), pin(workbench)["name"]) == (["acme"], plan)
    assert workbench.management.get(TENANT_RECORDS.path(name=where.identity.record)).status == 200
