"""The rights of the operator and of people on the management cluster, as the API server answers these identities."""

from __future__ import annotations

import contextlib
import functools
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
PLATFORM = (TENANT_RECORDS, CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, BACKUP_STORES)
READ, ALL = "get list watch", "get list watch create patch update delete"


ROLES = {
    "admin": "tenantry-workspace-admin",
    "editor": "tenantry-workspace-editor",
    "viewer": "tenantry-workspace-viewer",
    "plain_admin": "admin",
    "plain_editor": "edit",
    "plain_viewer": "view",
}


@dataclass(frozen=True, slots=True)
class People:
    """Identities on the management cluster; all but the operator have their roles in `workspace` only.

    Those that begin with `plain` have Kubernetes' own roles.
    """

    workspace: str
    operator: Api
    admin: Api
    editor: Api
    viewer: Api
    plain_admin: Api
    plain_editor: Api
    plain_viewer: Api

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
        for name, role in ROLES.items():
            account = name.replace("_", "-")
            made(root.create(SERVICE_ACCOUNTS, manifest(SERVICE_ACCOUNTS, account, workspace), dry=False))
            subject = {"kind": "ServiceAccount", "name": account, "namespace": workspace}
            made(root.create(ROLE_BINDINGS, role_binding(account, workspace, role, subject), dry=False))
            token = token_of(root, workspace, account)
            identities[name] = stack.enter_context(contextlib.closing(Api(management.kubeconfig, token)))
        token = token_of(root, SYSTEM, OPERATOR_SERVICE_ACCOUNT)
        operator = stack.enter_context(contextlib.closing(Api(management.kubeconfig, token)))
        everybody = People(workspace, operator, **identities)
        eventually(lambda: operator.may("get", TENANTS) and operator.may("create", LEASES, SYSTEM))
        for name, api in identities.items():  # Kubernetes' own roles are added to by a controller, one after the other
            verb = "get" if "viewer" in name else "patch" if "editor" in name else "delete"
            eventually(functools.partial(api.may, verb, TENANTS, workspace), within=60)
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
    ("editor", f"{READ} create patch update", TENANTS, WORKSPACE, ""),
    ("viewer", READ, TENANTS, WORKSPACE, ""),
    ("plain_admin", ALL, TENANTS, WORKSPACE, ""),
    ("plain_editor", f"{READ} create patch update", TENANTS, WORKSPACE, ""),
    ("plain_viewer", READ, TENANTS, WORKSPACE, ""),
    *((who, f"{READ} create patch update", TENANT_BACKUPS, WORKSPACE, "") for who in ("editor", "plain_editor")),
    *((who, READ, TENANT_RESTORES, WORKSPACE, "") for who in ("editor", "plain_editor", "plain_viewer")),
    *(("plain_admin", ALL, resource, WORKSPACE, "") for resource in (TENANT_BACKUPS, TENANT_RESTORES)),
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
    ("editor", "delete deletecollection", TENANTS, WORKSPACE, ""),
    ("viewer", "create patch update delete deletecollection", TENANTS, WORKSPACE, ""),
    ("plain_editor", "delete deletecollection", TENANTS, WORKSPACE, ""),
    *((who, "delete deletecollection", TENANT_BACKUPS, WORKSPACE, "") for who in ("editor", "plain_editor")),
    *(
        (who, "create patch update delete deletecollection", TENANT_RESTORES, WORKSPACE, "")
        for who in ("editor", "plain_editor", "plain_viewer")
    ),
    ("plain_viewer", "create patch update delete deletecollection", TENANTS, WORKSPACE, ""),
    *(
        right
        for who in ("editor", "plain_admin", "plain_editor")
        for right in (
            (who, "patch update", TENANTS, WORKSPACE, "status"),
            (who, "patch update", TENANT_BACKUPS, WORKSPACE, "status"),
            (who, "patch update", TENANT_RESTORES, WORKSPACE, "status"),
            (who, "update", TENANTS, WORKSPACE, "finalizers"),
            (who, ALL, TENANTS, ELSEWHERE, ""),
            *(
                (who, ALL, resource, "", "")
                for resource in (TENANT_RECORDS, CLUSTERS, DATABASE_SERVERS, TENANT_PLANS, BACKUP_STORES)
            ),
            (who, "get list", SECRETS, SYSTEM, ""),
        )
    ),
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
