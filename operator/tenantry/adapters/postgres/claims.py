"""The table that says whose a database name is on a server, for all management clusters that share it."""

from __future__ import annotations

from typing import Final

from tenantry.adapters.postgres import rules
from tenantry.adapters.postgres.connections import Connection
from tenantry.ports import DatabaseClaim, DatabaseError, WantedDatabase

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('tenantry.io/claims'))"

_FIND: Final = (
    "SELECT database, management_id, tenant_hash, record, state FROM public.claims WHERE database = %(database)s"
)

_FOREIGN: Final = (
    "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
    " WHERE datname = %(database)s AND NOT EXISTS (SELECT FROM public.claims WHERE database = %(database)s)"
)

_INSERT: Final = """
INSERT INTO public.claims (database, management_id, tenant_hash, record, state)
SELECT %(database)s, %(management_id)s, %(tenant_hash)s, %(record)s, 'creating'
 WHERE %(max)s::int IS NULL OR (SELECT count(*) FROM public.claims) < %(max)s
ON CONFLICT (database) DO NOTHING
"""


async def of_management(connection: Connection, management_id: str) -> list[DatabaseClaim]:
    """All claims of one management cluster, by database name."""
    cursor = await connection.execute(
        "SELECT database, management_id, tenant_hash, record, state FROM public.claims"
        " WHERE management_id = %s ORDER BY database",
        (management_id,),
    )
    return [DatabaseClaim(*row) for row in await cursor.fetchall()]


async def claim(connection: Connection, wanted: WantedDatabase, max_databases: int | None) -> DatabaseClaim | None:
    """The row for the name as it then is, whosoever; None if there is no room for a new one.

    Raises:
        DatabaseError: if nobody has a claim but there is a database of that name without this tenant's stamp. To claim
            it would make it look like a half-made one of ours, which may be dropped.
    """
    values = {
        "database": wanted.database,
        "management_id": wanted.management_id,
        "tenant_hash": wanted.tenant_hash,
        "record": wanted.record,
        "max": max_databases,
    }
    async with connection.pipeline(), connection.transaction():
        if max_databases is not None:
            await connection.execute(_LOCK)
        foreign = await connection.execute(_FOREIGN, values)
        inserted = await connection.execute(_INSERT, values)
        found = await connection.execute(_FIND, values)
        comment = await foreign.fetchone()
        if comment is not None and inserted.rowcount and rules.Stamp.parse(comment[0]) != rules.Stamp.of(wanted):
            raise DatabaseError(f"database {wanted.database} is there already and is not this tenant's")
        row = await found.fetchone()
    return DatabaseClaim(*row) if row else None


async def mark(connection: Connection, wanted: WantedDatabase, *, before: str, after: str) -> bool:
    """Compare-and-swap of the state of an own claim."""
    cursor = await connection.execute(
        "UPDATE public.claims SET state = %s"
        " WHERE database = %s AND management_id = %s AND tenant_hash = %s AND state = %s",
        (after, wanted.database, wanted.management_id, wanted.tenant_hash, before),
    )
    return cursor.rowcount == 1


async def release(connection: Connection, wanted: WantedDatabase) -> None:
    """Delete an own claim in `dropping`, once the database is gone; no error if there is no such claim.

    Raises:
        DatabaseError: if the database is still there.
    """
    cursor = await connection.execute(
        "WITH there AS (SELECT FROM pg_database WHERE datname = %(database)s), gone AS ("
        " DELETE FROM public.claims WHERE database = %(database)s AND management_id = %(management_id)s"
        " AND tenant_hash = %(tenant_hash)s AND state = 'dropping' AND NOT EXISTS (SELECT FROM there))"
        "SELECT EXISTS (SELECT FROM there), EXISTS (SELECT FROM public.claims WHERE database = %(database)s"
        " AND management_id = %(management_id)s AND tenant_hash = %(tenant_hash)s)",
        {"database": wanted.database, "management_id": wanted.management_id, "tenant_hash": wanted.tenant_hash},
    )
    row = await cursor.fetchone()
    if row == (True, True):
        raise DatabaseError(f"database {wanted.database} is still there: its claim is kept")
