"""The operator's own database: how it comes about, what a probe says, and who may claim what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import SERVERS, World, own_server, params

from tenantry.adapters.postgres import PostgresAdmin, public_connect_fix
from tenantry.ports.postgres import SCRATCH_RECORD, DatabaseCredentialsError, DatabaseError


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    """A server on which no operator has been yet."""
    admin = PostgresAdmin(params(server))
    world = World(server, admin)
    try:
        yield world
    finally:
        await admin.close()
        await run(world, "DROP DATABASE IF EXISTS tenantry WITH (FORCE)")


async def run(world: World, *statements: str) -> None:
    async with world.superuser() as session:
        for statement in statements:
            await session.execute(statement.encode())


async def test_the_first_probe_makes_the_database_and_says_what_server_it_is(world: World) -> None:
    facts = await world.admin.probe()
    assert facts.version == world.access.version
    assert facts.system_identifier == await world.ask("SELECT system_identifier::text FROM pg_control_system()")
    assert (facts.public_connect, facts.missing_rights, facts.databases) == ((), (), 0)
    assert {"citext", "pg_trgm", "plpgsql"} <= facts.extensions
    assert await world.ask("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'tenantry'") == (
        world.access.admin_user
    )
    assert not await world.ask("SELECT has_database_privilege('public', 'tenantry', 'CONNECT')")
    assert not await world.ask("SELECT has_schema_privilege('public', 'public', 'USAGE')", database="tenantry")
    assert not await world.ask("SELECT has_table_privilege('public', 'claims', 'SELECT')", database="tenantry")


async def test_a_second_probe_writes_nothing(world: World) -> None:
    await world.admin.probe()
    written = "SELECT sum(xmin::text::bigint) FROM (SELECT xmin FROM pg_class UNION ALL SELECT xmin FROM pg_database) x"
    before = await world.ask(written, database="tenantry")
    await world.admin.probe()
    assert await world.ask(written, database="tenantry") == before


async def test_operators_that_come_at_once_make_it_once(world: World) -> None:
    for _ in range(5):
        admins = [PostgresAdmin(params(world.access)) for _ in range(6)]
        try:
            facts = await asyncio.gather(*(admin.probe() for admin in admins))
            assert len({fact.system_identifier for fact in facts}) == 1
        finally:
            for admin in admins:
                await admin.close()
        await run(world, "DROP DATABASE tenantry WITH (FORCE)")


async def test_a_database_that_a_killed_operator_left_closed_is_opened(world: World) -> None:
    await run(world, f"CREATE DATABASE tenantry OWNER {world.access.admin_user} ALLOW_CONNECTIONS false")
    assert (await world.admin.probe()).databases == 0
    assert not await world.ask("SELECT has_database_privilege('public', 'tenantry', 'CONNECT')")


async def test_a_database_that_is_closed_or_dropped_under_way_is_there_again_for_the_call_after_next(
    world: World,
) -> None:
    await world.admin.probe()
    for what in ("ALTER DATABASE tenantry ALLOW_CONNECTIONS false", "DROP DATABASE tenantry WITH (FORCE)"):
        await run(
            world, what, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'tenantry'"
        )
        with pytest.raises(DatabaseError):
            await world.admin.claims("mgmt-1")
        assert await world.admin.claims("mgmt-1") == []


FORMER_TABLE = (
    "CREATE TABLE public.claims (database text PRIMARY KEY, management_id text NOT NULL, tenant_hash text NOT NULL,"
    " record text NOT NULL, state text NOT NULL CHECK (state IN ('creating', 'ready', 'dropping')),"
    " created_at timestamptz NOT NULL DEFAULT now())"
)
"""As the first version made it."""


async def make_former(world: World) -> None:
    """The operator's database as the first version left it."""
    await run(world, f"CREATE DATABASE tenantry OWNER {world.access.admin_user}")
    await run(world, "REVOKE ALL ON DATABASE tenantry FROM PUBLIC")
    async with await psycopg.AsyncConnection.connect(world.access.admin_dsn("tenantry"), autocommit=True) as session:
        await session.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        await session.execute(FORMER_TABLE)


async def test_a_table_of_the_former_version_is_upgraded_with_its_claims(world: World) -> None:
    wanted = world.wanted()
    await make_former(world)
    async with world.superuser("tenantry") as session:
        await session.execute(
            "INSERT INTO claims (database, management_id, tenant_hash, record, state) VALUES (%s, %s, %s, %s, 'ready')",
            [wanted.database, wanted.management_id, wanted.tenant_hash, wanted.record],
        )
    admins = [world.admin, *(PostgresAdmin(params(world.access)) for _ in range(5))]
    try:
        facts = await asyncio.gather(*(admin.probe() for admin in admins))
        assert {fact.databases for fact in facts} == {1}
    finally:
        for admin in admins[1:]:
            await admin.close()
    assert await world.admin.park(wanted, purge_after=datetime(2031, 1, 1, tzinfo=UTC))
    (claim,) = await world.admin.claims("mgmt-1")
    assert (claim.state, claim.purge_after) == ("parked", datetime(2031, 1, 1, tzinfo=UTC))
    with pytest.raises(DatabaseError):
        await world.admin.mark(wanted, before="parked", after="gone")


async def test_an_upgraded_table_is_not_written_again_and_looks_like_a_new_one(world: World) -> None:
    columns = "SELECT array_agg(column_name || data_type || is_nullable ORDER BY column_name) FROM"
    columns += " information_schema.columns WHERE table_name = 'claims'"
    constraints = "SELECT array_agg(conname || pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint"
    constraints += " WHERE conrelid = 'claims'::regclass AND contype IN ('c', 'p')"
    looks = []
    await make_former(world)
    for _ in range(2):
        await world.admin.probe()
        written = await world.ask("SELECT sum(xmin::text::bigint) FROM pg_class", database="tenantry")
        await world.admin.probe()
        assert await world.ask("SELECT sum(xmin::text::bigint) FROM pg_class", database="tenantry") == written
        looks.append([await world.ask(query, database="tenantry") for query in (columns, constraints)])
        await run(world, "DROP DATABASE tenantry WITH (FORCE)")
    assert looks[0] == looks[1]


async def test_any_method_can_be_the_first(world: World) -> None:
    assert await world.admin.claims("mgmt-1") == []


async def test_a_database_of_that_name_that_is_somebody_elses_is_refused(world: World) -> None:
    await run(world, "CREATE DATABASE tenantry")
    with pytest.raises(DatabaseCredentialsError, match="belongs to another role"):
        await world.admin.probe()


async def test_a_role_that_may_not_make_the_database_is_told_what_to_ask_for(world: World) -> None:
    await run(world, "CREATE ROLE poor LOGIN PASSWORD 'poor'", "GRANT CONNECT ON DATABASE postgres TO poor")
    admin = PostgresAdmin(params(world.access, username="poor", password="poor"))
    try:
        with pytest.raises(DatabaseCredentialsError, match='ALTER ROLE "poor" CREATEDB CREATEROLE') as caught:
            await admin.probe()
        await run(world, "REVOKE CONNECT ON DATABASE postgres FROM poor", "ALTER ROLE poor CREATEDB CREATEROLE")
        with pytest.raises(DatabaseCredentialsError, match='GRANT CONNECT ON DATABASE postgres TO "poor"'):
            await admin.probe()
        await run(world, *filter(None, caught.value.message.partition("As a superuser: ")[2].split(";")))
        assert (await admin.probe()).missing_rights == ()
    finally:
        await admin.close()
        await run(world, "DROP DATABASE IF EXISTS tenantry WITH (FORCE)", "DROP OWNED BY poor", "DROP ROLE poor")


async def test_rights_that_are_taken_away_later_are_missed(world: World) -> None:
    admin = world.access.admin_user
    await world.admin.probe()
    await run(world, f"ALTER ROLE {admin} NOCREATEDB NOCREATEROLE")
    try:
        assert (await world.admin.probe()).missing_rights == ("CREATEDB", "CREATEROLE")
    finally:
        await run(world, f"ALTER ROLE {admin} CREATEDB CREATEROLE")


async def test_the_admin_needs_database_postgres_only_once(world: World) -> None:
    admin = world.access.admin_user
    await world.admin.probe()
    await run(world, f"REVOKE CONNECT ON DATABASE postgres FROM {admin}")
    later = PostgresAdmin(params(world.access))
    try:
        assert (await later.probe()).missing_rights == ()
    finally:
        await later.close()
        await run(world, f"GRANT CONNECT ON DATABASE postgres TO {admin}")


async def test_a_door_open_to_public_is_reported_with_sql_that_closes_it(world: World) -> None:
    await run(world, "GRANT CONNECT ON DATABASE postgres TO PUBLIC", "GRANT CONNECT ON DATABASE template1 TO PUBLIC")
    facts = await world.admin.probe()
    assert facts.public_connect == ("postgres", "template1")
    fix = public_connect_fix(facts, world.access.admin_user)
    await run(world, *filter(None, fix.split(";")))
    assert (await world.admin.probe()).public_connect == ()


async def test_a_superuser_as_the_admin_works_too(world: World) -> None:
    access = world.access
    admin = PostgresAdmin(params(access, username=access.superuser, password=access.superuser_password))
    rooted = World(access, admin)
    try:
        assert (await admin.probe()).missing_rights == ()
        wanted = await rooted.provision(password="x")
        assert (await admin.inspect(wanted)).settled
        assert await admin.login_works(wanted, wanted.logins[0], "x")
        assert await admin.park(wanted, purge_after=None)
        assert not await admin.login_works(wanted, wanted.logins[0], "x")
        assert await admin.unpark(wanted)
        await admin.settle(wanted)
        for login in wanted.logins:
            await admin.set_password(wanted, login, "x")
        async with rooted.enter(wanted, "x"):
            assert (await admin.lock_login(wanted, wanted.logins[0], end_sessions=True)).sessions == 1
        await admin.lock_logins(wanted)
        assert (await admin.inspect(wanted)).settled
        with pytest.raises(DatabaseError, match="permission denied to create extension"):
            await admin.settle(replace(wanted, extensions=("dblink",)))
        await rooted.clear()
    finally:
        await admin.close()


async def test_a_claim_is_of_the_first_who_comes(world: World) -> None:
    first = world.wanted(management="mgmt-1")
    second = replace(first, management_id="mgmt-2", record="other")
    claims = await asyncio.gather(*(world.admin.claim(wanted, max_databases=9) for wanted in (first, second) * 5))
    assert len(set(claims)) == 1
    assert claims[0] is not None
    owner = claims[0].management_id
    assert [len(await world.admin.claims(m)) for m in ("mgmt-1", "mgmt-2")] == ([1, 0] if owner == "mgmt-1" else [0, 1])


async def test_a_full_server_takes_no_more_than_it_may_however_many_come_at_once(world: World) -> None:
    wanted = [world.wanted(management=f"mgmt-{i % 2}") for i in range(20)]
    claims = await asyncio.gather(*(world.admin.claim(w, max_databases=7) for w in wanted))
    held = [claim for claim in claims if claim]
    assert len(held) == 7
    assert (await world.admin.probe()).databases == 7
    assert await world.admin.claim(world.wanted(), max_databases=7) is None
    again = next(w for w in wanted if w.database == held[0].database)
    assert await world.admin.claim(again, max_databases=7) == held[0]


async def test_a_scratch_database_takes_no_tenants_place(world: World) -> None:
    scratch = replace(world.wanted(), record=f"{SCRATCH_RECORD}x")
    assert await world.admin.claim(scratch, max_databases=None) is not None
    assert await world.admin.claim(world.wanted(), max_databases=1) is not None
    assert await world.admin.claim(world.wanted(), max_databases=1) is None


async def test_a_claim_changes_state_only_from_what_was_read_and_only_by_its_owner(world: World) -> None:
    wanted = world.wanted()
    await world.admin.claim(wanted, max_databases=None)
    stranger = replace(wanted, management_id="mgmt-2")
    assert not await world.admin.mark(stranger, before="creating", after="ready")
    assert not await world.admin.mark(wanted, before="ready", after="dropping")
    marked = [world.admin.mark(wanted, before="creating", after="ready") for _ in range(5)]
    assert sorted(await asyncio.gather(*marked)) == [False] * 4 + [True]
    await world.admin.release(wanted)
    await world.admin.release(stranger)
    assert [claim.state for claim in await world.admin.claims("mgmt-1")] == ["ready"]


async def test_a_state_that_does_not_exist_is_refused(world: World) -> None:
    wanted = world.wanted()
    await world.admin.claim(wanted, max_databases=None)
    with pytest.raises(DatabaseError) as caught:
        await world.admin.mark(wanted, before="creating", after="gone")
    assert caught.value.sqlstate == psycopg.errors.CheckViolation.sqlstate


async def test_two_management_clusters_share_a_server_without_touching_each_other(world: World) -> None:
    await world.admin.probe()
    other = PostgresAdmin(params(world.access))
    try:
        mine, yours = await world.provision(world.wanted(management="mgmt-1")), world.wanted(management="mgmt-2")
        await World(world.access, other).provision(yours)
        impostor = replace(mine, management_id="mgmt-2")
        for step in (other.ensure_roles, other.ensure_database, other.settle, other.drop):
            with pytest.raises(DatabaseError, match=r"somebody else's|in state ready"):
                await step(impostor)
        state = await other.inspect(impostor)
        assert (state.exists, state.stamped, state.settled) == (True, False, False)
        assert (await world.admin.inspect(mine)).settled
        assert [claim.database for claim in await other.claims("mgmt-2")] == [yours.database]
    finally:
        await other.close()
        await world.clear()
