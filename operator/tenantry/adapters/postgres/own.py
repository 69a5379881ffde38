"""Servers of tenants' own, reached by tunnels: to libpq each is a Unix socket in a folder that only we can enter."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from psycopg import sql

from tenantry.adapters.postgres import errors, statements
from tenantry.adapters.postgres.admin import PostgresAdmin
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.params import Limits, ServerParams
from tenantry.adapters.postgres.patience import Patience
from tenantry.ports.kube import KubeError, Tunnel
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError, ServerFacts
from tenantry.ports.servers import OwnServer, ServerEndpoint
from tenantry.ports.world import Availability, Clock

Dial: TypeAlias = Callable[[], Awaitable[Tunnel]]

LIMITS: Final = Limits(connect=10, statement=20, lease=40, sessions=4)
"""Tighter than of a shared server: this one is the tenant's, who may make it as slow as he likes."""
DOOR: Final = "postgres"
CHUNK: Final = 65536
MOST_ANSWERED: Final = 8 * 1024 * 1024
"""Bytes that one session is sent, where all answers together are some thousand: libpq keeps a row whole in memory."""

_ROLE: Final = "SELECT FROM pg_roles WHERE rolname = %s"


class TunnelledServer:
    """Implements `tenantry.ports.servers.Server` for one use. Tenants reach it by its endpoint, we by the socket."""

    def __init__(self, endpoint: ServerEndpoint, admin: PostgresAdmin) -> None:
        self._endpoint = endpoint
        self._admin = admin
        self._facts: ServerFacts | None = None

    @property
    def name(self) -> str:
        """See `Server`: there is no DatabaseServer of it."""
        return ""

    @property
    def admin(self) -> PostgresAdmin:
        """See `Server`."""
        return self._admin

    @property
    def endpoint(self) -> ServerEndpoint:
        """See `Server`."""
        return self._endpoint

    @property
    def address(self) -> str:
        """See `Server`: nothing is dialled."""
        return ""

    @property
    def facts(self) -> ServerFacts | None:
        """See `Server`."""
        return self._facts

    @property
    def availability(self) -> Availability:
        """See `Server`: it is there for as long as it is open."""
        return Availability(ok=True)

    def judge(self, availability: Availability) -> None:
        """See `Server`. Nobody does."""

    async def probe(self) -> ServerFacts:
        """See `Server`."""
        self._facts = await self._admin.probe()
        return self._facts


class TunnelledServers:
    """Implements `tenantry.ports.servers.OwnServers`.

    Args:
        clock: Only its monotonic side is read.
        may_write: Asked before each statement.
    """

    def __init__(self, clock: Clock, may_write: Callable[[], bool] | None = None) -> None:
        self._may_write = may_write
        self._clock = clock
        self._patience = Patience(clock)

    @asynccontextmanager
    async def open(self, server: OwnServer, dial: Dial, *, read_only: bool = False) -> AsyncIterator[TunnelledServer]:
        """See `OwnServers`."""
        name = server.endpoint.host
        async with AsyncExitStack() as stack:
            async with self._patience.opening(name):
                opened = await stack.enter_async_context(_opened(server, dial, self._may_write, read_only=read_only))
            began = self._clock.monotonic()
            try:
                yield opened
            finally:
                seconds = self._clock.monotonic() - began
                if seconds > LIMITS.statement:
                    self._patience.note(name, seconds, good=False)


@asynccontextmanager
async def _opened(
    server: OwnServer, dial: Dial, may_write: Callable[[], bool] | None, *, read_only: bool
) -> AsyncIterator[TunnelledServer]:
    await (await dial()).close()  # what stands in the way is told in the API server's words and not in libpq's
    with tempfile.TemporaryDirectory(prefix="tenantry-") as folder:
        listener = await _listen(Path(folder), server.endpoint.port, dial)
        params = _params(server, folder, server.endpoint.username, server.endpoint.password, may_write)
        admin = PostgresAdmin(replace(params, read_only=read_only), LIMITS)
        opened = TunnelledServer(server.endpoint, admin)
        try:
            await (_look(opened) if read_only else _prepare(opened, server, folder, may_write))
            yield opened
        finally:
            await admin.close()
            await listener.close()


def _params(
    server: OwnServer, folder: str, username: str, password: str, may_write: Callable[[], bool] | None
) -> ServerParams:
    return ServerParams(
        host=folder,
        port=server.endpoint.port,
        username=username,
        password=password,
        ssl_mode="disable",
        may_write=may_write,
    )


async def _prepare(
    opened: TunnelledServer, server: OwnServer, folder: str, may_write: Callable[[], bool] | None
) -> None:
    """Probe it; as its superuser first make what a shared server's owner makes for the operator, where it is missing.

    Raises:
        DatabaseError: what stands in the way.
    """
    try:
        facts = await opened.probe()
    except DatabaseUnreachableError:
        raise
    except DatabaseCredentialsError:
        facts = None
    if facts is not None and not facts.public_connect:
        return
    params = _params(server, folder, server.superuser, server.superuser_password, may_write)
    connections = Connections(params, LIMITS)
    try:
        async with connections.to(DOOR) as session, session.transaction():
            await _make_admin(session, server.endpoint)
    finally:
        await connections.close()
    await opened.probe()


async def _look(opened: TunnelledServer) -> None:
    """Probe it as it is.

    Raises:
        DatabaseError: what stands in the way; also that it would have to be put right first.
    """
    try:
        await opened.probe()
    except DatabaseError as error:
        if error.sqlstate != errors.READ_ONLY:
            raise
        raise DatabaseError(
            "what the operator keeps there is not there yet, and nothing is written now", sqlstate=error.sqlstate
        ) from error


async def _make_admin(session: Connection, endpoint: ServerEndpoint) -> None:
    role, password = endpoint.username, endpoint.password
    verifier = session.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    found = await (await session.execute(_ROLE, (role,))).fetchone()
    verb = sql.SQL("CREATE" if found is None else "ALTER")
    await session.execute(
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER CREATEDB CREATEROLE BYPASSRLS PASSWORD {}").format(
            verb, sql.Identifier(role), sql.Literal(verifier)
        )
    )
    for database in (DOOR, "template1"):
        await session.execute(statements.close_to_public(database))
        await session.execute(statements.named(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}"), database, role))


class _Listener:
    """The end of the tunnels that libpq dials: one tunnel for each connection."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._accept, path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends; libpq then says that the server closed the connection."""
        try:
            tunnel = await self._dial()
            try:
                ways = (asyncio.create_task(_out(reader, tunnel)), asyncio.create_task(_in(tunnel, writer)))
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                await tunnel.close()
        except (KubeError, OSError):
            return
        finally:
            writer.close()


async def _out(reader: asyncio.StreamReader, tunnel: Tunnel) -> None:
    while data := await reader.read(CHUNK):
        await tunnel.write(data)


async def _in(tunnel: Tunnel, writer: asyncio.StreamWriter) -> None:
    """Until the other side ends, or has sent more than any answer of an honest server takes."""
    left = MOST_ANSWERED
    while (data := await tunnel.read()) and (left := left - len(data)) >= 0:
        writer.write(data)
        await writer.drain()


async def _listen(folder: Path, port: int, dial: Dial) -> _Listener:
    listener = _Listener(dial)
    await listener.start(folder / f".s.PGSQL.{port}")
    return listener
