"""The operator's own database on a server: made on the first probe, closed to PUBLIC, with the table of claims."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from tenantry.adapters.postgres import errors, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.params import HOME
from tenantry.ports.postgres import DatabaseCredentialsError, DatabaseError, DatabaseUnreachableError, ServerFacts

_DOOR: Final = "postgres"
"""Where to connect to while the operator's own database is not there yet."""

_CHECK: Final = """
SELECT pg_has_role(b.datdba, 'USAGE') AND coalesce((SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c
         WHERE c.oid = to_regclass('public.claims')), true),
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = to_regclass('public.claims')
                  AND k.conname = 'claims_state_check' AND pg_get_constraintdef(k.oid) LIKE '%parked%')
       AND NOT EXISTS (SELECT FROM aclexplode(coalesce(b.datacl, acldefault('d', b.datdba))) a WHERE a.grantee = 0)
  FROM pg_database b WHERE b.datname = current_database()
"""
"""Whether the database and the table are ours, and whether they are complete: in the shape of this version."""

_STATE: Final = """
SELECT pg_has_role(datdba, 'USAGE'),
       datallowconn AND NOT EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a
                                     WHERE a.grantee = 0)
  FROM pg_database WHERE datname = %s
"""

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('tenantry.io/claims'))"

_CREATE_TABLE: Final = (
    "REVOKE ALL ON DATABASE tenantry FROM PUBLIC;"
    "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
    "CREATE TABLE IF NOT EXISTS public.claims ("
    " database text PRIMARY KEY,"
    " management_id text NOT NULL,"
    " tenant_hash text NOT NULL,"
    " record text NOT NULL,"
    " state text NOT NULL,"
    " created_at timestamptz NOT NULL DEFAULT now());"
    # One that a former version made is brought to the shape of a new one; all at once, so _CHECK looks at one part.
    "ALTER TABLE public.claims"
    " ADD COLUMN IF NOT EXISTS purge_after timestamptz,"
    " ADD COLUMN IF NOT EXISTS parked_from text,"
    " DROP CONSTRAINT IF EXISTS claims_state_check,"
    " ADD CONSTRAINT claims_state_check CHECK (state IN ('creating', 'ready', 'parked', 'dropping'))"
)

_FACTS: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       (SELECT array_agg(datname::text ORDER BY datname) FROM pg_database
         WHERE datname IN ('postgres', 'template1') AND has_database_privilege('public', oid, 'CONNECT')),
       (SELECT array_remove(ARRAY[CASE WHEN NOT rolcreatedb AND NOT rolsuper THEN 'CREATEDB' END,
                                  CASE WHEN NOT rolcreaterole AND NOT rolsuper THEN 'CREATEROLE' END,
                                  CASE WHEN NOT rolsuper AND current_setting('server_version_num')::int < 150000
                                       THEN 'SUPERUSER (only up to PostgreSQL 14, where it takes one to hand over'
                                            ' schema public)' END], NULL)
          FROM pg_roles WHERE rolname = current_user),
       (SELECT count(*)::int FROM public.claims),
       (SELECT array_agg(name::text) FROM pg_available_extensions)
"""


def public_connect_fix(facts: ServerFacts, admin: str) -> str:
    """The SQL for the owner of the server to run once, so that no tenant gets into databases that aren't its own.

    Empty if PUBLIC may connect to neither. The admin role keeps its access to `postgres`, from where it can make the
    operator's database again.
    """
    lines = [
        statements.named(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC;"), name) for name in facts.public_connect
    ]
    if _DOOR in facts.public_connect:
        lines.append(statements.named(sql.SQL("GRANT CONNECT ON DATABASE {} TO {};"), _DOOR, admin))
    return " ".join(line.as_string() for line in lines)


async def prepare(connections: Connections) -> None:
    """Make the operator's database and table where they are missing; writes nothing where they are there.

    Raises:
        DatabaseCredentialsError: if they are somebody else's, or the admin role lacks a right to make them.
    """
    try:
        async with connections.home() as connection:
            await _prepare_table(connection)
    except DatabaseUnreachableError:
        raise
    except DatabaseError as error:
        # Also an answer that was not understood, of a server that speaks another language, is looked into.
        if error.sqlstate not in (errors.NO_SUCH_DATABASE, errors.NOT_ACCEPTING, errors.NO_PRIVILEGE, ""):
            raise
        await _create(connections, error)
        async with connections.home() as connection:
            await _prepare_table(connection)


async def facts(connections: Connections) -> ServerFacts:
    """What a probe reports."""
    async with connections.home() as connection:
        cursor = await connection.execute(_FACTS)
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        identifier, public_connect, missing, databases, extensions = row
        return ServerFacts(
            system_identifier=identifier,
            version=connection.info.server_version,
            public_connect=tuple(public_connect or ()),
            missing_rights=tuple(missing or ()),
            databases=databases,
            extensions=frozenset(extensions or ()),
        )


async def _prepare_table(connection: Connection) -> None:
    if await _is_complete(connection):
        return
    # Two operators may come at once, and CREATE TABLE IF NOT EXISTS is no match for that: the second looks again.
    async with connection.transaction():
        await connection.execute(_LOCK)
        if not await _is_complete(connection):
            await connection.execute(_CREATE_TABLE)


async def _is_complete(connection: Connection) -> bool:
    cursor = await connection.execute(_CHECK)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - the database that one is connected to is there
    ours, complete = row
    if not ours:
        raise DatabaseCredentialsError(
            f"database {HOME} or its table claims belongs to another role than {connection.info.user}: "
            "all operators on one server must use the same admin role"
        )
    return bool(complete)


async def _create(connections: Connections, why: DatabaseError) -> None:
    """Make or open the operator's database by way of database `postgres`."""
    admin = sql.Identifier(connections.username).as_string()
    try:
        async with connections.to(_DOOR) as connection:
            await _create_from(connection)
    except DatabaseCredentialsError:
        raise
    except DatabaseError as error:
        if error.sqlstate != errors.NO_PRIVILEGE:
            raise
        raise DatabaseCredentialsError(
            f"{why.message}; and role {admin} can't make it: {error.message}. As a superuser: "
            f"ALTER ROLE {admin} CREATEDB CREATEROLE; GRANT CONNECT ON DATABASE {_DOOR} TO {admin};",
            sqlstate=error.sqlstate,
        ) from None


async def _create_from(connection: Connection) -> None:
    """Create, close and open, each of which may have been done by a predecessor.

    One operator at a time, until its session ends: two that REVOKE on one database at once get "tuple concurrently
    updated". For the same reason nothing is done again that is done, as the next step REVOKEs under a lock of its own.
    """
    await connection.execute("SELECT pg_advisory_lock(hashtext('tenantry.io/home'))")
    cursor = await connection.execute(_STATE, (HOME,))
    row = await cursor.fetchone()
    if row is None:
        await create_database(connection, HOME, connection_limit=-1)
        ours, finished = True, False
    else:
        ours, finished = row
    if not ours:
        raise DatabaseCredentialsError(
            f"database {HOME} is there, but belongs to another role than {connection.info.user}"
        )
    if not finished:
        await connection.execute(statements.batch([statements.close_to_public(HOME), statements.open_database(HOME)]))


async def create_database(connection: Connection, name: str, *, connection_limit: int) -> None:
    """CREATE DATABASE with the best locale that the server's operating system has."""
    version = connection.info.server_version
    try:
        await connection.execute(statements.create_database(version, name, connection_limit=connection_limit))
    except psycopg.errors.WrongObjectType:  # "invalid LC_CTYPE locale name"
        await connection.execute(
            statements.create_database(version, name, connection_limit=connection_limit, ctype="C")
        )
