"""What the operator's ServiceAccount must not do on a target, each attempt by itself and as a dry run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from tests.integration.acting import (
    AUTHENTICATED,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    OPERATOR_BINDINGS,
    OPERATOR_NAMESPACES,
    OPERATOR_SUBJECT,
    OPERATOR_WRITES,
    PODS,
    RBAC,
    Answer,
    manifest,
    role_binding,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from tenantry.desired.stamp import stamp_labels

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
Attempt = Callable[[Scene], Answer]


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as made:
        yield made


def namespace_labels(scene: Scene, namespace: str, **labels: str | None) -> Answer:
    """The operator changes labels of a namespace; without any given, it puts its stamp on it."""
    wanted = labels or scene.own_namespace("any")["metadata"]["labels"]
    return scene.operator.patch(NAMESPACES.path(name=namespace), {"metadata": {"labels": wanted}})


def made_namespace(scene: Scene, name: str, **labels: str | None) -> Answer:
    return scene.operator.create(NAMESPACES, scene.own_namespace(name, **labels))


def fits(scene: Scene) -> str:
    """A name that the tenant's hash allows."""
    return f"new-{scene.identity.tenant_hash[:6]}"


def bound(scene: Scene, namespace: str, role: str, subject: dict[str, str] | None = None) -> Answer:
    """The operator binds a role in some namespace, to itself unless told otherwise, with the right stamp."""
    body = role_binding("grab", namespace, role, subject or OPERATOR_SUBJECT)
    body["metadata"]["labels"] = stamp_labels(scene.identity)
    return scene.operator.apply(ROLE_BINDINGS, body)


def cluster_admin_for_all(scene: Scene) -> Answer:
    body = manifest(CLUSTER_ROLE_BINDINGS, "grab", subjects=[OPERATOR_SUBJECT])
    body["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    return scene.operator.create(CLUSTER_ROLE_BINDINGS, body)


def more_rights(scene: Scene) -> Answer:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    return scene.operator.patch(CLUSTER_ROLES.path(name=names.CLUSTER_ROLE_OPERATOR), {"rules": [rule]})


def token(scene: Scene, namespace: str, account: str) -> Answer:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return scene.operator.send("POST", SERVICE_ACCOUNTS.path(namespace, account, "token"), body)


def config_map(scene: Scene, namespace: str, name: str, **labels: str) -> Answer:
    return scene.operator.create(CONFIG_MAPS, manifest(CONFIG_MAPS, name, namespace, labels=labels))


SYSTEM, KUBE_SYSTEM = names.SYSTEM_NAMESPACE, "kube-system"
ADMIN, OPERATOR_IN_NAMESPACE = names.CLUSTER_ROLE_TENANT_ADMIN, names.CLUSTER_ROLE_OPERATOR_NAMESPACE
PSA, HASH, ID = "pod-security.kubernetes.io/enforce", names.LABEL_TENANT_HASH, names.LABEL_MANAGEMENT_ID
CONSENT = {"metadata": {"annotations": {names.ANNOTATION_ALLOW_ADOPTION: "m/w/t"}}}

FORBIDDEN: dict[str, tuple[str, Attempt]] = {
    # reading
    "read the Secrets of kube-system": (RBAC, lambda s: s.operator.get(SECRETS.path(KUBE_SYSTEM))),
    "read all Secrets": (RBAC, lambda s: s.operator.get(SECRETS.path())),
    "read Secrets of tenantry-system": (RBAC, lambda s: s.operator.get(SECRETS.path(SYSTEM))),
    "read a Secret of a foreign namespace": (RBAC, lambda s: s.operator.get(SECRETS.path(s.foreign, "payroll"))),
    "read Secrets where it did not bind itself": (RBAC, lambda s: s.operator.get(SECRETS.path(s.unbound))),
    "list pods": (RBAC, lambda s: s.operator.get(PODS.path())),
    "run commands in a tenant's pod": (RBAC, lambda s: s.operator.send("POST", PODS.path(s.namespace, "x", "exec"))),
    # becoming somebody else, or more
    "act as somebody else": (
        RBAC,
        lambda s: s.operator.send("GET", NAMESPACES.path(), headers={"Impersonate-User": "admin"}),
    ),
    "take the token of a controller": (RBAC, lambda s: token(s, KUBE_SYSTEM, "namespace-controller")),
    "make itself cluster-admin": (RBAC, cluster_admin_for_all),
    "bind cluster-admin in a tenant's namespace": (RBAC, lambda s: bound(s, s.namespace, "cluster-admin")),
    "bind Kubernetes' admin in a tenant's namespace": (RBAC, lambda s: bound(s, s.namespace, "admin")),
    "widen its own ClusterRole": (RBAC, more_rights),
    "take an admission policy away": (RBAC, lambda s: s.operator.delete(f"{POLICIES}/{OPERATOR_WRITES}")),
    "bind its namespace role in kube-system": (
        OPERATOR_WRITES,
        lambda s: bound(s, KUBE_SYSTEM, OPERATOR_IN_NAMESPACE),
    ),
    "bind its namespace role in a foreign namespace": (
        OPERATOR_WRITES,
        lambda s: bound(s, s.foreign, OPERATOR_IN_NAMESPACE),
    ),
    "bind its namespace role in tenantry-system": (OPERATOR_WRITES, lambda s: bound(s, SYSTEM, OPERATOR_IN_NAMESPACE)),
    "bind a tenant's role in kube-system": (OPERATOR_WRITES, lambda s: bound(s, KUBE_SYSTEM, ADMIN)),
    "give its namespace role to a tenant": (
        OPERATOR_BINDINGS,
        lambda s: bound(s, s.namespace, OPERATOR_IN_NAMESPACE, s.subject("admin")),
    ),
    "give a tenant's role to everybody": (OPERATOR_BINDINGS, lambda s: bound(s, s.namespace, ADMIN, AUTHENTICATED)),
    "change who is in a foreign RoleBinding": (
        OPERATOR_WRITES,
        lambda s: s.operator.patch(ROLE_BINDINGS.path(s.foreign, "local"), {"subjects": [OPERATOR_SUBJECT]}),
    ),
    "delete a RoleBinding of kube-system": (
        OPERATOR_WRITES,
        lambda s: s.operator.delete(ROLE_BINDINGS.path(KUBE_SYSTEM, "system:controller:token-cleaner")),
    ),
    # namespaces
    "stamp kube-system": (OPERATOR_NAMESPACES, lambda s: namespace_labels(s, KUBE_SYSTEM)),
    "stamp a foreign namespace": (OPERATOR_NAMESPACES, lambda s: namespace_labels(s, s.foreign)),
    "stamp a namespace that consents to somebody else": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.misdirected),
    ),
    "label a foreign namespace": (OPERATOR_NAMESPACES, lambda s: namespace_labels(s, s.foreign, a="b")),
    "give consent in the owner's place": (
        OPERATOR_NAMESPACES,
        lambda s: s.operator.patch(NAMESPACES.path(name=s.namespace), CONSENT),
    ),
    "hand its namespace to another tenant": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.namespace, **{HASH: "aaaaaaaa"}),
    ),
    "hand its namespace to another management cluster": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.namespace, **{ID: "another"}),
    ),
    "take the stamp off a namespace that it made": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.namespace, **{ID: None, HASH: None}),
    ),
    "let a namespace run privileged pods": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.namespace, **{PSA: "privileged"}),
    ),
    "let an adopted namespace go with privileged pods": (
        OPERATOR_NAMESPACES,
        lambda s: namespace_labels(s, s.adopted, **{ID: None, HASH: None, PSA: "privileged"}),
    ),
    "delete tenantry-system": (OPERATOR_NAMESPACES, lambda s: s.operator.delete(NAMESPACES.path(name=SYSTEM))),
    "delete a foreign namespace": (OPERATOR_NAMESPACES, lambda s: s.operator.delete(NAMESPACES.path(name=s.foreign))),
    "delete an adopted namespace": (OPERATOR_NAMESPACES, lambda s: s.operator.delete(NAMESPACES.path(name=s.adopted))),
    "make a namespace without the stamp": (OPERATOR_NAMESPACES, lambda s: made_namespace(s, fits(s), **{ID: None})),
    "make a namespace with half the stamp": (OPERATOR_NAMESPACES, lambda s: made_namespace(s, fits(s), **{HASH: None})),
    "make a namespace whose name awaits others": (OPERATOR_NAMESPACES, lambda s: made_namespace(s, "cert-manager")),
    "make a namespace with a name of Kubernetes": (OPERATOR_NAMESPACES, lambda s: made_namespace(s, f"kube-{fits(s)}")),
    "make a namespace for privileged pods": (
        OPERATOR_NAMESPACES,
        lambda s: made_namespace(s, fits(s), **{PSA: "privileged"}),
    ),
    "make a namespace without Pod Security": (OPERATOR_NAMESPACES, lambda s: made_namespace(s, fits(s), **{PSA: None})),
    # objects
    "write a ConfigMap in a foreign namespace": (RBAC, lambda s: config_map(s, s.foreign, "x")),
    "write an object without the stamp": (OPERATOR_WRITES, lambda s: config_map(s, s.namespace, "x")),
    "write an object with another tenant's stamp": (
        OPERATOR_WRITES,
        lambda s: config_map(s, s.namespace, "x", **{**stamp_labels(s.identity), HASH: "aaaaaaaa"}),
    ),
    "take over a tenant's own ConfigMap": (
        OPERATOR_WRITES,
        lambda s: s.operator.apply(CONFIG_MAPS, s.stamped(CONFIG_MAPS, "notes")),
    ),
    "delete a tenant's own ConfigMap": (
        OPERATOR_WRITES,
        lambda s: s.operator.delete(CONFIG_MAPS.path(s.namespace, "notes")),
    ),
    # claims
    "write what is no claim in tenantry-system": (OPERATOR_WRITES, lambda s: config_map(s, SYSTEM, "x")),
    "write a claim of nobody": (OPERATOR_WRITES, lambda s: config_map(s, SYSTEM, "x", **{names.LABEL_CLAIM: "host"})),
    "change a ConfigMap of Kubernetes in tenantry-system": (
        OPERATOR_WRITES,
        lambda s: s.operator.patch(CONFIG_MAPS.path(SYSTEM, "kube-root-ca.crt"), {"data": {"ca.crt": "x"}}),
    ),
    "write a Secret in tenantry-system": (
        RBAC,
        lambda s: s.operator.create(SECRETS, manifest(SECRETS, "x", SYSTEM)),
    ),
}


@pytest.mark.parametrize(("refusal", "attempt"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_operator_must_not(scene: Scene, refusal: str, attempt: Attempt) -> None:
    assert attempt(scene).refused_by == refusal


def test_a_claim_stays_with_its_management_cluster(scene: Scene) -> None:
    claim = scene.stamped(CONFIG_MAPS, f"host-{uuid.uuid4().hex}", SYSTEM, labels={names.LABEL_CLAIM: "host"})
    path = CONFIG_MAPS.path(SYSTEM, claim["metadata"]["name"])
    assert scene.operator.create(CONFIG_MAPS, claim, dry=False).status == 201
    theirs = {"metadata": {"labels": {ID: "another-management"}}}
    assert scene.operator.patch(path, theirs).refused_by == OPERATOR_WRITES
    assert scene.operator.patch(path, {"metadata": {"labels": {names.LABEL_CLAIM: None}}}).refused_by == OPERATOR_WRITES
    assert scene.operator.delete(path, dry=False).status == 200


@pytest.mark.parametrize("reserved", names.RESERVED_NAMESPACES)
def test_a_reserved_namespace_is_neither_stamped_nor_adopted_even_with_consent(scene: Scene, reserved: str) -> None:
    refused = namespace_labels(scene, reserved).message
    assert f'"{reserved}" is forbidden' in refused
    assert "this name is reserved" in refused


def test_the_refusal_of_a_foreign_namespace_says_how_its_owner_can_consent(scene: Scene) -> None:
    refused = namespace_labels(scene, scene.foreign)
    assert f'"{scene.foreign}" is forbidden' in refused.message
    assert "this namespace does not carry this stamp" in refused.message
    assert "tenantry.io/allow-adoption: <its management id>/<workspace>/<tenant>" in refused.message
