"""Keeping a tenant out of its parked database while it does all that it can to stay in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import (
    DEADLINE,
    SERVERS,
    World,
    eventually,
    must_be_shut,
    open_world,
    own_server,
    park,
    reconnecting,
    run,
)

from tenantry.adapters.postgres import Limits
from tenantry.ports.postgres import WantedDatabase


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1)) as world:
        yield world


async def test_clients_that_reconnect_in_a_loop_are_out_and_stay_out(world: World) -> None:
    wanted = await world.provision(password="a")
    async with reconnecting(world, wanted, "a", clients=5) as tried:
        await park(world, wanted)
        assert await sessions_of_logins(world, wanted) == 0
        before = tried()

        async def tried_again() -> bool:
            assert await sessions_of_logins(world, wanted) == 0
            return tried() > before + 50

        await eventually(tried_again, "50 more tries")


async def sessions_of_logins(world: World, wanted: WantedDatabase) -> int:
    """Those that got in; one that is being refused is still nobody's."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY (%s)"
    count: int = await world.ask(query, list(wanted.logins))
    return count


@asynccontextmanager
async def slow_start(world: World, wanted: WantedDatabase, seconds: int) -> AsyncIterator[asyncio.Task[None]]:
    """A session that is past all checks of what it may, and not yet visible to others; it ends only if it is ended."""
    dsn = world.access.dsn(wanted.logins[0], "a", wanted.database, options=f"-c post_auth_delay={seconds}")

    async def enter() -> None:
        with suppress(psycopg.Error):
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as session:
                await session.execute("SELECT pg_sleep(60)")

    starting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'RowExclusiveLock' AND objid ="
        " (SELECT oid FROM pg_database WHERE datname = %s)"
    )

    async def is_starting() -> bool:
        return bool(await world.ask(starting, wanted.database))

    client = asyncio.create_task(enter())
    try:
        await eventually(is_starting, "a session that is starting")
        yield client
    finally:
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)


@pytest.mark.parametrize("seconds", [1, 1000])
async def test_a_session_that_was_starting_when_the_lock_came_does_not_get_in(world: World, seconds: int) -> None:
    wanted = await world.provision(password="a")
    async with slow_start(world, wanted, seconds) as client:
        await park(world, wanted)
        await must_be_shut(world, wanted, "a")
        async with asyncio.timeout(DEADLINE):
            await client


async def test_a_session_that_is_starting_does_not_hold_up_the_drop(world: World) -> None:
    wanted = await world.provision(password="a")
    async with slow_start(world, wanted, 1000):
        await world.admin.mark(wanted, before="ready", after="dropping")
        async with asyncio.timeout(DEADLINE):
            await world.admin.drop(wanted)
    await world.admin.release(wanted)


HOLDS: dict[str, tuple[str, ...]] = {
    "its own role": ("SET ROLE NONE", "BEGIN", "ALTER ROLE {d}_0 PASSWORD 'mine'"),
    "its database's row": ("BEGIN", "GRANT CONNECT ON DATABASE {d} TO PUBLIC"),
    "its database": ("SET ROLE NONE", "BEGIN", "ALTER ROLE {d}_0 IN DATABASE {d} SET work_mem = '1MB'"),
    "its tables": ("CREATE TABLE t (x int)", "BEGIN", "LOCK TABLE t", "SELECT pg_advisory_lock(1)"),
}
"""What a tenant can hold in an open transaction."""


@pytest.mark.parametrize("what", HOLDS)
@pytest.mark.parametrize("how", ["open", "prepared"])
@pytest.mark.parametrize("end", ["park", "drop"])
async def test_what_a_tenant_holds_in_a_transaction_holds_up_nothing(
    world: World, what: str, how: str, end: str
) -> None:
    wanted = await world.provision(password="a")
    async with world.enter(wanted, "a") as session:
        await run(session, *(statement.format(d=wanted.database) for statement in HOLDS[what]))
        if how == "prepared":
            if what == "its tables":
                await run(session, "SELECT pg_advisory_unlock(1)")  # no such lock outlives a session
            await run(session, f"PREPARE TRANSACTION '{wanted.database}'")
        if end == "park":
            await park(world, wanted)
            await must_be_shut(world, wanted, "a")
        else:
            await world.admin.mark(wanted, before="ready", after="dropping")
            async with asyncio.timeout(DEADLINE):
                await world.admin.drop(wanted)
            await world.admin.release(wanted)
    harmless = what in ("its database", "its tables") and how == "prepared" and end == "park"
    left = await world.ask("SELECT count(*) FROM pg_prepared_xacts WHERE database = %s", wanted.database)
    assert left == (1 if harmless else 0)


@pytest.mark.parametrize("how", ["open", "prepared"])
async def test_a_parameter_that_another_tenant_sets_for_the_database_does_not_keep_it(world: World, how: str) -> None:
    a, b = await world.provision(password="a"), await world.provision(password="b")
    async with world.enter(b, "b") as session:
        await run(session, "SET ROLE NONE", "BEGIN")
        await run(session, f"ALTER ROLE {b.logins[0]} IN DATABASE {a.database} SET work_mem = '1MB'")
        if how == "prepared":
            await run(session, f"PREPARE TRANSACTION '{b.database}'")
        await park(world, a)
        assert await world.admin.mark(a, before="parked", after="dropping")
        async with asyncio.timeout(DEADLINE):
            await world.admin.drop(a)
        await world.admin.release(a)
    assert (await world.admin.inspect(b)).settled
    assert await world.admin.login_works(b, b.logins[0], "b")


async def test_a_session_of_the_tenant_in_another_database_ends_too(world: World) -> None:
    wanted = await world.provision(password="a")
    async with world.superuser() as session:
        await run(session, f"GRANT CONNECT ON DATABASE postgres TO {wanted.logins[0]}")
    elsewhere = world.access.dsn(wanted.logins[0], "a", "postgres")
    other = await psycopg.AsyncConnection.connect(elsewhere, autocommit=True)
    try:
        await park(world, wanted)
        with pytest.raises(psycopg.OperationalError):
            await other.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            await psycopg.AsyncConnection.connect(elsewhere)
    finally:
        await other.close()
        async with world.superuser() as session:
            await run(session, f"REVOKE CONNECT ON DATABASE postgres FROM {wanted.logins[0]}")


async def test_what_the_tenant_passed_on_or_took_is_taken_back(world: World) -> None:
    a, b = await world.provision(password="a"), await world.provision(password="b")
    async with world.superuser() as session:
        await run(session, f"GRANT CONNECT ON DATABASE {a.database} TO {a.owner} WITH GRANT OPTION")
    async with world.enter(a, "a") as session:
        await run(session, f"GRANT CONNECT ON DATABASE {a.database} TO {b.owner}")
    async with world.superuser() as session:
        await run(session, f"ALTER DATABASE {b.database} OWNER TO {b.owner}")
    await park(world, a)
    await park(world, b)
    for wanted in (a, b):
        await must_be_shut(world, wanted, "a")
    assert not await world.ask("SELECT has_database_privilege(%s, %s, 'CONNECT')", b.owner, a.database)


async def test_others_sessions_end_the_first_time_and_the_server_owners_never(world: World) -> None:
    wanted = await world.provision(password="a")
    admin = await psycopg.AsyncConnection.connect(world.access.admin_dsn(wanted.database), autocommit=True)
    try:
        async with world.superuser(wanted.database) as root:
            await park(world, wanted)
            await root.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            await admin.execute("SELECT 1")
    finally:
        await admin.close()
