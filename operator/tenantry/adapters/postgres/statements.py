"""The SQL that brings a tenant's roles and database from what they are to what they should be, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from psycopg import sql

from tenantry.adapters.postgres import rules
from tenantry.adapters.postgres.snapshot import DatabaseRow, RoleRow, Snapshot
from tenantry.ports.postgres import WantedDatabase

_FROM_15: Final = 150000
_FROM_16: Final = 160000
_FROM_17: Final = 170000


def batch(statements: Sequence[sql.Composable]) -> sql.Composed:
    """Statements as one message: one round trip and, as the server has it, one transaction."""
    return sql.SQL("; ").join(statements)


def named(text: sql.SQL, *names: str) -> sql.Composed:
    """A statement with quoted identifiers in its placeholders."""
    return text.format(*map(sql.Identifier, names))


def identifiers(names: Iterable[str]) -> sql.Composed:
    """Quoted identifiers, separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def roles(snapshot: Snapshot, wanted: WantedDatabase) -> list[sql.Composed]:
    """What makes the roles right; roles that are there have been checked to be ours.

    New roles can't log in and have no password. Of existing ones only what is wrong is altered: up to PostgreSQL 15 to
    name some attributes at all takes a superuser, and passwords and settings that others made are not ours to reset.
    """
    todo: list[sql.Composed] = []
    for name in (wanted.owner, *wanted.logins):
        role = snapshot.roles.get(name)
        todo += _create_role(name, wanted) if role is None else _alter_role(role, wanted)
    owner = snapshot.roles.get(wanted.owner)
    if owner is None or not owner.usable:
        todo.append(grant_to_admin(snapshot.version, [wanted.owner]))
    members = rules.full_members(owner) if owner else frozenset()
    for login in wanted.logins:
        if login not in members or login not in snapshot.roles:
            todo.append(named(sql.SQL("GRANT {} TO {}" + _membership(snapshot.version)), wanted.owner, login))
    return todo


def grant_to_admin(version: int, names: Iterable[str]) -> sql.Composed:
    """The admin role's own membership: it can't act for a tenant's roles, or end their sessions, otherwise."""
    return sql.SQL("GRANT {} TO CURRENT_USER" + _membership(version)).format(identifiers(names))


def revoke_from_admin(names: Iterable[str]) -> sql.Composed:
    """The end of a membership that `grant_to_admin` gave."""
    return sql.SQL("REVOKE {} FROM CURRENT_USER").format(identifiers(names))


def _membership(version: int) -> str:
    return " WITH INHERIT TRUE, SET TRUE" if version >= _FROM_16 else ""


def _comment_on_role(name: str, wanted: WantedDatabase) -> sql.Composed:
    stamp = sql.Literal(rules.Stamp.of(wanted).comment())
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), stamp)


def _create_role(name: str, wanted: WantedDatabase) -> Iterator[sql.Composed]:
    yield sql.SQL(
        "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT"
        " CONNECTION LIMIT {}"
    ).format(sql.Identifier(name), sql.Literal(rules.limit_of_role(wanted, name)))
    yield _comment_on_role(name, wanted)


def _alter_role(role: RoleRow, wanted: WantedDatabase) -> Iterator[sql.Composed]:
    changes: list[sql.Composable] = [sql.SQL("NO" + power) for power in sorted(role.powers)]
    if not role.inherit:
        changes.append(sql.SQL("INHERIT"))
    if role.name == wanted.owner and role.login:
        changes.append(sql.SQL("NOLOGIN"))
    limit = rules.limit_of_role(wanted, role.name)
    if role.connection_limit != limit:
        changes.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(limit)))
    if changes:
        yield sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role.name), sql.SQL(" ").join(changes))
    if rules.Stamp.parse(role.comment) is None:
        yield _comment_on_role(role.name, wanted)
    if role.name == wanted.owner:
        for login in sorted({m.member for m in role.memberships if m.admin} & set(wanted.logins)):
            yield named(sql.SQL("REVOKE ADMIN OPTION FOR {} FROM {}"), role.name, login)


def create_database(version: int, name: str, *, connection_limit: int, ctype: str = "C.UTF-8") -> sql.Composed:
    """CREATE DATABASE, closed to everybody: PUBLIC may connect to what is new, so it is opened only after the REVOKE.

    The order of text is that of code points on every version and machine, so that no operating system's update breaks
    an index and a move between servers changes no ORDER BY; upper, lower and character classes know Unicode. From 17
    PostgreSQL has that built in; before, only the classes (`ctype`) come from the operating system.
    """
    locale = sql.SQL("LC_COLLATE 'C' LC_CTYPE {}").format(sql.Literal(ctype))
    if version >= _FROM_17:
        locale += sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'")
    elif version >= _FROM_15:
        locale += sql.SQL(" LOCALE_PROVIDER libc")
    return sql.SQL(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}"
    ).format(sql.Identifier(name), locale, sql.Literal(connection_limit))


def database(current: DatabaseRow, snapshot: Snapshot, wanted: WantedDatabase) -> list[sql.Composed]:
    """What makes the database right from outside: privileges and settings first, and then it is opened."""
    todo = list(_privileges(current, wanted))
    limit = rules.limit_of_database(wanted)
    if current.connection_limit != limit:
        todo.append(
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(sql.Identifier(wanted.database), sql.Literal(limit))
        )
    for login in wanted.logins:
        settings = snapshot.roles[login].settings
        for name, value in rules.wanted_settings(wanted).items():
            if f"{name}={value}" not in settings:
                todo.append(
                    sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                        sql.Identifier(login), sql.Identifier(wanted.database), sql.Identifier(name), sql.Literal(value)
                    )
                )
    if not current.allow_connections:
        todo.append(open_database(wanted.database))
    return todo


def _privileges(current: DatabaseRow, wanted: WantedDatabase) -> Iterator[sql.Composed]:
    stolen = take_back(current, wanted)
    yield from stolen
    have = rules.tenant_grants(current, wanted)
    excess = have - rules.wanted_grants(wanted)
    for grantee in sorted({grant.grantee for grant in excess}):
        yield revoke_all(wanted.database, grantee)
    if stolen or have != rules.wanted_grants(wanted):
        yield sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
            sql.SQL(", ").join(map(sql.SQL, rules.TENANT_PRIVILEGES)),
            sql.Identifier(wanted.database),
            sql.Identifier(wanted.owner),
        )


def take_back(current: DatabaseRow, wanted: WantedDatabase) -> list[sql.Composed]:
    """What makes the admin role the owner of a database that one of its tenant's roles owns.

    This also takes away what the tenant had of its own: with the ownership go the owner's entries in the ACL.
    """
    if current.owner not in {wanted.owner, *wanted.logins}:
        return []
    return [named(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER"), wanted.database)]


def revoke_all(database: str, grantee: str) -> sql.Composed:
    """Nothing on the database is left to one who has privileges there (empty: PUBLIC), nor to whom it passed them."""
    if not grantee:
        return close_to_public(database)
    return named(sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE"), database, grantee)


def close_to_public(database: str) -> sql.Composed:
    """PUBLIC gets nothing on a database."""
    return named(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC"), database)


def open_database(database: str) -> sql.Composed:
    """Let those connect who have the privilege."""
    return named(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true"), database)


def stamp_database(wanted: WantedDatabase) -> sql.Composed:
    """The stamp, which comes last: what has it is complete."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(
        sql.Identifier(wanted.database), sql.Literal(rules.Stamp.of(wanted).comment())
    )


def set_password(login: str, verifier: str) -> sql.Composed:
    """LOGIN with a password that the server gets as a verifier only."""
    return sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(verifier))


def lock_login(login: str) -> sql.Composed:
    """NOLOGIN, and the password is forgotten."""
    return named(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL"), login)


def drop_database(database: str) -> sql.Composed:
    """DROP DATABASE; waits some seconds for sessions that are still there."""
    return named(sql.SQL("DROP DATABASE IF EXISTS {}"), database)


def drop_roles(names: Iterable[str]) -> sql.Composed:
    """DROP ROLE for all of them or none."""
    return sql.SQL("DROP ROLE IF EXISTS {}").format(identifiers(names))


def drop_owned(names: Iterable[str]) -> sql.Composed:
    """Take away what was granted to roles in the database of the session and on shared objects."""
    return sql.SQL("DROP OWNED BY {}").format(identifiers(names))
