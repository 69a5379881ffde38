"""Names derived from a tenant: always valid where they are used, and never those of somebody else."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.strategies import calmly, identities, labels

from tenantry.api.base import LABEL_PATTERN
from tenantry.api.cluster import (
    DEFAULT_HOST_TEMPLATE,
    DOMAIN_PATTERN,
    HOST_TEMPLATE_PATTERN,
    NAMESPACE_TEMPLATE_PATTERN,
)
from tenantry.api.identity import TenantIdentity, default_host, host_claim_name, namespace_name

ACME = TenantIdentity(
    management_id="0123456789abcdef", workspace="shop", workspace_uid="7d9f", name="acme", incarnation=1, epoch=1
)
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")

namespace_templates = st.lists(
    st.sampled_from(["{workspace}", "{tenant}", "-", "--", "x", "0", "x" * 60]), max_size=4
).map(lambda parts: "".join([*parts, "{tenant}", *reversed(parts)])[-128:])


def is_label(name: str) -> bool:
    return len(name) <= 63 and re.fullmatch(LABEL_PATTERN, name) is not None


def test_a_tenants_names_stay_what_they_are_from_release_to_release() -> None:
    assert ACME.tenant_hash == "p7n5s5q4"
    assert ACME.tenant_id == "shop_acme_p7n5s5q4"
    assert ACME.record == "acme-p7n5s5q4"
    assert ACME.database == "tenantry_p7n5s5q4"
    assert namespace_name("{workspace}-{tenant}", ACME) == "shop-acme-p7n5s5"
    assert default_host(DEFAULT_HOST_TEMPLATE, ACME, "eu.example.com") == "acme-shop.eu.example.com"


@calmly
@given(identities)
def test_hash_and_record_are_valid_names(identity: TenantIdentity) -> None:
    assert re.fullmatch(r"[a-z2-7]{8}", identity.tenant_hash)
    assert is_label(identity.record)
    assert len(f"{identity.database}_owner".encode()) <= 63


@calmly
@given(identities, namespace_templates)
def test_every_template_that_a_cluster_may_have_gives_a_valid_namespace_name(
    identity: TenantIdentity, template: str
) -> None:
    assume(re.fullmatch(NAMESPACE_TEMPLATE_PATTERN, template))
    name = namespace_name(template, identity)
    assert is_label(name)
    assert name.endswith(f"-{identity.tenant_hash[:6]}")


@calmly
@given(
    identities, st.sampled_from([DEFAULT_HOST_TEMPLATE, "app.{tenant}-{workspace}.{domain}", "{tenantHash}.{domain}"])
)
def test_a_default_host_is_made_of_valid_labels_however_long_the_names_are(
    identity: TenantIdentity, template: str
) -> None:
    assert re.fullmatch(HOST_TEMPLATE_PATTERN, template)
    host = default_host(template, identity, "eu.example.com")
    assert re.fullmatch(DOMAIN_PATTERN, host), host
    assert host.endswith(".eu.example.com")


@calmly
@given(identities, identities)
def test_two_long_named_tenants_do_not_share_a_cut_host_or_namespace(
    one: TenantIdentity, other: TenantIdentity
) -> None:
    stem = "x" * 40
    one, other = replace(one, name=stem, workspace="y" * 63), replace(other, name=stem, workspace="y" * 63)
    if one.tenant_hash[:6] != other.tenant_hash[:6]:
        assert namespace_name("{workspace}-{tenant}", one) != namespace_name("{workspace}-{tenant}", other)
        assert default_host(DEFAULT_HOST_TEMPLATE, one, "e.com") != default_host(DEFAULT_HOST_TEMPLATE, other, "e.com")


@calmly
@given(identities, st.sampled_from(["management_id", "workspace_uid", "name"]), st.text(min_size=1, max_size=5))
def test_whoever_differs_in_anything_but_the_workspaces_name_has_another_hash(
    identity: TenantIdentity, field: str, more: str
) -> None:
    other = replace(identity, **{field: getattr(identity, field) + more})
    assert other.tenant_hash != identity.tenant_hash
    assert replace(identity, incarnation=identity.incarnation + 1).tenant_hash != identity.tenant_hash


@calmly
@given(labels(40), labels(40))
def test_the_parts_of_a_hash_cannot_be_shifted_into_each_other(one: str, other: str) -> None:
    left = TenantIdentity("m", "w", one + other, "x")
    right = TenantIdentity("m", "w", one, other + "x")
    assert left.tenant_hash != right.tenant_hash


def test_a_claims_name_is_the_hosts_alone_and_fits_a_config_map() -> None:
    assert host_claim_name("Acme.com") == host_claim_name("acme.com") != host_claim_name("*.acme.com")
    assert DNS_SUBDOMAIN.fullmatch(host_claim_name("*.acme.com"))
