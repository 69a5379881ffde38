"""Dry run: while a changed spec is held, the tenant goes on being kept by the one that was applied last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.foretelling import (
    annotate,
    applied,
    contents,
    foretold,
    held_body,
    hold,
    told,
)
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import ANNOTATION_DRY_RUN, ANNOTATION_ROTATE_CREDENTIALS
from tenantry.api.resources import NAMESPACES, NETWORK_POLICIES, RESOURCE_QUOTAS, TENANT_RECORDS

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}


def test_drift_is_repaired_with_the_spec_that_was_applied_last(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(quota={"hard": {"pods": "7"}})
    hold(workbench, quota={"hard": {"pods": "3"}})
    quota = RESOURCE_QUOTAS.path(where.namespace, "tenant")
    assert workbench.target.patch(quota, {"spec": {"hard": {"pods": "99"}}}, dry=False).status == 200
    workbench.target.delete(NETWORK_POLICIES.path(where.namespace, "tenant-isolation"), dry=False)

    def pods() -> str:
        return str(workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")["spec"]["hard"]["pods"])

    wait_for(lambda: pods() == "7", "the quota is as it was applied")
    wait_for(
        lambda: workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation"), "the isolation is back"
    )
    workbench.target.delete(NAMESPACES.path(name=where.namespace), dry=False)
    wait_for(lambda: "NamespaceRecreated" in condition(workbench.get()).get("message", ""), "the namespace is back")
    wait_for(lambda: pods() == "7", "the quota is as it was applied, in the new namespace too")


def test_what_a_plan_or_a_secret_says_goes_on_reaching_a_tenant_whose_spec_is_held(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", env={"TIER": "old"})
    workbench.env_secret("more", {"A": "1"})
    workbench.make(plan=plan, envFrom=[{"secretRef": {"name": "more"}}])
    preview = hold(workbench, plan="basic")
    assert "spec.plan" in preview["fields"]
    workbench.env_secret("more", {"A": "2"})
    wait_for(
        lambda: workbench.secret(where, "tenant-env")["A"] == "2", "the Secret of the applied spec is heard of", 10
    )
    workbench.platform("TenantPlan", "plan", env={"TIER": "new"})
    wait_for(lambda: workbench.secret(where, "tenant-env")["TIER"] == "new", "the plan of the applied spec is, too", 10)


def test_a_new_tenant_under_dry_run_goes_without_a_trace(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(held_body(workbench))
    foretold(workbench)
    workbench.delete()
    workbench.gone()
    assert not workbench.record(where)
    assert not workbench.objects(where)


def test_a_record_says_which_spec_was_applied_at_no_cost_for_a_new_tenant_and_one_write_a_change(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1", "B": "2"})
    record = workbench.record(where)
    assert record["metadata"]["generation"] == 1
    assert record["spec"]["lastSpec"]["env"] == {"A": "1", "B": "2"}
    workbench.make(env={"B": "3"}, description="x")
    record = workbench.record(where)
    assert record["metadata"]["generation"] == 2
    assert record["spec"]["lastSpec"]["env"] == {"B": "3"}
    assert record["spec"]["lastGeneration"] == 2
    workbench.look_now()
    hold(workbench, env={"B": "4"})
    assert workbench.record(where) == record, "a held change writes no record"


def test_credentials_are_rotated_during_a_dry_run_with_the_rotation_that_is_applied(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    before = workbench.secret(where, "tenant-database")["password"]
    hold(workbench, database=SHARED, env={"A": "1"})
    annotate(workbench, "true", **{ANNOTATION_ROTATE_CREDENTIALS: "now"})
    wait_for(lambda: workbench.secret(where, "tenant-database")["password"] != before, "it has new credentials")
    assert "A" not in workbench.secret(where, "tenant-env")
    assert condition(workbench.get(), "ChangeHeld")["status"] == "True"


def test_a_deletion_is_not_held_and_goes_by_the_spec_that_was_applied(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(deletion={"policy": "Retain"}, env={"A": "1"})
    hold(workbench, deletion={"policy": "Delete", "window": "0s"}, env={"A": "2"})
    workbench.delete()
    workbench.gone()
    record = workbench.record(where)["spec"]
    assert record["state"] == "Retained"
    assert (record["lastSpec"]["deletion"]["policy"], record["lastSpec"]["env"]) == ("Retain", {"A": "1"})
    assert workbench.on_target(NAMESPACES, "", where.namespace)


def test_what_was_deleted_is_not_given_back_by_a_dry_run_but_foretold(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", deletion={"maxWindow": "720h"})
    workbench.make(plan=plan, env={"A": "1"})
    workbench.delete()
    workbench.gone()
    wait_for(lambda: workbench.record(where)["spec"]["state"] == "Deleted", "it is deleted")
    workbench.apply(held_body(workbench, plan=plan, env={"A": "2"}))
    tenant = foretold(workbench)
    assert condition(tenant)["reason"] == "DryRun"
    assert ("Change", f"Secret {where.namespace}/tenant-env") in told(tenant["status"]["preview"])
    assert workbench.record(where)["spec"]["state"] == "Deleted"
    annotate(workbench, None)
    applied(workbench)
    assert workbench.record(where)["spec"]["state"] == "Active"
    assert workbench.secret(where, "tenant-env")["A"] == "2"


def test_without_a_word_of_what_was_applied_the_tenant_is_left_as_it_is(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1"})
    record = TENANT_RECORDS.path(name=where.identity.record)
    annotate(workbench, "true")
    foretold(workbench)
    lost = {"spec": {"lastSpec": None, "lastGeneration": None}}
    assert workbench.management.patch(record, lost, dry=False).status == 200
    before = contents(workbench, where)
    workbench.apply(held_body(workbench, env={"A": "2"}))
    tenant = foretold(workbench)
    assert (condition(tenant)["status"], condition(tenant)["reason"]) == ("True", "DryRun")
    assert "take the annotation off" in condition(tenant)["message"]
    assert ("Change", f"Secret {where.namespace}/tenant-env") in told(tenant["status"]["preview"])
    assert contents(workbench, where) == before
    annotate(workbench, None)
    applied(workbench)
    assert workbench.record(where)["spec"]["lastSpec"]["env"] == {"A": "2"}


@pytest.mark.parametrize("anew", [True, False], ids=["made anew from stamps", "not there yet"])
def test_whose_record_was_lost_during_a_dry_run_leaves_by_no_spec_that_was_only_held(
    workbench: Workbench, anew: bool
) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", deletion={"maxWindow": "720h"})
    workbench.make(plan=plan, env={"A": "1"})
    hold(workbench, plan=plan, env={"A": "2"}, deletion={"window": "0s"})
    path = TENANT_RECORDS.path(name=where.identity.record)
    unknown = {"spec": {"tenantUid": "", "lastSpec": None, "lastGeneration": None}}
    api = workbench.management
    lost = api.patch(path, unknown, dry=False) if anew else api.delete(path, dry=False)
    assert lost.status == 200, lost.message
    now = workbench.look_now()
    tenant = workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == now, "it is looked at again")
    assert "no TenantRecord says which spec was applied last" in condition(tenant)["message"]
    workbench.delete()
    workbench.gone()
    record = workbench.record(where)["spec"]
    assert (record["state"], record["deletion"]["window"]) == ("Deleted", "24h")
    assert workbench.on_target(NAMESPACES, "", where.namespace)


def test_a_suspended_tenant_stays_so_while_a_change_of_it_is_held(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1"})
    workbench.apply(workbench.tenant(env={"A": "1"}, suspend=True))
    workbench.told("True", "Suspended", None)
    preview = hold(workbench, env={"A": "2"})
    assert ("Change", f"Secret {where.namespace}/tenant-env") in told(preview)
    assert condition(workbench.get())["reason"] == "Suspended"
    quota = RESOURCE_QUOTAS.path(where.namespace, "tenant")
    assert workbench.target.patch(quota, {"spec": {"hard": {"pods": "99"}}}, dry=False).status == 200
    now = workbench.look_now()
    workbench.when(lambda body: body["status"].get("lastHandledReconcileAt") == now, "it is looked at again")
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")["spec"]["hard"]["pods"] == "99"
    annotate(workbench, None)
    applied(workbench)
    assert workbench.secret(where, "tenant-env")["A"] == "2"


def test_the_annotation_says_when_it_holds_nothing_and_a_change_that_is_taken_back_is_held_no_more(
    workbench: Workbench,
) -> None:
    workbench.make(env={"A": "1"})
    annotate(workbench, "true")
    tenant = foretold(workbench)
    assert (condition(tenant, "ChangeHeld")["status"], condition(tenant, "ChangeHeld")["reason"]) == (
        "False",
        "NothingHeld",
    )
    assert (condition(tenant)["reason"], tenant["status"].get("preview")) == ("Ready", None)
    assert hold(workbench, env={"A": "2"})["toChange"] == 1
    workbench.apply(held_body(workbench, env={"A": "1"}))
    tenant = foretold(workbench)
    assert (condition(tenant, "ChangeHeld")["reason"], tenant["status"].get("preview")) == ("NothingHeld", None)
    assert condition(tenant)["observedGeneration"] == tenant["metadata"]["generation"]


@pytest.mark.parametrize(("value", "held"), [("true", True), ("yes", True), ("", True), ("false", False)])
def test_every_value_of_the_annotation_holds_but_false(workbench: Workbench, value: str, held: bool) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1"})
    body = workbench.tenant(env={"A": "2"})
    body["metadata"]["annotations"] = {ANNOTATION_DRY_RUN: value}
    workbench.apply(body)
    if held:
        foretold(workbench)
    else:
        applied(workbench)
    assert workbench.secret(where, "tenant-env")["A"] == ("1" if held else "2")


def test_a_held_change_can_be_seen_with_kubectl(workbench: Workbench) -> None:
    workbench.make(env={"A": "1"})
    hold(workbench, env={"A": "2"})
    assert "DryRun" in workbench.kubectl("get", "tenant", "acme")
    heading, row = workbench.kubectl("get", "tenant", "acme", "-o", "wide").splitlines()
    assert row[heading.index("CHANGE-HELD") :].split()[0] == "True"
    assert "is held by tenantry.io/dry-run, and would change 1" in workbench.kubectl("describe", "tenant", "acme")
