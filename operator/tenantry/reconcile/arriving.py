"""The new side of a move, before the tenant lives there: chosen, made complete, and switched off in every way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.identity import namespace_name
from tenantry.api.resources import CLUSTERS, NAMESPACES, Ref
from tenantry.api.tenant import Placement, Tenant
from tenantry.api.tenantrecord import Move, PinnedCluster, PinnedDatabase, TenantRecord
from tenantry.decide.conditions import GOOD, Outcome
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.hosts import pinned_default_host
from tenantry.decide.move import arriving_spec, check_versions
from tenantry.decide.placement import place
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.apply import Applier
from tenantry.reconcile.build import Build
from tenantry.reconcile.database import (
    CREATING,
    DROPPING,
    DatabaseProvisioning,
    SharedDatabase,
    UnknownSideError,
    choose_server,
    is_own,
    pinned_database,
    refused,
    wanted_database,
)
from tenantry.reconcile.exclusive import check_unclaimed, hold, wants_own
from tenantry.reconcile.namespace import check_name
from tenantry.reconcile.parking import drop_database
from tenantry.reconcile.placing import Placed, available_target, candidates, usable_target
from tenantry.reconcile.report import Report
from tenantry.reconcile.serving import blueprint_of, claim_hosts, host_claims
from tenantry.reconcile.synctoken import carry_token
from tenantry.reconcile.world import World


async def pin_cluster(
    world: World, tenant: Tenant, placed: Placed, name: str, labels: Mapping[str, str], epoch: int
) -> PinnedCluster:
    """The place on the cluster that a tenant moves to; claimed, where it is to have it for itself.

    Raises:
        Waiting: it takes no tenants, or is not ready.
        Terminal: NamespaceReserved.
        KubeError: of the cluster.
    """
    exclusive = wants_own(tenant)
    found = candidates(world, placed.record.name)
    cluster = place(Placement(cluster=name), labels, found, exclusive=exclusive)
    target = available_target(world, cluster.name)
    identity = replace(placed.identity, epoch=epoch)
    namespace = namespace_name(cluster.spec.namespace_template, identity)
    check_name(namespace)
    if target.live.get(Ref(NAMESPACES, "", namespace)) is not None:
        raise UnknownSideError(f"Cluster {name!r} has a namespace {namespace!r}", placed.record.name)
    if exclusive:
        await hold(world, target, identity)
    return PinnedCluster(
        name=cluster.name,
        id=target.facts.cluster_id if target.facts else "",
        namespace=namespace,
        host=pinned_default_host(cluster.spec, identity),
        exclusive=exclusive,
    )


async def pin_server(world: World, placed: Placed, name: str, labels: dict[str, str], epoch: int) -> PinnedDatabase:
    """The database on the server that a tenant's data moves to.

    Raises:
        Waiting: it is not ready, or there are no tools to copy with.
        Terminal: MoveNotSupported.
    """
    record = placed.record
    _, old = choose_server(world, record.spec.database.server, labels)
    _, new = choose_server(world, name, labels, new=True)
    if old.facts is None or new.facts is None:
        raise Waiting(ConditionType.PLACED, Reason.SERVER_NOT_READY, "a server was not probed yet", retry_after=10.0)
    check_versions(old.facts.version, new.facts.version, new.name)
    try:
        await world.copier.check(old, new)
    except DatabaseError as error:
        raise Waiting(
            ConditionType.PLACED,
            Reason.MOVE_NOT_SUPPORTED,
            f"the database can't be copied to DatabaseServer {new.name!r}: {error.message}",
            retry_after=60.0,
        ) from error
    identity = replace(placed.identity, epoch=epoch)
    await check_unused(new, wanted_database(identity, identity.database, placed.effective), record.name)
    return PinnedDatabase(mode="Shared", server=new.name, id=new.facts.system_identifier, name=identity.database)


async def check_unused(server: Server, wanted: WantedDatabase, record: str) -> None:
    """That there is no database yet of the name that the new one is to have.

    Raises:
        UnknownSideError: there is one.
        Waiting: it can't be told.
    """
    try:
        state = await server.admin.inspect(wanted)
    except DatabaseError as error:
        raise refused(error) from error
    if state.claim is not None or state.exists:
        raise UnknownSideError(f"DatabaseServer {server.name!r} has a database {wanted.database!r}", record)


def _opened(shared: SharedDatabase) -> Terminal:
    return Terminal(
        ConditionType.DATABASE_READY,
        Reason.MOVE_FAILED,
        f"database {shared.wanted.database!r} on {shared.where} has been opened already, so it is not emptied",
    )


class Arrival:
    """The new side of one move in one pass; each step safe to repeat and to lose."""

    def __init__(self, world: World, tenant: Tenant, placed: Placed, move: Move, labels: dict[str, str]) -> None:
        self._world = world
        self._tenant = tenant
        self._placed = placed
        self._move = move
        self._labels = labels
        self.record = TenantRecord(metadata=placed.record.metadata, spec=arriving_spec(placed.record.spec, move))

    def placed(self) -> Placed:
        """The tenant as if it were there already.

        Raises:
            Waiting: the cluster is not there or not ready.
            Terminal: IdentityChanged.
        """
        name = self.record.spec.cluster.name
        body = self._world.live.get(Ref(CLUSTERS, "", name))
        if body is None:
            raise Waiting(
                ConditionType.PLACED, Reason.CLUSTER_NOT_FOUND, f"Cluster {name!r} is not registered any more"
            )
        cluster, target = Cluster.model_validate(body), usable_target(self._world, self.record)
        placed = self._placed
        return Placed(self.record.identity, placed.terms, placed.effective, self.record, cluster, target)

    def shared(self) -> SharedDatabase | None:
        """Its database, if it has one of ours.

        Raises:
            Halt: the server is not there, not allowed, or not ready.
        """
        if self.record.spec.database.mode != "Shared":
            return None
        return pinned_database(self._world, self.record, self._placed.effective, self._labels)

    def server(self) -> Server:
        """The server that its database is copied to.

        Raises:
            Halt: it is not there, not allowed, or not ready.
        """
        shared = self.shared()
        if shared is None:
            raise Terminal(ConditionType.DATABASE_READY, Reason.MOVE_FAILED, "this tenant has no database to be copied")
        return shared.server

    async def prepare(self) -> Outcome:
        """Make the new side, all but what lets anybody in; good when it is complete.

        Raises:
            Halt: what stands in the way.
            KubeError: of its cluster.
        """
        shared = self.shared()
        if self._move.database is not None and shared is not None:
            await self.provision(shared)
        if self._move.cluster is None:
            return GOOD
        placed = self.placed()
        if self._move.cluster.exclusive:
            await hold(self._world, placed.target, placed.identity, kept=True)
        else:
            await check_unclaimed(placed.target, placed.identity)
        hosts = await claim_hosts(self._tenant, placed, host_claims(self._world, placed))
        blueprint = blueprint_of(self._world, self._tenant, placed, hosts, shared, arriving=True)
        found = Report(self._world, self._tenant, {})
        # Without the database: its logins are the old side's as long as the tenant lives there.
        await Build(self._world, placed, blueprint, None, self._tenant).run(found, None)
        await carry_token(self._placed, placed, Applier(placed.target, placed.identity, self._world.clock))
        outcomes = [*found.outcomes.values(), hosts.outcome]
        return next((outcome for outcome in outcomes if outcome.status is not True), GOOD)

    async def provision(self, shared: SharedDatabase) -> None:
        """Claim, make and settle the new database; nobody can log in.

        Raises:
            Halt: what stands in the way.
        """
        provisioning = DatabaseProvisioning(shared)
        await provisioning.provision(None)

    async def make_empty(self, shared: SharedDatabase) -> None:
        """Begin with the new database again, if a copy that died has left something in it.

        Raises:
            Halt: what stands in the way; Terminal where somebody may have written to it.
        """
        admin, wanted = shared.server.admin, shared.wanted
        try:
            state = await admin.inspect(wanted)
            claim = state.claim
            if claim is not None and is_own(claim, wanted):
                if claim.state not in (CREATING, DROPPING):
                    raise _opened(shared)
                made = claim.state == CREATING and state.settled
                if made:
                    await admin.lock_logins(wanted)  # ends the sessions of a restore whose operator has died
                if not (made and await self._world.copier.is_empty(shared.server, wanted)):
                    if claim.state == CREATING and not await admin.mark(wanted, before=CREATING, after=DROPPING):
                        raise _opened(shared)
                    await drop_database(shared.server, wanted)
        except DatabaseError as error:
            raise refused(error) from error
        await self.provision(shared)
