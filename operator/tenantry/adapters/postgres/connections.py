"""A bounded number of sessions on one server: some kept open on the operator's own database, the rest for one use."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import orjson
import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads

from tenantry.adapters.postgres import errors
from tenantry.adapters.postgres.params import HOME, Dialling, Limits, ServerParams
from tenantry.ports.postgres import DatabaseUnreachableError

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]


class LeadersConnection(psycopg.AsyncConnection[TupleRow]):
    """A session that says nothing any more to its server once its process may not write.

    All that is sent goes by `wait`: statements, and the end of a transaction, which is the write of all of them.
    """

    may_write: Callable[[], bool] | None = None

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's. Raises DatabaseUnreachableError if nothing may be sent now."""
        if self.may_write is not None and not self.may_write():
            raise DatabaseUnreachableError("not sent: this process is not the leader")
        return await super().wait(gen, *args, **kwargs)


class Connections:
    """Sessions on one server, half of the limit for the operator's database and half for tenants' databases.

    psycopg_pool is not used: it connects in the background and turns a refused password into a mere time-out. Here
    whoever needs a session dials it and gets the server's own answer. Bound to the event loop of its first use.
    """

    def __init__(self, params: ServerParams, limits: Limits) -> None:
        self._dialling = Dialling(params, limits)
        self._limits = limits
        self._idle: list[Connection] = []
        # Two bounds, for a step may need a session of each sort and must never wait for its like.
        self._home_slots = asyncio.Semaphore(max(1, limits.sessions // 2))
        self._other_slots = asyncio.Semaphore(max(1, limits.sessions // 2))
        self._closed = False

    @property
    def username(self) -> str:
        """The admin role."""
        return self._dialling.params.username

    @asynccontextmanager
    async def home(self) -> AsyncIterator[Connection]:
        """A session on database `tenantry` in autocommit, kept for the next one if it comes back clean.

        Raises:
            DatabaseError: for whatever goes wrong in dialling and in the body.
        """
        async with self._home_slots:
            connection = self._take_idle() or await self._dial(self._dialling.as_admin(HOME))
            try:
                with errors.statements():
                    async with asyncio.timeout(self._limits.lease):
                        yield connection
            finally:
                await self._give_back(connection)

    @asynccontextmanager
    async def to(self, database: str) -> AsyncIterator[Connection]:
        """A session of the admin role on any database, closed afterwards.

        Raises:
            DatabaseError: for whatever goes wrong in dialling and in the body.
        """
        async with self._other(self._dialling.as_admin(database)) as connection:
            yield connection

    @asynccontextmanager
    async def as_tenant(self, database: str, login: str, password: str) -> AsyncIterator[Connection]:
        """A session of a tenant's login, closed afterwards.

        Raises:
            DatabaseError: for whatever goes wrong in dialling and in the body.
        """
        async with self._other(self._dialling.as_tenant(database, login, password)) as connection:
            yield connection

    async def close(self) -> None:
        """End the idle sessions now and the others as they come back; nothing can be dialled any more."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
        self._dialling.close()

    @asynccontextmanager
    async def _other(self, conninfo: str) -> AsyncIterator[Connection]:
        async with self._other_slots:
            connection = await self._dial(conninfo)
            try:
                with errors.statements():
                    async with asyncio.timeout(self._limits.lease):
                        yield connection
            finally:
                await connection.close()

    async def _dial(self, conninfo: str) -> Connection:
        if self._closed:
            raise DatabaseUnreachableError("the connections to this server were closed")
        try:
            # connect_timeout holds for each address of a name; this holds for all of them together.
            async with asyncio.timeout(self._limits.connect * 2):
                connection = await LeadersConnection.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            raise errors.of_connect(error) from None
        except TimeoutError:
            raise DatabaseUnreachableError(f"no session within {self._limits.connect} s") from None
        connection.may_write = self._dialling.params.may_write
        set_json_loads(orjson.loads, connection)
        return connection

    def _take_idle(self) -> Connection | None:
        """The session used last, for it is the likeliest to be alive; one that the server has ended is let go."""
        while self._idle:
            connection = self._idle.pop()
            if not _has_news(connection):
                return connection
            connection.pgconn.finish()
        return None

    async def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append(connection)


def _has_news(connection: Connection) -> bool:
    """Whether the server said anything unasked, such as that it is going down: an idle session is silent."""
    if connection.pgconn.status != ConnStatus.OK:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
