"""What bears a tenant's stamps on clusters and servers: where a record was lost, this is what it is made anew from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tenantry.api.base import AllowedWorkspaces
from tenantry.api.cluster import Cluster
from tenantry.api.dedicated import CLOUDNATIVEPG
from tenantry.api.dedicated import MODE as DEDICATED
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_DELETED_AT,
    ANNOTATION_PURGE_AFTER,
    ANNOTATION_STATE,
    POSTGRES,
    SECRET_DATABASE,
)
from tenantry.api.resources import (
    CLUSTERS,
    CONFIG_MAPS,
    DATABASE_SERVERS,
    NAMESPACES,
    POSTGRES_CLUSTERS,
    SECRETS,
    STATEFUL_SETS,
    Ref,
)
from tenantry.api.tenant import Tenant
from tenantry.api.tenantrecord import (
    FormerSide,
    PinnedCluster,
    PinnedDatabase,
    PinnedDeletion,
    PinnedPlan,
    RecordState,
    TenantRecord,
)
from tenantry.decide.adoption import was_adopted
from tenantry.decide.hosts import pinned_default_host
from tenantry.decide.workspaces import allows
from tenantry.desired.cloudnativepg import PROVIDER_KEY
from tenantry.desired.dedicated import DATABASE_ID_KEY
from tenantry.desired.namespace import plan_of
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ClusterFacts, NotFoundError, Target
from tenantry.ports.postgres import DatabaseClaim, DatabaseError
from tenantry.ports.servers import Server
from tenantry.ports.world import Json
from tenantry.reconcile.exclusive import has_claim
from tenantry.reconcile.external import is_copy
from tenantry.reconcile.records import Fate, Pins, create_record
from tenantry.reconcile.sidetraces import Claimed, Homes, epoch_of, is_home, left_namespace, merged
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
    former: tuple[FormerSide, ...] = ()


async def search(world: World, identity: TenantIdentity) -> Traces:
    """Look for a tenant's stamp, of any incarnation, on every registered cluster and server."""
    spaces: dict[int, list[tuple[PinnedCluster, Json]]] = {}
    dedicated: dict[int, PinnedDatabase] = {}
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
            for live in stamped_namespaces(target, each):
                place = pinned_cluster(target, target.facts, body, live, replace(each, epoch=epoch_of(live)))
                spaces.setdefault(each.incarnation, []).append((place, live))
                if (own_server := dedicated_trace(target, live, each)) is not None:
                    dedicated[each.incarnation] = own_server
    claimed, silent = await _claimed(world, identity, incarnations, labels)
    unreachable += silent
    last = max([*(number for number, found in spaces.items() if _home(found)), *claimed], default=identity.incarnation)
    now, own = replace(identity, incarnation=last), claimed.get(last, [])
    traces = _traces(now, spaces.get(last, ()), own, world.clock.now())
    if traces.database is None and last in dedicated:
        traces = replace(traces, database=dedicated[last])
    ending = traces.fate.state == RecordState.PURGING  # its database may be gone before its namespace
    wanted = traces.cluster is not None and traces.database is None and not ending
    if wanted and traces.cluster is not None and await had_database(world, traces.cluster, traces.identity):
        unreachable.append("the DatabaseServer of its database, which is not registered")
    return replace(traces, unreachable=tuple(dict.fromkeys(unreachable)))


async def _claimed(
    world: World, identity: TenantIdentity, incarnations: Sequence[TenantIdentity], labels: dict[str, str]
) -> tuple[dict[int, list[Claimed]], list[str]]:
    """The databases by incarnation, and the servers that could not be asked, as they are shown."""
    claimed: dict[int, list[Claimed]] = {}
    silent: list[str] = []
    for body in world.live.all(DATABASE_SERVERS):
        server = world.servers.get(body["metadata"]["name"])
        claims = await claims_on(server, identity) if server is not None and server.facts is not None else None
        if server is None or server.facts is None or claims is None:
            silent.append(_shown(body, labels))
            continue
        for each in incarnations:
            for claim in claims.get(each.record, ()):
                pinned = PinnedDatabase(
                    mode="Shared", server=server.name, id=server.facts.system_identifier, name=claim.database
                )
                claimed.setdefault(each.incarnation, []).append(Claimed(pinned, claim))
    return claimed, silent


def _home(spaces: Sequence[tuple[PinnedCluster, Json]]) -> tuple[PinnedCluster, Json] | None:
    """Where the tenant lives: of several namespaces the one of the highest epoch."""
    return max((found for found in spaces if is_home(found[1])), key=lambda found: epoch_of(found[1]), default=None)


def _traces(
    identity: TenantIdentity, spaces: Sequence[tuple[PinnedCluster, Json]], claimed: Sequence[Claimed], now: datetime
) -> Traces:
    """What was found of one incarnation; where no namespace is its home, nobody can say of what the others are left."""
    home, homes = _home(spaces), Homes.of(claimed, now)
    place, live = home if home is not None else (None, None)
    window = PinnedDeletion().window
    left = [left_namespace(each, body, window, now) for each, body in spaces if home is not None and each != place]
    epoch = max(epoch_of(live) if live is not None else 1, homes.epoch)
    return Traces(
        replace(identity, epoch=epoch),
        place,
        homes.database,
        fate_of(live) if live is not None else Fate(),
        (),
        plan_of(live) if live is not None else None,
        merged([*homes.former, *left]),
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
    pins = Pins(cluster, database, plan=traces.plan, former=traces.former)
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
        exclusive=has_claim(target, identity),
        adopted=was_adopted(namespace, identity),
    )


def dedicated_trace(target: Target, namespace: Json, identity: TenantIdentity) -> PinnedDatabase | None:
    """The database on a server of the tenant's own that its namespace has; which one, as the server's settings say."""
    name = namespace["metadata"]["name"]
    kinds = (CONFIG_MAPS, STATEFUL_SETS, POSTGRES_CLUSTERS)
    settings, server, operated = (target.live.get(Ref(resource, name, POSTGRES)) for resource in kinds)
    if not any(body is not None and bears_stamp(body, identity) for body in (settings, server, operated)):
        return None
    told = (settings or {}).get("data") or {}
    other = operated is not None or told.get(PROVIDER_KEY) == CLOUDNATIVEPG
    provider = CLOUDNATIVEPG if other else None
    return PinnedDatabase(mode=DEDICATED, id=told.get(DATABASE_ID_KEY, ""), name=identity.database, provider=provider)


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
    return max(filter(is_home, stamped_namespaces(target, identity)), key=epoch_of, default=None)


def stamped_namespaces(target: Target, identity: TenantIdentity) -> list[Json]:
    """All namespaces that bear it: one that moves have left, or have not reached, among them."""
    return [
        live
        for live in target.live.of_tenant(identity.tenant_hash)
        if live["kind"] == NAMESPACES.kind and bears_stamp(live, identity)
    ]


async def claims_on(server: Server, identity: TenantIdentity) -> dict[str, list[DatabaseClaim]] | None:
    """What is claimed on a server, by record; None if the server does not answer."""
    try:
        claims = await server.admin.claims(identity.management_id)
    except DatabaseError:
        return None
    found: dict[str, list[DatabaseClaim]] = {}
    for claim in claims:
        found.setdefault(claim.record, []).append(claim)
    return found
