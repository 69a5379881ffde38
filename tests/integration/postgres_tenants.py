"""Tenants on a real PostgreSQL server for tests: provisioned by the adapter, entered by psycopg, and cleared away."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import debian_binaries, wheel_binaries

from tenantry.adapters.postgres import Limits, PostgresAdmin, ServerParams
from tenantry.api.identity import base32_digest
from tenantry.ports.postgres import WantedDatabase

SERVERS = ["postgres", "postgres_tls"]
"""The fixtures of the supported versions: 18 without TLS, Debian's 15 with TLS."""

DEADLINE = 60.0
"""Seconds that a test waits for a condition."""

Session = psycopg.AsyncConnection[tuple[Any, ...]]


def params(access: PostgresAccess, **changes: Any) -> ServerParams:
    """How the operator would reach the server."""
    values: dict[str, Any] = {
        "host": access.host,
        "port": access.port,
        "username": access.admin_user,
        "password": access.admin_password,
        "ssl_mode": "verify-full" if access.ca_pem else "disable",
        "ca_pem": access.ca_pem,
    }
    return ServerParams(**(values | changes))


@dataclass
class World:
    """A server, an adapter to it, and the tenants that a test makes there."""

    access: PostgresAccess
    admin: PostgresAdmin
    made: list[WantedDatabase] = field(default_factory=list)
    names: Iterator[str] = field(default_factory=lambda: map(str, itertools.count()))
    salt: str = field(default_factory=lambda: secrets.token_hex(8))

    def wanted(
        self, *, management: str = "mgmt-1", limit: int = 5, extensions: tuple[str, ...] = (), database: str = ""
    ) -> WantedDatabase:
        """A tenant that nobody has made yet."""
        tenant_hash = base32_digest(self.salt, next(self.names))
        name = database or f"tenantry_{tenant_hash}"
        wanted = WantedDatabase(name, management, tenant_hash, f"acme-{tenant_hash}", limit, extensions)
        self.made.append(wanted)
        return wanted

    async def provision(self, wanted: WantedDatabase | None = None, *, password: str = "") -> WantedDatabase:
        """All steps in order; the password, if any, is that of the first login."""
        wanted = wanted or self.wanted()
        await self.admin.claim(wanted, max_databases=None)
        for step in steps(self.admin):
            await step(wanted)
        if password:
            await self.admin.set_password(wanted, wanted.logins[0], password)
        assert await self.admin.mark(wanted, before="creating", after="ready")
        return wanted

    async def provision_both(self, password: str) -> WantedDatabase:
        """A tenant both of whose logins can get in."""
        wanted = await self.provision(password=password)
        await self.admin.set_password(wanted, wanted.logins[1], password)
        return wanted

    @asynccontextmanager
    async def enter(self, wanted: WantedDatabase, password: str, login: int = 0) -> AsyncIterator[Session]:
        """A session as an application of the tenant has it."""
        dsn = self.access.dsn(wanted.logins[login], password, wanted.database)
        session = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        try:
            yield session
        finally:
            await session.close()  # as a context manager it would COMMIT what the test left open

    @asynccontextmanager
    async def superuser(self, database: str = "postgres") -> AsyncIterator[Session]:
        """A session of the server's owner, for looking at what nobody else sees."""
        dsn = self.access.superuser_dsn(database)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as session:
            yield session

    async def ask(self, query: str, *values: Any, database: str = "postgres") -> Any:
        """The first column of the first row, as the superuser."""
        async with self.superuser(database) as session:
            row = await (await session.execute(query.encode(), values or None)).fetchone()
            return row[0] if row else None

    async def clear(self) -> None:
        """Drop all that was made and claimed."""
        for wanted in self.made:
            for state in ("creating", "ready", "parked"):
                await self.admin.mark(wanted, before=state, after="dropping")
            claim = (await self.admin.inspect(wanted)).claim
            if claim and (claim.tenant_hash, claim.management_id) == (wanted.tenant_hash, wanted.management_id):
                await self.admin.drop(wanted)
                await self.admin.release(wanted)


def steps(admin: PostgresAdmin) -> list[Callable[[WantedDatabase], Awaitable[None]]]:
    """The steps between the claim and the passwords."""
    return [admin.ensure_roles, admin.ensure_database, admin.settle]


@asynccontextmanager
async def open_world(access: PostgresAccess, limits: Limits | None = None) -> AsyncIterator[World]:
    """An adapter that has probed the server; what was made through it is dropped in the end."""
    admin = PostgresAdmin(params(access), limits)
    world = World(access, admin)
    try:
        await admin.probe()
        yield world
        await world.clear()
    finally:
        await admin.close()


class OwnServer(PostgresServer):
    """A server for tests that change what all tenants share, with all that may stand in the way of DROP DATABASE."""

    def _settings(self, folder: Path, access: PostgresAccess) -> list[str]:
        return [*super()._settings(folder, access), "--max_prepared_transactions=8", "--wal_level=logical"]


def own_server(version: str) -> OwnServer:
    """Of the sort that the fixture of that name in `SERVERS` has; not started."""
    if version == "postgres":
        return OwnServer(wheel_binaries())
    return OwnServer(debian_binaries(), tls=True)


async def run(session: Session, *statements: str) -> None:
    """Execute statements one by one in a session."""
    for statement in statements:
        await session.execute(statement.encode())


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until it holds.

    Raises:
        AssertionError: if it does not within the deadline.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            while not await condition():  # noqa: ASYNC110 - a server is looked at: it sets no event  # noqa: ASYNC110 - it is asked of a server, which sets no event
                await asyncio.sleep(0.01)  # lets others run where the condition awaits nothing
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE} s: {what}") from None


@asynccontextmanager
async def reconnecting(
    world: World, wanted: WantedDatabase, password: str, *, clients: int
) -> AsyncIterator[Callable[[], int]]:
    """Clients that come back as soon as they are thrown out; gives the number of their tries so far."""
    entered = asyncio.Event()
    tries = 0

    async def reconnect() -> None:
        nonlocal tries
        while True:
            tries += 1
            with suppress(psycopg.Error):
                async with world.enter(wanted, password) as session:
                    entered.set()
                    await session.execute("SELECT pg_sleep(60)")

    tasks = [asyncio.create_task(reconnect()) for _ in range(clients)]
    try:
        async with asyncio.timeout(DEADLINE):
            await entered.wait()
        yield lambda: tries
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def park(world: World, wanted: WantedDatabase, purge_after: datetime | None = None) -> None:
    async with asyncio.timeout(DEADLINE):
        assert await world.admin.park(wanted, purge_after=purge_after)


async def must_be_shut(world: World, wanted: WantedDatabase, password: str) -> None:
    """No login, no privilege, no session."""
    for login in wanted.logins:
        assert not await world.admin.login_works(wanted, login, password)
    roles = [wanted.owner, *wanted.logins]
    may = "SELECT bool_or(rolcanlogin OR has_database_privilege(oid, %s, 'CONNECT, CREATE, TEMPORARY')) FROM pg_roles"
    assert not await world.ask(may + " WHERE rolname = ANY (%s)", wanted.database, roles)
    assert await sessions_of(world, wanted) == 0
    assert not (await world.admin.inspect(wanted)).settled


async def sessions_of(world: World, wanted: WantedDatabase) -> int:
    count: int = await world.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY (%s) OR datname = %s",
        [wanted.owner, *wanted.logins],
        wanted.database,
    )
    return count


async def owners(world: World, wanted: WantedDatabase) -> set[str]:
    """Who owns anything in the tenant's database, default privileges aside."""
    found: list[str] | None = await world.ask(
        "SELECT array_agg(DISTINCT rolname::text) FROM pg_shdepend s JOIN pg_roles r ON r.oid = refobjid"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND deptype = 'o'"
        " AND refclassid = 'pg_authid'::regclass AND classid <> 'pg_default_acl'::regclass",
        database=wanted.database,
    )
    return set(found or ())


class KilledError(Exception):
    """The process ended here."""


class Killer:
    """Ends the process, as far as the server can tell, before or after its nth statement or new session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.countdown: int | None = None
        execute, connect = psycopg.AsyncConnection.execute, psycopg.AsyncConnection.connect

        async def counted_execute(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self.tick()
            cursor = await execute(connection, *args, **kwargs)
            self.tick()
            return cursor

        async def counted_connect(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return await connect(*args, **kwargs)

        monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted_execute)
        monkeypatch.setattr(psycopg.AsyncConnection, "connect", counted_connect)

    def tick(self) -> None:
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown < 0:
                raise KilledError
