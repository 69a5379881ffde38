"""The life of a Cluster: registered twice, the management cluster itself, allowed to some, let go of when empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.registering import Registrar
from tests.integration.tenants import condition, wait_for
from tests.scene.installation import install_target, operator_kubeconfig
from tests.scene.stage import CLUSTER, cluster_manifest, platform_manifest

from tenantry.api.names import CLUSTER_FINALIZER
from tenantry.api.resources import CLUSTERS, NAMESPACES

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Workbench

Json = dict[str, Any]

READY = "tenants can be placed here"


@pytest.fixture
def registrar(trial: Workbench) -> Iterator[Registrar]:
    with Registrar(trial) as opened:
        yield opened


def label(bench: Workbench, workspace: str, **labels: str) -> None:
    answer = bench.management.patch(NAMESPACES.path(name=workspace), {"metadata": {"labels": labels}}, dry=False)
    assert answer.status == 200, answer.message


def unknown(cluster: str) -> str:
    return f"spec.placement.cluster: there is no Cluster {cluster!r} that this workspace may use"


def test_a_cluster_that_is_registered_twice_is_refused_on_the_younger_one_only(registrar: Registrar) -> None:
    bench = registrar.bench
    registrar.secret("eu", {"value": operator_kubeconfig(bench.stage.target)})
    first = registrar.get("Cluster", CLUSTER)
    name = registrar.cluster()
    message = (
        f"this is the cluster that {CLUSTER!r} stands for already (id {first['status']['clusterId']}); delete one of "
        "the two"
    )
    body = registrar.told("Cluster", name, "False", "DuplicateCluster", message)
    assert condition(body, "Stalled")["reason"] == condition(body, "Reachable")["reason"] == "DuplicateCluster"
    bench.apply(bench.tenant(placement={"cluster": name}))
    bench.told("Unknown", "ClusterNotReady", f"Cluster {name!r} is not ready: {message}")
    bench.make("elsewhere", placement={"cluster": CLUSTER})
    older = registrar.get("Cluster", CLUSTER)
    assert condition(older)["status"] == "True"
    assert condition(older)["lastTransitionTime"] == condition(first)["lastTransitionTime"], (
        "it never was anything else"
    )


@pytest.mark.timeout(150)
def test_the_management_cluster_can_be_a_target_itself(registrar: Registrar) -> None:
    bench = registrar.bench
    install_target(bench.stage.management)
    bench.elsewhere(bench.stage.management.kubeconfig)
    name = registrar.full("here")
    body = cluster_manifest(name, domain=f"{name}.example.com")
    del body["spec"]["kubeconfigSecretRef"]
    registrar.callback(registrar.gone, "Cluster", name)
    registrar.callback(registrar.delete, "Cluster", name)
    bench.apply(body)
    registrar.told("Cluster", name, "True", "Ready", READY)
    where = bench.whereabouts()
    tenant = bench.make(placement={"cluster": name}, env={"A": "1"})
    assert tenant["status"]["namespace"] == where.namespace
    assert bench.secret(where, "tenant-env")["A"] == "1"
    assert f"Claim/acme-{bench.workspace}.{name}.example.com" in bench.inventory(where)
    bench.kubectl("-n", where.namespace, "delete", "resourcequota", "tenant")
    wait_for(lambda: "ResourceQuota/tenant" in bench.inventory(where), "drift is seen here too")
    # The workspaces and the operator's namespace are on this cluster as well, and nobody's tenant.
    assert bench.management.get(NAMESPACES.path(name=bench.workspace)).status == 200
    _a_workspace_is_not_taken_for_a_tenant(registrar, body)
    bench.delete()
    bench.gone()
    assert bench.inventory(where) == set()
    assert bench.management.get(NAMESPACES.path(name=bench.workspace)).body["status"]["phase"] == "Active"


def _a_workspace_is_not_taken_for_a_tenant(registrar: Registrar, cluster: Json) -> None:
    """Workspaces are on this cluster as well; the template makes the worst of it."""
    bench, name = registrar.bench, cluster["metadata"]["name"]
    bench.apply({**cluster, "spec": {**cluster["spec"], "namespaceTemplate": "{tenant}"}})
    registrar.told("Cluster", name, "True", "Ready", READY)
    where = bench.whereabouts("secrets", template="{tenant}")
    victim = bench.make_workspace(where.namespace)
    bench.apply(bench.tenant("secrets", placement={"cluster": name}))
    consent = f"{bench.stage.management_id}/{bench.workspace}/secrets"
    message = (
        f"the namespace {victim!r} is on the target and is not made by this operator; it is not touched: rename or "
        f"delete it there, or have its owner annotate it with tenantry.io/allow-adoption={consent}"
    )
    bench.told("False", "NamespaceConflict", message, name="secrets")
    labels = bench.management.get(NAMESPACES.path(name=victim)).body["metadata"]["labels"]
    assert labels.keys() == {"kubernetes.io/metadata.name", "test"}
    bench.delete("secrets")
    bench.gone("secrets")
    assert bench.management.get(NAMESPACES.path(name=victim)).body["status"]["phase"] == "Active"


@pytest.mark.timeout(150)
def test_who_may_use_a_cluster_follows_its_spec_and_the_labels_of_the_workspace_at_once(
    registrar: Registrar, fresh_control_plane: FreshControlPlane
) -> None:
    bench = registrar.bench
    target = fresh_control_plane("second").access
    install_target(target)
    bench.elsewhere(target.kubeconfig)
    registrar.secret("eu", {"value": operator_kubeconfig(target)})
    name = registrar.cluster(allowedWorkspaces={"from": "None"})
    registrar.told("Cluster", name, "True", "Ready", READY)
    bench.apply(bench.tenant(placement={"cluster": name}))
    bench.told("Unknown", "ClusterNotFound", unknown(name))
    selector = {"from": "Selector", "selector": {"matchLabels": {"stage": "prod"}}}
    registrar.cluster(allowedWorkspaces=selector)
    registrar.told("Cluster", name, "True", "Ready", READY)
    bench.look_now()
    bench.told("Unknown", "ClusterNotFound", unknown(name))
    label(bench, bench.workspace, stage="prod")
    bench.ready(seconds=10)
    label(bench, bench.workspace, stage="test")
    not_allowed = f"Cluster {name!r} does not allow this workspace (spec.allowedWorkspaces); ask the platform team"
    bench.told("Unknown", "ClusterNotAllowed", not_allowed, seconds=10)
    assert bench.inventory(bench.whereabouts()), "what is there goes on serving"
    registrar.cluster(allowedWorkspaces={"from": "All"})
    bench.ready(seconds=10)
    _deletion_waits_for_the_last_tenant(registrar, name)


def _deletion_waits_for_the_last_tenant(registrar: Registrar, name: str) -> None:
    """The cluster has one tenant."""
    bench = registrar.bench
    bench.make("second", placement={"cluster": name})
    registrar.delete("Cluster", name)
    for count in ("2", "1"):
        message = f"it is let go when the tenants on it ({count}) are deleted or moved"
        body = registrar.told("Cluster", name, "Unknown", "InUse", message, seconds=20)
        assert body["metadata"]["finalizers"] == [CLUSTER_FINALIZER]
        assert condition(body, "Reconciling")["reason"] == "InUse"
        tenant = "acme" if count == "2" else "second"
        bench.apply(bench.tenant("third", placement={"cluster": name}))
        bench.told("Unknown", "ClusterNotFound", unknown(name), name="third")
        bench.look_now(tenant)
        bench.ready(tenant)
        bench.delete(tenant)
        bench.gone(tenant)
    registrar.gone("Cluster", name, seconds=20)
    bench.delete("third")
    bench.gone("third")


@pytest.mark.parametrize(("before", "after"), [({}, {"name": "kubeconfig"}), ({"name": "kubeconfig"}, None)])
def test_a_cluster_can_not_become_or_stop_being_the_management_cluster(
    registrar: Registrar, before: Json, after: Json | None
) -> None:
    bench = registrar.bench
    name = registrar.full("eu")
    spec = {"kubeconfigSecretRef": before} if before else {"description": "the management cluster"}
    bench.register(platform_manifest("Cluster", name, **spec))
    answer = bench.management.patch(CLUSTERS.path(name=name), {"spec": {"kubeconfigSecretRef": after}})
    assert answer.status == 422
    assert "kubeconfigSecretRef can't be added or removed later" in answer.message


def test_a_tenant_on_a_cluster_that_is_registered_later_becomes_ready_by_itself(
    registrar: Registrar, fresh_control_plane: FreshControlPlane
) -> None:
    bench = registrar.bench
    target = fresh_control_plane("later").access
    install_target(target)
    name = registrar.full("eu")
    bench.apply(bench.tenant(placement={"cluster": name}))
    bench.told("Unknown", "ClusterNotFound", unknown(name))
    registrar.secret("eu", {"value": operator_kubeconfig(target)})
    registrar.cluster()
    registrar.told("Cluster", name, "True", "Ready", READY)
    bench.ready(seconds=10)
    bench.delete()
    bench.gone()
