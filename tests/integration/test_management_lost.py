"""A management cluster that is lost and built anew from git: it finds what it owned, and takes it back when told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.controlplane.access import ClusterAccess
from tests.controlplane.audit import end_of, read_entries
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.postgres import PostgresServer
from tests.integration.conftest import FreshControlPlane, FreshPostgres
from tests.scene.installation import apply
from tests.scene.lab import (
    Lab,
    all_ready,
    conditions_text,
    make_lab,
    plan_body,
    tenant_body,
    wait_until,
    workspace_body,
)

from tenantry.api.names import ANNOTATION_ADOPT_WORKSPACE

MANAGEMENT_ID = "the-company"
READY_SECONDS = 120.0

Json = dict[str, Any]
LabWith = Callable[[ControlPlane, ControlPlane, PostgresServer, Path], Lab]


def tenants() -> list[Json]:
    """As they are in git: one that runs, one that is deleted and in its window, one that runs on retained."""
    shared: Json = {"plan": "kept", "database": {"mode": "Shared"}}
    return [
        tenant_body("running", "shop", **shared),
        tenant_body("deleted", "shop", **shared),
        tenant_body("retained", "shop", **shared, deletion={"policy": "Retain"}),
    ]


def records(management: ClusterAccess) -> dict[str, Json]:
    return {record["spec"]["tenant"]: record["spec"] for record in management.get("tenantrecords")["items"]}


def ready_of(management: ClusterAccess, name: str) -> Json:
    conditions = management.get("tenants", name, "-n", "shop").get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == "Ready"), {})


def canaries(lab: Lab, databases: dict[str, str]) -> dict[str, str]:
    """What is in each tenant's database, as the server's superuser sees it."""
    found = {}
    for tenant, database in databases.items():
        with psycopg.connect(lab.postgres.access.superuser_dsn(database)) as connection:
            row = connection.execute("SELECT word FROM canary").fetchone()
            found[tenant] = row[0] if row else ""
    return found


def workspace_uid(management: ClusterAccess) -> str:
    return str(management.get("namespaces", "shop")["metadata"]["uid"])


@pytest.fixture
def lab_with() -> Iterator[LabWith]:
    """Makes labs of the same management id, whose operators end with the test."""
    with ExitStack() as stack:

        def make(management: ControlPlane, target: ControlPlane, postgres: PostgresServer, folder: Path) -> Lab:
            folder.mkdir()
            lab = make_lab(management, target, postgres, folder, "--management-id", MANAGEMENT_ID)
            stack.callback(lab.operator.stop)
            return lab

        yield make


@pytest.fixture
def target(fresh_control_plane: FreshControlPlane) -> ControlPlane:
    return fresh_control_plane("target", audit=True)


@pytest.mark.timeout(600)
def test_a_rebuilt_management_cluster_takes_back_all_it_owned_without_touching_it(
    fresh_control_plane: FreshControlPlane,
    fresh_postgres: FreshPostgres,
    target: ControlPlane,
    lab_with: LabWith,
    tmp_path: Path,
) -> None:
    postgres = fresh_postgres()
    former = lab_with(fresh_control_plane("former"), target, postgres, tmp_path / "former")
    kept = plan_body("kept", deletion={"maxWindow": "24h"})
    apply(former.management.access, workspace_body("shop"), kept, *tenants())
    former.operator.start()
    wait_until(all_ready(former, 3), READY_SECONDS, lambda: conditions_text(former))
    databases = {name: spec["database"]["name"] for name, spec in records(former.management.access).items()}
    for name, database in databases.items():
        with psycopg.connect(postgres.access.superuser_dsn(database), autocommit=True) as connection:
            connection.execute("CREATE TABLE canary AS SELECT %s AS word", (name,))
    former.management.access.kubectl("-n", "shop", "delete", "tenant", "deleted", "retained", "--timeout=120s")
    before = records(former.management.access)
    assert {name: spec["state"] for name, spec in before.items()} == {
        "running": "Active",
        "deleted": "Deleted",
        "retained": "Retained",
    }
    lost_uid = workspace_uid(former.management.access)
    former.operator.kill()
    former.management.stop()

    lab = lab_with(fresh_control_plane("rebuilt"), target, postgres, tmp_path / "rebuilt")
    management = lab.management.access
    apply(management, workspace_body("shop"), kept, tenants()[0])
    log = target.access.audit_log
    assert log is not None
    mark = end_of(log)
    lab.operator.start()
    wait_until(
        lambda: ready_of(management, "running").get("reason") == "PredecessorExists",
        READY_SECONDS,
        lambda: conditions_text(lab),
    )
    expected = {
        "running": "Active",
        "deleted": "Deleted",
        "retained": "Active",  # nothing on the target says that it was let go: it runs on, and is listed
    }

    def states() -> dict[str, str]:
        return {name: spec["state"] for name, spec in records(management).items()}

    wait_until(lambda: states() == expected, READY_SECONDS, lambda: f"all are found: {states()}")
    found = records(management)
    assert found["deleted"]["purgeAfter"] == before["deleted"]["purgeAfter"]
    assert {name: spec["database"]["name"] for name, spec in found.items()} == databases

    management.kubectl("annotate", "namespace", "shop", f"{ANNOTATION_ADOPT_WORKSPACE}={lost_uid}")
    wait_until(all_ready(lab, 1), READY_SECONDS, lambda: conditions_text(lab))
    time.sleep(1)  # the audit log is written a moment after the answer
    entries = read_entries(log, after=mark)
    ours = [entry for entry in entries if "tenantry-operator" in entry.user]
    assert ours
    writes = [entry for entry in ours if entry.is_write and entry.resource != "selfsubjectaccessreviews"]
    assert writes == []
    assert canaries(lab, databases) == {name: name for name in databases}

    apply(management, tenants()[1])
    wait_until(all_ready(lab, 2), READY_SECONDS, lambda: conditions_text(lab))
    assert records(management)["deleted"]["state"] == "Active"
    assert canaries(lab, databases) == {name: name for name in databases}
