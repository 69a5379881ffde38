"""The two logins of a tenant, between which rotation alternates: who uses them, and how they are locked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from psycopg import sql

from tenantry.adapters.postgres import lockout, rules, sessions, snapshot, statements
from tenantry.adapters.postgres.connections import Connections
from tenantry.adapters.postgres.lockout import LockedOut, Lockout
from tenantry.adapters.postgres.sessions import Session
from tenantry.adapters.postgres.snapshot import Snapshot
from tenantry.ports.postgres import DatabaseError, LoginState, WantedDatabase

_IN_USE: Final = ("creating", "ready")

_MAX_CLIENTS: Final = 10
_MAX_CLIENT: Final = 64


def client_name(application: str, address: str | None) -> str:
    """Who a session says that it is and where it comes from, fit for a message: at most 64 printable characters."""
    place = _printable(f" at {address}" if address else " at a local socket")[:_MAX_CLIENT]
    name = _printable(application).strip() or "unnamed"
    return name[: _MAX_CLIENT - len(place)] + place


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def state_of(now: Snapshot, wanted: WantedDatabase, login: str, seen: Iterable[Session]) -> LoginState:
    """A login with those of the sessions that are its own; of a role that is not this tenant's nothing is told."""
    if login not in rules.own_roles(now, wanted):
        return LoginState(login, can_login=False, sessions=0, clients=())
    role = now.roles[login]
    own = [session for session in seen if session.login == login]
    clients = dict.fromkeys(client_name(session.application, session.address) for session in own)
    return LoginState(
        name=login,
        can_login=role.login and not role.expired,
        sessions=len(own),
        clients=tuple(clients)[:_MAX_CLIENTS],
    )


async def states(connections: Connections, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
    """See `PostgresAdmin.logins`."""
    async with connections.home() as connection:
        now = await snapshot.read(connection, wanted)
        own = [name for name in rules.own_roles(now, wanted) if name in wanted.logins]
        seen = await sessions.look(connection, now, own)
    first, second = wanted.logins
    return state_of(now, wanted, first, seen), state_of(now, wanted, second, seen)


async def lock_all(connections: Connections, wanted: WantedDatabase) -> None:
    """See `PostgresAdmin.lock_logins`."""

    def changes(now: Snapshot) -> list[sql.Composed]:
        return lockout.no_login(now, [name for name in rules.own_roles(now, wanted) if name in wanted.logins])

    await _lock_out(connections, Lockout(wanted, wanted.logins, _IN_USE, changes))


async def lock(connections: Connections, wanted: WantedDatabase, login: str, *, end_sessions: bool) -> LoginState:
    """See `PostgresAdmin.lock_login`."""

    def changes(now: Snapshot) -> list[sql.Composed]:
        role = now.roles.get(login)
        if role is None:
            raise DatabaseError(f"role {login} is not there")
        rules.require_own_role(now, wanted, role)
        other = next(name for name in wanted.logins if name != login)
        if not state_of(now, wanted, other, ()).can_login:
            raise DatabaseError(f"{login} is not locked, as {other} can't log in: the tenant would have no way in")
        return [statements.lock_login(login)]

    rules.require_login(wanted, login)
    done = await _lock_out(connections, Lockout(wanted, (login,), _IN_USE, changes, end_sessions=end_sessions))
    return state_of(done.before, wanted, login, done.seen)


async def _lock_out(connections: Connections, what: Lockout) -> LockedOut:
    async with connections.home() as connection:
        done = await lockout.lock_out(connections, connection, what)
        if done is None:
            rules.require_claim(await snapshot.read(connection, what.wanted), what.wanted, *what.states)
            raise DatabaseError(f"the claim on database {what.wanted.database} is being changed by somebody else")
    return done
