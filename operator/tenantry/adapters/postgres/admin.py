"""`DatabaseAdmin` on a real server: one idempotent step a method, after a look at whose things they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from tenantry.adapters.postgres import claims, dropping, errors, home, inside, rules, snapshot, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.params import Limits, ServerParams
from tenantry.ports import (
    DatabaseClaim,
    DatabaseError,
    DatabaseState,
    ServerFacts,
    WantedDatabase,
)


class PostgresAdmin:
    """One shared PostgreSQL server (15 or newer) as its admin role, which has CREATEDB and CREATEROLE.

    Sessions are kept on database `tenantry`, which the first probe makes by way of database `postgres`. After that the
    admin role needs CONNECT on `postgres` no more. Everything raises only DatabaseError and its subclasses. Steps look
    first and write only what is wrong, so that a step on what is right writes nothing. Roles and databases that are not
    stamped with the wanted tenant's hash and management id are refused, not changed.
    """

    def __init__(self, params: ServerParams, limits: Limits | None = None) -> None:
        """No session is opened yet.

        Raises:
            DatabaseError: if the parameters contradict each other.
        """
        self._connections = Connections(params, limits or Limits())
        self._prepared = False
        self._preparing = asyncio.Lock()

    async def probe(self) -> ServerFacts:
        """Connect, make sure that database `tenantry` and its table are there, and read the facts.

        Raises:
            DatabaseUnreachableError: no usable answer in time; TLS failures, too.
            DatabaseCredentialsError: the role is refused or lacks a right; the message says what to grant.
        """
        self._prepared = False
        await self._prepare()
        return await home.facts(self._connections)

    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        """The state of one tenant's database by one query, and a look inside only if the shared catalogs don't tell.

        A database without a claim of ours shows as `exists` and not `stamped`.
        """
        rules.check_names(wanted)
        async with self._home() as connection:
            now = await snapshot.read(connection, wanted)
        settled = rules.is_right(now, wanted) and await inside.is_right(self._connections, now, wanted)
        return DatabaseState(
            claim=now.claim,
            exists=now.database is not None,
            stamped=now.database is not None and rules.Stamp.parse(now.database.comment) == rules.Stamp.of(wanted),
            settled=settled,
        )

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
                await connection.execute(statements.batch(todo))

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
                await connection.execute(statements.batch(todo))
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
        if login not in wanted.logins:
            raise DatabaseError(f"{login} is not a login of database {wanted.database}")
        async with self._home() as connection:
            now = await self._read_ours(connection, wanted)
            if login not in now.roles:
                raise DatabaseError(f"role {login} is not there")
            verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
            await connection.execute(statements.set_password(login, verifier.decode()))

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

    async def drop(self, wanted: WantedDatabase) -> None:
        """Lock the logins, end the sessions, drop the database and the roles. Needs the claim in `dropping`.

        Raises:
            DatabaseError: see `dropping.drop`.
        """
        rules.check_names(wanted)
        await self._prepare()
        await dropping.drop(self._connections, wanted)

    async def release(self, wanted: WantedDatabase) -> None:
        """Delete the claim in state `dropping`: the last step. Refused while the database is there."""
        async with self._home() as connection:
            await claims.release(connection, wanted)

    async def close(self) -> None:
        """End all connections and remove the CA file."""
        await self._connections.close()

    async def _read_ours(self, connection: Connection, wanted: WantedDatabase) -> snapshot.Snapshot:
        """What there is, after every check that it is ours to change.

        Raises:
            DatabaseError: if the name is not claimed, or the database or a role is not this tenant's.
        """
        rules.check_names(wanted)
        now = await snapshot.read(connection, wanted)
        rules.require_claim(now, wanted, "creating", "ready")
        rules.require_own_database(now, wanted)
        for role in now.roles.values():
            rules.require_own_role(now, wanted, role)
        return now

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._prepared:
                await home.prepare(self._connections)
                self._prepared = True

    @asynccontextmanager
    async def _home(self) -> AsyncIterator[Connection]:
        if not self._prepared:
            await self._prepare()
        try:
            async with self._connections.home() as connection:
                yield connection
        except DatabaseError as error:
            if error.sqlstate in (errors.NO_SUCH_DATABASE, errors.NOT_ACCEPTING):
                self._prepared = False  # somebody dropped or closed it: the next call puts that right
            raise
