"""A tenant's database copied between real servers of all pairs of versions: equal, or an error and nothing believed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import path_with_programs
from tests.integration.postgres_tenants import SERVERS, World, open_world, own_server, owners, run

from tenantry.adapters.postgres import comparing, copying
from tenantry.adapters.postgres.copying import PostgresCopier
from tenantry.adapters.postgres.servers import ServerConnection
from tenantry.adapters.postgres.tools import find_tools
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import ServerEndpoint

UPWARDS = [("postgres", "postgres"), ("postgres_tls", "postgres_tls"), ("postgres_tls", "postgres")]
"""18 to 18, 15 to 15 and 15 to 18."""

FILLED = (
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE SCHEMA app",
    "CREATE TYPE app.colour AS ENUM ('red', 'green')",
    "CREATE TABLE app.parent (id bigserial PRIMARY KEY, name citext NOT NULL, colour app.colour, at timestamptz,"
    " amount numeric, ratio double precision, blob bytea, doc jsonb, tags text[])",
    "INSERT INTO app.parent (name, colour, at, amount, ratio, blob, doc, tags) SELECT 'n' || i, 'red',"
    " '2026-01-01 12:00+02'::timestamptz + i * interval '1 hour', i / 7.0, i / 7.0, decode(md5(i::text), 'hex'),"
    " jsonb_build_object('i', i), ARRAY['a', i::text] FROM generate_series(1, 5000) i",
    "CREATE TABLE child (x int REFERENCES app.parent, x_row text) PARTITION BY RANGE (x)",
    "CREATE TABLE child_low PARTITION OF child FOR VALUES FROM (1) TO (100)",
    "INSERT INTO child SELECT i, NULL FROM generate_series(1, 99) i",
    "CREATE TABLE nothing ()",
    "INSERT INTO nothing DEFAULT VALUES",
    'CREATE TABLE "odd "" name" (x text)',
    """INSERT INTO "odd "" name" VALUES (E'line\\nbreak'), (NULL), ('')""",
    "CREATE VIEW app.seen AS SELECT count(*) FROM app.parent",
    "CREATE FUNCTION app.twice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2'",
    "CREATE INDEX ON child_low (app.twice(x))",
    "SELECT lo_from_bytea(0, convert_to(repeat('large', 500000), 'UTF8')), lo_from_bytea(0, '')",
)


@dataclass(frozen=True, slots=True)
class Side:
    """A server as the copier gets it, and the world of tests on it."""

    world: World
    server: ServerConnection


@pytest.fixture(scope="module")
def accesses() -> Iterator[dict[str, PostgresAccess]]:
    running = {name: own_server(name) for name in SERVERS}
    try:
        yield {name: server.start().access for name, server in running.items()}
    finally:
        for server in running.values():
            server.stop()


@pytest.fixture
async def sides(accesses: dict[str, PostgresAccess], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Side]]:
    monkeypatch.setenv("PATH", path_with_programs())
    async with AsyncExitStack() as stack:
        opened = {}
        for name, access in accesses.items():
            world = await stack.enter_async_context(open_world(access))
            endpoint = ServerEndpoint(
                host=access.host,
                port=access.port,
                username=access.admin_user,
                password=access.admin_password,
                ssl_mode="verify-full" if access.ca_pem else "disable",
                ca_pem=access.ca_pem or "",
            )
            server = ServerConnection(name, endpoint, "127.0.0.1")
            stack.push_async_callback(server.close)
            await server.probe()
            opened[name] = Side(world, server)
        yield opened


async def filled(side: Side, *more: str) -> WantedDatabase:
    """A tenant's database with something of everything, left: nobody gets in any more."""
    wanted = await side.world.provision(side.world.wanted(extensions=("citext",)), password="a")
    async with side.world.enter(wanted, "a") as session:
        await run(session, *FILLED, *more)
    await side.world.admin.park(wanted, purge_after=None)
    return wanted


async def new(side: Side) -> WantedDatabase:
    """An empty one whose first login is open."""
    wanted = side.world.wanted(extensions=("citext",))
    await side.world.admin.claim(wanted, max_databases=None)
    for step in (side.world.admin.ensure_roles, side.world.admin.ensure_database, side.world.admin.settle):
        await step(wanted)
    await side.world.admin.set_password(wanted, wanted.logins[0], "b")
    return wanted


@pytest.mark.parametrize(("origin", "destination"), UPWARDS)
async def test_all_of_a_database_arrives_and_belongs_to_its_owner(
    sides: dict[str, Side], origin: str, destination: str
) -> None:
    old, there = await filled(sides[origin]), await new(sides[destination])
    copier = PostgresCopier()
    assert await copier.is_empty(sides[destination].server, there)
    copied = await copier.copy(sides[origin].server, old, sides[destination].server, there, "b")
    assert (copied.tables, copied.rows, copied.sequences, copied.large_objects) == (4, 5000 + 99 + 1 + 3, 1, 2)
    assert not await copier.is_empty(sides[destination].server, there)
    world = sides[destination].world
    assert await owners(world, there) == {there.owner}
    await world.admin.mark(there, before="creating", after="ready")
    async with world.enter(there, "b") as session:
        cursor = await session.execute("INSERT INTO app.parent (name) VALUES ('next') RETURNING id")
        assert await cursor.fetchone() == (5001,)
        cursor = await session.execute("SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata")
        assert await cursor.fetchone() == (2500000,)
    assert (await world.admin.inspect(there)).settled


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE app.parent SET name = 'N1' WHERE id = 1",
        "DELETE FROM app.parent WHERE id = 5000",
        "INSERT INTO nothing DEFAULT VALUES",
        "SELECT nextval('app.parent_id_seq')",
        "SELECT lo_put(min(oid), 4, 'X') FROM pg_largeobject_metadata",
        "CREATE TABLE more (x int)",
    ],
)
async def test_whatever_differs_afterwards_is_found(sides: dict[str, Side], change: str) -> None:
    """Changed on the new side while it is being filled, as a trigger there might do."""
    origin, destination = sides["postgres"], sides["postgres"]
    old, there = await filled(origin), await new(destination)
    copier = PostgresCopier()
    await copier.copy(origin.server, old, destination.server, there, "b")
    async with destination.world.enter(there, "b") as session:
        await run(session, change)
    before = await copying.content_of(origin.server, old.database, old.owner)
    after = await copying.content_of(destination.server, there.database, there.owner)
    with pytest.raises(DatabaseError, match="not equal"):
        comparing.check_equal(before, after)


async def test_code_of_the_tenant_that_runs_in_a_copy_gets_no_further_than_the_tenant(sides: dict[str, Side]) -> None:
    side = sides["postgres"]
    other = await side.world.provision(password="c")
    is_operator = "pg_has_role(session_user, '{}', 'MEMBER') OR"
    is_operator += " (SELECT rolcreaterole FROM pg_roles WHERE rolname = session_user)"
    evil = (
        "CREATE FUNCTION app.evil(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RESET ROLE;"
        " IF " + is_operator.format(other.owner) + " THEN RAISE EXCEPTION 'it is the operator'; END IF;"
        " RETURN true; END $$",
        "CREATE TABLE trap (x int CHECK (app.evil(x)))",
        "INSERT INTO trap VALUES (1)",
        "CREATE FUNCTION app.spy(trap) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM app.evil(1);"
        " RETURN 'always the same'; END $$",
        "CREATE CAST (trap AS text) WITH FUNCTION app.spy(trap)",
    )
    old, there = await filled(side, *evil), await new(side)
    copied = await PostgresCopier().copy(side.server, old, side.server, there, "b")
    assert copied.tables == 5


async def test_rows_that_a_policy_hides_are_an_error_and_not_a_smaller_copy(sides: dict[str, Side]) -> None:
    side = sides["postgres"]
    hidden = ("ALTER TABLE child_low ENABLE ROW LEVEL SECURITY", "ALTER TABLE child_low FORCE ROW LEVEL SECURITY")
    old, there = await filled(side, *hidden), await new(side)
    with pytest.raises(DatabaseError, match="row-level security"):
        await PostgresCopier().copy(side.server, old, side.server, there, "b")


async def test_an_error_of_the_restore_is_told_without_the_rows_in_it(sides: dict[str, Side]) -> None:
    side = sides["postgres"]
    old, there = await filled(side), await new(side)
    async with side.world.enter(there, "b") as session:
        await run(session, "CREATE SCHEMA app")
    with pytest.raises(DatabaseError, match='schema "app" already exists') as caught:
        await PostgresCopier().copy(side.server, old, side.server, there, "b")
    assert "n1" not in caught.value.message


def own_programs() -> list[list[str]]:
    """The arguments of the programs that run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            arguments = child.cmdline()
            found += [arguments] if Path(arguments[0] if arguments else "").name in ("pg_dump", "pg_restore") else []
    return found


async def test_a_copy_that_is_broken_off_leaves_no_program_behind_and_no_secret_in_its_arguments(
    sides: dict[str, Side],
) -> None:
    side = sides["postgres"]
    slow = ("CREATE TABLE waits (x int CHECK (x IS NOT NULL))", "INSERT INTO waits SELECT generate_series(1, 2000000)")
    old, there = await filled(side, *slow), await new(side)
    task = asyncio.create_task(PostgresCopier().copy(side.server, old, side.server, there, "b-secret"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    task = asyncio.create_task(PostgresCopier().copy(side.server, old, side.server, there, "b"))
    async with asyncio.timeout(60):
        while len(own_programs()) < 2:  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.005)
    arguments = " ".join(itertools.chain.from_iterable(own_programs()))
    assert side.world.access.admin_password not in arguments
    assert arguments.count("keepalives_idle=10 ") == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert own_programs() == []


@pytest.mark.parametrize(
    ("source", "destination", "major"), [(180001, 180001, 18), (150018, 150018, 15), (150018, 180001, 15)]
)
async def test_the_oldest_programs_that_will_do_are_chosen(source: int, destination: int, major: int) -> None:
    assert (await find_tools(source, destination, path_with_programs())).major == major


async def test_where_no_program_will_do_it_is_said_which_would(tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 17.2'\n")
        (tmp_path / name).chmod(0o755)
    path = str(tmp_path)
    assert (await find_tools(160001, 170001, path)).major == 17
    for versions, needed in (((180001, 180001), "18 or newer"), ((150018, 150018), "15 to 16")):
        with pytest.raises(DatabaseError, match=rf"version {needed} are needed .*there: 17"):
            await find_tools(*versions, path=path)
