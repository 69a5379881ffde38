"""Servers of tenants' own, by tunnels: one that is only looked at stays as it is, one for work gets what it lacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from tests.controlplane.postgres import SUPERUSER

from tenantry.adapters.postgres.own import TunnelledServers
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, WantedDatabase
from tenantry.ports.servers import OwnServer, ServerEndpoint
from tenantry.runtime.clock import SystemClock

if TYPE_CHECKING:
    from tests.controlplane.postgres_access import PostgresAccess
    from tests.integration.conftest import FreshPostgres

WANTED: Final = WantedDatabase("tenantry_own", "m", "own", "acme-own", 5)
SEEN: Final = """
SELECT rolname::text, rolpassword::text FROM pg_authid
 UNION ALL SELECT datname, datacl::text FROM pg_database ORDER BY 1
"""


class Straight:
    """A tunnel that is none: a connection to a port of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(65536)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


@pytest.fixture
def server(fresh_postgres: FreshPostgres) -> PostgresAccess:
    return fresh_postgres().access


def own(server: PostgresAccess) -> OwnServer:
    endpoint = ServerEndpoint("acme.svc", server.port, "own_admin", "of-the-admin", "verify-full")
    return OwnServer(endpoint, SUPERUSER, server.superuser_password)


def seen(server: PostgresAccess) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as session:
        return session.execute(SEEN).fetchall()


async def test_a_server_that_is_only_looked_at_is_as_it_was_and_one_that_is_worked_on_is_put_right(
    server: PostgresAccess,
) -> None:
    async def dial() -> Straight:
        return Straight(*await asyncio.open_connection("127.0.0.1", server.port))

    servers, before = TunnelledServers(SystemClock()), seen(server)
    with pytest.raises(DatabaseCredentialsError):
        async with servers.open(own(server), dial, read_only=True):
            pytest.fail("there is no role yet that could look")
    assert seen(server) == before
    async with servers.open(own(server), dial):
        assert seen(server) != before
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as session:
        session.execute("DROP DATABASE tenantry WITH (FORCE)")
        session.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    spoilt = seen(server)
    with pytest.raises(DatabaseError, match="nothing is written now"):
        async with servers.open(own(server), dial, read_only=True):
            pytest.fail("what is to be looked at is not there")
    assert seen(server) == spoilt
    async with servers.open(own(server), dial):
        pass
    good = seen(server)
    async with servers.open(own(server), dial, read_only=True) as opened:
        assert opened.facts is not None
        assert opened.facts.public_connect == ()
        assert not (await opened.admin.inspect(WANTED)).exists
        with pytest.raises(DatabaseError, match="read-only"):
            await opened.admin.claim(WANTED, max_databases=None)
    assert seen(server) == good
