"""The rights that the operator needs on a target, as deploy/target-rbac.yaml gives them."""

from __future__ import annotations

from tenantry.api.names import SYSTEM_NAMESPACE
from tenantry.api.resources import INGRESS_CLASSES, WATCHED_ON_TARGETS

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
