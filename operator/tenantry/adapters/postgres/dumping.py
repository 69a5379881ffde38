"""`Dumper` on real servers: one snapshot, read by a role from which no policy hides a row, and counted beside it.

From PostgreSQL 16 on the role is made for each dump, is in the tenant's roles and in nothing else, and is gone
afterwards. Before, only a superuser can give BYPASSRLS, so there it is the admin role itself, which must have it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import comparing, rules, statements
from tenantry.adapters.postgres.connections import Connection
from tenantry.adapters.postgres.copying import LEFT_OUT, dialling_of, session
from tenantry.adapters.postgres.params import HOME
from tenantry.adapters.postgres.piping import Command
from tenantry.adapters.postgres.streaming import feed, output_of
from tenantry.adapters.postgres.tools import MAJOR, Tools, dialling_to, find_tools, surroundings
from tenantry.ports.backup import DumpFacts, DumpImpossibleError
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server

logger = logging.getLogger(__name__)

GIVES_BYPASSRLS: Final = 16
"""From this major version on a role that has BYPASSRLS can give it."""
VALID: Final = "1 day"
"""A role that a dead operator leaves behind opens nothing after that; the next dump, or a restart, removes it."""

LOCK_WAIT: Final = "60s"
"""How long a table may be locked by a change of the schema before the dump is given up."""
FLAGS: Final = (
    "--format=custom",
    "--compress=1",  # half of the time of the default for nearly its size
    f"--lock-wait-timeout={LOCK_WAIT}",
    "--no-password",
    *LEFT_OUT,
)
"""Of pg_dump, beside the snapshot."""

_MAY_CONNECT: Final = "SELECT has_database_privilege(%s, %s, 'CONNECT')"
_RIGHTS: Final = "SELECT rolbypassrls OR rolsuper, rolname::text FROM pg_roles WHERE rolname = current_user"
_ROLE: Final = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
_END: Final = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s"
_SIZE: Final = "SELECT pg_database_size(current_database())"
_VALID_UNTIL: Final = "SELECT (now() + %s::interval)::text"


@dataclass(frozen=True, slots=True)
class _Login:
    """Who dumps."""

    name: str
    password: str = field(repr=False)


class PostgresDump:
    """Implements `tenantry.ports.backup.Dump`."""

    def __init__(self, connection: Connection, tools: Tools, output: AsyncIterator[bytes]) -> None:
        self._connection = connection
        self._tools = tools
        self._output = output

    def chunks(self) -> AsyncIterator[bytes]:
        """See `Dump`."""
        return self._output

    async def facts(self) -> DumpFacts:
        """See `Dump`."""
        rows = await _rows(self._connection)
        row = await (await self._connection.execute(_SIZE)).fetchone()
        size = int(row[0]) if row is not None else 0
        return DumpFacts(self._connection.info.server_version, self._tools.major, rows, size)


class PostgresDumper:
    """Implements `tenantry.ports.backup.Dumper`."""

    @asynccontextmanager
    async def open(self, server: Server, wanted: WantedDatabase) -> AsyncIterator[PostgresDump]:
        """See `Dumper`."""
        rules.check_names(wanted)
        if server.facts is None:
            raise DatabaseError("the server was not probed yet")
        version = server.facts.version
        tools = await find_tools(version, version)
        async with AsyncExitStack() as stack:
            login = await stack.enter_async_context(_login(server, wanted))
            dialling = stack.enter_context(dialling_of(server))
            connection = await stack.enter_async_context(
                session(server, wanted.database, (login.name, login.password) if login.password else None)
            )
            snapshot = await _snapshot(connection)
            admin = server.endpoint
            environment = surroundings(
                dialling.params, wanted.database, login.name, login.password or admin.password, dialling.ca_file
            )
            command = Command(tools.dump, (dialling_to(wanted.database), *FLAGS, f"--snapshot={snapshot}"), environment)
            output = await stack.enter_async_context(output_of(command))
            yield PostgresDump(connection, tools, output)

    async def forget(self, server: Server, wanted: WantedDatabase) -> None:
        """See `Dumper`."""
        if server.facts is None or server.facts.version // MAJOR < GIVES_BYPASSRLS:
            return
        async with session(server, HOME) as connection:
            await drop_role(connection, wanted)

    async def check(self, chunks: AsyncIterator[bytes], tool_major: int) -> None:
        """See `Dumper`."""
        tools = await find_tools(tool_major * MAJOR, tool_major * MAJOR)
        await feed(Command(tools.restore, ("--file=/dev/null",), _bare()), chunks)

    async def count(self, server: Server, wanted: WantedDatabase) -> Mapping[str, int]:
        """See `Dumper`."""
        rules.check_names(wanted)
        async with _login(server, wanted) as login:
            who = (login.name, login.password) if login.password else None
            async with session(server, wanted.database, who) as connection:
                for name, value in comparing.SETTINGS.items():
                    await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                return await _rows(connection)


def role_of(wanted: WantedDatabase) -> str:
    """The role that dumps a tenant's database, while it is there."""
    return f"{wanted.database}_dump"


def _bare() -> Mapping[str, str]:
    """Of a program that dials nobody: libpq finds nothing in it."""
    return {"LC_ALL": "C", "PATH": ""}


@asynccontextmanager
async def _login(server: Server, wanted: WantedDatabase) -> AsyncIterator[_Login]:
    async with session(server, HOME) as connection:
        row = await (await connection.execute(_RIGHTS)).fetchone()
        bypasses, admin = row if row is not None else (False, server.endpoint.username)
        if not bypasses:
            raise DumpImpossibleError(
                "the server's admin role lacks BYPASSRLS, so rows could be hidden from a backup; run as the server's "
                f"superuser: ALTER ROLE {sql.Identifier(admin).as_string()} BYPASSRLS"
            )
        if connection.info.server_version // MAJOR < GIVES_BYPASSRLS:
            yield _Login(admin, "")
            return
        await drop_role(connection, wanted)
        login = _Login(role_of(wanted), secrets.token_urlsafe(24))
        await _create(connection, wanted, login)
    try:
        yield login
    finally:
        try:
            async with session(server, HOME) as connection:
                await drop_role(connection, wanted)
        except DatabaseError as error:
            logger.warning("role %s stays until the next dump: %s", login.name, error.message)


async def _create(connection: Connection, wanted: WantedDatabase, login: _Login) -> None:
    verifier = connection.pgconn.encrypt_password(login.password.encode(), login.name.encode(), b"scram-sha-256")
    row = await (await connection.execute(_VALID_UNTIL, (VALID,))).fetchone()
    until = row[0] if row is not None else ""
    role = sql.Identifier(login.name)
    todo = [
        sql.SQL(
            "CREATE ROLE {} LOGIN BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT"
            " CONNECTION LIMIT 4 PASSWORD {} VALID UNTIL {}"
        ).format(role, sql.Literal(verifier.decode()), sql.Literal(until)),
        sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(rules.Stamp.of(wanted).comment())),
        sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(
            statements.identifiers((wanted.owner, *wanted.logins)), role
        ),
        # Or the admin role could not end its sessions.
        sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET FALSE").format(role),
    ]
    await connection.execute(statements.batch(todo))
    may = await (await connection.execute(_MAY_CONNECT, (login.name, wanted.database))).fetchone()
    if may == (False,):  # it is parked: whoever is in the tenant's roles does not get in any more
        grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(wanted.database), role)
        await connection.execute(grant)


async def drop_role(connection: Connection, wanted: WantedDatabase) -> None:
    """Remove the role that dumps, if it is there; what it is in goes with it.

    Raises:
        DatabaseError: it is not ours.
    """
    name = role_of(wanted)
    row = await (await connection.execute(_ROLE, (name,))).fetchone()
    if row is None:
        return
    if rules.Stamp.parse(row[0]) != rules.Stamp.of(wanted):
        raise DatabaseError(f"role {name} is there, but was not made by this operator for this tenant: rename it")
    await connection.execute(_END, (name,))
    await connection.execute(statements.drop_owned([name]))
    await connection.execute(statements.drop_roles([name]))


async def _rows(connection: Connection) -> dict[str, int]:
    rows: dict[str, int] = {}
    for schema, table in await comparing.names_of(connection, "r"):
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
        row = await (await connection.execute(query)).fetchone()
        rows[f"{schema}.{table}"] = row[0] if row is not None else 0
    return rows


async def _snapshot(connection: Connection) -> str:
    """Begin a transaction whose snapshot others can take, with all tables held as they are.

    Not all that changes a table leaves old snapshots as they were: a table that was rewritten or emptied meanwhile
    would be counted as empty.
    """
    for name, value in comparing.SETTINGS.items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_WAIT,))
    row = await (await connection.execute("SELECT pg_export_snapshot()")).fetchone()
    tables = await comparing.names_of(connection, "r")
    if tables:
        named = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables)
        try:
            await connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(named))
        except psycopg.errors.LockNotAvailable as error:
            raise DatabaseError(
                f"another session of the tenant's has kept a table locked for {LOCK_WAIT}: a change of its schema, or "
                "a LOCK TABLE, that does not end; end it, and back up again",
                sqlstate=error.sqlstate or "",
            ) from None
    return str(row[0]) if row is not None else ""
