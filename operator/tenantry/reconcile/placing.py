"""Where a tenant lives: its plan, its record, its cluster; written down before anything is written to a target."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.dedicated import BUILTIN
from tenantry.api.dedicated import MODE as DEDICATED
from tenantry.api.effective import Effective
from tenantry.api.identity import TenantIdentity, namespace_name
from tenantry.api.resources import CLUSTERS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.api.tenantrecord import PinnedCluster, PinnedDatabase, TenantRecord
from tenantry.decide.cloudnativepg import other_provider
from tenantry.decide.dedicated import not_described
from tenantry.decide.effective import effective
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.hosts import pinned_default_host
from tenantry.decide.placement import Candidate, check_use, place
from tenantry.ports.kube import Target
from tenantry.reconcile.adoption import check_mode, named_namespace
from tenantry.reconcile.database import choose_server
from tenantry.reconcile.exclusive import claimed_by_another, hold, settle, wants_own
from tenantry.reconcile.external import MODE as EXTERNAL
from tenantry.reconcile.namespace import check_name
from tenantry.reconcile.records import (
    Pins,
    adopt,
    check_predecessors,
    create_record,
    find_record,
    remove_record,
    spec_change,
    swap,
)
from tenantry.reconcile.terms import Terms, TermsOfTenants
from tenantry.reconcile.traces import record_of_traces, search
from tenantry.reconcile.workspace import Workspace, identify
from tenantry.reconcile.world import World

UNAVAILABLE_RETRY = 30.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A tenant that has a place, and all that follows from it."""

    identity: TenantIdentity
    terms: Terms
    effective: Effective
    record: TenantRecord
    cluster: Cluster
    target: Target

    @property
    def plan(self) -> TenantPlanSpec:
        """The content of its plan that it is rendered from."""
        return self.terms.spec


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new record is to say.

    Attributes:
        database: One that was found, and that the tenant goes on having.
    """

    terms: Terms
    effective: Effective
    database: PinnedDatabase | None


class Placing:
    """Finds or decides the place of tenants. One decision a cluster at a time, so that its capacity holds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._terms = TermsOfTenants(world)
        self._deciding = asyncio.Lock()

    async def place(self, tenant: Tenant, workspace: Workspace) -> Placed:
        """The tenant's place; decided and written down if it has none.

        Raises:
            Halt: why it can't have one, or can't be changed now.
        """
        world = self._world
        identity = identify(world, tenant, workspace)
        record, database = find_record(world, identity), None
        if record is None and (tenant.has_finalizer or workspace.adopted):
            record, database = await self._rebuild(tenant, identity)
        terms, fresh = await self._terms.find(tenant, workspace, record), record is None
        mixed = effective(tenant.spec, terms.name, terms.spec)
        if record is None:
            check_predecessors(world, tenant, identity)
            async with self._deciding:
                record = await self._decide(tenant, workspace, identity, Wanted(terms, mixed, database))
        record = await adopt(world, tenant, record)
        record = await self._terms.pin(record, terms, mixed.deletion)
        cluster = self._cluster(record.spec.cluster.name)
        check_use(cluster, workspace.labels)
        record = await self._check_database(tenant, cluster, workspace, record, mixed)
        target = usable_target(world, record)
        try:
            record = await settle(world, tenant, record, cluster, target)
        except Waiting:
            if fresh:  # somebody else got the cluster for itself meanwhile: nothing was made, and another one may do
                await remove_record(world, record)
            raise
        return Placed(record.identity, terms, mixed, record, cluster, target)

    async def _decide(
        self,
        tenant: Tenant,
        workspace: Workspace,
        identity: TenantIdentity,
        wanted: Wanted,
    ) -> TenantRecord:
        """A new record, after the slot of its plan: what can fail has not, when that is claimed."""
        world, mixed = self._world, wanted.effective
        if (record := find_record(world, identity)) is not None:
            return record
        exclusive = wants_own(tenant)
        found = candidates(world, identity.record)
        cluster = place(tenant.spec.placement, workspace.labels, found, tenant.spec.environment, exclusive=exclusive)
        chosen = available_target(world, cluster.name)
        named = await named_namespace(world, tenant, identity, cluster, chosen)
        if named is not None:
            check_mode(mixed.mode)
        namespace = named or namespace_name(cluster.spec.namespace_template, identity)
        check_name(namespace)
        pinned = PinnedCluster(
            name=cluster.name,
            id=chosen.facts.cluster_id if chosen.facts else "",
            namespace=namespace,
            host=pinned_default_host(cluster.spec, identity),
            exclusive=exclusive,
            adopted=named is not None,
        )
        database = wanted.database or self._pin_database(tenant, cluster, workspace, identity, mixed)
        await self._terms.claim(wanted.terms, identity)
        if exclusive:
            await hold(world, chosen, identity)
        pins = Pins(pinned, database, mixed.deletion, wanted.terms.pin)
        return await create_record(world, tenant.metadata.uid, identity, pins, applied=tenant)

    def _pin_database(
        self, tenant: Tenant, cluster: Cluster, workspace: Workspace, identity: TenantIdentity, mixed: Effective
    ) -> PinnedDatabase:
        if mixed.mode == EXTERNAL and tenant.spec.database.external is None:
            raise Terminal(
                ConditionType.DATABASE_READY,
                Reason.SECRET_NOT_FOUND,
                f"spec.database: plan {mixed.plan!r} gives mode External by default, and only the spec can name the "
                "Secret: set mode: External and external.secretRef, or another mode that the plan has",
            )
        if mixed.mode == DEDICATED:
            if tenant.spec.database.dedicated is None:
                raise not_described()
            provider = tenant.spec.database.dedicated.provider
            pinned = None if provider == BUILTIN else provider
            return PinnedDatabase(mode=DEDICATED, name=identity.database, provider=pinned)
        if mixed.mode != "Shared":
            return PinnedDatabase(mode=mixed.mode)
        shared = tenant.spec.database.shared
        name = (shared.server if shared else None) or cluster.spec.database_server
        if name is None:
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.NO_DATABASE_SERVER,
                f"Cluster {cluster.name!r} has no databaseServer; set spec.database.shared.server, or mode: None",
            )
        _, server = choose_server(self._world, name, workspace.labels, new=True)
        system_identifier = server.facts.system_identifier if server.facts else ""
        return PinnedDatabase(mode="Shared", server=name, id=system_identifier, name=identity.database)

    async def _check_database(
        self, tenant: Tenant, cluster: Cluster, workspace: Workspace, record: TenantRecord, mixed: Effective
    ) -> TenantRecord:
        """That the spec still means the database the tenant has; one that has none may get one.

        One that is somebody else's may be let go of: nothing of it is lost by that. Another server is a move: see
        `reconcile.moving`.

        Raises:
            Terminal: MoveNotSupported.
        """
        pinned, wanted = record.spec.database, tenant.spec.database.dedicated
        if pinned.mode == DEDICATED and wanted is not None and wanted.provider != (pinned.provider or BUILTIN):
            raise other_provider(pinned.provider, wanted.provider)
        if tenant.spec.database.mode is None or mixed.mode == pinned.mode or record.spec.move is not None:
            return (
                record  # without a mode the plan's default of that time is pinned: another one moves and makes nothing
            )
        if pinned.mode != "None" and not (pinned.mode == EXTERNAL and mixed.mode == "None"):
            raise _database_moved(
                f"spec.database.mode: {mixed.mode} is not {pinned.mode}, in which", pinned.mode, mixed.mode
            )
        database = self._pin_database(tenant, cluster, workspace, record.identity, mixed)
        change = {"database": database.model_dump(by_alias=True, mode="json"), **spec_change(tenant, record)}
        return await swap(self._world, record, change)

    def _cluster(self, name: str) -> Cluster:
        body = self._world.live.get(Ref(CLUSTERS, "", name))
        if body is None:
            raise Waiting(
                ConditionType.PLACED,
                Reason.CLUSTER_NOT_FOUND,
                f"Cluster {name!r}, where this tenant lives, is not registered any more; register it again",
            )
        return Cluster.model_validate(body)

    async def _rebuild(
        self, tenant: Tenant, identity: TenantIdentity
    ) -> tuple[TenantRecord | None, PinnedDatabase | None]:
        """The record of a tenant that we once held and that has none, from its stamps; else what database it left.

        Raises:
            Waiting: naming what could not be searched.
        """
        traces = await search(self._world, identity)
        if traces.unreachable:
            raise Waiting(
                ConditionType.PLACED,
                Reason.RECORD_MISSING,
                "this tenant has no record; before one is made, what it may have left is searched for, and these "
                f"can't be searched now: {', '.join(traces.unreachable)}",
                retry_after=UNAVAILABLE_RETRY,
            )
        if traces.cluster is None:
            return None, traces.database
        return await record_of_traces(self._world, tenant, traces, traces.cluster), None


def _database_moved(what: str, pinned: str = "", mode: str = "") -> Terminal:
    way = ""
    if mode not in ("", "None"):
        way = f"; to have the data elsewhere, make another Tenant with mode: {mode}, copy the data, and delete this one"
    if pinned == EXTERNAL:
        way = "; to begin with an empty database of ours, set mode: None first, which lets go of the External one"
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.MOVE_NOT_SUPPORTED,
        f"{what} this tenant's data is, and one mode can't become another; set it back{way}",
    )


def candidates(world: World, record: str) -> list[Candidate]:
    """The clusters on which the tenant of a record may be placed; what it has on one itself does not count there."""
    entry = world.ledger.entry(record)
    own = entry.clusters if entry is not None else {}
    clusters = [Cluster.model_validate(body) for body in world.live.all(CLUSTERS)]
    return [
        Candidate(
            cluster,
            world.ledger.tenants_on_cluster(cluster.name) - (cluster.name in own),
            claimed=claimed_by_another(world.targets.get(cluster.name), record),
            available=(target := world.targets.get(cluster.name)) is not None and target.availability.ok,
        )
        for cluster in clusters
        if not cluster.metadata.deletion_timestamp
    ]


def available_target(world: World, name: str) -> Target:
    """The connection to a cluster that tenants may use now.

    Raises:
        Waiting: ClusterNotReady, ClusterUnreachable.
    """
    target = world.targets.get(name)
    if target is None:
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_NOT_READY,
            f"Cluster {name!r} is not ready; see its conditions",
            retry_after=UNAVAILABLE_RETRY,
        )
    availability = target.availability
    if not availability.ok:
        unreachable = availability.reason == Reason.UNREACHABLE
        raise Waiting(
            ConditionType.PLACED,
            Reason.CLUSTER_UNREACHABLE if unreachable else Reason.CLUSTER_NOT_READY,
            f"Cluster {name!r} {'does not answer' if unreachable else 'is not ready'}: {availability.message}",
            retry_after=UNAVAILABLE_RETRY,
        )
    return target


def usable_target(world: World, record: TenantRecord) -> Target:
    """The connection to the cluster that a record pins.

    Raises:
        Waiting: it is not available.
        Terminal: IdentityChanged: the name now stands for another cluster.
    """
    pinned = record.spec.cluster
    target = available_target(world, pinned.name)
    if target.facts is not None and target.facts.cluster_id != pinned.id:
        raise Terminal(
            ConditionType.PLACED,
            Reason.IDENTITY_CHANGED,
            f"Cluster {pinned.name!r} now is another cluster (id {target.facts.cluster_id}, this tenant lives on "
            f"{pinned.id}); nothing is changed until the platform team accepts it",
        )
    return target
