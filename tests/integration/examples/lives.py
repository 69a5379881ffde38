"""What examples promise of lives of tenants: deleted, retained, switched off, suspended, rotated, moved."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
import pytest
from tests.controlplane.access import KubectlError
from tests.integration.backing import keep_in, put_all, signed
from tests.integration.examples.example import Example
from tests.integration.tenants import wait_for
from tests.scene.stage import DOMAIN

from tenantry.api.names import ANNOTATION_RESTARTED_AT, ANNOTATION_ROTATE_CREDENTIALS
from tenantry.api.resources import (
    CRON_JOBS,
    DEPLOYMENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
)

Json = dict[str, Any]

EPHEMERAL_SECONDS: Final = 60.0
LATENESS: Final = 60.0


def deleted_tenants_are_locked_for_their_windows_and_come_back_with_everything(example: Example) -> None:
    workbench, windows = example.workbench, {"keepsake": 72, "ordinary": 48}
    example.apply("tenants.yaml")
    for name in windows:
        workbench.ready(name)
        example.write_row(workbench.whereabouts(name))
    for name, hours in windows.items():
        where = workbench.whereabouts(name)
        example.delete(name)
        record = workbench.record(where)["spec"]
        assert (record["state"], record["deletion"]["window"]) == ("Deleted", f"{hours}h")
        kept = datetime.fromisoformat(record["purgeAfter"]) - datetime.fromisoformat(record["deletedAt"])
        assert kept == timedelta(hours=hours)
        assert example.locked_out(where)
    example.apply("tenants.yaml")
    for name in windows:
        workbench.ready(name)
        assert example.has_row(workbench.whereabouts(name))
    example.change("keepsake", {"deletion": {"window": "24h"}})
    workbench.told("False", "PlanExceeded", None, name="keepsake")


def a_retained_tenant_runs_on_until_it_is_deleted_with_another_policy(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("heirloom")
    example.apply("tenant.yaml")
    workbench.ready("heirloom")
    example.write_row(where)
    before = workbench.inventory(where)
    example.delete("heirloom")
    assert example.state(where) == "Retained"
    assert "purgeAfter" not in workbench.record(where)["spec"]
    assert workbench.inventory(where) == before
    assert example.has_row(where)
    example.apply("tenant.yaml")
    workbench.ready("heirloom")
    assert (example.state(where), example.has_row(where)) == ("Active", True)
    example.change("heirloom", {"deletion": {"policy": "Delete"}})
    workbench.ready("heirloom")
    example.delete("heirloom")
    assert example.state(where) == "Deleted"


def a_tenant_that_is_off_serves_and_runs_nothing_and_comes_back_as_it_was(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("resting")
    example.apply("1-tenant.yaml")
    workbench.ready("resting")
    example.write_row(where)
    example.deploy("target/app.yaml", where)
    before, secret = workbench.inventory(where), workbench.secret(where, "tenant-database")
    example.apply("2-off.yaml")
    workbench.told("True", "Disabled", None, name="resting")
    assert example.replicas(where, "app") == 0
    assert not [name for name in workbench.inventory(where) if name.startswith("Ingress/")]
    closed = workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert workbench.on_target(RESOURCE_QUOTAS, where.namespace, "tenant-off")["spec"] == {"hard": {"pods": "0"}}
    assert example.locked_out(where)
    assert f"Claim/resting-{workbench.workspace}.{DOMAIN}" in workbench.inventory(where)
    example.apply("1-tenant.yaml")
    workbench.ready("resting")
    assert example.replicas(where, "app") == 2
    assert workbench.inventory(where) == before
    assert workbench.secret(where, "tenant-database") == secret
    assert example.has_row(where)


def tasks_rest_while_the_application_serves(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("quiet")
    example.apply("1-tenant.yaml")
    workbench.ready("quiet")
    example.deploy("target/app.yaml", where)

    def work() -> tuple[int, int, bool]:
        report = workbench.on_target(CRON_JOBS, where.namespace, "report")["spec"]["suspend"]
        return example.replicas(where, "app"), example.replicas(where, "worker"), report

    example.apply("2-tasks-off.yaml")
    workbench.ready("quiet")
    assert work() == (2, 0, True)
    assert "Ingress/tenant" in workbench.inventory(where)
    assert not example.locked_out(where)
    example.apply("1-tenant.yaml")
    workbench.ready("quiet")
    wait_for(lambda: work() == (2, 3, False), "the tasks go on")


def a_suspended_tenant_is_left_as_it_is_and_caught_up_with_afterwards(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("frozen")
    example.apply("1-tenant.yaml")
    workbench.ready("frozen")

    def level() -> str:
        return workbench.secret(where, "tenant-env")["LOG_LEVEL"]

    assert level() == "info"
    example.apply("2-suspended.yaml")
    workbench.told("True", "Suspended", None, name="frozen")
    workbench.stage.target.kubectl("-n", where.namespace, "delete", "networkpolicy", "tenant-isolation")
    workbench.look_now("frozen")
    workbench.apply(workbench.tenant("busy"))
    workbench.ready("busy")  # the operator had time, and saw the deletion before this
    assert level() == "info"
    assert workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation") == {}
    example.change("frozen", {"suspend": False})
    workbench.ready("frozen")
    assert level() == "debug"
    assert workbench.on_target(NETWORK_POLICIES, where.namespace, "tenant-isolation")


def a_throw_away_tenant_ends_by_itself_and_leaves_nothing(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("preview-42")
    example.apply("tenant.yaml")
    workbench.ready("preview-42")
    with pytest.raises(KubectlError, match="ephemeral can't be changed after creation"):
        example.change("preview-42", {"ephemeral": None})
    workbench.gone("preview-42", seconds=EPHEMERAL_SECONDS + LATENESS)
    wait_for(lambda: not workbench.record(where), "the record is gone")
    assert workbench.on_target(NAMESPACES, "", where.namespace) == {}
    assert workbench.database_traces(where) == set()


def new_credentials_come_without_an_outage(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("rotating")
    example.apply("tenant.yaml")
    workbench.ready("rotating")
    example.write_row(where)
    example.deploy("target/app.yaml", where)
    former = workbench.secret(where, "tenant-database")
    asked = f"{ANNOTATION_ROTATE_CREDENTIALS}=2026-01-01T00:00:00Z"
    workbench.kubectl("annotate", "--overwrite", "tenant", "rotating", asked)
    wait_for(lambda: workbench.secret(where, "tenant-database")["username"] != former["username"], "the other login")
    assert example.has_row(where)
    with psycopg.connect(former["uri"], connect_timeout=30) as session:
        assert session.execute("SELECT word FROM kept").fetchall() == [("alive",)]

    def restarted(name: str) -> bool:
        template = workbench.on_target(DEPLOYMENTS, where.namespace, name)["spec"]["template"]
        return ANNOTATION_RESTARTED_AT in template["metadata"].get("annotations", {})

    wait_for(lambda: restarted("app"), "what reads the login at its start has new pods")
    assert not restarted("reader")
    wait_for(lambda: workbench.events("rotating", "Rotated"), "it is told")
    workbench.ready("rotating")


def a_tenant_moves_to_another_server_with_its_data(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("mover")
    example.apply("1-tenant.yaml")
    workbench.ready("mover")
    with psycopg.connect(workbench.stage.postgres_15.superuser_dsn(where.database), autocommit=True) as session:
        session.execute(f"SET ROLE {where.database}_owner".encode())
        session.execute("CREATE TABLE kept AS SELECT 'alive' AS word")
    example.apply("2-moved.yaml")
    wait_for(lambda: (workbench.get("mover")["status"].get("move") or {}).get("phase") == "Completed", "moved", 60)
    workbench.ready("mover")
    assert example.has_row(where)
    (left,) = workbench.record(where)["spec"]["former"]
    assert left["database"]["server"] == "pg15"


def a_backup_that_is_only_in_the_store_is_found_again(example: Example) -> None:
    workbench, run = example.workbench, "20251224t030512z-0f3a9c1e"
    with TemporaryDirectory() as folder:
        kept, bodies = keep_in(Path(folder) / "kept", workbench.prefix)
        workbench.apply(*bodies[:-1])
        bodies[-1]["metadata"]["name"] = f"{workbench.prefix}-s3-fra"
        workbench.register(bodies[-1])
        example.apply("1-tenant.yaml")
        told = workbench.ready("phoenix")["status"]["backup"]["requested"]
        assert told["request"] == "2026-11-22T16:00:00Z"
        assert "names no backupStore" in told["message"]
        asyncio.run(put_all(kept, signed(kept, workbench.whereabouts("phoenix").identity, run)))
        example.apply("2-found-again.yaml")
        workbench.kubectl("wait", "--for=jsonpath={.status.phase}=Completed", "--timeout=90s", "tnb/before-the-fire")
        workbench.kubectl("delete", "tnb", "--all", "--timeout=60s")


def a_tenant_gets_back_what_it_had_before(example: Example) -> None:
    workbench, where = example.workbench, example.workbench.whereabouts("keeper")
    with TemporaryDirectory() as folder:
        _, bodies = keep_in(Path(folder) / "kept", workbench.prefix)
        workbench.apply(*bodies[:-1])
        bodies[-1]["metadata"]["name"] = f"{workbench.prefix}-s3-fra"
        workbench.register(bodies[-1])
        # The tenant first: a backup of one that is not there yet would wait for half a minute.
        workbench.apply(workbench.tenant("keeper", database={"mode": "Shared"}))
        workbench.ready("keeper")
        example.write_row(where)
        example.apply("1-tenant.yaml")
        workbench.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "tnb/before-the-upgrade")
        with example.connect(where) as session:
            session.execute("DROP TABLE kept")
        example.apply("2-restore.yaml")
        workbench.kubectl("wait", "--for=condition=Ready", "--timeout=90s", "tnr/back-before-the-upgrade")
        workbench.ready("keeper")
        assert example.has_row(where)
        example.apply("3-proven.yaml")
        tried = "--for=jsonpath={.status.verification.method}=Restore"
        workbench.kubectl("wait", tried, "--timeout=90s", "tnb/proven")
        workbench.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "tnb/proven")
        workbench.kubectl("delete", "tnb", "--all", "--timeout=60s")
