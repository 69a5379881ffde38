"""Who may do what in the tenant's namespace: the operator itself, the tenant's ServiceAccount, the people it names."""

from __future__ import annotations

from typing import Any

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    CLUSTER_ROLE_OPERATOR_CLOUDNATIVEPG,
    CLUSTER_ROLE_OPERATOR_NAMESPACE,
    CLUSTER_ROLE_TENANT_ADMIN,
    CLUSTER_ROLE_TENANT_EDIT,
    CLUSTER_ROLE_TENANT_SELF_SERVICE,
    CLUSTER_ROLE_TENANT_VIEW,
    OPERATOR_CLOUDNATIVEPG_BINDING,
    OPERATOR_ROLE_BINDING,
    OPERATOR_SERVICE_ACCOUNT,
    SERVICE_ACCOUNT,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import ROLE_BINDINGS, SERVICE_ACCOUNTS
from tenantry.api.tenant import Subject
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.stamp import stamped

RBAC_GROUP = "rbac.authorization.k8s.io"
CLUSTER_ROLES = {
    "Admin": CLUSTER_ROLE_TENANT_ADMIN,
    "Edit": CLUSTER_ROLE_TENANT_EDIT,
    "View": CLUSTER_ROLE_TENANT_VIEW,
}


def operator_binding(identity: TenantIdentity, namespace: str) -> dict[str, Any]:
    """The operator's own rights in the namespace: it has none on Secrets, quotas or policies outside of these."""
    operator = {"kind": "ServiceAccount", "name": OPERATOR_SERVICE_ACCOUNT, "namespace": SYSTEM_NAMESPACE}
    return _binding(identity, namespace, OPERATOR_ROLE_BINDING, CLUSTER_ROLE_OPERATOR_NAMESPACE, [operator])


def cloudnativepg_binding(identity: TenantIdentity, namespace: str) -> dict[str, Any]:
    """What it has beside that where CloudNativePG makes the tenant's database server."""
    operator = {"kind": "ServiceAccount", "name": OPERATOR_SERVICE_ACCOUNT, "namespace": SYSTEM_NAMESPACE}
    name, role = OPERATOR_CLOUDNATIVEPG_BINDING, CLUSTER_ROLE_OPERATOR_CLOUDNATIVEPG
    return _binding(identity, namespace, name, role, [operator])


def service_account(blueprint: Blueprint) -> dict[str, Any]:
    """The identity for the tenant's workloads: no rights, and no token mounted unless a pod asks for it."""
    return stamped(
        SERVICE_ACCOUNTS,
        blueprint.identity,
        SERVICE_ACCOUNT,
        namespace=blueprint.namespace,
        automountServiceAccountToken=False,
    )


def tenant_bindings(blueprint: Blueprint) -> list[dict[str, Any]]:
    """A RoleBinding for each role that somebody has."""
    if not blueprint.spec.rbac.enabled:
        return []
    identity, namespace = blueprint.identity, blueprint.namespace
    bindings = []
    for binding in blueprint.spec.rbac.bindings:
        subjects = [_subject(subject, namespace) for subject in binding.subjects]
        name, role = f"tenant-{binding.role.lower()}", CLUSTER_ROLES[binding.role]
        bindings.append(_binding(identity, namespace, name, role, subjects))
        if binding.role == "Admin" and blueprint.effective.network.self_service:
            name, role = "tenant-self-service", CLUSTER_ROLE_TENANT_SELF_SERVICE
            bindings.append(_binding(identity, namespace, name, role, subjects))
    return bindings


def _subject(subject: Subject, namespace: str) -> dict[str, str]:
    if subject.kind == "ServiceAccount":
        return {"kind": "ServiceAccount", "name": subject.name, "namespace": namespace}
    return {"kind": subject.kind, "name": subject.name, "apiGroup": RBAC_GROUP}


def _binding(
    identity: TenantIdentity, namespace: str, name: str, role: str, subjects: list[dict[str, str]]
) -> dict[str, Any]:
    return stamped(
        ROLE_BINDINGS,
        identity,
        name,
        namespace=namespace,
        roleRef={"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role},
        subjects=subjects,
    )
