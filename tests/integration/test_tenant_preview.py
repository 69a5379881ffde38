"""Dry run: what is foretold of a held spec is what then happens, with what would be lost and refused, and no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import manifest
from tests.integration.foreign import EXTERNAL, bring_your_own, put
from tests.integration.foretelling import (
    annotate,
    applied,
    contents,
    foretold,
    happened,
    held_body,
    hold,
    spec_of,
    told,
)
from tests.integration.tenants import condition, wait_for
from tests.scene.zone import publish

from tenantry.api.names import (
    LABEL_TASK,
    OPERATOR_SERVICE_ACCOUNT,
    SYSTEM_NAMESPACE,
    TENANT_FINALIZER,
)
from tenantry.api.resources import DEPLOYMENTS, RESOURCE_QUOTAS

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"
SHARED = {"mode": "Shared"}
ADMIN = {"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}
VIEW = {"role": "View", "subjects": [{"kind": "Group", "name": "staff"}]}
SECRET_VALUE = "s3cr3t-of-the-workspace"

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
    assert {each for each in told(preview) if not each[1].startswith(("Database ", "Login ", "Limit "))} == real
    assert (preview["toCreate"], preview["toChange"], preview["toDelete"]) == tuple(
        sum(each["action"] == action for each in preview.get("items", [])) for action in ("Create", "Change", "Delete")
    )


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
    assert {each for each in told(preview) if not each[1].startswith("Limit ")} == made
    assert workbench.record(where)["metadata"]["generation"] == 1, "one write of the record, as without a dry run"


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


def test_limits_are_told_with_their_values_and_the_secret_that_has_them_without(workbench: Workbench) -> None:
    plan = workbench.platform("TenantPlan", "plan", limits={"SEATS": "1", "GONE": "1"}, overridable=["limits"])
    bigger = workbench.platform("TenantPlan", "bigger", limits={"SEATS": "9", "NEW": "5"}, overridable=["limits"])
    workbench.make(plan=plan)
    preview = hold(workbench, plan=bigger)
    limits = [(each["action"], each["what"], each["detail"]) for each in preview["items"] if "Limit" in each["what"]]
    assert limits == [
        ("Delete", "Limit GONE", "1"),
        ("Change", "Limit SEATS", "1 -> 9"),
        ("Create", "Limit NEW", "5"),
    ]
    (secret,) = (each for each in preview["items"] if "tenant-env" in each["what"])
    assert secret["detail"] == "adds NEW; changes SEATS; removes GONE"


def test_a_database_of_somebody_elses_that_is_let_go_of_is_a_loss_and_its_password_is_not_told(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    plan = bring_your_own(workbench)
    publish(workbench.stage.zone, "db.example.net", "192.0.2.40")
    values = {"host": "db.example.net", "port": "5432", "dbname": "own", "username": "own", "sslmode": "require"}
    put(workbench, {**values, "password": SECRET_VALUE})
    workbench.make(plan=plan, database=EXTERNAL)
    before = contents(workbench, where)
    preview = hold(workbench, plan=plan, database={"mode": "None"})
    assert preview["dataLossReasons"] == [
        "the database mode changes from External to None: the application loses the database it has"
    ]
    assert SECRET_VALUE not in json.dumps(workbench.get())
    assert contents(workbench, where) == before
    annotate(workbench, None)
    applied(workbench)
    assert told(preview) == happened(before, contents(workbench, where))


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
