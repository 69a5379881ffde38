"""What carries the stamp, tried by a tenant's people: they read it, and only the operator changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.acting import (
    PODS,
    RBAC,
    ROLES,
    SERVICES,
    STAMPED_OBJECTS,
    Answer,
    eventually,
    ingress_spec,
    manifest,
    role_binding,
)
from tests.integration.target_scene import Scene, target_scene

from tenantry.api import names
from tenantry.api.resources import (
    CONFIG_MAPS,
    INGRESSES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

Attempt = Callable[[Scene], Answer]
ALLOWED = ""
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
GATEWAY_GROUP = "gateway.networking.k8s.io"
HTTP_ROUTES = Resource(GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes")
TCP_ROUTES = Resource(GATEWAY_GROUP, "v1alpha2", "TCPRoute", "tcproutes")
ANNOTATION = {"metadata": {"annotations": {"a": "b"}}}
OWN_HOST, OWN_WILDCARD, THEIR_HOST = "acme.example.com", "*.acme.example.com", "globex.example.com"


@pytest.fixture(scope="module")
def scene(target: ClusterAccess) -> Iterator[Scene]:
    with target_scene(target.kubeconfig) as made:
        yield made


# --- what carries the stamp --------------------------------------------------------------------------------------
def change(who: str, resource: Resource, name: str, patch: dict[str, Any] | None = None) -> Attempt:
    return lambda s: s.people[who].patch(resource.path(s.namespace, name), patch or ANNOTATION)


def remove(who: str, resource: Resource, name: str) -> Attempt:
    return lambda s: s.people[who].delete(resource.path(s.namespace, name))


def forge(who: str, resource: Resource, **content: Any) -> Attempt:
    return lambda s: s.people[who].create(resource, s.stamped(resource, "forged", **content))


def half_a_stamp(s: Scene) -> Answer:
    labels = {names.LABEL_TENANT_HASH: s.identity.tenant_hash}
    return s.people["admin"].create(CONFIG_MAPS, manifest(CONFIG_MAPS, "forged", s.namespace, labels=labels))


def stamp_an_own_object(s: Scene) -> Answer:
    labels = s.stamped(CONFIG_MAPS, "any")["metadata"]["labels"]
    return s.people["admin"].patch(CONFIG_MAPS.path(s.namespace, "notes"), {"metadata": {"labels": labels}})


def grant(who: str, role: str) -> Attempt:
    """Bind a ClusterRole to nobody's ServiceAccount in the tenant's namespace."""
    return lambda s: s.people[who].create(ROLE_BINDINGS, role_binding("more", s.namespace, role, s.subject("nobody")))


def own_role(verb: str, resource: str) -> Attempt:
    rule = {"apiGroups": [""], "resources": [resource], "verbs": [verb]}
    return lambda s: s.people["owner"].create(ROLES, manifest(ROLES, "own", s.namespace, rules=[rule]))


def open_everything(who: str) -> Attempt:
    spec = {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}
    return lambda s: s.people[who].create(NETWORK_POLICIES, manifest(NETWORK_POLICIES, "own", s.namespace, spec=spec))


UNSTAMPED = {"metadata": {"labels": {names.LABEL_MANAGEMENT_ID: None, names.LABEL_TENANT_HASH: None}}}

STAMP: dict[str, tuple[str, Attempt]] = {
    "the admin reads the database's Secret": (
        ALLOWED,
        lambda s: s.people["admin"].get(SECRETS.path(s.namespace, names.SECRET_DATABASE)),
    ),
    "the admin must not change the database's Secret": (
        STAMPED_OBJECTS,
        change("admin", SECRETS, names.SECRET_DATABASE),
    ),
    "the admin must not delete the database's Secret": (
        STAMPED_OBJECTS,
        remove("admin", SECRETS, names.SECRET_DATABASE),
    ),
    "the admin must not take the stamp off": (
        STAMPED_OBJECTS,
        change("admin", SECRETS, names.SECRET_DATABASE, UNSTAMPED),
    ),
    "the admin must not delete all Secrets at once": (
        STAMPED_OBJECTS,
        lambda s: s.people["admin"].delete(SECRETS.path(s.namespace)),
    ),
    "the admin must not change the tenant's ConfigMap": (STAMPED_OBJECTS, change("admin", CONFIG_MAPS, "tenant")),
    "the admin must not change the tenant's Ingress": (STAMPED_OBJECTS, change("admin", INGRESSES, "tenant")),
    "the admin must not delete the tenant's Ingress": (STAMPED_OBJECTS, remove("admin", INGRESSES, "tenant")),
    "the admin must not delete the tenant's ServiceAccount": (
        STAMPED_OBJECTS,
        remove("admin", SERVICE_ACCOUNTS, "tenant"),
    ),
    "edit must not change the database's Secret": (STAMPED_OBJECTS, change("edit", SECRETS, names.SECRET_DATABASE)),
    "the admin must not forge a stamped ConfigMap": (STAMPED_OBJECTS, forge("admin", CONFIG_MAPS)),
    "the admin must not forge a stamped Secret": (STAMPED_OBJECTS, forge("admin", SECRETS)),
    "the admin must not forge a stamped Ingress": (
        STAMPED_OBJECTS,
        forge("admin", INGRESSES, spec=ingress_spec(OWN_HOST)),
    ),
    "the admin must not forge half a stamp": (STAMPED_OBJECTS, half_a_stamp),
    "the admin must not stamp an object of its own": (STAMPED_OBJECTS, stamp_an_own_object),
    "the admin changes what is its own": (ALLOWED, change("admin", CONFIG_MAPS, "notes")),
    "the admin deletes what is its own": (ALLOWED, remove("admin", CONFIG_MAPS, "notes")),
    "the admin must not change the quota": (RBAC, change("admin", RESOURCE_QUOTAS, "tenant")),
    "the admin must not delete the limit range": (RBAC, remove("admin", LIMIT_RANGES, "tenant")),
    "the admin must not open the network": (RBAC, open_everything("admin")),
    "the admin must not change the namespace": (
        RBAC,
        lambda s: s.people["admin"].patch(NAMESPACES.path(name=s.namespace), ANNOTATION),
    ),
    "the admin must not bind roles": (RBAC, grant("admin", names.CLUSTER_ROLE_TENANT_VIEW)),
    "the admin must not leave its namespace": (RBAC, lambda s: s.people["admin"].get(CONFIG_MAPS.path(s.foreign))),
    "with self-service one opens the network": (ALLOWED, open_everything("owner")),
    "with self-service one gives others what one has": (ALLOWED, grant("owner", names.CLUSTER_ROLE_TENANT_VIEW)),
    "with self-service one makes roles within one's own rights": (ALLOWED, own_role("get", "secrets")),
    "with self-service one must not make roles beyond one's own": (RBAC, own_role("delete", "resourcequotas")),
    "with self-service one must not give the operator's role": (
        RBAC,
        grant("owner", names.CLUSTER_ROLE_OPERATOR_NAMESPACE),
    ),
    "with self-service one must not give cluster-admin": (RBAC, grant("owner", "cluster-admin")),
    "with self-service one must not delete the tenant's NetworkPolicy": (
        STAMPED_OBJECTS,
        remove("owner", NETWORK_POLICIES, "tenant"),
    ),
    "with self-service one must not delete all NetworkPolicies at once": (
        STAMPED_OBJECTS,
        lambda s: s.people["owner"].delete(NETWORK_POLICIES.path(s.namespace)),
    ),
    "with self-service one must not change the operator's RoleBinding": (
        RBAC,  # already there: changing it needs all the rights that it gives
        change("owner", ROLE_BINDINGS, names.OPERATOR_ROLE_BINDING),
    ),
    "with self-service one must not change who is the tenant's admin": (
        STAMPED_OBJECTS,
        lambda s: s.people["owner"].patch(
            ROLE_BINDINGS.path(s.namespace, "tenant-admin"), {"subjects": [s.subject("nobody")]}
        ),
    ),
    "with self-service one must not take the operator's rights away": (
        STAMPED_OBJECTS,
        remove("owner", ROLE_BINDINGS, names.OPERATOR_ROLE_BINDING),
    ),
    "view reads no Secret": (RBAC, lambda s: s.people["view"].get(SECRETS.path(s.namespace))),
    "view changes nothing": (RBAC, change("view", CONFIG_MAPS, "notes")),
    "a platform admin repairs a Secret": (ALLOWED, change("platform", SECRETS, names.SECRET_DATABASE)),
    "a platform admin deletes a quota": (ALLOWED, remove("platform", RESOURCE_QUOTAS, "tenant")),
    "a platform admin of group system:masters repairs": (
        ALLOWED,
        lambda s: s.admin.patch(SECRETS.path(s.namespace, names.SECRET_DATABASE), ANNOTATION),
    ),
}


@pytest.mark.parametrize(("refusal", "attempt"), STAMP.values(), ids=STAMP)
def test_stamped_objects(scene: Scene, refusal: str, attempt: Attempt) -> None:
    assert attempt(scene).refused_by == refusal


@pytest.mark.parametrize("subresource", ["exec", "portforward", "log"])
def test_the_admin_reaches_its_own_pods(scene: Scene, subresource: str) -> None:
    verb = "get" if subresource == "log" else "create"
    assert scene.people["admin"].may(verb, PODS, scene.namespace, subresource=subresource)
    assert not scene.people["admin"].may(verb, PODS, scene.foreign, subresource=subresource)


def test_a_controller_that_was_given_the_right_to_override_may_change_stamped_objects(scene: Scene) -> None:
    nobody, path = scene.people["nobody"], INGRESSES.path(scene.namespace, "tenant")
    rules = [
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get", "patch"]},
        {"apiGroups": ["tenantry.io"], "resources": ["stamps"], "verbs": ["override"]},
    ]
    role = manifest(ROLES, "controller", scene.namespace, rules=rules[:1])
    assert scene.admin.create(ROLES, role, dry=False).status == 201
    binding = role_binding("controller", scene.namespace, "controller", scene.subject("nobody"))
    binding["roleRef"]["kind"] = "Role"
    assert scene.admin.create(ROLE_BINDINGS, binding, dry=False).status == 201
    eventually(lambda: nobody.patch(path, ANNOTATION).refused_by == STAMPED_OBJECTS)
    widened = scene.admin.patch(ROLES.path(scene.namespace, "controller"), {"rules": rules}, dry=False)
    assert widened.status == 200
    eventually(lambda: nobody.patch(path, ANNOTATION).refused_by == ALLOWED)


def test_the_operator_can_neither_widen_nor_bind_the_right_to_override(scene: Scene) -> None:
    rule = {"apiGroups": ["tenantry.io"], "resources": ["stamps"], "verbs": ["override"]}
    assert scene.operator.create(ROLES, manifest(ROLES, "x", scene.namespace, rules=[rule])).refused_by == RBAC


def test_deleting_a_namespace_takes_its_stamped_objects_along(scene: Scene) -> None:
    name = f"going-{scene.identity.tenant_hash[:6]}"
    assert scene.operator.create(NAMESPACES, scene.own_namespace(name), dry=False).status == 201
    config_map = scene.stamped(CONFIG_MAPS, "tenant", name)
    assert scene.admin.create(CONFIG_MAPS, config_map, dry=False).status == 201
    assert scene.operator.delete(NAMESPACES.path(name=name), dry=False).status == 200
    eventually(lambda: scene.admin.get(NAMESPACES.path(name=name)).status == 404, within=60)


def test_a_foreign_namespace_is_left_alone(scene: Scene) -> None:
    """There, labels and hosts are nobody's business."""
    platform = scene.people["platform"]
    labels = scene.stamped(CONFIG_MAPS, "any")["metadata"]["labels"]
    assert platform.create(CONFIG_MAPS, manifest(CONFIG_MAPS, "x", scene.foreign, labels=labels)).status == 201
    route = manifest(INGRESSES, "x", scene.foreign, spec=ingress_spec(None))
    assert platform.create(INGRESSES, route).status == 201
    service = manifest(SERVICES, "x", scene.foreign, spec={"type": "ExternalName", "externalName": "example.com"})
    assert platform.create(SERVICES, service).status == 201
