"""The table that says whose a database name is on a server, for all management clusters that share it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from psycopg import sql

from tenantry.adapters.postgres import rules, snapshot
from tenantry.adapters.postgres.connections import Connection
from tenantry.ports.postgres import SCRATCH_RECORD, DatabaseClaim, DatabaseError, WantedDatabase

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('tenantry.io/claims'))"

_OWN: Final = sql.SQL("database = %(database)s AND management_id = %(management_id)s AND tenant_hash = %(tenant_hash)s")

_FIND: Final = sql.SQL(
    "SELECT row_to_json(c) FROM (SELECT {} FROM public.claims WHERE database = %(database)s) c"
).format(snapshot.CLAIM_COLUMNS)

_FIND_ALL: Final = sql.SQL(
    "SELECT row_to_json(c) FROM (SELECT {} FROM public.claims WHERE management_id = %s) c ORDER BY c.database"
).format(snapshot.CLAIM_COLUMNS)

_PARK: Final = sql.SQL(
    "UPDATE public.claims SET state = 'parked', purge_after = %(purge_after)s::timestamptz,"
    " parked_from = CASE state WHEN 'parked' THEN parked_from ELSE state END"
    " WHERE {} AND (state, purge_after) IS DISTINCT FROM ('parked', %(purge_after)s::timestamptz)"
).format(_OWN)

_UNPARK: Final = sql.SQL(
    "UPDATE public.claims SET purge_after = NULL, parked_from = NULL,"
    " state = CASE WHEN %(complete)s OR parked_from = 'ready' THEN 'ready' ELSE 'creating' END"
    " WHERE {} AND state = 'parked'"
).format(_OWN)

_EXPIRE: Final = sql.SQL(
    "UPDATE public.claims SET state = 'dropping' WHERE {} AND state = 'parked' AND purge_after <= now()"
).format(_OWN)

_HOLD: Final = sql.SQL("SELECT state FROM public.claims WHERE {} FOR {}")

_FOREIGN: Final = (
    "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
    " WHERE datname = %(database)s AND NOT EXISTS (SELECT FROM public.claims WHERE database = %(database)s)"
)

# What is there for a moment only, and is nobody's, takes no tenant's place.
_INSERT: Final = """
INSERT INTO public.claims (database, management_id, tenant_hash, record, state)
SELECT %(database)s, %(management_id)s, %(tenant_hash)s, %(record)s, 'creating'
 WHERE %(max)s::int IS NULL
    OR (SELECT count(*) FROM public.claims WHERE record NOT LIKE %(scratch)s) < %(max)s
ON CONFLICT (database) DO NOTHING
"""


async def of_management(connection: Connection, management_id: str) -> list[DatabaseClaim]:
    """All claims of one management cluster, by database name."""
    cursor = await connection.execute(_FIND_ALL, (management_id,))
    return [snapshot.parse_claim(row) for (row,) in await cursor.fetchall()]


async def claim(connection: Connection, wanted: WantedDatabase, max_databases: int | None) -> DatabaseClaim | None:
    """The row for the name as it then is, whosoever; None if there is no room for a new one.

    Raises:
        DatabaseError: if nobody has a claim but there is a database of that name without this tenant's stamp. To claim
            it would make it look like a half-made one of ours, which may be dropped.
    """
    values = _values(wanted, record=wanted.record, max=max_databases, scratch=f"{SCRATCH_RECORD}%")
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
    return snapshot.parse_claim(row[0]) if row else None


async def mark(connection: Connection, wanted: WantedDatabase, *, before: str, after: str) -> bool:
    """Compare-and-swap of the state of an own claim."""
    cursor = await connection.execute(
        "UPDATE public.claims SET state = %s"
        " WHERE database = %s AND management_id = %s AND tenant_hash = %s AND state = %s",
        (after, wanted.database, wanted.management_id, wanted.tenant_hash, before),
    )
    return cursor.rowcount == 1


async def park(connection: Connection, wanted: WantedDatabase, purge_after: datetime | None) -> bool:
    """An own claim to `parked`, which remembers what it was; False if there is none or it is in `dropping`.

    Nothing is written where it is parked until then already.
    """
    async with connection.transaction():
        if not await hold(connection, wanted, "creating", "ready", "parked", alone=True):
            return False
        await connection.execute(_PARK, _values(wanted, purge_after=purge_after))
    return True


async def unpark(connection: Connection, wanted: WantedDatabase, *, complete: bool) -> bool:
    """An own claim from `parked` to `ready` or `creating`.

    One that was ready before is so again even if its database is gone: otherwise an empty one would be made silently.
    """
    cursor = await connection.execute(_UNPARK, _values(wanted, complete=complete))
    return cursor.rowcount == 1


async def expire(connection: Connection, wanted: WantedDatabase) -> bool:
    """An own claim from `parked` to `dropping` if it is due by the server's clock."""
    cursor = await connection.execute(_EXPIRE, _values(wanted))
    return cursor.rowcount == 1


async def hold(connection: Connection, wanted: WantedDatabase, *states: str, alone: bool = False) -> bool:
    """Whether an own claim is in one of the states; if so it stays there until the end of the transaction.

    With `alone` no other operator gets past its own `hold` meanwhile.
    """
    cursor = await connection.execute(
        _HOLD.format(_OWN, sql.SQL("UPDATE") if alone else sql.SQL("SHARE")), _values(wanted)
    )
    row = await cursor.fetchone()
    return row is not None and row[0] in states


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
        _values(wanted),
    )
    row = await cursor.fetchone()
    if row == (True, True):
        raise DatabaseError(f"database {wanted.database} is still there: its claim is kept")


def _values(wanted: WantedDatabase, **more: Any) -> dict[str, Any]:
    return {
        "database": wanted.database,
        "management_id": wanted.management_id,
        "tenant_hash": wanted.tenant_hash,
        **more,
    }
