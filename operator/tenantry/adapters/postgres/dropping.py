"""The end of a tenant's database and roles, against whatever its sessions, or another tenant, hold on to them with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import rules, sessions, snapshot, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.dumping import drop_role
from tenantry.adapters.postgres.lockout import ATTEMPTS, Lockout, lock_out, no_login, roll_back
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import DatabaseError, WantedDatabase

_INVALID: Final = -2
"""The connection limit of a database whose DROP was interrupted: it can only be dropped again."""

_PREPARED: Final = """
SELECT database::text, owner::text, gid, pg_has_role(owner, 'USAGE') FROM pg_prepared_xacts WHERE database = %s
"""

_REFERRING_DATABASES: Final = """
SELECT DISTINCT d.datname::text, d.datallowconn AND pg_has_role(d.datdba, 'USAGE'),
       (SELECT array_agg(o.rolname::text) FROM pg_roles o
         WHERE shobj_description(o.oid, 'pg_authid') = shobj_description(d.oid, 'pg_database')
           AND NOT pg_has_role(o.oid, 'USAGE'))
  FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = ANY (%s)
"""

_HOLDERS: Final = """
SELECT DISTINCT a.pid, coalesce(a.usename, x.owner)::text AS holder, x.database::text, x.gid,
       pg_has_role(coalesce(a.usename, x.owner), 'USAGE') AS member,
       (SELECT shobj_description(r.oid, 'pg_authid') FROM pg_roles r WHERE r.rolname = coalesce(a.usename, x.owner))
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_locks own ON own.virtualtransaction = l.virtualtransaction AND l.pid IS NULL AND own.pid IS NULL
                        AND own.locktype = 'transactionid'
  LEFT JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
 WHERE l.locktype = 'object' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND coalesce(a.usename, x.owner) IS NOT NULL
   AND (l.classid = 'pg_authid'::regclass AND l.objid IN (SELECT oid FROM pg_roles WHERE rolname = ANY (%(roles)s))
        OR l.classid = 'pg_database'::regclass
           AND l.objid = (SELECT oid FROM pg_database WHERE datname = %(database)s))
"""
"""Sessions and prepared transactions that keep the database or roles from being dropped: any tenant may grant something
to another's role, or set a parameter of its own role for another's database, and leave the transaction open."""


async def drop(connections: Connections, wanted: WantedDatabase) -> None:
    """All of it, from any state between whole and gone.

    Raises:
        DatabaseError: if the claim is not in `dropping`, if the database is somebody else's, or if something that is
            not the operator's to end (a superuser's session, a replication slot in use) holds it: SQLSTATE 55006.
    """
    names = (wanted.owner, *wanted.logins)
    async with connections.home() as connection:
        now = await snapshot.read(connection, wanted)
        rules.require_claim(now, wanted, "dropping")
        rules.require_own_database(now, wanted)
        own = rules.own_roles(now, wanted)
        lock = Lockout(wanted, names, ("dropping",), lambda now: _lock(now, wanted))
        if await lock_out(connections, connection, lock) is None:
            return  # another operator was quicker: nothing is this tenant's any more
        if now.database is not None:
            await sessions.tell(connection, now, own, wanted.database)
            await _roll_back_prepared(connections, connection, now, wanted)
            if now.database.connection_limit != _INVALID:
                await connection.execute(_close(wanted.database))
                await sessions.end(connection, now, own, wanted.database)
            await _drop_database(connections, connection, wanted)
        with suppress(DatabaseError):  # one of that name that is not ours is nobody's business here
            await drop_role(connection, wanted)  # of a dump whose operator has died
    if own:
        await _drop_roles(connections, wanted, own)


def _lock(now: Snapshot, wanted: WantedDatabase) -> list[sql.Composed]:
    """No new session of the tenant; and the admin role gets its privileges for good, for whatever is to be taken away.

    An unstamped role is not ours, not even now: roles are born with their stamp.
    """
    own = rules.own_roles(now, wanted)
    todo = no_login(now, own)
    if missing := [name for name in own if not now.roles[name].usable]:
        todo.append(statements.grant_to_admin(now.version, missing))
    return todo


def _close(database: str) -> sql.Composed:
    return statements.named(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false"), database)


async def _roll_back_prepared(
    connections: Connections, home: Connection, now: Snapshot, wanted: WantedDatabase
) -> None:
    """End the transactions that were prepared for two-phase commit in the database: no DROP DATABASE ends them."""
    cursor = await home.execute(_PREPARED, (wanted.database,))
    prepared = await cursor.fetchall()
    if prepared and now.database is not None and not now.database.allow_connections:
        await home.execute(statements.open_database(wanted.database))
    await roll_back(connections, home, prepared)


async def _drop_database(connections: Connections, connection: Connection, wanted: WantedDatabase) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            await connection.execute(statements.drop_database(wanted.database))
        except psycopg.errors.LockNotAvailable:
            if not left:
                raise
        else:
            return
        await _end_holders(connections, connection, wanted)


async def _drop_roles(connections: Connections, wanted: WantedDatabase, names: Sequence[str]) -> None:
    """Drop the roles, taking away first what others granted them, for that holds a role as firmly as owning does."""
    for attempt in range(ATTEMPTS):
        last = attempt == ATTEMPTS - 1
        async with connections.home() as connection:
            try:
                await connection.execute(statements.drop_roles(names))
            except psycopg.errors.DependentObjectsStillExist:
                if last:
                    raise _held(names) from None
            except psycopg.errors.LockNotAvailable:
                if last:
                    raise
                await _end_holders(connections, connection, wanted)
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
        if not all(accessible for _, accessible, _ in referring):
            raise _held(names)
        for database, _, roles in referring:
            joined = roles if as_logins else None
            if joined:
                await connection.execute(statements.grant_to_admin(connection.info.server_version, joined))
            try:
                async with connections.to(database) as inside:
                    await inside.execute(statements.drop_owned(names))
            finally:
                if joined:
                    await connection.execute(statements.revoke_from_admin(joined))


async def _end_holders(connections: Connections, connection: Connection, wanted: WantedDatabase) -> None:
    """End what other tenants' transactions hold the database or the roles with; nobody's that is not a tenant's."""
    values = {"roles": [wanted.owner, *wanted.logins], "database": wanted.database}
    cursor = await connection.execute(_HOLDERS, values)
    for pid, role, database, gid, member, comment in await cursor.fetchall():
        if rules.Stamp.parse(comment) is None:
            continue
        if gid is not None:
            await roll_back(connections, connection, [(database, role, gid, member)])
            continue
        async with connection.transaction(force_rollback=True):
            if not member:
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
