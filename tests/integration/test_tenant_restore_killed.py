"""Restores whose pg_restore or operator dies: the live database is as it was until the restored one is complete."""

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
ROWS = 300_000
ENDS = ("Completed", "Failed")

pytestmark = pytest.mark.timeout(900)


class Scene:
    """A lab with one tenant that has a database of some size, a backup of it, and a change since."""

    def __init__(self, lab: Lab, kept: Kept) -> None:
        self.lab = lab
        self.kept = kept
        self._numbers = iter(range(1000))

    def make(self, kind: str, spec: Json) -> str:
        """Apply one more of a kind; its name."""
        name = f"{kind.lower()}-{next(self._numbers)}"
        body = {
            "apiVersion": "tenantry.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": WORKSPACE},
            "spec": spec,
        }
        apply(self.lab.management.access, body)
        return name

    def restore(self, backup: str) -> str:
        """Begin one."""
        spec = {"backupRef": {"name": backup}, "tenantRef": {"name": "acme"}, "safetyBackup": False}
        return self.make("TenantRestore", spec)

    def status(self, kind: str, name: str) -> Json:
        """What an object says."""
        status: Json = self.lab.management.access.get(kind, name, "-n", WORKSPACE).get("status", {})
        return status

    def ended(self, kind: str, name: str, seconds: float = 180.0) -> Json:
        """Its status, once it has ended."""
        wait_until(
            lambda: self.status(kind, name).get("phase") in ENDS,
            seconds,
            lambda: f"{name} ends: {json.dumps(self.status(kind, name))}\n{self.lab.operator.log_text[-3000:]}",
        )
        return self.status(kind, name)

    def loading(self) -> psutil.Process:
        """The pg_restore of the operator that fills a database, stopped in its tracks."""
        found: list[psutil.Process] = []

        def there() -> bool:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.lab.operator.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        line = child.cmdline()
                        if line and Path(line[0]).name == "pg_restore" and any("--dbname" in word for word in line):
                            child.suspend()  # else it may have ended before it is killed
                            found.append(child)
                            return True
            return False

        wait_until(there, 120, lambda: f"pg_restore runs\n{self.lab.operator.log_text[-3000:]}")
        return found[0]

    def databases(self) -> set[str]:
        """The tenant's, on the server."""
        with psycopg.connect(self.lab.postgres.access.superuser_dsn()) as session:
            return {
                row[0]
                for row in session.execute(
                    "SELECT datname::text FROM pg_database WHERE datname ~ '^tenantry_'"
                ).fetchall()
            }

    def fingerprint(self, database: str) -> list[tuple[Any, ...]]:
        """Of all rows with their places: one that was written again has another one."""
        with psycopg.connect(self.lab.postgres.access.superuser_dsn(database)) as session:
            return session.execute(
                "SELECT count(*), sum(hashtext(ctid::text || xmin::text || x::text)::bigint) FROM big"
            ).fetchall()

    def live(self) -> str:
        """The database that the tenant's record says is its own."""
        (record,) = self.lab.management.access.get("tnrec")["items"]
        return str(record["spec"]["database"]["name"])

    def only(self, database: str) -> None:
        """Wait until nothing but this one is left."""
        wait_until(lambda: self.databases() == {database}, 120, lambda: f"{self.databases()} is {database}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management"))
        target = stack.enter_context(ControlPlane("target"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        store = stack.enter_context(StoreServer(MINISTACK))
        lab = make_lab(management, target, postgres, tmp_path_factory.mktemp("lab"))
        kept, bodies = keep_in(store.access, "lab", encrypted=True, readable=True)
        apply(management.access, workspace_body(WORKSPACE), *bodies)
        stack.callback(lab.operator.stop)
        lab.operator.start()
        apply(management.access, tenant_body("acme", WORKSPACE, database={"mode": "Shared"}))
        wait_until(all_ready(lab, 1), 120, lambda: conditions_text(lab))
        yield Scene(lab, kept)


@pytest.fixture(scope="module")
def backup(scene: Scene) -> str:
    """One with fewer rows than there are now."""
    database = scene.live()
    with psycopg.connect(scene.lab.postgres.access.superuser_dsn(database), autocommit=True) as session:
        session.execute(f'SET ROLE "{database}_owner"'.encode())
        session.execute("CREATE TABLE big AS SELECT i x, repeat('y', 80) y FROM generate_series(1, 300000) i")
    name = scene.make("TenantBackup", {"source": {"tenant": {"name": "acme"}}, "store": scene.kept.name})
    assert scene.ended("tnb", name)["phase"] == "Completed"
    with psycopg.connect(scene.lab.postgres.access.superuser_dsn(database), autocommit=True) as session:
        session.execute(f'SET ROLE "{database}_owner"'.encode())
        session.execute("INSERT INTO big VALUES (0, 'later')")
    return name


def test_a_pg_restore_that_is_killed_is_a_failed_restore_that_leaves_nothing(scene: Scene, backup: str) -> None:
    live = scene.live()
    before = scene.fingerprint(live)
    name = scene.restore(backup)
    scene.loading().kill()
    status = scene.ended("tnr", name)
    assert status["phase"] == "Failed"
    assert "pg_restore failed: exit code -9" in status["conditions"][0]["message"]
    scene.only(live)
    assert scene.fingerprint(live) == before
    assert scene.live() == live


def test_an_operator_that_is_killed_at_any_moment_of_a_restore_ends_it_and_touches_nothing_before(
    scene: Scene, backup: str
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    moments = random.Random(seed)  # noqa: S311 - moments, no secrets
    for _ in range(4):
        live = scene.live()
        before = scene.fingerprint(live)
        name = scene.restore(backup)
        for _ in range(2):
            time.sleep(moments.uniform(0.0, 4.0))  # the random moment itself
            scene.lab.operator.kill()
            if scene.live() == live:
                assert scene.fingerprint(live) == before
            scene.lab.operator.start()
        status = scene.ended("tnr", name)
        assert status["phase"] == "Completed", status
        now = scene.live()
        assert scene.fingerprint(now)[0][0] == ROWS == status["rows"]
        wait_until(all_ready(scene.lab, 1), 120, lambda: conditions_text(scene.lab))
        scene.only(now)  # this plan has no window: what was left goes at once
    assert asyncio.run(scene.kept.keys())
