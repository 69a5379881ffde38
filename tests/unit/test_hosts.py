"""Hosts a tenant may have (rule 4): under a cluster's domain its default one only; wildcards and subdomains apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import DOMAIN, calmly, hosts, identities, plans, tame_specs

from tenantry.api.cluster import ClusterSpec
from tenantry.api.conditions import Reason
from tenantry.api.identity import TenantIdentity
from tenantry.api.tenant import Domain, TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.halt import Terminal
from tenantry.decide.hosts import (
    covers,
    is_under,
    pinned_default_host,
    proof_name,
    proof_value,
    wanted_hosts,
    wildcards_over,
)

ACME = TenantIdentity("m", "shop", "uid", "acme")
DEFAULT = f"acme-shop.{DOMAIN}"


def cluster_spec(**fields: Any) -> ClusterSpec:
    return ClusterSpec.model_validate({"domain": DOMAIN, "ingress": {"className": "traefik"}, **fields})


def plan(**fields: Any) -> TenantPlanSpec:
    return TenantPlanSpec.model_validate(fields)


@calmly
@given(tame_specs, plans)
def test_nobody_gets_a_host_under_the_clusters_domain_or_a_wildcard_over_it_but_the_default(
    spec: TenantSpec, plan: TenantPlanSpec
) -> None:
    wishes, refusals = wanted_hosts(DEFAULT, spec.domains, cluster_spec(), plan)
    assert wishes[0].host == DEFAULT
    assert not wishes[0].needs_proof
    for wish in wishes[1:]:
        assert not is_under(wish.host, DOMAIN)
        assert not covers(wish.host, DOMAIN)
    asked = {domain.host for domain in spec.domains} | {DEFAULT}
    assert {wish.host for wish in wishes} | {refusal.host for refusal in refusals} == asked
    assert len(wishes) + len(refusals) == len(asked)


@calmly
@given(tame_specs, plans)
def test_a_custom_host_is_proven_or_allowed_by_the_plan(spec: TenantSpec, plan: TenantPlanSpec) -> None:
    wishes, _ = wanted_hosts("", spec.domains, cluster_spec(), plan)
    for wish in wishes:
        named = wish.host in plan.allowed_hosts or any(covers(each, wish.host) for each in plan.allowed_hosts)
        assert named or wish.needs_proof == (plan.custom_hosts == "Verified")
        assert named or plan.custom_hosts != "None"


@calmly
@given(hosts(), hosts())
def test_the_wildcards_over_a_host_are_exactly_those_that_cover_it(one: str, other: str) -> None:
    assert (one in wildcards_over(other)) == covers(one, other)
    assert not (covers(one, other) and covers(other, one))
    assert not covers(one, one)


@calmly
@given(hosts(), hosts(), hosts())
def test_covering_goes_on_from_wildcard_to_wildcard(one: str, two: str, three: str) -> None:
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


def test_wildcards_by_example() -> None:
    assert wildcards_over("a.b.c") == ["*.b.c", "*.c"]
    assert wildcards_over("*.b.c") == ["*.c"]
    assert covers("*.b.c", "a.b.c")
    assert covers("*.b.c", "x.a.b.c")
    assert covers("*.b.c", "*.a.b.c")
    assert not covers("*.b.c", "b.c"), "a wildcard takes no traffic of the domain itself"
    assert not covers("*.b.c", "ab.c")
    assert not covers("b.c", "a.b.c")


def test_allowing_a_wildcard_does_not_allow_the_domain_itself() -> None:
    domains = [Domain(host="acme.com"), Domain(host="www.acme.com")]
    wishes, refusals = wanted_hosts("", domains, cluster_spec(), plan(customHosts="None", allowedHosts=["*.acme.com"]))
    assert [wish.host for wish in wishes] == ["www.acme.com"]
    assert [(refusal.host, refusal.reason) for refusal in refusals] == [("acme.com", Reason.HOST_NOT_ALLOWED)]


def test_the_default_host_may_be_named_as_a_domain_and_is_claimed_once() -> None:
    wishes, refusals = wanted_hosts(DEFAULT, [Domain(host=DEFAULT)], cluster_spec(), plan(customHosts="None"))
    assert ([wish.host for wish in wishes], refusals) == ([DEFAULT], [])


def test_a_proof_is_asked_for_at_a_place_of_the_hosts_owner_and_names_the_tenant() -> None:
    assert proof_name("shop.acme.com") == "_tenantry.shop.acme.com"
    assert proof_name("*.acme.com") == "_tenantry.acme.com"
    assert proof_value(ACME.tenant_hash) == f"tenantry={ACME.tenant_hash}"


@pytest.mark.parametrize("pattern", ["acme-shop", "acme-*", "*", "*-shop"])
def test_a_reserved_default_host_is_refused(pattern: str) -> None:
    with pytest.raises(Terminal, match="is reserved on this cluster"):
        pinned_default_host(cluster_spec(reservedHosts=["login", pattern]), ACME)


@pytest.mark.parametrize(
    "fields",
    [
        {"hostTemplate": "-{tenant}.{domain}"}, {"hostTemplate": "{tenant}..{domain}"},
        {"hostTemplate": "{tenant}.{domain}."},
        {"domain": ".".join(["d" * 49] * 4), "hostTemplate": "{tenant}.x" * 9 + ".{domain}"},
    ],
)  # fmt: skip
def test_a_template_that_gives_no_valid_host_is_told_and_not_pinned(fields: dict[str, Any]) -> None:
    with pytest.raises(Terminal, match="which is no valid host"):
        pinned_default_host(cluster_spec(**fields), ACME)


@calmly
@given(identities, st.sampled_from([{"ingress": None}, {"domain": None}]))
def test_without_an_ingress_or_a_domain_there_is_no_default_host(
    identity: TenantIdentity, fields: dict[str, Any]
) -> None:
    assert pinned_default_host(cluster_spec(**fields), identity) == ""
