"""The sessions of a tenant's roles: seen, counted, and ended, also those that are only starting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from tenantry.adapters.postgres import errors, statements
from tenantry.adapters.postgres.connections import Connection
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import DatabaseError

PATIENCE: Final = 10.0
"""Seconds for sessions to be gone that were told to; one that reads from a dead disk may take longer."""

_HASTE: Final = 1.0
"""Seconds in which any session has started, unless its client made it slow."""

_PAUSE: Final = 0.02
"""Seconds between two looks."""

_ANY: Final = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = ANY (%s))"

_LOOK: Final = """
SELECT pid, usename::text, application_name, host(client_addr) FROM pg_stat_activity
 WHERE usename = ANY (%s) AND backend_type = 'client backend' AND pid <> pg_backend_pid()
 ORDER BY backend_start
"""

_TELL: Final = """
WITH doomed AS MATERIALIZED (
  SELECT pid, usename, application_name, client_addr FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid
   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
     AND (usename = ANY (%(roles)s) OR datname = %(database)s)
     AND (pg_has_role(usesysid, 'USAGE') OR NOT rolsuper AND pg_has_role('pg_signal_backend', 'USAGE')))
SELECT pid, usename::text, application_name, host(client_addr), pg_terminate_backend(pid) FROM doomed
"""
"""Those that the admin role may end. Not to wait for each in turn lets a tenant's others not reconnect meanwhile."""

_STARTING: Final = """
SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
 WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'RowExclusiveLock'
   AND d.datname = %s AND l.pid <> pg_backend_pid()
"""
"""A new session holds this lock on its database from before the check of its privileges there until after it shows in
pg_stat_activity."""


@dataclass(frozen=True, slots=True)
class Session:
    """A client's session; `application` and `address` are a stranger's text, the latter None for a local socket."""

    pid: int
    login: str
    application: str
    address: str | None


@asynccontextmanager
async def acting_for(connection: Connection, now: Snapshot, names: Sequence[str]) -> AsyncIterator[None]:
    """The admin role has the roles' privileges in here, by memberships that are rolled back at the end.

    To stay a member of a login would be in the way: whatever the admin role then does to an object of the login's, it
    does in its name, and no longer in that of the owner role, who may have granted something, too (see dropping.py).
    """
    missing = [name for name in names if name in now.roles and not now.roles[name].usable]
    async with connection.transaction(force_rollback=True):
        if missing:
            await connection.execute(statements.grant_to_admin(now.version, missing))
        yield


async def look(connection: Connection, now: Snapshot, names: Sequence[str]) -> tuple[Session, ...]:
    """The client sessions of these roles, in all databases, oldest first. Writes nothing where there are none.

    Names of users are open to everybody, but not where a session comes from.
    """
    if not await _any(connection, names):
        return ()
    async with acting_for(connection, now, names):
        cursor = await connection.execute(_LOOK, (list(names),))
        return tuple([Session(*row) for row in await cursor.fetchall()])


async def tell(
    connection: Connection, now: Snapshot, names: Sequence[str], database: str | None = None
) -> tuple[Session, ...]:
    """Tell the sessions of these roles, and all others in `database` that the admin role may end, to end at once.

    Inside a transaction only sessions that were there at its first look are seen.
    """
    if database is None and not await _any(connection, names):
        return ()
    async with acting_for(connection, now, names):
        cursor = await connection.execute(_TELL, {"roles": list(names), "database": database})
        return tuple([Session(*row[:4]) for row in await cursor.fetchall()])


async def end(
    connection: Connection, now: Snapshot, names: Sequence[str], database: str | None = None
) -> tuple[Session, ...]:
    """As `tell`, until there are none; all that were ended. The roles must be locked, or more may come for ever.

    Raises:
        DatabaseError: SQLSTATE 55006, if there are still some after `PATIENCE`.
    """
    ended: dict[int, Session] = {}
    limit = asyncio.get_running_loop().time() + PATIENCE
    while found := await tell(connection, now, names, database):
        ended |= {session.pid: session for session in found}
        await _wait(limit, "sessions that were told to end are still there")
    return tuple(ended.values())


async def end_starting(connection: Connection, now: Snapshot, names: Sequence[str], database: str) -> None:
    """Wait until the sessions that are just starting in `database` are visible, and end slow ones of these roles.

    What starts later sees what has been committed. A client can make its start as long as it likes (post_auth_delay),
    and until then nobody can see whose it is: the server says which of them the admin role may end.

    Raises:
        DatabaseError: SQLSTATE 55006, if one does not get on within `PATIENCE`.
    """
    begun = asyncio.get_running_loop().time()
    known = await _starting(connection, database)
    while known:
        if asyncio.get_running_loop().time() > begun + _HASTE:
            for pid in known:
                await _tell_starting(connection, now, names, pid)
        await _wait(begun + PATIENCE, "a session that is starting neither ends nor gets on")
        known &= await _starting(connection, database)


async def _any(connection: Connection, names: Sequence[str]) -> bool:
    cursor = await connection.execute(_ANY, (list(names),))
    return await cursor.fetchone() == (True,)


async def _starting(connection: Connection, database: str) -> set[int]:
    cursor = await connection.execute(_STARTING, (database,))
    return {pid for (pid,) in await cursor.fetchall()}


async def _tell_starting(connection: Connection, now: Snapshot, names: Sequence[str], pid: int) -> None:
    try:
        async with acting_for(connection, now, names):
            await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    except psycopg.errors.InsufficientPrivilege:
        return


async def _wait(limit: float, what: str) -> None:
    if asyncio.get_running_loop().time() > limit:
        raise DatabaseError(f"{what} after {PATIENCE:.0f} s", sqlstate=errors.IN_USE)
    await asyncio.sleep(_PAUSE)
