"""`DatabaseCopier` on real servers: read as the operator's role, written and compared as the tenant's own login.

Constraints, defaults, indexes and triggers are the tenant's code and run while a database is filled. In a session of
the operator's role they could `RESET ROLE` and be in all tenants' databases; in one of the tenant's login they can do
what the tenant can. Reading runs none of it, and nobody is connected who could exchange a table for a view meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import comparing, errors
from tenantry.adapters.postgres.connections import Connection
from tenantry.adapters.postgres.params import Dialling, Limits, ServerParams
from tenantry.adapters.postgres.piping import Command, pipe
from tenantry.adapters.postgres.tools import Tools, dialling_to, find_tools, surroundings
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Copied, Server

logger = logging.getLogger(__name__)

DAY: Final = 24 * 3600
PATIENT: Final = Limits(connect=10, statement=0, lock=60, lease=DAY)

LEFT_OUT: Final = (
    "--no-owner",  # all of it becomes the owner role's on the new side, which is called otherwise
    "--no-privileges",  # whoever may connect is the tenant
    "--no-tablespaces",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
)

_CONTENT: Final = """
SELECT EXISTS (
  SELECT FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
   WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND r.rolname = ANY (%s)
     AND s.dbid = (SELECT oid FROM pg_database WHERE datname = %s)
     AND s.classid <> 'pg_extension'::regclass
     AND NOT (s.classid = 'pg_namespace'::regclass AND s.objid = to_regnamespace('public')))
"""
"""Whether the tenant's roles own anything but schema `public` and extensions: all that a restore makes has an owner."""


class PostgresCopier:
    """Implements `tenantry.ports.servers.DatabaseCopier`."""

    async def check(self, source: Server, destination: Server) -> None:
        """See `DatabaseCopier`."""
        await self._tools(source, destination)

    async def is_empty(self, destination: Server, wanted: WantedDatabase) -> bool:
        """See `DatabaseCopier`."""
        async with session(destination, wanted.database) as connection:
            cursor = await connection.execute(_CONTENT, ([wanted.owner, *wanted.logins], wanted.database))
            return await cursor.fetchone() == (False,)

    async def copy(
        self, source: Server, old: WantedDatabase, destination: Server, new: WantedDatabase, password: str
    ) -> Copied:
        """See `DatabaseCopier`."""
        tools = await self._tools(source, destination)
        moved = await _copy(tools, source, old, destination, new, password)
        login = (new.logins[0], password)
        before, after = await asyncio.gather(
            content_of(source, old.database, old.owner), content_of(destination, new.database, new.owner, login)
        )
        comparing.check_equal(before, after)
        rows = sum(count for count, _ in after.tables.values())
        logger.info("%s: %d bytes went through, %d rows are equal", new.database, moved, rows)
        return Copied(len(after.tables), rows, len(after.sequences), len(after.large_objects))

    @staticmethod
    async def _tools(source: Server, destination: Server) -> Tools:
        if source.facts is None or destination.facts is None:
            raise DatabaseError("the servers were not probed yet")
        return await find_tools(source.facts.version, destination.facts.version)


async def _copy(
    tools: Tools, source: Server, old: WantedDatabase, destination: Server, new: WantedDatabase, password: str
) -> int:
    with dialling_of(source) as reading, dialling_of(destination) as writing:
        admin = source.endpoint
        dump = Command(
            tools.dump,
            (dialling_to(old.database), "--format=custom", "--compress=0", f"--role={old.owner}", *LEFT_OUT),
            surroundings(reading.params, old.database, admin.username, admin.password, reading.ca_file),
        )
        restore = Command(
            tools.restore,
            (dialling_to(new.database), "--exit-on-error", f"--role={new.owner}", *LEFT_OUT),
            surroundings(writing.params, new.database, new.logins[0], password, writing.ca_file),
        )
        return await pipe(dump, restore)


async def content_of(
    server: Server, database: str, owner: str, login: tuple[str, str] | None = None
) -> comparing.Content:
    """What is in a database, read by the operator's role or by a login with its password, as the owner.

    Raises:
        DatabaseError: it can't be read.
    """
    async with session(server, database, login) as connection:
        # As the owner, who may read all of it and no more.
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        return await comparing.read_content(connection)


@asynccontextmanager
async def session(server: Server, database: str, login: tuple[str, str] | None = None) -> AsyncIterator[Connection]:
    """A session of the admin role, or of a login with its password; without a limit of time.

    Raises:
        DatabaseError: for whatever goes wrong in dialling and in the body.
    """
    with dialling_of(server) as dialling:
        conninfo = dialling.as_admin(database) if login is None else dialling.as_tenant(database, *login)
        try:
            connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            raise errors.of_connect(error) from None
        try:
            with errors.statements():
                yield connection
        finally:
            await connection.close()


@contextmanager
def dialling_of(server: Server) -> Iterator[Dialling]:
    """How a server is dialled by what takes long; its CA file is there until the end."""
    endpoint = server.endpoint
    dialling = Dialling(
        ServerParams(
            host=endpoint.host,
            port=endpoint.port,
            username=endpoint.username,
            password=endpoint.password,
            ssl_mode=endpoint.ssl_mode,
            ca_pem=endpoint.ca_pem or None,
            hostaddr=server.address,
        ),
        PATIENT,
    )
    try:
        yield dialling
    finally:
        dialling.close()
