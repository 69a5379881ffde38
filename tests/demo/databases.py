"""The tenants' databases: what the server has of them, and what their own logins may and may not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.controlplane.postgres_access import PostgresAccess

CONNECT_SECONDS: Final = 10
CLAIMS_DATABASE: Final = "tenantry"
PERMISSION_DENIED: Final = "permission denied for database"


@dataclass(frozen=True, slots=True)
class DatabaseFindings:
    """One tenant's database on the server.

    Attributes:
        exists: The database itself is there.
        owner: Its owner; empty where it does not exist.
        roles: Its roles, and whether each may log in.
        claim: State of its row in the table of claims; empty where there is none.
    """

    name: str
    exists: bool
    owner: str
    roles: Mapping[str, bool]
    claim: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to somebody.

    Attributes:
        good: Whether it was what it should be.
        text: In one line, without secrets.
    """

    good: bool
    text: str


def look_at_databases(server: PostgresAccess) -> dict[str, DatabaseFindings]:
    """All databases that are claimed, exist, or have roles, by name."""
    with psycopg.connect(server.admin_dsn(CLAIMS_DATABASE)) as connection:
        claims: dict[str, str] = dict(connection.execute("SELECT database, state FROM public.claims").fetchall())
        owners: dict[str, str] = dict(
            connection.execute(
                r"SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname LIKE 'tenantry\_%'"
            ).fetchall()
        )
        roles: dict[str, bool] = dict(
            connection.execute(
                r"SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'tenantry\_%\_%' ORDER BY 1"
            ).fetchall()
        )
    names = {*claims, *owners, *(role.rpartition("_")[0] for role in roles)}
    return {
        name: DatabaseFindings(
            name=name,
            exists=name in owners,
            owner=owners.get(name, ""),
            roles={role: login for role, login in roles.items() if role.rpartition("_")[0] == name},
            claim=claims.get(name, ""),
        )
        for name in names
    }


def greet(uri: str) -> Answer:
    """Use a tenant's database as its application would, by the Secret's `uri` as it is: make a table, write, read."""
    try:
        with psycopg.connect(uri, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS greetings (said text, at timestamptz DEFAULT now())")
            connection.execute("INSERT INTO greetings (said) VALUES ('hello')")
            row = connection.execute(
                "SELECT count(*), current_database(), session_user, current_user, split_part(version(), ' ', 2)"
                " FROM greetings"
            ).fetchone()
    except psycopg.Error as error:
        return Answer(False, one_line(str(error)))
    assert row is not None
    count, database, login, user, version = row
    said = f"{count} row{'' if count == 1 else 's'} in {database}.public.greetings"
    return Answer(True, f"{said}, written as {login} (role {user}), PostgreSQL {version}")


def intrude(uri: str, database: str) -> Answer:
    """Try another database with a tenant's login; good is the server's refusal, and nothing but that refusal."""
    other = make_conninfo("", **{**conninfo_to_dict(uri), "dbname": database})
    try:
        with psycopg.connect(other, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(sql.SQL("SELECT 1"))
    except psycopg.Error as error:
        text = one_line(str(error))
        return Answer(PERMISSION_DENIED in text, text)
    return Answer(False, f"it was let into {database}")


def one_line(text: str) -> str:
    """A server's message without its line breaks, from the severity on where it has one."""
    flat = " ".join(text.split())
    return flat[flat.index("FATAL:") :] if "FATAL:" in flat else flat
