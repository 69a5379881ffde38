"""A tenant that holds up new connections to another tenant's database: for real, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import SERVERS, World, eventually, open_world, own_server, run

from tenantry.adapters.postgres import Limits
from tenantry.ports.postgres import DatabaseError, WantedDatabase

ATTEMPTS = ("ALTER DATABASE {} RENAME TO stolen", "DROP DATABASE {}")
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'AccessExclusiveLock' AND NOT granted"
    " AND objid = (SELECT oid FROM pg_database WHERE datname = %s)"
)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1, connect=2)) as world:
        yield world


@asynccontextmanager
async def holding_up(
    world: World, mallory: WantedDatabase, victim: WantedDatabase, attempt: str
) -> AsyncIterator[None]:
    """Mallory keeps a lock that she may have, and waits behind it for one that she may not."""

    async def ask() -> None:
        async with world.enter(mallory, "b") as session:
            with suppress(psycopg.Error):
                await run(session, attempt.format(victim.database))

    async def waits() -> bool:
        return bool(await world.ask(WAITING, victim.database))

    async with world.enter(mallory, "b") as session:
        await run(session, "SET ROLE NONE", "BEGIN")
        await run(session, f"ALTER ROLE {mallory.logins[0]} IN DATABASE {victim.database} SET work_mem = '1MB'")
        asking = asyncio.create_task(ask())
        try:
            await eventually(waits, "she waits for the lock")
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_who_holds_up_connections_to_anothers_database_is_ended_at_the_next_probe(
    world: World, attempt: str
) -> None:
    victim, mallory = await world.provision(password="a"), await world.provision(password="b")
    login = victim.logins[0]
    async with holding_up(world, mallory, victim, attempt):
        with pytest.raises(DatabaseError):
            await world.admin.login_works(victim, login, "a")
        await world.admin.probe()
        assert await world.admin.login_works(victim, login, "a")
    assert (await world.admin.inspect(victim)).settled
    assert await world.admin.login_works(mallory, mallory.logins[0], "b"), "she is not locked out"


async def test_sessions_that_hold_up_nobody_are_left_alone_by_a_probe(world: World) -> None:
    one, other = await world.provision(password="a"), await world.provision(password="b")
    async with world.enter(one, "a") as session, world.enter(other, "b") as own:
        await run(session, "SET ROLE NONE", "BEGIN")
        await run(session, f"ALTER ROLE {one.logins[0]} IN DATABASE {other.database} SET work_mem = '1MB'")
        await world.admin.probe()
        await run(session, "COMMIT")
        await run(own, "SELECT 1")
