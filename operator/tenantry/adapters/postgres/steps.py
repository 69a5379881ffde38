"""What every step on a server begins with: a session on the operator's database, and the check that it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from psycopg import sql

from tenantry.adapters.postgres import claims, errors, home, rules, snapshot, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.params import Limits, ServerParams
from tenantry.ports.postgres import DatabaseError, WantedDatabase


class CheckedSteps:
    """One server whose operator's database is made on the first step, and looked after when it vanishes."""

    def __init__(self, params: ServerParams, limits: Limits | None = None) -> None:
        """No session is opened yet.

        Raises:
            DatabaseError: if the parameters contradict each other.
        """
        self._connections = Connections(params, limits or Limits())
        self._prepared = False
        self._preparing = asyncio.Lock()

    async def close(self) -> None:
        """End all connections and remove the CA file."""
        await self._connections.close()

    @staticmethod
    async def _execute(connection: Connection, wanted: WantedDatabase, todo: Sequence[sql.Composed]) -> None:
        """All of it while the claim stays as it was read: nothing is opened that another operator parks meanwhile."""
        async with connection.transaction():
            if not await claims.hold(connection, wanted, "creating", "ready"):
                raise DatabaseError(f"the claim on database {wanted.database} was just changed: it is left alone")
            await connection.execute(statements.batch(todo))

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

    async def _ready(self, wanted: WantedDatabase) -> Connections:
        """The connections, for steps that take sessions as they need them.

        Raises:
            DatabaseError: if the server would cut the name.
        """
        rules.check_names(wanted)
        await self._prepare()
        return self._connections

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
