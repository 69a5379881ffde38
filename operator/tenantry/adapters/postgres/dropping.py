"""The end of a tenant's database and roles, against whatever its sessions, or another tenant, hold on to them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import rules, snapshot, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports import DatabaseError, WantedDatabase

_ATTEMPTS: Final = 4
"""To drop the roles: another tenant may grant them something again between the clearing and the drop."""

_INVALID: Final = -2
"""The connection limit of a database whose DROP was interrupted: it can only be dropped again."""

_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid, 5000)
  FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid
 WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND (pg_has_role(usesysid, 'USAGE') OR NOT rolsuper AND pg_has_role('pg_signal_backend', 'USAGE'))
"""
"""Those that the admin role may end. DROP DATABASE WITH (FORCE) is not used: it fails on any other, among them an
autovacuum worker, which the plain one ends by itself."""

_PREPARED: Final = "SELECT gid, owner::text FROM pg_prepared_xacts WHERE database = %s"

_REFERRING_DATABASES: Final = """
SELECT DISTINCT d.datname::text, d.datallowconn AND pg_has_role(d.datdba, 'USAGE'),
       (SELECT array_agg(o.rolname::text) FROM pg_roles o
         WHERE shobj_description(o.oid, 'pg_authid') = shobj_description(d.oid, 'pg_database'))
  FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = ANY (%s)
"""

_LOCKING_SESSIONS: Final = """
SELECT DISTINCT a.pid, a.usename::text, shobj_description(a.usesysid, 'pg_authid')
  FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_roles r ON r.oid = l.objid
 WHERE l.locktype = 'object' AND l.classid = 'pg_authid'::regclass AND l.granted
   AND r.rolname = ANY (%s) AND a.pid <> pg_backend_pid()
"""


async def drop(connections: Connections, wanted: WantedDatabase) -> None:
    """All of it, from any state between whole and gone.

    Raises:
        DatabaseError: if the claim is not in `dropping`, if the database is somebody else's, or if something that is
            not the operator's to end (a superuser's session, a replication slot in use) holds it: SQLSTATE 55006.
    """
    async with connections.home() as connection:
        now = await snapshot.read(connection, wanted)
        rules.require_claim(now, wanted, "dropping")
        rules.require_own_database(now, wanted)
        # An unstamped role is not ours, not even now: roles are born with their stamp.
        own = [name for name, role in now.roles.items() if rules.Stamp.parse(role.comment) == rules.Stamp.of(wanted)]
        if own:
            await connection.execute(statements.batch(_lock_out(now, own)))
        if now.database is not None:
            await connection.execute(_END_SESSIONS, (wanted.database,))
            await _roll_back_prepared(connections, connection, now, wanted)
            if now.database.connection_limit != _INVALID:
                await connection.execute(_close(wanted.database))
                await connection.execute(_END_SESSIONS, (wanted.database,))
            await connection.execute(statements.drop_database(wanted.database))
    if own:
        await _drop_roles(connections, own)


def _lock_out(now: Snapshot, own: Sequence[str]) -> list[sql.Composed]:
    """No new session of the tenant; and the admin role gets its privileges, for ending the sessions that there are."""
    todo = [statements.named(sql.SQL("ALTER ROLE {} NOLOGIN"), name) for name in own if now.roles[name].login]
    if missing := [name for name in own if not now.roles[name].usable]:
        todo.append(statements.grant_to_admin(now.version, missing))
    return todo


def _close(database: str) -> sql.Composed:
    return statements.named(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false"), database)


async def _roll_back_prepared(
    connections: Connections, home: Connection, now: Snapshot, wanted: WantedDatabase
) -> None:
    """End the transactions that the tenant prepared for two-phase commit: no DROP DATABASE ends them.

    It takes the role that prepared them, in that database.
    """
    cursor = await home.execute(_PREPARED, (wanted.database,))
    prepared = await cursor.fetchall()
    if not prepared:
        return
    if now.database is not None and not now.database.allow_connections:
        await home.execute(statements.open_database(wanted.database))
    async with connections.to(wanted.database) as inside:
        for gid, owner in prepared:
            await inside.execute(statements.named(sql.SQL("SET ROLE {}"), owner))
            await inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
            await inside.execute("RESET ROLE")


async def _drop_roles(connections: Connections, names: Sequence[str]) -> None:
    """Drop the roles, taking away first what others granted them, for that holds a role as firmly as owning does."""
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        async with connections.home() as connection:
            try:
                await connection.execute(statements.drop_roles(names))
            except psycopg.errors.DependentObjectsStillExist:
                if last:
                    raise _held(names) from None
            except psycopg.errors.LockNotAvailable:
                if last:
                    raise
                await _end_locking_sessions(connection, names)
            else:
                return
        await _take_away(connections, names, as_logins=attempt > 0)


async def _take_away(connections: Connections, names: Sequence[str], *, as_logins: bool) -> None:
    """Revoke what the roles were granted on shared objects and in other databases.

    A grant is taken back in the name of whoever owns the object, if the admin role is a member of that, or else of who
    may grant it on. Of other tenants it is at first a member of the owner roles only, and with `as_logins` of the
    logins, too: the one finds what a login let its owner role pass on, the other what a login gave away itself.
    """
    async with connections.home() as connection:
        await connection.execute(statements.drop_owned(names))
        cursor = await connection.execute(_REFERRING_DATABASES, (list(names),))
        referring = await cursor.fetchall()
        for _, accessible, roles in referring:
            if not accessible:
                raise _held(names)
            if as_logins and roles:
                await connection.execute(statements.grant_to_admin(connection.info.server_version, roles))
    for database, _, _ in referring:
        async with connections.to(database) as inside:
            await inside.execute(statements.drop_owned(names))


async def _end_locking_sessions(connection: Connection, names: Sequence[str]) -> None:
    """End other tenants' sessions that granted something to the roles and left the transaction open."""
    cursor = await connection.execute(_LOCKING_SESSIONS, (list(names),))
    for pid, role, comment in await cursor.fetchall():
        if rules.Stamp.parse(comment) is not None:
            await connection.execute(statements.grant_to_admin(connection.info.server_version, [role]))
            await connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def _held(names: Sequence[str]) -> DatabaseError:
    """Doesn't say where, for that may be another tenant's database; the server tells its owner, who may know."""
    listed = ", ".join(names)
    return DatabaseError(
        f"roles {listed} can't be dropped: they were granted something in another database of this server. "
        f"DROP ROLE {listed}, run by the server's owner, says what and where; REVOKE that",
        sqlstate="2BP01",
    )
