"""`DatabaseAdmin` on a real server: one idempotent step a method, after a look at whose things they are."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from tenantry.adapters.postgres import (
    claims,
    dropping,
    errors,
    home,
    inside,
    logins,
    parking,
    rules,
    snapshot,
    statements,
    strangers,
)
from tenantry.adapters.postgres.steps import CheckedSteps
from tenantry.ports.postgres import DatabaseClaim, DatabaseError, DatabaseState, LoginState, ServerFacts, WantedDatabase


class PostgresAdmin(CheckedSteps):
    """One shared PostgreSQL server (15 or newer) as its admin role, which has CREATEDB and CREATEROLE.

    Sessions are kept on database `tenantry`, which the first probe makes by way of database `postgres`. After that the
    admin role needs CONNECT on `postgres` no more. Everything raises only DatabaseError and its subclasses. Steps look
    first and write only what is wrong, so that a step on what is right writes nothing. Roles and databases that are not
    stamped with the wanted tenant's hash and management id are refused, not changed.
    """

    async def probe(self) -> ServerFacts:
        """Connect, make sure that database `tenantry` and its table are there, and read the facts.

        Tenants' sessions that just then hold up new connections to others' databases are ended.

        Raises:
            DatabaseUnreachableError: no usable answer in time; TLS failures, too.
            DatabaseCredentialsError: the role is refused or lacks a right; the message says what to grant.
        """
        self._prepared = False
        await self._prepare()
        async with self._home() as connection:
            await strangers.end(connection)
        return await home.facts(self._connections)

    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        """The state of one tenant's database by one query, and a look inside only if the shared catalogs don't tell.

        A database without a claim of ours shows as `exists` and not `stamped`.
        """
        rules.check_names(wanted)
        async with self._home() as connection:
            now = await snapshot.read(connection, wanted)
        # One that is parked, or being parked, is not, whatever has been done to it so far.
        parked = rules.claimed(now, wanted, "parked")
        settled = not parked and rules.is_right(now, wanted) and await inside.is_right(self._connections, now, wanted)
        return DatabaseState(
            claim=now.claim,
            exists=now.database is not None,
            stamped=now.database is not None and rules.Stamp.parse(now.database.comment) == rules.Stamp.of(wanted),
            settled=settled,
        )

    async def now(self) -> datetime:
        """The server's clock, in UTC."""
        async with self._home() as connection:
            cursor = await connection.execute("SELECT now() AT TIME ZONE 'UTC'")
            row = await cursor.fetchone()
            assert row is not None  # noqa: S101 - a SELECT without FROM has one row
            now: datetime = row[0].replace(tzinfo=UTC)
            return now

    async def claims(self, management_id: str) -> list[DatabaseClaim]:
        """All claims of one management cluster, by database name."""
        async with self._home() as connection:
            return await claims.of_management(connection, management_id)

    async def claim(self, wanted: WantedDatabase, *, max_databases: int | None) -> DatabaseClaim | None:
        """Commit a claim in state `creating` unless the name is claimed; the row as it then is, whosoever.

        None if the server is full; a claim that is there already is returned even then.

        Raises:
            DatabaseError: if a database of that name is there that nobody claims and that is not stamped for us.
        """
        rules.check_names(wanted)
        async with self._home() as connection:
            return await claims.claim(connection, wanted, max_databases)

    async def ensure_roles(self, wanted: WantedDatabase) -> None:
        """The owner role and both logins, without password and NOLOGIN where new; attributes put right.

        Raises:
            DatabaseError: if the name is not claimed, or a role of that name is not this tenant's.
        """
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if todo := statements.roles(now, wanted):
                await self._execute(connection, wanted, todo)

    async def ensure_database(self, wanted: WantedDatabase) -> None:
        """CREATE DATABASE from template0, owned by the admin role and closed to everybody, where it is missing.

        Raises:
            DatabaseError: if the name is not claimed, a database of that name is not this tenant's, or one that was
                `ready` is gone: data that vanished is not replaced by an empty database.
        """
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if now.database is not None:
                return
            if not rules.claimed(now, wanted, "creating"):
                raise DatabaseError(f"database {wanted.database} was ready and is gone", sqlstate="3D000")
            try:
                await home.create_database(
                    connection, wanted.database, connection_limit=rules.limit_of_database(wanted)
                )
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # a predecessor's statement that was still under way; whose it is, the next step looks

    async def settle(self, wanted: WantedDatabase) -> None:
        """Privileges, settings and limits; open it; schema public and extensions; then the stamp.

        The database is opened after PUBLIC lost its privileges and before the inside is done, for that takes a session
        in it. The logins can't log in until they have a password.

        Raises:
            DatabaseError: if the database or a role is missing or not this tenant's, or an extension can't be created
                by the tenant's own role (it is not there, or not trusted).
        """
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if now.database is None or len(now.roles) != len((wanted.owner, *wanted.logins)):
                raise DatabaseError(f"database {wanted.database} or one of its roles is not there")
            if todo := statements.database(now.database, now, wanted):
                await self._execute(connection, wanted, todo)
        if not now.database.public_schema_handed_over or wanted.extensions:
            await inside.put_right(self._connections, wanted)
        if rules.Stamp.parse(now.database.comment) is None:
            async with self._home() as connection:
                await connection.execute(statements.stamp_database(wanted))

    async def mark(self, wanted: WantedDatabase, *, before: str, after: str) -> bool:
        """Compare-and-swap of the state of this tenant's claim; False if it was not `before`."""
        async with self._home() as connection:
            return await claims.mark(connection, wanted, before=before, after=after)

    async def set_password(self, wanted: WantedDatabase, login: str, password: str) -> None:
        """LOGIN and a SCRAM-SHA-256 verifier made here by libpq; the server never sees the password.

        Raises:
            DatabaseError: if `login` is not one of the tenant's two, or not there.
        """
        rules.require_login(wanted, login)
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if login not in now.roles:
                raise DatabaseError(f"role {login} is not there")
            verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
            await self._execute(connection, wanted, [statements.set_password(login, verifier.decode())])

    async def login_works(self, wanted: WantedDatabase, login: str, password: str) -> bool:
        """Whether a tenant's login gets into its database and `SELECT current_user` is its owner role.

        False where the server refuses the password, the login or the database.

        Raises:
            DatabaseUnreachableError: no usable answer in time.
            DatabaseCredentialsError: the server lets logins in by another method than SCRAM, so it isolates nobody.
            DatabaseError: SQLSTATE 53300, the password is right but the login has used up its connections.
        """
        try:
            async with self._connections.as_tenant(wanted.database, login, password) as connection:
                cursor = await connection.execute("SELECT current_user::text")
                return await cursor.fetchone() == (wanted.owner,)
        except DatabaseError as error:
            if error.sqlstate in errors.LOGIN_REFUSED:
                return False
            raise

    async def park(self, wanted: WantedDatabase, *, purge_after: datetime | None) -> bool:
        """Shut the database so that it can be opened again: for a deletion that can still be undone.

        The claim goes from `creating`, `ready` or `parked` to `parked`. Then, in one transaction, both logins are
        NOLOGIN with their passwords kept, and nothing on the database is left to the tenant's roles and PUBLIC. Then
        all their sessions are ended, in all databases, and the first time also all others in this database that the
        admin role may end (later it may be the final backup's). The data is not touched; a transaction that was
        prepared for two-phase commit is rolled back only if it holds the row of the database or a role. What is
        missing is not made. Safe to repeat, also after a kill.

        Args:
            wanted: Whose database it is.
            purge_after: When `expire` may mark it for the drop; None for never.

        Returns:
            False if there is no claim of this tenant's, it is in `dropping`, or it was taken out of `parked` meanwhile.

        Raises:
            DatabaseError: if the database is not this tenant's (the claim is parked then); SQLSTATE 55006, if a
                session does not end.
        """
        return await parking.park(await self._ready(wanted), wanted, purge_after)

    async def unpark(self, wanted: WantedDatabase) -> bool:
        """The claim from `parked` to `ready` if the database is there with its stamp, or to `creating`; False if not.

        One that was ready when it was parked is so again even if its database is gone: no empty one is made for it.
        The ways in are opened by `ensure_roles`, `settle` and `set_password`.
        """
        return await parking.unpark(await self._ready(wanted), wanted)

    async def expire(self, wanted: WantedDatabase) -> bool:
        """The claim from `parked` to `dropping` if it is due by the server's clock; False if not."""
        async with self._home() as connection:
            return await claims.expire(connection, wanted)

    async def lock_logins(self, wanted: WantedDatabase) -> None:
        """NOLOGIN for both logins, and their sessions ended; passwords, privileges and data stay.

        `set_password` unlocks one. Writes nothing where they are locked and idle.

        Raises:
            DatabaseError: if the name is not claimed or the database not this tenant's; SQLSTATE 55006, if a session
                does not end.
        """
        await logins.lock_all(await self._ready(wanted), wanted)

    async def logins(self, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
        """Both logins and who uses them, in any database, whatever state the claim is in.

        Not seen are: a session that is just starting, one's past (a client that only connects for each query is there
        or not by chance), who is behind a pooler, and transactions that were prepared for two-phase commit.
        """
        return await logins.states(await self._ready(wanted), wanted)

    async def lock_login(self, wanted: WantedDatabase, login: str, *, end_sessions: bool) -> LoginState:
        """NOLOGIN and no password for one of the logins; what it was and who was there before.

        The check that the other one can log in and the lock are one transaction, with the claim held, so that two
        operators never lock both.

        Args:
            wanted: Whose login it is.
            login: One of `wanted.logins`.
            end_sessions: End those of this login, else they go on.

        Raises:
            DatabaseError: if the other login can't log in, or this one is not there or not this tenant's; SQLSTATE
                55006, if a session does not end; SQLSTATE 55P03, without `end_sessions`, if one of its sessions holds
                the role's row in an open transaction.
        """
        return await logins.lock(await self._ready(wanted), wanted, login, end_sessions=end_sessions)

    async def reassign(self, wanted: WantedDatabase) -> None:
        """Give to the owner role what the logins themselves own in the tenant's database; all of it or nothing.

        One query in the operator's database if there is nothing to do. Default privileges that a login set for itself
        stay: they concern only what this very login makes as itself.

        Raises:
            DatabaseError: if the claim or the database is not this tenant's; SQLSTATE 55P03, if a session uses one of
                the objects; SQLSTATE 42501, if the owner role took away its own right to create in the object's schema,
                or an event trigger there would run code that is no superuser's.
        """
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if now.database is not None and now.database.owner in {wanted.owner, *wanted.logins}:
                raise DatabaseError(f"database {wanted.database} belongs to its tenant: it must be settled first")
            strays = await inside.has_strays(connection, wanted)
        if strays:
            await inside.reassign(self._connections, now, wanted)

    async def drop(self, wanted: WantedDatabase) -> None:
        """Lock the logins, end the sessions, drop the database and the roles. Needs the claim in `dropping`.

        Raises:
            DatabaseError: see `dropping.drop`.
        """
        await dropping.drop(await self._ready(wanted), wanted)

    async def release(self, wanted: WantedDatabase) -> None:
        """Delete the claim in state `dropping`: the last step. Refused while the database is there."""
        async with self._home() as connection:
            await claims.release(connection, wanted)
