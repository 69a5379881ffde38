"""A rehearsed database server: what is asked of it is really asked, what is told to it is kept here and never sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tenantry.api.effective import Effective
from tenantry.api.preview import PreviewItem
from tenantry.decide.preview import Action, item
from tenantry.ports.postgres import DatabaseAdmin, DatabaseClaim, DatabaseState, LoginState, ServerFacts, WantedDatabase
from tenantry.ports.servers import Server, ServerEndpoint
from tenantry.ports.world import Availability
from tenantry.reconcile.database import CREATING, PARKED, READY


class Steps:
    """What would be done on database servers, each thing once.

    Args:
        former: What the tenant has now; None where that is not known.
    """

    def __init__(self, former: Effective | None) -> None:
        self.former = former
        self._items: dict[str, PreviewItem] = {}

    def note(self, action: Action, what: str, detail: str = "") -> None:
        """This would be done; what was said of the same thing before goes first."""
        self._items.setdefault(what, item(action, what, detail))

    def items(self) -> list[PreviewItem]:
        """All of them."""
        return list(self._items.values())

    def settings(self, wanted: WantedDatabase) -> str:
        """What of a database's settings would be others."""
        if self.former is None:
            return "its settings"
        before, changes = self.former, []
        if before.max_connections != wanted.connection_limit:
            changes.append(f"connections: {before.max_connections} -> {wanted.connection_limit}")
        if added := sorted(set(wanted.extensions) - set(before.extensions)):
            changes.append(f"extensions made: {', '.join(added)}")
        if stays := sorted(set(before.extensions) - set(wanted.extensions)):
            changes.append(f"extensions no longer asked for, which stay: {', '.join(stays)}")
        return "; ".join(changes) or "its settings"


class RehearsedAdmin:
    """Implements `tenantry.ports.postgres.DatabaseAdmin` over a real one."""

    def __init__(self, inner: DatabaseAdmin, server: str, databases: int, steps: Steps) -> None:
        self._inner = inner
        self._server = server
        self._databases = databases
        self._steps = steps
        self._claims: dict[str, DatabaseClaim] = {}
        self._open: dict[str, bool] = {}

    async def probe(self) -> ServerFacts:
        """See `DatabaseAdmin`."""
        return await self._inner.probe()

    async def inspect(self, wanted: WantedDatabase) -> DatabaseState:
        """See `DatabaseAdmin`."""
        state = await self._inner.inspect(wanted)
        return replace(state, claim=self._claims.get(wanted.database, state.claim))

    async def now(self) -> datetime:
        """See `DatabaseAdmin`."""
        return await self._inner.now()

    async def claims(self, management_id: str) -> list[DatabaseClaim]:
        """See `DatabaseAdmin`."""
        return await self._inner.claims(management_id)

    async def claim(self, wanted: WantedDatabase, *, max_databases: int | None) -> DatabaseClaim | None:
        """See `DatabaseAdmin`; how full the server is, is as of its last probe."""
        if max_databases is not None and self._databases >= max_databases:
            return None
        claim = DatabaseClaim(wanted.database, wanted.management_id, wanted.tenant_hash, wanted.record, CREATING)
        self._claims[wanted.database] = claim
        self._steps.note("Create", f"Database {wanted.database}", f"on DatabaseServer {self._server}")
        return claim

    async def ensure_roles(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`; told by `settle`."""

    async def ensure_database(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`; told by `claim`, or by `settle`."""

    async def settle(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`."""
        self._steps.note("Change", f"Database {wanted.database}", self._steps.settings(wanted))

    async def mark(self, wanted: WantedDatabase, *, before: str, after: str) -> bool:
        """See `DatabaseAdmin`; bookkeeping, which is not told."""
        return True

    async def set_password(self, wanted: WantedDatabase, login: str, password: str) -> None:
        """See `DatabaseAdmin`."""
        self._open[login] = True
        if wanted.database not in self._claims:
            self._steps.note("Change", f"Login {login}", "opened, with the password that its Secret then has")

    async def login_works(self, wanted: WantedDatabase, login: str, password: str) -> bool:
        """See `DatabaseAdmin`."""
        return self._open.get(login) or await self._inner.login_works(wanted, login, password)

    async def park(self, wanted: WantedDatabase, *, purge_after: datetime | None) -> bool:
        """See `DatabaseAdmin`."""
        self._steps.note("Change", f"Database {wanted.database}", "locked")
        return True

    async def unpark(self, wanted: WantedDatabase) -> bool:
        """See `DatabaseAdmin`."""
        state = await self._inner.inspect(wanted)
        if state.claim is None or state.claim.state != PARKED:
            return False
        self._claims[wanted.database] = replace(state.claim, state=READY, purge_after=None)
        self._steps.note("Change", f"Database {wanted.database}", "opened again")
        return True

    async def expire(self, wanted: WantedDatabase) -> bool:
        """See `DatabaseAdmin`: nothing comes to its end in a rehearsal."""
        return False

    async def lock_logins(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`; told where one of them is open."""
        for state in await self.logins(wanted):
            if state.can_login:
                self._open[state.name] = False
                self._steps.note("Change", f"Login {state.name}", "locked, its sessions ended")

    async def logins(self, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
        """See `DatabaseAdmin`."""
        one, other = await self._inner.logins(wanted)
        return self._as_rehearsed(one), self._as_rehearsed(other)

    async def lock_login(self, wanted: WantedDatabase, login: str, *, end_sessions: bool) -> LoginState:
        """See `DatabaseAdmin`."""
        state = next(each for each in await self.logins(wanted) if each.name == login)
        self._open[login] = False
        self._steps.note("Change", f"Login {login}", "locked, its sessions ended" if end_sessions else "locked")
        return state

    async def reassign(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`; done in each pass over a tenant that rotated, and not told."""

    async def drop(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`."""
        self._steps.note("Delete", f"Database {wanted.database}", f"on DatabaseServer {self._server}")

    async def release(self, wanted: WantedDatabase) -> None:
        """See `DatabaseAdmin`; told by `drop`."""

    async def close(self) -> None:
        """See `DatabaseAdmin`: the real one stays open."""

    def _as_rehearsed(self, state: LoginState) -> LoginState:
        return replace(state, can_login=self._open.get(state.name, state.can_login))


class RehearsedServer:
    """Implements `tenantry.ports.servers.Server` over a real one."""

    def __init__(self, inner: Server, steps: Steps) -> None:
        self._inner = inner
        databases = inner.facts.databases if inner.facts is not None else 0
        self._admin = RehearsedAdmin(inner.admin, inner.name, databases, steps)

    @property
    def name(self) -> str:
        """See `Server`."""
        return self._inner.name

    @property
    def admin(self) -> DatabaseAdmin:
        """See `Server`."""
        return self._admin

    @property
    def endpoint(self) -> ServerEndpoint:
        """See `Server`."""
        return self._inner.endpoint

    @property
    def address(self) -> str:
        """See `Server`."""
        return self._inner.address

    @property
    def facts(self) -> ServerFacts | None:
        """See `Server`."""
        return self._inner.facts

    @property
    def availability(self) -> Availability:
        """See `Server`."""
        return self._inner.availability

    def judge(self, availability: Availability) -> None:
        """See `Server`: a rehearsal judges nothing."""

    async def probe(self) -> ServerFacts:
        """See `Server`."""
        return await self._inner.probe()
