"""All that the shared catalogs say about one tenant's database, read by one query in the operator's own database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from psycopg import sql

from tenantry.adapters.postgres.connections import Connection
from tenantry.ports.postgres import DatabaseClaim, WantedDatabase


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege on a database. `grantee` is empty for PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """That a role has a member, which may pass it on (`admin`), SET ROLE to it, or have its privileges without that."""

    member: str
    admin: bool
    settable: bool
    inherited: bool


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """The database as pg_database has it.

    Attributes:
        owner: The name of the owning role.
        ours: The admin role is the owner or a member of it.
        public_schema_handed_over: The schema `public` that the database was born with belongs to the tenant's owner
            role. False also where the tenant has replaced that schema by one of its own: then one must look inside.
    """

    owner: str
    ours: bool
    allow_connections: bool
    connection_limit: int
    comment: str | None
    grants: frozenset[Grant]
    public_schema_handed_over: bool


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role as pg_roles has it.

    Attributes:
        powers: Those of SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS that it has.
        settings: `name=value` of its settings in the tenant's database.
        usable: The admin role has its privileges and may SET ROLE to it.
        expired: Its VALID UNTIL is over: no password lets it in.
    """

    name: str
    powers: frozenset[str]
    inherit: bool
    login: bool
    connection_limit: int
    comment: str | None
    settings: frozenset[str]
    usable: bool
    memberships: frozenset[Membership]
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tenant's database, roles and claim at one moment. `version` is the server's, as 150018."""

    version: int
    claim: DatabaseClaim | None
    database: DatabaseRow | None
    roles: Mapping[str, RoleRow]

    @classmethod
    def parse(cls, version: int, claim: Any, database: Any, roles: Any) -> Self:
        """From the JSON values of the query's three columns; anything else than it yields is a bug and a KeyError."""
        return cls(
            version=version,
            claim=parse_claim(claim) if claim else None,
            database=_database(database) if database else None,
            roles={role["name"]: _role(role) for role in roles or ()},
        )


def parse_claim(row: dict[str, Any]) -> DatabaseClaim:
    """A claim from the JSON of `CLAIM_COLUMNS`."""
    purge_after = row["purge_after"]
    due = datetime.fromisoformat(purge_after).replace(tzinfo=UTC) if purge_after else None
    return DatabaseClaim(**(row | {"purge_after": due}))


def _database(row: dict[str, Any]) -> DatabaseRow:
    return DatabaseRow(**(row | {"grants": frozenset(Grant(**grant) for grant in row["grants"])}))


def _role(row: dict[str, Any]) -> RoleRow:
    return RoleRow(
        **(
            row
            | {
                "powers": frozenset(row["powers"]),
                "settings": frozenset(row["settings"]),
                "memberships": frozenset(Membership(**membership) for membership in row["memberships"]),
            }
        )
    )


CLAIM_COLUMNS: Final = sql.SQL(
    "database, management_id, tenant_hash, record, state,"
    " CASE WHEN purge_after BETWEEN '0001-01-02Z' AND '9999-12-30Z' THEN purge_after AT TIME ZONE 'UTC' END"
    " AS purge_after"
)
"""A time that Python has no value for, such as `infinity`, can only be a human's and is read as none."""

# In PostgreSQL 16 memberships got options of their own; before, inheriting is the member's attribute and setting is
# always possible. Reading them out of the row's JSON makes one query fit all versions.
_QUERY: Final = sql.SQL("""
SELECT
  (SELECT row_to_json(c) FROM (SELECT {} FROM public.claims WHERE database = %(database)s) c),
  (SELECT row_to_json(d) FROM (
    SELECT pg_get_userbyid(b.datdba) AS owner,
           pg_has_role(b.datdba, 'USAGE') AS ours,
           b.datallowconn AS allow_connections,
           b.datconnlimit AS connection_limit,
           shobj_description(b.oid, 'pg_database') AS comment,
           (SELECT coalesce(json_agg(json_build_object(
                     'grantee', CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
                     'privilege', a.privilege_type, 'grantable', a.is_grantable)), '[]')
              FROM aclexplode(coalesce(b.datacl, acldefault('d', b.datdba))) a) AS grants,
           EXISTS (SELECT FROM pg_shdepend s JOIN pg_roles o ON o.oid = s.refobjid
                    WHERE s.dbid = b.oid AND s.classid = 'pg_namespace'::regclass AND s.objid = 2200
                      AND s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND o.rolname = %(owner)s
           ) AS public_schema_handed_over
      FROM pg_database b WHERE b.datname = %(database)s
  ) d),
  (SELECT json_agg(row_to_json(r)) FROM (
    SELECT p.rolname AS name,
           array_remove(ARRAY[CASE WHEN p.rolsuper THEN 'SUPERUSER' END, CASE WHEN p.rolcreatedb THEN 'CREATEDB' END,
                              CASE WHEN p.rolcreaterole THEN 'CREATEROLE' END,
                              CASE WHEN p.rolreplication THEN 'REPLICATION' END,
                              CASE WHEN p.rolbypassrls THEN 'BYPASSRLS' END], NULL) AS powers,
           p.rolinherit AS inherit, p.rolcanlogin AS login, p.rolconnlimit AS connection_limit,
           shobj_description(p.oid, 'pg_authid') AS comment,
           coalesce((SELECT g.setconfig FROM pg_db_role_setting g JOIN pg_database b ON b.oid = g.setdatabase
                      WHERE g.setrole = p.oid AND b.datname = %(database)s), '{{}}') AS settings,
           coalesce(p.rolvaliduntil <= now(), false) AS expired,
           pg_has_role(p.oid, 'USAGE') AND pg_has_role(p.oid, %(set)s) AS usable,
           (SELECT coalesce(json_agg(json_build_object(
                     'member', pg_get_userbyid(m.member),
                     'admin', m.admin_option,
                     'settable', coalesce((to_jsonb(m) ->> 'set_option')::bool, true),
                     'inherited', coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true))), '[]')
              FROM pg_auth_members m WHERE m.roleid = p.oid) AS memberships
      FROM pg_roles p WHERE p.rolname = ANY (%(roles)s)
  ) r)
""").format(CLAIM_COLUMNS)


async def read(connection: Connection, wanted: WantedDatabase) -> Snapshot:
    """What there is of the wanted database; `connection` is a session on the operator's own database."""
    version = connection.info.server_version
    cursor = await connection.execute(
        _QUERY,
        {
            "database": wanted.database,
            "owner": wanted.owner,
            "roles": [wanted.owner, *wanted.logins],
            "set": "SET" if version >= 160000 else "MEMBER",
        },
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Snapshot.parse(version, *row)
