"""The scene that rights and policies are tried in: a tenant's namespace, made by the operator, and its people."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.acting import (
    AUTHENTICATED,
    CLUSTER_ROLE_BINDINGS,
    HOSTS,
    OPERATOR_BINDINGS,
    OPERATOR_NAMESPACES,
    OPERATOR_SUBJECT,
    OPERATOR_WRITES,
    POD_SECURITY,
    PODS,
    PULL_POLICY,
    ROLES,
    SERVICE_TYPES,
    SERVICES,
    STAMPED_OBJECTS,
    Api,
    Json,
    eventually,
    ingress_spec,
    made,
    manifest,
    pod_spec,
    role_binding,
    token_of,
)

from tenantry.api.identity import TenantIdentity, namespace_name
from tenantry.api.names import (
    ANNOTATION_ALLOW_ADOPTION,
    ANNOTATION_HOSTS,
    ANNOTATION_IMAGE_PULL_POLICY,
    CLUSTER_ROLE_OPERATOR_NAMESPACE,
    CLUSTER_ROLE_TENANT_ADMIN,
    CLUSTER_ROLE_TENANT_EDIT,
    CLUSTER_ROLE_TENANT_SELF_SERVICE,
    CLUSTER_ROLE_TENANT_VIEW,
    OPERATOR_ROLE_BINDING,
    OPERATOR_SERVICE_ACCOUNT,
    SECRET_DATABASE,
    SYSTEM_NAMESPACE,
)
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
from tenantry.desired.stamp import stamp_labels, stamped


@dataclass(frozen=True, slots=True)
class Scene:
    """A target on which the operator, with no more than its rights, made one tenant's namespace.

    Attributes:
        admin: The target's administrator, of group system:masters.
        operator: The operator's ServiceAccount.
        people: By name: `admin`, `edit`, `view`, `owner` (admin and self-service) of the tenant; `platform`, who
            holds cluster-admin; `nobody`, without rights. All are ServiceAccounts in `foreign`.
        namespace: The tenant's namespace; hosts `acme.example.com` and `*.acme.example.com`, pull policy Always.
        unbound: A stamped namespace in which the operator has not given itself rights yet.
        foreign: A namespace without a stamp; holds ConfigMap `notes`, RoleBinding `local`, Secret `payroll`.
        consenting: A foreign namespace whose owner consents to adoption by this management id.
        misdirected: A foreign namespace whose owner consents to adoption by another management id.
        adopted: A namespace that was adopted.
    """

    admin: Api
    operator: Api
    people: Mapping[str, Api]
    identity: TenantIdentity
    namespace: str
    unbound: str
    foreign: str
    consenting: str
    misdirected: str
    adopted: str

    def stamped(self, resource: Resource, name: str, namespace: str = "", **content: Any) -> Json:
        """An object of the tenant with the full stamp, in its namespace unless told otherwise."""
        where = (namespace or self.namespace) if resource.namespaced else ""
        return stamped(resource, self.identity, name, namespace=where, **content)

    def own_namespace(self, name: str, **extra: Any) -> Json:
        """A Namespace as the operator makes it; `extra` labels with the value None are left out."""
        labels = {**POD_SECURITY, **extra}
        body = self.stamped(NAMESPACES, name)
        body["metadata"]["labels"] |= labels
        body["metadata"]["labels"] = {key: value for key, value in body["metadata"]["labels"].items() if value}
        return body

    def subject(self, name: str) -> dict[str, str]:
        """One of `people` as the subject of a RoleBinding."""
        return {"kind": "ServiceAccount", "name": name, "namespace": self.foreign}


@contextlib.contextmanager
def target_scene(kubeconfig: str) -> Iterator[Scene]:
    """Set the scene on a target where deploy/target-rbac.yaml was applied; all of it is deleted in the end."""
    identity = TenantIdentity(f"m-{uuid.uuid4().hex[:8]}", "shop", str(uuid.uuid4()), "acme")
    suffix = identity.tenant_hash[:6]
    foreign = f"people-{suffix}"
    with contextlib.ExitStack() as stack:

        def acting(token: str = "") -> Api:
            return stack.enter_context(contextlib.closing(Api(kubeconfig, token)))

        admin = acting()
        namespaces = {name: f"{name}-{suffix}" for name in ("unbound", "consenting", "misdirected", "adopted")}
        tenant_namespace = namespace_name("{workspace}-{tenant}", identity)
        stack.callback(_clear, admin, [foreign, tenant_namespace, *namespaces.values()], f"platform-{suffix}")
        names = ("admin", "edit", "view", "owner", "platform", "nobody")
        _foreign_namespace(admin, foreign, names)
        binding = manifest(CLUSTER_ROLE_BINDINGS, f"platform-{suffix}", subjects=[])
        binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        binding["subjects"] = [{"kind": "ServiceAccount", "name": "platform", "namespace": foreign}]
        made(admin.create(CLUSTER_ROLE_BINDINGS, binding, dry=False))
        scene = Scene(
            admin=admin,
            operator=acting(token_of(admin, SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT)),
            people={name: acting(token_of(admin, foreign, name)) for name in names},
            identity=identity,
            namespace=tenant_namespace,
            foreign=foreign,
            **namespaces,
        )
        _adoptions(scene)
        _wait_for_the_operators_policies(scene)
        _tenant_namespace(scene)
        _wait_for_the_tenants_policies(scene)
        yield scene


def _clear(admin: Api, namespaces: list[str], cluster_role_binding: str) -> None:
    admin.delete(CLUSTER_ROLE_BINDINGS.path(name=cluster_role_binding), dry=False)
    for namespace in namespaces:
        admin.delete(NAMESPACES.path(name=namespace), dry=False)


def _foreign_namespace(admin: Api, namespace: str, people: tuple[str, ...]) -> None:
    made(admin.create(NAMESPACES, manifest(NAMESPACES, namespace, labels=POD_SECURITY), dry=False))
    for name in people:
        made(admin.create(SERVICE_ACCOUNTS, manifest(SERVICE_ACCOUNTS, name, namespace), dry=False))
    made(admin.create(CONFIG_MAPS, manifest(CONFIG_MAPS, "notes", namespace, data={"a": "b"}), dry=False))
    made(admin.create(SECRETS, manifest(SECRETS, "payroll", namespace, stringData={"a": "b"}), dry=False))
    made(admin.create(ROLE_BINDINGS, role_binding("local", namespace, CLUSTER_ROLE_TENANT_VIEW), dry=False))


def _adoptions(scene: Scene) -> None:
    consent = {ANNOTATION_ALLOW_ADOPTION: f"{scene.identity.management_id}/shop/acme"}
    other = {ANNOTATION_ALLOW_ADOPTION: "another-management/shop/acme"}
    adopted = scene.own_namespace(scene.adopted)
    adopted["metadata"]["annotations"] |= consent
    for body in (
        manifest(NAMESPACES, scene.consenting, annotations=consent),
        manifest(NAMESPACES, scene.misdirected, annotations=other),
        adopted,
        scene.own_namespace(scene.unbound),
    ):
        made(scene.admin.create(NAMESPACES, body, dry=False))


def _wait_for_the_operators_policies(scene: Scene) -> None:
    """A policy is in force a moment after it was created."""
    operator, binding = scene.operator, ROLE_BINDINGS.path(scene.foreign, "local")
    eventually(lambda: operator.delete(NAMESPACES.path(name=scene.foreign)).refused_by == OPERATOR_NAMESPACES)
    eventually(lambda: operator.delete(binding).refused_by == OPERATOR_WRITES)
    to_all = role_binding("any", scene.unbound, CLUSTER_ROLE_TENANT_VIEW, AUTHENTICATED)
    to_all["metadata"]["labels"] = stamp_labels(scene.identity)
    _wait_until_refused(operator, ROLE_BINDINGS, to_all, OPERATOR_BINDINGS)


def _tenant_namespace(scene: Scene) -> None:
    """All that a tenant's namespace needs for the attempts, written by the operator in its own order."""
    body = scene.own_namespace(scene.namespace)
    body["metadata"]["annotations"] |= {
        ANNOTATION_HOSTS: "*.acme.example.com,acme.example.com",
        ANNOTATION_IMAGE_PULL_POLICY: "Always",
    }
    operator, own = scene.operator, OPERATOR_ROLE_BINDING
    made(operator.create(NAMESPACES, body, dry=False))
    bindings = {
        own: (CLUSTER_ROLE_OPERATOR_NAMESPACE, OPERATOR_SUBJECT),
        "tenant-admin": (CLUSTER_ROLE_TENANT_ADMIN, scene.subject("admin")),
        "tenant-owner": (CLUSTER_ROLE_TENANT_ADMIN, scene.subject("owner")),
        "tenant-self-service": (CLUSTER_ROLE_TENANT_SELF_SERVICE, scene.subject("owner")),
        "tenant-edit": (CLUSTER_ROLE_TENANT_EDIT, scene.subject("edit")),
        "tenant-view": (CLUSTER_ROLE_TENANT_VIEW, scene.subject("view")),
    }
    for name, (role, subject) in bindings.items():
        bound = role_binding(name, scene.namespace, role, subject, labels=stamp_labels(scene.identity))
        made(operator.apply(ROLE_BINDINGS, bound, dry=False))
    eventually(lambda: operator.may("create", SECRETS, scene.namespace))
    eventually(lambda: all(scene.people[name].may("get", PODS, scene.namespace) for name in ("admin", "edit", "view")))
    eventually(lambda: scene.people["owner"].may("create", ROLES, scene.namespace))
    _tenant_objects(scene)


def _tenant_objects(scene: Scene) -> None:
    contents: dict[Resource, Json] = {
        SECRETS: {"stringData": {"password": "made-up"}},
        CONFIG_MAPS: {"data": {"a": "b"}},
        SERVICE_ACCOUNTS: {},
        RESOURCE_QUOTAS: {"spec": {"hard": {"pods": "20"}}},
        LIMIT_RANGES: {"spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}}]}},
        NETWORK_POLICIES: {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
        INGRESSES: {"spec": ingress_spec("acme.example.com")},
    }
    for resource, content in contents.items():
        name = SECRET_DATABASE if resource == SECRETS else "tenant"
        made(scene.operator.apply(resource, scene.stamped(resource, name, **content), dry=False))
    notes = manifest(CONFIG_MAPS, "notes", scene.namespace, data={"a": "b"})
    made(scene.people["admin"].create(CONFIG_MAPS, notes, dry=False))


def _wait_for_the_tenants_policies(scene: Scene) -> None:
    tenant, namespace = scene.people["admin"], scene.namespace
    pod = pod_spec("Never")
    service = {"type": "ExternalName", "externalName": "example.com"}
    for policy, resource, body in (
        (STAMPED_OBJECTS, CONFIG_MAPS, scene.stamped(CONFIG_MAPS, "forged")),
        (HOSTS, INGRESSES, manifest(INGRESSES, "any", namespace, spec=ingress_spec(None))),
        (SERVICE_TYPES, SERVICES, manifest(SERVICES, "any", namespace, spec=service)),
        (PULL_POLICY, PODS, manifest(PODS, "any", namespace, spec=pod)),
    ):
        _wait_until_refused(tenant, resource, body, policy)


def _wait_until_refused(api: Api, resource: Resource, body: Json, policy: str) -> None:
    last = ""

    def refused() -> bool:
        nonlocal last
        last = api.create(resource, body).refused_by
        return last == policy

    try:
        eventually(refused)
    except TimeoutError:
        raise TimeoutError(f"{policy} did not come into force: the answer is still {last!r}") from None
