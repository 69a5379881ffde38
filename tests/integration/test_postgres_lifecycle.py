"""A tenant's database from the claim to the release, on both versions, undisturbed and broken off anywhere."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.integration.postgres_tenants import SERVERS, KilledError, Killer, World, open_world, params, steps

from tenantry.adapters.postgres import PostgresAdmin
from tenantry.ports.postgres import DatabaseError, DatabaseState, WantedDatabase

NOTHING = DatabaseState(claim=None, exists=False, stamped=False, settled=False)


@pytest.fixture(params=SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_world(request.getfixturevalue(request.param)) as world:
        yield world


async def test_a_tenant_gets_a_database_and_a_login_that_works(world: World) -> None:
    wanted = await world.provision(password="first")
    assert await world.admin.login_works(wanted, wanted.logins[0], "first")
    state = await world.admin.inspect(wanted)
    assert state.claim is not None
    assert (state.claim.state, state.claim.record) == ("ready", wanted.record)
    assert (state.exists, state.stamped, state.settled) == (True, True, True)


async def test_objects_belong_to_the_owner_role_whichever_login_made_them(world: World) -> None:
    wanted = await world.provision(password="first")
    await world.admin.set_password(wanted, wanted.logins[1], "second")
    for login, password in enumerate(("first", "second")):
        async with world.enter(wanted, password, login) as session:
            await session.execute(f"CREATE TABLE t{login} (x int)".encode())
    owners = "SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables WHERE schemaname = 'public'"
    assert await world.ask(owners, database=wanted.database) == [wanted.owner]


async def test_text_sorts_by_code_points_and_upper_knows_unicode(world: World) -> None:
    wanted = await world.provision(password="first")
    async with world.enter(wanted, "first") as session:
        cursor = await session.execute("SELECT array_agg(x ORDER BY x), upper('äé') FROM unnest(ARRAY['b','B','a']) x")
        assert await cursor.fetchone() == (["B", "a", "b"], "ÄÉ")


async def test_an_allowed_extension_is_created_in_schema_public(world: World) -> None:
    wanted = await world.provision(world.wanted(extensions=("citext", "pg_trgm")), password="first")
    assert (await world.admin.inspect(wanted)).settled
    async with world.enter(wanted, "first") as session:
        cursor = await session.execute("SELECT 'A'::citext = 'a'::citext, similarity('abc', 'abc')")
        assert await cursor.fetchone() == (True, 1.0)


async def test_an_extension_added_later_is_missing_until_settled(world: World) -> None:
    wanted = replace(await world.provision(), extensions=("citext",))
    assert not (await world.admin.inspect(wanted)).settled
    await world.admin.settle(wanted)
    assert (await world.admin.inspect(wanted)).settled


async def test_an_untrusted_extension_is_refused_even_if_somebody_allowed_it(world: World) -> None:
    wanted = world.wanted(extensions=("dblink",))
    with pytest.raises(DatabaseError, match="permission denied to create extension") as caught:
        await world.provision(wanted)
    assert caught.value.sqlstate == "42501"
    assert not (await world.admin.inspect(wanted)).stamped


async def test_a_step_on_what_is_right_writes_nothing(world: World) -> None:
    wanted = await world.provision(world.wanted(extensions=("citext",)), password="first")
    before = await catalog_versions(world, wanted)
    for step in steps(world.admin):
        await step(wanted)
    assert await world.admin.claim(wanted, max_databases=1) == (await world.admin.inspect(wanted)).claim
    assert await catalog_versions(world, wanted) == before
    assert await world.admin.login_works(wanted, wanted.logins[0], "first")


async def catalog_versions(world: World, wanted: WantedDatabase) -> Any:
    """The transactions that last wrote the tenant's rows in the shared catalogs and its schema."""
    return await world.ask(
        "SELECT array_agg(v ORDER BY v) FROM (SELECT 'd' || xmin AS v FROM pg_database WHERE datname = %s"
        " UNION ALL SELECT 'r' || a.xmin FROM pg_authid a WHERE rolname = ANY (%s)"
        " UNION ALL SELECT 'm' || m.xmin FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        " WHERE rolname = ANY (%s) UNION ALL SELECT 's' || s.xmin FROM pg_db_role_setting s"
        " JOIN pg_database b ON b.oid = s.setdatabase WHERE b.datname = current_database()"
        " UNION ALL SELECT 'c' || c.xmin FROM pg_shdescription c JOIN pg_database d ON d.oid = c.objoid"
        " WHERE d.datname = current_database() UNION ALL SELECT 'n' || n.xmin FROM pg_namespace n) x",
        wanted.database,
        [wanted.owner, *wanted.logins],
        [wanted.owner, *wanted.logins],
        database=wanted.database,
    )


DRIFT = {
    "PUBLIC may connect": "GRANT CONNECT ON DATABASE {d} TO PUBLIC",
    "a login may connect for itself": "GRANT CONNECT ON DATABASE {d} TO {d}_0",
    "the owner may grant on": "GRANT CREATE ON DATABASE {d} TO {d}_owner WITH GRANT OPTION",
    "the owner may not create": "REVOKE CREATE ON DATABASE {d} FROM {d}_owner",
    "the limit is lifted": "ALTER DATABASE {d} CONNECTION LIMIT -1",
    "the login's limit is lifted": "ALTER ROLE {d}_0 CONNECTION LIMIT -1",
    "the tenant owns the database": "ALTER DATABASE {d} OWNER TO {d}_owner",
    "it is closed": "ALTER DATABASE {d} ALLOW_CONNECTIONS false",
    "a login is not as the owner": "ALTER ROLE {d}_1 IN DATABASE {d} RESET role",
    "a login is no member": "SET ROLE {admin}; REVOKE {d}_owner FROM {d}_1",
    "a login may create roles": "ALTER ROLE {d}_0 CREATEROLE CREATEDB",
    "the owner may log in": "ALTER ROLE {d}_owner LOGIN",
    "a login is gone": "DROP ROLE {d}_1",
}


@pytest.mark.parametrize("what", DRIFT)
async def test_drift_is_noticed_and_put_right(world: World, what: str) -> None:
    wanted = await world.provision(password="first")
    async with world.superuser() as session:
        if "gone" in what:
            await session.execute(f"REASSIGN OWNED BY {wanted.logins[1]} TO {wanted.owner}".encode())
        await session.execute(DRIFT[what].format(d=wanted.database, admin=world.access.admin_user).encode())
    assert not (await world.admin.inspect(wanted)).settled
    await world.admin.ensure_roles(wanted)
    await world.admin.settle(wanted)
    assert (await world.admin.inspect(wanted)).settled
    assert await world.admin.login_works(wanted, wanted.logins[0], "first")


@pytest.mark.parametrize("as_login", [False, True])
async def test_a_schema_public_that_the_tenant_replaced_stays_its_own(world: World, as_login: bool) -> None:
    wanted = await world.provision(password="first")
    async with world.enter(wanted, "first") as session:
        await session.execute("DROP SCHEMA public CASCADE")
        assert not (await world.admin.inspect(wanted)).settled
        if as_login:
            await session.execute("SET ROLE NONE")
        await session.execute("CREATE SCHEMA public")
        await session.execute("CREATE TABLE public.kept (x int)")
    assert (await world.admin.inspect(wanted)).settled is not as_login
    await world.admin.settle(wanted)
    assert (await world.admin.inspect(wanted)).settled
    assert await world.ask("SELECT to_regclass('public.kept') IS NOT NULL", database=wanted.database)


async def test_a_schema_public_that_the_tenant_dropped_is_made_again(world: World) -> None:
    wanted = await world.provision(world.wanted(extensions=("citext",)), password="first")
    async with world.enter(wanted, "first") as session:
        await session.execute("DROP SCHEMA public CASCADE")
    await world.admin.settle(wanted)
    assert (await world.admin.inspect(wanted)).settled


async def test_a_database_that_was_ready_and_vanished_is_not_made_again(world: World) -> None:
    wanted = await world.provision()
    async with world.superuser() as session:
        await session.execute(f"DROP DATABASE {wanted.database}".encode())
    state = await world.admin.inspect(wanted)
    assert (state.exists, state.settled) == (False, False)
    with pytest.raises(DatabaseError, match="was ready and is gone"):
        await world.admin.ensure_database(wanted)
    assert not (await world.admin.inspect(wanted)).exists


async def test_a_dropped_tenant_leaves_nothing(world: World) -> None:
    wanted = await world.provision(password="first")
    await world.admin.mark(wanted, before="ready", after="dropping")
    for _ in range(2):
        await world.admin.drop(wanted)
    for _ in range(2):
        await world.admin.release(wanted)
    assert await world.admin.inspect(wanted) == NOTHING
    left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE %s"
    assert await world.ask(left, wanted.database + "%") == 0


async def test_a_claim_is_kept_while_the_database_is_there(world: World) -> None:
    wanted = await world.provision()
    await world.admin.mark(wanted, before="ready", after="dropping")
    with pytest.raises(DatabaseError, match="still there"):
        await world.admin.release(wanted)
    claim = (await world.admin.inspect(wanted)).claim
    assert claim is not None
    assert claim.state == "dropping"


@pytest.mark.parametrize("state", ["creating", "ready"])
async def test_only_what_is_marked_for_it_is_dropped(world: World, state: str) -> None:
    wanted = await world.provision()
    await world.admin.mark(wanted, before="ready", after=state)
    with pytest.raises(DatabaseError, match=f"must be dropping, but is in state {state}"):
        await world.admin.drop(wanted)
    assert (await world.admin.inspect(wanted)).exists


async def test_a_name_full_of_sql_is_only_a_name(world: World) -> None:
    nasty = "a\"; DROP TABLE claims; --'%s{}\\"
    wanted = await world.provision(world.wanted(database=nasty, extensions=("citext",)), password='it\'s \\ "x"')
    assert (await world.admin.inspect(wanted)).settled
    async with world.enter(wanted, 'it\'s \\ "x"') as session:
        cursor = await session.execute("SELECT current_database()::text, current_user::text")
        assert await cursor.fetchone() == (nasty, nasty + "_owner")


async def whole_life(admin: PostgresAdmin, wanted: WantedDatabase) -> None:
    """What the reconciler does from the state that it finds, up to a working login."""
    claim = await admin.claim(wanted, max_databases=None)
    assert claim is not None
    for step in steps(admin):
        await step(wanted)
    await admin.set_password(wanted, wanted.logins[0], "first")
    if claim.state == "creating":
        await admin.mark(wanted, before="creating", after="ready")


async def test_a_kill_before_or_after_any_statement_ends_in_the_same_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(monkeypatch)
    wanted = world.wanted(extensions=("citext",))
    kills = 0
    for killed_at in itertools.count():
        admin = PostgresAdmin(params(world.access))
        killer.countdown = killed_at
        try:
            await whole_life(admin, wanted)
        except KilledError:
            kills += 1
        else:
            break
        finally:
            killer.countdown = None
            await admin.close()
    assert kills > 20
    state = await world.admin.inspect(wanted)
    assert (state.stamped, state.settled) == (True, True)
    assert await world.admin.login_works(wanted, wanted.logins[0], "first")


async def test_a_kill_at_any_statement_of_the_drop_leaves_a_drop_that_can_be_finished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(monkeypatch)
    wanted = await world.provision(password="first")
    await world.admin.mark(wanted, before="ready", after="dropping")
    kills = 0
    for killed_at in itertools.count():
        admin = PostgresAdmin(params(world.access))
        killer.countdown = killed_at
        try:
            await admin.drop(wanted)
            await admin.release(wanted)
        except KilledError:
            kills += 1
        else:
            break
        finally:
            killer.countdown = None
            await admin.close()
    assert kills > 8
    assert await world.admin.inspect(wanted) == NOTHING


@pytest.mark.parametrize("done", range(4))
async def test_a_half_made_tenant_can_be_dropped(world: World, done: int) -> None:
    wanted = world.wanted()
    await world.admin.claim(wanted, max_databases=None)
    for step in steps(world.admin)[:done]:
        await step(wanted)
    await world.admin.mark(wanted, before="creating", after="dropping")
    await world.admin.drop(wanted)
    await world.admin.release(wanted)
    assert await world.admin.inspect(wanted) == NOTHING


async def test_two_operators_at_the_same_steps_end_in_the_same_state(world: World) -> None:
    wanted = world.wanted()
    other = PostgresAdmin(params(world.access))
    try:
        outcomes = await asyncio.gather(
            *(whole_life(admin, wanted) for admin in (world.admin, other)), return_exceptions=True
        )
    finally:
        await other.close()
    assert all(outcome is None or isinstance(outcome, DatabaseError) for outcome in outcomes), outcomes
    await whole_life(world.admin, wanted)
    assert (await world.admin.inspect(wanted)).settled
