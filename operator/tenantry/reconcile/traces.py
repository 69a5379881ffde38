"""What bears a tenant's stamps on clusters and servers: where a record was lost, this is what it is made anew from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenantry.api.base import AllowedWorkspaces
from tenantry.api.cluster import Cluster
from tenantry.api.dedicated import MODE as DEDICATED
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_DELETED_AT,
    ANNOTATION_PURGE_AFTER,
    ANNOTATION_STATE,
    POSTGRES,
    SECRET_DATABASE,
)
from tenantry.api.resources import CLUSTERS, CONFIG_MAPS, DATABASE_SERVERS, NAMESPACES, SECRETS, STATEFUL_SETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import PinnedCluster, PinnedDatabase, PinnedPlan, RecordState, TenantRecord
from tenantry.decide.hosts import pinned_default_host
from tenantry.decide.workspaces import allows
from tenantry.desired.dedicated import DATABASE_ID_KEY
from tenantry.desired.namespace import plan_of
from tenantry.desired.stamp import bears_stamp
from tenantry.ports import ClusterFacts, DatabaseError, Json, NotFoundError, Server, Target
from tenantry.reconcile.external import is_copy
from tenantry.reconcile.records import Fate, Pins, create_record
from tenantry.reconcile.world import World

MAX_INCARNATIONS = 8
"""How many incarnations of one tenant a search looks for, where no record says how many there were."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What bears a tenant's stamp, and what could not be searched for it.

    Attributes:
        identity: Of the last incarnation that left something; of the one that was asked for where nothing is left.
    """

    identity: TenantIdentity
    cluster: PinnedCluster | None
    database: PinnedDatabase | None
    fate: Fate
    unreachable: tuple[str, ...]
    plan: PinnedPlan | None = None


async def search(world: World, identity: TenantIdentity) -> Traces:
    """Look for a tenant's stamp, of any incarnation, on every registered cluster and server."""
    found: dict[int, PinnedCluster] = {}
    fates: dict[int, Fate] = {}
    plans: dict[int, PinnedPlan | None] = {}
    databases: dict[int, PinnedDatabase] = {}
    unreachable: list[str] = []
    incarnations = [replace(identity, incarnation=number) for number in range(1, MAX_INCARNATIONS + 1)]
    workspace = world.live.get(Ref(NAMESPACES, "", identity.workspace))  # may be gone by now
    labels = workspace["metadata"].get("labels", {}) if workspace is not None else {}
    for body in world.live.all(CLUSTERS):
        target = world.targets.get(body["metadata"]["name"])
        if target is None or not target.availability.ok or target.facts is None:
            unreachable.append(_shown(body, labels))
            continue
        for each in incarnations:
            if (live := stamped_namespace(target, each)) is not None:
                found[each.incarnation] = pinned_cluster(target, target.facts, body, live, each)
                if (own := dedicated_trace(target, live, each)) is not None:
                    databases[each.incarnation] = own
                fates[each.incarnation], plans[each.incarnation] = fate_of(live), plan_of(live)
    silent = await _search_servers(world, identity, incarnations, databases)
    unreachable += [_shown(body, labels) for body in silent]
    last = max([*found, *databases], default=identity.incarnation)
    now = replace(identity, incarnation=last)
    ending = last in fates and fates[last].state == RecordState.PURGING  # its database may be gone before its namespace
    if last in found and last not in databases and not ending and await had_database(world, found[last], now):
        unreachable.append("the DatabaseServer of its database, which is not registered")
    return Traces(
        now,
        found.get(last),
        databases.get(last),
        fates.get(last, Fate()),
        tuple(dict.fromkeys(unreachable)),
        plans.get(last),
    )


async def _search_servers(
    world: World, identity: TenantIdentity, incarnations: list[TenantIdentity], databases: dict[int, PinnedDatabase]
) -> list[Json]:
    """Add the databases that are claimed on shared servers, by incarnation; the servers that don't answer."""
    silent = []
    for body in world.live.all(DATABASE_SERVERS):
        server = world.servers.get(body["metadata"]["name"])
        claims = await claims_on(server, identity) if server is not None and server.facts is not None else None
        if server is None or server.facts is None or claims is None:
            silent.append(body)
            continue
        for each in incarnations:
            if each.record in claims:
                databases[each.incarnation] = PinnedDatabase(
                    mode="Shared", server=server.name, id=server.facts.system_identifier, name=claims[each.record]
                )
    return silent


async def had_database(world: World, cluster: PinnedCluster, identity: TenantIdentity) -> bool:
    """Whether its namespace has credentials of ours: then it has a database, whatever servers are registered now.

    Raises:
        KubeError: of the target.
    """
    target = world.targets.get(cluster.name)
    if target is None:
        return True
    try:
        secret = await target.kube.get(Ref(SECRETS, cluster.namespace, SECRET_DATABASE))
    except NotFoundError:
        return False
    return bears_stamp(secret, identity) and not is_copy(secret)


async def record_of_traces(world: World, tenant: Tenant, traces: Traces, cluster: PinnedCluster) -> TenantRecord:
    """A lost record, made anew from what bears its stamps."""
    database = traces.database or PinnedDatabase(mode="None")
    pins = Pins(cluster, database, plan=traces.plan)
    return await create_record(world, tenant.metadata.uid, traces.identity, pins, traces.fate)


def pinned_cluster(
    target: Target, facts: ClusterFacts, cluster: Json, namespace: Json, identity: TenantIdentity
) -> PinnedCluster:
    """Where a tenant lives, as its namespace's stamp says."""
    return PinnedCluster(
        name=target.name,
        id=facts.cluster_id,
        namespace=str(namespace["metadata"]["name"]),
        host=pinned_default_host(Cluster.model_validate(cluster).spec, identity),
    )


def dedicated_trace(target: Target, namespace: Json, identity: TenantIdentity) -> PinnedDatabase | None:
    """The database on a server of the tenant's own that its namespace has; which one, as the server's settings say."""
    name = namespace["metadata"]["name"]
    settings, server = (target.live.get(Ref(resource, name, POSTGRES)) for resource in (CONFIG_MAPS, STATEFUL_SETS))
    if not any(body is not None and bears_stamp(body, identity) for body in (settings, server)):
        return None
    known = str(((settings or {}).get("data") or {}).get(DATABASE_ID_KEY, ""))
    return PinnedDatabase(mode=DEDICATED, id=known, name=identity.database)


def fate_of(namespace: Json) -> Fate:
    """The state that a tenant's namespace says it is in."""
    annotations = namespace["metadata"].get("annotations") or {}
    try:
        state = RecordState(annotations.get(ANNOTATION_STATE, RecordState.ACTIVE))
    except ValueError:
        state = RecordState.ACTIVE
    purge_after = annotations.get(ANNOTATION_PURGE_AFTER)
    return Fate(state, deleted_at=purge_after and annotations.get(ANNOTATION_DELETED_AT), purge_after=purge_after)


def _shown(body: Json, labels: dict[str, str]) -> str:
    """A Cluster or DatabaseServer in a message for a workspace, which learns no names of those it may not use."""
    allowed = AllowedWorkspaces.model_validate(body["spec"].get("allowedWorkspaces") or {})
    name = repr(body["metadata"]["name"]) if allows(allowed, labels) else "that this workspace may not use"
    return f"{body['kind']} {name}"


def stamped_namespace(target: Target, identity: TenantIdentity) -> Json | None:
    """The namespace that bears a tenant's stamp, as the watch has seen it."""
    for live in target.live.of_tenant(identity.tenant_hash):
        if live["kind"] == NAMESPACES.kind and bears_stamp(live, identity):
            return live
    return None


async def claims_on(server: Server, identity: TenantIdentity) -> dict[str, str] | None:
    """The databases that are claimed on a server, by record; None if the server does not answer."""
    try:
        claims = await server.admin.claims(identity.management_id)
    except DatabaseError:
        return None
    return {claim.record: claim.database for claim in claims}
