"""Backups whose dump, store or operator dies: Failed soon and with a reason, or Completed and whole; nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.integration.backing import Kept, keep_in
from tests.scene.installation import apply
from tests.scene.lab import Lab, all_ready, conditions_text, make_lab, tenant_body, wait_until, workspace_body

Json = dict[str, Any]
WORKSPACE = "shop"
FAILED_SECONDS = 150.0
"""From the death of whoever works to Failed: a minute, on a machine that has nothing else to do."""


class Scene:
    """A lab with one tenant that has a database of some size, and a store."""

    def __init__(self, lab: Lab, store: StoreServer, kept: Kept) -> None:
        self.lab = lab
        self.store = store
        self.kept = kept
        self._numbers = iter(range(1000))

    def begin(self) -> str:
        """Make one more TenantBackup; its name."""
        name = f"backup-{next(self._numbers)}"
        body = {
            "apiVersion": "tenantry.io/v1alpha1",
            "kind": "TenantBackup",
            "metadata": {"name": name, "namespace": WORKSPACE},
            "spec": {"source": {"tenant": {"name": "acme"}}, "store": self.kept.name},
        }
        apply(self.lab.management.access, body)
        return name

    def status(self, name: str) -> Json:
        """What a TenantBackup says."""
        status: Json = self.lab.management.access.get("tnb", name, "-n", WORKSPACE).get("status", {})
        return status

    def wait(self, name: str, *phases: str, seconds: float = FAILED_SECONDS) -> Json:
        """Its status, once it has one of these phases."""
        wait_until(
            lambda: self.status(name).get("phase") in phases,
            seconds,
            lambda: f"{name} is {phases}: {json.dumps(self.status(name))}\n{self.lab.operator.log_text[-2000:]}",
        )
        return self.status(name)

    def dump(self) -> psutil.Process:
        """The pg_dump of the operator, stopped in its tracks."""
        found: list[psutil.Process] = []

        def there() -> bool:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.lab.operator.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        line = child.cmdline()
                        if line and Path(line[0]).name == "pg_dump" and "--version" not in line:
                            child.suspend()
                            found.append(child)
                            return True
            return False

        wait_until(there, 120, "pg_dump runs")
        return found[0]

    def keys(self) -> set[str]:
        """What is in the store."""
        return asyncio.run(self.kept.keys())

    def roles(self) -> list[str]:
        """Of dumps, on the server."""
        with psycopg.connect(self.lab.postgres.access.superuser_dsn()) as session:
            rows = session.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^tenantry.*_dump$'").fetchall()
            return [row[0] for row in rows]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management"))
        target = stack.enter_context(ControlPlane("target"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        store = stack.enter_context(StoreServer(MINISTACK))
        lab = make_lab(management, target, postgres, tmp_path_factory.mktemp("lab"))
        kept, bodies = keep_in(store.access, "lab", encrypted=True)
        apply(management.access, workspace_body(WORKSPACE), *bodies)
        stack.callback(lab.operator.stop)
        lab.operator.start()
        apply(management.access, tenant_body("acme", WORKSPACE, database={"mode": "Shared"}))
        wait_until(all_ready(lab, 1), 120, lambda: conditions_text(lab))
        with psycopg.connect(postgres.access.superuser_dsn()) as session:
            (database,) = (
                session.execute("SELECT datname FROM pg_database WHERE datname ~ '^tenantry_'").fetchone() or ()
            )
        with psycopg.connect(postgres.access.superuser_dsn(database)) as session:
            session.execute(f'SET ROLE "{database}_owner"'.encode())
            session.execute("CREATE TABLE big AS SELECT i, gen_random_uuid()::text x FROM generate_series(1, 400000) i")
        yield Scene(lab, store, kept)


@pytest.mark.timeout(900)
def test_a_dump_that_is_killed_is_a_failed_backup_of_which_nothing_is_left(scene: Scene) -> None:
    name = scene.begin()
    process = scene.dump()
    process.kill()
    status = scene.wait(name, "Failed", "Completed")
    assert status["phase"] == "Failed"
    assert "pg_dump failed: exit code -9" in status["conditions"][0]["message"]
    assert (scene.keys(), scene.store.open_uploads(), scene.roles()) == (set(), 0, [])


@pytest.mark.timeout(900)
def test_a_backup_of_an_operator_that_is_killed_fails_when_it_is_back_and_the_next_one_works(scene: Scene) -> None:
    name = scene.begin()
    process = scene.dump()
    scene.wait(name, "Running")
    scene.lab.operator.kill()
    process.resume()  # as it was: it finds that nobody reads what it writes
    process.wait(120)
    scene.lab.operator.start()
    status = scene.wait(name, "Failed", "Completed")
    assert status["phase"] == "Failed"
    assert status["conditions"][0]["reason"] == "BackupInterrupted"
    wait_until(lambda: scene.roles() == [], 120, "the role of the dump is gone")
    assert (scene.keys(), scene.store.open_uploads()) == (set(), 0)
    following = scene.wait(scene.begin(), "Completed", "Failed")
    assert following["phase"] == "Completed"
    asyncio.run(scene.kept.manifest(following["objectKey"]))


@pytest.mark.timeout(900)
def test_an_operator_that_is_killed_at_any_moment_never_leaves_a_false_or_an_endless_backup(scene: Scene) -> None:
    before = scene.keys()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    moments = random.Random(seed)  # noqa: S311 - moments, no secrets
    good = set()
    for _ in range(5):
        name = scene.begin()
        time.sleep(moments.uniform(0.0, 5.0))  # the random moment itself
        scene.lab.operator.kill()
        scene.lab.operator.start()
        status = scene.wait(name, "Failed", "Completed")
        if status["phase"] == "Completed":
            manifest = asyncio.run(scene.kept.manifest(status["objectKey"]))
            assert manifest.rows["public.big"] == 400000
            good |= {f"{manifest.path}/manifest.json", f"{manifest.path}/{manifest.database.name}"}
    assert scene.keys() - before == good
    assert scene.store.open_uploads() == 0


@pytest.mark.timeout(900)
def test_a_store_that_goes_away_during_a_backup_is_a_failed_backup(scene: Scene) -> None:
    name = scene.begin()
    process = scene.dump()
    scene.wait(name, "Running")
    scene.store.stop_server()
    try:
        process.resume()
        status = scene.wait(name, "Failed", "Completed", seconds=200)
        assert status["phase"] == "Failed"
        assert status["conditions"][0]["message"].startswith("the store")
    finally:
        scene.store.start_server()
