"""A parked database: shut against a tenant that wants to stay, and given back as it was."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import (
    SERVERS,
    KilledError,
    Killer,
    World,
    must_be_shut,
    open_world,
    own_server,
    params,
    park,
    run,
    steps,
)

from tenantry.adapters.postgres import Limits, PostgresAdmin, rules
from tenantry.ports.postgres import DatabaseError, WantedDatabase

DUE = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1)) as world:
        yield world


async def open_again(world: World, wanted: WantedDatabase, password: str) -> None:
    """What the reconciler does after `unpark`."""
    for step in steps(world.admin):
        await step(wanted)
    await world.admin.set_password(wanted, wanted.logins[0], password)
    await world.admin.mark(wanted, before="creating", after="ready")


async def state_of_claim(world: World, wanted: WantedDatabase) -> tuple[str, datetime | None] | None:
    claim = (await world.admin.inspect(wanted)).claim
    return (claim.state, claim.purge_after) if claim else None


async def test_a_parked_database_lets_no_login_in_and_keeps_its_data(world: World) -> None:
    wanted = await world.provision(password="a")
    async with world.enter(wanted, "a") as session:
        await run(session, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS x")
        await park(world, wanted, DUE)
        with pytest.raises(psycopg.OperationalError):
            await session.execute("SELECT 1")
    await must_be_shut(world, wanted, "a")
    state = await world.admin.inspect(wanted)
    assert (state.exists, state.stamped, state.settled) == (True, True, False)
    assert await state_of_claim(world, wanted) == ("parked", DUE)
    assert await world.ask("SELECT count(*) FROM kept", database=wanted.database) == 1000


async def test_the_passwords_of_a_parked_database_stay(world: World) -> None:
    wanted = await world.provision(password="a")
    stored = "SELECT array_agg(rolpassword ORDER BY rolname) FROM pg_authid WHERE rolname = ANY (%s)"
    before = await world.ask(stored, list(wanted.logins))
    await park(world, wanted)
    assert await world.ask(stored, list(wanted.logins)) == before


async def test_the_admin_still_gets_into_a_parked_database_for_its_backup(world: World) -> None:
    wanted = await world.provision(password="a")
    await park(world, wanted)
    async with await psycopg.AsyncConnection.connect(world.access.admin_dsn(wanted.database)) as backup:
        await park(world, wanted)  # a repetition
        await backup.execute("SELECT 1")


async def test_to_park_again_writes_nothing_and_changes_only_when_it_is_due(world: World) -> None:
    wanted = await world.provision(password="a")
    await park(world, wanted, DUE)
    written = "SELECT sum(xmin::text::bigint + xmax::text::bigint) FROM (SELECT xmin, xmax FROM pg_authid UNION ALL"
    written += " SELECT xmin, xmax FROM pg_database UNION ALL SELECT xmin, xmax FROM claims"
    written += " UNION ALL SELECT xmin, xmax FROM pg_auth_members) x"
    before = await world.ask(written, database="tenantry")
    await park(world, wanted, DUE)
    assert await world.ask(written, database="tenantry") == before
    await park(world, wanted)
    assert await state_of_claim(world, wanted) == ("parked", None)
    await park(world, wanted, LONG_AGO)
    assert await state_of_claim(world, wanted) == ("parked", LONG_AGO)


async def test_a_time_without_a_zone_is_refused(world: World) -> None:
    wanted = await world.provision()
    with pytest.raises(DatabaseError, match="no time zone"):
        await world.admin.park(wanted, purge_after=DUE.replace(tzinfo=None))
    assert await state_of_claim(world, wanted) == ("ready", None)


async def test_a_time_that_a_human_set_to_infinity_breaks_nothing(world: World) -> None:
    wanted = await world.provision()
    await park(world, wanted, DUE)
    async with world.superuser("tenantry") as session:
        await session.execute("UPDATE claims SET purge_after = 'infinity' WHERE database = %s", [wanted.database])
    assert await state_of_claim(world, wanted) == ("parked", None)
    assert [c.purge_after for c in await world.admin.claims("mgmt-1") if c.database == wanted.database] == [None]
    assert not await world.admin.expire(wanted)


FULL = (
    "CREATE SCHEMA app",
    "CREATE TABLE app.orders (id serial PRIMARY KEY, what text NOT NULL CHECK (what <> ''), at timestamptz)",
    "INSERT INTO app.orders (what, at) SELECT 'order ' || i, '2026-01-01Z' FROM generate_series(1, 500) i",
    "CREATE VIEW public.recent AS SELECT * FROM app.orders WHERE id > 400",
    "CREATE FUNCTION app.twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2'",
    "CREATE TYPE app.mood AS ENUM ('fine', 'not')",
    "ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON app.orders USING (true)",
    "GRANT SELECT ON public.recent TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC",
    "SELECT lo_from_bytea(0, 'large')",
    "COMMENT ON TABLE app.orders IS 'kept'",
    "SET ROLE NONE",
    "CREATE TABLE public.of_the_login (x int)",
    "ALTER ROLE {d}_0 IN DATABASE {d} SET work_mem = '5MB'",
    "ALTER ROLE {d}_0 SET statement_timeout = '7s'",
)


async def whole_catalog(world: World, wanted: WantedDatabase) -> dict[str, Any]:
    """Everything there is of a tenant, inside and outside, as the server's owner sees it."""
    roles = [wanted.owner, *wanted.logins]
    shared = {
        "database": "SELECT jsonb_agg(to_jsonb(d) - 'datacl' - 'datfrozenxid' - 'datminmxid') FROM pg_database d"
        " WHERE datname = %(d)s",
        "privileges": "SELECT jsonb_agg(to_jsonb(x) ORDER BY x::text) FROM (SELECT (aclexplode(datacl)).* FROM"
        " pg_database WHERE datname = %(d)s) x",
        "comments": "SELECT jsonb_agg(to_jsonb(c) ORDER BY c::text) FROM pg_shdescription c"
        " WHERE description LIKE %(hash)s",
        "roles": "SELECT jsonb_agg(to_jsonb(a) ORDER BY rolname) FROM pg_authid a WHERE rolname = ANY (%(roles)s)",
        "members": "SELECT jsonb_agg(to_jsonb(m) - 'oid' ORDER BY roleid, member, grantor) FROM pg_auth_members m"
        " JOIN pg_roles r ON r.oid = m.roleid WHERE rolname = ANY (%(roles)s)",
        "settings": "SELECT jsonb_agg(to_jsonb(s) ORDER BY s::text) FROM pg_db_role_setting s"
        " JOIN pg_roles r ON r.oid = setrole WHERE rolname = ANY (%(roles)s)",
    }
    values = {"d": wanted.database, "roles": roles, "hash": f"%{wanted.tenant_hash}%"}
    found: dict[str, Any] = {}
    async with world.superuser() as session:
        for name, query in shared.items():
            row = await (await session.execute(query.encode(), values)).fetchone()
            found[name] = row[0] if row else None
    found["inside"] = await dump(world, wanted)
    return found


async def dump(world: World, wanted: WantedDatabase) -> str:
    """All inside a database as SQL: definitions, owners, privileges, rows, sequences, large objects."""
    program = await asyncio.create_subprocess_exec(
        world.access.bin / "pg_dump",
        "--dbname",
        world.access.superuser_dsn(wanted.database),
        stdout=subprocess.PIPE,
    )
    text, _ = await program.communicate()
    assert program.returncode == 0
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text.decode())  # a random word in newer versions


async def test_what_is_unparked_is_as_it_was_in_every_catalog_and_row(world: World) -> None:
    wanted = await world.provision(world.wanted(extensions=("citext",)), password="a")
    async with world.enter(wanted, "a") as session:
        await run(session, *(statement.format(d=wanted.database) for statement in FULL))
    before = await whole_catalog(world, wanted)
    assert "order 500" in before["inside"]
    await park(world, wanted, DUE)
    parked = await whole_catalog(world, wanted)
    assert parked["privileges"] != before["privileges"]
    assert await world.admin.unpark(wanted)
    assert await state_of_claim(world, wanted) == ("ready", None)
    await open_again(world, wanted, "a")
    after = await whole_catalog(world, wanted)
    for catalog in (before, after):
        for role in catalog["roles"]:
            role.pop("rolpassword")  # a verifier with another salt
    assert after == before
    assert (await world.admin.inspect(wanted)).settled
    assert await world.admin.login_works(wanted, wanted.logins[0], "a")


async def test_only_a_parked_claim_is_unparked_and_only_once(world: World) -> None:
    wanted = await world.provision(password="a")
    assert not await world.admin.unpark(wanted)
    await park(world, wanted)
    stranger = replace(wanted, management_id="mgmt-2")
    assert not await world.admin.unpark(stranger)
    outcomes = await asyncio.gather(*(world.admin.unpark(wanted) for _ in range(5)))
    assert sorted(outcomes) == [False] * 4 + [True]


async def test_no_step_of_the_reconciler_opens_a_parked_database(world: World) -> None:
    wanted = await world.provision(password="a")
    await park(world, wanted)
    for step in (*steps(world.admin), world.admin.lock_logins, world.admin.reassign):
        with pytest.raises(DatabaseError, match="is in state parked"):
            await step(wanted)
    with pytest.raises(DatabaseError, match="is in state parked"):
        await world.admin.set_password(wanted, wanted.logins[0], "a")
    claim = await world.admin.claim(wanted, max_databases=1)
    assert claim is not None
    assert claim.state == "parked"
    await must_be_shut(world, wanted, "a")


async def test_an_operator_that_was_about_to_open_it_comes_too_late(world: World) -> None:
    wanted = await world.provision(password="a")
    other = PostgresAdmin(params(world.access))
    try:
        for _ in range(15):
            racing = [
                world.admin.park(wanted, purge_after=None),
                other.set_password(wanted, wanted.logins[0], "a"),
                other.set_password(wanted, wanted.logins[1], "a"),
            ]
            outcomes = await asyncio.gather(*racing, return_exceptions=True)
            assert outcomes[0] is True
            assert all(o is None or isinstance(o, DatabaseError) for o in outcomes[1:]), outcomes
            await must_be_shut(world, wanted, "a")
            assert await world.admin.unpark(wanted)
            await open_again(world, wanted, "a")
    finally:
        await other.close()


@pytest.mark.parametrize("done", range(4))
async def test_a_half_made_database_is_parked_and_made_to_the_end_after_that(world: World, done: int) -> None:
    wanted = world.wanted()
    await world.admin.claim(wanted, max_databases=None)
    for step in steps(world.admin)[:done]:
        await step(wanted)
    await park(world, wanted)
    await park(world, wanted)
    assert await state_of_claim(world, wanted) == ("parked", None)
    assert not (await world.admin.inspect(wanted)).settled
    assert await world.admin.unpark(wanted)
    assert await state_of_claim(world, wanted) == ("ready" if done == 3 else "creating", None)
    await open_again(world, wanted, "a")
    assert (await world.admin.inspect(wanted)).settled
    assert await world.admin.login_works(wanted, wanted.logins[0], "a")


async def test_a_database_that_vanished_while_it_was_parked_is_not_made_anew(world: World) -> None:
    wanted = await world.provision()
    await park(world, wanted)
    async with world.superuser() as session:
        await run(session, f"DROP DATABASE {wanted.database}")
    await park(world, wanted)
    assert await world.admin.unpark(wanted)
    with pytest.raises(DatabaseError, match="was ready and is gone"):
        await world.admin.ensure_database(wanted)


async def test_there_is_nothing_to_park_without_a_claim_or_when_it_is_being_dropped(world: World) -> None:
    wanted = await world.provision(password="a")
    assert not await world.admin.park(replace(wanted, management_id="mgmt-2"), purge_after=None)
    assert not await world.admin.park(world.wanted(), purge_after=None)
    assert await world.admin.login_works(wanted, wanted.logins[0], "a")
    await world.admin.mark(wanted, before="ready", after="dropping")
    assert not await world.admin.park(wanted, purge_after=DUE)
    assert await state_of_claim(world, wanted) == ("dropping", None)


@pytest.mark.parametrize("comment", [None, rules.Stamp("somebody", "else").comment()])
async def test_what_is_not_the_tenants_is_not_touched(world: World, comment: str | None) -> None:
    wanted = world.wanted()
    role = wanted.logins[1]
    async with world.superuser() as session:
        await run(session, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    await world.admin.claim(wanted, max_databases=None)
    async with world.superuser() as session:
        await run(session, f"CREATE DATABASE {wanted.database}")
        if comment:
            await run(session, f"COMMENT ON DATABASE {wanted.database} IS '{comment}'")
    try:
        async with await psycopg.AsyncConnection.connect(world.access.dsn(role, "x", wanted.database)) as session:
            with pytest.raises(DatabaseError, match="another"):
                await world.admin.park(wanted, purge_after=None)
            await session.execute("SELECT 1")
        assert await world.ask("SELECT has_database_privilege('public', %s, 'CONNECT')", wanted.database)
    finally:
        async with world.superuser() as session:
            await run(session, f"DROP DATABASE {wanted.database} WITH (FORCE)", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("purge_after", "due"),
    [
        (lambda now: now - timedelta(seconds=1), True),
        (lambda now: now + timedelta(hours=1), False),
        (lambda _: None, False),
    ],
)
async def test_a_parked_database_expires_by_the_servers_clock(
    world: World, purge_after: Callable[[datetime], datetime | None], due: bool
) -> None:
    wanted = await world.provision()
    assert not await world.admin.expire(wanted)
    await park(world, wanted, purge_after(await world.ask("SELECT now()")))
    assert not await world.admin.expire(replace(wanted, management_id="mgmt-2"))
    outcomes = await asyncio.gather(*(world.admin.expire(wanted) for _ in range(3)))
    assert sorted(outcomes) == [False, False, due]
    state = await state_of_claim(world, wanted)
    assert state is not None
    assert state[0] == ("dropping" if due else "parked")
    if due:
        assert not await world.admin.unpark(wanted)
        await world.admin.drop(wanted)
        await world.admin.release(wanted)
        assert await state_of_claim(world, wanted) is None


async def test_undelete_and_the_end_of_the_window_can_not_both_win(world: World) -> None:
    wanted = await world.provision(password="a")
    for _ in range(15):
        await park(world, wanted, LONG_AGO)
        expired, unparked = await asyncio.gather(world.admin.expire(wanted), world.admin.unpark(wanted))
        assert expired is not unparked
        if expired:
            assert await world.admin.mark(wanted, before="dropping", after="ready")
        await open_again(world, wanted, "a")


async def test_a_kill_at_any_statement_leaves_what_can_be_parked_or_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(monkeypatch)
    wanted = await world.provision(password="a")
    kills = 0
    for killed_at in itertools.count():
        admin = PostgresAdmin(params(world.access))
        killer.countdown = killed_at
        try:
            async with world.enter(wanted, "a"):
                await admin.park(wanted, purge_after=DUE)
        except KilledError:
            kills += 1
        else:
            break
        finally:
            killer.countdown = None
            await admin.close()
        state = await world.admin.inspect(wanted)
        assert state.claim is not None
        assert (state.claim.state, state.settled) in {("ready", True), ("parked", False)}
        if killed_at % 2:  # the one half is undone, the other finished
            await world.admin.unpark(wanted)
        else:
            await park(world, wanted, DUE)
            await must_be_shut(world, wanted, "a")
            assert await world.admin.unpark(wanted)
        await open_again(world, wanted, "a")
        assert (await world.admin.inspect(wanted)).settled
        assert await world.admin.login_works(wanted, wanted.logins[0], "a")
    assert kills > 8
    await must_be_shut(world, wanted, "a")
