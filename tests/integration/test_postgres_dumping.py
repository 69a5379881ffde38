"""Dumps of tenants' databases on real servers of both sorts: whole, counted, or an error; and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import path_with_programs
from tests.integration.postgres_tenants import SERVERS, eventually, open_world, own_server, run
from tests.integration.test_postgres_copying import FILLED, Side

from tenantry.adapters.postgres import dumping
from tenantry.adapters.postgres.dumping import PostgresDumper, role_of
from tenantry.adapters.postgres.loading import PostgresLoader
from tenantry.adapters.postgres.servers import ServerConnection
from tenantry.ports.backup import DumpFacts, DumpImpossibleError
from tenantry.ports.postgres import DatabaseError, WantedDatabase
from tenantry.ports.servers import ServerEndpoint

HIDDEN = (
    "CREATE TABLE secret (x int)",
    "INSERT INTO secret SELECT generate_series(1, 7)",
    "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE secret FORCE ROW LEVEL SECURITY",
)
"""Not even its owner sees a row of it."""


@pytest.fixture(scope="module")
def accesses() -> Iterator[dict[str, PostgresAccess]]:
    running = {name: own_server(name) for name in SERVERS}
    try:
        yield {name: server.start().access for name, server in running.items()}
    finally:
        for server in running.values():
            server.stop()


@pytest.fixture
async def side(
    accesses: dict[str, PostgresAccess], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Side]:
    monkeypatch.setenv("PATH", path_with_programs())
    access = accesses[request.param]
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(access))
        endpoint = ServerEndpoint(
            host=access.host,
            port=access.port,
            username=access.admin_user,
            password=access.admin_password,
            ssl_mode="verify-full" if access.ca_pem else "disable",
            ca_pem=access.ca_pem or "",
        )
        server = ServerConnection(request.param, endpoint, "127.0.0.1")
        stack.push_async_callback(server.close)
        await server.probe()
        yield Side(world, server)


on_both = pytest.mark.parametrize("side", SERVERS, indirect=True)
on_18 = pytest.mark.parametrize("side", ["postgres"], indirect=True)


async def filled(side: Side, *more: str) -> WantedDatabase:
    wanted = await side.world.provision(side.world.wanted(extensions=("citext",)), password="a")
    async with side.world.enter(wanted, "a") as session:
        await run(session, *FILLED, *more)
    return wanted


async def dump(side: Side, wanted: WantedDatabase) -> tuple[bytes, DumpFacts]:
    async with PostgresDumper().open(side.server, wanted) as opened:
        facts, chunks = await asyncio.gather(opened.facts(), gathered(opened.chunks()))
    return chunks, facts


async def gathered(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


async def roles(side: Side) -> list[str]:
    found: list[str] | None = await side.world.ask("SELECT array_agg(rolname::text) FROM pg_roles")
    return found or []


@on_both
async def test_a_dump_has_every_row_also_those_that_a_policy_hides_from_their_owner(side: Side) -> None:
    wanted = await filled(side, *HIDDEN)
    archive, facts = await dump(side, wanted)
    assert facts.rows == {
        "app.parent": 5000,
        "public.child_low": 99,
        "public.nothing": 1,
        'public.odd " name': 3,
        "public.secret": 7,
    }
    assert facts.server_version == side.world.access.version
    await PostgresDumper().check(pieces_of(archive), facts.tool_major)
    assert role_of(wanted) not in await roles(side)


@on_both
async def test_what_databases_take_and_since_when_a_server_is_up_can_be_asked_without_a_superuser(side: Side) -> None:
    wanted = await filled(side)
    _, facts = await dump(side, wanted)
    loader = PostgresLoader()
    before, size = await loader.use_of(side.server), await loader.size(side.server, wanted)
    assert 2**20 < facts.database_size < 2 * size
    assert before.used > size
    assert before.up_since.tzinfo is not None
    async with side.world.enter(wanted, "a") as session:
        await run(session, "CREATE TABLE more AS SELECT repeat(i::text, 99) FROM generate_series(1, 50000) i")
    assert await loader.size(side.server, wanted) > size + 2**20
    after = await loader.use_of(side.server)
    assert after.used > before.used + 2**20
    assert after.up_since == before.up_since
    with pytest.raises(DatabaseError, match="is not there"):
        await loader.size(side.server, replace(wanted, database="gone"))


@on_both
async def test_a_server_that_has_crashed_is_not_the_one_that_it_was_before(side: Side) -> None:
    loader = PostgresLoader()
    before = await loader.use_of(side.server)
    async with side.world.superuser() as session:
        os.kill(session.info.backend_pid, signal.SIGKILL)  # all others' sessions end with it

    async def crashed() -> bool:
        with suppress(DatabaseError):
            return (await loader.use_of(side.server)).up_since > before.up_since
        return False

    await eventually(crashed, "it is seen to have crashed")


@on_both
async def test_an_archive_that_is_cut_is_no_archive(side: Side) -> None:
    wanted = await filled(side)
    archive, facts = await dump(side, wanted)
    for broken in (archive[: len(archive) // 2], archive[:-20], archive[:100], b"", b"CREATE TABLE x ();"):
        with pytest.raises(DatabaseError, match="pg_restore failed"):
            await PostgresDumper().check(pieces_of(broken), facts.tool_major)


@on_both
async def test_rows_that_come_during_a_dump_are_neither_in_it_nor_counted(side: Side) -> None:
    wanted = await filled(side)
    async with PostgresDumper().open(side.server, wanted) as opened:
        async with side.world.enter(wanted, "a") as session:
            await run(session, "INSERT INTO child SELECT i, NULL FROM generate_series(1, 50) i")
        facts = await opened.facts()
        await gathered(opened.chunks())
    assert facts.rows["public.child_low"] == 99


@on_both
async def test_a_table_that_stays_locked_fails_the_dump_in_time_and_says_why(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumping, "LOCK_WAIT", "1s")
    wanted = await filled(side)
    async with side.world.enter(wanted, "a") as session:
        await session.execute("BEGIN")
        await session.execute("ALTER TABLE app.parent ADD COLUMN later int")
        async with asyncio.timeout(60):
            with pytest.raises(DatabaseError, match="kept a table locked for 1s: a change of its schema"):
                await dump(side, wanted)
        await session.execute("COMMIT")
    assert role_of(wanted) not in await roles(side)
    _, facts = await dump(side, wanted)
    assert facts.rows["app.parent"] == 5000


@on_both
async def test_a_server_that_can_not_show_all_rows_is_refused_with_what_to_grant(side: Side) -> None:
    wanted = await filled(side)
    admin = side.world.access.admin_user
    async with side.world.superuser() as session:
        await session.execute(f"ALTER ROLE {admin} NOBYPASSRLS".encode())
        try:
            with pytest.raises(DumpImpossibleError, match=f'ALTER ROLE "{admin}" BYPASSRLS'):
                await dump(side, wanted)
        finally:
            await session.execute(f"ALTER ROLE {admin} BYPASSRLS".encode())


def programs(name: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child] if child.cmdline() and Path(child.cmdline()[0]).name == name else []
    return found


@on_both
async def test_a_dump_that_is_killed_does_not_end_as_if_it_were_whole(side: Side) -> None:
    wanted = await filled(
        side, "CREATE TABLE big AS SELECT repeat(md5(i::text), 50) x FROM generate_series(1, 20000) i"
    )
    async with PostgresDumper().open(side.server, wanted) as opened:
        chunks = opened.chunks()
        await anext(chunks)
        (process,) = programs("pg_dump")
        assert side.server.endpoint.password not in " ".join(process.cmdline())
        process.kill()
        with pytest.raises(DatabaseError, match="pg_dump failed: exit code -9"):
            await gathered(chunks)
    assert programs("pg_dump") == []
    assert role_of(wanted) not in await roles(side)


@on_18
async def test_what_a_dead_dump_left_is_removed_and_the_next_one_works(side: Side) -> None:
    wanted = await filled(side)
    dumper = PostgresDumper()
    opened = dumper.open(side.server, wanted)
    await opened.__aenter__()  # and nobody ends it: as if the process had died
    assert role_of(wanted) in await roles(side)
    await dump(side, wanted)
    again = dumper.open(side.server, wanted)
    await again.__aenter__()
    await dumper.forget(side.server, wanted)
    assert role_of(wanted) not in await roles(side)
    for left in (opened, again):
        with suppress(DatabaseError):
            await left.__aexit__(None, None, None)


@on_18
async def test_what_a_dead_dump_left_goes_with_its_database(side: Side) -> None:
    wanted = await filled(side)
    opened = PostgresDumper().open(side.server, wanted)
    await opened.__aenter__()  # and nobody ends it: as if the process had died
    await side.world.admin.mark(wanted, before="ready", after="dropping")
    await side.world.admin.drop(wanted)
    assert role_of(wanted) not in await roles(side)
    with suppress(DatabaseError):
        await opened.__aexit__(None, None, None)


@on_18
async def test_a_role_of_that_name_that_somebody_else_made_is_not_touched(side: Side) -> None:
    wanted = await filled(side)
    async with side.world.superuser() as session:
        await session.execute(f'CREATE ROLE "{role_of(wanted)}"'.encode())
        try:
            with pytest.raises(DatabaseError, match="was not made by this operator"):
                await dump(side, wanted)
        finally:
            await session.execute(f'DROP ROLE "{role_of(wanted)}"'.encode())


@on_18
async def test_the_role_that_dumps_is_no_superuser_and_gets_into_no_other_tenants_database(side: Side) -> None:
    wanted, other = await filled(side), await side.world.provision(password="b")
    async with PostgresDumper().open(side.server, wanted) as opened:
        powers = await side.world.ask(
            "SELECT ARRAY[rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,"
            " has_database_privilege(rolname, %s, 'CONNECT'), has_database_privilege(rolname, %s, 'CONNECT')]"
            " FROM pg_roles WHERE rolname = %s",
            wanted.database,
            other.database,
            role_of(wanted),
        )
        await gathered(opened.chunks())
    assert powers == [False, False, False, False, True, True, False]
