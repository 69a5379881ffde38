"""The operator's rights on a target, tried as exactly its ServiceAccount: all that it needs works."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.integration.acting import (
    CLUSTER_ROLES,
    OPERATOR_NAMESPACES,
    OPERATOR_SUBJECT,
    POD_SECURITY,
    eventually,
    ingress_spec,
    manifest,
    role_binding,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.identity import TenantIdentity, host_claim_name, namespace_name
from tenantry.api.resources import (
    ACCESS_REVIEWS,
    CONFIG_MAPS,
    INGRESS_CLASSES,
    INGRESSES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
    WATCHED_ON_TARGETS,
)
from tenantry.desired.stamp import stamped

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

DEPLOY = Path(__file__).parents[2] / "deploy"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


def documents(file: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / file).read_text()) if document]


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as made:
        yield made


def test_the_api_server_finds_no_fault_with_the_policies_types(scene: Scene) -> None:
    ours = [d["metadata"]["name"] for d in documents("target-rbac.yaml") if d["kind"] == "ValidatingAdmissionPolicy"]

    def checked() -> list[Any]:
        found = [scene.admin.get(f"{POLICIES}/{name}").body.get("status", {}).get("typeChecking") for name in ours]
        return found if None not in found else []

    assert eventually(checked) == [{} for _ in ours]


def test_the_management_file_fits_a_target_too(target: ClusterAccess, scene: Scene) -> None:
    applied = target.kubectl(
        "apply", "--server-side", "--dry-run=server", "-f", str(DEPLOY / "management-rbac.yaml")
    )  # a conflict of field managers would end it with an error
    assert applied is not None
    for document in documents("management-rbac.yaml"):
        if document["kind"] == "ClusterRole":
            assert scene.admin.create(CLUSTER_ROLES, document).status in (201, 409)


@pytest.mark.parametrize("resource", [*WATCHED_ON_TARGETS, INGRESS_CLASSES], ids=lambda resource: resource.plural)
def test_the_operator_lists_and_watches_all_over_the_target(scene: Scene, resource: Any) -> None:
    listed = scene.operator.get(resource.path() + "?limit=1&labelSelector=tenantry.io%2Fmanagement-id")
    assert listed.status == 200, listed.message
    assert scene.operator.may("watch", resource)
    assert scene.operator.may("get", resource)


def test_the_operator_learns_the_version_and_the_identity_of_a_target(scene: Scene) -> None:
    assert scene.operator.get("/version").body["gitVersion"].startswith("v1.")
    assert scene.operator.get(NAMESPACES.path(name="kube-system")).body["metadata"]["uid"]
    assert scene.operator.may("create", ACCESS_REVIEWS)


def test_a_tenants_life_needs_no_more_than_these_rights(scene: Scene) -> None:
    """From an empty target to nothing again, as the reconciler does it: POST, bind, apply, patch, delete."""
    operator = scene.operator
    identity = TenantIdentity(scene.identity.management_id, "shop", str(uuid.uuid4()), "globex")
    namespace = namespace_name("{workspace}-{tenant}", identity)
    own = stamped(NAMESPACES, identity, namespace, labels=POD_SECURITY)
    made = operator.create(NAMESPACES, own, dry=False)
    assert made.status == 201, made.message
    own["metadata"]["annotations"][names.ANNOTATION_HOSTS] = "globex.example.com"
    assert operator.apply(NAMESPACES, own, dry=False).status == 200

    def body(resource: Any, name: str, **content: Any) -> dict[str, Any]:
        return stamped(resource, identity, name, namespace=namespace, **content)

    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
    for name, role, subject in (
        (names.OPERATOR_ROLE_BINDING, names.CLUSTER_ROLE_OPERATOR_NAMESPACE, OPERATOR_SUBJECT),
        ("tenant-admin", names.CLUSTER_ROLE_TENANT_ADMIN, scene.subject("admin")),
        ("tenant-edit", names.CLUSTER_ROLE_TENANT_EDIT, scene.subject("edit")),
        ("tenant-view", names.CLUSTER_ROLE_TENANT_VIEW, scene.subject("view")),
        ("tenant-self-service", names.CLUSTER_ROLE_TENANT_SELF_SERVICE, scene.subject("owner")),
    ):
        bound = body(ROLE_BINDINGS, name, roleRef={**reference, "name": role}, subjects=[subject])
        assert operator.apply(ROLE_BINDINGS, bound, dry=False).status == 201

    secret = body(SECRETS, names.SECRET_DATABASE, stringData={"password": "made-up"})
    eventually(lambda: operator.apply(SECRETS, secret).status == 201, within=10)
    objects = [
        (SECRETS, secret),
        (SECRETS, body(SECRETS, names.SECRET_ENV, stringData={"A": "b"})),
        (CONFIG_MAPS, body(CONFIG_MAPS, names.CONFIG_MAP_INFO, data={"tenantId": identity.tenant_id})),
        (SERVICE_ACCOUNTS, body(SERVICE_ACCOUNTS, names.SERVICE_ACCOUNT, automountServiceAccountToken=False)),
        (RESOURCE_QUOTAS, body(RESOURCE_QUOTAS, names.RESOURCE_QUOTA, spec={"hard": {"pods": "5"}})),
        (LIMIT_RANGES, body(LIMIT_RANGES, names.LIMIT_RANGE, spec={"limits": [{"type": "Pod", "max": {"cpu": "1"}}]})),
        (NETWORK_POLICIES, body(NETWORK_POLICIES, "isolation", spec={"podSelector": {}, "policyTypes": ["Ingress"]})),
        (INGRESSES, body(INGRESSES, names.INGRESS, spec=ingress_spec("globex.example.com"))),
        (ROLE_BINDINGS, role_binding("tenant-view", namespace, names.CLUSTER_ROLE_TENANT_VIEW)),
    ]
    for resource, wanted in objects[:-1]:
        applied = operator.apply(resource, wanted, dry=False)
        assert applied.status == 201, applied.message
    for resource, wanted in objects:
        path = resource.path(namespace, wanted["metadata"]["name"])
        assert operator.get(path).status == 200
        assert operator.patch(path, {"metadata": {"annotations": {"a": "b"}}}, dry=False).status == 200
        removed = operator.delete(path, dry=False)
        assert removed.status == 200, removed.message

    claim = stamped(CONFIG_MAPS, identity, host_claim_name("globex.example.com"), namespace=names.SYSTEM_NAMESPACE)
    claim["metadata"]["labels"][names.LABEL_CLAIM] = names.CLAIM_HOST
    path = CONFIG_MAPS.path(names.SYSTEM_NAMESPACE, claim["metadata"]["name"])
    assert operator.create(CONFIG_MAPS, claim, dry=False).status == 201
    assert operator.create(CONFIG_MAPS, claim, dry=False).body["reason"] == "AlreadyExists"
    assert operator.patch(path, {"metadata": {"annotations": {names.ANNOTATION_EPOCH: "2"}}}, dry=False).status == 200
    assert operator.delete(path, dry=False).status == 200

    precondition = {"preconditions": {"uid": made.body["metadata"]["uid"]}}
    deleted = operator.send("DELETE", NAMESPACES.path(name=namespace), precondition, dry=False)
    assert deleted.status == 200, deleted.message
    eventually(lambda: operator.get(NAMESPACES.path(name=namespace)).status == 404, within=60)


def test_the_identity_is_made_in_the_operators_own_namespace(scene: Scene) -> None:
    """Where the management cluster is a target too; the policies let it be made, and by this right not be changed."""
    body = manifest(CONFIG_MAPS, names.IDENTITY_CONFIG_MAP, names.SYSTEM_NAMESPACE, data={names.IDENTITY_KEY: "m-1"})
    assert scene.operator.create(CONFIG_MAPS, body).refused_by == ""


def test_a_namespace_is_adopted_with_its_owners_consent_and_let_go_again(scene: Scene) -> None:
    stamp = {"metadata": {"labels": scene.own_namespace("any")["metadata"]["labels"]}}
    assert scene.operator.patch(NAMESPACES.path(name=scene.consenting), stamp).refused_by == ""
    nothing = {"metadata": {"labels": {names.LABEL_MANAGEMENT_ID: None, names.LABEL_TENANT_HASH: None}}}
    assert scene.operator.patch(NAMESPACES.path(name=scene.adopted), nothing).refused_by == ""


def test_a_namespace_whose_owner_took_the_consent_back_is_still_let_go_and_not_deleted(scene: Scene) -> None:
    name = f"marked-{scene.identity.tenant_hash[:6]}"
    body = scene.own_namespace(name)
    body["metadata"]["annotations"][names.ANNOTATION_ADOPTED] = "{}"
    path = NAMESPACES.path(name=name)
    assert scene.admin.create(NAMESPACES, body, dry=False).status == 201
    try:
        assert scene.operator.delete(path).refused_by == OPERATOR_NAMESPACES
        nothing = {"labels": {names.LABEL_MANAGEMENT_ID: None, names.LABEL_TENANT_HASH: None}}
        assert scene.operator.patch(path, {"metadata": nothing}).refused_by == ""
        unmarked = {"metadata": {"annotations": {names.ANNOTATION_ADOPTED: None}}}
        assert scene.admin.patch(path, unmarked, dry=False).status == 200
        assert scene.operator.patch(path, {"metadata": nothing}).refused_by == OPERATOR_NAMESPACES
    finally:
        scene.admin.delete(path, dry=False)
