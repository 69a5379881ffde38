"""Reopening: what a move has stopped serves again where that move can't go on, before the tenant is left to itself."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from tenantry.api.cluster import Cluster
from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.databaseserver import DatabaseServer
from tenantry.api.move import MovePhase
from tenantry.api.names import SECRET_ENV
from tenantry.api.resources import CLUSTERS, DATABASE_SERVERS, SECRETS, Ref
from tenantry.api.tenant import Tenant, TenantSpec
from tenantry.api.tenantrecord import RecordState, TenantRecord
from tenantry.decide.conditions import Outcome
from tenantry.decide.effective import effective
from tenantry.decide.halt import Halt, Waiting
from tenantry.desired.stamp import bears_stamp
from tenantry.ports.kube import ConflictError, KubeError, NotFoundError
from tenantry.reconcile.database import SharedDatabase, check_server_identity, wanted_database
from tenantry.reconcile.moving import Moving
from tenantry.reconcile.placing import Placed, usable_target
from tenantry.reconcile.report import Report
from tenantry.reconcile.restoring import Restoring
from tenantry.reconcile.terms import TermsOfTenants
from tenantry.reconcile.workspace import find_workspace
from tenantry.reconcile.world import World

RETRY: Final = 10.0


@dataclass(frozen=True, slots=True)
class Having:
    """What a tenant goes on having, whether or not its workspace would be given it today.

    Attributes:
        shared: Its database on a shared server; None without one.
        env: Its environment as its namespace has it; None where that has none. The workspace may be going, and its
            Secrets may be gone.
    """

    shared: SharedDatabase | None
    env: Mapping[str, str] | None


Serve = Callable[[Tenant, Placed, Having, Report], Awaitable[None]]
"""One pass over all that a tenant has where it is placed; what came of it is put into the report."""
StepsOf = Callable[[TenantRecord], Moving | Restoring]
"""Who takes the steps of what a record has under way: a move, or a restore, which is a move of nothing but the data."""


class Reopening:
    """Brings tenants back into service for those who stop looking after them.

    Args:
        world: The world.
        steps_of: Whose business the move of a record is.
        serve: The pass that opens the side.
        report: A new one about a Tenant, with nothing found out yet.
    """

    def __init__(self, world: World, steps_of: StepsOf, serve: Serve, report: Callable[[Tenant], Report]) -> None:
        self._world = world
        self._steps_of = steps_of
        self._serve = serve
        self._report = report
        self._terms = TermsOfTenants(world)

    async def reopen(self, tenant: Tenant, record: TenantRecord | None, why: str) -> None:
        """Open the side that the record pins if a move has stopped it, and end that move.

        It is opened first and written down afterwards: whoever dies in between finds the move, and does it again.

        Args:
            tenant: As it is now; it is served with the spec that was applied last.
            record: Of the tenant, if it has one.
            why: The move can't go on.

        Raises:
            ConflictError: it was opened, or somebody else wrote: look again at once.
            Waiting: it can't be opened yet.
        """
        if record is None or not is_stopped(record) or self._world.rehearsal:
            return
        report = self._report(tenant)
        try:
            await self._open(tenant, record, report, why)
        except ConflictError:
            raise
        except (Halt, KubeError) as trouble:
            told = f"a move has stopped it, and it can't be opened again yet: {trouble.message}"
            raise Waiting(ConditionType.PLACED, Reason.MOVE_STOPPING, told, retry_after=RETRY) from trouble
        await report.write()
        raise ConflictError("it was opened again")

    async def _open(self, tenant: Tenant, record: TenantRecord, report: Report, why: str) -> None:
        applied = _as_applied(tenant, record)
        placed = await self._standing(applied, record)
        having = Having(self._shared(placed), await _env(placed))
        await self._steps_of(record).forget(record.name)  # nothing copies what is being opened
        report.placed(placed)
        await self._serve(applied, placed, having, report)
        database = report.outcomes[ConditionType.DATABASE_READY]
        if having.shared is not None and database.status is not True:
            raise Waiting(ConditionType.DATABASE_READY, Reason.MOVE_STOPPING, database.message)
        if record.spec.move is not None and record.spec.move.phase == MovePhase.SWITCHED:
            await self._arrive(tenant, placed, report)
        else:
            await self._steps_of(record).take_back(tenant, placed, report, why)

    async def _arrive(self, tenant: Tenant, placed: Placed, report: Report) -> None:
        """After the switch nothing is taken back: the new side is the one that is opened."""
        told = "it is being opened on the new side"
        report.outcomes[ConditionType.MOVE_PROGRESSING] = Outcome(True, Reason.MOVE_SWITCHED, told)
        await self._steps_of(placed.record).finish(tenant, placed, report)
        if ConditionType.MOVE_PROGRESSING in report.outcomes:
            unready = (outcome.message for outcome in report.outcomes.values() if outcome.status is not True)
            raise Waiting(ConditionType.PLACED, Reason.MOVE_SWITCHED, next(unready, told))

    async def _standing(self, tenant: Tenant, record: TenantRecord) -> Placed:
        """Where the tenant is, whether or not it might come there today: nobody loses his service by what is refused.

        Raises:
            Halt: that is not there.
        """
        world, name = self._world, record.spec.cluster.name
        workspace = find_workspace(world, tenant.workspace)
        terms = self._terms.at_deletion(tenant, workspace, record)
        terms = terms or await self._terms.find(tenant, workspace, record)
        body = world.live.get(Ref(CLUSTERS, "", name))
        if body is None:
            raise Waiting(
                ConditionType.PLACED, Reason.CLUSTER_NOT_FOUND, f"Cluster {name!r} is not registered any more"
            )
        mixed = effective(tenant.spec, terms.name, terms.spec)
        target = usable_target(world, record)
        return Placed(record.identity, terms, mixed, record, Cluster.model_validate(body), target)

    def _shared(self, placed: Placed) -> SharedDatabase | None:
        """Its database on a shared server, if it has one, whether or not the workspace may have a new one there."""
        pinned = placed.record.spec.database
        if pinned.mode != "Shared":
            return None
        server = self._world.servers.get(pinned.server)
        body = self._world.live.get(Ref(DATABASE_SERVERS, "", pinned.server))
        if server is None or body is None or not server.availability.ok:
            why = f": {server.availability.message}" if server is not None else ""
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.SERVER_NOT_READY,
                f"DatabaseServer {pinned.server!r} is not ready{why}",
            )
        check_server_identity(server, pinned.server, pinned.id)
        wanted = wanted_database(placed.identity, pinned.name, placed.effective)
        return SharedDatabase(server, DatabaseServer.model_validate(body), wanted)


def is_stopped(record: TenantRecord) -> bool:
    """Whether a move has begun to stop the tenant of a record, and has not opened it again."""
    move = record.spec.move
    return record.spec.state == RecordState.ACTIVE and move is not None and move.phase != MovePhase.PREPARING


async def _env(placed: Placed) -> Mapping[str, str] | None:
    """What is in its `tenant-env`; None where that is not there, or not ours.

    Raises:
        KubeError: of the target.
    """
    try:
        live = await placed.target.kube.get(Ref(SECRETS, placed.record.spec.cluster.namespace, SECRET_ENV))
    except NotFoundError:
        return None
    if not bears_stamp(live, placed.identity):
        return None
    data: Mapping[str, str] = live.get("data") or {}
    try:
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    except ValueError:  # somebody else wrote it
        return None


def _as_applied(tenant: Tenant, record: TenantRecord) -> Tenant:
    """The tenant with the spec that was applied last: one that is not to be applied does not come about by this."""
    last = record.spec.last_spec
    try:
        spec = TenantSpec.model_validate(last) if last is not None else tenant.spec
    except ValidationError:  # of a version that had other fields
        spec = tenant.spec
    return tenant.model_copy(update={"spec": spec})
