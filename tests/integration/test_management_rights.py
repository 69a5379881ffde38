"""The rights of the operator and of people on the management cluster, as the API server answers these identities."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.integration.acting import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    PODS,
    RBAC,
    Api,
    eventually,
    made,
    manifest,
    role_binding,
    token_of,
)

from tenantry.api.names import OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import (
    BACKUP_STORES,
    CLUSTERS,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DATABASE_SERVERS,
    EVENTS,
    LEASES,
    NAMESPACES,
    ROLE_BINDINGS,
    SECRETS,
    SERVICE_ACCOUNTS,
    TENANT_BACKUPS,
    TENANT_PLANS,
    TENANT_RECORDS,
    TENANT_RESTORES,
    TENANTS,
    Resource,
)

if TYPE_CHECKING:
    from tests.controlplane.access import ClusterAccess

FILE = Path(__file__).parents[2] / "deploy" / "management-rbac.yaml"
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
WORKSPACE, ELSEWHERE, SYSTEM = "{workspace}", "default", SYSTEM_NAMESPACE
READ, ALL = "get list watch", "get list watch create patch update delete"


@dataclass(frozen=True, slots=True)
class People:
    """Identities on the management cluster; the workspace admin and viewer have their roles in `workspace` only."""

    workspace: str
    operator: Api
    admin: Api
    viewer: Api

    def allowed(self, who: str, verb: str, resource: Resource, namespace: str, subresource: str) -> bool:
        """Whether one of them may do something; `{workspace}` stands for their namespace."""
        api: Api = getattr(self, who)
        return api.may(verb, resource, namespace.format(workspace=self.workspace), subresource=subresource)


@pytest.fixture(scope="module")
def people(management: ClusterAccess) -> Iterator[People]:
    management.kubectl("apply", "--server-side", "-f", str(FILE))
    workspace = f"rights-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(contextlib.closing(Api(management.kubeconfig)))
        made(root.create(NAMESPACES, manifest(NAMESPACES, workspace), dry=False))
        stack.callback(root.delete, NAMESPACES.path(name=workspace), dry=False)
        identities = {}
        for name in ("admin", "viewer"):
            made(root.create(SERVICE_ACCOUNTS, manifest(SERVICE_ACCOUNTS, name, workspace), dry=False))
            subject = {"kind": "ServiceAccount", "name": name, "namespace": workspace}
            binding = role_binding(name, workspace, f"tenantry-workspace-{name}", subject)
            made(root.create(ROLE_BINDINGS, binding, dry=False))
            token = token_of(root, workspace, name)
            identities[name] = stack.enter_context(contextlib.closing(Api(management.kubeconfig, token)))
        token = token_of(root, SYSTEM, OPERATOR_SERVICE_ACCOUNT)
        operator = stack.enter_context(contextlib.closing(Api(management.kubeconfig, token)))
        everybody = People(workspace, operator, **identities)
        eventually(lambda: operator.may("get", TENANTS) and operator.may("create", LEASES, SYSTEM))
        eventually(lambda: all(api.may("get", TENANTS, workspace) for api in identities.values()))
        yield everybody


ALLOWED = (
    ("operator", f"{READ} patch update delete", TENANTS, "", ""),
    ("operator", ALL, TENANT_RECORDS, "", ""),
    ("operator", f"{READ} patch update", CLUSTERS, "", ""),
    ("operator", f"{READ} patch update", DATABASE_SERVERS, "", ""),
    ("operator", f"{READ} patch update", TENANT_PLANS, "", ""),
    ("operator", f"{READ} patch update", BACKUP_STORES, "", ""),
    ("operator", ALL, TENANT_BACKUPS, "", ""),
    ("operator", READ, TENANT_RESTORES, "", ""),
    ("operator", "patch update", TENANT_RESTORES, "", "status"),
    *(
        ("operator", verbs, resource, "", subresource)
        for resource in (
            TENANTS,
            TENANT_RECORDS,
            CLUSTERS,
            DATABASE_SERVERS,
            TENANT_PLANS,
            BACKUP_STORES,
            TENANT_BACKUPS,
        )
        for verbs, subresource in (("patch update", "status"), ("update", "finalizers"))
    ),
    ("operator", READ, NAMESPACES, "", ""),
    ("operator", READ, SECRETS, "", ""),
    ("operator", READ, CRDS, "", ""),
    ("operator", "create patch", EVENTS, WORKSPACE, ""),
    ("operator", "create patch", EVENTS, ELSEWHERE, ""),
    ("operator", "get create", CONFIG_MAPS, SYSTEM, ""),
    ("operator", "get list create patch update delete", LEASES, SYSTEM, ""),
    ("operator", f"{READ} create patch delete", CONTROLLER_REVISIONS, SYSTEM, ""),
    ("admin", ALL, TENANTS, WORKSPACE, ""),
    ("admin", ALL, TENANT_BACKUPS, WORKSPACE, ""),
    ("admin", ALL, TENANT_RESTORES, WORKSPACE, ""),
    ("admin", READ, EVENTS, WORKSPACE, ""),
    ("viewer", READ, TENANTS, WORKSPACE, ""),
    ("viewer", READ, TENANT_BACKUPS, WORKSPACE, ""),
    ("viewer", READ, TENANT_RESTORES, WORKSPACE, ""),
)

REFUSED = (
    ("operator", "create", TENANTS, "", ""),
    ("operator", "create delete", CLUSTERS, "", ""),
    ("operator", "create delete", DATABASE_SERVERS, "", ""),
    ("operator", "create delete", TENANT_PLANS, "", ""),
    ("operator", "create delete", BACKUP_STORES, "", ""),
    ("operator", "create patch update delete", TENANT_RESTORES, "", ""),
    ("operator", "create patch update delete", SECRETS, SYSTEM, ""),
    ("operator", "create patch update delete", SECRETS, WORKSPACE, ""),
    ("operator", "get create", CONFIG_MAPS, WORKSPACE, ""),
    ("operator", "create update", LEASES, WORKSPACE, ""),
    ("operator", "get create delete", CONTROLLER_REVISIONS, WORKSPACE, ""),
    ("operator", "update", CONTROLLER_REVISIONS, SYSTEM, ""),
    ("operator", "get list create", PODS, SYSTEM, ""),
    ("operator", "create", PODS, SYSTEM, "exec"),
    ("operator", "create patch update delete", CRDS, "", ""),
    ("operator", "create", CLUSTER_ROLE_BINDINGS, "", ""),
    ("operator", "escalate bind", CLUSTER_ROLES, "", ""),
    ("operator", "impersonate", SERVICE_ACCOUNTS, SYSTEM, ""),
    ("admin", "patch update", TENANTS, WORKSPACE, "status"),
    ("admin", "update", TENANTS, WORKSPACE, "finalizers"),
    ("admin", "patch update", TENANT_BACKUPS, WORKSPACE, "status"),
    ("admin", "patch update", TENANT_RESTORES, WORKSPACE, "status"),
    ("admin", ALL, TENANT_BACKUPS, ELSEWHERE, ""),
    ("admin", ALL, TENANT_RESTORES, ELSEWHERE, ""),
    ("admin", ALL, BACKUP_STORES, "", ""),
    ("admin", ALL, TENANTS, ELSEWHERE, ""),
    ("admin", ALL, TENANT_RECORDS, "", ""),
    ("admin", ALL, CLUSTERS, "", ""),
    ("admin", "get list", SECRETS, WORKSPACE, ""),
    ("admin", "get list", SECRETS, SYSTEM, ""),
    ("viewer", "create patch update delete deletecollection", TENANTS, WORKSPACE, ""),
    ("viewer", "create patch update delete deletecollection", TENANT_BACKUPS, WORKSPACE, ""),
    ("viewer", "create patch update delete deletecollection", TENANT_RESTORES, WORKSPACE, ""),
)
Right = tuple[str, str, Resource, str, str]


def sentence(right: Right) -> str:
    """The test's id, such as `operator get list watch tenants in all`."""
    who, verbs, resource, namespace, subresource = right
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return f"{who} {verbs} {plural} in {namespace.strip('{}') or 'all'}"


@pytest.mark.parametrize("right", ALLOWED, ids=sentence)
def test_may(people: People, right: Right) -> None:
    who, verbs, resource, namespace, subresource = right
    missing = [v for v in verbs.split() if not people.allowed(who, v, resource, namespace, subresource)]
    assert not missing


@pytest.mark.parametrize("right", REFUSED, ids=sentence)
def test_must_not(people: People, right: Right) -> None:
    who, verbs, resource, namespace, subresource = right
    too_much = [v for v in verbs.split() if people.allowed(who, v, resource, namespace, subresource)]
    assert not too_much


def test_a_workspace_admin_reads_no_secret_of_the_operator(people: People) -> None:
    assert people.admin.get(SECRETS.path(SYSTEM)).refused_by == RBAC


def test_the_operator_reads_secrets_for_the_environment_of_tenants(people: People) -> None:
    assert people.operator.get(SECRETS.path(people.workspace) + "?labelSelector=tenantry.io%2Fenv%3Dtrue").status == 200
