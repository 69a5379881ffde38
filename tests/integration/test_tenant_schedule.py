"""Backups by the clock, and the last one of all: an operator with a schedule of every minute, killed in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.controlplane.postgres import PostgresServer
from tests.controlplane.postgres_binaries import wheel_binaries
from tests.integration.backing import Kept, keep_in
from tests.scene.installation import apply
from tests.scene.lab import (
    Lab,
    all_ready,
    cluster_body,
    conditions_text,
    make_lab,
    plan_body,
    tenant_body,
    wait_until,
    workspace_body,
)

Json = dict[str, Any]
WORKSPACE = "shop"
SLOT_SECONDS = 60.0
"""One slot each; the jitter is half of that at most."""

pytestmark = pytest.mark.timeout(1200)


class Scene:
    """A lab whose cluster names a store."""

    def __init__(self, lab: Lab, kept: Kept) -> None:
        self.lab = lab
        self.kept = kept

    def backups(self) -> list[Json]:
        """The scheduled TenantBackups, the oldest slot first."""
        items: list[Json] = self.lab.management.access.get("tnb", "-n", WORKSPACE, "-l", "tenantry.io/scheduled=true")[
            "items"
        ]
        return sorted(items, key=slot)

    def completed(self) -> list[Json]:
        """Those of them that are good."""
        return [body for body in self.backups() if body.get("status", {}).get("phase") == "Completed"]

    def runs(self) -> set[str]:
        """What is in the store, by path."""
        return {key.rpartition("/")[0] for key in asyncio.run(self.kept.keys()) if key.endswith("/manifest.json")}

    def tenant(self) -> Json:
        """The Tenant."""
        body: Json = self.lab.management.access.get("tn", "acme", "-n", WORKSPACE)
        return body

    def wait(self, check: Any, seconds: float, what: str) -> None:
        """Until something holds; with all that is known where it does not."""
        wait_until(
            check,
            seconds,
            lambda: f"{what}\n{json.dumps(self.backups())[-3000:]}\n{self.lab.operator.log_text[-3000:]}",
        )


def slot(body: Json) -> str:
    return str(body["metadata"]["annotations"]["tenantry.io/scheduled-for"])


def healthy(body: Json) -> tuple[str, str]:
    found = [c for c in body.get("status", {}).get("conditions", []) if c["type"] == "BackupHealthy"]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        management = stack.enter_context(ControlPlane("management"))
        target = stack.enter_context(ControlPlane("target"))
        postgres = stack.enter_context(PostgresServer(wheel_binaries()))
        store = stack.enter_context(StoreServer(MINISTACK))
        lab = make_lab(management, target, postgres, tmp_path_factory.mktemp("lab"))
        kept, bodies = keep_in(store.access, "lab")
        every_minute = {"schedule": "* * * * *", "retention": {"keepLast": 2}}
        apply(
            management.access,
            workspace_body(WORKSPACE),
            *bodies,
            cluster_body("eu-1", backupStore=kept.name),
            plan_body("basic", backup=every_minute),
        )
        stack.callback(lab.operator.stop)
        lab.operator.start()
        apply(management.access, tenant_body("acme", WORKSPACE, database={"mode": "Shared"}))
        wait_until(all_ready(lab, 1), 120, lambda: conditions_text(lab))
        yield Scene(lab, kept)


def test_slots_are_run_once_each_old_backups_go_and_the_last_one_is_made_before_the_end(scene: Scene) -> None:
    told = scene.tenant()["status"]["backup"]
    assert told["nextRun"] > scene.tenant()["metadata"]["creationTimestamp"]
    assert "lastSuccess" not in told
    manual = {
        "apiVersion": "tenantry.io/v1alpha1",
        "kind": "TenantBackup",
        "metadata": {"name": "by-hand", "namespace": WORKSPACE},
        "spec": {"source": {"tenant": {"name": "acme"}}, "store": scene.kept.name},
    }
    apply(scene.lab.management.access, manual)
    scene.wait(lambda: len(scene.completed()) >= 1, 4 * SLOT_SECONDS, "the first slot is run")
    scene.wait(lambda: healthy(scene.tenant()) == ("True", "BackupCompleted"), 120, "that is told")
    assert scene.tenant()["status"]["backup"]["lastSuccess"]
    scene.wait(lambda: len(scene.completed()) >= 2, 4 * SLOT_SECONDS, "the second slot is run")
    assert_missed_slots_are_made_up_for_by_one(scene)
    scene.wait(lambda: len(scene.runs()) == 3 and len(scene.completed()) == 2, 180, "two are kept, and the one by hand")
    assert_the_last_one_is_made_before_the_end(scene)


def assert_missed_slots_are_made_up_for_by_one(scene: Scene) -> None:
    before = {slot(body) for body in scene.backups()}
    scene.lab.operator.kill()
    time.sleep(2.5 * SLOT_SECONDS)  # slots pass while nobody looks: that is what is tried
    scene.lab.operator.start()
    started = time.monotonic()
    new: set[str] = set()

    def made_up_for() -> bool:
        new.update({slot(body) for body in scene.backups()} - before)  # at one look: the next slot comes soon, too
        return bool(new)

    scene.wait(made_up_for, 60, "the missed slot is made up for")
    assert time.monotonic() - started < 60
    assert len(new) == 1, new
    newest = max(new)
    scene.wait(lambda: any(slot(body) == newest for body in scene.completed()), 120, "it is good")


def assert_the_last_one_is_made_before_the_end(scene: Scene) -> None:
    with psycopg.connect(scene.lab.postgres.access.superuser_dsn()) as session:
        rows = session.execute("SELECT datname FROM pg_database WHERE datname ~ '^tenantry_'").fetchall()
    (database,) = (row[0] for row in rows)
    with psycopg.connect(scene.lab.postgres.access.superuser_dsn(database)) as session:
        session.execute(f'SET ROLE "{database}_owner"'.encode())
        session.execute("CREATE TABLE last_words AS SELECT 1 x")
    before = scene.runs()
    scene.lab.management.access.kubectl("delete", "tn", "acme", "-n", WORKSPACE, "--timeout=240s")
    new = scene.runs() - before
    last = [path for path in new if not asyncio.run(scene.kept.manifest(path)).slot]
    assert len(last) == 1, (new, before)
    assert asyncio.run(scene.kept.manifest(last[0])).rows["public.last_words"] == 1

    def left() -> list[Any]:
        with psycopg.connect(scene.lab.postgres.access.superuser_dsn()) as session:
            return session.execute(
                "SELECT datname FROM pg_database WHERE datname ~ '^tenantry_' UNION ALL "
                "SELECT rolname FROM pg_roles WHERE rolname ~ '^tenantry_.*_(dump|owner|0|1)$'"
            ).fetchall()

    scene.wait(lambda: left() == [], 120, "nothing is left, nor of a scheduled backup that was just being made")
