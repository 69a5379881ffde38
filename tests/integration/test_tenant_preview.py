"""Dry run: a changed spec is held and foretold while the one before it is kept, until the annotation is taken off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for

from tenantry.api.names import (
    ANNOTATION_DRY_RUN,
    ANNOTATION_HOST,
    ANNOTATION_ROTATE_CREDENTIALS,
    LABEL_CLAIM,
    LABEL_TASK,
    OPERATOR_SERVICE_ACCOUNT,
    SYSTEM_NAMESPACE,
    TENANT_FINALIZER,
)
from tenantry.api.resources import DEPLOYMENTS, NAMESPACES, NETWORK_POLICIES, RESOURCE_QUOTAS, TENANT_RECORDS, TENANTS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"
SHARED = {"mode": "Shared"}
ADMIN = {"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}
VIEW = {"role": "View", "subjects": [{"kind": "Group", "name": "staff"}]}
SECRET_VALUE = "s3cr3t-of-the-workspace"


def annotate(workbench: Workbench, value: str | None, name: str = "acme", **more: str | None) -> None:
    """Set or take off the annotation."""
    annotations = {ANNOTATION_DRY_RUN: value, **more}
    answer = workbench.management.patch(
        TENANTS.path(workbench.workspace, name), {"metadata": {"annotations": annotations}}, dry=False
    )
    assert answer.status == 200, answer.message


def held_body(workbench: Workbench, name: str = "acme", **spec: Any) -> Json:
    body = workbench.tenant(name, **spec)
    body["metadata"]["annotations"] = {ANNOTATION_DRY_RUN: "true"}
    return body


def foretold(workbench: Workbench, name: str = "acme") -> Json:
    """The Tenant, once its present generation is judged under the annotation."""

    def judged() -> Json | None:
        body = workbench.get(name)
        held = condition(body, "ChangeHeld")
        return body if held.get("observedGeneration") == body["metadata"]["generation"] else None

    return wait_for(judged, "the change is judged")


def hold(workbench: Workbench, name: str = "acme", **spec: Any) -> Json:
    """Apply a changed spec together with the annotation; its preview."""
    workbench.apply(held_body(workbench, name, **spec))
    preview: Json = foretold(workbench, name)["status"]["preview"]
    return preview


def applied(workbench: Workbench, name: str = "acme") -> Json:
    """The Tenant, once nothing is held, and its Ready is about what it is now."""

    def all_of_it() -> Json | None:
        body = workbench.get(name)
        ready = condition(body)
        done = ready.get("status") == "True" and ready["observedGeneration"] == body["metadata"]["generation"]
        return body if done and not body["status"].get("preview") and not condition(body, "ChangeHeld") else None

    return wait_for(all_of_it, "the change is applied")


def told(preview: Json) -> set[tuple[str, str]]:
    return {(each["action"], each["what"]) for each in preview.get("items", [])}


def named(body: Json) -> str:
    metadata = body["metadata"]
    if LABEL_CLAIM in metadata["labels"]:
        return f"Host {metadata['annotations'][ANNOTATION_HOST]}"
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{body['kind']} {where}{metadata['name']}"


def contents(workbench: Workbench, where: Whereabouts) -> dict[str, str]:
    """All that bears the tenant's stamp on the target, by name; without what the API server counts."""
    found = {}
    for body in workbench.objects(where):
        metadata = {
            key: value
            for key, value in body["metadata"].items()
            if key not in {"resourceVersion", "managedFields", "generation"}
        }
        found[named(body)] = json.dumps({**body, "metadata": metadata, "status": None}, sort_keys=True)
    return found


def happened(before: dict[str, str], after: dict[str, str]) -> set[tuple[str, str]]:
    """What became of each object."""
    made = {("Create", name) for name in after.keys() - before.keys()}
    gone = {("Delete", name) for name in before.keys() - after.keys()}
    return made | gone | {("Change", name) for name in before.keys() & after.keys() if before[name] != after[name]}


CHANGES: dict[str, tuple[Json, Json]] = {
    "nothing that is on the target": ({"description": "a"}, {"description": "b"}),
    "the environment": ({"env": {"A": "1", "B": "2"}}, {"env": {"B": "3", "C": "4"}}),
    "the quota": ({}, {"quota": {"hard": {"pods": "1"}}}),
    "who has access": ({"rbac": {"bindings": [ADMIN]}}, {"rbac": {"bindings": [VIEW]}}),
    "a host": ({"domains": [{"host": "a.{prefix}.test"}]}, {"domains": [{"host": "b.{prefix}.test"}]}),
    "the ingress": ({}, {"ingress": {"enabled": False}}),
    "all of it switched off": ({"database": SHARED}, {"database": SHARED, "enabled": False}),
    "all of it switched on": ({"database": SHARED, "enabled": False}, {"database": SHARED}),
    "a database": ({}, {"database": SHARED}),
    "tasks": ({}, {"tasks": {"enabled": False}}),
}


def spec_of(workbench: Workbench, text: Json, plan: str) -> Json:
    return {**json.loads(json.dumps(text).replace("{prefix}", workbench.prefix)), "plan": plan}


@pytest.mark.parametrize("changed", CHANGES)
def test_what_is_foretold_is_what_happens_when_the_annotation_is_taken_off_and_not_before(
    workbench: Workbench, changed: str
) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", customHosts="Any")
    old, new = (spec_of(workbench, text, plan) for text in CHANGES[changed])
    workbench.apply(workbench.tenant(**old))
    applied(workbench)
    before = contents(workbench, where)
    mark = workbench.stage.target.audit_mark()
    preview = hold(workbench, **new)
    tenant = workbench.get()
    assert (condition(tenant)["status"], condition(tenant)["reason"]) == ("True", "DryRun")
    assert (condition(tenant)["observedGeneration"], tenant["status"]["observedGeneration"]) == (1, 2)
    workbench.look_now()
    wait_for(lambda: workbench.get()["status"].get("lastHandledReconcileAt"), "it is looked at again")
    assert contents(workbench, where) == before, "nothing was changed"
    assert workbench.get()["status"]["preview"] == preview, "the same change is told in the same way"
    asked = [
        entry
        for entry in workbench.stage.target.audit_entries(after=mark)
        if entry.user == OPERATOR and entry.is_write and where.namespace in (entry.namespace, entry.name)
    ]
    assert [entry.uri for entry in asked if "dryRun=All" not in entry.uri] == []
    annotate(workbench, None)
    applied(workbench)
    real = happened(before, contents(workbench, where))
    assert {each for each in told(preview) if not each[1].startswith(("Database ", "Login "))} == real
    assert (preview["toCreate"], preview["toChange"], preview["toDelete"]) == tuple(
        sum(each["action"] == action for each in preview.get("items", [])) for action in ("Create", "Change", "Delete")
    )


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


def test_a_new_tenant_is_foretold_as_a_whole_and_nothing_at_all_is_made(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.apply(held_body(workbench, database=SHARED, env={"A": "1"}))
    tenant = foretold(workbench)
    preview = tenant["status"]["preview"]
    assert (condition(tenant)["status"], condition(tenant)["reason"]) == ("Unknown", "DryRun")
    assert not condition(tenant, "Stalled")
    assert TENANT_FINALIZER not in tenant["metadata"].get("finalizers", [])
    assert not workbench.record(where)
    assert not workbench.objects(where)
    assert not workbench.database_traces(where)
    assert {action for action, _ in told(preview)} == {"Create"}
    assert not preview.get("dataLoss")
    annotate(workbench, None)
    applied(workbench)
    made = {("Create", name) for name in contents(workbench, where)} | {("Create", f"Database {where.database}")}
    assert told(preview) == made
    assert workbench.record(where)["metadata"]["generation"] == 1, "one write of the record, as without a dry run"


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


LOSSES: dict[str, tuple[Json, Json, str]] = {
    "a host": (
        {"domains": [{"host": "a.{prefix}.test"}]},
        {"domains": []},
        "Host a.{prefix}.test is given up: anybody may claim it",
    ),
    "a shorter window": (
        {"deletion": {"window": "10h"}},
        {"deletion": {"window": "1h"}},
        "deletion.window: once deleted, the tenant can be had back for 1h instead of 10h",
    ),
    "Retain no more": (
        {"deletion": {"policy": "Retain"}},
        {"deletion": {"policy": "Delete"}},
        "deletion.policy: once deleted, the tenant no longer runs on but is destroyed after its window",
    ),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_would_be_lost_is_said_to_be(workbench: Workbench, lost: str) -> None:
    plan = workbench.platform("TenantPlan", "plan", customHosts="Any", deletion={"maxWindow": "720h"})
    old, new, expected = LOSSES[lost]
    workbench.make(**spec_of(workbench, old, plan))
    preview = hold(workbench, **spec_of(workbench, new, plan))
    assert preview["dataLoss"] is True
    assert preview["dataLossReasons"] == [expected.replace("{prefix}", workbench.prefix)]
    assert "data loss" in condition(workbench.get(), "ChangeHeld")["message"]


def test_a_spec_that_would_be_refused_is_held_with_its_reason_and_the_tenant_stays_ready(workbench: Workbench) -> None:
    workbench.make(database=SHARED)
    for change, reason in (
        ({"database": {"mode": "None"}}, "MoveNotSupported"),
        ({"database": SHARED, "plan": "no-such-plan"}, "PlanNotFound"),
        ({"database": SHARED, "quota": {"hard": {"pods": "100000"}}}, "PlanExceeded"),
        ({"database": SHARED, "envFrom": [{"secretRef": {"name": "gone"}}]}, "SecretNotFound"),
    ):
        preview = hold(workbench, **change)
        assert [refusal["reason"] for refusal in preview["refusals"]] == [reason]
        assert not preview.get("dataLoss"), "what is refused loses nothing"
        tenant = workbench.get()
        assert (condition(tenant)["status"], condition(tenant)["reason"]) == ("True", "DryRun")
        held = condition(tenant, "ChangeHeld")
        assert (held["status"], held["reason"]) == ("True", "DryRunRefused")
        assert reason in held["message"]
        assert not condition(tenant, "Stalled")
        assert not condition(tenant, "Reconciling")


def test_the_target_is_asked_whether_it_would_refuse_and_told_to_store_nothing(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    preview = hold(workbench, quota={"hard": {"pods": "1", "no/such/resource/name": "1"}})
    assert [refusal["reason"] for refusal in preview["refusals"]] == ["ApplyRefused"]
    assert "no/such" not in json.dumps(workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant"))


def test_no_value_of_a_secret_is_in_a_status_or_condition_or_event(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.env_secret("old", {"TOKEN": f"{SECRET_VALUE}-old", "GONE": f"{SECRET_VALUE}-gone"})
    workbench.env_secret("new", {"TOKEN": f"{SECRET_VALUE}-new", "MORE": f"{SECRET_VALUE}-more"})
    workbench.make(database=SHARED, envFrom=[{"secretRef": {"name": "old"}}])
    password = workbench.secret(where, "tenant-database")["password"]
    preview = hold(workbench, database=SHARED, envFrom=[{"secretRef": {"name": "new"}}], rotation={"interval": "25h"})
    (item,) = (each for each in preview["items"] if "tenant-env" in each["what"])
    assert item["detail"] == "adds MORE; changes TOKEN; removes GONE"
    everything = json.dumps(workbench.get()) + workbench.kubectl("get", "events", "-o", "json")
    record = json.dumps(workbench.record(where))
    for value in (SECRET_VALUE, password):
        assert value not in everything
        assert value not in record


def test_credentials_are_rotated_during_a_dry_run_with_the_rotation_that_is_applied(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(database=SHARED)
    before = workbench.secret(where, "tenant-database")["password"]
    hold(workbench, database=SHARED, env={"A": "1"})
    annotate(workbench, "true", **{ANNOTATION_ROTATE_CREDENTIALS: "now"})
    wait_for(lambda: workbench.secret(where, "tenant-database")["password"] != before, "it has new credentials")
    assert "A" not in workbench.secret(where, "tenant-env")
    assert condition(workbench.get(), "ChangeHeld")["status"] == "True"


def test_a_tenants_workloads_that_would_be_switched_off_are_named(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    labels = {"app": "w"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.com/c"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    body = manifest(DEPLOYMENTS, "worker", where.namespace, labels={LABEL_TASK: "true"}, spec=spec)
    assert workbench.target.create(DEPLOYMENTS, body, dry=False).status == 201
    preview = hold(workbench, tasks={"enabled": False})
    assert ("Change", f"Deployment {where.namespace}/worker") in told(preview)
    assert workbench.on_target(DEPLOYMENTS, where.namespace, "worker")["spec"]["replicas"] == 2


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
