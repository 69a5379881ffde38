"""Two tenants on one server: what the one may not read, change or block of the other, and of its own guard rails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from tests.integration.postgres_tenants import SERVERS, Session, World, open_world

from tenantry.adapters.postgres import rules
from tenantry.ports.postgres import DatabaseError, WantedDatabase


@pytest.fixture(params=SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_world(request.getfixturevalue(request.param)) as world:
        yield world


ATTEMPTS = [
    # at the other tenant
    "SET ROLE {a}_owner",
    "SET ROLE {a}_0",
    "SET SESSION AUTHORIZATION {a}_0",
    "GRANT {a}_owner TO {b}_owner",
    "GRANT {a}_owner TO {b}_0",
    "ALTER ROLE {a}_0 PASSWORD 'mine'",
    "ALTER ROLE {a}_0 NOLOGIN",
    "ALTER ROLE {a}_0 IN DATABASE {a} SET search_path = evil",
    "COMMENT ON ROLE {a}_0 IS 'mine'",
    "DROP ROLE {a}_1",
    "DROP OWNED BY {a}_owner",
    "DROP DATABASE {a}",
    "ALTER DATABASE {a} CONNECTION LIMIT 0",
    "ALTER DATABASE {a} SET search_path = evil",
    "COMMENT ON DATABASE {a} IS 'mine'",
    "CREATE DATABASE stolen TEMPLATE {a}",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{a}'",
    # at the operator and the server
    "SET ROLE {admin}",
    "GRANT {admin} TO {b}_0",
    "ALTER ROLE {admin} PASSWORD 'mine'",
    "DROP DATABASE tenantry",
    "COMMENT ON DATABASE tenantry IS 'mine'",
    "SELECT rolpassword FROM pg_authid",
    "UPDATE pg_database SET datconnlimit = -1",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "SELECT lo_import('/etc/hostname')",
    "ALTER SYSTEM SET fsync = off",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    # at its own guard rails
    "COMMENT ON DATABASE {b} IS 'mine'",
    "DROP DATABASE {b}",
    "ALTER DATABASE {b} CONNECTION LIMIT -1",
    "ALTER DATABASE {b} RENAME TO other",
    "ALTER DATABASE {b} OWNER TO {b}_owner",
    "ALTER DATABASE {b} SET search_path = x",
    "ALTER DATABASE {b} IS_TEMPLATE true",
    "ALTER ROLE {b}_0 CONNECTION LIMIT -1",
    "ALTER ROLE {b}_0 CREATEDB",
    "ALTER ROLE {b}_0 SUPERUSER",
    "ALTER ROLE {b}_0 BYPASSRLS",
    "ALTER ROLE {b}_1 LOGIN",
    "ALTER ROLE {b}_owner LOGIN",
    "ALTER ROLE {b}_1 RENAME TO other",
    "ALTER ROLE {b}_0 VALID UNTIL 'infinity'",
    "COMMENT ON ROLE {b}_0 IS 'mine'",
    "COMMENT ON ROLE {b}_owner IS 'mine'",
    "GRANT {b}_owner TO {a}_owner",
    "GRANT {b}_0 TO {a}_0",
    "DROP ROLE {b}_1",
    "CREATE ROLE other",
    "CREATE DATABASE other",
]

WITHOUT_EFFECT = ["GRANT CONNECT ON DATABASE {b} TO PUBLIC", "GRANT ALL ON DATABASE {b} TO {a}_owner"]
"""PostgreSQL answers these with a mere warning."""


async def refused(session: Session, attempt: str) -> bool:
    """Whether the server refuses a statement for what the role is or may do."""
    try:
        cursor = await session.execute(attempt.encode())
        return attempt.startswith("SELECT pg_terminate") and (await cursor.fetchall() == [])
    except psycopg.Error as error:
        return error.sqlstate in {"42501", "0LP01", "55000"}


async def test_a_tenant_gets_nowhere_with_sql(world: World) -> None:
    a, b = await world.provision(password="a"), await world.provision(password="b")
    names = {"a": a.database, "b": b.database, "admin": world.access.admin_user}
    async with world.enter(a, "a") as victim, world.enter(b, "b") as session:
        await victim.execute("CREATE TABLE secrets AS SELECT 42 AS x")
        for role in (b.owner, b.logins[0]):
            await session.execute(f"SET ROLE {role}".encode())
            succeeded = [x for x in ATTEMPTS if not await refused(session, x.format(**names))]
            assert succeeded == [], role
            for attempt in WITHOUT_EFFECT:
                await session.execute(attempt.format(**names).encode())
        await victim.execute("SELECT x FROM secrets")
    for wanted, password in ((a, "a"), (b, "b")):
        assert (await world.admin.inspect(wanted)).settled
        assert await world.admin.login_works(wanted, wanted.logins[0], password)


async def test_a_tenant_gets_into_no_other_database(world: World) -> None:
    a, b = await world.provision(password="a"), await world.provision(password="b")
    for database in (a.database, "tenantry", "postgres", "template1", "template0"):
        dsn = world.access.dsn(b.logins[0], "b", database)
        with pytest.raises(psycopg.OperationalError, match=r"permission denied for database|not currently accepting"):
            await psycopg.AsyncConnection.connect(dsn)


async def test_nobody_else_gets_in_while_a_database_is_being_made(world: World) -> None:
    b = await world.provision(password="b")
    a = world.wanted()
    await world.admin.claim(a, max_databases=None)
    await world.admin.ensure_roles(a)
    await world.admin.ensure_database(a)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        await psycopg.AsyncConnection.connect(world.access.dsn(b.logins[0], "b", a.database))


async def test_large_objects_and_queries_of_another_are_out_of_sight(world: World) -> None:
    a, b = await world.provision(password="a"), await world.provision(password="b")
    async with world.enter(a, "a") as victim, world.enter(b, "b") as session:
        row = await (await victim.execute("SELECT lo_from_bytea(0, 'deep secret')")).fetchone()
        assert row is not None
        with pytest.raises(psycopg.errors.UndefinedObject):
            await session.execute("SELECT lo_get(%s)", row)
        cursor = await session.execute("SELECT query FROM pg_stat_activity WHERE usename <> session_user::text")
        assert not any("deep secret" in (query or "") for (query,) in await cursor.fetchall())


async def test_what_every_role_can_read_names_no_customer(world: World) -> None:
    a, b = await world.provision(), await world.provision(password="b")
    async with world.enter(b, "b") as session:
        cursor = await session.execute("SELECT string_agg(d::text, ' ') FROM pg_shdescription d")
        (comments,) = await cursor.fetchone() or ("",)
    assert a.tenant_hash in comments
    assert a.record not in comments


async def test_a_tenant_can_use_up_its_connections_but_not_the_operators(world: World) -> None:
    wanted = await world.provision(world.wanted(limit=2, extensions=("citext",)), password="b")
    async with world.enter(wanted, "b"), world.enter(wanted, "b"):
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            await psycopg.AsyncConnection.connect(world.access.dsn(wanted.logins[0], "b", wanted.database))
        assert (await world.admin.inspect(wanted)).settled
        await world.admin.settle(wanted)
        with pytest.raises(DatabaseError) as caught:
            await world.admin.login_works(wanted, wanted.logins[0], "b")
    assert type(caught.value) is DatabaseError
    assert caught.value.sqlstate == "53300"


async def test_a_login_may_change_its_own_password_which_is_then_noticed(world: World) -> None:
    wanted = await world.provision(password="b")
    async with world.enter(wanted, "b") as session:
        await session.execute("SET ROLE NONE")
        await session.execute(f"ALTER ROLE {wanted.logins[0]} PASSWORD 'mine'".encode())
    assert not await world.admin.login_works(wanted, wanted.logins[0], "b")
    await world.admin.set_password(wanted, wanted.logins[0], "b")
    assert await world.admin.login_works(wanted, wanted.logins[0], "b")


async def test_a_login_that_no_longer_acts_as_the_owner_is_noticed_and_repaired(world: World) -> None:
    wanted = await world.provision(password="b")
    async with world.enter(wanted, "b") as session:
        await session.execute("SET ROLE NONE")
        await session.execute(f"ALTER ROLE {wanted.logins[0]} IN DATABASE {wanted.database} SET role = none".encode())
    assert not await world.admin.login_works(wanted, wanted.logins[0], "b")
    assert not (await world.admin.inspect(wanted)).settled
    await world.admin.settle(wanted)
    assert await world.admin.login_works(wanted, wanted.logins[0], "b")


TRAPS: list[LiteralString] = [
    "pg_get_userbyid(oid) RETURNS name",
    "array_agg(text) RETURNS text[]",
    "same(name, text) RETURNS boolean",
]
"""Functions that a careless search_path would find for what the operator's queries call."""


async def test_no_operator_session_runs_what_the_tenant_planted(world: World) -> None:
    wanted = await world.provision(password="b")
    async with world.enter(wanted, "b") as session:
        await session.execute("CREATE TABLE ran (who text)")
        for signature in TRAPS:
            await session.execute(
                sql.SQL(
                    "CREATE FUNCTION {} LANGUAGE plpgsql AS $$ BEGIN"
                    " INSERT INTO public.ran VALUES (session_user); RETURN NULL; END $$"
                ).format(sql.SQL(signature))
            )
        await session.execute("CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, FUNCTION = same)")
        await session.execute("ALTER SCHEMA public RENAME TO moved")
    more = WantedDatabase(wanted.database, wanted.management_id, wanted.tenant_hash, wanted.record, 5, ("citext",))
    await world.admin.settle(more)
    async with world.enter(wanted, "b") as session:
        await session.execute("DROP SCHEMA public CASCADE")
        await session.execute("ALTER SCHEMA moved RENAME TO public")
    await world.admin.settle(more)
    assert (await world.admin.inspect(more)).settled
    assert await world.ask("SELECT count(*) FROM public.ran", database=wanted.database) == 0


async def test_the_server_never_sees_a_password(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = await world.provision()
    said: list[str] = []
    execute = psycopg.AsyncConnection.execute

    async def overheard(connection: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        said.append(query if isinstance(query, str) else query.as_string(connection))
        return await execute(connection, query, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", overheard)
        await world.admin.set_password(wanted, wanted.logins[0], "hunter2-hunter2")
    assert any("SCRAM-SHA-256$4096:" in statement for statement in said)
    assert not any("hunter2" in statement for statement in said)
    stored = await world.ask("SELECT rolpassword FROM pg_authid WHERE rolname = %s", wanted.logins[0])
    assert stored.startswith("SCRAM-SHA-256$4096:")


async def test_every_password_gets_a_salt_of_its_own(world: World) -> None:
    wanted = await world.provision()
    for login in wanted.logins:
        await world.admin.set_password(wanted, login, "same")
    stored = "SELECT count(DISTINCT rolpassword) FROM pg_authid WHERE rolname = ANY (%s)"
    assert await world.ask(stored, list(wanted.logins)) == 2


async def test_only_the_tenants_own_logins_get_a_password(world: World) -> None:
    a, b = await world.provision(), await world.provision()
    for login in (a.logins[0], b.owner, world.access.admin_user):
        with pytest.raises(DatabaseError, match="is not a login of database"):
            await world.admin.set_password(b, login, "mine")


async def test_the_roles_have_no_power_whatever(world: World) -> None:
    wanted = await world.provision()
    powers = await world.ask(
        "SELECT bool_or(rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls) FROM pg_roles"
        " WHERE rolname = ANY (%s)",
        [wanted.owner, *wanted.logins],
    )
    assert powers is False
    logins = await world.ask(
        "SELECT bool_or(rolcanlogin OR rolpassword IS NOT NULL) FROM pg_authid WHERE rolname = ANY (%s)",
        [wanted.owner, *wanted.logins],
    )
    assert logins is False


async def test_the_stamp_on_the_database_is_the_one_of_the_tenant(world: World) -> None:
    wanted = await world.provision()
    comment = await world.ask(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", wanted.database
    )
    assert rules.Stamp.parse(comment) == rules.Stamp.of(wanted)
