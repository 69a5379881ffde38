"""What the reconcilers ask of a PostgreSQL server as its admin role: protocol, values, and errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class DatabaseError(Exception):
    """A database server refused a statement; `message` has no secret in it and names no other tenant."""

    def __init__(self, message: str, *, sqlstate: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


class DatabaseUnreachableError(DatabaseError):
    """The server did not answer in time, or refused the connection for a reason that may pass.

    Attributes:
        retry_after: Seconds after which it is to be asked again, or None.
    """

    def __init__(self, message: str, *, sqlstate: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.retry_after = retry_after


class DatabaseCredentialsError(DatabaseError):
    """The server refused the admin credentials or they lack the rights named in the message."""


class ProgramFailedError(DatabaseError):
    """A program at a database (pg_dump, pg_restore) came to its end by itself, with an error."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a probe found out about a database server.

    Attributes:
        system_identifier: From pg_control_system(), as decimal text.
        version: `server_version_num`, such as 150018.
        public_connect: Those of `postgres` and `template1` on which PUBLIC may CONNECT.
        missing_rights: What the admin role lacks of CREATEDB and CREATEROLE; also says if it is a superuser (allowed).
        databases: Number of claims this server holds, of any management cluster.
        extensions: Names in pg_available_extensions.
    """

    system_identifier: str
    version: int
    public_connect: tuple[str, ...]
    missing_rights: tuple[str, ...]
    databases: int
    extensions: frozenset[str]


@dataclass(frozen=True, slots=True)
class DatabaseClaim:
    """One row of table `claims` in database `tenantry` on a server: who a database name belongs to.

    Attributes:
        state: `creating`, `ready`, `parked` or `dropping`.
        purge_after: When a parked one may be dropped, in UTC; None for never, and in all other states but `dropping`.
    """

    database: str
    management_id: str
    tenant_hash: str
    record: str
    state: str
    purge_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class WantedDatabase:
    """A tenant's database on a shared server as it should be.

    Attributes:
        database: The database's name, also the stem of its roles: `<database>_owner`, `<database>_0`, `<database>_1`.
        connection_limit: Of the database, for all logins together.
        extensions: Already checked against the server's and the plan's allow-lists.
    """

    database: str
    management_id: str
    tenant_hash: str
    record: str
    connection_limit: int
    extensions: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """The role that owns the tenant's schema and objects; it can't log in."""
        return f"{self.database}_owner"

    @property
    def logins(self) -> tuple[str, str]:
        """The two login roles that rotation alternates between."""
        return f"{self.database}_0", f"{self.database}_1"


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What of a wanted database exists and is as it should be, read in one go.

    Attributes:
        claim: The row for this database name, whoever owns it; None if there is none.
        exists: The database itself is there.
        stamped: Its comment carries this management id and tenant hash.
        settled: Owner, privileges, limits, roles and settings are all as wanted (nothing left to do but passwords).
    """

    claim: DatabaseClaim | None
    exists: bool
    stamped: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class LoginState:
    """One of a tenant's two logins at one moment.

    Attributes:
        can_login: It is there, has LOGIN, and its validity is not over. Whether it has a password can't be seen.
        sessions: Of this login, in all databases.
        clients: Who they say they are and where they come from, such as `psql at 10.0.0.7`: different ones, at most 10
            of at most 64 printable characters each.
    """

    name: str
    can_login: bool
    sessions: int
    clients: tuple[str, ...]


class DatabaseAdmin(Protocol):
    """One shared PostgreSQL server as its admin role. Each method is one idempotent step; all raise only DatabaseError.

    The order of the steps is the reconciler's: claim (committed), roles, database, settle, stamp, mark ready.
    """

    async def probe(self) -> ServerFacts:
        """Connect, make sure that database `tenantry` and its table are there, and read the facts."""

    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        """The state of one tenant's database."""

    async def now(self) -> datetime:
        """The server's clock, in UTC."""

    async def claims(self, management_id: str) -> list[DatabaseClaim]:
        """All claims of one management cluster."""

    async def claim(self, wanted: WantedDatabase, *, max_databases: int | None) -> DatabaseClaim | None:
        """Commit a claim in state `creating` unless the name is claimed; the row as it then is.

        None if the server is full (counted and inserted atomically).
        """

    async def ensure_roles(self, wanted: WantedDatabase) -> None:
        """The owner role and both logins, without password and NOLOGIN where new; attributes put right."""

    async def ensure_database(self, wanted: WantedDatabase) -> None:
        """CREATE DATABASE from template0 owned by the admin's role, where it is missing."""

    async def settle(self, wanted: WantedDatabase) -> None:
        """Privileges, schema public, search_path, role settings, limits and extensions; then the stamp (comment)."""

    async def mark(self, wanted: WantedDatabase, *, before: str, after: str) -> bool:
        """Compare-and-swap of the claim's state; False if it was not `before`."""

    async def set_password(self, wanted: WantedDatabase, login: str, password: str) -> None:
        """LOGIN and a SCRAM-SHA-256 verifier made here; the server never sees the password."""

    async def login_works(self, wanted: WantedDatabase, login: str, password: str) -> bool:
        """Whether a tenant's login gets into its database and `SELECT current_user` is its owner role."""

    async def park(self, wanted: WantedDatabase, *, purge_after: datetime | None) -> bool:
        """Claim to `parked`, logins locked with their passwords kept, no privilege on the database, sessions ended.

        The data stays. False if there is no such claim or it is in `dropping`. Safe to repeat.

        Args:
            wanted: Whose database it is.
            purge_after: When it may be dropped, with a zone; None for never.
        """

    async def unpark(self, wanted: WantedDatabase) -> bool:
        """Claim from `parked` to `ready`, or to `creating` if it was never complete; False if it was not parked.

        `ensure_roles`, `settle` and `set_password` then open it again.
        """

    async def expire(self, wanted: WantedDatabase) -> bool:
        """Claim from `parked` to `dropping` if its `purge_after` is over by the server's clock; else False."""

    async def lock_logins(self, wanted: WantedDatabase) -> None:
        """Both logins locked with their passwords kept, and their sessions ended; `set_password` unlocks one."""

    async def logins(self, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
        """Both logins, and who uses them now."""

    async def lock_login(self, wanted: WantedDatabase, login: str, *, end_sessions: bool) -> LoginState:
        """One login locked and its password forgotten; what it was before. Never both, whoever else is at it."""

    async def reassign(self, wanted: WantedDatabase) -> None:
        """What the logins themselves own in the tenant's database is given to the owner role."""

    async def drop(self, wanted: WantedDatabase) -> None:
        """Lock the logins, end the sessions, drop the database and the roles. Needs the claim in `dropping`."""

    async def release(self, wanted: WantedDatabase) -> None:
        """Delete the claim in state `dropping`: the last step."""

    async def close(self) -> None:
        """End all connections."""
