"""What a deletion does to a database so that it can be undone: shut, and with all its data where it is."""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from tenantry.adapters.postgres import claims, rules, sessions, snapshot, statements
from tenantry.adapters.postgres.connections import Connections
from tenantry.adapters.postgres.lockout import Lockout, lock_out, no_login
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import DatabaseError, WantedDatabase


async def park(connections: Connections, wanted: WantedDatabase, purge_after: datetime | None) -> bool:
    """See `PostgresAdmin.park`."""
    if purge_after is not None and purge_after.tzinfo is None:
        raise DatabaseError(f"the time when database {wanted.database} may go has no time zone")
    async with connections.home() as connection:
        before = await snapshot.read(connection, wanted)
        if not rules.claimed(before, wanted, "creating", "ready", "parked"):
            return False
        parked = rules.claimed(before, wanted, "parked")
        as_wanted = parked and before.claim is not None and before.claim.purge_after == purge_after
        if not as_wanted and not await claims.park(connection, wanted, purge_after):
            return False
        close = Lockout(wanted, (wanted.owner, *wanted.logins), ("parked",), lambda now: _close(now, wanted))
        done = await lock_out(connections, connection, close)
        if done is None:
            return False
        if not parked and done.before.database is not None:
            # Others than the tenant are ended only once: later it may be the final backup that is at it.
            await sessions.end(connection, done.before, rules.own_roles(done.before, wanted), wanted.database)
    return True


async def unpark(connections: Connections, wanted: WantedDatabase) -> bool:
    """See `PostgresAdmin.unpark`."""
    async with connections.home() as connection:
        now = await snapshot.read(connection, wanted)
        stamped = now.database is not None and rules.Stamp.parse(now.database.comment) == rules.Stamp.of(wanted)
        return await claims.unpark(connection, wanted, complete=stamped)


def _close(now: Snapshot, wanted: WantedDatabase) -> list[sql.Composed]:
    """No way in for the tenant's roles: not by the database's privileges, and not by the logins."""
    todo = no_login(now, rules.own_roles(now, wanted))
    if now.database is not None:
        todo += statements.take_back(now.database, wanted)
        grantees = {grant.grantee for grant in rules.tenant_grants(now.database, wanted)}
        todo += [statements.revoke_all(wanted.database, grantee) for grantee in sorted(grantees)]
    return todo
