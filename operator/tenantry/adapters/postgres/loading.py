"""`Loader` on real servers: an archive is read by pg_restore in a session of the tenant's own login.

Never as the operator's role: functions, checks and triggers in it are the tenant's, and run while it is read; see
`copying` for what they could do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from tenantry.adapters.postgres import rules
from tenantry.adapters.postgres.copying import LEFT_OUT, dialling_of, session
from tenantry.adapters.postgres.params import HOME
from tenantry.adapters.postgres.piping import Command
from tenantry.adapters.postgres.streaming import feed
from tenantry.adapters.postgres.tools import MAJOR, Tools, dialling_to, find_tools, surroundings
from tenantry.ports.backup import ServerUse
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import Server

_USE: Final = """
SELECT pg_tablespace_size(dattablespace),
       greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))
  FROM pg_database WHERE datname = 'template0'
"""
"""A crash is no start of the postmaster's, but its statistics begin anew with it. The size is that of the
tablespace that databases are made in. It takes no right: the operator's own database is in it, too."""
_SIZE: Final = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s"


class PostgresLoader:
    """Implements `tenantry.ports.backup.Loader`."""

    async def check(self, server: Server, tool_major: int) -> None:
        """See `Loader`."""
        await self._tools(server, tool_major)

    async def load(
        self, server: Server, wanted: WantedDatabase, password: str, chunks: AsyncIterator[bytes], tool_major: int
    ) -> None:
        """See `Loader`."""
        rules.check_names(wanted)
        tools = await self._tools(server, tool_major)
        with dialling_of(server) as dialling:
            command = Command(
                tools.restore,
                (
                    dialling_to(wanted.database),
                    "--exit-on-error",
                    f"--role={wanted.owner}",
                    "--no-password",
                    *LEFT_OUT,
                ),
                surroundings(dialling.params, wanted.database, wanted.logins[0], password, dialling.ca_file),
            )
            await feed(command, chunks)

    async def use_of(self, server: Server) -> ServerUse:
        """See `Loader`."""
        async with session(server, HOME) as connection:
            row = await (await connection.execute(_USE)).fetchone()
        if row is None:
            raise DatabaseError("the server has no database template0")
        return ServerUse(*row)

    async def size(self, server: Server, wanted: WantedDatabase) -> int:
        """See `Loader`."""
        async with session(server, HOME) as connection:
            row = await (await connection.execute(_SIZE, (wanted.database,))).fetchone()
        if row is None:
            raise DatabaseError(f"database {wanted.database} is not there")
        return int(row[0])

    @staticmethod
    async def _tools(server: Server, tool_major: int) -> Tools:
        if server.facts is None:
            raise DatabaseError("the server was not probed yet")
        return await find_tools(tool_major * MAJOR, server.facts.version)
