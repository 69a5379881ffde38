"""What a tenant's database must look like and what of it is ours to touch: pure decisions over a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from tenantry.adapters.postgres.snapshot import DatabaseRow, Grant, RoleRow, Snapshot
from tenantry.ports.postgres import DatabaseError, WantedDatabase

OPERATOR_CONNECTIONS: Final = 4
"""A database's limit also counts the admin role, which is no superuser. So the logins have the tenant's limit and the
database this many more, or a tenant that uses all of its own would keep the operator out: a dump takes two of them."""

MAX_NAME_BYTES: Final = 63
"""PostgreSQL cuts longer names silently, and two tenants' names could become one."""

TENANT_PRIVILEGES: Final = ("CONNECT", "CREATE", "TEMPORARY")

SCHEMA: Final = "public"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Whose a database or role is. Comments are readable by every role of the server, so a stamp holds nothing else:
    the record, which has the tenant's name in it, is in the claim."""

    management_id: str
    tenant_hash: str

    @classmethod
    def of(cls, wanted: WantedDatabase) -> Stamp:
        """The stamp of a wanted database and its roles."""
        return cls(wanted.management_id, wanted.tenant_hash)

    @classmethod
    def parse(cls, comment: str | None) -> Stamp | None:
        """The stamp in a comment, or None where there is none."""
        try:
            value: Any = orjson.loads(comment or "")
        except orjson.JSONDecodeError:
            return None
        if not isinstance(value, dict) or value.get("managedBy") != "tenantry":
            return None
        management_id, tenant_hash = value.get("managementId"), value.get("tenantHash")
        if not isinstance(management_id, str) or not isinstance(tenant_hash, str):
            return None
        return cls(management_id, tenant_hash)

    def comment(self) -> str:
        """The comment that carries it."""
        value = {"managedBy": "tenantry", "managementId": self.management_id, "tenantHash": self.tenant_hash}
        return orjson.dumps(value).decode()


def check_names(wanted: WantedDatabase) -> None:
    """Refuse names that the server would cut.

    Raises:
        DatabaseError: if the database's or a role's name is empty, has a NUL or is over 63 bytes.
    """
    longest = max((wanted.database, wanted.owner, *wanted.logins), key=lambda name: len(name.encode()))
    if not wanted.database or "\0" in wanted.database or len(longest.encode()) > MAX_NAME_BYTES:
        raise DatabaseError(f"{longest!r} can't be the name of a database and its roles: 1 to {MAX_NAME_BYTES} bytes")


def require_login(wanted: WantedDatabase, login: str) -> None:
    """Refuse any role that is not one of the tenant's two logins.

    Raises:
        DatabaseError: without SQLSTATE.
    """
    if login not in wanted.logins:
        raise DatabaseError(f"{login} is not a login of database {wanted.database}")


def claimed(snapshot: Snapshot, wanted: WantedDatabase, *states: str) -> bool:
    """Whether the claim on the name is the wanted tenant's and in one of the states."""
    claim = snapshot.claim
    return (
        claim is not None
        and (claim.management_id, claim.tenant_hash) == (wanted.management_id, wanted.tenant_hash)
        and claim.state in states
    )


def require_claim(snapshot: Snapshot, wanted: WantedDatabase, *states: str) -> None:
    """Refuse to touch what is not claimed for the wanted tenant.

    Raises:
        DatabaseError: without SQLSTATE.
    """
    if not claimed(snapshot, wanted, *states):
        now = "somebody else's" if snapshot.claim and snapshot.claim.state in states else "not"
        if snapshot.claim and snapshot.claim.state not in states:
            now = f"in state {snapshot.claim.state}"
        raise DatabaseError(f"the claim on database {wanted.database} must be {' or '.join(states)}, but is {now}")


def require_own_database(snapshot: Snapshot, wanted: WantedDatabase) -> None:
    """Refuse a database that somebody else made.

    An unstamped one is ours under a claim in `creating`, `parked` or `dropping`, for the stamp is the last thing it
    gets and half-made ones are deleted, too; and only if the admin role owns it, for it was born so.

    Raises:
        DatabaseError: without SQLSTATE.
    """
    database = snapshot.database
    if database is None:
        return
    stamp = Stamp.parse(database.comment)
    if stamp is not None and stamp != Stamp.of(wanted):
        raise DatabaseError(f"database {wanted.database} carries the stamp of another tenant or management cluster")
    if stamp is None and not claimed(snapshot, wanted, "creating", "parked", "dropping"):
        raise DatabaseError(f"database {wanted.database} is there without a stamp: it is not this tenant's")
    if not database.ours:
        raise DatabaseError(f"database {wanted.database} belongs to another role than the operator's")


def require_own_role(snapshot: Snapshot, wanted: WantedDatabase, role: RoleRow) -> None:
    """Refuse a role that somebody else made.

    An unstamped one may be adopted under a claim in `creating` if it can neither log in nor do anything special.

    Raises:
        DatabaseError: without SQLSTATE.
    """
    stamp = Stamp.parse(role.comment)
    if stamp == Stamp.of(wanted):
        return
    if stamp is not None:
        raise DatabaseError(f"role {role.name} carries the stamp of another tenant or management cluster")
    if not claimed(snapshot, wanted, "creating"):
        raise DatabaseError(f"role {role.name} is there without a stamp: it is not this tenant's")
    if role.powers or role.login:
        raise DatabaseError(f"role {role.name} is there already and has LOGIN or more: drop or rename it")


def own_roles(snapshot: Snapshot, wanted: WantedDatabase) -> list[str]:
    """The roles that carry the wanted tenant's stamp. Others are not ours, not even to lock: roles are born with it."""
    return [name for name, role in snapshot.roles.items() if Stamp.parse(role.comment) == Stamp.of(wanted)]


def limit_of_database(wanted: WantedDatabase) -> int:
    """The CONNECTION LIMIT of the database; -1, no limit, stays that."""
    return wanted.connection_limit + OPERATOR_CONNECTIONS if wanted.connection_limit >= 0 else -1


def limit_of_role(wanted: WantedDatabase, name: str) -> int:
    """The CONNECTION LIMIT of one of the roles."""
    return -1 if name == wanted.owner else max(wanted.connection_limit, -1)


def wanted_settings(wanted: WantedDatabase) -> dict[str, str]:
    """What a login's sessions in the database start with: as the owner, whose all objects then are."""
    return {"role": wanted.owner, "search_path": SCHEMA}


def wanted_grants(wanted: WantedDatabase) -> frozenset[Grant]:
    """The tenant's privileges on its database."""
    return frozenset(Grant(wanted.owner, privilege, grantable=False) for privilege in TENANT_PRIVILEGES)


def tenant_grants(database: DatabaseRow, wanted: WantedDatabase) -> frozenset[Grant]:
    """The privileges that PUBLIC and the tenant's roles have; what the server's owner gave to others is theirs."""
    grantees = {"", wanted.owner, *wanted.logins}
    return frozenset(grant for grant in database.grants if grant.grantee in grantees)


def role_is_right(role: RoleRow, wanted: WantedDatabase) -> bool:
    """Attributes, limit, stamp, members and settings as wanted; whether it may log in is the business of passwords."""
    own = role.name == wanted.owner
    right = (
        not role.powers
        and role.inherit
        and role.connection_limit == limit_of_role(wanted, role.name)
        and Stamp.parse(role.comment) == Stamp.of(wanted)
    )
    if own:
        return right and not role.login and role.usable and set(wanted.logins) <= full_members(role)
    return right and {f"{name}={value}" for name, value in wanted_settings(wanted).items()} <= role.settings


def full_members(role: RoleRow) -> frozenset[str]:
    """The members that have its privileges and may SET ROLE to it, but may not pass it on."""
    may_pass_on = {m.member for m in role.memberships if m.admin}
    return frozenset(m.member for m in role.memberships if m.settable and m.inherited and m.member not in may_pass_on)


def database_is_right(database: DatabaseRow, wanted: WantedDatabase) -> bool:
    """Owner, privileges, limit and stamp as wanted."""
    return (
        database.ours
        and database.owner not in {wanted.owner, *wanted.logins}
        and database.allow_connections
        and database.connection_limit == limit_of_database(wanted)
        and tenant_grants(database, wanted) == wanted_grants(wanted)
        and Stamp.parse(database.comment) == Stamp.of(wanted)
    )


def is_right(snapshot: Snapshot, wanted: WantedDatabase) -> bool:
    """All that the shared catalogs know is as wanted; what is inside the database is not among it."""
    return (
        snapshot.database is not None
        and database_is_right(snapshot.database, wanted)
        and set(snapshot.roles) == {wanted.owner, *wanted.logins}
        and all(role_is_right(role, wanted) for role in snapshot.roles.values())
    )
