"""What a login made as itself goes to the owner role, without any code of the tenant's being run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import SERVERS, World, open_world, own_server, owners, run

from tenantry.adapters.postgres import Limits
from tenantry.ports.postgres import DatabaseError


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1)) as world:
        yield world


async def test_what_a_login_came_to_own_is_given_to_the_owner_role(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as one, world.enter(wanted, "p", 1) as two:
        await run(
            one,
            "CREATE SCHEMA shared",
            "RESET ROLE",
            "SET ROLE NONE",
            "CREATE SCHEMA own",
            "CREATE TABLE own.t (id serial PRIMARY KEY, x text)",
            "INSERT INTO own.t (x) VALUES ('kept')",
            "CREATE FUNCTION own.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION public.g() RETURNS int LANGUAGE sql AS 'SELECT 2'",
            "CREATE TYPE own.mood AS ENUM ('fine')",
            "CREATE VIEW shared.v AS SELECT 1 AS x",
            "SELECT lo_from_bytea(4711, 'large')",
            "CREATE TEMPORARY TABLE passing (x int)",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        )
        await run(two, "SET ROLE NONE", "CREATE TABLE public.of_the_other (x int)")
        await run(two, "CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS x")
        assert set(wanted.logins) <= await owners(world, wanted)
        await world.admin.reassign(wanted)
        assert await owners(world, wanted) == {wanted.owner}
        await run(two, f"SET ROLE {wanted.owner}", "DROP TABLE public.of_the_other", "SELECT own.f()")
        cursor = await two.execute("INSERT INTO own.t (x) VALUES ('more') RETURNING id")
        assert await cursor.fetchone() == (2,)
        await run(one, "INSERT INTO passing VALUES (1)")
    assert (await world.admin.inspect(wanted)).settled
    members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE rolname = ANY (%s)"
    able = members + " AND coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)"
    assert await world.ask(able, list(wanted.logins)) == 0


async def test_to_reassign_nothing_enters_no_database(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as session:
        await run(session, "CREATE TABLE t (x int)", "SET ROLE NONE")
        await run(session, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    async with world.superuser() as session:
        await run(session, f"ALTER DATABASE {wanted.database} ALLOW_CONNECTIONS false")
    await world.admin.reassign(wanted)
    async with world.superuser() as session:
        await run(session, f"ALTER DATABASE {wanted.database} ALLOW_CONNECTIONS true")


async def test_a_table_in_use_is_handed_over_later_without_a_long_stall(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as session, world.enter(wanted, "p", 1) as other:
        await run(session, "SET ROLE NONE", "CREATE TABLE public.t (x int)", "GRANT SELECT ON public.t TO PUBLIC")
        await run(session, "BEGIN", "SELECT * FROM public.t")
        reading = asyncio.create_task(world.admin.reassign(wanted))
        async with asyncio.timeout(5):
            await run(other, "SELECT * FROM public.t")
            with pytest.raises(DatabaseError) as caught:
                await reading
        assert caught.value.sqlstate == "55P03"
        await run(session, "COMMIT")
        await world.admin.reassign(wanted)
    assert await owners(world, wanted) == {wanted.owner}


async def test_no_code_of_an_event_trigger_runs_when_objects_change_hands(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as session:
        await run(session, "CREATE TABLE ran (who text)", "SET ROLE NONE", "CREATE TABLE public.mine (x int)")
        await run(
            session,
            "CREATE FUNCTION public.spy() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO public.ran VALUES (session_user); END $$",
        )
    async with world.superuser(wanted.database) as session:  # the server's owner is careless
        await run(session, "CREATE EVENT TRIGGER spy ON ddl_command_end EXECUTE FUNCTION public.spy()")
    with pytest.raises(DatabaseError, match="event trigger"):
        await world.admin.reassign(wanted)
    assert await world.ask("SELECT count(*) FROM public.ran", database=wanted.database) == 0


async def test_a_database_that_its_tenant_owns_is_settled_before_anything_is_handed_over(world: World) -> None:
    wanted = await world.provision()
    async with world.superuser() as session:
        await run(session, f"ALTER DATABASE {wanted.database} OWNER TO {wanted.owner}")
    with pytest.raises(DatabaseError, match="must be settled first"):
        await world.admin.reassign(wanted)
