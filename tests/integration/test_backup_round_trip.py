"""There and back: a database with something of everything is, when it is restored, what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.controlplane.postgres_access import PostgresAccess
from tests.integration import nasty
from tests.integration.backing import backup, ended, register
from tests.integration.tenants import Workbench
from tests.integration.test_tenant_restore import done, restore
from tests.scene.stage import EXTENSIONS, SERVER_15, SERVER_18

from tenantry.api.resources import TENANT_RECORDS

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def bucket() -> Iterator[StoreServer]:
    with StoreServer(MINISTACK) as server:
        yield server


def server_of(workbench: Workbench, name: str) -> PostgresAccess:
    return workbench.stage.postgres_18 if name == SERVER_18 else workbench.stage.postgres_15


def database_of(workbench: Workbench, name: str = "acme") -> str:
    answer = workbench.management.get(TENANT_RECORDS.path(name=workbench.whereabouts(name).identity.record))
    return str(answer.body["spec"]["database"]["name"])


def a_tenant(workbench: Workbench, server: str, name: str = "acme") -> dict[str, Any]:
    plan = workbench.platform("TenantPlan", "nasty", extensions=EXTENSIONS, deletion={"maxWindow": "0s"})
    database = {"mode": "Shared", "shared": {"server": server}, "extensions": EXTENSIONS}
    return workbench.make(name, plan=plan, database=database)


@pytest.mark.parametrize("server", [SERVER_18, SERVER_15])
def test_a_nasty_database_is_the_same_after_a_restore_in_every_table_sequence_object_and_definition(
    workbench: Workbench, bucket: StoreServer, server: str
) -> None:
    kept = register(workbench, bucket.access, encrypted=True, readable=True)
    a_tenant(workbench, server)
    access, database = server_of(workbench, server), database_of(workbench)
    with psycopg.connect(access.superuser_dsn(database), autocommit=True) as session:
        session.execute(f'SET ROLE "{database}_owner"'.encode())
        nasty.fill(session)
    before = nasty.checksums(access, database)
    assert before.tables["public.every_type"][0] > 100
    assert before.tables["public.blobs"][0] == nasty.BLOBS
    assert before.tables["public.hidden"][0] == 3
    workbench.apply(backup(workbench, "first", kept.name))
    status = ended(workbench, "first", "Completed", "BackupCompleted")["status"]
    assert status["sizeBytes"] > nasty.BLOBS * 1024 * 1024, "random bytes don't get smaller"
    with psycopg.connect(access.superuser_dsn(database), autocommit=True) as session:
        session.execute("DROP TABLE public.blobs, public.every_type")
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    there = database_of(workbench)
    assert there != database
    after = nasty.checksums(access, there)
    assert after.tables == before.tables
    assert after.sequences == before.sequences
    assert after.objects == before.objects
    assert after.schema == before.schema


def test_an_empty_database_is_backed_up_and_restored_like_any_other(workbench: Workbench, tmp_path: Path) -> None:
    kept = register(workbench, tmp_path / "kept")
    a_tenant(workbench, SERVER_18)
    access, database = server_of(workbench, SERVER_18), database_of(workbench)
    before = nasty.checksums(access, database)
    assert before.tables == {}
    workbench.apply(backup(workbench, "first", kept.name))
    status = ended(workbench, "first", "Completed", "BackupCompleted")["status"]
    assert status["sizeBytes"] > 0
    assert (status.get("rows") or 0, status.get("tables") or 0) == (0, 0)
    with psycopg.connect(access.superuser_dsn(database), autocommit=True) as session:
        session.execute("CREATE TABLE public.later (x int)")
    workbench.apply(restore(workbench, "back"))
    done(workbench, "back")
    assert nasty.checksums(access, database_of(workbench)) == before
