"""Sessions on a real server: verified, bounded, pinned, and given up in time."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.certificates import Authority
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import DEADLINE, SERVERS, World, eventually, open_world, own_server, params

from tenantry.adapters.postgres import Limits, PostgresAdmin
from tenantry.adapters.postgres.connections import Connections
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError


@pytest.fixture(params=SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_world(request.getfixturevalue(request.param)) as world:
        yield world


async def refusal(access: PostgresAccess, limits: Limits | None = None, **changes: Any) -> DatabaseError:
    """What a probe with other parameters is answered."""
    admin = PostgresAdmin(params(access, **changes), limits)
    try:
        with pytest.raises(DatabaseError) as caught:
            await admin.probe()
        return caught.value
    finally:
        await admin.close()


@pytest.mark.parametrize("changes", [{"password": "wr0ng-password"}, {"username": "nobody_at_all"}])
async def test_refused_credentials_are_called_that_and_not_shown(world: World, changes: dict[str, Any]) -> None:
    error = await refusal(world.access, **changes)
    assert isinstance(error, DatabaseCredentialsError)
    assert error.sqlstate == "28P01"
    assert "wr0ng-password" not in str(error)


async def test_a_port_where_nobody_listens_is_out_of_reach(world: World) -> None:
    error = await refusal(world.access, port=1)
    assert isinstance(error, DatabaseUnreachableError)
    assert "refused" in error.message


async def test_a_name_that_does_not_resolve_is_out_of_reach(world: World) -> None:
    assert isinstance(await refusal(world.access, host="no-such-host.invalid"), DatabaseUnreachableError)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections and says nothing."""
    done = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        done.set()


async def test_a_server_that_says_nothing_is_given_up_in_time(postgres: PostgresAccess) -> None:
    async with silent_server() as port, asyncio.timeout(DEADLINE):
        error = await refusal(postgres, Limits(connect=2), port=port)
    assert isinstance(error, DatabaseUnreachableError)


async def test_a_server_that_hangs_in_the_middle_is_given_up_in_time() -> None:
    with own_server("postgres") as server:
        admin = PostgresAdmin(params(server.access), Limits(connect=2))
        try:
            await admin.probe()
            server.pause()
            async with asyncio.timeout(DEADLINE):
                with pytest.raises(DatabaseUnreachableError):
                    # The open session goes on; the postmaster takes no new ones.
                    await asyncio.gather(*(admin.claims("m") for _ in range(3)))
            server.resume()
            assert await admin.claims("m") == []
        finally:
            server.resume()
            await admin.close()


async def test_a_statement_that_does_not_end_is_given_up_in_time(world: World) -> None:
    connections = Connections(params(world.access), Limits(lease=1))
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(DatabaseUnreachableError, match="in time"):
                async with connections.home() as connection:
                    await connection.execute("SELECT pg_sleep(60)")
        async with connections.home() as connection:
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    finally:
        await connections.close()


async def divide_by_zero(connections: Connections) -> None:
    async with connections.home() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1/0")


async def test_a_failed_statement_leaves_as_an_error_of_the_port_and_the_next_session_is_clean(world: World) -> None:
    connections = Connections(params(world.access), Limits())
    try:
        with pytest.raises(DatabaseError) as caught:
            await divide_by_zero(connections)
        assert caught.value.sqlstate == psycopg.errors.DivisionByZero.sqlstate
        async with connections.home() as connection:
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    finally:
        await connections.close()


async def test_a_session_of_who_may_not_write_any_more_ends_without_its_commit(world: World) -> None:
    leading = True
    connections = Connections(params(world.access, may_write=lambda: leading), Limits())

    async def write() -> None:
        nonlocal leading
        async with connections.home() as connection, connection.transaction():
            await connection.execute("CREATE TABLE public.late ()")
            leading = False

    try:
        with pytest.raises(DatabaseUnreachableError, match="not the leader"):
            await write()
        with pytest.raises(DatabaseUnreachableError, match="not the leader"):
            async with connections.home() as connection:
                await connection.execute("SELECT 1")
        leading = True
        async with connections.home() as connection:
            found = await connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'late'")
            assert await found.fetchone() == (0,)
    finally:
        await connections.close()


async def test_every_operator_session_is_pinned(world: World) -> None:
    connections = Connections(params(world.access), Limits())
    try:
        for session in (connections.home(), connections.to("postgres")):
            async with session as connection:
                cursor = await connection.execute(
                    "SELECT current_setting('search_path'), current_setting('application_name'),"
                    " current_setting('statement_timeout'), current_setting('lock_timeout')"
                )
                assert await cursor.fetchone() == ("pg_catalog,pg_temp", "tenantry", "1min", "5s")
    finally:
        await connections.close()


async def test_sessions_that_the_server_ended_are_replaced_unnoticed(world: World) -> None:
    connections = Connections(params(world.access), Limits())
    try:
        async with connections.home() as first, connections.home() as second:
            pids = [first.info.backend_pid, second.info.backend_pid]
        assert await world.ask("SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM unnest(%s::int[]) pid", pids)
        for _ in pids:
            async with connections.home() as connection:
                assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
                assert connection.info.backend_pid not in pids
    finally:
        await connections.close()


async def test_a_restarted_server_is_used_again() -> None:
    with own_server("postgres") as server:
        admin = PostgresAdmin(params(server.access))
        try:
            await admin.probe()
            async with await psycopg.AsyncConnection.connect(server.access.superuser_dsn(), autocommit=True) as session:
                await session.execute("CHECKPOINT")  # these servers don't flush by themselves
                # Every backend starts anew when one of them crashes.
                cursor = await session.execute("SELECT pg_backend_pid()")
                (pid,) = await cursor.fetchone() or (0,)
                os.kill(pid, 9)

            async def usable() -> bool:
                try:
                    return await admin.claims("m") == []
                except DatabaseError:
                    return False  # starting up

            await eventually(usable, "a session after the crash")
        finally:
            await admin.close()


async def test_no_more_sessions_are_open_at_once_than_allowed(world: World) -> None:
    wanted = [await world.provision(world.wanted(extensions=("citext",))) for _ in range(3)]
    most = 0
    connections = Connections(params(world.access), Limits(sessions=4))
    open_now = 0

    async def use(database: str | None) -> None:
        nonlocal most, open_now
        async with connections.to(database) if database else connections.home() as connection:
            open_now += 1
            most = max(most, open_now)
            await connection.execute("SELECT pg_sleep(0.01)")
            open_now -= 1

    try:
        await asyncio.gather(*(use(database) for w in wanted for database in (None, w.database) * 3))
    finally:
        await connections.close()
    assert 2 <= most <= 4


async def test_nothing_can_be_dialled_after_the_end(world: World) -> None:
    await world.admin.claims("m")
    admin = PostgresAdmin(params(world.access))
    await admin.probe()
    await admin.close()
    with pytest.raises(DatabaseUnreachableError, match="were closed"):
        await admin.claims("m")


async def test_a_certificate_of_another_authority_is_refused(postgres_tls: PostgresAccess) -> None:
    error = await refusal(postgres_tls, ca_pem=Authority.new("somebody else").certificate_pem)
    assert isinstance(error, DatabaseUnreachableError)
    assert error.message.startswith("no TLS connection as sslMode demands")
    assert tempfile.gettempdir() not in error.message


async def test_a_ca_that_is_none_is_refused(postgres_tls: PostgresAccess) -> None:
    error = await refusal(postgres_tls, ca_pem="not a certificate")
    assert "the CA certificate" in error.message
    assert tempfile.gettempdir() not in error.message


async def test_the_name_is_verified_even_where_the_address_is_given(postgres_tls: PostgresAccess) -> None:
    error = await refusal(postgres_tls, host="db.example.com", hostaddr=postgres_tls.host)
    assert "does not match host name" in error.message
    admin = PostgresAdmin(params(postgres_tls, host="localhost", hostaddr=postgres_tls.host))
    try:
        assert (await admin.probe()).version == postgres_tls.version
    finally:
        await admin.close()


async def test_a_server_without_tls_is_refused_where_tls_is_demanded(postgres: PostgresAccess) -> None:
    error = await refusal(postgres, ssl_mode="require")
    assert isinstance(error, DatabaseUnreachableError)
    assert error.message.startswith("no TLS connection as sslMode demands")


async def test_tenants_log_in_over_verified_tls(postgres_tls: PostgresAccess) -> None:
    async with open_world(postgres_tls) as world:
        wanted = await world.provision(password="x")
        assert await world.admin.login_works(wanted, wanted.logins[0], "x")
        query = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = %s"
        assert await world.ask(query, postgres_tls.admin_user)


def rewrite(path: str, lines: list[str]) -> None:
    Path(path).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("method", ["trust", "password"])
async def test_a_server_that_asks_for_no_password_or_a_clear_one_is_refused(method: str) -> None:
    with own_server("postgres") as server:
        access = server.access
        world = World(access, PostgresAdmin(params(access)))
        try:
            await world.admin.probe()
            wanted = await world.provision(password="x")
            rules = [f"host all {access.superuser} 127.0.0.1/32 scram-sha-256", f"host all all 127.0.0.1/32 {method}"]
            rewrite(await world.ask("SHOW hba_file"), rules)
            await world.ask("SELECT pg_reload_conf()")

            async def refused() -> bool:
                try:
                    return not await world.admin.login_works(wanted, wanted.logins[0], "x")
                except DatabaseCredentialsError as error:
                    return "authentication method" in error.message

            await eventually(refused, f"a login by {method} is refused")
            assert isinstance(await refusal(access), DatabaseCredentialsError)
        finally:
            await world.admin.close()


async def test_a_login_that_is_locked_or_has_nowhere_to_go_does_not_work(world: World) -> None:
    wanted = await world.provision(password="x")
    assert not await world.admin.login_works(wanted, wanted.logins[0], "y")
    assert not await world.admin.login_works(wanted, wanted.logins[1], "x")
    assert not await world.admin.login_works(wanted, world.access.admin_user, world.access.admin_password)
    async with world.superuser() as session:
        await session.execute(f"ALTER DATABASE {wanted.database} ALLOW_CONNECTIONS false".encode())
    assert not await world.admin.login_works(wanted, wanted.logins[0], "x")
    async with world.superuser() as session:
        await session.execute(f"DROP DATABASE {wanted.database}".encode())
    assert not await world.admin.login_works(wanted, wanted.logins[0], "x")
