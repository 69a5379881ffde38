"""The demo's assertions must fail: each is shown a quick start in which one thing is wrong."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from tests.demo.databases import Answer, DatabaseFindings, one_line
from tests.demo.findings import Findings
from tests.demo.proofs import Proofs
from tests.demo.quickstart import EXPECTED, PLATFORM, TenantName, platform_manifest
from tests.demo.verdicts import (
    BINDING_KEYS,
    CONDITIONS,
    POLICIES,
    gone_problems,
    judge_proofs,
    judge_tenants,
    leak_problems,
    unchanged_problems,
)

ACME = TenantName("shop", "acme")
Found = dict[TenantName, Findings]


def _body(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "uid": f"{kind}-{name}", "labels": {}}, **content}


def _right(name: TenantName) -> Findings:
    """A tenant of the quick start as it should be."""
    expected, namespace, database = EXPECTED[name], f"{name.workspace}-{name.name}-abc", f"tenantry_{name.workspace}"
    conditions = [{"type": kind, "status": "True", "reason": "Ready"} for kind in sorted(CONDITIONS)]
    tenant = _body("Tenant", name.name, status={"conditions": conditions, "observedGeneration": 1})
    tenant["metadata"] |= {"namespace": name.workspace, "generation": 1}
    record_spec = {"state": "Active", "cluster": {"namespace": namespace}, "database": {"name": database}}
    space = _body("Namespace", namespace)
    space["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    claim = _body("ConfigMap", f"host-{name.workspace}-{name.name}")
    claim["metadata"]["annotations"] = {"tenantry.io/host": expected.host}
    objects = [
        space,
        _body("ResourceQuota", "tenant", spec={"hard": {"pods": "1"}}, status={"hard": {"pods": "1"}}),
        _body("LimitRange", "tenant"),
        _body("ServiceAccount", "tenant"),
        _body("ConfigMap", "tenant-info"),
        *(_body("NetworkPolicy", policy) for policy in POLICIES),
        *(_body("RoleBinding", binding) for binding in expected.bindings),
        _body("Secret", "tenant-database", data=dict.fromkeys(BINDING_KEYS, "")),
        _body("Secret", "tenant-env", data=dict.fromkeys(expected.env, "")),
        _body("Ingress", "tenant", spec={"rules": [{"host": expected.host}]}),
    ]
    roles = {f"{database}_0": True, f"{database}_1": False, f"{database}_owner": False}
    return Findings(
        tenant=tenant,
        record=_body("TenantRecord", f"{name.name}-{name.workspace}", spec=record_spec),
        objects=tuple(objects),
        claims=(claim,),
        database=DatabaseFindings(database, exists=True, owner="tenantry_admin", roles=roles, claim="ready"),
        uri="postgresql://",
    )


def _all() -> Found:
    return {name: _right(name) for name in EXPECTED}


def _without(kind: str, name: str = "") -> Callable[[Findings], Findings]:
    def change(one: Findings) -> Findings:
        kept = (b for b in one.objects if b["kind"] != kind or (name and b["metadata"]["name"] != name))
        return dataclasses.replace(one, objects=tuple(kept))

    return change


def _with_database(**changes: Any) -> Callable[[Findings], Findings]:
    def change(one: Findings) -> Findings:
        assert one.database is not None
        return dataclasses.replace(one, database=dataclasses.replace(one.database, **changes))

    return change


def _with_quota_not_enforced(one: Findings) -> Findings:
    quota = _body("ResourceQuota", "tenant", spec={"hard": {"pods": "1"}}, status={"hard": {}})
    return dataclasses.replace(one, objects=(*_without("ResourceQuota")(one).objects, quota))


def _with_condition(kind: str, status: str) -> Callable[[Findings], Findings]:
    def change(one: Findings) -> Findings:
        conditions = [
            entry | ({"status": status} if entry["type"] == kind else {}) for entry in one.status["conditions"]
        ]
        return dataclasses.replace(one, tenant=one.tenant | {"status": one.status | {"conditions": conditions}})

    return change


def test_a_quick_start_as_it_should_be_passes() -> None:
    verdicts = judge_tenants(_all())
    assert len(verdicts) == 1 + 9 * len(EXPECTED)
    assert [one for one in verdicts if not one.passed] == []


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (_with_condition("Ready", "False"), "Ready, every condition True"),
        (_with_condition("IngressReady", "Unknown"), "Ready, every condition True"),
        (_without("Namespace"), "a namespace with Pod Security"),
        (_with_quota_not_enforced, "quota enforced, LimitRange there"),
        (_without("LimitRange"), "quota enforced, LimitRange there"),
        (_without("NetworkPolicy", "tenant-isolation"), "network policies"),
        (_without("RoleBinding", "tenant-admin"), "role bindings and ServiceAccount"),
        (_without("ServiceAccount"), "role bindings and ServiceAccount"),
        (_without("Secret", "tenant-env"), "Secrets and facts"),
        (_without("ConfigMap"), "Secrets and facts"),
        (_without("Ingress"), "Ingress for acme-shop.eu.example.com, host claimed"),
        (lambda one: dataclasses.replace(one, claims=()), "Ingress for acme-shop.eu.example.com, host claimed"),
        (_with_database(exists=False), "database, roles, claim"),
        (_with_database(claim="creating"), "database, roles, claim"),
        (_with_database(owner="tenantry_shop_owner"), "database, roles, claim"),
        (_with_database(roles={"tenantry_shop_0": True}), "database, roles, claim"),
    ],
)
def test_each_assertion_fails_when_what_it_is_about_is_wrong(
    change: Callable[[Findings], Findings], failing: str
) -> None:
    found = _all()
    found[ACME] = change(found[ACME])
    assert [one.name for one in judge_tenants(found) if not one.passed] == [f"shop/acme: {failing}"]


def test_a_tenant_that_is_not_there_fails() -> None:
    found = _all()
    del found[ACME]
    assert judge_tenants(found)[0].problems == ("shop/acme is not there",)


def test_a_login_that_gets_into_a_foreign_database_or_not_into_its_own_fails() -> None:
    refused = {what: Answer(True, "FATAL: permission denied") for what in "abc"}
    proofs = {name: Proofs(Answer(True, "1 row"), refused) for name in EXPECTED}
    assert all(one.passed for one in judge_proofs(proofs))
    proofs[ACME] = Proofs(Answer(False, "no such role"), {**refused, "b": Answer(False, "it was let into b")})
    failed = [one for one in judge_proofs(proofs) if not one.passed]
    assert [one.problems for one in failed] == [("no such role",), ("b: it was let into b",)]
    proofs[ACME] = Proofs(Answer(True, ""), {"a": refused["a"]})
    assert [one.problems for one in judge_proofs(proofs) if not one.passed] == [("only 1 other databases were tried",)]


@pytest.mark.parametrize("kind", ["namespaces", "records", "claims", "databases", "roles", "databaseClaims"])
def test_whatever_a_deleted_tenant_leaves_behind_is_told(kind: str) -> None:
    found = _all()
    before = found.pop(ACME)
    left = {
        "namespaces": "shop-acme-abc",
        "records": "acme-shop",
        "claims": "host-shop-acme",
        "databases": "tenantry_shop",
        "roles": "tenantry_shop_1",
        "databaseClaims": "tenantry_shop",
    }
    nothing = {name: set[str]() for name in left}
    assert gone_problems(before, found, nothing) == []
    assert gone_problems(before, found, {**nothing, kind: {left[kind]}}) == [f"still there in {kind}: {left[kind]}"]


def test_a_tenant_that_is_still_there_is_not_gone() -> None:
    found = _all()
    kinds = ("namespaces", "records", "claims", "databases", "roles", "databaseClaims")
    nothing = {kind: set[str]() for kind in kinds}
    assert gone_problems(found[ACME], found, nothing) == ["the Tenant shop/acme itself is still there"]


def test_tenants_that_nobody_touched_must_keep_their_objects_and_stay_ready() -> None:
    before, after = _all(), _all()
    assert unchanged_problems(before, after) == []
    after[ACME] = _without("Ingress")(after[ACME])
    assert unchanged_problems(before, after) == ["shop/acme: objects were removed or made again"]
    after[ACME] = _with_database(claim="dropping")(before[ACME])
    assert unchanged_problems(before, after) == ["shop/acme: its database is not what it was"]
    after[ACME] = _with_condition("Ready", "False")(before[ACME])
    assert unchanged_problems(before, after) == ["shop/acme: Ready is False: "]
    del after[ACME]
    assert unchanged_problems(before, after) == ["shop/acme is gone"]


@pytest.mark.parametrize("form", ["pa/ss+word", "pa%2Fss%2Bword", base64.b64encode(b"pa/ss+word").decode()])
def test_a_secret_is_found_in_every_form_and_never_told(form: str) -> None:
    problems = leak_problems(["pa/ss+word"], {"a log": f"before {form} after", "an event": "nothing"})
    assert problems == ["a log has a secret value in it"]


def test_a_search_without_secrets_or_in_nothing_is_no_proof() -> None:
    assert leak_problems(["short"], {"a log": "text"}) == ["no secret was known to search for"]
    assert leak_problems(["long enough"], {"a log": " "}) == ["a log is empty: nothing was searched"]


def test_the_platform_manifest_gets_the_port_and_nothing_else_changes() -> None:
    text = PLATFORM.read_text()
    patched = platform_manifest(text, 41234)
    changed = [pair for pair in zip(text.splitlines(), patched.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed == [("  port: 5432", "  port: 41234")]
    with pytest.raises(ValueError, match="exactly once"):
        platform_manifest(patched, 1)


def test_the_message_of_a_refused_connection_begins_with_its_severity() -> None:
    text = 'connection failed: connection to server at "127.0.0.1" failed: FATAL:  permission\nDETAIL:  no.'
    assert one_line(text) == "FATAL: permission DETAIL: no."
