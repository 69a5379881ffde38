"""Which hosts a tenant gets: one owner each, proven or allowed, and never one under the cluster's own domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.tenants import condition, wait_for
from tests.scene.stage import DOMAIN
from tests.scene.zone import publish

from tenantry.api.resources import INGRESSES

if TYPE_CHECKING:
    from tests.integration.tenants import Workbench

Spec = dict[str, Any]


def taken(host: str) -> str:
    return f"{host} is taken by another tenant of this cluster, or overlaps with a host of one; choose another"


def domains(*hosts: str) -> list[Spec]:
    return [{"host": host} for host in hosts]


def free_plan(workbench: Workbench) -> str:
    return workbench.platform("TenantPlan", "free", customHosts="Any")


def test_a_host_that_another_tenant_has_is_a_conflict_that_names_nobody_and_heals_at_once_when_it_is_free(
    workbench: Workbench,
) -> None:
    plan, host = free_plan(workbench), f"shop.{workbench.prefix}.test"
    rival = workbench.make_workspace(f"{workbench.prefix}-rival")
    workbench.make("first", rival, plan=plan, domains=domains(host))
    first = workbench.claim(host)["metadata"]["uid"]
    workbench.apply(workbench.tenant(plan=plan, domains=domains(host)))
    tenant = workbench.told("False", "HostnameConflict", taken(host))
    assert condition(tenant, "Stalled")["reason"] == "HostnameConflict"
    assert "first" not in str(tenant["status"])
    assert rival not in str(tenant["status"])
    default = f"acme-{workbench.workspace}.{DOMAIN}"
    assert tenant["status"]["hosts"] == [default], "the rest of it serves"
    where = workbench.whereabouts()
    rules = workbench.on_target(INGRESSES, where.namespace, "tenant")["spec"]["rules"]
    assert [rule["host"] for rule in rules] == [default]
    assert workbench.claim(host)["metadata"]["uid"] == first
    workbench.make("first", rival, plan=plan, domains=[])
    wait_for(lambda: workbench.claim(host).get("metadata", {}).get("uid") != first, "the host is given back")
    assert workbench.ready()["status"]["hosts"] == [default, host]


def test_two_tenants_that_race_for_hosts_get_each_host_exactly_once(workbench: Workbench) -> None:
    plan = free_plan(workbench)
    hosts = [f"{name}.{workbench.prefix}.test" for name in "abc"]
    names = [f"racer-{number}" for number in range(4)]
    workbench.apply(*(workbench.tenant(name, plan=plan, domains=domains(*hosts)) for name in names))
    for name in names:
        wait_for(lambda: workbench.get(name)["status"].get("hosts"), f"{name} has what it gets")  # noqa: B023 - called here
        wait_for(
            lambda: condition(workbench.get(name))["reason"] in ("Ready", "HostnameConflict"),  # noqa: B023 - as above
            f"{name} is through",
        )
    served = [host for name in names for host in workbench.get(name)["status"]["hosts"] if host in hosts]
    assert sorted(served) == hosts
    for name in names:
        own = set(workbench.get(name)["status"]["hosts"])
        assert condition(workbench.get(name))["status"] == str(set(hosts) <= own), "Ready is who has all three"
        where = workbench.whereabouts(name)
        assert {f"Claim/{host}" for host in own} <= workbench.inventory(where)


def test_default_hosts_that_happen_to_be_the_same_are_a_conflict_too(workbench: Workbench) -> None:
    """`a-b` in `c` and `a` in `b-c` are both `a-b-c`."""
    outer, inner = workbench.make_workspace(workbench.prefix), workbench.make_workspace(f"b-{workbench.prefix}")
    workbench.make("a-b", outer)
    workbench.apply(workbench.tenant("a", inner))
    host = f"a-b-{workbench.prefix}.{DOMAIN}"
    tenant = workbench.told("False", "HostnameConflict", taken(host), name="a", workspace=inner)
    assert tenant["status"].get("hosts", []) == []
    assert "Ingress/tenant" not in workbench.inventory(workbench.whereabouts("a", inner))


def test_a_custom_host_waits_for_its_txt_record(workbench: Workbench) -> None:
    host = f"shop.{workbench.prefix}.test"
    where = workbench.whereabouts()
    name, value = f"_tenantry.{host}", f"tenantry={where.hash}"
    told = f'spec.domains: {host} waits for its proof: make a TXT record {name} with the value "{value}"'
    workbench.apply(workbench.tenant(domains=domains(host)))
    tenant = workbench.told("Unknown", "HostNotVerified", told)
    assert condition(tenant, "Reconciling")["status"] == "True"
    assert workbench.claim(host) == {}
    publish(workbench.stage.zone, name, "tenantry=aaaaaaaa", f"x{value}")
    workbench.look_now()
    workbench.kubectl("wait", "--for=jsonpath={.status.lastHandledReconcileAt}", "tenant/acme", "--timeout=90s")
    workbench.told("Unknown", "HostNotVerified", told)
    publish(workbench.stage.zone, name, "something else", value)
    workbench.look_now()
    assert workbench.ready()["status"]["hosts"][1] == host
    publish(workbench.stage.zone, name)
    workbench.look_now()
    assert workbench.ready()["status"]["hosts"][1] == host, "what was proven once is kept"


def test_a_wildcard_is_proven_at_its_parent(workbench: Workbench) -> None:
    where = workbench.whereabouts()
    publish(workbench.stage.zone, f"_tenantry.{workbench.prefix}.test", f"tenantry={where.hash}")
    tenant = workbench.make(domains=domains(f"*.{workbench.prefix}.test"))
    assert tenant["status"]["hosts"][1] == f"*.{workbench.prefix}.test"


def test_hosts_that_the_plan_allows_need_no_proof_and_with_none_there_are_no_others(workbench: Workbench) -> None:
    fine, other = f"shop.{workbench.prefix}.test", f"shop.{workbench.prefix}.example"
    plan = workbench.platform("TenantPlan", "plan", customHosts="None", allowedHosts=[f"*.{workbench.prefix}.test"])
    workbench.make(plan=plan, domains=domains(fine))
    workbench.apply(workbench.tenant(plan=plan, domains=domains(fine, other)))
    tenant = workbench.told(
        "False", "HostNotAllowed", f"spec.domains: the plan does not allow {other} (customHosts: None)"
    )
    assert tenant["status"]["hosts"][1:] == [fine]


@pytest.mark.parametrize("first", ["*.{prefix}.test", "a.{prefix}.test", "a.b.{prefix}.test"])
def test_a_wildcard_and_a_host_under_it_exclude_each_other_from_both_sides(workbench: Workbench, first: str) -> None:
    plan, wildcard = free_plan(workbench), f"*.{workbench.prefix}.test"
    mine = first.format(prefix=workbench.prefix)
    theirs = f"a.{workbench.prefix}.test" if mine == wildcard else wildcard
    workbench.make("first", plan=plan, domains=domains(mine))
    workbench.apply(workbench.tenant("second", plan=plan, domains=domains(theirs)))
    workbench.told("False", "HostnameConflict", taken(theirs), name="second")
    wait_for(lambda: workbench.claim(theirs) == {}, "what was claimed to find that out is given back")
    assert workbench.get("first")["status"]["hosts"][1:] == [mine]


def test_one_tenant_may_have_a_wildcard_and_hosts_under_it(workbench: Workbench) -> None:
    own = [f"*.{workbench.prefix}.test", f"a.{workbench.prefix}.test", f"{workbench.prefix}.test"]
    tenant = workbench.make(plan=free_plan(workbench), domains=domains(*own))
    assert tenant["status"]["hosts"][1:] == own


@pytest.mark.parametrize("host", ["other.main.example.com", "*.main.example.com", "main.example.com", "*.example.com"])
def test_nothing_under_or_over_the_clusters_own_domain_is_given_away(workbench: Workbench, host: str) -> None:
    workbench.apply(workbench.tenant(plan=free_plan(workbench), domains=domains(host)))
    tenant = workbench.told(
        "False",
        "HostNotAllowed",
        f"spec.domains: {host} is under the cluster's own domain {DOMAIN}, where tenants have only their default host; "
        "use a host of your own",
    )
    assert tenant["status"]["hosts"] == [f"acme-{workbench.workspace}.{DOMAIN}"]
    assert workbench.claim(host) == {}


def test_the_default_host_of_another_tenant_is_not_to_be_had_as_a_custom_one(workbench: Workbench) -> None:
    workbench.make("first")
    host = f"first-{workbench.workspace}.{DOMAIN}"
    workbench.apply(workbench.tenant(plan=free_plan(workbench), domains=domains(host)))
    workbench.told("False", "HostNotAllowed", None)
    own = f"acme-{workbench.workspace}.{DOMAIN}"
    assert workbench.make(plan=free_plan(workbench), domains=domains(own))["status"]["hosts"] == [own]


def test_a_default_host_that_the_cluster_reserves_is_refused_before_anything_is_made(workbench: Workbench) -> None:
    workspace = workbench.make_workspace(f"{workbench.prefix}-admin")
    workbench.apply(workbench.tenant("acme", workspace))
    workbench.told(
        "False",
        "HostNotAllowed",
        f"the default host 'acme-{workspace}.{DOMAIN}' is reserved on this cluster; give the tenant another name",
        workspace=workspace,
    )
    where = workbench.whereabouts("acme", workspace)
    assert workbench.record(where) == {}
    assert workbench.inventory(where) == set()


def test_a_withdrawn_host_stays_claimed_while_an_ingress_of_the_tenants_own_still_names_it(
    workbench: Workbench,
) -> None:
    plan, host = free_plan(workbench), f"shop.{workbench.prefix}.test"
    where = workbench.whereabouts()
    workbench.make(plan=plan, domains=domains(host))
    copy = workbench.on_target(INGRESSES, where.namespace, "tenant")
    own = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {**copy["spec"]}}
    own["metadata"] = {"name": "own", "namespace": where.namespace}
    assert workbench.target.create(INGRESSES, own, dry=False).status == 201
    workbench.apply(workbench.tenant(plan=plan))
    workbench.told(
        "Unknown",
        "HostStillNamed",
        f"{host} is no longer this tenant's, but Ingress 'own' in its namespace still names it; take it out there",
    )
    assert workbench.claim(host)
    workbench.target.delete(INGRESSES.path(where.namespace, "own"), dry=False)
    workbench.look_now()
    workbench.ready()
    wait_for(lambda: workbench.claim(host) == {}, "the host is free")


def test_a_brought_certificate_is_used_for_its_host_alone(workbench: Workbench) -> None:
    plan, host = free_plan(workbench), f"shop.{workbench.prefix}.test"
    where = workbench.whereabouts()
    workbench.make(plan=plan, domains=[{"host": host, "tls": {"secretName": "own-tls"}}])
    issued = workbench.on_target(INGRESSES, where.namespace, "tenant")["spec"]["tls"]
    brought = workbench.on_target(INGRESSES, where.namespace, "tenant-own-certificates")["spec"]["tls"]
    assert issued == [{"hosts": [f"acme-{workbench.workspace}.{DOMAIN}"]}]
    assert brought == [{"hosts": [host], "secretName": "own-tls"}]
