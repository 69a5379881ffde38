"""What can be seen and put right only from inside a tenant's database: the owner of schema `public`, and extensions.

The admin role's sessions there run no code of the tenant's: their search_path has no schema that the tenant can write
to, and they only read catalogs, hand over a schema or what a login owns and, as the tenant's own role, create
extensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from tenantry.adapters.postgres import errors, rules, statements
from tenantry.adapters.postgres.connections import Connection, Connections
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import DatabaseError, WantedDatabase

_STRAYS: Final = """
SELECT EXISTS (
  SELECT FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
   WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND d.datname = %s AND r.rolname = ANY (%s)
     AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass))
"""
"""Whether roles own anything in a database; default privileges and user mappings are theirs without an owner."""

_TRIGGERS: Final = """
SELECT EXISTS (SELECT FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid
                WHERE t.evtenabled <> 'D' AND NOT EXISTS (
                      SELECT FROM pg_roles r WHERE r.oid = p.proowner AND r.rolsuper))
"""
"""Whether a change here would run code as the admin role that is not the server's owner's."""

_SCHEMAS: Final = """
SELECT nspname::text FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner WHERE rolname = ANY (%s)
"""

_STALL: Final = "1s"
"""How long handing over may wait for a table, and whoever comes to it meanwhile waits behind."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A tenant's database from inside.

    Attributes:
        schema_owner: Who owns schema `public`; None if the tenant dropped it.
        extensions: Names of the wanted extensions that are there.
    """

    schema_owner: str | None
    extensions: frozenset[str]

    def is_right(self, wanted: WantedDatabase) -> bool:
        """The schema belongs to the tenant's owner role and all wanted extensions are there."""
        return self.schema_owner == wanted.owner and self.extensions >= frozenset(wanted.extensions)


async def is_right(connections: Connections, snapshot: Snapshot, wanted: WantedDatabase) -> bool:
    """Whether the inside is as wanted; without a session there if the shared catalogs can tell."""
    if snapshot.database is not None and snapshot.database.public_schema_handed_over and not wanted.extensions:
        return True
    async with connections.to(wanted.database) as connection:
        return (await _read(connection, wanted)).is_right(wanted)


async def put_right(connections: Connections, wanted: WantedDatabase) -> None:
    """Hand schema `public` over to the tenant's owner role and create the extensions that are missing."""
    async with connections.to(wanted.database) as connection:
        now = await _read(connection, wanted)
        version = connection.info.server_version
        if todo := _schema(version, now.schema_owner, wanted):
            await connection.execute(statements.batch(todo))
        for extension in wanted.extensions:
            if extension not in now.extensions:
                await _create_extension(connection, extension, wanted)


async def _read(connection: Connection, wanted: WantedDatabase) -> Inside:
    cursor = await connection.execute(
        "SELECT (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s),"
        " (SELECT array_agg(extname::text) FROM pg_extension WHERE extname = ANY (%s))",
        (rules.SCHEMA, list(wanted.extensions)),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Inside(row[0], frozenset(row[1] or ()))


def _schema(version: int, owner: str | None, wanted: WantedDatabase) -> list[sql.Composed]:
    if owner == wanted.owner:
        return []
    if owner is None:
        return [statements.named(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}"), rules.SCHEMA, wanted.owner)]
    # A schema that one of the logins made for itself: to change its owner the admin needs the login's privileges.
    its = [owner] if owner in wanted.logins else []
    return [
        *(statements.grant_to_admin(version, [login]) for login in its),
        statements.named(sql.SQL("REVOKE ALL ON SCHEMA {} FROM PUBLIC"), rules.SCHEMA),
        statements.named(sql.SQL("ALTER SCHEMA {} OWNER TO {}"), rules.SCHEMA, wanted.owner),
        *(statements.revoke_from_admin([login]) for login in its),
    ]


async def _create_extension(connection: Connection, extension: str, wanted: WantedDatabase) -> None:
    """As the tenant's own role, so that it can do no more than the tenant could: only trusted extensions come about.

    That holds also where the admin role is a superuser. No CASCADE: it would bring in extensions that nobody allowed.
    """
    async with connection.transaction():
        await connection.execute(statements.named(sql.SQL("SET LOCAL ROLE {}"), wanted.owner))
        await connection.execute(
            statements.named(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}"), extension, rules.SCHEMA)
        )


async def has_strays(home: Connection, wanted: WantedDatabase) -> bool:
    """Whether the tenant's logins themselves own anything in its database, told from the operator's."""
    cursor = await home.execute(_STRAYS, (wanted.database, list(wanted.logins)))
    return await cursor.fetchone() == (True,)


async def reassign(connections: Connections, now: Snapshot, wanted: WantedDatabase) -> None:
    """Hand over what the logins own to the owner role, in one transaction.

    Raises:
        DatabaseError: SQLSTATE 42501, if an event trigger would run another's code.
    """
    missing = [login for login in wanted.logins if login in now.roles and not now.roles[login].usable]
    async with connections.to(wanted.database) as connection, connection.transaction():
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_STALL)))
        cursor = await connection.execute(_TRIGGERS)
        if await cursor.fetchone() == (True,):
            message = f"database {wanted.database} has an event trigger that is no superuser's: nothing is handed over"
            raise DatabaseError(message, sqlstate=errors.NO_PRIVILEGE)
        if missing:
            await connection.execute(statements.grant_to_admin(now.version, missing))
        # Schemas first: the owner role may get a function only where it may create one.
        cursor = await connection.execute(_SCHEMAS, (list(wanted.logins),))
        for (schema,) in await cursor.fetchall():
            await connection.execute(statements.named(sql.SQL("ALTER SCHEMA {} OWNER TO {}"), schema, wanted.owner))
        await connection.execute(
            sql.SQL("REASSIGN OWNED BY {} TO {}").format(
                statements.identifiers(login for login in wanted.logins if login in now.roles),
                sql.Identifier(wanted.owner),
            )
        )
        if missing:
            await connection.execute(statements.revoke_from_admin(missing))
