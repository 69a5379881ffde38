"""Rotation between a tenant's two logins, and switching both off: nobody cut unasked, never both locked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import (
    DEADLINE,
    SERVERS,
    KilledError,
    Killer,
    World,
    eventually,
    open_world,
    own_server,
    owners,
    params,
    reconnecting,
    run,
    steps,
)

from tenantry.adapters.postgres import Limits, PostgresAdmin
from tenantry.ports.postgres import DatabaseError, LoginState, WantedDatabase

ROTATIONS = 20
RACES = 60


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresAccess]:
    with own_server(request.param) as running:
        yield running.access


@pytest.fixture
async def world(server: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(server, Limits(lock=1)) as world:
        yield world


async def works(world: World, wanted: WantedDatabase) -> tuple[bool, bool]:
    """Whether each of the logins gets in with password `p`."""
    first, second = [await world.admin.login_works(wanted, login, "p") for login in wanted.logins]
    return first, second


async def catalog(world: World, wanted: WantedDatabase) -> object:
    """The transactions that last wrote what a login can be recognized by."""
    return await world.ask(
        "SELECT array_agg(x ORDER BY x) FROM (SELECT 'r' || xmin FROM pg_authid WHERE rolname = ANY (%s)"
        " UNION ALL SELECT 'm' || xmin FROM pg_auth_members UNION ALL SELECT 'd' || xmin FROM pg_database"
        " UNION ALL SELECT 'c' || xmin || ' ' || xmax FROM claims UNION ALL SELECT 's' || xmin FROM pg_shdepend) y(x)",
        list(wanted.logins),
        database="tenantry",
    )


async def test_the_state_of_the_logins_tells_who_uses_them(world: World) -> None:
    wanted = await world.provision(password="p")
    before = await catalog(world, wanted)
    idle = LoginState(wanted.logins[0], can_login=True, sessions=0, clients=())
    unused = LoginState(wanted.logins[1], can_login=False, sessions=0, clients=())
    assert await world.admin.logins(wanted) == (idle, unused)
    async with world.enter(wanted, "p") as one, world.enter(wanted, "p"):
        await run(one, "SET application_name = 'web'")
        first, second = await world.admin.logins(wanted)
    assert (first.sessions, second) == (2, unused)
    assert set(first.clients) == {"web at 127.0.0.1", "unnamed at 127.0.0.1"}
    assert await catalog(world, wanted) == before  # to look makes the admin role a member of nothing


async def test_a_sessions_own_words_are_made_fit_for_a_message(world: World) -> None:
    wanted = await world.provision(world.wanted(limit=20), password="p")
    async with world.enter(wanted, "p") as session:
        await session.execute("SELECT set_config('application_name', %s, false)", ["\x1b[31m" + "x" * 90])
        (state, _) = await world.admin.logins(wanted)
    (client,) = state.clients
    assert client.isprintable()
    assert len(client) <= 64
    assert client.endswith("x at 127.0.0.1")


async def test_of_many_clients_ten_are_named_and_all_are_counted(world: World) -> None:
    wanted = await world.provision(world.wanted(limit=20), password="p")
    sessions = []
    try:
        for number in range(14):
            dsn = world.access.dsn(wanted.logins[0], "p", wanted.database, application_name=f"c{number % 12}")
            sessions.append(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
        (state, _) = await world.admin.logins(wanted)
        assert state.sessions == 14
        assert state.clients == tuple(f"c{number} at 127.0.0.1" for number in range(10))
    finally:
        for session in sessions:
            await session.close()


async def test_of_roles_that_are_not_the_tenants_nothing_is_told(world: World) -> None:
    wanted = await world.provision(password="p")
    for stranger in (replace(wanted, tenant_hash="z"), replace(wanted, management_id="mgmt-2"), world.wanted()):
        async with world.enter(wanted, "p"):
            states = await world.admin.logins(stranger)
        assert [(state.can_login, state.sessions, state.clients) for state in states] == [(False, 0, ())] * 2


async def test_a_login_that_is_locked_lets_its_sessions_go_on_and_no_new_one_in(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as session:
        before = await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=False)
        assert (before.can_login, before.sessions, before.clients) == (True, 1, ("unnamed at 127.0.0.1",))
        await session.execute("SELECT 1")
        first, _ = await world.admin.logins(wanted)
        assert (first.can_login, first.sessions) == (False, 1)
        assert await works(world, wanted) == (False, True)
    stored = "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s"
    assert await world.ask(stored, wanted.logins[0])


async def test_who_is_cut_by_a_forced_lock_is_told(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as cut, world.enter(wanted, "p", 1) as other:
        await run(cut, "SET application_name = 'web'", "BEGIN", "CREATE TABLE half_done (x int)")
        before = await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=True)
        assert (before.sessions, before.clients) == (1, ("web at 127.0.0.1",))
        with pytest.raises(psycopg.OperationalError):
            await cut.execute("SELECT 1")
        await other.execute("SELECT 1")
    again = await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=True)
    assert (again.can_login, again.sessions) == (False, 0)


async def test_a_forced_lock_keeps_out_clients_that_reconnect_in_a_loop(world: World) -> None:
    wanted = await world.provision_both("p")
    async with reconnecting(world, wanted, "p", clients=4) as tried:
        async with asyncio.timeout(DEADLINE):
            assert (await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=True)).sessions > 0
        before = tried()

        async def tried_again() -> bool:
            assert (await world.admin.logins(wanted))[0].sessions == 0
            return tried() > before + 30

        await eventually(tried_again, "30 more tries")


async def test_a_forced_lock_is_not_held_up_by_a_login_that_holds_its_own_role(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as session:
        await run(session, "SET ROLE NONE", "BEGIN", f"ALTER ROLE {wanted.logins[0]} PASSWORD 'mine'")
        with pytest.raises(DatabaseError) as caught:
            await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=False)
        assert caught.value.sqlstate == "55P03"
        await world.admin.lock_login(wanted, wanted.logins[0], end_sessions=True)
    assert not await world.admin.login_works(wanted, wanted.logins[0], "mine")


@pytest.mark.parametrize("why", ["never had a password", "is locked", "expired"])
async def test_the_only_login_that_works_is_not_locked(world: World, why: str) -> None:
    wanted = await world.provision(password="p")
    first, second = wanted.logins
    if why != "never had a password":
        await world.admin.set_password(wanted, second, "p")
    if why == "is locked":
        await world.admin.lock_login(wanted, second, end_sessions=True)
    if why == "expired":
        async with world.superuser() as session:
            await run(session, f"ALTER ROLE {second} VALID UNTIL '2001-01-01'")
    for end_sessions in (False, True):
        async with world.enter(wanted, "p") as session:
            with pytest.raises(DatabaseError, match=f"{first} is not locked, as {second} can't log in"):
                await world.admin.lock_login(wanted, first, end_sessions=end_sessions)
            await session.execute("SELECT 1")
    assert await world.admin.login_works(wanted, first, "p")


async def test_two_operators_that_lock_one_each_never_lock_both(world: World) -> None:
    wanted = await world.provision_both("p")
    other = PostgresAdmin(params(world.access))
    locked = {0: 0, 1: 0}
    try:
        for race in range(RACES):
            admins = (world.admin, other) if race % 2 else (other, world.admin)
            outcomes = await asyncio.gather(
                *(
                    admin.lock_login(wanted, login, end_sessions=bool(race % 3))
                    for admin, login in zip(admins, wanted.logins, strict=True)
                ),
                return_exceptions=True,
            )
            winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, LoginState)]
            assert len(winners) == 1, outcomes
            assert all(isinstance(outcome, LoginState | DatabaseError) for outcome in outcomes), outcomes
            assert await works(world, wanted) == (winners[0] != 0, winners[0] != 1)
            locked[winners[0]] += 1
            await world.admin.set_password(wanted, wanted.logins[winners[0]], "p")
    finally:
        await other.close()
    assert sum(locked.values()) == RACES


async def test_two_operators_that_rotate_at_once_leave_a_login_that_works(world: World) -> None:
    wanted = await world.provision_both("p")
    other = PostgresAdmin(params(world.access))

    async def rotate(admin: PostgresAdmin, old: int) -> None:
        await admin.set_password(wanted, wanted.logins[1 - old], "p")
        await admin.lock_login(wanted, wanted.logins[old], end_sessions=True)

    try:
        for _ in range(RACES):
            outcomes = await asyncio.gather(rotate(world.admin, 0), rotate(other, 1), return_exceptions=True)
            assert all(outcome is None or isinstance(outcome, DatabaseError) for outcome in outcomes), outcomes
            assert any(await works(world, wanted))
    finally:
        await other.close()


async def test_only_logins_of_an_own_database_in_use_are_locked(world: World) -> None:
    wanted, b = await world.provision_both("p"), await world.provision()
    for login in (b.logins[0], wanted.owner, world.access.admin_user):
        with pytest.raises(DatabaseError, match="is not a login of database"):
            await world.admin.lock_login(wanted, login, end_sessions=True)
    stranger = replace(wanted, management_id="mgmt-2")
    with pytest.raises(DatabaseError, match="somebody else's"):
        await world.admin.lock_logins(stranger)
    with pytest.raises(DatabaseError, match="somebody else's"):
        await world.admin.lock_login(stranger, wanted.logins[0], end_sessions=True)
    assert await works(world, wanted) == (True, True)


async def test_switched_off_logins_come_back_with_their_passwords_set_and_all_else_as_it_was(world: World) -> None:
    wanted = await world.provision_both("p")
    async with world.enter(wanted, "p") as one, world.enter(wanted, "p", 1) as two:
        await run(one, "CREATE TABLE kept (x int)")
        await world.admin.lock_logins(wanted)
        for session in (one, two):
            with pytest.raises(psycopg.OperationalError):
                await session.execute("SELECT 1")
    assert await works(world, wanted) == (False, False)
    stored = "SELECT count(rolpassword) FROM pg_authid WHERE rolname = ANY (%s)"
    assert await world.ask(stored, list(wanted.logins)) == 2
    await world.admin.set_password(wanted, wanted.logins[1], "q")
    assert await world.admin.login_works(wanted, wanted.logins[1], "q")
    assert not (await world.admin.logins(wanted))[0].can_login


async def test_switched_off_logins_are_right_and_no_step_switches_them_on(world: World) -> None:
    wanted = await world.provision_both("p")
    await world.admin.lock_logins(wanted)
    assert (await world.admin.inspect(wanted)).settled
    before = await catalog(world, wanted)
    for step in (*steps(world.admin), world.admin.lock_logins):
        await step(wanted)
    assert await catalog(world, wanted) == before
    assert [state.can_login for state in await world.admin.logins(wanted)] == [False, False]


async def test_clients_that_reconnect_in_a_loop_are_out_when_switched_off(world: World) -> None:
    wanted = await world.provision_both("p")
    async with reconnecting(world, wanted, "p", clients=4):
        async with asyncio.timeout(DEADLINE):
            await world.admin.lock_logins(wanted)
        await world.admin.lock_logins(wanted)
        assert [state.sessions for state in await world.admin.logins(wanted)] == [0, 0]


@dataclass
class Vault:
    """The Secret that a client reads its credentials from."""

    login: str
    password: str
    readings: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    queries: int = 0

    def has_been_read(self, since: dict[int, int]) -> bool:
        """By every client, and used to the end: twice, as the first may have been under way."""
        return all(self.readings[client] >= count + 2 for client, count in since.items())


@asynccontextmanager
async def clients_in_a_loop(world: World, wanted: WantedDatabase, vault: Vault, number: int) -> AsyncIterator[None]:
    """Each reads its credentials, connects, asks, and leaves, without a pause."""

    async def client(index: int) -> None:
        while True:
            dsn = world.access.dsn(vault.login, vault.password, wanted.database)
            try:
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as session:
                    await session.execute("INSERT INTO visits DEFAULT VALUES")
                    vault.queries += 1
            except psycopg.Error as error:
                vault.failures.append(str(error))
            vault.readings[index] = vault.readings.get(index, 0) + 1

    vault.readings.update(dict.fromkeys(range(number), 0))
    tasks = [asyncio.create_task(client(index)) for index in range(number)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_clients_that_reread_their_credentials_fail_no_query_over_many_rotations(world: World) -> None:
    wanted = await world.provision(password="0")
    async with world.enter(wanted, "0") as session:
        await run(session, "CREATE TABLE visits (at timestamptz DEFAULT now())")
    vault = Vault(wanted.logins[0], "0")
    async with clients_in_a_loop(world, wanted, vault, 3):
        for rotation in range(1, ROTATIONS + 1):
            old, password = vault.login, vault.password
            new = next(login for login in wanted.logins if login != old)
            await world.admin.set_password(wanted, new, str(rotation))
            assert await world.admin.login_works(wanted, new, str(rotation))
            vault.login, vault.password = new, str(rotation)
            since = dict(vault.readings)

            async def is_free(old: str = old, since: dict[int, int] = since) -> bool:
                states = {state.name: state for state in await world.admin.logins(wanted)}
                return vault.has_been_read(since) and states[old].sessions == 0

            await eventually(is_free, "a grace period in which nobody used the old login")
            assert (await world.admin.lock_login(wanted, old, end_sessions=False)).sessions == 0
            await world.admin.reassign(wanted)
            await world.admin.settle(wanted)
            assert not await world.admin.login_works(wanted, old, password)
    assert vault.failures == []
    assert await world.ask("SELECT count(*) FROM visits", database=wanted.database) >= vault.queries >= ROTATIONS * 2


async def test_a_kill_at_any_statement_of_a_rotation_leaves_a_login_that_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(monkeypatch)
    wanted = await world.provision(password="p")
    first, second = wanted.logins
    kills = 0
    for killed_at in itertools.count():
        async with world.enter(wanted, "p") as session:
            await run(session, "SET ROLE NONE", f"CREATE TABLE public.t{killed_at} (x int)")
        admin = PostgresAdmin(params(world.access))
        async with world.enter(wanted, "p"):
            killer.countdown = killed_at
            try:
                await admin.set_password(wanted, second, "p")
                await admin.lock_login(wanted, first, end_sessions=True)
                await admin.reassign(wanted)
            except KilledError:
                kills += 1
            else:
                break
            finally:
                killer.countdown = None
                await admin.close()
        assert any(await works(world, wanted))
        await world.admin.set_password(wanted, first, "p")
        await world.admin.lock_login(wanted, second, end_sessions=True)
    assert kills > 12
    assert await works(world, wanted) == (False, True)
    assert await owners(world, wanted) == {wanted.owner}
