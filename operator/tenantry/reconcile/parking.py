"""The database of a deleted tenant: locked with its data kept, then marked, then dropped; nothing that is another's."""

from __future__ import annotations

from typing import Final

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.deletion import parse_time
from tenantry.decide.halt import Waiting
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.database import DROPPING, check_server_identity, is_own
from tenantry.reconcile.world import World

DELETION_RETRY: Final = 5.0
RETRY: Final = 10.0


def wanted_of(record: TenantRecord) -> WantedDatabase:
    """The database of a record, for steps that need no more than to know whose it is."""
    return WantedDatabase(
        database=record.spec.database.name,
        management_id=record.spec.management_id,
        tenant_hash=record.identity.tenant_hash,
        record=record.name,
        connection_limit=0,
    )


def ready_server(world: World, record: TenantRecord) -> Server:
    """The server that a tenant's data is on, for steps of its deletion.

    Raises:
        Waiting: it is not ready.
        Terminal: IdentityChanged.
    """
    pinned = record.spec.database
    server = world.servers.get(pinned.server)
    if server is None or not server.availability.ok:
        why = f": {server.availability.message}" if server is not None else ""
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.SERVER_NOT_READY,
            f"its database can't be locked or dropped now: DatabaseServer {pinned.server!r} is not ready{why}",
            retry_after=DELETION_RETRY,
        )
    check_server_identity(server, pinned.server, pinned.id)
    return server


async def park_database(world: World, record: TenantRecord) -> None:
    """Lock a deleted tenant's database until its window is over.

    Raises:
        Waiting: for the server.
    """
    if record.spec.database.mode != "Shared":
        return
    server = ready_server(world, record)
    try:
        await server.admin.park(wanted_of(record), purge_after=parse_time(record.spec.purge_after))
    except DatabaseError as error:
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.DATABASE_REFUSED,
            f"its database can't be locked yet: {error.message}",
            retry_after=RETRY,
        ) from error


async def mark_dropping(server: Server, wanted: WantedDatabase) -> None:
    """Mark a tenant's claim, so that nobody uses the database any more; no error if there is nothing of the tenant's.

    Raises:
        DatabaseError: it could not be marked; safe to try again.
    """
    claim = (await server.admin.inspect(wanted)).claim
    if claim is None or not is_own(claim, wanted) or claim.state == DROPPING:
        return
    if not await server.admin.mark(wanted, before=claim.state, after=DROPPING):
        raise DatabaseError(f"the claim of {wanted.database} was changed meanwhile")


async def drop_database(server: Server, wanted: WantedDatabase) -> None:
    """Remove a tenant's database, its roles and its claim, in this order; nothing that is not this tenant's.

    Raises:
        DatabaseError: what stands in the way; safe to try again.
    """
    admin = server.admin
    claim = (await admin.inspect(wanted)).claim
    if claim is None or not is_own(claim, wanted):
        return  # never made, already gone, or somebody else's
    if claim.state != DROPPING:
        raise DatabaseError(f"the claim of {wanted.database} was changed meanwhile")
    await admin.drop(wanted)
    await admin.release(wanted)
