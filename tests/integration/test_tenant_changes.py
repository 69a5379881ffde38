"""A Tenant or its plan changes: that reaches the target at once, and takes away exactly what it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import manifest
from tests.integration.tenants import wait_for
from tests.scene.stage import DOMAIN

from tenantry.api.resources import (
    INGRESSES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    TENANTS,
)

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Spec = dict[str, Any]

ADMIN = {"role": "Admin", "subjects": [{"kind": "User", "name": "anna"}]}
VIEW = {"role": "View", "subjects": [{"kind": "Group", "name": "staff"}]}
OPEN: Spec = {"customHosts": "Any", "network": {"egress": "Internet", "selfService": True}}


def base(workbench: Workbench, plan: str) -> Spec:
    return {
        "plan": plan,
        "domains": [{"host": f"shop.{workbench.prefix}.test"}],
        "rbac": {"bindings": [ADMIN, VIEW]},
    }


REMOVALS: dict[str, tuple[Spec, Spec, set[str]]] = {
    "a domain": ({"domains": []}, {}, {"Claim/shop.{prefix}.test"}),
    "a binding": ({"rbac": {"bindings": [ADMIN]}}, {}, {"RoleBinding/tenant-view"}),
    "all access of people": (
        {"rbac": {"enabled": False, "bindings": [ADMIN, VIEW]}},
        {},
        {"RoleBinding/tenant-admin", "RoleBinding/tenant-self-service", "RoleBinding/tenant-view"},
    ),
    "the ingress": ({"ingress": {"enabled": False}}, {}, {"Ingress/tenant", "NetworkPolicy/tenant-ingress-controller"}),
    "the way out": ({}, {"network": {"egress": "None", "selfService": True}}, {"NetworkPolicy/tenant-egress"}),
    "self-service": ({}, {"network": {"egress": "Internet"}}, {"RoleBinding/tenant-self-service"}),
}


@pytest.mark.parametrize("status", ["known", "wiped"])
@pytest.mark.parametrize("removed", REMOVALS)
def test_what_is_taken_out_of_a_spec_or_plan_goes_and_nothing_else_does(
    workbench: Workbench, removed: str, status: str
) -> None:
    change, plan_change, expected = REMOVALS[removed]
    gone = {name.format(prefix=workbench.prefix) for name in expected}
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", **OPEN)
    workbench.make(**base(workbench, plan))
    before = workbench.inventory(where)
    own = manifest(NETWORK_POLICIES, "own", where.namespace, spec={"podSelector": {}})
    assert workbench.target.create(NETWORK_POLICIES, own, dry=False).status == 201
    if status == "wiped":
        wiped = {"status": {"conditions": None, "tenantId": None, "namespace": None, "hosts": None, "record": None}}
        path = f"{TENANTS.path(workbench.workspace, 'acme')}/status"
        assert workbench.management.patch(path, wiped, dry=False).status == 200
    if plan_change:
        workbench.platform("TenantPlan", "plan", **{**OPEN, **plan_change})
    else:
        workbench.apply(workbench.tenant(**{**base(workbench, plan), **change}))
    wait_for(lambda: workbench.inventory(where) == before - gone, f"{gone} is gone, and nothing else")
    tenant = workbench.ready()
    assert workbench.inventory(where) == before - gone
    assert workbench.on_target(NETWORK_POLICIES, where.namespace, "own")
    assert tenant["status"]["namespace"] == where.namespace


def test_without_ingress_the_tenant_has_no_url_and_says_that_none_is_wanted(workbench: Workbench) -> None:
    tenant = workbench.make(ingress={"enabled": False})
    assert not tenant["status"].get("url")
    ingress = next(entry for entry in tenant["status"]["conditions"] if entry["type"] == "IngressReady")
    assert (ingress["status"], ingress["reason"]) == ("True", "NotWanted")


def test_a_domain_that_comes_or_goes_changes_the_ingress_and_the_hosts_that_admission_knows(
    workbench: Workbench,
) -> None:
    where = workbench.whereabouts()
    plan = workbench.platform("TenantPlan", "plan", **OPEN)
    own, default = f"shop.{workbench.prefix}.test", f"acme-{workbench.workspace}.{DOMAIN}"

    def hosts() -> list[str]:
        return [rule["host"] for rule in workbench.on_target(INGRESSES, where.namespace, "tenant")["spec"]["rules"]]

    for domains, expected in (([], [default]), ([{"host": own}], [default, own]), ([], [default])):
        status = workbench.make(plan=plan, domains=domains)["status"]
        assert status["hosts"] == expected
        assert hosts() == expected
        namespace = workbench.on_target(NAMESPACES, "", where.namespace)
        assert namespace["metadata"]["annotations"]["tenantry.io/hosts"] == ",".join(sorted(expected))


def test_a_change_of_an_env_secret_reaches_the_tenant_at_once(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.env_secret("more", {"A": "1"})
    workbench.make(envFrom=[{"secretRef": {"name": "more"}}])
    workbench.env_secret("more", {"A": "2"})
    wait_for(lambda: workbench.secret(where, "tenant-env")["A"] == "2", "the new value is there")


def test_a_change_of_the_plan_reaches_its_tenants_at_once(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    few = {"hard": {"pods": "2", "services.nodeports": "0", "services.loadbalancers": "0"}}
    plan = workbench.platform("TenantPlan", "plan", limits={"SEATS": "1"}, env={"TIER": "old", "OLD": "1"}, quota=few)
    workbench.make(plan=plan)
    container = {
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "1Mi"},
        "max": {"cpu": "2"},
    }
    workbench.platform(
        "TenantPlan",
        "plan",
        limits={"SEATS": "9"},
        env={"TIER": "new"},
        podSecurity="baseline",
        imagePullPolicy="Always",
        quota={"hard": {"pods": "3", "services.nodeports": "0", "services.loadbalancers": "1"}},
        limitRange={"container": container},
    )
    wait_for(
        lambda: workbench.secret(where, "tenant-env") == {"TIER": "new", "SEATS": "9"},
        "the new environment is there, and nothing of the old one",
    )
    tenant = workbench.when(lambda body: body["status"]["effective"]["limits"] == {"SEATS": "9"}, "the status says so")
    metadata = workbench.on_target(NAMESPACES, "", where.namespace)["metadata"]
    assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
    assert metadata["annotations"]["tenantry.io/image-pull-policy"] == "Always"
    assert metadata["annotations"]["tenantry.io/service-types"] == "ClusterIP,LoadBalancer"
    quota = workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")
    assert quota["spec"]["hard"] == {"pods": "3", "services.loadbalancers": "1", "services.nodeports": "0"}
    limits = workbench.on_target(LIMIT_RANGES, where.namespace, "tenant")["spec"]["limits"]
    assert limits == [{"type": "Container", **container}]
    assert tenant["metadata"]["generation"] == 1, "nobody touched the Tenant"


def test_a_name_that_is_taken_out_of_env_is_gone_from_the_environment(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(env={"A": "1", "B": "2"})
    workbench.make(env={"B": "2"})
    wait_for(lambda: "A" not in workbench.secret(where, "tenant-env"), "A is gone")
    assert workbench.secret(where, "tenant-env")["B"] == "2"


def test_a_tenant_that_changes_its_plan_gets_what_that_one_gives(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    plan = workbench.platform("TenantPlan", "bigger", quota={"hard": {"pods": "99"}})
    tenant = workbench.make(plan=plan)
    assert tenant["status"]["effective"]["plan"] == plan
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant")["spec"]["hard"]["pods"] == "99"
    assert workbench.secret(where, "tenant-env") == {}


def test_the_subjects_of_a_role_follow_the_spec(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make(rbac={"bindings": [ADMIN]})
    subjects = [{"kind": "User", "name": "berta"}, {"kind": "Group", "name": "ops"}]
    workbench.make(rbac={"bindings": [{"role": "Admin", "subjects": subjects}]})
    for name in ("tenant-admin", "tenant-self-service"):
        binding = workbench.on_target(ROLE_BINDINGS, where.namespace, name)
        assert [(one["kind"], one["name"]) for one in binding["subjects"]] == [("User", "berta"), ("Group", "ops")]


def test_a_tenant_that_has_no_database_may_get_one_but_not_lose_it(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    workbench.make()
    workbench.make(database={"mode": "Shared"})
    assert workbench.record(where)["spec"]["database"]["name"] == where.database
    assert "Secret/tenant-database" in workbench.inventory(where)
    workbench.apply(workbench.tenant(database={"mode": "None"}))
    workbench.told(
        "False",
        "MoveNotSupported",
        "spec.database.mode: None is not Shared, in which this tenant's data is, and one mode can't become "
        "another; set it back",
    )
    assert where.database in workbench.database_traces(where)
