"""Changes that shut a tenant's logins out, which no transaction that the tenant holds open can hold up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import claims, rules, sessions, snapshot, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.sessions import Session
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import WantedDatabase

ATTEMPTS: Final = 4
"""To get a lock: those who hold it are ended just before, but may have been ready to come back at once."""

Changes: TypeAlias = Callable[[Snapshot], list[sql.Composed]]

_BLOCKING_PREPARED: Final = """
SELECT x.database::text, x.owner::text, x.gid, pg_has_role(x.owner, 'USAGE') FROM pg_prepared_xacts x
 WHERE x.owner = ANY (%(roles)s) AND (
       EXISTS (SELECT FROM pg_database d WHERE d.datname = %(database)s AND d.xmax = x.transaction)
    OR EXISTS (SELECT FROM pg_locks own JOIN pg_locks l USING (virtualtransaction)
                WHERE own.transactionid = x.transaction AND own.pid IS NULL AND l.pid IS NULL
                  AND l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock'))
"""
"""Prepared transactions of the tenant that changed, or tried to, its database's or a role's row: a tenant may GRANT on
its database, to no effect, and ALTER its logins' passwords."""


@dataclass(frozen=True, slots=True)
class Lockout:
    """A change to a tenant's roles and database that its sessions may not hold up.

    Attributes:
        names: The roles it is about; those of them that are not this tenant's are left alone.
        states: The claim must be in one of them.
        changes: What to do, by what there is; nothing is written where it is empty.
        end_sessions: What these roles have open is ended, before the change and after it.
    """

    wanted: WantedDatabase
    names: tuple[str, ...]
    states: tuple[str, ...]
    changes: Changes
    end_sessions: bool = True

    def own(self, now: Snapshot) -> list[str]:
        """The roles it is about as far as they are the tenant's."""
        return [name for name in rules.own_roles(now, self.wanted) if name in self.names]


@dataclass(frozen=True, slots=True)
class LockedOut:
    """What there was before, and the roles' sessions that were seen or ended."""

    before: Snapshot
    seen: tuple[Session, ...]


async def lock_out(connections: Connections, connection: Connection, lockout: Lockout) -> LockedOut | None:
    """Make the change in one transaction while the claim is held; None if it was in none of the states.

    A login may hold its own role's row, and that of its database, in a transaction: so with `end_sessions` those are
    ended first, and what it prepared for two-phase commit is rolled back if it is in the way. Afterwards those are
    ended that had passed the lock and were only starting. A login's session that is between the check of the login and
    that of the database just then is missed; with the privilege to CONNECT gone it is refused, else the next call
    finds it.
    """
    done = await _insist(connections, connection, lockout)
    if done is None or not lockout.end_sessions:
        return done
    own = lockout.own(done.before)
    await sessions.end_starting(connection, done.before, own, lockout.wanted.database)
    late = await sessions.end(connection, done.before, own)
    known = {session.pid for session in done.seen}
    return replace(done, seen=(*done.seen, *(session for session in late if session.pid not in known)))


def no_login(now: Snapshot, names: Iterable[str]) -> list[sql.Composed]:
    """What locks those of the roles that may log in; their passwords stay."""
    return [statements.named(sql.SQL("ALTER ROLE {} NOLOGIN"), name) for name in names if now.roles[name].login]


async def roll_back(connections: Connections, home: Connection, prepared: Iterable[Sequence[Any]]) -> None:
    """End transactions that were prepared for two-phase commit.

    It takes the role that prepared one, in its database, and no transaction. So the admin role becomes a member of that
    role for a moment.

    Args:
        connections: For the databases they are in.
        home: A session on the operator's database.
        prepared: Database, role and name of each, and whether the admin role is a member of the role already.
    """
    for database, role, gid, member in prepared:
        if not member:
            await home.execute(statements.grant_to_admin(home.info.server_version, [role]))
        try:
            async with connections.to(database) as inside:
                await inside.execute(statements.named(sql.SQL("SET ROLE {}"), role))
                await inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        finally:
            if not member:
                await home.execute(statements.revoke_from_admin([role]))


async def _insist(connections: Connections, connection: Connection, lockout: Lockout) -> LockedOut | None:
    now = await snapshot.read(connection, lockout.wanted)
    if not rules.claimed(now, lockout.wanted, *lockout.states):
        return None
    rules.require_own_database(now, lockout.wanted)
    if not lockout.changes(now):
        return LockedOut(now, ())
    for left in reversed(range(ATTEMPTS)):
        try:
            return await _change(connection, lockout)
        except psycopg.errors.LockNotAvailable:
            if not left or not lockout.end_sessions:
                raise
        await _roll_back_blocking(connections, connection, lockout)
    raise AssertionError("the last attempt returns or raises")


async def _change(connection: Connection, lockout: Lockout) -> LockedOut | None:
    wanted = lockout.wanted
    async with connection.transaction():
        if not await claims.hold(connection, wanted, *lockout.states, alone=True):
            return None
        now = await snapshot.read(connection, wanted)
        rules.require_own_database(now, wanted)
        todo = lockout.changes(now)
        look = sessions.tell if lockout.end_sessions else sessions.look
        seen = await look(connection, now, lockout.own(now))
        if todo:
            await connection.execute(statements.batch(todo))
        return LockedOut(now, seen)


async def _roll_back_blocking(connections: Connections, connection: Connection, lockout: Lockout) -> None:
    now = await snapshot.read(connection, lockout.wanted)
    values = {"roles": rules.own_roles(now, lockout.wanted), "database": lockout.wanted.database}
    cursor = await connection.execute(_BLOCKING_PREPARED, values)
    await roll_back(connections, connection, await cursor.fetchall())
