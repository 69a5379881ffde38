"""Where a tenant is placed: by name, by region and environment, by default; what it waits for, and that it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import CLUSTER, SERVER_15

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Spec = dict[str, Any]


def paper_cluster(workbench: Workbench, name: str = "paper", **spec: Any) -> str:
    """A Cluster that only this test's workspaces may use, and that leads nowhere: enough to be chosen or not."""
    selector = {"from": "Selector", "selector": {"matchLabels": {"test": workbench.prefix}}}
    return workbench.platform(
        "Cluster",
        name,
        **{"allowedWorkspaces": selector, "kubeconfigSecretRef": {"name": f"{workbench.prefix}-none"}, **spec},
    )


@pytest.mark.parametrize(
    "placement",
    [None, {"cluster": CLUSTER}, {"region": "fra"}, {"environment": "prod"}, {"region": "fra", "environment": "prod"}],
)
def test_a_tenant_is_placed_by_name_by_region_and_environment_or_by_default(
    workbench: Workbench, placement: Spec | None
) -> None:
    tenant = workbench.make(placement=placement)
    assert tenant["status"]["cluster"] == CLUSTER
    assert condition(tenant, "Placed")["message"] == f"on cluster {CLUSTER}"


def test_two_defaults_that_fit_are_ambiguous_until_one_of_them_is_none(trial: Workbench) -> None:
    other = paper_cluster(trial, default=True)
    trial.apply(trial.tenant())
    names = ", ".join(sorted((CLUSTER, other)))
    trial.told(
        "False",
        "AmbiguousDefault",
        f"more than one default cluster fits: {names}; set spec.placement, or default: true on one only",
    )
    assert trial.record(trial.whereabouts()) == {}
    paper_cluster(trial, default=False)
    assert trial.ready()["status"]["cluster"] == CLUSTER


NOWHERE: dict[str, tuple[Spec, Spec, str, str]] = {
    "unschedulable by name": (
        {"unschedulable": True},
        {"cluster": "{name}"},
        "ClusterUnschedulable",
        "Cluster {name!r} takes no new tenants (unschedulable)",
    ),
    "full by name": (
        {"capacity": {"maxTenants": 0}},
        {"cluster": "{name}"},
        "ClusterFull",
        "Cluster {name!r} is full: spec.capacity.maxTenants is reached; choose another one",
    ),
    "full by region": (
        {"capacity": {"maxTenants": 0}, "region": "{prefix}"},
        {"region": "{prefix}"},
        "ClusterFull",
        "every cluster with region: {prefix} that this workspace may use is full, unschedulable or another tenant's "
        "own (Tier3)",
    ),
    "unschedulable by environment": (
        {"unschedulable": True, "environment": "{prefix}"},
        {"environment": "{prefix}"},
        "ClusterFull",
        "every cluster with environment: {prefix} that this workspace may use is full, unschedulable or another "
        "tenant's own (Tier3)",
    ),
    "another environment in that region": (
        {"region": "{prefix}", "environment": "dev"},
        {"region": "{prefix}", "environment": "prod"},
        "NoClusterMatches",
        "no cluster with region: {prefix}, environment: prod that this workspace may use; register one or set "
        "spec.placement",
    ),
    "not allowed": (
        {"allowedWorkspaces": {"from": "None"}},
        {"cluster": "{name}"},
        "ClusterNotFound",
        "spec.placement.cluster: there is no Cluster {name!r} that this workspace may use",
    ),
    "not ready": (
        {},
        {"cluster": "{name}"},
        "ClusterNotReady",
        "Cluster {name!r} is not ready; see its conditions",
    ),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_a_tenant_with_no_place_says_why_and_waits(trial: Workbench, case: str) -> None:
    cluster, placement, reason, message = NOWHERE[case]
    name = f"{trial.prefix}-paper"

    def filled(spec: Spec) -> Spec:
        words = {"name": name, "prefix": trial.prefix}
        return {key: value.format(**words) if isinstance(value, str) else value for key, value in spec.items()}

    paper_cluster(trial, **filled(cluster))
    trial.apply(trial.tenant(placement=filled(placement)))
    tenant = trial.told("Unknown", reason, message.format(name=name, prefix=trial.prefix))
    assert condition(tenant, "Reconciling")["reason"] == reason
    assert condition(tenant, "Placed")["status"] == "Unknown"
    assert "tenantry.io/tenant" not in tenant["metadata"].get("finalizers", [])
    assert trial.record(trial.whereabouts()) == {}
    trial.delete()
    trial.gone()


def test_a_cluster_that_is_not_there_and_one_that_is_not_allowed_are_told_alike(trial: Workbench) -> None:
    trial.apply(trial.tenant(placement={"cluster": f"{trial.prefix}-paper"}))
    missing = condition(trial.told("Unknown", "ClusterNotFound", None))["message"]
    paper_cluster(trial, allowedWorkspaces={"from": "None"})
    trial.look_now()
    assert condition(trial.told("Unknown", "ClusterNotFound", None))["message"] == missing


def test_a_plan_that_is_missing_or_not_allowed_is_waited_for(workbench: Workbench) -> None:
    name = f"{workbench.prefix}-plan"
    told = f"spec.plan: there is no TenantPlan {name!r} that this workspace may use"
    workbench.apply(workbench.tenant(plan=name))
    workbench.told("Unknown", "PlanNotFound", told)
    selector = {"from": "Selector", "selector": {"matchLabels": {"stage": "prod"}}}
    workbench.platform("TenantPlan", "plan", allowedWorkspaces=selector)
    workbench.look_now()
    workbench.told("Unknown", "PlanNotFound", told)
    workbench.kubectl("label", "namespace", workbench.workspace, "stage=prod")
    workbench.ready()
    workbench.kubectl("label", "namespace", workbench.workspace, "stage-")
    tenant = workbench.when(lambda seen: "PlanNotFound" in condition(seen, "Placed")["message"], "it is told")
    assert condition(tenant)["status"] == "True", "what the plan gave last holds"


def test_a_server_that_is_missing_or_not_allowed_is_told_before_anything_is_made(trial: Workbench) -> None:
    name = f"{trial.prefix}-server"
    told = f"there is no DatabaseServer {name!r} that this workspace may use"
    trial.apply(trial.tenant(database={"mode": "Shared", "shared": {"server": name}}))
    trial.told("Unknown", "ServerNotFound", told)
    none = {"name": f"{trial.prefix}-none"}
    where = {"host": "127.0.0.1", "port": 1, "sslMode": "disable", "adminSecretRef": none}
    trial.platform("DatabaseServer", "server", allowedWorkspaces={"from": "None"}, **where)
    trial.look_now()
    trial.told("Unknown", "ServerNotFound", told)
    trial.platform("DatabaseServer", "server", **where)
    tenant = trial.told("Unknown", "ServerNotReady", None)
    assert condition(tenant)["message"].startswith(f"DatabaseServer {name!r} is not ready")
    assert trial.record(trial.whereabouts()) == {}
    trial.make(database={"mode": "Shared"})


MOVES: dict[str, tuple[Spec, Spec, str]] = {
    "to another cluster that is not there": (
        {},
        {"placement": {"cluster": "{prefix}-paper"}},
        "from Cluster 'main' to '{prefix}-paper'",
    ),
    "to another server": (
        {"database": {"mode": "Shared"}},
        {"database": {"mode": "Shared", "shared": {"server": SERVER_15}}},
        "from DatabaseServer 'pg18' to 'pg15'",
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_move_that_nobody_approved_changes_nothing(workbench: Workbench, move: str) -> None:
    first, then, message = MOVES[move]
    where = workbench.whereabouts()
    workbench.make(**first)
    record, inventory = workbench.record(where)["spec"], workbench.inventory(where)
    placement = {key: value.format(prefix=workbench.prefix) for key, value in then.get("placement", {}).items()}
    workbench.apply(workbench.tenant(**{**first, **then, **({"placement": placement} if placement else {})}))
    tenant = workbench.told("False", "MoveNotApproved", None)
    assert message.format(prefix=workbench.prefix) in condition(tenant)["message"]
    assert workbench.record(where)["spec"] == record
    assert workbench.inventory(where) == inventory
    assert tenant["status"]["cluster"] == CLUSTER
    workbench.apply(workbench.tenant(**{**first, "placement": first.get("placement")}))
    workbench.kubectl("patch", "tenant", "acme", "--type=merge", "-p", '{"spec": {"database": {"shared": null}}}')
    workbench.ready()


NO_PLACE: dict[str, tuple[Spec, Spec]] = {
    "another region": ({}, {"region": "ams"}),
    "another environment": ({"region": "fra"}, {"region": "fra", "environment": "dev"}),
}


@pytest.mark.parametrize("move", NO_PLACE)
def test_a_tenant_that_is_to_move_where_no_cluster_is_stays_served(workbench: Workbench, move: str) -> None:
    first, then = NO_PLACE[move]
    where = workbench.whereabouts()
    workbench.make(placement=first or None)
    inventory = workbench.inventory(where)
    workbench.apply(workbench.tenant(placement=then))
    workbench.told("Unknown", "NoClusterMatches", None)
    assert workbench.inventory(where) == inventory
    workbench.apply(workbench.tenant(placement={"cluster": CLUSTER}))
    workbench.ready()


def test_a_placement_that_means_the_same_cluster_is_no_move(workbench: Workbench) -> None:
    workbench.make()
    for placement in ({"cluster": CLUSTER}, {"region": "fra"}):
        workbench.make(placement=placement)
        workbench.kubectl("patch", "tenant", "acme", "--type=merge", "-p", '{"spec": {"placement": null}}')
        workbench.ready()


def test_a_workspace_of_the_same_name_but_another_uid_is_another_tenant(workbench: Workbench) -> None:
    workspace = workbench.make_workspace(f"{workbench.prefix}-again")
    first = workbench.whereabouts("acme", workspace)
    workbench.make("acme", workspace)
    workbench.stage.management.kubectl("delete", "namespace", workspace)
    wait_for(lambda: not workbench.record(first), "the first one is gone with its workspace")
    workbench.make_workspace(workspace)
    second = workbench.whereabouts("acme", workspace)
    workbench.make("acme", workspace)
    assert second.hash != first.hash
    assert workbench.record(second)["spec"]["cluster"]["namespace"] == second.namespace != first.namespace
