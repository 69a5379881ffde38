"""Adopting a namespace and letting it go: only with consent, and afterwards it is as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.strategies import calmly

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_ALLOW_ADOPTION, RESERVED_NAMESPACES
from tenantry.api.resources import NAMESPACES
from tenantry.decide.adoption import ENFORCE, KEEPS, consent, is_offered, letting_go, taking, was_adopted
from tenantry.decide.merging import merged
from tenantry.desired.stamp import stamped

Json = dict[str, Any]

ACME = TenantIdentity("m-1", "shop", "w1", "acme")
OTHER = TenantIdentity("m-1", "shop", "w1", "other")
PODS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
OWN_LABELS = ("team", "app.kubernetes.io/managed-by", *PODS, "kubernetes.io/metadata.name")
labels = st.dictionaries(st.sampled_from(OWN_LABELS), st.sampled_from(["privileged", "baseline", "Helm", "tenantry"]))
notes_of_owners = st.dictionaries(st.sampled_from(["owner", "example.com/a"]), st.text(max_size=5))


def namespace(name: str = "legacy", **metadata: Any) -> Json:
    base = {"name": name, "uid": "u", "resourceVersion": "1"}
    return {"kind": "Namespace", "metadata": {**base, **metadata}}


def wanted(identity: TenantIdentity = ACME) -> Json:
    return stamped(NAMESPACES, identity, "legacy", labels=PODS, annotations={"tenantry.io/hosts": ""})


def offered(**metadata: Any) -> Json:
    return namespace(**{"annotations": {ANNOTATION_ALLOW_ADOPTION: consent(ACME)}, **metadata})


@calmly
@given(labels, notes_of_owners)
def test_what_is_adopted_and_let_go_is_as_it_was_but_for_a_level_of_pod_security_that_may_not_be_relaxed(
    own: dict[str, str], notes: dict[str, str]
) -> None:
    before = offered(labels=own, annotations={**notes, ANNOTATION_ALLOW_ADOPTION: consent(ACME)})
    taken = merged(before, taking(before, wanted()))
    assert was_adopted(taken, ACME)
    assert not is_offered(taken, ACME)
    assert not is_offered(taken, OTHER)
    after = merged(taken, letting_go(taken))
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    level = own.get(ENFORCE) if own.get(ENFORCE) in KEEPS else "restricted"
    assert after["metadata"]["labels"] == {**own, ENFORCE: level}


@pytest.mark.parametrize("noted", ["", "no json", "[]", '{"tenantry.io/tenant-hash": "x", "team": 1}'])
def test_a_note_that_makes_no_sense_takes_off_what_is_ours_and_nothing_else(noted: str) -> None:
    live = offered(labels={"team": "blue"})
    taken = merged(live, taking(live, wanted()))
    taken["metadata"]["annotations"]["tenantry.io/adopted"] = noted
    after = merged(taken, letting_go(taken))["metadata"]
    assert after["labels"] == {"team": "blue", **PODS}
    assert after["annotations"] == live["metadata"]["annotations"]


@pytest.mark.parametrize(
    "live",
    [
        namespace(),
        offered(annotations={ANNOTATION_ALLOW_ADOPTION: consent(OTHER)}),
        offered(annotations={ANNOTATION_ALLOW_ADOPTION: "m-1/*/*"}),
        offered(annotations={ANNOTATION_ALLOW_ADOPTION: f" {consent(ACME)}"}),
        offered(labels={"tenantry.io/management-id": "another"}),
        offered(labels={"tenantry.io/tenant-hash": "aaaaaaaa"}),
        offered(deletionTimestamp="2026-05-01T12:00:00Z"),
        *(offered(name=name) for name in (*RESERVED_NAMESPACES, "kube-anything")),
    ],
)
def test_a_namespace_that_is_stamped_reserved_ending_or_offered_to_others_is_not_offered(live: Json) -> None:
    assert not is_offered(live, ACME)
    assert is_offered(offered(), ACME)
