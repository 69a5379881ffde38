"""A rehearsed database server: it is asked and never told, and what it would be told is in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry.api.effective import Effective
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import TenantPlanSpec
from tenantry.decide.effective import effective
from tenantry.ports.postgres import DatabaseAdmin, DatabaseClaim, DatabaseState, LoginState, WantedDatabase
from tenantry.reconcile.database import CREATING, PARKED, READY
from tenantry.reconcile.rehearsal import RehearsedOwnServers
from tenantry.reconcile.rehearsed_database import RehearsedAdmin, Steps

WANTED = WantedDatabase("tenantry_x", "m", "x", "acme-x", 20, ("citext",))
CLAIM = DatabaseClaim("tenantry_x", "m", "x", "acme-x", READY)


class Real:
    """A server that answers questions; being told anything is an error, for it has no such method."""

    def __init__(self, claim: DatabaseClaim | None = CLAIM, *, can_login: tuple[bool, bool] = (True, False)) -> None:
        self._claim = claim
        self._can_login = can_login

    async def inspect(self, _: WantedDatabase) -> DatabaseState:
        there = self._claim is not None
        return DatabaseState(self._claim, there, there, settled=there)

    async def logins(self, wanted: WantedDatabase) -> tuple[LoginState, LoginState]:
        one, other = (LoginState(name, can, 3, ()) for name, can in zip(wanted.logins, self._can_login, strict=True))
        return one, other

    async def login_works(self, wanted: WantedDatabase, login: str, _: str) -> bool:
        return self._can_login[wanted.logins.index(login)]


def former(**spec: Any) -> Effective:
    plan = TenantPlanSpec.model_validate({"extensions": ["citext", "pgcrypto"], "maxConnections": 50})
    return effective(TenantSpec.model_validate({"database": {"mode": "Shared", **spec}}), "basic", plan)


def rehearsed(real: Real, steps: Steps, databases: int = 0) -> RehearsedAdmin:
    return RehearsedAdmin(cast("DatabaseAdmin", real), "pg", databases, steps)


def told(steps: Steps) -> list[tuple[str, str, str]]:
    return [(each.action, each.what, each.detail) for each in steps.items()]


async def test_a_new_database_is_told_as_one_thing_and_its_login_works_in_the_rehearsal() -> None:
    steps = Steps(None)
    admin = rehearsed(Real(None), steps)
    claim = await admin.claim(WANTED, max_databases=1)
    assert claim == replace(CLAIM, state=CREATING)
    assert (await admin.inspect(WANTED)).claim == claim
    await admin.ensure_roles(WANTED)
    await admin.ensure_database(WANTED)
    await admin.settle(WANTED)
    await admin.set_password(WANTED, WANTED.logins[0], "password")
    assert await admin.login_works(WANTED, WANTED.logins[0], "password")
    assert await admin.mark(WANTED, before=CREATING, after=READY)
    await admin.reassign(WANTED)
    assert told(steps) == [("Create", "Database tenantry_x", "on DatabaseServer pg")]


async def test_a_server_that_is_full_takes_no_claim() -> None:
    steps = Steps(None)
    assert await rehearsed(Real(None), steps, databases=5).claim(WANTED, max_databases=5) is None
    assert told(steps) == []


@pytest.mark.parametrize(
    ("before", "detail"),
    [
        (former(maxConnections=5, extensions=["citext"]), "connections: 5 -> 20"),
        (former(maxConnections=20, extensions=["pgcrypto"]),
         "extensions made: citext; extensions no longer asked for, which stay: pgcrypto"),
        (former(maxConnections=20, extensions=["citext"]), "its settings"),
        (None, "its settings"),
    ],
)  # fmt: skip
def test_of_a_database_that_is_there_the_settings_that_would_change_are_told(
    before: Effective | None, detail: str
) -> None:
    steps = Steps(before)
    asyncio.run(rehearsed(Real(), steps).settle(WANTED))
    assert told(steps) == [("Change", "Database tenantry_x", detail)]


async def test_logins_that_are_locked_or_opened_are_told_once_and_only_where_they_are_not_so_already() -> None:
    steps = Steps(None)
    admin = rehearsed(Real(), steps)
    for _ in range(2):
        await admin.lock_logins(WANTED)
    assert told(steps) == [("Change", "Login tenantry_x_0", "locked, its sessions ended")]
    assert [state.can_login for state in await admin.logins(WANTED)] == [False, False]
    steps = Steps(None)
    admin = rehearsed(Real(can_login=(False, False)), steps)
    assert not await admin.login_works(WANTED, "tenantry_x_0", "p")
    await admin.set_password(WANTED, "tenantry_x_0", "p")
    assert await admin.login_works(WANTED, "tenantry_x_0", "p")
    assert [item[:2] for item in told(steps)] == [("Change", "Login tenantry_x_0")]
    state = await admin.lock_login(WANTED, "tenantry_x_0", end_sessions=False)
    assert (state.can_login, state.sessions) == (True, 3)
    assert [state.can_login for state in await admin.logins(WANTED)] == [False, False]


async def test_a_database_at_rest_is_opened_in_the_rehearsal_only() -> None:
    steps = Steps(None)
    admin = rehearsed(Real(replace(CLAIM, state=PARKED)), steps)
    assert await admin.unpark(WANTED)
    claim = (await admin.inspect(WANTED)).claim
    assert claim is not None
    assert claim.state == READY
    assert told(steps) == [("Change", "Database tenantry_x", "opened again")]
    assert not await rehearsed(Real(), Steps(None)).unpark(WANTED)
    assert not await admin.expire(WANTED)


async def test_what_would_be_destroyed_is_told_as_deleted() -> None:
    steps = Steps(None)
    admin = rehearsed(Real(), steps)
    await admin.drop(WANTED)
    await admin.release(WANTED)
    assert told(steps) == [("Delete", "Database tenantry_x", "on DatabaseServer pg")]


async def test_a_tenants_own_server_is_opened_to_be_looked_at_only() -> None:
    asked: list[bool] = []

    class Own:
        @asynccontextmanager
        async def open(self, *_: object, read_only: bool = False) -> AsyncIterator[Any]:
            asked.append(read_only)
            yield SimpleNamespace(name="", admin=Real(), facts=None)

    servers = RehearsedOwnServers(cast("Any", Own()), Steps(None))
    async with servers.open(cast("Any", None), cast("Any", None)) as server:
        assert (await server.admin.inspect(WANTED)).exists
    assert asked == [True]
