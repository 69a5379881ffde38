"""Scratch databases of restores on trial: dropped when their maker has died, left alone while they are in use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration.postgres_tenants import World, open_world

from tenantry.adapters.postgres.dumping import PostgresDumper
from tenantry.adapters.postgres.loading import PostgresLoader
from tenantry.adapters.postgres.servers import ServerConnection
from tenantry.ports.postgres import DatabaseError
from tenantry.ports.servers import ServerEndpoint
from tenantry.reconcile.openstores import BackupKit
from tenantry.reconcile.scratch import Scratch, made, scratch_named, sweep

LEFT = """
SELECT count(*) FROM (SELECT datname AS name FROM pg_database UNION ALL SELECT rolname FROM pg_roles) all_names
 WHERE starts_with(name, %s)
"""


def kit_of_databases() -> BackupKit:
    none = cast(Any, None)  # it opens no store
    return BackupKit(none, none, PostgresDumper(), PostgresLoader(), "test", none)


@pytest.fixture
async def world(postgres: PostgresAccess) -> AsyncIterator[World]:
    async with open_world(postgres) as world:
        yield world


@pytest.fixture
async def server(postgres: PostgresAccess) -> AsyncIterator[ServerConnection]:
    endpoint = ServerEndpoint(
        host=postgres.host,
        port=postgres.port,
        username=postgres.admin_user,
        password=postgres.admin_password,
        ssl_mode="disable",
        ca_pem="",
    )
    connection = ServerConnection("fra", endpoint, "127.0.0.1")
    try:
        await connection.probe()
        yield connection
    finally:
        await connection.close()


def management_of(world: World) -> str:
    """One of each test's own: others have scratch databases on the same server meanwhile."""
    return f"mgmt-{world.salt}"


async def test_a_sweep_drops_all_but_what_is_in_use_and_no_tenants(world: World, server: ServerConnection) -> None:
    kit, management = kit_of_databases(), management_of(world)
    tenant = await world.provision(world.wanted(management=management))
    mine, dead = scratch_named(management, "mine"), scratch_named(management, "dead")
    others = scratch_named(f"not-{management}", "others")
    async with made(kit, Scratch(server, mine)), made(kit, Scratch(server, others)):
        await server.admin.claim(dead, max_databases=None)
        for step in (server.admin.ensure_roles, server.admin.ensure_database, server.admin.settle):
            await step(dead)
        await sweep(kit, server, management, {mine.database})
        assert await world.ask(LEFT, dead.database) == 0
        assert (await server.admin.inspect(dead)).claim is None
        for left in (mine, others, tenant):
            assert (await server.admin.inspect(left)).settled
    for gone in (mine, others):
        assert await world.ask(LEFT, gone.database) == 0
        assert (await server.admin.inspect(gone)).claim is None
    assert (await server.admin.inspect(tenant)).settled


@pytest.mark.parametrize("steps", range(5))
async def test_what_a_process_leaves_that_dies_at_any_step_goes_with_the_next_sweep(
    world: World, server: ServerConnection, steps: int
) -> None:
    kit, admin = kit_of_databases(), server.admin
    dead = scratch_named(management_of(world), f"dead-{steps}")
    await admin.claim(dead, max_databases=None)
    for step in (admin.ensure_roles, admin.ensure_database, admin.settle)[:steps]:
        await step(dead)
    if steps == 4:  # half dropped already
        assert await admin.mark(dead, before="creating", after="dropping")
        await admin.drop(dead)
    await sweep(kit, server, management_of(world), ())
    assert await world.ask(LEFT, dead.database) == 0
    assert (await admin.inspect(dead)).claim is None


async def test_a_database_that_a_human_has_made_under_its_name_is_neither_used_nor_dropped(
    world: World, server: ServerConnection
) -> None:
    wanted = scratch_named(management_of(world), "taken")
    async with world.superuser() as session:
        await session.execute(f'CREATE DATABASE "{wanted.database}"'.encode())
        try:
            with pytest.raises(DatabaseError):
                async with made(kit_of_databases(), Scratch(server, wanted)):
                    raise AssertionError("it was used")
            assert await world.ask("SELECT count(*) FROM pg_database WHERE datname = %s", wanted.database) == 1
            assert (await server.admin.inspect(wanted)).claim is None
        finally:
            await session.execute(f'DROP DATABASE "{wanted.database}"'.encode())
