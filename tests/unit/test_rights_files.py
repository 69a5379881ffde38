"""What deploy/target-rbac.yaml and deploy/management-rbac.yaml say, before any cluster reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.api import names

DEPLOY = Path(__file__).parents[2] / "deploy"
GRANTS = ("ClusterRole", "Role")
FILES = ("target-rbac.yaml", "target-cloudnativepg.yaml", "management-rbac.yaml")
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def documents(file: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / file).read_text()) if document]


def granted(name: str, file: str = "target-rbac.yaml") -> list[dict[str, Any]]:
    """The rules of a role."""
    (role,) = (d for d in documents(file) if d["kind"] in GRANTS and d["metadata"]["name"] == name)
    return list(role["rules"])


def verbs_on(rules: list[dict[str, Any]], group: str, resource: str) -> set[str]:
    return {
        verb
        for rule in rules
        if group in rule.get("apiGroups", []) and resource in rule.get("resources", [])
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("file", FILES)
def test_no_role_has_a_wildcard_or_a_right_that_makes_rights(file: str) -> None:
    for document in documents(file):
        for rule in document.get("rules", []) if document["kind"] in GRANTS else []:
            said = {entry for values in rule.values() for entry in values}
            assert not {entry for entry in said if "*" in entry}, document["metadata"]["name"]
            assert not said & {"escalate", "impersonate", "approve", "sign"}, document["metadata"]["name"]
            if "bind" in rule["verbs"]:
                assert rule["resourceNames"], "bind is given by name only"


def test_the_operator_has_neither_secrets_nor_pods_across_the_target() -> None:
    resources = {resource for rule in granted(names.CLUSTER_ROLE_OPERATOR) for resource in rule.get("resources", [])}
    assert not resources & {"secrets", "pods", "pods/exec", "pods/attach", "nodes", "serviceaccounts/token"}
    bound_everywhere = {
        d["roleRef"]["name"] for d in documents("target-rbac.yaml") if d["kind"] == "ClusterRoleBinding"
    }
    assert bound_everywhere == {names.CLUSTER_ROLE_OPERATOR}


def test_the_operator_may_bind_just_the_roles_that_it_knows() -> None:
    (bind,) = (rule for rule in granted(names.CLUSTER_ROLE_OPERATOR) if rule["verbs"] == ["bind"])
    assert set(bind["resourceNames"]) == {
        names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
        names.CLUSTER_ROLE_TENANT_ADMIN,
        names.CLUSTER_ROLE_TENANT_EDIT,
        names.CLUSTER_ROLE_TENANT_VIEW,
        names.CLUSTER_ROLE_TENANT_SELF_SERVICE,
    }
    made = {d["metadata"]["name"] for d in documents("target-rbac.yaml") if d["kind"] == "ClusterRole"}
    assert made == {*bind["resourceNames"], names.CLUSTER_ROLE_OPERATOR}


def test_admin_holds_all_of_edit_and_edit_all_of_view() -> None:
    def rights(name: str) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb)
            for rule in granted(name)
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    view, edit = rights(names.CLUSTER_ROLE_TENANT_VIEW), rights(names.CLUSTER_ROLE_TENANT_EDIT)
    assert view < edit < rights(names.CLUSTER_ROLE_TENANT_ADMIN)
    assert not {verb for _, _, verb in view} & WRITES
    assert ("", "secrets", "get") not in view


@pytest.mark.parametrize("role", [names.CLUSTER_ROLE_TENANT_ADMIN, names.CLUSTER_ROLE_TENANT_EDIT])
def test_no_tenant_writes_its_own_guard_rails(role: str) -> None:
    rules = granted(role)
    for group, resource in (
        ("", "resourcequotas"),
        ("", "limitranges"),
        ("", "namespaces"),
        ("networking.k8s.io", "networkpolicies"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    ):
        assert not verbs_on(rules, group, resource) & WRITES, resource


READ = "get list watch"
ALL_BUT_DELETE = f"{READ} create patch update"
ALL = f"{ALL_BUT_DELETE} delete"
ROLES_FOR_WORKSPACES = {
    "admin": {"tenants": ALL, "tenantbackups": ALL, "tenantrestores": ALL},
    "editor": {"tenants": ALL_BUT_DELETE, "tenantbackups": ALL_BUT_DELETE, "tenantrestores": READ},
    "viewer": {"tenants": READ, "tenantbackups": READ, "tenantrestores": READ},
}


@pytest.mark.parametrize("role", ROLES_FOR_WORKSPACES)
def test_people_in_workspaces_reach_tenants_their_backups_and_events_and_nothing_else(role: str) -> None:
    rules = granted(f"tenantry-workspace-{role}", "management-rbac.yaml")
    given = ROLES_FOR_WORKSPACES[role]
    assert {resource for rule in rules for resource in rule["resources"]} == {*given, "events"}
    for resource, verbs in given.items():
        assert verbs_on(rules, "tenantry.io", resource) == set(verbs.split())
    assert verbs_on(rules, "", "events") == set(READ.split())


def test_kubernetes_own_roles_take_in_those_for_workspaces_and_no_other() -> None:
    taken_in = {
        (label.rpartition("/")[2], document["metadata"]["name"])
        for file in FILES
        for document in documents(file)
        for label in document["metadata"].get("labels", {})
        if "aggregate-to-" in label
    }
    assert taken_in == {
        ("aggregate-to-admin", "tenantry-workspace-admin"),
        ("aggregate-to-edit", "tenantry-workspace-editor"),
        ("aggregate-to-view", "tenantry-workspace-viewer"),
    }


@pytest.mark.parametrize("file", FILES)
def test_every_policy_is_bound_and_denies(file: str) -> None:
    policies = {d["metadata"]["name"] for d in documents(file) if d["kind"] == "ValidatingAdmissionPolicy"}
    bindings = [d["spec"] for d in documents(file) if d["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert {spec["policyName"] for spec in bindings} == policies
    assert all(spec["validationActions"] == ["Deny"] for spec in bindings)


def test_for_cloudnativepg_nothing_is_given_everywhere_but_to_look_and_nobody_may_delete_its_clusters() -> None:
    file = "target-cloudnativepg.yaml"
    (bound,) = (d["roleRef"]["name"] for d in documents(file) if d["kind"] == "ClusterRoleBinding")
    everywhere = granted(bound, file)
    assert verbs_on(everywhere, "postgresql.cnpg.io", "clusters") == {"list", "watch"}
    assert {resource for rule in everywhere for resource in rule["resources"]} == {"clusters", "clusterroles"}
    inside = granted(names.CLUSTER_ROLE_OPERATOR_CLOUDNATIVEPG, file)
    assert verbs_on(inside, "postgresql.cnpg.io", "clusters") == {"get", "create", "patch"}
    assert verbs_on(inside, "", "persistentvolumeclaims") == {"list"}


@pytest.mark.parametrize("file", ["target-rbac.yaml", "target-cloudnativepg.yaml"])
def test_the_policies_come_before_the_rights_that_they_narrow(file: str) -> None:
    kinds = [d["kind"] for d in documents(file)]
    last_policy = max(i for i, kind in enumerate(kinds) if kind.startswith("ValidatingAdmissionPolicy"))
    assert last_policy < kinds.index("ClusterRole")


def test_both_files_fit_on_one_cluster() -> None:
    def by_key(file: str) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in documents(file)}

    target, management = by_key("target-rbac.yaml"), by_key("management-rbac.yaml")
    shared = target.keys() & management.keys()
    system = names.SYSTEM_NAMESPACE
    assert shared == {("Namespace", "", system), ("ServiceAccount", system, names.OPERATOR_SERVICE_ACCOUNT)}
    assert all(target[key] == management[key] for key in shared)


@pytest.mark.parametrize("file", FILES)
def test_the_reference_names_every_role_policy_and_right(file: str) -> None:
    reference = (DEPLOY.parent / "docs" / "reference" / "rights.md").read_text()
    for document in documents(file):
        name = document["metadata"]["name"]
        assert f"`{name}`" in reference
        if name.startswith(("tenantry-tenant-", "tenantry-workspace-")):
            continue  # told there in words
        for rule in document.get("rules", []):
            for resource in rule.get("resources", []):
                told = f"*/{resource.partition('/')[2]}" if "/" in resource else resource
                assert f"`{told}`" in reference, f"{name}: {resource}"
