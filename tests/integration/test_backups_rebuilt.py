"""All is lost but the bucket: from git, the signing key and the management id, tenants get their rows back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.object_stores import MINISTACK, StoreServer
from tests.integration.acting import manifest
from tests.integration.backing import Kept, keep_in
from tests.integration.conftest import FreshControlPlane, FreshPostgres
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

from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE, ANNOTATION_SYNC_FROM_STORE
from tenantry.api.resources import TENANT_BACKUPS, TENANT_RESTORES

Json = dict[str, Any]
MANAGEMENT_ID = "the-company"
PATIENCE = 150.0
WORKSPACE = "shop"
ROWS = "CREATE TABLE orders AS SELECT i id, md5(i::text) word FROM generate_series(1, 5000) i"
CHECKSUM = "SELECT count(*), md5(string_agg(id || word, ',' ORDER BY id)) FROM orders"


def from_git(bodies: list[Json], kept: Kept) -> list[Json]:
    """What the platform team and the workspace's admin keep in git; the Secrets among it they keep elsewhere."""
    return [
        workspace_body(WORKSPACE),
        *bodies,
        cluster_body("eu-1", backupStore=kept.name),
        plan_body("kept", deletion={"maxWindow": "24h"}),
        tenant_body("acme", WORKSPACE, plan="kept", database={"mode": "Shared"}),
    ]


class Site:
    """One installation and what is asked of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def get(self, kind: str, name: str) -> Json:
        """An object of the workspace, or of the platform."""
        found = self.lab.management.access.get(kind, "-n", WORKSPACE)["items"]
        return next((body for body in found if body["metadata"]["name"] == name), {})

    def ends(self, kind: str, name: str, phase: str) -> Json:
        """Wait until it has ended like that."""

        def has_ended() -> bool:
            return self.get(kind, name).get("status", {}).get("phase") in ("Completed", "Failed")

        wait_until(has_ended, PATIENCE, lambda: f"{self.get(kind, name)}\n{self.lab.operator.log_text[-3000:]}")
        body = self.get(kind, name)
        assert body["status"]["phase"] == phase, body["status"]
        return body

    def sync(self, store: str, value: str) -> Json:
        """What came of looking through the store."""
        access = self.lab.management.access
        access.kubectl("annotate", "--overwrite", "bks", store, f"{ANNOTATION_SYNC_FROM_STORE}={value}")

        def told() -> Json:
            found: Json = self.get("bks", store).get("status", {}).get("sync") or {}
            return found if found.get("request") == value and found.get("completedAt") else {}

        wait_until(lambda: bool(told()), PATIENCE, lambda: f"{self.get('bks', store)}\n{self.lab.operator.log_text}")
        return told()

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """In the one tenant's database, as its record says where that is, and as the owner of what is in it."""
        records = self.lab.management.access.get("tnrec")["items"]
        database = next(body["spec"]["database"]["name"] for body in records if body["spec"]["state"] == "Active")
        with psycopg.connect(self.lab.postgres.access.superuser_dsn(database), autocommit=True) as session:
            session.execute(f'SET ROLE "{database}_owner"'.encode())
            found = session.execute(statement.encode())
            return found.fetchall() if found.description else []


@pytest.fixture
def site_on(
    fresh_control_plane: FreshControlPlane, fresh_postgres: FreshPostgres, tmp_path: Path
) -> Iterator[Callable[[str], Site]]:
    """Makes installations, each on servers of its own, all with one management id."""
    with ExitStack() as stack:

        def make(name: str) -> Site:
            (tmp_path / name).mkdir()
            management, target = fresh_control_plane(f"{name}-management"), fresh_control_plane(f"{name}-target")
            lab = make_lab(management, target, fresh_postgres(), tmp_path / name, "--management-id", MANAGEMENT_ID)
            stack.callback(lab.operator.stop)
            return Site(lab)

        yield make


@pytest.mark.timeout(900)
def test_from_the_bucket_alone_a_lost_tenant_has_its_rows_again_and_a_namesake_never(
    site_on: Callable[[str], Site],
) -> None:
    with StoreServer(MINISTACK) as server:
        kept, bodies = keep_in(server.access, "prod", encrypted=True, readable=True)
        former = site_on("former")
        apply(former.lab.management.access, *from_git(bodies, kept))
        former.lab.operator.start()
        wait_until(all_ready(former.lab, 1), PATIENCE, lambda: conditions_text(former.lab))
        former.execute(ROWS)
        rows = former.execute(CHECKSUM)
        wanted = {"source": {"tenant": {"name": "acme"}}, "store": kept.name}
        apply(former.lab.management.access, manifest(TENANT_BACKUPS, "nightly", WORKSPACE, spec=wanted))
        run = former.ends("tnb", "nightly", "Completed")["status"]["run"]
        uid = former.get("ns", WORKSPACE)["metadata"]["uid"]
        lose(former.lab)

        rebuilt = site_on("rebuilt")
        management = rebuilt.lab.management.access
        *platform, acme = from_git(bodies, kept)
        apply(management, *platform, tenant_body("mine", WORKSPACE, plan="kept", database={"mode": "Shared"}))
        rebuilt.lab.operator.start()
        wait_until(all_ready(rebuilt.lab, 1), PATIENCE, lambda: conditions_text(rebuilt.lab))
        assert_a_namesake_gets_nothing(rebuilt, kept, run, uid)
        management.kubectl("-n", WORKSPACE, "delete", "tn", "mine", "--timeout=120s")

        management.kubectl("annotate", "ns", WORKSPACE, f"{ANNOTATION_ADOPT_WORKSPACE}={uid}")
        apply(management, acme)
        wait_until(all_ready(rebuilt.lab, 1), PATIENCE, lambda: conditions_text(rebuilt.lab))
        told = rebuilt.sync(kept.name, "adopted")
        assert (told["found"], told["made"], told["unmapped"], told["quarantined"]) == (1, 1, 0, 0), told
        name = f"acme-{run}"
        assert rebuilt.ends("tnb", name, "Completed")["status"]["rows"] == 5000
        back = {"backupRef": {"name": name}, "tenantRef": {"name": "acme"}, "safetyBackup": False}
        apply(management, manifest(TENANT_RESTORES, "back", WORKSPACE, spec=back))
        rebuilt.ends("tnr", "back", "Completed")
        wait_until(all_ready(rebuilt.lab, 1), PATIENCE, lambda: conditions_text(rebuilt.lab))
        assert rebuilt.execute(CHECKSUM) == rows


def lose(lab: Lab) -> None:
    """Management cluster, target and database server, with all that was on them."""
    lab.operator.kill()
    lab.management.stop()
    lab.target.stop()
    lab.postgres.stop()


def assert_a_namesake_gets_nothing(site: Site, kept: Kept, run: str, uid: str) -> None:
    before = asyncio.run(kept.keys())
    told = site.sync(kept.name, "namesake")
    assert (told["found"], told["made"], told["unmapped"]) == (1, 0, 1), told
    unmapped = told["unmappedWorkspaces"][0]
    assert (unmapped["uid"], unmapped["name"], unmapped["backups"]) == (uid, WORKSPACE, 1)
    assert "is another one, which only has the name" in unmapped["reason"]
    assert f"{ANNOTATION_ADOPT_WORKSPACE}={uid}" in unmapped["reason"]
    spec = {"source": {"tenant": {"name": "acme"}, "stored": {"run": run}}, "store": kept.name}
    apply(site.lab.management.access, manifest(TENANT_BACKUPS, "stolen", WORKSPACE, spec=spec))
    stolen = site.ends("tnb", "stolen", "Failed")
    assert [c["reason"] for c in stolen["status"]["conditions"] if c["type"] == "Ready"] == ["NotInStore"]
    back = {"backupRef": {"name": "stolen"}, "tenantRef": {"name": "mine"}, "safetyBackup": False}
    apply(site.lab.management.access, manifest(TENANT_RESTORES, "stolen", WORKSPACE, spec=back))
    site.ends("tnr", "stolen", "Failed")
    assert site.execute("SELECT to_regclass('orders')") == [(None,)], json.dumps(stolen["status"])
    site.lab.management.access.kubectl("-n", WORKSPACE, "delete", "tnb,tnr", "stolen", "--timeout=90s")
    assert asyncio.run(kept.keys()) == before
