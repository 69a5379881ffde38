"""The tenant's ResourceQuota and LimitRange."""

from __future__ import annotations

from typing import Any

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import LIMIT_RANGE, RESOURCE_QUOTA, RESOURCE_QUOTA_OFF
from tenantry.api.resources import LIMIT_RANGES, RESOURCE_QUOTAS
from tenantry.api.tenantplan import ContainerResources
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.stamp import stamped

OVERHEAD = {"count/configmaps": 2, "configmaps": 2, "count/secrets": 2, "secrets": 2}
"""What the system and the operator put there themselves: kube-root-ca.crt and tenant-info; the two Secrets."""
DEDICATED_OVERHEAD = {
    **dict.fromkeys(("count/configmaps", "configmaps", "count/secrets", "secrets", "count/statefulsets.apps"), 1),
    **dict.fromkeys(("count/services", "services"), 2),
}
"""Beside that, for a database server of the tenant's own. Its pod and volume are the tenant's to have room for."""


OPERATED_OVERHEAD = {
    **dict.fromkeys(("count/secrets", "secrets"), 4),
    **dict.fromkeys(("count/poddisruptionbudgets.policy", "count/rolebindings.rbac.authorization.k8s.io"), 2),
    **dict.fromkeys(
        (
            "count/clusters.postgresql.cnpg.io",
            "count/jobs.batch",
            "count/serviceaccounts",
            "count/roles.rbac.authorization.k8s.io",
        ),
        1,
    ),
}
"""Where CloudNativePG makes that server, beside both: its Secrets -ca, -replication, -superuser, -app; and more."""


def resource_quota(blueprint: Blueprint) -> dict[str, Any]:
    """The ResourceQuota: what the tenant was promised, and beside it room for what we and the system put there."""
    return stamped(
        RESOURCE_QUOTAS,
        blueprint.identity,
        RESOURCE_QUOTA,
        namespace=blueprint.namespace,
        spec={
            "hard": {name: _with_overhead(name, value, blueprint) for name, value in blueprint.effective.quota.items()}
        },
    )


def no_pods(identity: TenantIdentity, namespace: str) -> dict[str, Any]:
    """Of a tenant that is switched off or deleted: the strictest quota holds, so the plan's needs not be known here."""
    return stamped(RESOURCE_QUOTAS, identity, RESOURCE_QUOTA_OFF, namespace=namespace, spec={"hard": {"pods": "0"}})


def limit_range(blueprint: Blueprint) -> dict[str, Any]:
    """The LimitRange: what a container gets that asks for nothing."""
    container = blueprint.effective.container
    most = _resources(container.max) if container.max else {}
    default = {**most, **_resources(container.default)}
    limit = {
        "type": "Container",
        # What is not said is said as the API server would: what it adds to a list would look like somebody's change.
        "default": default,
        "defaultRequest": {**default, **_resources(container.default_request)},
        "max": most,
    }
    return stamped(
        LIMIT_RANGES,
        blueprint.identity,
        LIMIT_RANGE,
        namespace=blueprint.namespace,
        spec={"limits": [{key: value for key, value in limit.items() if value}]},
    )


def _with_overhead(name: str, value: str, blueprint: Blueprint) -> str:
    own = OVERHEAD.get(name, 0) + (DEDICATED_OVERHEAD.get(name, 0) if blueprint.dedicated else 0)
    own += OPERATED_OVERHEAD.get(name, 0) if blueprint.operated else 0
    own += 1 if blueprint.sync_token and name in ("count/secrets", "secrets") else 0
    return str(int(value) + own) if own and value.isdigit() else value


def _resources(resources: ContainerResources) -> dict[str, str]:
    given = {"cpu": resources.cpu, "memory": resources.memory}
    return {name: str(value) for name, value in given.items() if value is not None}
