"""What every builder has in common, for any blueprint: the full stamp, valid names, JSON and nothing but JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import blueprints, calmly, identities
from tests.unit.test_drift import objects

from tenantry.api.base import LABEL_PATTERN
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_EPOCH,
    ANNOTATION_HOST,
    ANNOTATION_HOSTS,
    ANNOTATION_RECORD,
    ANNOTATION_TENANT_ID,
    LABEL_CLAIM,
    LABEL_MANAGED_BY,
    LABEL_MANAGEMENT_ID,
    LABEL_TENANT_HASH,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CONFIG_MAPS, resource_of
from tenantry.api.tenantrecord import PinnedPlan
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.claims import host_claim
from tenantry.desired.namespace import namespace, plan_of
from tenantry.desired.stamp import bears_stamp, stamped

Json = dict[str, Any]

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
ACME = TenantIdentity("0123456789abcdef", "shop", "uid", "acme", epoch=3)


@calmly
@given(blueprints())
def test_every_object_carries_the_full_stamp(blueprint: Blueprint) -> None:
    identity = blueprint.identity
    for body in [*objects(blueprint), host_claim(identity, "acme.com")]:
        labels, annotations = body["metadata"]["labels"], body["metadata"]["annotations"]
        assert labels[LABEL_MANAGED_BY] == "tenantry"
        assert labels[LABEL_MANAGEMENT_ID] == identity.management_id
        assert labels[LABEL_TENANT_HASH] == identity.tenant_hash
        assert annotations[ANNOTATION_TENANT_ID] == identity.tenant_id
        assert annotations[ANNOTATION_RECORD] == identity.record
        assert annotations[ANNOTATION_EPOCH] == str(identity.epoch)
        assert bears_stamp(body, identity)


@calmly
@given(blueprints())
def test_every_object_has_a_valid_name_of_its_own_where_it_belongs(blueprint: Blueprint) -> None:
    seen = set()
    for body in objects(blueprint):
        metadata, resource = body["metadata"], resource_of(body)
        assert re.fullmatch(LABEL_PATTERN, metadata["name"])
        assert len(metadata["name"]) <= 63
        assert metadata.get("namespace", "") == (blueprint.namespace if resource.namespaced else "")
        assert all(LABEL_VALUE.fullmatch(value) for value in metadata["labels"].values())
        seen.add((resource, metadata["name"]))
    assert len(seen) == len(objects(blueprint))


@calmly
@given(blueprints())
def test_every_object_is_json_with_text_where_kubernetes_wants_text(blueprint: Blueprint) -> None:
    for body in objects(blueprint):
        assert json.loads(json.dumps(body, allow_nan=False)) == body
        texts = [*body["metadata"]["labels"].items(), *body["metadata"]["annotations"].items()]
        data = body.get("data", {}).items() if body["kind"] in {"ConfigMap", "Secret"} else ()
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in [*texts, *data])


@calmly
@given(blueprints())
def test_no_object_but_the_secret_tells_what_is_in_the_environment(blueprint: Blueprint) -> None:
    secret = "s3cr3t-value"
    for body in objects(replace(blueprint, env={"TOKEN": secret})):
        assert secret not in json.dumps(body)


@calmly
@given(blueprints())
def test_the_same_blueprint_gives_the_same_objects(blueprint: Blueprint) -> None:
    assert objects(blueprint) == objects(replace(blueprint))


@calmly
@given(blueprints())
def test_the_namespace_may_route_exactly_the_hosts_that_are_held(blueprint: Blueprint) -> None:
    named = namespace(blueprint)["metadata"]["annotations"][ANNOTATION_HOSTS]
    assert sorted(filter(None, named.split(","))) == sorted(host.host for host in blueprint.hosts)


@calmly
@given(blueprints(), st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?\Z"), st.sampled_from(["", "-0123abcd"]))
def test_only_the_namespace_says_plan_and_revision_and_they_are_read_from_there(
    blueprint: Blueprint, plan: str, suffix: str
) -> None:
    pin = PinnedPlan(name=plan, revision=suffix and plan + suffix, rolled_out_at="2026-11-22T00:00:00Z")
    pinned = replace(blueprint, plan=pin)
    assert plan_of(namespace(pinned)) == PinnedPlan(name=pin.name, revision=pin.revision)
    assert plan_of(namespace(blueprint)) is None
    others = ([body for body in objects(each) if body["kind"] != "Namespace"] for each in (pinned, blueprint))
    assert next(others) == next(others)


@pytest.mark.parametrize("text", ["", "/", "/pro-1", "Pro/pro-1", "-", "pro/" + "x" * 254])
def test_a_plan_that_makes_no_sense_on_a_namespace_is_none(text: str) -> None:
    assert plan_of({"metadata": {"annotations": {"tenantry.io/plan-revision": text}}}) is None


@calmly
@given(blueprints())
def test_pods_are_held_to_the_plans_security(blueprint: Blueprint) -> None:
    labels = namespace(blueprint)["metadata"]["labels"]
    enforced = {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")}
    assert enforced == {blueprint.effective.pod_security} <= {"restricted", "baseline"}


@calmly
@given(identities, identities)
def test_a_stamp_is_one_tenants_alone(one: TenantIdentity, other: TenantIdentity) -> None:
    body = host_claim(one, "acme.com")
    assert bears_stamp(body, other) == ((one.management_id, one.tenant_id) == (other.management_id, other.tenant_id))


def test_whoever_found_a_name_that_gives_anothers_hash_is_not_taken_for_it() -> None:
    body = host_claim(ACME, "acme.com")
    body["metadata"]["annotations"][ANNOTATION_TENANT_ID] = f"hostile_x8gq2k_{ACME.tenant_hash}"
    assert not bears_stamp(body, ACME)
    del body["metadata"]["annotations"]
    assert bears_stamp(body, ACME), "an annotation that somebody removed is drift, and is put back"


@pytest.mark.parametrize("live", [{}, {"metadata": {}}, {"metadata": {"labels": None, "annotations": None}}])
def test_what_has_no_labels_is_nobodys(live: Json) -> None:
    assert not bears_stamp(live, ACME)


def test_nothing_can_be_put_in_the_place_of_the_stamp() -> None:
    body = stamped(CONFIG_MAPS, ACME, "x", labels={LABEL_TENANT_HASH: "other"}, annotations={ANNOTATION_EPOCH: "9"})
    assert body["metadata"]["labels"][LABEL_TENANT_HASH] == ACME.tenant_hash
    assert body["metadata"]["annotations"][ANNOTATION_EPOCH] == "3"


def test_a_claim_is_made_where_claims_are_and_says_for_which_host() -> None:
    metadata = host_claim(ACME, "*.acme.com")["metadata"]
    assert metadata["namespace"] == SYSTEM_NAMESPACE
    assert metadata["labels"][LABEL_CLAIM] == "host"
    assert metadata["annotations"][ANNOTATION_HOST] == "*.acme.com"
