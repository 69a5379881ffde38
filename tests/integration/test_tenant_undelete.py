"""Deletion that can be undone: what a tenant in its window still has, who gets it back, and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import DOMAIN, SERVER_15

from tenantry.api.names import (
    ANNOTATION_ADOPT_WORKSPACE,
    ANNOTATION_PURGE_AFTER,
    ANNOTATION_START_FRESH,
    ANNOTATION_STATE,
)
from tenantry.api.resources import DEPLOYMENTS, NAMESPACES, NETWORK_POLICIES, RESOURCE_QUOTAS, TENANT_RECORDS, TENANTS

if TYPE_CHECKING:
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]

SHARED = {"mode": "Shared"}
DAY = {"minWindow": "0s", "maxWindow": "24h"}
ADMIN = [{"role": "Admin", "subjects": [{"kind": "User", "name": "ann"}]}]


@pytest.fixture
def plan(workbench: Workbench) -> str:
    """A plan whose deleted tenants are kept for a day, unless they say otherwise."""
    return workbench.platform("TenantPlan", "kept", customHosts="Any", deletion=DAY)


def connect(workbench: Workbench, where: Whereabouts) -> psycopg.Connection[tuple[Any, ...]]:
    secret = workbench.secret(where, "tenant-database")
    mode = "require" if secret["sslmode"] == "verify-full" else secret["sslmode"]  # no file with the CA here
    return psycopg.connect(secret["uri"], sslmode=mode, autocommit=True, connect_timeout=30)


def write_canary(workbench: Workbench, where: Whereabouts) -> None:
    with connect(workbench, where) as session:
        session.execute("CREATE TABLE canary (word text)")
        session.execute("INSERT INTO canary VALUES ('alive')")


def canary(workbench: Workbench, where: Whereabouts) -> list[tuple[Any, ...]]:
    with connect(workbench, where) as session:
        return session.execute("SELECT word FROM canary").fetchall()


def deploy(workbench: Workbench, where: Whereabouts, replicas: int) -> None:
    """What the tenant runs."""
    pod = {
        "metadata": {"labels": {"app": "app"}},
        "spec": {"containers": [{"name": "app", "image": "example.com/app"}]},
    }
    body = manifest(
        DEPLOYMENTS,
        "app",
        where.namespace,
        spec={"replicas": replicas, "selector": {"matchLabels": {"app": "app"}}, "template": pod},
    )
    assert workbench.target.create(DEPLOYMENTS, body, dry=False).status == 201


def replicas(workbench: Workbench, where: Whereabouts) -> int:
    return int(workbench.on_target(DEPLOYMENTS, where.namespace, "app")["spec"]["replicas"])


def state(workbench: Workbench, where: Whereabouts) -> str | None:
    record = workbench.record(where)
    return record["spec"]["state"] if record else None


def delete_and_wait(workbench: Workbench, name: str = "acme") -> None:
    workbench.delete(name)
    workbench.gone(name)


@pytest.mark.parametrize("server", [None, SERVER_15])
def test_in_its_window_a_deleted_tenant_is_all_there_and_does_nothing(
    workbench: Workbench, plan: str, server: str | None
) -> None:
    where, host = workbench.whereabouts(), f"acme-{workbench.workspace}.{DOMAIN}"
    database = {**SHARED, "shared": {"server": server}} if server else SHARED
    workbench.make(plan=plan, database=database, rbac={"bindings": ADMIN})
    write_canary(workbench, where)
    deploy(workbench, where, 3)
    access = workbench.stage.postgres_15 if server else workbench.stage.postgres_18
    before = workbench.database_traces(where, access)
    with connect(workbench, where) as session:
        delete_and_wait(workbench)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    record = workbench.record(where)["spec"]
    terms = {"policy": "Delete", "window": "24h", "finalBackup": False}
    assert (record["state"], record["deletion"]) == ("Deleted", terms)
    assert record["lastSpec"]["plan"] == plan
    assert record["purgeAfter"] > record["deletedAt"]
    annotations = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["annotations"]
    assert annotations[ANNOTATION_STATE] == "Deleted"
    assert annotations[ANNOTATION_PURGE_AFTER] == record["purgeAfter"]
    inventory = workbench.inventory(where)
    assert f"Claim/{host}" in inventory
    assert not {name for name in inventory if name.startswith(("Ingress/", "RoleBinding/tenant-"))}
    assert {name for name in inventory if name.startswith("NetworkPolicy/")} == {"NetworkPolicy/tenant-isolation"}
    closed = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant-off")["spec"] == {"hard": {"pods": "0"}}
    assert replicas(workbench, where) == 0
    assert workbench.database_traces(where, access) == before
    with pytest.raises(psycopg.OperationalError):
        connect(workbench, where)


def test_applied_again_in_its_window_a_tenant_has_everything_back(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    spec: Json = {"plan": plan, "database": SHARED, "rbac": {"bindings": ADMIN}, "env": {"COLOR": "red"}}
    workbench.make(**spec)
    write_canary(workbench, where)
    deploy(workbench, where, 3)
    inventory, uid = workbench.inventory(where), workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]["uid"]
    secret = workbench.secret(where, "tenant-database")
    delete_and_wait(workbench)
    tenant = workbench.make(**spec)
    assert canary(workbench, where) == [("alive",)]
    assert workbench.inventory(where) == inventory
    assert workbench.secret(where, "tenant-database") == secret
    metadata = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]
    assert metadata["uid"] == uid
    assert not {ANNOTATION_STATE, ANNOTATION_PURGE_AFTER, "tenantry.io/activity"} & set(metadata["annotations"])
    assert replicas(workbench, where) == 3
    record = workbench.record(where)["spec"]
    assert (record["state"], record["tenantUid"]) == ("Active", tenant["metadata"]["uid"])
    assert not {"purgeAfter", "deletedAt"} & set(record)
    wait_for(lambda: workbench.events("acme", "Undeleted"), "it is told")


def test_when_the_window_is_over_nothing_is_left(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    workbench.make(plan=plan, database=SHARED, deletion={"window": "3s"})
    delete_and_wait(workbench)
    wait_for(lambda: workbench.events("acme", "Deleted"), "it was in its window")
    wait_for(lambda: not workbench.record(where), "the record is gone")
    assert workbench.inventory(where) == set()
    assert workbench.on_target(NAMESPACES, "", where.namespace) == {}
    assert workbench.database_traces(where) == set()


def test_a_deleted_tenant_that_runs_into_its_end_by_the_operators_clock_alone_is_kept(
    workbench: Workbench, plan: str
) -> None:
    """Namespace and claim have its time, too: a record that somebody made due early is not enough."""
    where = workbench.whereabouts()
    workbench.make(plan=plan, database=SHARED)
    delete_and_wait(workbench)
    patch = {"spec": {"purgeAfter": "2026-01-01T00:00:00Z"}}
    path = TENANT_RECORDS.path(name=where.identity.record)
    assert workbench.management.patch(path, patch, dry=False).status == 200
    wait_for(lambda: "says that it is not" in workbench.record(where)["spec"].get("message", ""), "it is told")
    assert state(workbench, where) == "Deleted"
    claim = "SELECT state, purge_after IS NOT NULL FROM claims WHERE tenant_hash = %s"
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn("tenantry")) as connection:
        assert connection.execute(claim, (where.hash,)).fetchall() == [("parked", True)]


def test_a_retained_tenant_runs_on_and_is_had_back_by_applying_it_again(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    spec: Json = {"plan": plan, "database": SHARED, "deletion": {"policy": "Retain"}}
    workbench.make(**spec)
    write_canary(workbench, where)
    inventory = workbench.inventory(where)
    delete_and_wait(workbench)
    assert state(workbench, where) == "Retained"
    assert workbench.inventory(where) == inventory
    assert canary(workbench, where) == [("alive",)]
    assert "purgeAfter" not in workbench.record(where)["spec"]
    workbench.make(**spec)
    assert state(workbench, where) == "Active"
    assert canary(workbench, where) == [("alive",)]


def test_who_wants_to_start_fresh_gets_an_empty_one_and_the_former_keeps_what_it_has(
    workbench: Workbench, plan: str
) -> None:
    where = workbench.whereabouts()
    workbench.make(plan=plan, database=SHARED)
    write_canary(workbench, where)
    delete_and_wait(workbench)
    body = workbench.tenant(plan=plan, database=SHARED, ingress={"enabled": False})
    body["metadata"]["annotations"] = {ANNOTATION_START_FRESH: where.identity.record}
    workbench.apply(body)
    host = f"acme-{workbench.workspace}.{DOMAIN}"
    told = wait_for(
        lambda: (
            (status := workbench.get().get("status", {})).get("record") not in (None, where.identity.record) and status
        ),
        "it has a record of its own",
    )
    assert workbench.record(where)["spec"]["state"] == "Deleted"
    new = workbench.management.get(TENANT_RECORDS.path(name=told["record"])).body["spec"]
    assert (new["incarnation"], new["state"]) == (2, "Active")
    assert new["cluster"]["namespace"] != where.namespace
    assert new["database"]["name"] != where.database
    wait_for(
        lambda: condition(workbench.get(), "IngressReady").get("reason") == "HostnameConflict",
        f"{host} is the former one's until its purge",
    )
    with psycopg.connect(workbench.stage.postgres_18.superuser_dsn(where.database)) as connection:
        assert connection.execute("SELECT word FROM canary").fetchall() == [("alive",)]


def test_a_workspace_that_was_made_anew_gets_nothing_of_the_former_one_unasked(workbench: Workbench, plan: str) -> None:
    former = workbench.make_workspace(f"{workbench.prefix}-again")
    where = workbench.whereabouts(workspace=former)
    uid = workbench.management.get(NAMESPACES.path(name=former)).body["metadata"]["uid"]
    workbench.make(workspace=former, plan=plan, database=SHARED)
    write_canary(workbench, where)
    inventory = workbench.inventory(where)
    workbench.delete(workspace=former)
    workbench.gone(workspace=former)
    workbench.management.delete(NAMESPACES.path(name=former), dry=False)
    wait_for(lambda: workbench.management.get(NAMESPACES.path(name=former)).status == 404, "the workspace is gone")
    workbench.make_workspace(former)
    workbench.apply(workbench.tenant(workspace=former, plan=plan, database=SHARED))
    workbench.told("False", "PredecessorExists", None, workspace=former)
    assert state(workbench, where) == "Deleted"
    workbench.management.patch(
        NAMESPACES.path(name=former), {"metadata": {"annotations": {ANNOTATION_ADOPT_WORKSPACE: uid}}}, dry=False
    )
    workbench.ready(workspace=former)
    assert canary(workbench, where) == [("alive",)]
    assert workbench.inventory(where) == inventory


def test_a_workspace_can_not_take_over_one_that_is_there(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    workbench.make(plan=plan, database=SHARED)
    thief = workbench.make_workspace(f"{workbench.prefix}-thief")
    workbench.management.patch(
        NAMESPACES.path(name=thief),
        {"metadata": {"annotations": {ANNOTATION_ADOPT_WORKSPACE: where.identity.workspace_uid}}},
        dry=False,
    )
    workbench.apply(workbench.tenant(workspace=thief, plan=plan, database=SHARED))
    workbench.told("False", "PredecessorExists", None, workspace=thief)
    assert workbench.record(where)["spec"]["workspace"] == workbench.workspace
    workbench.look_now()
    workbench.ready()


def test_a_window_outside_of_the_plan_is_refused_and_the_last_one_holds(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    workbench.make(plan=plan, deletion={"window": "1h"})
    workbench.apply(workbench.tenant(plan=plan, deletion={"window": "48h"}))
    workbench.told(
        "False",
        "PlanExceeded",
        f"spec.deletion.window: 48h is not within what plan {plan!r} gives, which is 0s to 24h",
    )
    delete_and_wait(workbench)
    assert workbench.record(where)["spec"]["deletion"]["window"] == "1h"


def test_a_record_that_is_lost_in_the_window_comes_back_from_the_stamps(workbench: Workbench, plan: str) -> None:
    where = workbench.whereabouts()
    workbench.make(plan=plan, database=SHARED)
    write_canary(workbench, where)
    delete_and_wait(workbench)
    workbench.management.delete(TENANT_RECORDS.path(name=where.identity.record), dry=False)
    body = workbench.tenant(plan=plan, database=SHARED)
    body["metadata"]["finalizers"] = ["tenantry.io/tenant"]  # as one that was restored from a backup of the cluster
    assert workbench.management.create(TENANTS, body, dry=False).status == 201
    # Tests beside this one may have clusters that can't be searched: then it is looked for again every 30 s.
    workbench.ready(seconds=150)
    assert canary(workbench, where) == [("alive",)]
    assert state(workbench, where) == "Active"
