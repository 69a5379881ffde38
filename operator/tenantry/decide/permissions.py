"""The rights that the operator needs on a target, as deploy/target-rbac.yaml gives them."""

from __future__ import annotations

from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.api.resources import (
    INGRESS_CLASSES,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    WATCHED_ON_TARGETS,
    WORKLOADS,
)

Right = tuple[str, str, str, str]
"""Verb, API group, resource, namespace (empty for cluster-wide)."""


def needed_rights() -> tuple[Right, ...]:
    """What is asked for by SelfSubjectAccessReview before a cluster takes tenants.

    The rights inside a tenant's namespace come with a RoleBinding that the operator itself makes there, so what is
    asked for is that it may make it.
    """
    reads = tuple(
        (verb, resource.group, resource.plural, "")
        for resource in (*WATCHED_ON_TARGETS, INGRESS_CLASSES)
        for verb in ("list", "watch")
    )
    namespaces = tuple((verb, "", "namespaces", "") for verb in ("create", "patch", "delete"))
    bindings = tuple((verb, "rbac.authorization.k8s.io", "rolebindings", "") for verb in ("create", "patch", "delete"))
    claims = tuple((verb, "", "configmaps", SYSTEM_NAMESPACE) for verb in ("create", "get", "list", "delete"))
    return reads + namespaces + bindings + claims


def needed_rights_in(namespace: str) -> tuple[Right, ...]:
    """What is asked for beside `needed_rights` where a tenant lives on the cluster already.

    Without a tenant nobody can tell, for the RoleBinding is not there to be asked about: a ClusterRole of an older
    target-rbac.yaml, as after an upgrade of the operator alone, shows only in a namespace that it is bound in.

    Args:
        namespace: One in which the operator's RoleBinding has been for a while (RBAC lags behind it), and which is not
            being deleted.
    """
    secrets = tuple((verb, SECRETS.group, SECRETS.plural, namespace) for verb in ("get", "create", "patch", "delete"))
    workloads = tuple(
        (verb, resource.group, resource.plural, namespace)
        for resource in WORKLOADS
        for verb in ("get", "list", "patch")
    )
    server = (
        *((verb, SERVICES.group, SERVICES.plural, namespace) for verb in ("create", "patch", "delete")),
        ("create", STATEFUL_SETS.group, STATEFUL_SETS.plural, namespace),
    )
    return secrets + workloads + server
