"""The hosts that a tenant is to answer for, and all else that its manifests are made from, as one plain value."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry.api.names import ANNOTATION_ROTATE_SYNC_TOKEN
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.decide.conditions import GOOD
from tenantry.decide.hosts import is_under, wanted_hosts
from tenantry.desired.blueprint import Blueprint
from tenantry.reconcile.cloudnativepg import is_operated
from tenantry.reconcile.database import SharedDatabase
from tenantry.reconcile.dedicated import is_dedicated
from tenantry.reconcile.environment import gather_env
from tenantry.reconcile.hosts import ClaimedHosts, HostClaims
from tenantry.reconcile.placing import Placed
from tenantry.reconcile.world import World


def host_claims(world: World, placed: Placed) -> HostClaims:
    """The host claims of a tenant where it is placed."""
    return HostClaims(placed.target, placed.identity, world.dns, default_host=_sheltered_host(placed))


async def claim_hosts(tenant: Tenant, placed: Placed, claims: HostClaims) -> ClaimedHosts:
    """Claim what the tenant wishes for.

    Also while spec.ingress.enabled is false: a host is the tenant's until it is taken out or purged.

    Raises:
        KubeError: of the target.
    """
    if placed.cluster.spec.ingress is None:
        return ClaimedHosts((), GOOD)
    wishes, refusals = wanted_hosts(
        placed.record.spec.cluster.host, tenant.spec.domains, placed.cluster.spec, placed.plan
    )
    return await claims.claim(wishes, refusals)


def blueprint_of(
    world: World,
    tenant: Tenant,
    placed: Placed,
    hosts: ClaimedHosts,
    shared: SharedDatabase | None,
    *,
    arriving: bool = False,
    env: Mapping[str, str] | None = None,
) -> Blueprint:
    """One tenant as it is to be where it is placed; switched off where it is only arriving.

    Args:
        world: The world.
        tenant: Whose it is.
        placed: Where.
        hosts: That it has.
        shared: Its database on a shared server.
        arriving: A move makes it.
        env: Its environment; None to gather it from the workspace.

    Raises:
        Halt: its environment is not complete.
    """
    spec: TenantSpec = tenant.spec.model_copy(update={"enabled": False}) if arriving else tenant.spec
    namespace = placed.record.spec.cluster.namespace
    return Blueprint(
        identity=placed.identity,
        namespace=namespace,
        cluster_name=placed.cluster.name,
        cluster=placed.cluster.spec,
        spec=spec,
        effective=placed.effective,
        hosts=hosts.served,
        env=env if env is not None else gather_env(world.live, tenant, placed.effective, namespace),
        database_port=shared.server.endpoint.port if shared else None,
        database_cidrs=shared.cidrs if shared else (),
        plan=placed.terms.pin,
        dedicated=is_dedicated(placed.record),
        operated=is_operated(placed.record),
        sync_token=ANNOTATION_ROTATE_SYNC_TOKEN in tenant.metadata.annotations,
        arriving=arriving,
    )


def _sheltered_host(placed: Placed) -> str:
    """The default host if it is under the cluster's domain, where nobody can claim a wildcard; else nothing."""
    host, domain = placed.record.spec.cluster.host, placed.cluster.spec.domain
    return host if domain is not None and is_under(host, domain) else ""
