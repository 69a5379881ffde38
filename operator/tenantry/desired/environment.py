"""What the tenant's application is told: Secret `tenant-env` for its environment, ConfigMap `tenant-info` for facts."""

from __future__ import annotations

from typing import Any

from tenantry.api.names import CONFIG_MAP_INFO, SECRET_ENV
from tenantry.api.resources import CONFIG_MAPS, SECRETS
from tenantry.desired.blueprint import Blueprint
from tenantry.desired.encoding import encoded
from tenantry.desired.stamp import stamped


def env_secret(blueprint: Blueprint) -> dict[str, Any]:
    """Plan, env, envFrom and limits in one Secret for `envFrom`; there also when it is empty."""
    return stamped(
        SECRETS,
        blueprint.identity,
        SECRET_ENV,
        namespace=blueprint.namespace,
        type="Opaque",
        data=encoded(blueprint.env),
    )


def info_config_map(blueprint: Blueprint) -> dict[str, Any]:
    """Facts about the tenant that are no secret."""
    facts = {
        "tenantId": blueprint.identity.tenant_id,
        "name": blueprint.identity.name,
        "workspace": blueprint.identity.workspace,
        "displayName": blueprint.spec.display_name,
        "environment": blueprint.spec.environment or blueprint.cluster.environment or "",
        "plan": blueprint.effective.plan,
        "cluster": blueprint.cluster_name,
        "region": blueprint.cluster.region or "",
        "url": blueprint.url,
        "hosts": ",".join(host.host for host in blueprint.hosts),
    }
    return stamped(CONFIG_MAPS, blueprint.identity, CONFIG_MAP_INFO, namespace=blueprint.namespace, data=facts)
