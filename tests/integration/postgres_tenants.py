"""Tenants on a real PostgreSQL server for tests: provisioned by the adapter, entered by psycopg, and cleared away."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.controlplane.postgres_binaries import debian_binaries, wheel_binaries

from tenantry.adapters.postgres import Limits, PostgresAdmin, ServerParams
from tenantry.api.identity import base32_digest
from tenantry.ports import WantedDatabase

SERVERS = ["postgres", "postgres_tls"]
"""The fixtures of the supported versions: 18 without TLS, Debian's 15 with TLS."""

DEADLINE = 15.0
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
            for state in ("creating", "ready"):
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


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until it holds.

    Raises:
        AssertionError: if it does not within the deadline.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            while not await condition():
                pass
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE} s: {what}") from None
