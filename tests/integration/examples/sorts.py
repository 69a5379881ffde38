"""What examples promise of sorts of tenants: by plan, database, cluster, namespace, and what they are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import psycopg
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres_binaries import debian_binaries
from tests.integration.cloudnativepg import CloudNativePG, install
from tests.integration.examples.example import Example
from tests.integration.node import Node
from tests.integration.tenants import condition, wait_for
from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.stage import cluster_manifest
from tests.scene.zone import publish

from tenantry.api.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    NETWORK_POLICIES,
    POSTGRES_CLUSTERS,
    ROLE_BINDINGS,
    TENANT_PLANS,
)

Json = dict[str, Any]

OWN_SERVER_SECONDS: Final = 150.0


def a_tenant_uses_a_database_that_is_its_customers_own(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("own")
    publish(workbench.stage.zone, "acme.db.example.net", "192.0.2.40")
    for name in ("1-plan.yaml", "2-secret.yaml", "tenant.yaml"):
        example.apply(name)
    tenant = workbench.ready("own")
    assert condition(tenant, "DatabaseReady")["reason"] == "NotVerified"
    secret = workbench.secret(where, "tenant-database")
    assert secret["uri"] == "postgresql://acme_app:change-me@acme.db.example.net:5432/acme?sslmode=require"
    (rule,) = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-database")["spec"]["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": "192.0.2.40/32"}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]
    workbench.kubectl("patch", "secret", "customer-db", "-p", '{"stringData": {"password": "changed"}}')
    wait_for(lambda: workbench.secret(where, "tenant-database")["password"] == "changed", "it is there")


def a_plan_has_as_many_tenants_as_it_says_and_a_change_reaches_one_of_them_first(example: Example) -> None:
    workbench, names = example.workbench, ("first", "second", "third")

    def told() -> list[tuple[str, str]]:
        tenants = (workbench.get(name) for name in names)
        return sorted((condition(body).get("reason", ""), body["metadata"]["name"]) for body in tenants if body)

    example.apply("1-plan-and-tenants.yaml")
    wait_for(lambda: [reason for reason, _ in told()] == ["PlanFull", "Ready", "Ready"], "two of them are made")
    (_, waiting), (_, leaving), (_, staying) = told()
    workbench.delete(leaving)
    workbench.ready(waiting)
    example.apply("2-changed-plan.yaml")

    def supported() -> list[str]:
        having = (name for name in (waiting, staying) if level(name) == "mail")
        return sorted(having)

    def level(name: str) -> str | None:
        return workbench.secret(workbench.whereabouts(name), "tenant-env").get("SUPPORT")

    wait_for(supported, "the canary has it")
    assert len(supported()) == 1

    def told_of() -> bool:
        plan = workbench.management.get(TENANT_PLANS.path(name=f"{workbench.prefix}-starter")).body
        return (plan["status"]["rollout"]["phase"], plan["status"]["rollout"]["updated"]) == ("Canary", 1)

    wait_for(told_of, "it is told")
    assert len(supported()) == 1


def a_change_is_held_and_foretold_until_the_annotation_goes(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("careful")
    example.apply("1-tenant.yaml")
    workbench.ready("careful")
    example.apply("2-held.yaml")

    def held() -> Json:
        return condition(workbench.get("careful"), "ChangeHeld")

    wait_for(lambda: held().get("observedGeneration") == 2, "the change is judged")
    preview = workbench.get("careful")["status"]["preview"]
    told = {(item["action"], item["what"].partition(" ")[2].partition("/")[2]) for item in preview["items"]}
    assert told == {("Delete", "tenant-view"), ("Change", "tenant-env")}
    assert preview["dataLossReasons"] == [
        "deletion.window: once deleted, the tenant can be had back for 1h instead of 24h"
    ]
    assert workbench.secret(where, "tenant-env")["LOG_LEVEL"] == "info"
    assert workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-view")
    example.apply("3-applied.yaml")
    workbench.ready("careful")
    assert workbench.secret(where, "tenant-env")["LOG_LEVEL"] == "debug"
    assert not workbench.on_target(ROLE_BINDINGS, where.namespace, "tenant-view")
    assert not held()


def a_tenant_has_a_database_server_of_its_own(example: Example) -> None:
    bench, where = example.workbench, example.workbench.whereabouts("alone")
    example.apply("plan.yaml")
    with Node(bench.stage.target, bench.prefix, debian_binaries()) as node:
        node.look_after(where.namespace)
        example.apply("tenant.yaml")
        bench.ready("alone", seconds=OWN_SERVER_SECONDS)
        given = bench.secret(where, "tenant-database")
        assert given["host"] == f"tenant-postgres.{where.namespace}.svc"
        there = node.reach(where.namespace, given)
        with psycopg.connect(there, connect_timeout=30) as session:
            assert session.execute("SELECT current_user").fetchall() == [(f"{where.database}_owner",)]


def a_tenants_database_has_a_replica(example: Example) -> None:
    bench, where = example.workbench, example.workbench.whereabouts("replicated")
    install(bench.stage.target)
    example.apply("plan.yaml")
    with CloudNativePG(bench.stage.target, bench.prefix, debian_binaries()) as played:
        played.look_after(where.namespace)
        example.apply("tenant.yaml")
        bench.ready("replicated", seconds=OWN_SERVER_SECONDS)
        given = bench.secret(where, "tenant-database")
        assert given["host"] == f"tenant-postgres.{where.namespace}.svc"
        status = bench.on_target(POSTGRES_CLUSTERS, where.namespace, "tenant-postgres")["status"]
        assert status["readyInstances"] == 2
        with psycopg.connect(played.reach(where.namespace, given), connect_timeout=30) as session:
            assert session.execute("SELECT current_user").fetchall() == [(f"{where.database}_owner",)]


def of_two_tenants_one_gets_the_cluster_and_the_other_follows(example: Example) -> None:
    workbench, names = example.workbench, ("bank", "insurer")

    def told() -> list[tuple[str, str]]:
        return sorted((condition(workbench.get(name)).get("reason", ""), name) for name in names)

    with ControlPlane("muc") as plane:
        cluster = f"{workbench.prefix}-muc"
        install_target(plane.access)
        workbench.apply(kubeconfig_secret(f"{cluster}-kubeconfig", operator_kubeconfig(plane.access)))
        workbench.register(cluster_manifest(cluster, region="muc"))
        workbench.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{cluster}", "--timeout=60s")
        workbench.elsewhere(plane.access.kubeconfig)
        example.apply("1-plan.yaml")
        example.apply("2-tenants.yaml")
        wait_for(lambda: [reason for reason, _ in told()] == ["ClusterFull", "Ready"], lambda: str(told()))
        (_, waiting), (_, first) = told()
        example.delete(first)
        workbench.ready(waiting)
        example.delete(waiting)


def a_namespace_that_was_there_is_a_tenants_and_stays_when_that_is_gone(example: Example) -> None:
    workbench, where = example.workbench, replace(example.workbench.whereabouts("crm"), namespace="legacy-crm")
    example.applied.add("target/1-namespace.yaml")
    consent = f"{workbench.stage.management_id}/{workbench.workspace}/crm"
    text = (example.folder / "target" / "1-namespace.yaml").read_text(encoding="utf-8")
    workbench.stage.target.kubectl("apply", "-f", "-", input=text.replace("MANAGEMENT-ID/shop/crm", consent))
    try:
        example.apply("2-tenant.yaml")
        assert workbench.ready("crm")["status"]["namespace"] == "legacy-crm"
        example.write_row(where)
        example.change("crm", {"deletion": {"window": "1h"}})
        workbench.ready("crm")
        example.delete("crm")
        assert (example.state(where), workbench.record(where)["spec"]["cluster"]["adopted"]) == ("Deleted", True)
        assert workbench.on_target(CONFIG_MAPS, "legacy-crm", "settings")["data"] == {"theme": "dark"}
    finally:
        workbench.target.delete(NAMESPACES.path(name="legacy-crm"), dry=False)


def the_application_is_told_of_a_proxy(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("proxied")
    example.apply("1-secret.yaml")
    example.apply("2-tenant.yaml")
    workbench.ready("proxied")
    env = workbench.secret(where, "tenant-env")
    assert env["HTTPS_PROXY"] == env["http_proxy"] == "http://tenants:change-me@proxy.example.net:3128"
    assert {".svc", ".example.net", "10.96.0.0/12"} <= set(env["NO_PROXY"].split(","))
    workbench.kubectl("patch", "secret", "company-proxy", "-p", '{"stringData": {"url": "http://other.example.net"}}')
    wait_for(lambda: workbench.secret(where, "tenant-env")["HTTP_PROXY"] == "http://other.example.net", "it follows")


def a_sync_token_is_made_and_changed_and_the_former_one_stays_for_a_while(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("synced")
    example.apply("1-tenant.yaml")
    workbench.ready("synced")
    first = workbench.secret(where, "tenant-sync")
    assert first.keys() == {"token"}
    example.apply("2-rotated.yaml")
    wait_for(lambda: workbench.secret(where, "tenant-sync")["token"] != first["token"], "it is changed")
    assert workbench.secret(where, "tenant-sync")["previous"] == first["token"]
