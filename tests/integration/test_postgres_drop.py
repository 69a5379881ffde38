"""The end of a tenant's database, against those who want to keep it or to keep others from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import DEADLINE, SERVERS, Session, World, open_world, own_server, reconnecting

from tenantry.adapters.postgres import Limits, rules
from tenantry.ports.postgres import DatabaseError, WantedDatabase


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1)) as world:
        yield world


async def begin_drop(world: World, wanted: WantedDatabase) -> None:
    assert await world.admin.mark(wanted, before="ready", after="dropping")


async def finish(world: World, wanted: WantedDatabase) -> None:
    """Drop within the deadline, and look that nothing is left."""
    async with asyncio.timeout(DEADLINE):
        await world.admin.drop(wanted)
    await world.admin.release(wanted)
    assert not (await world.admin.inspect(wanted)).exists
    assert await world.ask("SELECT count(*) FROM pg_roles WHERE rolname LIKE %s", wanted.database + "%") == 0


async def run(session: Session, *statements: str) -> None:
    for statement in statements:
        await session.execute(statement.encode())


async def test_a_client_that_reconnects_in_a_loop_does_not_block_the_drop(world: World) -> None:
    wanted = await world.provision(password="a")
    async with reconnecting(world, wanted, "a", clients=3):
        await begin_drop(world, wanted)
        await finish(world, wanted)


async def test_open_transactions_and_locks_do_not_block_the_drop(world: World) -> None:
    wanted = await world.provision(password="a")
    async with world.enter(wanted, "a") as session:
        await run(session, "CREATE TABLE t (x int)", "BEGIN", "LOCK TABLE t", "LISTEN x", "SELECT pg_advisory_lock(1)")
        await begin_drop(world, wanted)
        await finish(world, wanted)


@pytest.mark.parametrize("closed", [False, True])
async def test_prepared_transactions_do_not_block_the_drop(world: World, closed: bool) -> None:
    wanted = await world.provision(password="a")
    async with world.enter(wanted, "a") as session:
        for number, role in enumerate((wanted.owner, "NONE")):
            await run(session, f"SET ROLE {role}", "BEGIN", f"CREATE TABLE t{number} (x int)")
            await run(session, f"PREPARE TRANSACTION 'it''s {number}'")
    await begin_drop(world, wanted)
    if closed:  # a drop that was broken off had closed the database already
        async with world.superuser() as session:
            await run(session, f"ALTER DATABASE {wanted.database} ALLOW_CONNECTIONS false")
    await finish(world, wanted)


async def test_what_another_tenant_grants_to_the_roles_does_not_keep_them(world: World) -> None:
    a, b = await world.provision(), await world.provision(password="b")
    async with world.enter(b, "b") as session:
        await run(
            session,
            "CREATE TABLE mine AS SELECT 42 AS x",
            "CREATE TABLE guarded (x int)",
            "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY p ON guarded TO {a.owner}, {b.owner} USING (true)",
            f"GRANT SELECT ON mine TO {a.owner}, {b.logins[1]} WITH GRANT OPTION",
            f"GRANT SELECT (x) ON mine TO {a.logins[0]}",
            f"GRANT USAGE ON SCHEMA public TO {a.logins[1]}",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {a.owner}",
            "SET ROLE NONE",
            "CREATE TABLE public.by_login (x int)",
            f"GRANT ALL ON public.by_login TO {a.owner}",
            f"GRANT SELECT ON public.by_login TO {b.owner} WITH GRANT OPTION",
            f"SET ROLE {b.owner}",
            f"GRANT SELECT ON public.by_login TO {a.logins[0]}",
        )
        await begin_drop(world, a)
        await finish(world, a)
        await run(session, f"SET ROLE {b.owner}")
        cursor = await session.execute("SELECT x, has_table_privilege(%s, 'mine', 'SELECT') FROM mine", [b.logins[1]])
        assert await cursor.fetchone() == (42, True)
        cursor = await session.execute("SELECT array_agg(r) FROM (SELECT unnest(roles)::text FROM pg_policies) p(r)")
        assert await cursor.fetchone() == ([b.owner],)
    assert (await world.admin.inspect(b)).settled


async def test_a_transaction_that_another_tenant_leaves_open_does_not_keep_them(world: World) -> None:
    a, b = await world.provision(), await world.provision(password="b")
    async with world.enter(b, "b") as session:
        await run(session, "CREATE TABLE mine (x int)", "BEGIN", f"GRANT SELECT ON mine TO {a.owner}")
        await begin_drop(world, a)
        await finish(world, a)
        with pytest.raises(psycopg.OperationalError):
            await session.execute("COMMIT")
    assert (await world.admin.inspect(b)).settled


async def test_a_chain_of_grants_that_only_its_maker_can_break_is_said_without_naming_the_maker(world: World) -> None:
    a, b = await world.provision(), await world.provision(password="b")
    await world.admin.set_password(b, b.logins[1], "b")
    async with world.enter(b, "b") as first, world.enter(b, "b", 1) as session:
        await run(first, "SET ROLE NONE", "CREATE TABLE public.mine (x int)")
        await run(first, f"GRANT SELECT ON public.mine TO {b.logins[1]} WITH GRANT OPTION")
        await run(session, "SET ROLE NONE", f"GRANT SELECT ON public.mine TO {a.owner}")
        await begin_drop(world, a)
        with pytest.raises(DatabaseError, match="were granted something in another database") as caught:
            await world.admin.drop(a)
        assert b.database not in caught.value.message
        assert not (await world.admin.inspect(a)).exists
        await run(session, f"REVOKE ALL ON public.mine FROM {a.owner}")
    await finish(world, a)


async def test_a_session_of_the_servers_owner_is_not_ended_but_waited_for(world: World) -> None:
    wanted = await world.provision()
    await begin_drop(world, wanted)
    async with world.superuser(wanted.database) as session:
        with pytest.raises(DatabaseError) as caught:
            await world.admin.drop(wanted)
        assert caught.value.sqlstate == psycopg.errors.ObjectInUse.sqlstate
        await session.execute("SELECT 1")
    await finish(world, wanted)


async def test_an_idle_replication_slot_goes_with_its_database(world: World) -> None:
    wanted = await world.provision()
    async with world.superuser(wanted.database) as session:
        await run(session, "SELECT pg_create_logical_replication_slot('idle', 'pgoutput')")
    await begin_drop(world, wanted)
    await finish(world, wanted)
    assert await world.ask("SELECT count(*) FROM pg_replication_slots") == 0


async def test_a_database_whose_drop_was_interrupted_is_dropped_again(world: World) -> None:
    wanted = await world.provision()
    await begin_drop(world, wanted)
    async with world.superuser() as session:
        await session.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [wanted.database])
    assert not (await world.admin.inspect(wanted)).settled
    await finish(world, wanted)


async def foreign_database(world: World, name: str, comment: str | None = None) -> None:
    async with world.superuser() as session:
        await run(session, f"CREATE DATABASE {name}")
        if comment:
            await run(session, f"COMMENT ON DATABASE {name} IS '{comment}'")


async def remove(world: World, name: str) -> None:
    async with world.superuser() as session:
        await run(session, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("comment", [None, rules.Stamp("somebody", "else").comment()])
async def test_a_database_that_was_there_before_is_neither_claimed_nor_touched(
    world: World, comment: str | None
) -> None:
    wanted = world.wanted()
    await foreign_database(world, wanted.database, comment)
    try:
        state = await world.admin.inspect(wanted)
        assert (state.claim, state.exists, state.stamped, state.settled) == (None, True, False, False)
        with pytest.raises(DatabaseError, match="there already and is not this tenant's"):
            await world.admin.claim(wanted, max_databases=None)
        assert (await world.admin.inspect(wanted)).claim is None
        for step in (world.admin.ensure_roles, world.admin.ensure_database, world.admin.settle, world.admin.drop):
            with pytest.raises(DatabaseError, match="the claim on database"):
                await step(wanted)
    finally:
        await remove(world, wanted.database)


@pytest.mark.parametrize("comment", [None, rules.Stamp("somebody", "else").comment()])
async def test_a_foreign_database_is_not_dropped_even_under_an_own_claim(world: World, comment: str | None) -> None:
    wanted = world.wanted()
    await world.admin.claim(wanted, max_databases=None)
    await foreign_database(world, wanted.database, comment)
    await world.admin.mark(wanted, before="creating", after="dropping")
    try:
        with pytest.raises(DatabaseError, match="another"):
            await world.admin.drop(wanted)
        assert (await world.admin.inspect(wanted)).exists
    finally:
        await remove(world, wanted.database)


async def test_a_stamped_database_whose_claims_were_lost_is_claimed_again(world: World) -> None:
    wanted = await world.provision()
    async with world.superuser("tenantry") as session:
        await session.execute("DELETE FROM public.claims WHERE database = %s", [wanted.database])
    claim = await world.admin.claim(wanted, max_databases=None)
    assert claim is not None
    assert claim.tenant_hash == wanted.tenant_hash
    assert (await world.admin.inspect(wanted)).settled


async def test_a_foreign_role_is_refused_and_outlives_the_drop(world: World) -> None:
    wanted = world.wanted()
    role = wanted.logins[1]
    async with world.superuser() as session:
        await run(session, f"CREATE ROLE {role} LOGIN")
    try:
        await world.admin.claim(wanted, max_databases=None)
        with pytest.raises(DatabaseError, match=f"role {role} is there already") as caught:
            await world.admin.ensure_roles(wanted)
        assert caught.value.sqlstate == ""
        await world.admin.mark(wanted, before="creating", after="dropping")
        await world.admin.drop(wanted)
        await world.admin.release(wanted)
        assert await world.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", role)
    finally:
        async with world.superuser() as session:
            await run(session, f"DROP ROLE {role}")


async def test_a_role_that_is_not_stamped_is_not_taken_for_a_ready_tenants(world: World) -> None:
    wanted = await world.provision()
    async with world.superuser() as session:
        await run(session, f"COMMENT ON ROLE {wanted.owner} IS NULL")
    with pytest.raises(DatabaseError, match=f"role {wanted.owner} is there without a stamp"):
        await world.admin.ensure_roles(wanted)
    async with world.superuser() as session:
        await run(session, f"COMMENT ON ROLE {wanted.owner} IS '{rules.Stamp.of(wanted).comment()}'")
