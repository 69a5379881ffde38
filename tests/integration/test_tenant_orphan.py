"""A cluster that is not there when a tenant is deleted: the deletion waits, can be let go of, is made good later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import FreshControlPlane, FreshPostgres
from tests.scene.installation import apply
from tests.scene.lab import Lab, all_ready, conditions_text, make_lab, tenant_body, wait_until, workspace_body

from tenantry.api.names import ANNOTATION_FORCE_ORPHAN, ANNOTATION_START_FRESH

SECONDS = 120.0

Json = dict[str, Any]


@pytest.fixture
def lab(fresh_control_plane: FreshControlPlane, fresh_postgres: FreshPostgres, tmp_path: Path) -> Iterator[Lab]:
    """A running operator, and Tenant `acme` with a database in workspace `shop`, Ready."""
    lab = make_lab(fresh_control_plane("management"), fresh_control_plane("target"), fresh_postgres(), tmp_path)
    apply(lab.management.access, workspace_body("shop"), acme())
    lab.operator.start()
    try:
        wait_until(all_ready(lab, 1), SECONDS, lambda: conditions_text(lab))
        yield lab
    finally:
        lab.operator.stop()


def acme(**annotations: str) -> Json:
    body = tenant_body("acme", "shop", database={"mode": "Shared"})
    body["metadata"]["annotations"] = annotations
    return body


def records(lab: Lab) -> list[Json]:
    return [record["spec"] for record in lab.management.access.get("tenantrecords")["items"]]


def tenants(lab: Lab) -> list[Json]:
    found: list[Json] = lab.management.access.get("tenants", "-n", "shop")["items"]
    return found


def ready(lab: Lab) -> Json:
    conditions = [c for tenant in tenants(lab) for c in tenant.get("status", {}).get("conditions", [])]
    return next((c for c in conditions if c["type"] == "Ready"), {})


def delete_without_the_target(lab: Lab) -> str:
    """The Tenant's UID, once its deletion waits for the cluster."""
    lab.target.stop_apiserver()
    uid = str(tenants(lab)[0]["metadata"]["uid"])
    lab.management.access.kubectl("-n", "shop", "delete", "tenant", "acme", "--wait=false")
    # It may have been told before the deletion that the cluster is away.
    wait_until(lambda: records(lab)[0]["state"] == "Purging", SECONDS, lambda: conditions_text(lab))
    wait_until(
        lambda: (ready(lab).get("status"), ready(lab).get("reason")) == ("Unknown", "ClusterUnreachable"),
        SECONDS,
        lambda: conditions_text(lab),
    )
    return uid


def left(lab: Lab) -> tuple[list[str], list[str]]:
    """The tenant namespaces on the target and the tenant databases on the server."""
    namespaces = lab.target.access.get("namespaces", "-l", "tenantry.io/tenant-hash")["items"]
    with psycopg.connect(lab.postgres.access.superuser_dsn()) as connection:
        rows = connection.execute(r"SELECT datname FROM pg_database WHERE datname LIKE 'tenantry\_%'").fetchall()
    return [body["metadata"]["name"] for body in namespaces], [str(row[0]) for row in rows]


@pytest.mark.timeout(600)
def test_a_deletion_waits_for_its_cluster_and_ends_when_that_is_back(lab: Lab) -> None:
    delete_without_the_target(lab)
    lab.target.start_apiserver()
    wait_until(lambda: not tenants(lab), SECONDS, lambda: conditions_text(lab))
    wait_until(lambda: not records(lab) and left(lab) == ([], []), SECONDS, lambda: f"{records(lab)} {left(lab)}")


@pytest.mark.timeout(600)
def test_what_was_let_go_of_is_told_kept_apart_and_dealt_with_when_the_cluster_is_back(lab: Lab) -> None:
    access = lab.management.access
    namespace = records(lab)[0]["cluster"]["namespace"]
    uid = delete_without_the_target(lab)
    access.kubectl("-n", "shop", "annotate", "tenant", "acme", f"{ANNOTATION_FORCE_ORPHAN}=not-its-uid")
    access.kubectl("-n", "shop", "annotate", "tenant", "acme", "--overwrite", f"{ANNOTATION_FORCE_ORPHAN}={uid}")
    wait_until(lambda: not tenants(lab), SECONDS, lambda: conditions_text(lab))
    (record,) = records(lab)
    assert record["state"] == "Orphaned"
    assert f"left behind: namespace {namespace} on Cluster eu-1" in record["message"]
    assert record["database"]["name"] in record["message"]
    apply(access, acme())
    wait_until(lambda: ready(lab).get("reason") == "PredecessorExists", SECONDS, lambda: conditions_text(lab))
    name = access.get("tenantrecords")["items"][0]["metadata"]["name"]
    assert f"{ANNOTATION_START_FRESH}={name}" in ready(lab)["message"]
    access.kubectl("-n", "shop", "annotate", "tenant", "acme", f"{ANNOTATION_START_FRESH}={name}")
    lab.target.start_apiserver()
    # The next incarnation, or the first again where the former was gone before this one had a place.
    wait_until(
        lambda: [r["state"] for r in records(lab)] == ["Active"] and all_ready(lab, 1)(),
        SECONDS,
        lambda: f"{records(lab)} {conditions_text(lab)}",
    )
    (now,) = records(lab)
    assert left(lab) == ([now["cluster"]["namespace"]], [now["database"]["name"]])
    assert (now["cluster"]["namespace"] != namespace) == (now["incarnation"] == 2)
