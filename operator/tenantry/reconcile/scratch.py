"""Scratch databases: made for one trial like a tenant's, claimed as nobody's, and dropped, also for a dead process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tenantry.api.identity import base32_digest
from tenantry.ports.postgres import SCRATCH_RECORD, DatabaseClaim, DatabaseError, WantedDatabase
from tenantry.ports.servers import Server
from tenantry.reconcile.database import is_own
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.parking import drop_database, mark_dropping

logger = logging.getLogger(__name__)

PREFIX: Final = "tenantry_verify_"
CONNECTIONS: Final = 2
DROP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scratch:
    """One that is to be made.

    Attributes:
        wanted: Its names and stamp: a hash of its own, so that nothing takes it for a tenant's.
    """

    server: Server
    wanted: WantedDatabase


def scratch_named(management_id: str, token: str, extensions: tuple[str, ...] = ()) -> WantedDatabase:
    """The names of a new one: of nothing that anybody could guess, so that no two ever meet."""
    name = base32_digest("verification", management_id, token)
    return WantedDatabase(
        database=f"{PREFIX}{name}",
        management_id=management_id,
        tenant_hash=base32_digest("verification-stamp", management_id, token),
        record=f"{SCRATCH_RECORD}{name}",
        connection_limit=CONNECTIONS,
        extensions=extensions,
    )


@asynccontextmanager
async def made(kit: BackupKit, scratch: Scratch) -> AsyncIterator[None]:
    """There is one, empty and settled, and nobody can log in; dropped at the end, as far as the server lets us.

    Raises:
        DatabaseError: it can't be made, or is there already: what an earlier attempt has left in it would be taken for
            the backup's.
    """
    admin, wanted = scratch.server.admin, scratch.wanted
    try:
        left = await admin.inspect(wanted)
        if left.exists or left.claim is not None:
            raise DatabaseError(f"what an earlier attempt has left in {wanted.database} is not dropped yet")
        # Beyond `maxDatabases`, too: that is about tenants, and a server that is full has the most to be looked after.
        claim = await admin.claim(wanted, max_databases=None)
        if claim is None or not is_own(claim, wanted):
            raise DatabaseError(f"the name {wanted.database} is claimed already")
        await admin.ensure_roles(wanted)
        await admin.ensure_database(wanted)
        await admin.settle(wanted)
        yield
    finally:
        try:
            async with asyncio.timeout(DROP_SECONDS):
                await drop(kit, scratch.server, wanted)
        except (DatabaseError, TimeoutError) as error:
            logger.warning("%s stays until the next look at its server: %s", wanted.database, error)


async def drop(kit: BackupKit, server: Server, wanted: WantedDatabase) -> None:
    """Remove all of one: the role that counted in it, the database, its roles, and at last its claim.

    Raises:
        DatabaseError: what stands in the way; safe to try again.
    """
    await kit.dumper.forget(server, wanted)
    await mark_dropping(server, wanted)
    await drop_database(server, wanted)


async def sweep(kit: BackupKit, server: Server, management_id: str, in_use: Collection[str]) -> None:
    """Drop what dead processes have left on a server: all there is, but for the databases that this one works on.

    Raises:
        DatabaseError: the server does not answer, or something is in the way.
    """
    for claim in await server.admin.claims(management_id):
        if not is_scratch(claim) or claim.database in in_use:
            continue
        logger.info("%s is what an operator has left that has died: it is dropped", claim.database)
        left = WantedDatabase(claim.database, claim.management_id, claim.tenant_hash, claim.record, CONNECTIONS)
        await drop(kit, server, left)


def is_scratch(claim: DatabaseClaim) -> bool:
    """Whether a claim is that of a scratch database."""
    return claim.record.startswith(SCRATCH_RECORD) and claim.database.startswith(PREFIX)
