"""Ending sessions of tenants that hold up new connections to databases which are not theirs."""

from __future__ import annotations

import logging
from typing import Final

from psycopg import sql

from tenantry.adapters.postgres import statements
from tenantry.adapters.postgres.connections import Connection

logger = logging.getLogger(__name__)

_FIND: Final = """
SELECT DISTINCT a.pid, a.usename::text, d.datname::text, pg_has_role(a.usesysid, 'USAGE')
  FROM pg_locks l JOIN pg_database d ON d.oid = l.objid JOIN pg_stat_activity a ON a.pid = l.pid
  JOIN public.claims c ON a.usename = ANY (ARRAY[c.database || '_0', c.database || '_1'])
 WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND d.datname <> c.database
   AND EXISTS (SELECT FROM pg_locks w WHERE w.locktype = 'object' AND w.classid = l.classid AND w.objid = l.objid
                  AND w.mode = 'AccessExclusiveLock' AND NOT w.granted)
 ORDER BY 1
"""
"""Whoever asks to rename or drop a database waits for its lock first and is refused afterwards. While such a one waits,
behind a lock that `ALTER ROLE ... IN DATABASE` took and an open transaction keeps, nobody can connect to it."""


async def end(connection: Connection) -> None:
    """End them. Writes nothing where there are none.

    Args:
        connection: On the operator's database.
    """
    found = await (await connection.execute(_FIND)).fetchall()
    if not found:
        return
    for _, login, database, _ in found:
        logger.warning("login %s held up new connections to database %s: its session is ended", login, database)
    missing = sorted({login for _, login, _, usable in found if not usable})
    # A role's sessions are ended by its members: for as long as that takes, by memberships that are rolled back.
    async with connection.transaction(force_rollback=True):
        if missing:
            await connection.execute(statements.grant_to_admin(connection.info.server_version, missing))
        pids = sorted({pid for pid, *_ in found})
        await connection.execute(sql.SQL("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid"), (pids,))
