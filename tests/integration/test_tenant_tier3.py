"""Tier3: a cluster of a tenant's own, had by one alone, kept from all others, and given back when nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import manifest
from tests.integration.moves import Second, after, approve, end_windows, moved
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import CLUSTER, cluster_manifest

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import CLUSTER_CLAIM, SYSTEM_NAMESPACE
from tenantry.api.resources import CLUSTERS, CONFIG_MAPS, NAMESPACES
from tenantry.desired.claims import cluster_claim

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Whereabouts, Workbench

Json = dict[str, Any]
Spec = dict[str, Any]

TIERS = ["Tier1", "Tier3"]


@pytest.fixture
def own(trial: Workbench, fresh_control_plane: FreshControlPlane) -> Second:
    """A cluster that nobody is on; the workbench looks at it."""
    from tests.scene.installation import install_target, kubeconfig_secret, operator_kubeconfig  # noqa: PLC0415 - slow

    access, name = fresh_control_plane("own").access, f"{trial.prefix}-cluster"
    install_target(access)
    trial.apply(kubeconfig_secret(f"{name}-kubeconfig", operator_kubeconfig(access)))
    trial.register(cluster_manifest(name, region=trial.prefix))
    trial.stage.management.kubectl("wait", "--for=condition=Ready", f"tcl/{name}", "--timeout=60s")
    trial.elsewhere(access.kubeconfig)
    return Second(name, access.kubeconfig)


@pytest.fixture
def spec(trial: Workbench, own: Second) -> Callable[..., Spec]:
    """The spec of a tenant on that cluster; of Tier3 unless told otherwise."""
    plan = trial.platform("TenantPlan", "own", allowedTiers=TIERS, deletion={"minWindow": "0s", "maxWindow": "24h"})

    def make(tier: str = "Tier3", **more: Any) -> Spec:
        usual: Spec = {"plan": plan, "placement": {"cluster": own.name}, "deletion": {"window": "0s"}}
        return {**usual, "tier": tier, **more}

    return make


def claimed(name: str) -> str:
    return (
        f"Cluster {name!r} is another tenant's own (tier: Tier3) and takes no others until that one has left it and "
        "what it left is purged; place this tenant elsewhere, or wait"
    )


def not_empty(name: str) -> str:
    return (
        f"spec.tier: Tier3 needs a cluster of its own, and other tenants are on Cluster {name!r} (deleted ones, and "
        "what moves have left, count until they are purged); place this tenant on an empty one, or wait"
    )


def holder(trial: Workbench) -> str:
    """The record that the claim of the whole cluster names; empty without one."""
    claim = trial.on_target(CONFIG_MAPS, SYSTEM_NAMESPACE, CLUSTER_CLAIM)
    return str(claim["metadata"]["annotations"]["tenantry.io/record"]) if claim else ""


def epochs_left(trial: Workbench, where: Whereabouts) -> list[int]:
    return [side["epoch"] for side in trial.record(where)["spec"].get("former", ())]


def test_of_two_that_want_the_same_cluster_at_once_one_gets_it_and_the_other_when_that_is_gone(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    names = ("acme", "zeta")
    trial.apply(*(trial.tenant(name, **spec()) for name in names))
    reasons = {"Ready", "ClusterClaimed"}
    wait_for(lambda: {condition(trial.get(name)).get("reason") for name in names} == reasons, "one of them has it")
    winner = next(name for name in names if condition(trial.get(name))["reason"] == "Ready")
    loser = next(name for name in names if name != winner)
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name=loser)
    assert holder(trial) == trial.whereabouts(winner).identity.record
    assert trial.record(trial.whereabouts(winner))["spec"]["cluster"]["exclusive"] is True
    assert trial.record(trial.whereabouts(loser)) == {}
    trial.apply(trial.tenant("plain", **spec("Tier1")))
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name="plain")
    trial.apply(trial.tenant("region", **spec("Tier1", placement={"region": trial.prefix})))
    told = trial.told("Unknown", "ClusterFull", None, name="region")
    assert "another tenant's own (Tier3)" in condition(told)["message"]
    assert trial.inventory(trial.whereabouts("plain")) == set()
    for name in ("plain", "region"):
        trial.delete(name)
        trial.gone(name)
    trial.delete(winner)
    trial.gone(winner)
    began = time.monotonic()
    trial.ready(loser)
    assert time.monotonic() - began < 25, "it did not wait for the next look"
    assert holder(trial) == trial.whereabouts(loser).identity.record


def test_a_cluster_with_tenants_can_not_be_had_until_the_last_of_them_is_purged(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    trial.make("first", **spec("Tier1"))
    trial.apply(trial.tenant(**spec()))
    trial.told("Unknown", "ClusterNotEmpty", not_empty(own.name))
    assert (holder(trial), trial.record(trial.whereabouts())) == ("", {})
    trial.delete("first")
    trial.ready()
    assert holder(trial) == trial.whereabouts().identity.record


def test_the_tier_of_a_tenant_that_is_there_can_change_and_its_claim_with_it(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    where = trial.whereabouts()
    trial.make(**spec("Tier1"))
    trial.make("other", **spec("Tier1"))
    trial.apply(trial.tenant(**spec()))
    trial.told("Unknown", "ClusterNotEmpty", not_empty(own.name))
    assert trial.on_target(NAMESPACES, "", where.namespace), "what it has goes on"
    trial.delete("other")
    trial.ready()
    assert holder(trial) == where.identity.record
    before = trial.on_target(CONFIG_MAPS, SYSTEM_NAMESPACE, CLUSTER_CLAIM)
    trial.look_now()
    trial.make(**spec(env={"A": "1"}))
    assert trial.on_target(CONFIG_MAPS, SYSTEM_NAMESPACE, CLUSTER_CLAIM) == before, "steady state writes nothing"
    trial.apply(trial.tenant("other", **spec("Tier1")))
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name="other")
    trial.apply(trial.tenant(**spec("Tier1")))
    trial.ready("other")
    trial.ready()
    assert holder(trial) == ""
    assert trial.record(where)["spec"]["cluster"]["exclusive"] is False


def test_a_claim_of_a_process_that_died_before_the_record_is_its_tenants_and_is_given_back_where_there_is_none(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    where = trial.whereabouts()
    assert trial.target.create(CONFIG_MAPS, cluster_claim(where.identity), dry=False).status == 201
    trial.make(**spec())
    assert holder(trial) == where.identity.record
    answer = trial.target.delete(CONFIG_MAPS.path(SYSTEM_NAMESPACE, CLUSTER_CLAIM), dry=False)
    assert answer.status == 200
    wait_for(lambda: holder(trial) == where.identity.record, "a claim that somebody deleted is back")
    trial.delete()
    trial.gone()
    wait_for(lambda: holder(trial) == "", "the purge has given it back")
    never = TenantIdentity(trial.stage.management_id, trial.workspace, where.identity.workspace_uid, "never")
    assert trial.target.create(CONFIG_MAPS, cluster_claim(never), dry=False).status == 201
    trial.stage.management.kubectl("annotate", "tcl", own.name, "tenantry.io/requestedAt=now", "--overwrite")
    wait_for(lambda: holder(trial) == "", "nobody could have it by right")


def test_a_cluster_that_another_installation_has_for_a_tenant_takes_none_of_ours(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    foreign = cluster_claim(TenantIdentity("another", "shop", "uid", "theirs"))
    assert trial.target.create(CONFIG_MAPS, foreign, dry=False).status == 201
    for name, tier in (("acme", "Tier3"), ("plain", "Tier1")):
        trial.apply(trial.tenant(name, **spec(tier)))
        trial.told("Unknown", "ClusterClaimed", claimed(own.name), name=name)
        assert trial.record(trial.whereabouts(name)) == {}
        trial.delete(name)
        trial.gone(name)
    assert holder(trial).startswith("theirs-")
    path = CONFIG_MAPS.path(SYSTEM_NAMESPACE, CLUSTER_CLAIM)
    assert trial.target.delete(path, dry=False).status == 200
    identity = TenantIdentity("another", "shop", "uid", "theirs")
    labels = dict(foreign["metadata"]["labels"])
    labels.pop("tenantry.io/claim")
    body = manifest(NAMESPACES, f"shop-theirs-{identity.tenant_hash[:6]}", labels=labels)
    assert trial.target.create(NAMESPACES, body, dry=False).status == 201
    trial.apply(trial.tenant(**spec()))
    trial.told("Unknown", "ClusterNotEmpty", not_empty(own.name))
    assert holder(trial) == ""


def test_what_a_retained_or_deleted_tenant_has_stays_its_own_cluster_and_comes_back_with_it(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    where = trial.whereabouts()
    trial.make(**spec(deletion={"policy": "Retain"}))
    trial.delete()
    trial.gone()
    trial.apply(trial.tenant("other", **spec("Tier1")))
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name="other")
    trial.make(**spec(deletion={"window": "1h"}))
    trial.delete()
    trial.gone()
    wait_for(lambda: trial.record(where)["spec"]["state"] == "Deleted", "it is in its window")
    trial.look_now("other")
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name="other")
    trial.make(**spec(deletion={"window": "0s"}))
    assert holder(trial) == where.identity.record
    trial.delete()
    trial.ready("other")


@pytest.mark.timeout(600)
def test_a_tenant_moves_to_a_cluster_of_its_own_and_away_and_that_is_free_when_what_it_left_is_purged(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    where = trial.whereabouts()
    day = {"deletion": {"window": "24h"}}
    trial.make(**spec("Tier1", placement={"cluster": CLUSTER}, **day))
    trial.apply(trial.tenant(**spec("Tier3", **day)))
    trial.told("False", "MoveNotApproved", None)
    assert holder(trial) == "", "nothing is claimed before it is approved"
    approve(trial, own.name)
    moved(trial, own.name)
    assert holder(trial) == where.identity.record
    assert trial.record(where)["spec"]["cluster"]["exclusive"] is True
    trial.apply(trial.tenant("other", **spec("Tier1")))
    trial.told("Unknown", "ClusterClaimed", claimed(own.name), name="other")
    trial.apply(trial.tenant(**spec("Tier1", placement={"cluster": CLUSTER}, **day)))
    approve(trial, CLUSTER)
    moved(trial, CLUSTER)
    assert trial.record(where)["spec"]["cluster"].get("exclusive", False) is False
    assert holder(trial) == where.identity.record, "it has something there until that is purged"
    end_windows(trial, where, trial.target, after(where, 2).namespace)
    trial.ready("other", seconds=120)
    wait_for(lambda: holder(trial) == "", "it is given back")


@pytest.mark.timeout(240)
def test_what_a_move_under_way_has_claimed_is_not_given_back_with_what_was_left_on_that_cluster_before(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    where = trial.whereabouts()
    left, again = after(where, 2).namespace, after(where, 4).namespace
    away = spec("Tier1", placement={"cluster": CLUSTER}, deletion={"window": "24h"})
    trial.make(**away)
    for tenant, to in ((spec(deletion={"window": "24h"}), own.name), (away, CLUSTER)):
        trial.apply(trial.tenant(**tenant))
        approve(trial, to)
        moved(trial, to)
    held = manifest(CONFIG_MAPS, "held", left)
    held["metadata"]["finalizers"] = ["example.com/held"]
    assert trial.target.create(CONFIG_MAPS, held, dry=False).status == 201
    assert trial.target.create(NAMESPACES, manifest(NAMESPACES, again), dry=False).status == 201  # holds the move up
    end_windows(trial, where, trial.target, left)
    wait_for(lambda: trial.record(where)["spec"]["former"][-1]["state"] == "Purging", "its purge has begun", 120)
    trial.apply(trial.tenant(**spec(deletion={"window": "24h"})))
    approve(trial, own.name)
    wait_for(lambda: trial.record(where)["spec"].get("move", {}).get("phase") == "Preparing", "it moves there again")
    assert holder(trial) == where.identity.record
    path = CONFIG_MAPS.path(left, "held")
    assert trial.target.patch(path, {"metadata": {"finalizers": None}}, dry=False).status == 200
    wait_for(lambda: 2 not in epochs_left(trial, where), "what was left there first is gone", 120)
    assert trial.on_target(NAMESPACES, "", left) == {}
    assert holder(trial) == where.identity.record, "the move needs it"
    approve(trial, None)
    wait_for(lambda: holder(trial) == "", "it is given back with the move", 120)


def test_a_move_of_others_to_a_cluster_that_is_somebodys_own_is_not_begun(
    trial: Workbench, own: Second, spec: Callable[..., Spec]
) -> None:
    trial.make("owner", **spec())
    trial.make(**spec("Tier1", placement={"cluster": CLUSTER}))
    trial.apply(trial.tenant(**spec("Tier1")))
    approve(trial, own.name)
    told = trial.told("Unknown", "ClusterClaimed", claimed(own.name))
    assert told["status"]["cluster"] == CLUSTER
    assert "move" not in trial.record(trial.whereabouts())["spec"]
    cluster = trial.management.get(CLUSTERS.path(name=own.name)).body
    assert condition(cluster)["status"] == "True"
