"""A tenant's database on a shared server: claimed, made, settled, and proven by a login (rules 4 and 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.databaseserver import DatabaseServer
from tenantry.api.effective import Effective
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_START_FRESH
from tenantry.api.resources import DATABASE_SERVERS, Ref
from tenantry.api.tenantrecord import TenantRecord
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.workspaces import allows
from tenantry.ports.postgres import (
    DatabaseAdmin,
    DatabaseClaim,
    DatabaseError,
    DatabaseState,
    DatabaseUnreachableError,
    WantedDatabase,
)
from tenantry.ports.servers import Server
from tenantry.ports.world import Json
from tenantry.reconcile.world import World

CREATING, READY, PARKED, DROPPING = "creating", "ready", "parked", "dropping"


class UnknownSideError(Waiting):
    """There is a side of which the record does not know that it is open, or there: likely the tenant lives there."""

    def __init__(self, what: str, record: str) -> None:
        super().__init__(
            ConditionType.PLACED,
            Reason.MOVE_NOT_SUPPORTED,
            f"{what} already, of which TenantRecord {record!r} knows nothing: it may be older than a move or restore "
            "(restored from a backup?). Nothing is touched: delete the record, so that it is made anew from what is "
            "there",
            retry_after=30.0,
        )


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """A tenant's database and the server it is pinned to.

    Attributes:
        spec: None of a server of the tenant's own.
    """

    server: Server
    spec: DatabaseServer | None
    wanted: WantedDatabase

    @property
    def where(self) -> str:
        """The server, for messages."""
        return f"DatabaseServer {self.server.name!r}" if self.spec is not None else "the tenant's own server"

    @property
    def max_databases(self) -> int | None:
        """How many databases the server takes; None for any number."""
        return self.spec.spec.max_databases if self.spec is not None else None

    @property
    def cidrs(self) -> tuple[str, ...]:
        """Where the server is, for the tenant's egress policy."""
        if self.spec is None:
            return ()
        if self.spec.spec.cidrs:
            return tuple(self.spec.spec.cidrs)
        address = self.server.address
        return (f"{address}/{128 if ':' in address else 32}",)


def choose_server(
    world: World, name: str, labels: dict[str, str], *, new: bool = False
) -> tuple[DatabaseServer, Server]:
    """The server of that name, if this workspace may use it and it is there; for a new database, to stay.

    Raises:
        Waiting: it is not there, not allowed, or not ready.
    """
    body = world.live.get(Ref(DATABASE_SERVERS, "", name))
    found = DatabaseServer.model_validate(body) if body is not None else None
    # A workspace learns no more of a server that it may not use than of one that is not there.
    leaving = new and found is not None and found.metadata.deletion_timestamp is not None
    if found is None or leaving or not allows(found.spec.allowed_workspaces, labels):
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.SERVER_NOT_FOUND,
            f"there is no DatabaseServer {name!r} that this workspace may use",
        )
    server = world.servers.get(name)
    if server is None or not server.availability.ok or server.facts is None:
        why = server.availability.message if server is not None else ""
        raise Waiting(
            ConditionType.DATABASE_READY,
            Reason.SERVER_NOT_READY,
            f"DatabaseServer {name!r} is not ready{f': {why}' if why else ''}",
            retry_after=30.0,
        )
    return found, server


def wanted_database(identity: TenantIdentity, name: str, effective: Effective) -> WantedDatabase:
    """The database as it should be."""
    return WantedDatabase(
        database=name,
        management_id=identity.management_id,
        tenant_hash=identity.tenant_hash,
        record=identity.record,
        connection_limit=effective.max_connections,
        extensions=effective.extensions,
    )


def pinned_database(world: World, record: TenantRecord, effective: Effective, labels: dict[str, str]) -> SharedDatabase:
    """The database that the record pins, on its server.

    Raises:
        Waiting: the server is not there, not allowed, or not ready.
        Terminal: IdentityChanged, ExtensionNotAllowed.
    """
    pinned = record.spec.database
    spec, server = choose_server(world, pinned.server, labels)
    check_server_identity(server, pinned.server, pinned.id)
    for extension in effective.extensions:
        if extension not in spec.spec.allowed_extensions:
            raise Terminal(
                ConditionType.DATABASE_READY,
                Reason.EXTENSION_NOT_ALLOWED,
                f"spec.database.extensions: DatabaseServer {pinned.server!r} does not allow {extension}",
            )
    return SharedDatabase(server, spec, wanted_database(record.identity, pinned.name, effective))


def check_server_identity(server: Server, name: str, pinned_id: str) -> None:
    """That a server's name still stands for the server that the tenant's data is on.

    Raises:
        Terminal: IdentityChanged: frozen until the platform accepts the new identity.
    """
    if server.facts is not None and server.facts.system_identifier != pinned_id:
        raise Terminal(
            ConditionType.DATABASE_READY,
            Reason.IDENTITY_CHANGED,
            f"DatabaseServer {name!r} now is another server (system identifier {server.facts.system_identifier}, this "
            f"tenant's data is on {pinned_id}); nothing is changed until the platform team accepts it",
        )


class DatabaseProvisioning:
    """Brings one tenant's database to where it should be; each step safe to repeat and to lose.

    Attributes:
        shared: The database and its server.
        was_ready: It had been complete before this pass.
    """

    def __init__(self, shared: SharedDatabase) -> None:
        self.shared = self._shared = shared
        self.was_ready = False

    async def provision(self, secret: Json | None) -> None:
        """Claim, make and settle the database: all but the password.

        Args:
            secret: The live Secret `tenant-database`, if there is one: proof that the database was there once.

        Raises:
            Terminal: DatabaseConflict, DatabaseMissing.
            Waiting: ServerFull, ServerNotReady, DatabaseRefused, MoveNotSupported.
        """
        admin, wanted = self._shared.server.admin, self._shared.wanted
        try:
            state = await admin.inspect(wanted)
            self._check(state, secret)
            self.was_ready = state.claim is not None and state.claim.state in (READY, PARKED)
            if state.claim is not None and state.claim.state == PARKED:
                await self._check_no_other_is_open(admin)
                await admin.unpark(wanted)  # the tenant was deleted, and was applied again in its window
                state = await admin.inspect(wanted)
            if state.settled and state.claim is not None and state.claim.state == READY:
                return
            await self._make(admin, state)
        except DatabaseUnreachableError as error:
            raise unreachable(self._shared, error) from error
        except DatabaseError as error:
            raise refused(error) from error

    async def lock(self) -> None:
        """Lock both logins of a tenant that is switched off; `connect` opens the one in use again.

        Raises:
            Waiting: ServerNotReady, DatabaseRefused.
        """
        try:
            await self._shared.server.admin.lock_logins(self._shared.wanted)
        except DatabaseUnreachableError as error:
            raise unreachable(self._shared, error) from error
        except DatabaseError as error:
            raise refused(error) from error

    async def keep(self) -> None:
        """Note that there is something in it, though nobody has logged in: what a move has copied.

        Raises:
            Waiting: ServerNotReady, DatabaseRefused.
        """
        try:
            await self._shared.server.admin.mark(self._shared.wanted, before=CREATING, after=READY)
        except DatabaseUnreachableError as error:
            raise unreachable(self._shared, error) from error
        except DatabaseError as error:
            raise refused(error) from error

    def _check(self, state: DatabaseState, secret: Json | None) -> None:
        claim, wanted = state.claim, self._shared.wanted
        if claim is not None and not is_own(claim, wanted):
            raise self._conflict("is claimed by another tenant")
        if claim is not None and claim.state == DROPPING:
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.PREDECESSOR_EXISTS,
                "its database is being dropped",
                retry_after=5.0,
            )
        if state.exists and not state.stamped and (claim is None or claim.state != CREATING):
            raise self._conflict("is there, but was not made by this operator")
        existed = (claim is not None and claim.state in (READY, PARKED)) or (secret is not None and claim is None)
        if existed and not state.exists:
            raise Terminal(
                ConditionType.DATABASE_READY,
                Reason.DATABASE_MISSING,
                f"database {wanted.database!r} on {self._shared.where} is gone, and is never made anew "
                "by itself: restore it under that name, or delete this Tenant and apply it again with the annotation "
                f"{ANNOTATION_START_FRESH}={wanted.record} to start empty",
            )

    async def _check_no_other_is_open(self, admin: DatabaseAdmin) -> None:
        """Never two that are written to: a record from before a restore would open what the tenant had before it.

        Raises:
            UnknownSideError: another database of the tenant is open.
        """
        wanted = self._shared.wanted
        for claim in await admin.claims(wanted.management_id):
            other = replace(wanted, database=claim.database)
            if claim.state != READY or claim.database == wanted.database or not is_own(claim, other):
                continue
            if (await admin.inspect(other)).exists:
                raise UnknownSideError(f"{self._shared.where} has {claim.database!r} open", wanted.record)

    async def _make(self, admin: DatabaseAdmin, state: DatabaseState) -> None:
        wanted = self._shared.wanted
        claim = state.claim or await admin.claim(wanted, max_databases=self._shared.max_databases)
        if claim is None:
            raise Waiting(
                ConditionType.DATABASE_READY,
                Reason.SERVER_FULL,
                f"{self._shared.where} is full: spec.maxDatabases is reached",
                retry_after=60.0,
            )
        if not is_own(claim, wanted):
            raise self._conflict("is claimed by another tenant")
        await admin.ensure_roles(wanted)
        await admin.ensure_database(wanted)
        await admin.settle(wanted)

    def _conflict(self, why: str) -> Terminal:
        wanted = self._shared.wanted
        return Terminal(
            ConditionType.DATABASE_READY,
            Reason.DATABASE_CONFLICT,
            f"database {wanted.database!r} on {self._shared.where} {why}; it is not touched: rename or drop it there",
        )


def is_own(claim: DatabaseClaim, wanted: WantedDatabase) -> bool:
    """The record's name too, for it has the tenant's: a name can be searched for that gives another tenant's hash."""
    return (claim.management_id, claim.tenant_hash, claim.record) == (
        wanted.management_id,
        wanted.tenant_hash,
        wanted.record,
    )


def refused(error: DatabaseError) -> Waiting:
    """Waiting and not Terminal: whether it would go better the next time can't be told from here."""
    message = f"the database server refused: {error.message}"
    return Waiting(ConditionType.DATABASE_READY, Reason.DATABASE_REFUSED, message, retry_after=30.0)


def unreachable(shared: SharedDatabase, error: DatabaseError) -> Waiting:
    """The server does not answer."""
    return Waiting(
        ConditionType.DATABASE_READY,
        Reason.SERVER_NOT_READY,
        f"{shared.where} does not answer: {error.message}",
        retry_after=10.0,
    )
