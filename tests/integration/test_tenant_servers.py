"""Tenants on clusters and servers that fill up, change, go down and come back: each test has its own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import psycopg
from tests.controlplane.certificates import Authority
from tests.integration.tenants import condition, wait_for
from tests.scene.installation import NAMESPACE, admin_secret, install_target, kubeconfig_secret, operator_kubeconfig
from tests.scene.installation import secret as operator_secret
from tests.scene.stage import SERVER_18, cluster_manifest, server_manifest

from tenantry.api.resources import INGRESSES, NAMESPACES, NETWORK_POLICIES

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.conftest import FreshControlPlane, FreshPostgres
    from tests.integration.tenants import Workbench

Spec = dict[str, Any]


def own_server(trial: Workbench, server: PostgresAccess, **spec: Any) -> str:
    """Register a database server under the test's name and wait until it is Ready."""
    name = f"{trial.prefix}-server"
    trial.apply(admin_secret(f"{name}-admin", server))
    trial.register(server_manifest(name, server, **spec))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"dbs/{name}", "--timeout=90s")
    return name


def own_cluster(trial: Workbench, access: ClusterAccess, **spec: Any) -> str:
    """Register a cluster under the test's name; from now on it is the workbench's target."""
    name = f"{trial.prefix}-cluster"
    install_target(access)
    trial.elsewhere(access.kubeconfig)
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(access)))
    change_cluster(trial, **spec)
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{name}", "--timeout=90s")
    return name


def change_cluster(trial: Workbench, **spec: Any) -> None:
    trial.register(cluster_manifest(f"{trial.prefix}-cluster", **spec))


def on(server: str) -> Spec:
    return {"mode": "Shared", "shared": {"server": server}}


def test_a_full_server_takes_the_next_one_when_a_database_is_gone(
    trial: Workbench, fresh_postgres: FreshPostgres
) -> None:
    access = fresh_postgres().access
    server = own_server(trial, access, maxDatabases=1)
    trial.make("first", database=on(server))
    trial.apply(trial.tenant("second", database=on(server)))
    trial.told(
        "Unknown", "ServerFull", f"DatabaseServer {server!r} is full: spec.maxDatabases is reached", name="second"
    )
    where = trial.whereabouts("second")
    assert trial.database_traces(where, access) == set()
    trial.delete("first")
    trial.gone("first")
    trial.ready("second")
    assert "claim" in trial.database_traces(where, access)
    trial.delete("second")
    trial.gone("second")


def test_a_new_authority_and_new_admin_credentials_reach_the_tenants_at_once(
    trial: Workbench, fresh_postgres: FreshPostgres
) -> None:
    access = fresh_postgres(tls=True).access
    ca = f"{trial.prefix}-ca"
    trial.apply(operator_secret(ca, {"ca.crt": access.ca_pem or ""}))
    server = own_server(trial, access, sslMode="verify-full", caSecretRef={"name": ca})
    where = trial.whereabouts()
    trial.make(database=on(server))
    bundle = (access.ca_pem or "") + Authority.new("the next authority").certificate_pem
    trial.apply(operator_secret(ca, {"ca.crt": bundle}))
    wait_for(lambda: trial.secret(where, "tenant-database")["ca.crt"] == bundle, "the new bundle is there")
    password = trial.secret(where, "tenant-database")["password"]
    with psycopg.connect(access.superuser_dsn(), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {access.admin_user} PASSWORD 'renewed'")
    trial.apply(admin_secret(f"{server}-admin", dataclasses.replace(access, admin_password="renewed")))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"dbs/{server}", "--timeout=90s")
    trial.make("second", database=on(server))
    trial.look_now()
    trial.ready()
    assert trial.secret(where, "tenant-database")["password"] == password, "the tenant's own is another matter"
    for name in ("acme", "second"):
        trial.delete(name)
    trial.gone()
    trial.gone("second")


def test_a_server_that_is_down_holds_up_the_deletion_and_is_named(
    trial: Workbench, fresh_postgres: FreshPostgres
) -> None:
    postgres = fresh_postgres()
    server = own_server(trial, postgres.access)
    where = trial.whereabouts()
    trial.make(database=on(server))
    postgres.stop_server()
    trial.delete()
    wait_for(lambda: trial.record(where)["spec"]["state"] == "Purging", "its end has begun")
    tenant = trial.when(lambda body: repr(server) in condition(body)["message"], "it is told which server is down")
    assert condition(tenant)["status"] == "Unknown"
    assert condition(tenant)["reason"] in ("DatabaseRefused", "ServerNotReady")
    assert "tenantry.io/tenant" in tenant["metadata"]["finalizers"]
    postgres.start_server()
    trial.gone(seconds=120)
    assert trial.database_traces(where, postgres.access) == set()
    trial.forgotten(where)


def test_a_cluster_that_opens_fills_and_changes_takes_its_tenants_along(
    trial: Workbench, fresh_control_plane: FreshControlPlane
) -> None:
    access = fresh_control_plane("own").access
    name = own_cluster(trial, access, capacity={"maxTenants": 1}, unschedulable=True, region="ams")
    placement = {"cluster": name}
    trial.apply(trial.tenant(placement=placement))
    trial.told("Unknown", "ClusterUnschedulable", f"Cluster {name!r} takes no new tenants (unschedulable)")
    change_cluster(trial, capacity={"maxTenants": 1}, region="ams", namespaceTemplate="kube-{tenant}")
    trial.told(
        "False",
        "NamespaceReserved",
        f"the namespace {trial.whereabouts(template='kube-{tenant}').namespace!r} is reserved; the Cluster's "
        "namespaceTemplate has to give another one",
    )
    change_cluster(trial, capacity={"maxTenants": 1}, region="ams", namespaceTemplate="x-{tenant}")
    trial.ready()
    where = trial.whereabouts(template="x-{tenant}")
    assert trial.get()["status"]["namespace"] == where.namespace
    trial.apply(trial.tenant("second", placement=placement))
    full = f"Cluster {name!r} is full: spec.capacity.maxTenants is reached; choose another one"
    trial.told("Unknown", "ClusterFull", full, name="second")
    ingress = {"className": "other", "controllerNamespace": "edge", "tls": {"clusterIssuer": "letsencrypt"}}
    change_cluster(trial, capacity={"maxTenants": 2}, region="ams", domain="new.example.com", ingress=ingress)
    trial.told(
        "Unknown",
        "IngressClassNotFound",
        "there is no IngressClass 'other' on the target; install the ingress controller",
    )
    host = f"acme-{trial.workspace}.{name}.example.com"
    assert trial.get()["status"]["hosts"] == [host], "the default host is pinned, as is the namespace"
    body = trial.on_target(INGRESSES, where.namespace, "tenant")
    assert body["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert body["spec"]["tls"][0]["secretName"].startswith("tenant-tls-")
    policy = trial.on_target(NETWORK_POLICIES, where.namespace, "tenant-ingress-controller")
    assert "edge" in str(policy["spec"])
    second = trial.told("Unknown", "IngressClassNotFound", None, name="second")
    assert second["status"]["hosts"] == [f"second-{trial.workspace}.new.example.com"]
    change_cluster(trial, capacity={"maxTenants": 2}, allowedWorkspaces={"from": "None"})
    trial.told(
        "Unknown",
        "ClusterNotAllowed",
        f"Cluster {name!r} does not allow this workspace (spec.allowedWorkspaces); ask the platform team",
    )
    assert trial.on_target(NAMESPACES, "", where.namespace), "what is there goes on serving"
    for tenant in ("acme", "second"):
        trial.delete(tenant)
    trial.gone()
    trial.gone("second")
    assert trial.inventory(where) == set()


def test_a_deletion_survives_that_the_target_is_down(trial: Workbench, fresh_control_plane: FreshControlPlane) -> None:
    plane = fresh_control_plane("own")
    name = own_cluster(trial, plane.access)
    where = trial.whereabouts()
    trial.make(placement={"cluster": name}, database=on(SERVER_18))
    plane.stop_apiserver()
    trial.delete()
    wait_for(lambda: trial.record(where)["spec"]["state"] == "Purging", "its end has begun")
    tenant = trial.when(lambda body: condition(body)["reason"] == "ClusterUnreachable", "it is told")
    assert condition(tenant)["status"] == "Unknown"
    assert "tenantry.io/tenant" in tenant["metadata"]["finalizers"]
    plane.start_apiserver()
    trial.elsewhere(plane.access.kubeconfig)
    trial.gone(seconds=120)
    wait_for(lambda: trial.record(where) == {}, "the record is gone")
    assert trial.inventory(where) == set()
    assert trial.database_traces(where) == set()
    assert trial.stage.management.get("secret", f"{name}-kubeconfig", "-n", NAMESPACE), "no business of a tenant's"
